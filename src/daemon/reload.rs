//! Takes other rules in while the server runs: on SIGHUP, and when the configuration or a template changes.
//!
//! They are read and checked whole before anything is replaced. What runs goes on with what it began with; faults are
//! told, all of them, and change nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::io::Errno;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::sleep,
};
use tracing::{error, info, warn};

use super::{notify as manager, plan, sandbox::Bounds};
use crate::{
    boot::machine::Live,
    config::{
        Faults,
        resolve::{Fixed, Settings},
    },
};

/// Reads the configuration anew, with the environment and the flags that the server was started with.
pub type Read = Box<dyn Fn() -> Result<Settings, Faults> + Send + Sync>;

/// Follows the configuration.
pub(super) struct Reload {
    read: Read,
    live: Arc<Live>,
    /// What the server was started with and cannot change.
    fixed: Fixed,
    hangup: Signal,
    changes: mpsc::UnboundedReceiver<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    watched: Vec<PathBuf>,
    /// What may be read since the start; none: everything.
    bounds: Option<Bounds>,
}

impl Reload {
    /// Begins to watch. Needs a runtime.
    ///
    /// # Errors
    /// Where SIGHUP cannot be heard. Files that cannot be watched are told, and SIGHUP still works.
    pub(super) fn new(
        read: Read,
        live: Arc<Live>,
        fixed: Fixed,
        watched: Vec<PathBuf>,
        state: PathBuf,
        bounds: Option<Bounds>,
    ) -> io::Result<Self> {
        let (changed, changes) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            // Our own reading is an event too.
            if matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)) {
                let meant = event.paths.into_iter().filter(|path| is_meant(path) && !is_of_database(path, &state));
                meant.for_each(|path| drop(changed.send(path)));
            }
        });
        let watcher = watcher.inspect_err(|error| cannot_watch("files", error)).ok();
        let hangup = signal(SignalKind::hangup())?;
        let mut reload = Self { read, live, fixed, hangup, changes, watcher, watched: Vec::new(), bounds };
        reload.watch(watched);
        Ok(reload)
    }

    /// Follows until dropped.
    pub(super) async fn follow(&mut self) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {}
                Some(_) = self.changes.recv() => {
                    // An editor writes a file in several steps.
                    sleep(SETTLE).await;
                    while self.changes.try_recv().is_ok() {}
                }
            }
            manager::reloading();
            match tokio::task::block_in_place(|| (self.read)()) {
                Ok(settings) => self.take(settings),
                Err(faults) => {
                    error!("the configuration has faults, and the old one stays:\n{faults}");
                    if self.bounds.is_some() && is_denied(&faults) {
                        warn!("{CLOSED}");
                    }
                }
            }
            manager::ready_again();
        }
    }

    fn take(&mut self, settings: Settings) {
        let differences = self.fixed.differences(&settings.fixed());
        let is_closed = |folder: &&PathBuf| self.bounds.as_ref().is_some_and(|bounds| !bounds.cover(folder));
        for folder in settings.loader_dirs.iter().filter(is_closed) {
            warn!("no loader is read from {}: {CLOSED}", folder.display());
        }
        self.watch(settings.watched.clone());
        let rules = Arc::new(plan::rules(settings));
        self.live.rules.store(rules.clone());
        info!("configuration read again: {} profiles, {} rules", rules.profiles.len(), rules.machines.iter().count());
        if !differences.is_empty() {
            warn!("changes of {} take effect at the next start", differences.join(", "));
        }
    }

    /// Folders, since editors put a new file in the old one's place.
    fn watch(&mut self, folders: Vec<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in self.watched.iter().filter(|folder| !folders.contains(folder)) {
            let _ = watcher.unwatch(folder);
        }
        for folder in folders.iter().filter(|folder| !self.watched.contains(folder)) {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                cannot_watch(&folder.display().to_string(), &error);
            }
        }
        self.watched = folders;
    }
}

fn cannot_watch(what: &str, error: &notify::Error) {
    warn!("{what} cannot be watched ({error}): after a change, send SIGHUP");
}

/// Whether the system did not let us read something (EACCES).
fn is_denied(faults: &Faults) -> bool {
    let denied = io::Error::from(Errno::ACCESS).to_string();
    faults.0.iter().any(|fault| fault.message.contains(&denied))
}

const CLOSED: &str = "a sandboxed netbootd reads only the folders that it was started with: restart it to read others";

/// Editors leave copies of their own beside a file.
fn is_meant(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    !name.starts_with(['.', '#']) && !name.ends_with(['~', '#']) && !name.ends_with(".swp") && !name.ends_with(".swx")
}

/// The state may be in the configuration's folder: SQLite's file, and those that it has beside it (`-wal`, `-shm`).
fn is_of_database(path: &Path, database: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(database.as_os_str().as_encoded_bytes())
}

/// From the first sign of a change until it is read.
const SETTLE: Duration = Duration::from_millis(300);
