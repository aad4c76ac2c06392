//! Everything that `netbootd check` finds, seen with the rights of a user.

use std::{path::Path, thread};

use crate::{
    config::{
        Fault, Finding, Level, examine,
        load::{Loaded, load},
        resolve::attempt,
        settings::Settings,
        signed,
    },
    daemon::{
        loaders,
        privileges::{self, PrivilegeError},
    },
};

/// A configuration, and what was found in it.
#[derive(Debug)]
pub struct Checked {
    /// Faults and warnings, by file and line. Those without a file come last.
    pub findings: Vec<Finding>,
    /// Two lines for each image that is booted.
    pub images: Vec<String>,
    /// A line for each kernel: whether machines with Secure Boot start it.
    pub kernels: Vec<String>,
    /// The settings, if the text could be read.
    pub settings: Option<Settings>,
    /// The loaders that were found.
    pub loaders: crate::boot::loaders::Loaders,
}

/// Checks a configuration file; without one, what is built in. `environment` is that of the server.
#[must_use]
pub fn check(file: Option<&Path>, environment: Vec<(String, String)>) -> Checked {
    let loaded = match load(file, environment, &[]) {
        Ok(loaded) => loaded,
        Err(faults) => {
            let findings = faults.0.into_iter().map(fault).collect();
            let (found, _) = loaders::find(&[]);
            return Checked { findings, images: Vec::new(), kernels: Vec::new(), settings: None, loaders: found };
        }
    };
    check_loaded(&loaded)
}

fn fault(fault: Fault) -> Finding {
    Finding { level: Level::Fault, fault }
}

fn check_loaded(loaded: &Loaded) -> Checked {
    let (mut settings, faults) = attempt(loaded);
    let (found, rejected) = loaders::find(&settings.loader_dirs);
    let mut findings: Vec<Finding> = faults.into_iter().map(fault).collect();
    findings.extend(examine::loaders(&settings, &found));
    findings.append(&mut settings.findings);
    findings.extend(rejected.into_iter().map(|rejected| {
        let message = format!("is ignored: {}", rejected.why);
        Finding { level: Level::Warning, fault: Fault { place: rejected.path.display().to_string(), message } }
    }));
    let files: Vec<&str> = loaded.places.files().collect();
    findings.sort_by_cached_key(|finding| {
        let Place { file, line, column } = Place::of(&finding.fault.place);
        (files.iter().position(|name| *name == file).unwrap_or(files.len()), line, column)
    });
    let images = settings.profiles.values().flat_map(|profile| profile.about.clone()).collect();
    let kernels = signed::kernels(&settings);
    Checked { findings, images, kernels, settings: Some(settings), loaders: found }
}

/// The place of a finding: `FILE:LINE:COLUMN`, or a text without line numbers.
#[derive(Debug)]
pub struct Place<'a> {
    /// The file, or the text.
    pub file: &'a str,
    /// From 1.
    pub line: Option<usize>,
    /// From 1.
    pub column: Option<usize>,
}

impl<'a> Place<'a> {
    /// Takes it apart.
    #[must_use]
    pub fn of(place: &'a str) -> Self {
        let split = place.rsplit_once(':').and_then(|(rest, column)| {
            let (file, line) = rest.rsplit_once(':')?;
            Some(Self { file, line: Some(line.parse().ok()?), column: Some(column.parse().ok()?) })
        });
        split.unwrap_or(Self { file: place, line: None, column: None })
    }
}

/// Runs `look` with the rights of a user. It uses its own thread, because a thread cannot get rights back after it gave
/// them up; none: that thread ended by a bug.
///
/// # Errors
/// There is no such user, or only root can look as one.
pub fn seen_by<T: Send>(user: Option<&str>, look: impl FnOnce() -> T + Send) -> Result<Option<T>, PrivilegeError> {
    let Some(user) = user else { return Ok(Some(look())) };
    let looked = thread::scope(|scope| scope.spawn(|| privileges::see_as(user).map(|()| look())).join());
    looked.map_or(Ok(None), |looked| looked.map(Some))
}
