//! From the configuration file to the settings of the daemon: `schema` is the format of the file, `load` combines the
//! layers, `resolve` makes the domain types. All faults are reported together, each with its place and its fix.

mod check;
pub mod examine;
pub mod fixed;
mod found_isos;
mod isos;
mod lease_options;
mod leases;
pub mod limits;
pub mod load;
mod machines;
pub mod places;
mod profiles;
mod render;
pub mod resolve;
pub mod save;
pub mod schema;
pub mod settings;
pub mod signed;
mod stages;
mod template_files;
pub mod text_file;
mod tftp;
pub mod units;
mod unused;
pub mod watched;

use std::fmt;

/// A fault in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `FILE:LINE:COLUMN`, an environment variable, or the command line.
    pub place: String,
    /// What is wrong, and how to fix it.
    pub message: String,
}

/// A finding that does not stop the server from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Fault or warning.
    pub level: Level,
    /// The place and the text.
    pub fault: Fault,
}

/// The level of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Some machine does not get what its rule or profile promises.
    Fault,
    /// It can be intended.
    Warning,
}

/// All faults of a configuration, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(|Fault { place, message }| format!("{place}: {message}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// ` (is it "x"?)`, if a known name is similar.
fn meant<'a>(name: &str, there: impl IntoIterator<Item = &'a str>) -> String {
    let near = there.into_iter().map(|there| (strsim::jaro_winkler(name, there), there));
    let nearest = near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness > 0.8);
    nearest.map(|(_, there)| format!(" (did you mean {there:?}?)")).unwrap_or_default()
}

/// The same for an architecture, which can have other names in other programs.
fn arch_meant<'a>(name: &str, there: impl IntoIterator<Item = &'a str>) -> String {
    let other = OTHER_NAMES.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    other.map_or_else(|| meant(name, there), |(_, ours)| format!(" (did you mean {ours:?}?)"))
}

const OTHER_NAMES: [(&str, &str); 7] = [
    ("amd64", "x86_64"),
    ("x64", "x86_64"),
    ("x86", "i386"),
    ("i686", "i386"),
    ("ia32", "i386"),
    ("aarch64", "arm64"),
    ("loongarch64", "loong64"),
];
