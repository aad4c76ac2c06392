//! What users write → what the daemon runs: `schema` is the file's shape, `load` puts the layers together, `resolve`
//! turns them into domain types. Faults come all at once, each with its place and its mend.

mod check;
pub mod examine;
pub mod fixed;
pub mod limits;
pub mod load;
mod machines;
pub mod places;
mod profiles;
pub mod resolve;
pub mod schema;
pub mod settings;
mod stages;
mod tftp;
pub mod units;
pub mod watched;

use std::fmt;

/// Something wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `FILE:LINE:COLUMN`, an environment variable, or the command line.
    pub place: String,
    /// What is wrong, and the mend.
    pub message: String,
}

/// Something that a server runs with, and that people want to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What, and where.
    pub fault: Fault,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Some machine does not get what its rule or profile promises.
    Fault,
    /// It may be meant.
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

/// ` (is it "x"?)`, where one of those that there are is near enough.
fn meant<'a>(name: &str, there: impl IntoIterator<Item = &'a str>) -> String {
    let near = there.into_iter().map(|there| (strsim::jaro_winkler(name, there), there));
    let nearest = near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness > 0.8);
    nearest.map(|(_, there)| format!(" (is it {there:?}?)")).unwrap_or_default()
}

/// The same for an architecture, which has other names elsewhere.
fn arch_meant<'a>(name: &str, there: impl IntoIterator<Item = &'a str>) -> String {
    let other = OTHER_NAMES.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    other.map_or_else(|| meant(name, there), |(_, ours)| format!(" (is it {ours:?}?)"))
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
