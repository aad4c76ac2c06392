//! The state at the start: opened where that can be done, handed over to the user that will write it, and done without
//! where neither is possible.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::{MetadataExt, lchown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tokio::sync::watch;
use tracing::{info, warn};

use super::{plan::Plan, privileges::User, sharing::Sharing};
use crate::{config::fixed::StateUrl, files::permission, offers::attempts::Attempts, state::State};

/// A state that was opened, or why boots go on without it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) state: Option<State>,
    /// Why nobody knows what machines have booted already. `None` too where there never was a state.
    pub(super) fault: Option<String>,
}

/// Opens it. Where the configuration names none, none is needed: a laptop has no folder for it.
pub(super) async fn open(at: &StateUrl) -> Opened {
    let (StateUrl::Set(url) | StateUrl::Default(url)) = at;
    if matches!(at, StateUrl::Default(_)) && !folder(at.path()).is_dir() {
        return Opened { state: None, fault: None };
    }
    match State::open_alone(url).await {
        Ok(state) => Opened { state: Some(state), fault: None },
        Err(error) => {
            // A file that was never there is no better: after a restart, nobody would know whom it was given to.
            warn!(
                "{error}; boots continue without it; one-time profiles are not served, since it is not known which machines booted them"
            );
            Opened { state: None, fault: Some(error.to_string()) }
        }
    }
}

/// The state that several appliances share, where one is configured.
pub(super) async fn share(
    plan: &Plan,
    copy: Option<State>,
    ours: &watch::Sender<Vec<Ipv4Addr>>,
    attempts: Arc<Mutex<Attempts>>,
) -> Option<Arc<Sharing>> {
    let server = plan.fixed.state_server.as_ref()?;
    if copy.is_none() {
        warn!(
            "there is no file for a copy of the state: after a restart while its server cannot be reached, no assignments \
             are known; name one with state.copy"
        );
    }
    match Sharing::start(server, copy, plan.live.clone(), ours.subscribe(), attempts).await {
        Ok(sharing) => Some(sharing),
        Err(error) => {
            warn!("{error}; boots continue without it; one-time profiles are not served");
            plan.live.state_fault.store(Some(Arc::new(error.to_string())));
            None
        }
    }
}

/// Gives the state's files, and a folder that is there for nothing else, to the user who will write them: it is root's
/// last chance to. What belongs to somebody else, or is used for other things too, is left alone, and said.
pub(super) fn hand_over(at: &StateUrl, user: &User) {
    let folder = folder(at.path());
    let Ok(about) = fs::metadata(&folder) else { return };
    if about.uid() != 0 && about.uid() != user.uid() {
        return;
    }
    let files = State::files(at.path());
    for file in
        files.iter().filter(|file| fs::symlink_metadata(file).is_ok_and(|about| about.is_file() && about.uid() == 0))
    {
        give(file, user);
    }
    if about.uid() == 0 && is_for_nothing_else(&folder, &files) {
        give(&folder, user);
    } else if let Some(words) = permission::cannot_write(&folder, user.name(), user.uid(), user.gid()) {
        warn!("{words}, or name a folder of its own with state.url, or stay root with --user root");
    }
}

fn give(path: &Path, user: &User) {
    match lchown(path, Some(user.uid()), Some(user.gid())) {
        Ok(()) => info!("{} now belongs to {user} and holds the state", path.display()),
        Err(error) => warn!("{} cannot be given to {user}: {error}", path.display()),
    }
}

fn is_for_nothing_else(folder: &Path, files: &[PathBuf]) -> bool {
    if folder == Path::new(STATE_FOLDER) {
        return true;
    }
    let names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
    let Ok(entries) = folder.read_dir() else { return false };
    folder.parent().is_some() && entries.flatten().all(|entry| names.contains(&entry.file_name().as_os_str()))
}

/// A file without a folder is in the working one.
fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Where the packages put it.
const STATE_FOLDER: &str = "/var/lib/netbootd";

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path) -> StateUrl {
        StateUrl::Set(format!("sqlite://{}", path.display()))
    }

    #[tokio::test]
    async fn a_state_that_cannot_be_opened_is_done_without() {
        let scratch = tempfile::tempdir().expect("a folder");
        let broken = scratch.path().join("broken.db");
        fs::write(&broken, vec![b'x'; 5000]).expect("written");
        let opened = open(&at(&broken)).await;
        assert!(opened.state.is_none() && opened.fault.is_some_and(|fault| fault.contains("is damaged")));
        let on_a_mount = open(&at(&scratch.path().join("later/state.db"))).await;
        assert!(on_a_mount.state.is_none() && on_a_mount.fault.is_some(), "{on_a_mount:?}");
        // Nobody can write there, and nothing ever was there.
        let shut = open(&at(Path::new("/proc/netbootd.db"))).await;
        assert!(shut.state.is_none() && shut.fault.is_some(), "{shut:?}");
        let good = open(&at(&scratch.path().join("state.db"))).await;
        assert!(good.state.is_some() && good.fault.is_none());
        let none = open(&StateUrl::Default("sqlite:///no/such/folder/state.db".into())).await;
        assert!(none.state.is_none() && none.fault.is_none());
    }

    #[test]
    fn only_what_is_there_for_the_state_is_handed_over() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: only root can give a file away");
        }
        let scratch = tempfile::tempdir().expect("a folder");
        let owner = |path: &Path| fs::metadata(path).expect("there").uid();
        let user = User::sample("nobody", 65_534, 65_534);
        for (name, other, expected) in [("own", None, 65_534), ("shared", Some("notes.txt"), 0)] {
            let folder = scratch.path().join(name);
            fs::create_dir(&folder).expect("made");
            let state = folder.join("state.db");
            fs::write(&state, "").expect("written");
            if let Some(other) = other {
                fs::write(folder.join(other), "").expect("written");
            }
            hand_over(&at(&state), &user);
            assert_eq!((owner(&folder), owner(&state)), (expected, 65_534), "{name}");
            if let Some(other) = other {
                assert_eq!(owner(&folder.join(other)), 0, "somebody else's file was given away");
            }
        }
    }
}
