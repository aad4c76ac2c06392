//! What users write → what the daemon runs: `schema` is the file's shape, `load` puts the layers together, `resolve`
//! turns them into domain types. Faults come all at once, each with its place and its mend.

pub mod load;
mod machines;
pub mod places;
mod profiles;
pub mod resolve;
pub mod schema;
mod tftp;
pub mod units;

use std::fmt;

/// Something wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `FILE:LINE:COLUMN`, an environment variable, or the command line.
    pub place: String,
    /// What is wrong, and the mend.
    pub message: String,
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
