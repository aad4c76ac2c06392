//! Collects the faults of a configuration, each with its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Fault, Finding, Level, load::Loaded, meant, settings::Cmdline, units};
use crate::{
    boot::{
        faults::Wanted,
        machine::{Rendered, Rules},
        profile::Profile,
        reason::Reason,
        urls::{is_remote, without_password},
    },
    files::{AssetRoot, permission},
};

pub(super) struct Check<'a> {
    pub(super) loaded: &'a Loaded,
    /// Faults of the text itself. A server does not start with them.
    pub(super) faults: Vec<Fault>,
    /// Faults and warnings that a server can run with. Some machine does not get what the configuration promises.
    pub(super) findings: Vec<Finding>,
    /// The length of the command lines of the profiles.
    pub(super) cmdlines: Vec<Cmdline>,
    /// The images that profiles boot, by their paths, and a number for the version that was seen; 0: none was.
    pub(super) images: BTreeMap<String, u64>,
    /// Files of this host's packages by which images are booted.
    pub(super) host_files: BTreeSet<PathBuf>,
    /// What rendering the profiles' templates has found.
    pub(super) rendered: Rendered,
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

    /// A fault of one part of the configuration. The server runs; only machines that need this part get an error.
    pub(super) fn part(&mut self, path: &[&str], message: String) {
        self.finding(Level::Fault, path, message);
    }

    pub(super) fn finding(&mut self, level: Level, path: &[&str], message: String) {
        if !self.loaded.is_doubtful(path) {
            self.findings.push(Finding { level, fault: Fault { place: self.loaded.places.of(path), message } });
        }
    }

    pub(super) fn no_profile(&mut self, path: &[&str], name: &str, profiles: &BTreeMap<String, Profile>) {
        self.none_of(path, name, profiles.keys().map(String::as_str).chain(Rules::BUILT_IN));
    }

    /// A menu shows the profiles of the configuration; the built-in ones have their own places in it.
    pub(super) fn no_entry(&mut self, path: &[&str], name: &str, profiles: &BTreeMap<String, Profile>) {
        if Rules::BUILT_IN.contains(&name) && !profiles.contains_key(name) {
            return self.part(path, format!("{name:?} is built in: name a profile of the configuration, or remove it"));
        }
        self.none_of(path, name, profiles.keys().map(String::as_str));
    }

    fn none_of<'n>(&mut self, path: &[&str], name: &str, known: impl Iterator<Item = &'n str>) {
        if self.loaded.is_doubtful(&["profiles"]) {
            return;
        }
        let mut names: Vec<&str> = known.collect();
        names.sort_unstable();
        names.dedup();
        let meant = meant(name, names.iter().copied());
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        self.part(path, format!("unknown profile {name:?}{meant}; known profiles: {names}"));
    }

    pub(super) fn duration(&mut self, key: &[&str], text: &str, range: RangeInclusive<Duration>) -> Duration {
        let checked = units::duration(text).and_then(|duration| match range.contains(&duration) {
            true => Ok(duration),
            false => {
                let [least, most] = [range.start(), range.end()].map(|end| units::words(*end));
                Err(format!("{text:?} is out of range: use {least} to {most}"))
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
            None => format!("{name} is a path below the assets folder, but no assets folder is set: set assets"),
            Some(assets) => match assets.look(name, Wanted::File) {
                // The fault of the folder itself is already reported.
                Ok(()) | Err(Reason::NoFolder(_)) => return,
                Err(why @ Reason::NotFound(_)) => searched(assets, name, &why),
                Err(why) => problem(assets, name, &why),
            },
        };
        self.part(key, problem);
    }

    /// A file on another server. Its contents are not checked.
    fn remote(&mut self, key: &[&str], url: &str) {
        let uri = url.parse::<http::Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        let url = without_password(url);
        let Some(uri) = uri else {
            return self
                .fault(key, format!("{url:?} is not a valid URL: percent-encode special characters (a space is %20)"));
        };
        if !has_good_port(&uri) {
            return self.fault(key, format!("{url:?} {BAD_PORT}"));
        }
        let message = format!(
            "{url} is on another server: netbootd does not check it, and cannot see whether a machine fetches it"
        );
        self.finding(Level::Warning, key, message);
    }
}

/// Whether the port of a URL exists, if it names one. The library takes any number for a port.
pub(super) fn has_good_port(uri: &http::Uri) -> bool {
    let server = uri.authority().map_or("", |authority| authority.as_str());
    let server = server.rsplit_once('@').map_or(server, |(_, server)| server);
    // An IPv6 address has colons too.
    let names_a_port = server.rsplit_once(']').map_or(server, |(_, behind)| behind).contains(':');
    !names_a_port || uri.port_u16().is_some_and(|port| port > 0)
}

pub(super) const BAD_PORT: &str = "names a port that does not exist: use 1 to 65535, or leave the port out";

/// That nothing is there, and where it was searched. A whole path, an address or backslashes may lead to a file.
pub(super) fn searched(assets: &AssetRoot, name: &str, why: &Reason) -> String {
    let folder = assets.path();
    let slashes = name.replace('\\', "/");
    let below = |folder: &Path| Some(Path::new(&slashes).strip_prefix(folder).ok()?.to_str()?.to_owned());
    let of_address = slashes.trim_start_matches('/').strip_prefix("assets/").map(str::to_owned);
    let mut meant = [below(&folder), below(assets.named()), of_address, Some(slashes.clone())].into_iter().flatten();
    match meant.find(|path| path != name && assets.file(path).is_ok()) {
        Some(path) => format!("{why} below {}: write {path:?}, its path below that folder", folder.display()),
        None => format!("{why} (searched below {})", folder.display()),
    }
}

/// Why a file cannot be fetched, in words.
pub(super) fn problem(assets: &AssetRoot, name: &str, why: &Reason) -> String {
    match why {
        Reason::Unreadable { .. } => permission::denied(&assets.path().join(name)).unwrap_or_else(|| why.to_string()),
        why => why.to_string(),
    }
}

pub(super) fn is_profile(name: &str, profiles: &BTreeMap<String, Profile>) -> bool {
    profiles.contains_key(name) || Rules::BUILT_IN.contains(&name)
}

/// The largest keepalive time of the kernel (MAX_TCP_KEEPIDLE). It is long enough for all other times too.
pub(super) const LONGEST: Duration = Duration::from_secs(32_767);
