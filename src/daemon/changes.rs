//! Changes of the files that a configuration was read from, once they are whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    future::pending,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use crate::config::watched::Watched;

/// What the operating system reports of the files.
pub(super) struct Changes {
    seen: mpsc::UnboundedReceiver<Seen>,
    watcher: Option<RecommendedWatcher>,
    /// What was read, which the watcher asks as well.
    watched: Arc<Mutex<Watched>>,
    /// The folders, and which folder each was when it was looked at last; none: it was not there.
    folders: BTreeMap<PathBuf, Option<Identity>>,
    /// The texts, and which version each was then.
    texts: BTreeMap<PathBuf, Option<Version>>,
    /// Texts that a program has written to and has not closed yet.
    unfinished: BTreeSet<PathBuf>,
    /// The first change that was not read yet.
    since: Option<Instant>,
    /// Whether the log names the unfinished texts.
    is_said: bool,
}

/// What happened to a file that counts.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A text was written to, and more may follow.
    Written(PathBuf),
    /// It was closed, put in its place, or removed.
    Finished(PathBuf),
    /// Something else about it changed, such as who may read it.
    Changed,
    /// Events were lost: anything may have changed.
    Lost,
}

impl Changes {
    /// Begins to watch. Files that cannot be watched are reported.
    pub(super) fn new() -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        let watched = Arc::new(Mutex::new(Watched::default()));
        let asked = watched.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let watched = asked.lock().unwrap_or_else(PoisonError::into_inner);
            meant(event, &watched).into_iter().for_each(|seen| drop(sender.send(seen)));
        });
        let watcher = watcher.inspect_err(|error| cannot_watch("files", error)).ok();
        let (folders, texts, unfinished) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { seen, watcher, watched, folders, texts, unfinished, since: None, is_said: false }
    }

    /// Watches these files from now on: their folders, since editors put a new file in the old one's place.
    pub(super) fn watch(&mut self, watched: Watched) {
        let folders = watched.folders();
        self.unfinished.retain(|path| watched.is_text(path));
        let mut versions = std::mem::take(&mut self.texts);
        let mut version = |path: &PathBuf| versions.remove(path).unwrap_or_else(|| version(path));
        self.texts = watched.texts().map(|path| (path.clone(), version(path))).collect();
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
        let Some(watcher) = &mut self.watcher else { return };
        for folder in self.folders.keys().filter(|folder| !folders.contains(folder)) {
            let _ = watcher.unwatch(folder);
        }
        let mut before = std::mem::take(&mut self.folders);
        for folder in folders {
            let identity = match before.remove(&folder) {
                Some(identity) => identity,
                None => {
                    if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
                        cannot_watch(&folder, &error);
                    }
                    identity(&folder)
                }
            };
            self.folders.insert(folder, identity);
        }
    }

    /// Watches the folders that have the names now: one that was moved away takes the watch along. Returns whether one is
    /// another folder than before, as after `mv new old`, or when a file system was mounted, or a text another version: a
    /// file that is mounted into a container is written to where no watch of the container sees it.
    fn watch_again(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut is_other = false;
        for (text, before) in &mut self.texts {
            let now = version(text);
            is_other |= now != *before;
            *before = now;
        }
        for (folder, before) in &mut self.folders {
            let now = identity(folder);
            if now.is_some() {
                let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
            }
            is_other |= now != *before;
            *before = now;
        }
        is_other
    }

    /// Waits for a change, and until no text is half written. It may be dropped at any time.
    pub(super) async fn whole(&mut self) {
        loop {
            match timeout(self.patience(), self.seen.recv()).await {
                Ok(Some(seen)) => self.note(seen),
                // Nothing is watched.
                Ok(None) => pending().await,
                Err(_) if self.since.is_none() => {
                    if self.watch_again() {
                        self.note(Seen::Changed);
                    }
                }
                Err(_) if self.unfinished.is_empty() => return self.forget(),
                Err(_) => self.say(),
            }
        }
    }

    /// Whether a text is written to since [`Self::whole`] returned.
    pub(super) fn has_begun(&mut self) -> bool {
        while let Ok(seen) = self.seen.try_recv() {
            self.note(seen);
        }
        !self.unfinished.is_empty()
    }

    /// All is read now, whatever state it is in.
    pub(super) fn forget(&mut self) {
        self.unfinished.clear();
        (self.since, self.is_said) = (None, false);
        // Before the files are read, so that no later change is missed.
        self.watch_again();
    }

    /// How long to wait for the next event.
    fn patience(&self) -> Duration {
        match self.since {
            None => LOOK_AGAIN,
            Some(_) if self.is_said => Duration::MAX,
            Some(_) if !self.unfinished.is_empty() => LONG,
            // An editor writes a file in several steps, and a checkout several files.
            Some(since) => SETTLE.min(LONGEST.saturating_sub(since.elapsed())),
        }
    }

    fn note(&mut self, seen: Seen) {
        self.since.get_or_insert_with(Instant::now);
        match seen {
            Seen::Written(path) => drop(self.unfinished.insert(path)),
            // A folder that goes takes its files with it.
            Seen::Finished(path) => self.unfinished.retain(|unfinished| !unfinished.starts_with(&path)),
            Seen::Changed => {}
            Seen::Lost => self.unfinished.clear(),
        }
        self.is_said &= !self.unfinished.is_empty();
    }

    fn say(&mut self) {
        self.is_said = true;
        for path in &self.unfinished {
            info!(
                "{} is not read yet: the program that writes it has not closed it. Close it, or send SIGHUP to read it now",
                path.display()
            );
        }
    }
}

