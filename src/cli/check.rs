//! `netbootd check`: everything that is wrong with a configuration and the files that it names, before anything starts.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::{Failure, configuration, print};
use crate::{
    config::{Fault, Finding, Level, examine, load::load, resolve::attempt, schema::Config},
    daemon::loaders,
};

/// Show every fault of the configuration, its assets and loaders at once.
///
/// Nothing is started and no port is opened. Exits with 1 where there is a fault, and with 0 where there are warnings only.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Configuration [default: /etc/netbootd/netbootd.toml where it exists]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Write the configuration's JSON Schema, for editors, and check nothing
    #[arg(long)]
    schema: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.schema {
            return print(&schema());
        }
        let file = configuration(self.config.as_deref());
        let findings = findings(file);
        let faults = findings.iter().filter(|finding| finding.level == Level::Fault).count();
        print(&if self.json { as_json(&findings) } else { as_text(&findings) })?;
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

/// In the order of the files, and of their lines; what stands in none comes last.
fn findings(file: Option<&Path>) -> Vec<Finding> {
    let fault = |fault: Fault| Finding { level: Level::Fault, fault };
    let loaded = match load(file, std::env::vars(), &[]) {
        Ok(loaded) => loaded,
        Err(faults) => return faults.0.into_iter().map(fault).collect(),
    };
    let (settings, faults) = attempt(&loaded);
    let (found, rejected) = loaders::find(&settings.loader_dirs);
    let mut findings: Vec<Finding> = faults.into_iter().map(fault).collect();
    findings.extend(examine::loaders(&settings, &found));
    findings.extend(settings.findings);
    findings.extend(rejected.into_iter().map(|rejected| {
        let message = format!("is passed over: {}", rejected.why);
        Finding { level: Level::Warning, fault: Fault { place: rejected.path.display().to_string(), message } }
    }));
    let files: Vec<&str> = loaded.places.files().collect();
    findings.sort_by_cached_key(|finding| {
        let Place { file, line, column } = Place::of(&finding.fault.place);
        (files.iter().position(|name| *name == file).unwrap_or(files.len()), line, column)
    });
    findings
}

fn as_text(findings: &[Finding]) -> String {
    let line = |Finding { level, fault: Fault { place, message } }: &Finding| match level {
        Level::Fault => format!("{place}: {message}\n"),
        Level::Warning => format!("{place}: warning: {message}\n"),
    };
    findings.iter().map(line).collect()
}

fn as_json(findings: &[Finding]) -> String {
    let findings = findings.iter().map(|Finding { level, fault: Fault { place, message } }| {
        let Place { file, line, column } = Place::of(place);
        json!({ "level": level, "file": file, "line": line, "column": column, "message": message })
    });
    format!("{:#}\n", json!({ "findings": findings.collect::<Vec<_>>() }))
}

/// A place as the configuration tells it: `FILE:LINE:COLUMN`, or what has no lines.
struct Place<'a> {
    file: &'a str,
    line: Option<usize>,
    column: Option<usize>,
}

impl<'a> Place<'a> {
    fn of(place: &'a str) -> Self {
        let split = place.rsplit_once(':').and_then(|(rest, column)| {
            let (file, line) = rest.rsplit_once(':')?;
            Some(Self { file, line: Some(line.parse().ok()?), column: Some(column.parse().ok()?) })
        });
        split.unwrap_or(Self { file: place, line: None, column: None })
    }
}

/// The configuration's JSON Schema, as it is shipped.
fn schema() -> String {
    format!("{:#}\n", schemars::schema_for!(Config).as_value())
}

/// The configuration has faults: unlike `up`, which was asked for something else, `check` has done what it was asked for.
const FAULTS: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_that_is_shipped_is_that_of_the_types() {
        let shipped = include_str!("../../packaging/netbootd.schema.json");
        assert_eq!(shipped, schema(), "netbootd check --schema > packaging/netbootd.schema.json");
    }

    #[test]
    fn editors_are_told_what_every_key_is() {
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
