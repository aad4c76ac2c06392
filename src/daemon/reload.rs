//! Takes other rules in while the server runs: on SIGHUP, and when the configuration or a template changes.
//!
//! They are read and checked whole before anything is replaced. What runs goes on with what it began with; faults are
//! reported, all of them, and change nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::io::Errno;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::sleep,
};
use tracing::{debug, error, info, warn};

use super::{faults, loaders, notify as manager, plan, sandbox::Bounds};
use crate::{
    boot::{
        loader::LOADER_NAMES,
        machine::{Live, Rules},
    },
    config::{Faults, Finding, fixed::Fixed, settings::Settings, watched::Watched},
    files::AssetRoot,
};

/// Reads the configuration anew, with the environment and the flags that the server was started with.
pub type Read = Box<dyn Fn() -> Result<Settings, Faults> + Send + Sync>;

/// What rules were made of: the same makes the same.
#[derive(Debug, Default)]
struct Made {
    read: u64,
    findings: Vec<Finding>,
    loaders: Vec<(String, String)>,
}

/// Follows the configuration.
pub(super) struct Reload {
    read: Read,
    live: Arc<Live>,
    /// What the server was started with and cannot change.
    fixed: Fixed,
    hangup: Signal,
    changes: mpsc::UnboundedReceiver<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    /// What was read, which the watcher asks as well.
    watched: Arc<Mutex<Watched>>,
    folders: Vec<PathBuf>,
    /// The assets folder that is served.
    assets: Option<Arc<AssetRoot>>,
    /// What the rules in use were made of.
    current: Made,
    /// What was found at fault last, so that it is said once.
    faults: Option<Faults>,
    /// What may be read since the start; none: everything.
    bounds: Option<Bounds>,
}

impl Reload {
    /// Begins to watch. Needs a runtime.
    ///
    /// # Errors
    /// Where SIGHUP cannot be heard. Files that cannot be watched are reported, and SIGHUP still works.
    pub(super) fn new(read: Read, plan: &plan::Plan, bounds: Option<Bounds>) -> io::Result<Self> {
        let (changed, changes) = mpsc::unbounded_channel();
        let watched = Arc::new(Mutex::new(Watched::default()));
        let asked = watched.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            // Our own reading is an event too.
            if matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)) {
                let watched = asked.lock().unwrap_or_else(PoisonError::into_inner);
                let meant = event.paths.into_iter().filter(|path| watched.means(path));
                meant.for_each(|path| drop(changed.send(path)));
            }
        });
        let watcher = watcher.inspect_err(|error| cannot_watch("files", error)).ok();
        let hangup = signal(SignalKind::hangup())?;
        let current = Made { read: plan.read, findings: plan.findings.clone(), ..Made::default() };
        let mut reload = Self {
            read,
            live: plan.live.clone(),
            fixed: plan.fixed.clone(),
            hangup,
            changes,
            watcher,
            watched,
            folders: Vec::new(),
            assets: plan.assets.clone(),
            current,
            faults: None,
            bounds,
        };
        reload.current.loaders = reload.loaders_now();
        reload.watch(plan.watched.clone(), &plan.loader_dirs);
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
            self.live.reads.fetch_add(1, Ordering::Relaxed);
            if let Some(assets) = &self.assets {
                faults::follow_folder(assets, self.bounds.is_some(), &mut None);
            }
            match tokio::task::block_in_place(|| (self.read)()) {
                Ok(settings) => self.take(settings),
                Err(faults) => self.refuse(faults),
            }
            manager::ready_again();
        }
    }

    fn refuse(&mut self, faults: Faults) {
        // A change of something else does not make them news.
        if self.faults.as_ref() != Some(&faults) {
            error!("the configuration has faults, and the old one stays active:\n{faults}");
            if self.bounds.is_some() && is_denied(&faults) {
                warn!("{CLOSED}");
            }
        }
        self.faults = Some(faults);
    }

    /// The loaders that are in use, by their places and contents.
    fn loaders_now(&self) -> Vec<(String, String)> {
        let rules = self.live.rules.load();
        rules.loaders.iter().map(|file| (file.origin.clone(), file.sha256.clone())).collect()
    }

    fn take(&mut self, settings: Settings) {
        let had_faults = self.faults.take().is_some();
        self.watch(settings.watched.clone(), &settings.loader_dirs);
        let (read, findings) = (settings.read, settings.findings.clone());
        let same = self.current.read == read && self.current.findings == findings;
        let (found, _) = loaders::find(&settings.loader_dirs);
        let found: Vec<_> = found.iter().map(|file| (file.origin.clone(), file.sha256.clone())).collect();
        if same && found == self.current.loaders && !had_faults {
            return debug!("the configuration was read again, and nothing has changed");
        }
        let differences = self.fixed.differences(&settings.fixed());
        let is_closed = |folder: &&PathBuf| self.bounds.as_ref().is_some_and(|bounds| !bounds.cover(folder));
        for folder in settings.loader_dirs.iter().filter(is_closed) {
            warn!("no loader is read from {}: {CLOSED}", folder.display());
        }
        let strangers = self.live.rules.load().strangers.clone();
        let rules = Arc::new(Rules { strangers, ..plan::rules(settings) });
        self.live.put_rules(rules.clone());
        self.live.faults.store(Arc::new(faults::look(&self.live, self.assets.as_deref())));
        self.current = Made { read, findings, loaders: self.loaders_now() };
        info!("configuration read again: {} profiles, {} rules", rules.profiles.len(), rules.machines.iter().count());
        if !differences.is_empty() {
            warn!("changes of {} take effect at the next start", differences.join(", "));
        }
    }

    /// Folders, since editors put a new file in the old one's place.
    fn watch(&mut self, mut watched: Watched, loader_dirs: &[PathBuf]) {
        let packages = loaders::PACKAGES.iter().map(Path::new).filter(|place| place.is_absolute());
        for folder in loader_dirs.iter().map(PathBuf::as_path).chain(packages).filter(|folder| folder.is_dir()) {
            LOADER_NAMES.iter().for_each(|name| watched.add(&folder.join(name.path)));
        }
        let folders = watched.folders();
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
        let Some(watcher) = &mut self.watcher else { return };
        for folder in self.folders.iter().filter(|folder| !folders.contains(folder)) {
            let _ = watcher.unwatch(folder);
        }
        for folder in folders.iter().filter(|folder| !self.folders.contains(folder)) {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                cannot_watch(&folder.display().to_string(), &error);
            }
        }
        self.folders = folders;
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

/// From the first sign of a change until it is read.
const SETTLE: Duration = Duration::from_millis(300);