/// Device and inode: the same name can be another folder later.
type Identity = (u64, u64);

fn identity(folder: &Path) -> Option<Identity> {
    let metadata = fs::metadata(folder).ok().filter(fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

/// Device, inode, size, and when it was changed.
type Version = (u64, u64, u64, (i64, i64));

fn version(text: &Path) -> Option<Version> {
    let metadata = fs::metadata(text).ok().filter(fs::Metadata::is_file)?;
    Some((metadata.dev(), metadata.ino(), metadata.size(), (metadata.ctime(), metadata.ctime_nsec())))
}

/// What an event says of the files that count.
fn meant(event: notify::Event, watched: &Watched) -> Vec<Seen> {
    if event.need_rescan() {
        return vec![Seen::Lost];
    }
    let paths = event.paths.into_iter().filter(|path| watched.means(path));
    match event.kind {
        // Images and loaders take minutes to copy. They are looked at when they appear, and when they are closed.
        EventKind::Modify(ModifyKind::Data(_)) => {
            paths.filter(|path| watched.is_text(path)).map(Seen::Written).collect()
        }
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(_)) => paths.map(Seen::Finished).collect(),
        EventKind::Modify(_) => paths.map(|_| Seen::Changed).collect(),
        // Our own reading is an event too.
        _ => Vec::new(),
    }
}

fn cannot_watch(what: impl AsRef<Path>, error: &notify::Error) {
    warn!("{} cannot be watched ({error}): after a change, send SIGHUP", what.as_ref().display());
}

/// Without another event for so long, a change is read.
const SETTLE: Duration = Duration::from_millis(300);
/// With events all the time, a change is read after this.
const LONGEST: Duration = Duration::from_secs(3);
/// Between two looks whether the folders are the same. The folder of the configuration is not seen when it is moved away.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A file that is unfinished for so long is named in the log.
const LONG: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::config::load::load;

    /// Whether a change is there to be read within the time that one takes.
    async fn is_whole(changes: &mut Changes) -> bool {
        timeout(4 * SETTLE, changes.whole()).await.is_ok()
    }

    #[tokio::test]
    async fn folders_that_are_moved_and_replaced_are_watched_on() {
        let scratch = tempfile::tempdir().expect("a folder");
        let at = |name: &str| scratch.path().join(name);
        for folder in ["etc/d", "new/d"] {
            fs::create_dir_all(at(folder)).expect("made");
            fs::write(at(folder).join("../n.toml"), "include = [\"d/*.toml\"]\n").expect("written");
        }
        let main = at("etc/n.toml");
        let mut changes = Changes::new();
        changes.watch(Watched::of(&load(Some(&main), [], &[]).expect("read")));
        fs::rename(at("etc"), at("old")).expect("moved");
        assert!(is_whole(&mut changes).await, "the configuration is gone");
        fs::rename(at("new"), at("etc")).expect("moved");
        assert!(!is_whole(&mut changes).await, "nobody says so");
        assert!(timeout(LOOK_AGAIN + 4 * SETTLE, changes.whole()).await.is_ok(), "there is another one");
        for file in ["etc/n.toml", "etc/d/a.toml"] {
            fs::write(at(file), "# x\n").expect("written");
            assert!(is_whole(&mut changes).await, "{file}");
        }
        // At once, as a program does that puts a new version in place.
        fs::create_dir(at("etc/e")).expect("made");
        fs::rename(at("etc/d"), at("etc/f")).and_then(|()| fs::rename(at("etc/e"), at("etc/d"))).expect("moved");
        assert!(is_whole(&mut changes).await);
        fs::write(at("etc/d/b.toml"), "# x\n").expect("written");
        assert!(is_whole(&mut changes).await, "the new folder is watched");
    }

    #[tokio::test]
    async fn a_text_that_is_written_to_by_another_name_is_read_at_the_next_look() {
        let scratch = tempfile::tempdir().expect("a folder");
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("container")).expect("made");
        fs::write(at("n.toml"), "# one\n").expect("written");
        fs::hard_link(at("n.toml"), at("container/n.toml")).expect("made");
        let mut changes = Changes::new();
        changes.watch(Watched::of(&load(Some(&at("container/n.toml")), [], &[]).expect("read")));
        fs::write(at("n.toml"), "# two\n").expect("written");
        assert!(!is_whole(&mut changes).await, "nobody says so");
        assert!(timeout(LOOK_AGAIN + 4 * SETTLE, changes.whole()).await.is_ok(), "it is another version");
        assert!(timeout(LOOK_AGAIN + 4 * SETTLE, changes.whole()).await.is_err(), "it is read once");
    }

    #[tokio::test]
    async fn a_text_is_read_when_it_was_closed_and_not_before() {
        let scratch = tempfile::tempdir().expect("a folder");
        let (main, image) = (scratch.path().join("n.toml"), scratch.path().join("x.iso"));
        fs::write(&main, "[http]\nport = 1\n").expect("written");
        let mut watched = Watched::of(&load(Some(&main), [], &[]).expect("read"));
        watched.add(&image);
        let mut changes = Changes::new();
        changes.watch(watched);
        assert!(!is_whole(&mut changes).await, "nothing has changed");

        let mut file = fs::File::create(&main).expect("emptied");
        assert!(!is_whole(&mut changes).await, "it is empty");
        file.write_all(b"[profiles.d]\n").expect("written");
        assert!(!is_whole(&mut changes).await, "it is half written");
        // Another file that is finished changes nothing about that.
        fs::write(&image, "x").expect("written");
        assert!(!is_whole(&mut changes).await && changes.has_begun());
        file.write_all(b"kernel = \"k\"\n").expect("written");
        drop(file);
        assert!(is_whole(&mut changes).await && !changes.has_begun(), "it is whole");
        assert!(!is_whole(&mut changes).await, "it is read once");

        // An image is looked at while it is copied, and holds up nothing.
        let mut copy = fs::File::create(&image).expect("made");
        copy.write_all(b"x").expect("written");
        fs::rename(&main, scratch.path().join("old")).expect("renamed");
        assert!(is_whole(&mut changes).await && !changes.has_begun());
        drop(copy);
        assert!(is_whole(&mut changes).await);

        let file = fs::File::create(&main).expect("made");
        (&file).write_all(b"x").expect("written");
        assert!(!is_whole(&mut changes).await);
        changes.forget();
        assert!(!changes.has_begun(), "SIGHUP reads it as it is");
        (&file).write_all(b"x").expect("written");
        fs::remove_file(&main).expect("removed");
        assert!(is_whole(&mut changes).await, "it is gone");
    }
}
