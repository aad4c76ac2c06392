//! Defaults < file < environment < command line, with every unknown key and its place.

use std::{collections::BTreeMap, io, path::Path};

use figment::{
    Figment,
    providers::{Format, Serialized, Toml},
    value::Value,
};
use toml_edit::{Document, Item};

use super::{
    Fault, Faults,
    schema::{Config, Profile},
};

/// A configuration before it is resolved, and where its values stand.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Their places.
    pub places: Places,
}

/// Where a key was set.
#[derive(Debug, Default)]
pub struct Places {
    file: String,
    text: String,
    document: Option<Document<String>>,
    environment: BTreeMap<String, String>,
}

impl Places {
    /// `FILE:LINE:COLUMN` or an environment variable; `command line` for what stands in neither.
    #[must_use]
    pub fn of(&self, path: &[&str]) -> String {
        let dotted = path.join(".");
        // A variable also sets the sections that it goes through.
        let sets = |key: &str| key.strip_prefix(&dotted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if let Some((_, variable)) = self.environment.iter().find(|(key, _)| sets(key)) {
            return format!("environment {variable}");
        }
        // A key that the file lacks is missed where its table begins.
        let found = (1..=path.len()).rev().find_map(|length| self.offset(path.get(..length)?));
        match (found, &self.document) {
            (Some(offset), _) => format!("{}:{}", self.file, position(&self.text, offset)),
            (None, Some(_)) => self.file.clone(),
            (None, None) => "command line".into(),
        }
    }

    fn offset(&self, path: &[&str]) -> Option<usize> {
        let mut item: &Item = self.document.as_ref()?.as_item();
        let mut span = None;
        for part in path {
            (item, span) = match part.parse::<usize>().ok().and_then(|index| item.as_array()?.get(index)) {
                Some(element) => return element.span().map(|span| span.start),
                None => {
                    let (key, value) = item.as_table_like()?.get_key_value(part)?;
                    (value, key.span().or_else(|| value.span()))
                }
            };
        }
        span.map(|span| span.start)
    }
}

/// Puts the layers together. `file` is read if given; `environment` are the process's variables; `flags` are keys with
/// values that go before everything.
///
/// # Errors
/// All unknown keys, or the first value of a wrong type, or why the file cannot be read.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[(&str, Value)],
) -> Result<Loaded, Faults> {
    let mut places = Places::default();
    if let Some(path) = file {
        places.read(path)?;
    }
    let mut figment = Figment::from(Serialized::defaults(Config::default())).merge(Toml::string(&places.text));
    for (variable, text) in environment {
        let Some(key) = variable.strip_prefix(PREFIX).filter(|key| *key != "LOG") else { continue };
        let key = key.to_ascii_lowercase().replace("__", ".");
        let value: Value = text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        figment = figment.merge(Serialized::default(&key, value));
        places.environment.insert(key, variable);
    }
    for (key, value) in flags {
        figment = figment.merge(Serialized::default(key, value));
    }
    let value: Value = figment.extract().map_err(|error| places.fault(&error))?;
    let mut unknown: Vec<Vec<String>> = Vec::new();
    let config: Config = serde_ignored::deserialize(&value, |path| {
        unknown.push(path.to_string().split('.').map(str::to_owned).collect());
    })
    .map_err(|error: figment::Error| places.fault(&error))?;
    if unknown.is_empty() {
        return Ok(Loaded { config, places });
    }
    Err(Faults(unknown.iter().map(|path| places.unknown(path)).collect()))
}

/// Of environment variables: `NETBOOTD_HTTP__PORT` is `http.port`. `NETBOOTD_LOG` is the log filter's.
const PREFIX: &str = "NETBOOTD_";

impl Places {
    fn read(&mut self, path: &Path) -> Result<(), Faults> {
        self.file = path.display().to_string();
        let fault = |place: String, message: String| Faults(vec![Fault { place, message }]);
        self.text = std::fs::read_to_string(path).map_err(|error| {
            let mend = match error.kind() {
                io::ErrorKind::NotFound => "; name another one with --config, or leave it out",
                _ => "",
            };
            fault(self.file.clone(), format!("cannot be read: {error}{mend}"))
        })?;
        let document = Document::parse(self.text.clone()).map_err(|error| {
            let at = error.span().map_or_else(String::new, |span| format!(":{}", position(&self.text, span.start)));
            fault(format!("{}{at}", self.file), error.message().to_owned())
        })?;
        self.document = Some(document);
        Ok(())
    }

