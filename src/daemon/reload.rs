//! Takes other rules in while the server runs: on SIGHUP, and when the configuration or a template changes.
//!
//! They are read and checked whole before anything is replaced. What runs goes on with what it began with; faults are
//! reported, all of them, and change nothing.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use rustix::io::Errno;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, error, info, warn};

use super::{
    changes::Changes, faults, lease_terms, loaders, logging::Together, notify as manager, plan, sandbox::Bounds,
};
use crate::{
    boot::{again, live::Live, loaders::Loaders, machine::Rules},
    config::{Fault, Faults, Finding, fixed::Fixed, settings::Settings, watched::Watched},
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
    /// The interfaces that are served.
    interfaces: Vec<String>,
    hangup: Signal,
    changes: Changes,
    /// What the rules in use were read from.
    watched: Watched,
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
        let hangup = signal(SignalKind::hangup())?;
        let current = Made { read: plan.read, findings: plan.findings.clone(), ..Made::default() };
        let mut reload = Self {
            read,
            live: plan.live.clone(),
            fixed: plan.fixed.clone(),
            interfaces: plan.interfaces.iter().map(|interface| interface.name.clone()).collect(),
            hangup,
            changes: Changes::new(),
            watched: Watched::default(),
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
            let is_asked = tokio::select! {
                _ = self.hangup.recv() => true,
                () = self.changes.whole() => false,
            };
            if is_asked {
                self.changes.forget();
            }
            manager::reloading();
            self.live.reads.fetch_add(1, Ordering::Relaxed);
            if let Some(assets) = &self.fixed.assets {
                faults::follow_folder(assets, self.bounds.is_some(), &mut None);
            }
            match tokio::task::block_in_place(|| (self.read)()) {
                _ if !is_asked && self.changes.has_begun() => {
                    debug!("a file was written to while it was read: it is read again when it is closed");
                }
                Ok(settings) => {
                    let emptied = settings.watched.emptied(&self.watched);
                    match emptied.or_else(|| self.misfits(&settings)) {
                        Some(faults) => self.refuse(faults),
                        None => self.take(settings),
                    }
                }
                Err(faults) => self.refuse(faults),
            }
            manager::ready_again();
        }
    }

    /// Why the next start would refuse the leases of these settings.
    fn misfits(&self, settings: &Settings) -> Option<Faults> {
        let leasing = settings.fixed.lease.as_ref()?;
        let names = if settings.fixed.interfaces.is_empty() { &self.interfaces } else { &settings.fixed.interfaces };
        let rules = settings.machines.iter().map(|(_, rule)| rule);
        let faults = lease_terms::faults_here(leasing, names, rules);
        let faults: Vec<_> = faults.into_iter().map(|message| Fault { place: "[lease]".into(), message }).collect();
        (!faults.is_empty()).then_some(Faults(faults))
    }

    fn refuse(&mut self, faults: Faults) {
        // A change of something else does not make them news.
        if self.faults.as_ref() != Some(&faults) {
            let _together = Together::hold();
            error!("the configuration has faults, and the old one stays active:");
            faults.0.iter().for_each(|Fault { place, message }| error!("{place}: {message}"));
            if self.bounds.is_some() && is_denied(&faults) {
                warn!("{CLOSED}");
            }
        }
        self.faults = Some(faults);
    }

    /// The loaders that are in use, by their places and contents.
    fn loaders_now(&self) -> Vec<(String, String)> {
        versions(&self.live.rules.load().loaders)
    }

    fn take(&mut self, settings: Settings) {
        let had_faults = self.faults.take().is_some();
        self.watch(settings.watched.clone(), &settings.loader_dirs);
        let (read, findings) = (settings.read, settings.findings.clone());
        let same = self.current.read == read && self.current.findings == findings;
        let (found, _) = loaders::find(&settings.loader_dirs);
        if same && versions(&found) == self.current.loaders && !had_faults {
            return debug!("the configuration was read again, and nothing has changed");
        }
        let differences = self.fixed.differences(&settings.fixed);
        let is_closed = |folder: &&PathBuf| self.bounds.as_ref().is_some_and(|bounds| !bounds.cover(folder));
        for folder in settings.loader_dirs.iter().filter(is_closed) {
            warn!("no loader is read from {}: {CLOSED}", folder.display());
        }
        let strangers = self.live.rules.load().strangers.clone();
        let (before, rules) = (self.live.rules.load_full(), Arc::new(Rules { strangers, ..plan::rules(settings) }));
        self.live.put_rules(rules.clone());
        self.live.faults.store(Arc::new(faults::look(&self.live, self.fixed.assets.as_deref())));
        self.current = Made { read, findings, loaders: self.loaders_now() };
        info!("configuration read again: {} profiles, {} rules", rules.profiles.len(), rules.machines.iter().count());
        again::lines(Some(&before), &rules, &self.live.roster.load()).iter().for_each(|line| warn!("{line}"));
        if !differences.is_empty() {
            warn!("changes of {} take effect at the next start", differences.join(", "));
        }
    }

    fn watch(&mut self, mut watched: Watched, loader_dirs: &[PathBuf]) {
        loaders::paths(loader_dirs).iter().for_each(|path| watched.add(path));
        self.watched = watched.clone();
        self.changes.watch(watched);
    }
}

/// Where each loader is from, and what is in it; and what the sets lack.
fn versions(loaders: &Loaders) -> Vec<(String, String)> {
    let files = loaders.with_sets().map(|file| (file.origin.clone(), file.sha256.clone()));
    files.chain(loaders.sets.incomplete.iter().map(|set| (set.place.clone(), set.missing.clone()))).collect()
}

/// Whether the system did not let us read something (EACCES).
fn is_denied(faults: &Faults) -> bool {
    let denied = io::Error::from(Errno::ACCESS).to_string();
    faults.0.iter().any(|fault| fault.message.contains(&denied))
}

const CLOSED: &str = "a sandboxed netbootd reads only the folders that it was started with: restart it to read others";
