//! `netbootd check`: reports every fault of a configuration, and of the files that it names, before a server starts.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{
    failure::{EX_OSERR, FAULTS, Failure, configuration, not_as, print},
    what_is,
};
use crate::{
    config::{Fault, Finding, Level, load::environment, schema::Config},
    daemon::privileges,
    doctor::configuration::{self, Place},
};

/// Show every fault of the configuration, its assets and its loaders.
///
/// With a FILE, show what kind of file it is. Starts nothing and opens no port. Exits with 1 if there is a fault, and
/// with 0 if there are only warnings.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Identify these files instead (CD image, kernel, initrd, loader…)
    #[arg(value_name = "FILE", conflicts_with_all = ["config", "schema"])]
    files: Vec<PathBuf>,
    /// Configuration file [default: /etc/netbootd/netbootd.toml, if it exists]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check file permissions as this user; only root can do this [default for root: netbootd, if that user exists]
    #[arg(long = "as", value_name = "USER", conflicts_with = "schema")]
    user: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of the configuration, for editors, and check nothing
    #[arg(long)]
    schema: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.schema {
            return print(&schema());
        }
        let user = self.user.clone().or_else(|| privileges::service_user().map(str::to_owned));
        let user = user.as_deref();
        if !self.files.is_empty() {
            return seen_by(user, || what_is::tell(&self.files, self.json))?;
        }
        let file = configuration(self.config.as_deref());
        let (findings, told) = seen_by(user, || findings(file))?;
        let faults = findings.iter().filter(|finding| finding.level == Level::Fault).count();
        print(&if self.json { as_json(&findings, &told) } else { as_text(&findings, &told) })?;
        match faults {
            0 if self.json => Ok(()),
            0 => {
                let what = file.map_or_else(|| "the built-in configuration".into(), |file| file.display().to_string());
                print(&format!("{what} has no faults\n"))
            }
            1 => Err(Failure::new(FAULTS, "1 fault")),
            faults => Err(Failure::new(FAULTS, format!("{faults} faults"))),
        }
    }
}

/// Runs `look` with the rights of a user.
fn seen_by<T: Send>(user: Option<&str>, look: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    let looked = configuration::seen_by(user, look).map_err(not_as)?;
    looked.ok_or_else(|| Failure::new(EX_OSERR, "the check stopped because of a bug in netbootd"))
}

/// See [`configuration::check`].
fn findings(file: Option<&Path>) -> (Vec<Finding>, Told) {
    let checked = configuration::check(file, environment());
    (checked.findings, Told { images: checked.images, kernels: checked.kernels })
}

/// What is shown beside the findings.
#[derive(Debug, Default)]
struct Told {
    /// Two lines for each image.
    images: Vec<String>,
    /// A line for each kernel: whether machines with Secure Boot start it.
    kernels: Vec<String>,
}

fn as_text(findings: &[Finding], Told { images, kernels }: &Told) -> String {
    // Where there are faults to correct, they are shown alone.
    let has_fault = findings.iter().any(|finding| finding.level == Level::Fault);
    let line = |Finding { level, fault: Fault { place, message } }: &Finding| match level {
        Level::Fault => format!("{place}: {message}\n"),
        Level::Warning => format!("{place}: warning: {message}\n"),
    };
    findings
        .iter()
        .map(line)
        .chain(images.iter().chain(kernels.iter().filter(|_| !has_fault)).map(|line| format!("{line}\n")))
        .collect()
}

fn as_json(findings: &[Finding], Told { images, kernels }: &Told) -> String {
    let findings = findings.iter().map(|Finding { level, fault: Fault { place, message } }| {
        let Place { file, line, column } = Place::of(place);
        json!({ "level": level, "file": file, "line": line, "column": column, "message": message })
    });
    format!("{:#}\n", json!({ "findings": findings.collect::<Vec<_>>(), "images": images, "kernels": kernels }))
}

/// The configuration's JSON Schema, as it is shipped.
fn schema() -> String {
    format!("{:#}\n", schemars::schema_for!(Config).as_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_schema_matches_the_types() {
        let shipped = include_str!("../../packaging/netbootd.schema.json");
        assert_eq!(shipped, schema(), "netbootd check --schema > packaging/netbootd.schema.json");
    }

    #[test]
    fn every_key_has_a_description_in_the_schema() {
        let schema = schemars::schema_for!(Config);
        let tables = schema.as_value()["$defs"].as_object().into_iter().flatten().map(|(_, table)| table);
        let mut keys = 0;
        for (key, value) in
            tables.chain([schema.as_value()]).flat_map(|table| table["properties"].as_object()).flatten()
        {
            assert!(value["description"].is_string(), "{key}");
            keys += 1;
        }
        assert!(keys > 50, "only {keys} keys were found");
    }
}