    fn fault(&self, error: &figment::Error) -> Faults {
        let faults = error.clone().into_iter().map(|error| {
            let path: Vec<&str> = error.path.iter().map(String::as_str).filter(|part| *part != "default").collect();
            Fault { place: self.of(&path), message: format!("{}: {}", path.join("."), error.kind) }
        });
        Faults(faults.collect())
    }

    fn unknown(&self, path: &[String]) -> Fault {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let (key, parents) = path.split_last().unwrap_or((&"", &[]));
        let known = known_keys(parents).join(", ");
        let section = if parents.is_empty() { "at the top".into() } else { format!("in [{}]", parents.join(".")) };
        Fault { place: self.of(&path), message: format!("unknown key {key:?}; {section} there are: {known}") }
    }
}

/// The keys of a section, taken from the schema itself.
fn known_keys(section: &[&str]) -> Vec<String> {
    let sample = match section {
        ["profiles", _] => serde_json::to_value(Profile::default()),
        _ => serde_json::to_value(Config::default()),
    };
    let mut value = sample.unwrap_or_default();
    if section.first() != Some(&"profiles") {
        for part in section {
            value = value.get_mut(part).map(serde_json::Value::take).unwrap_or_default();
        }
    }
    value.as_object().map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
}

/// `LINE:COLUMN`, both from 1.
fn position(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str, environment: &[(&str, &str)], flags: &[(&str, Value)]) -> Result<Config, String> {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("n.toml");
        std::fs::write(&path, text).expect("written");
        let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let loaded = load(Some(&path), environment, flags);
        loaded
            .map(|loaded| loaded.config)
            .map_err(|faults| faults.to_string().replace(&format!("{}/", scratch.path().display()), ""))
    }

    #[test]
    fn flags_go_before_environment_before_file_before_defaults() {
        let file = "interfaces = [\"eth1\"]\n[http]\nport = 1\n";
        let port = |environment: &[(&str, &str)], flags: &[(&str, Value)]| {
            loaded(file, environment, flags).map(|config| (config.interfaces, config.http.port))
        };
        let eth1 = || vec!["eth1".to_owned()];
        assert_eq!(port(&[], &[]), Ok((eth1(), 1)));
        assert_eq!(port(&[("NETBOOTD_HTTP__PORT", "2")], &[]), Ok((eth1(), 2)));
        assert_eq!(port(&[("NETBOOTD_HTTP__PORT", "2")], &[("http.port", Value::from(3u16))]), Ok((eth1(), 3)));
        assert_eq!(loaded("", &[], &[]), Ok(Config::default()));
    }

    #[test]
    fn every_unknown_key_is_told_with_its_place_and_what_there_is() {
        let text = "asets = \"/x\"\n\n[http]\n  prot = 80\n\n[profiles.debian]\nkernel = \"k\"\ninitrds = []\n";
        assert_eq!(
            loaded(text, &[("NETBOOTD_HTTPS__PORT", "2")], &[]),
            Err("n.toml:1:1: unknown key \"asets\"; at the top there are: assets, default_profile, http, interfaces, loader_dirs, profiles, tftp\n\
                 n.toml:4:3: unknown key \"prot\"; in [http] there are: base_url, grace, keepalive, listing, max_connections, max_connections_per_client, port, rate_limit\n\
                 environment NETBOOTD_HTTPS__PORT: unknown key \"https\"; at the top there are: assets, default_profile, http, interfaces, loader_dirs, profiles, tftp\n\
                 n.toml:8:1: unknown key \"initrds\"; in [profiles.debian] there are: cmdline, initrd, kernel"
                .into())
        );
    }

    #[test]
    fn a_wrong_type_and_a_slip_of_the_pen_have_a_place_too() {
        assert_eq!(
            loaded("[http]\nport = \"many\"\n", &[], &[]),
            Err("n.toml:2:1: http.port: invalid type: found string \"many\", expected u16".into())
        );
        let slip = loaded("[http]\nport = \n", &[], &[]).expect_err("no value");
        assert!(slip.starts_with("n.toml:2:8: "), "{slip}");
        let missing = load(Some(Path::new("/nowhere/n.toml")), [], &[]).expect_err("no file");
        assert!(missing.to_string().starts_with("/nowhere/n.toml: cannot be read: No such file"), "{missing}");
    }
}
