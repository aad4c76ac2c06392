//! Collects what is wrong with a configuration, each fault with its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use super::{Fault, Finding, Level, load::Loaded, meant, settings::Cmdline, units};
use crate::{
    boot::{faults::Wanted, machine::Rules, profile::Profile, urls::is_remote, why::Why},
    files::{AssetRoot, permission},
};

pub(super) struct Check<'a> {
    pub(super) loaded: &'a Loaded,
    /// Of the text itself: with these no server starts.
    pub(super) faults: Vec<Fault>,
    /// What a server runs with, and somebody does not get what is promised.
    pub(super) findings: Vec<Finding>,
    /// How long the command lines of the profiles get.
    pub(super) cmdlines: Vec<Cmdline>,
    /// The answer files that profiles name.
    pub(super) asked: BTreeSet<String>,
}

impl Check<'_> {
    pub(super) fn fault(&mut self, path: &[&str], message: String) {
        if self.loaded.is_doubtful(path) {
            return;
        }
        self.faults.push(Fault { place: self.loaded.places.of(path), message });
    }

    /// A fault of one part of the configuration, which a server runs with: whoever needs that part is told.
    pub(super) fn part(&mut self, path: &[&str], message: String) {
        self.finding(Level::Fault, path, message);
    }

    pub(super) fn finding(&mut self, level: Level, path: &[&str], message: String) {
        if !self.loaded.is_doubtful(path) {
            self.findings.push(Finding { level, fault: Fault { place: self.loaded.places.of(path), message } });
        }
    }

    pub(super) fn no_profile(&mut self, path: &[&str], name: &str, profiles: &BTreeMap<String, Profile>) {
        if self.loaded.is_doubtful(&["profiles"]) {
            return;
        }
        let mut names: Vec<&str> = profiles.keys().map(String::as_str).chain(Rules::BUILT_IN).collect();
        names.sort_unstable();
        names.dedup();
        let meant = meant(name, names.iter().copied());
        self.part(path, format!("there is no profile {name:?}{meant}; there are: {}", names.join(", ")));
    }

    pub(super) fn duration(&mut self, key: &[&str], text: &str, range: RangeInclusive<Duration>) -> Duration {
        let checked = units::duration(text).and_then(|duration| match range.contains(&duration) {
            true => Ok(duration),
            false => {
                Err(format!("{text:?} is not within {} s and {} s", range.start().as_secs(), range.end().as_secs()))
            }
        });
        checked.unwrap_or_else(|message| {
            self.fault(key, message);
            *range.start()
        })
    }

    pub(super) fn file(&mut self, key: &[&str], name: &str, assets: Option<&AssetRoot>) {
        if is_remote(name) {
            return self.remote(key, name);
        }
        let problem = match assets {
            None if self.loaded.is_doubtful(&["assets"]) => return,
            None => format!("{name} is a path below the assets folder, and there is none: set assets"),
            Some(assets) => match assets.look(name, Wanted::File) {
                // Of the folder itself it has been told already.
                Ok(()) | Err(Why::NoFolder(_)) => return,
                Err(why @ Why::Empty(_)) => why.to_string(),
                Err(why @ Why::Unreadable { .. }) => {
                    permission::denied(&assets.path().join(name)).unwrap_or_else(|| why.to_string())
                }
                Err(why) => format!("{why} (looked for below {})", assets.path().display()),
            },
        };
        self.part(key, problem);
    }

    /// A file on another server, which nobody looks at before a machine does.
    fn remote(&mut self, key: &[&str], url: &str) {
        let is_url = |uri: http::Uri| uri.host().is_some_and(|host| !host.is_empty());
        if !url.parse().is_ok_and(is_url) {
            return self.fault(key, format!("{url:?} is no URL: percent-encode what it may not hold, a space as %20"));
        }
        let message = format!(
            "{url} is on another server: it was not looked at, and that a machine has fetched it is seen only by its report"
        );
        self.finding(Level::Warning, key, message);
    }
}

pub(super) fn is_profile(name: &str, profiles: &BTreeMap<String, Profile>) -> bool {
    profiles.contains_key(name) || Rules::BUILT_IN.contains(&name)
}

/// What the kernel takes for keepalive (MAX_TCP_KEEPIDLE), and enough for everything else.
pub(super) const LONGEST: Duration = Duration::from_secs(32_767);
