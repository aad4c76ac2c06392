//! Reads the configuration: defaults < file < environment < command line. Reports every unknown key with its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    error::{Actual, Kind},
    providers::{Format, Serialized, Toml},
    value::Value,
};
use glob::{GlobError, MatchOptions};
use serde::{Deserialize, de::value::StrDeserializer};

use super::{
    Fault, Faults, meant,
    places::Places,
    schema::{Answer, Config, DhcpSocket, LeaseClients, Machine, Profile},
    text_file::NamedBy,
};
use crate::files::permission;

/// A configuration before it is resolved, and the places of its values.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Their places.
    pub places: Places,
    /// The patterns of `include`, with the folder of the configuration.
    pub patterns: Vec<PathBuf>,
    /// Those of them, as they are written, that find files.
    pub(super) finding: BTreeSet<String>,
    /// Unknown keys, keys that two files set, and values of a wrong type. The default is used instead.
    pub faults: Vec<Fault>,
    /// Keys and tables that are not checked further: more faults there would only follow from the first.
    pub(super) doubtful: Vec<Vec<String>>,
    /// If only some files of the assets folder are served: their paths below it.
    pub only: Option<BTreeSet<String>>,
}

/// Combines the layers. `file` is read if given; `environment` has the variables of the process; `flags` are keys with
/// values that override all other layers.
///
/// # Errors
/// Why a file cannot be read. Other faults are in the returned value, so that [`super::resolve`] can report them
/// together with its own.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[(&str, Value)],
) -> Result<Loaded, Faults> {
    let mut places = Places::default();
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    let mut texts = BTreeMap::new();
    let mut variables = Figment::new();
    for (variable, text) in environment {
        let Some(key) = variable.strip_prefix(PREFIX).filter(|key| *key != "LOG") else { continue };
        let key = key.to_ascii_lowercase().replace("__", ".");
        let value: Value = text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        variables = variables.merge(Serialized::default(&key, value));
        texts.insert(key.clone(), text.trim().to_owned());
        places.environment.insert(key, variable);
    }
    if let Some(path) = file {
        places.read(path, NamedBy::CommandLine)?;
        figment = figment.merge(Toml::string(places.text_of(0)));
    }
    // A variable may name the files, too.
    let (included, finding) = included(file, &figment.clone().merge(&variables), &texts, &places)?;
    for path in included {
        places.read(&path, NamedBy::Include)?;
        // Lists are joined, because each file has its own machines.
        figment = figment.admerge(Toml::string(places.last_text()));
    }
    figment = figment.merge(variables);
    for (key, value) in flags {
        figment = figment.merge(Serialized::default(key, value));
    }
    let mut value: Value = figment.extract().map_err(|error| places.fault(&error))?;
    dates_as_text(&mut value);
    let (mut doubtful, mut faults): (Vec<_>, Vec<_>) = places.set_twice().into_iter().unzip();
    let mut unknown: Vec<Vec<String>> = Vec::new();
    let config: Config = loop {
        unknown.clear();
        let ignored =
            |path: serde_ignored::Path<'_>| unknown.push(path.to_string().split('.').map(Into::into).collect());
        match serde_ignored::deserialize(&value, ignored) {
            Ok(config) => break config,
            // Extraction stops at the first wrong value. It is repeated without this value.
            Err(error) => {
                let error: figment::Error = error;
                let text = texts.remove(&error.path.join("."));
                if text
                    .and_then(|text| of_variable(&error.kind, text))
                    .is_some_and(|meant| put(&mut value, &error.path, meant))
                {
                    continue;
                }
                faults.extend(places.fault(&error).0);
                if !take_out(&mut value, &error.path) {
                    return Err(Faults(faults));
                }
                doubtful.push(error.path);
            }
        }
    };
    unknown.sort_by_key(|path| places.order(&path.iter().map(String::as_str).collect::<Vec<_>>()));
    for path in unknown {
        let (fault, meant) = places.unknown(&path);
        faults.push(fault);
        doubtful.push(path);
        doubtful.extend(meant.map(|key| vec![key]));
    }
    let own = folder(file);
    for (index, pattern) in config.include.iter().enumerate().filter(|(_, pattern)| !finding.contains(*pattern)) {
        let mut folders = Path::new(pattern).ancestors().skip(1);
        let plain = folders.find(|folder| !folder.to_string_lossy().contains(WILDCARDS)).map(|folder| own.join(folder));
        if let Some(folder) = plain.filter(|folder| !folder.is_dir()) {
            let message = format!(
                "{pattern:?} includes no file: there is no folder {}: create it, or remove the pattern from `include`",
                folder.display()
            );
            places.notes.push(Fault { place: places.of(&["include", &index.to_string()]), message });
        }
    }
    let patterns = config.include.iter().map(|pattern| within(&own, pattern)).collect();
    Ok(Loaded { config, places, patterns, finding, faults, doubtful, only: None })
}

impl Loaded {
    /// Whether a fault of this key may only follow from one that is already reported. A rule or a profile counts as one
    /// unit.
    pub(super) fn is_doubtful(&self, path: &[&str]) -> bool {
        self.doubtful.iter().any(|doubtful| match (doubtful.as_slice(), path) {
            ([section, one, ..], [of, this, ..]) if section == of && ["machines", "profiles"].contains(of) => {
                one == this
            }
            (doubtful, path) => doubtful.len() <= path.len() && doubtful.iter().zip(path).all(|(a, b)| a == b),
        })
    }
}

/// The value that a variable of the environment has for a key of this type, where its text looks like one of another type:
/// `0` and `1.5` are texts where a text is wanted, and one text is a list of one.
fn of_variable(wrong: &Kind, text: String) -> Option<Value> {
    let Kind::InvalidType(found, wanted) = wrong else { return None };
    match wanted.as_str() {
        "a string" | "path string" => Some(Value::from(text)),
        "a sequence" if !matches!(found, Actual::Seq | Actual::Map) && !text.contains([',', '[']) => {
            Some(Value::from(Some(text).filter(|text| !text.is_empty()).into_iter().collect::<Vec<_>>()))
        }
        _ => None,
    }
}

/// Replaces the value of a key of tables. Returns whether it existed.
fn put(value: &mut Value, path: &[String], new: Value) -> bool {
    let key = path.iter().try_fold(value, |value, part| match value {
        Value::Dict(_, keys) => keys.get_mut(part),
        _ => None,
    });
    key.map(|key| *key = new).is_some()
}

/// Removes the innermost key of a path. Returns whether it existed.
fn take_out(value: &mut Value, path: &[String]) -> bool {
    let [first, rest @ ..] = path else { return false };
    match value {
        Value::Dict(_, keys) => {
            keys.get_mut(first).is_some_and(|inner| take_out(inner, rest)) || keys.remove(first).is_some()
        }
        Value::Array(_, values) => {
            let inner = first.parse::<usize>().ok().and_then(|index| values.get_mut(index));
            inner.is_some_and(|inner| take_out(inner, rest))
        }
        _ => false,
    }
}

/// TOML's dates and times without quotes are the text that they are: there is no key of another kind for them.
fn dates_as_text(value: &mut Value) {
    let mut text = None;
    match value {
        Value::Dict(_, keys) => match keys.get(DATE) {
            Some(date) if keys.len() == 1 => text = date.as_str().map(str::to_owned),
            _ => keys.values_mut().for_each(dates_as_text),
        },
        Value::Array(_, values) => values.iter_mut().for_each(dates_as_text),
        _ => {}
    }
    if let Some(text) = text {
        *value = Value::String(value.tag(), text);
    }
}

/// As the TOML reader hands a date on to serde.
const DATE: &str = "$__toml_private_datetime";

/// The prefix of environment variables: `NETBOOTD_HTTP__PORT` is `http.port`. `NETBOOTD_LOG` is the log filter.
const PREFIX: &str = "NETBOOTD_";

/// The variables of this process. One that is not UTF-8 is none of ours, or has a value that no key can have.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// The folder that the patterns of `include` are relative to.
fn folder(file: Option<&Path>) -> PathBuf {
    let folder = file.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// A pattern of `include` within a folder, whose own name is none: it may have brackets.
fn within(folder: &Path, pattern: &str) -> PathBuf {
    Path::new(&glob::Pattern::escape(&folder.to_string_lossy())).join(pattern)
}

/// The files that match the patterns of `include`, relative to the configuration's folder, each once and sorted; and the
/// patterns that find files.
fn included(
    file: Option<&Path>,
    figment: &Figment,
    texts: &BTreeMap<String, String>,
    places: &Places,
) -> Result<(Vec<PathBuf>, BTreeSet<String>), Faults> {
    let patterns: Vec<String> = match figment.extract_inner("include") {
        Ok(patterns) => patterns,
        // What is wrong with it is said later, together with everything else; one text is a list of one.
        Err(_) => texts.get("include").filter(|text| !text.contains([',', '['])).cloned().into_iter().collect(),
    };
    let folder = folder(file);
    // `*.toml` is also the configuration itself, whose rules would all be there twice.
    let mut known: BTreeSet<PathBuf> = file.and_then(|file| file.canonicalize().ok()).into_iter().collect();
    let (mut paths, mut finding) = (BTreeSet::new(), BTreeSet::new());
    for (index, pattern) in patterns.iter().enumerate() {
        let fault = |problem: String| {
            let place = places.of(&["include", &index.to_string()]);
            Faults(vec![Fault { place, message: format!("{pattern:?} cannot be included: {problem}") }])
        };
        // Hidden files are an editor's: Emacs locks a file by a link `.#NAME` that leads nowhere.
        let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
        let found = glob::glob_with(&within(&folder, pattern).to_string_lossy(), options);
        let found = found.map_err(|error| fault(error.to_string()))?;
        let reason = |error: GlobError| permission::denied(error.path()).unwrap_or_else(|| error.to_string());
        let mut found = found.collect::<Result<Vec<_>, _>>().map_err(|error| fault(reason(error)))?;
        // A pattern may find nothing; a name may not.
        let path = folder.join(pattern);
        if found.is_empty() && !pattern.contains(WILDCARDS) {
            if !path.exists() {
                let what = path.display();
                return Err(fault(format!("there is no file {what}: create it, or remove it from `include`")));
            }
            found.push(path);
        }
        // Two ways to one file, such as a link to it, are one file.
        let is_new = |path: &PathBuf| path.canonicalize().map_or(true, |real| known.insert(real));
        let is_own = |path: &PathBuf| file.is_some_and(|file| path.canonicalize().ok() == file.canonicalize().ok());
        if !found.iter().all(is_own) {
            finding.insert(pattern.clone());
        }
        paths.extend(found.into_iter().filter(is_new));
    }
    Ok((paths.into_iter().collect(), finding))
}

const WILDCARDS: [char; 3] = ['*', '?', '['];

impl Places {
    fn fault(&self, error: &figment::Error) -> Faults {
        let faults = error.clone().into_iter().map(|error| {
            let path: Vec<&str> = error.path.iter().map(String::as_str).collect();
            let words = match &error.kind {
                Kind::UnknownVariant(name, there) => {
                    let meant = meant(name, there.iter().copied());
                    format!("unknown value {name:?}{meant}; possible are: {}", there.join(", "))
                }
                Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
                    let fix = match (path.as_slice(), found) {
                        (["machines"], Actual::Map) => ": write [[machines]], once for each machine",
                        _ => "",
                    };
                    let found = if is_secret(&path) { type_words(found).into() } else { found_words(found) };
                    let is_variable = self.environment.contains_key(&path.join("."));
                    let example = if is_variable && wanted == "a sequence" { " such as [\"a\", \"b\"]" } else { "" };
                    format!("expected {}{example}, not {found}{fix}", in_words(wanted))
                }
                kind => kind.to_string(),
            };
            // The place already shows which rule it is.
            let key = path.strip_prefix(&["machines"]).and_then(|of| of.get(1..)).unwrap_or(&path).join(".");
            Fault { place: self.of(&path), message: format!("{key}: {words}") }
        });
        Faults(faults.collect())
    }

    /// The fault, and the top-level key that was probably meant.
    fn unknown(&self, path: &[String]) -> (Fault, Option<String>) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let (key, parents) = path.split_last().unwrap_or((&"", &[]));
        let known = known_keys(parents);
        let meant = meant(key, known.iter().map(String::as_str));
        let section = match parents {
            [] => "at the top level".into(),
            ["machines", _, rest @ ..] => format!("in [{}]", [&["[machines]"], rest].concat().join(".")),
            parents => format!("in [{}]", parents.join(".")),
        };
        let is_meant = |known: &&String| parents.is_empty() && meant.contains(&format!("{known:?}"));
        let top = known.iter().find(is_meant).cloned();
        // TOML counts what stands below a section's head to the section.
        let is_misplaced = meant.is_empty() && !parents.is_empty() && known_keys(&[]).iter().any(|known| known == key);
        let meant = if is_misplaced { " (write it above the first section)".into() } else { meant };
        let message = format!("unknown key {key:?}{meant}; known keys {section}: {}", known.join(", "));
        (Fault { place: self.of(&path), message }, top)
    }
}

/// The name of a serde type for users.
fn in_words(wanted: &str) -> String {
    let words = match wanted {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "usize" => "a whole number from 0 on",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text",
        "a sequence" => "a list",
        "enum DhcpSocket" => return words_of::<DhcpSocket>(),
        "enum Answer" => return words_of::<Answer>(),
        "enum LeaseClients" => return words_of::<LeaseClients>(),
        wanted if wanted == "a map" || wanted.starts_with("struct ") => "a table",
        wanted => wanted,
    };
    words.into()
}

/// The words that an enum is written with: serde names them where it is given none of them.
fn words_of<T: for<'a> Deserialize<'a>>() -> String {
    let refused = T::deserialize(StrDeserializer::<figment::Error>::new("")).err().map(|error| error.kind);
    let Some(Kind::UnknownVariant(_, words)) = refused else { return "a text".into() };
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("one of {}", words.join(", "))
}

/// Whether a value may be, or hold, a password.
fn is_secret(path: &[&str]) -> bool {
    let is_secret = |part: &&str| *part == "token" || *part == "vars" || part.contains("password");
    path.iter().any(is_secret) || path == ["state", "url"]
}

/// A value without what it says.
fn type_words(found: &Actual) -> &'static str {
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Str(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "another value",
    }
}

fn found_words(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) => format!("{value:?}"),
        Actual::Seq => "a list".into(),
        Actual::Map => "a table".into(),
        other => other.to_string(),
    }
}

/// The keys of a section, taken from the schema.
fn known_keys(section: &[&str]) -> Vec<String> {
    let (sample, rest) = match section {
        ["profiles", _, "arch", _, rest @ ..] | ["profiles", _, rest @ ..] => {
            (serde_json::to_value(Profile::default()), rest)
        }
        ["machines", _, rest @ ..] => (serde_json::to_value(Machine::default()), rest),
        rest => (serde_json::to_value(Config::default()), rest),
    };
    let mut value = sample.unwrap_or_default();
    for part in rest {
        value = value.get_mut(part).map(serde_json::Value::take).unwrap_or_default();
    }
    value.as_object().map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
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
            .and_then(|loaded| if loaded.faults.is_empty() { Ok(loaded.config) } else { Err(Faults(loaded.faults)) })
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
    fn every_unknown_key_is_reported_with_its_place_and_the_known_keys() {
        let text = "asets = \"/x\"\n\n[http]\n  prot = 80\n\n[profiles.debian]\nkernel = \"k\"\ninitrds = []\n\
                    [[machines]]\nmac = \"52:54:00:12:34:56\"\n[[machines]]\nprofil = \"x\"\n[machines.override]\nlocal = 1\n";
        assert_eq!(
            loaded(text, &[("NETBOOTD_HTTPS__PORT", "2")], &[]),
            Err("n.toml:1:1: unknown key \"asets\" (did you mean \"assets\"?); known keys at the top level: assets, control, default_profile, dhcp, http, include, interfaces, isos, lease, loader_dirs, machines, menu, profiles, state, syslog, templates, tftp\n\
                 n.toml:4:3: unknown key \"prot\" (did you mean \"port\"?); known keys in [http]: answers_expire, answers_open, base_url, grace, keepalive, listing, max_connections, max_connections_per_client, port, rate_limit, trusted_proxies\n\
                 n.toml:8:1: unknown key \"initrds\" (did you mean \"initrd\"?); known keys in [profiles.debian]: answers, arch, cmdline, disk, efi, fdt, fdtdir, initrd, iso, kernel, report_within, sanboot, script, shim, title\n\
                 n.toml:12:1: unknown key \"profil\" (did you mean \"profile\"?); known keys in [[machines]]: address, arch, asset, interface, mac, manufacturer, menu, name, once, once_tries, oui, override, product, profile, reply_delay, serial, uuid, vars\n\
                 n.toml:14:1: unknown key \"local\" (did you mean \"local_boot\"?); known keys in [[machines].override]: loader, local_boot\n\
                 environment NETBOOTD_HTTPS__PORT: unknown key \"https\" (did you mean \"http\"?); known keys at the top level: assets, control, default_profile, dhcp, http, include, interfaces, isos, lease, loader_dirs, machines, menu, profiles, state, syslog, templates, tftp"
                .into())
        );
    }

    #[test]
    fn a_wrong_type_and_a_syntax_error_have_a_place() {
        assert_eq!(
            loaded("[http]\nport = \"many\"\n", &[], &[]),
            Err("n.toml:2:1: http.port: expected a whole number from 0 to 65535, not \"many\"".into())
        );
        let syntax = loaded("[http]\nport = \n", &[], &[]).expect_err("no value");
        assert!(syntax.starts_with("n.toml:2:8: "), "{syntax}");
        let socket = loaded("[dhcp]\nanswer = true\nsocket = 1\n[lease]\nclients = 2\n", &[], &[]);
        assert_eq!(
            socket,
            Err("n.toml:2:1: dhcp.answer: expected one of \"all\", \"known\", not true\n\
                 n.toml:3:1: dhcp.socket: expected one of \"auto\", \"bind\", \"capture\", not 1\n\
                 n.toml:5:1: lease.clients: expected one of \"boot\", \"all\", not 2"
                .into())
        );
        let missing = load(Some(Path::new("/nowhere/n.toml")), [], &[]).expect_err("no file");
        assert!(missing.to_string().starts_with("/nowhere/n.toml: cannot be read: No such file"), "{missing}");
    }

    #[test]
    fn a_variable_is_read_as_its_key_wants_it_and_no_secret_is_shown() {
        let set = |key: &str, text: &str| loaded("", &[(key, text)], &[]);
        assert_eq!(set("NETBOOTD_HTTP__RATE_LIMIT", "0").map(|config| config.http.rate_limit), Ok("0".into()));
        let token = |text: &str| set("NETBOOTD_CONTROL__TOKEN", text).map(|config| config.control.token);
        for secret in ["0123456789012345", "1234.50", "true", "[123456789012345]"] {
            assert_eq!(token(secret), Ok(Some(secret.into())));
        }
        assert_eq!(set("NETBOOTD_ASSETS", "7").map(|config| config.assets), Ok(Some("7".into())));
        let interfaces = |text: &str| set("NETBOOTD_INTERFACES", text).map(|config| config.interfaces);
        assert_eq!(interfaces("lo"), Ok(vec!["lo".into()]));
        assert_eq!((interfaces("0"), interfaces("")), (Ok(vec!["0".into()]), Ok(Vec::new())));
        assert_eq!(interfaces("[\"lo\", eth0]"), Ok(vec!["lo".into(), "eth0".into()]));
        let words =
            "environment NETBOOTD_INTERFACES: interfaces: expected a list such as [\"a\", \"b\"], not \"lo,eth0\"";
        assert_eq!(interfaces("lo,eth0"), Err(words.into()));
        let port = set("NETBOOTD_HTTP__PORT", "many").map(|_| ());
        let words = "http.port: expected a whole number from 0 to 65535, not \"many\"";
        assert_eq!(port, Err(format!("environment NETBOOTD_HTTP__PORT: {words}")));

        let shown =
            loaded("[control]\ntoken = 1234567890123456\n[state]\nurl = [\"postgres://u:secret@db\"]\n", &[], &[]);
        assert_eq!(
            shown,
            Err("n.toml:2:1: control.token: expected a text, not a number\n\
                 n.toml:4:1: state.url: expected a text, not a list"
                .into())
        );
    }

    #[test]
    fn a_file_that_is_no_utf_8_has_a_place_and_a_name_without_a_file_is_a_fault() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("n.toml");
        let said = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            let loaded = load(Some(&path), [], &[]).map(|loaded| loaded.faults);
            loaded.map_err(|faults| faults.to_string().replace(&scratch.path().display().to_string(), "SRV"))
        };
        let words = "the byte 0xE4 is not UTF-8 (is the file in Latin-1?): save the file as UTF-8";
        assert_eq!(said(b"# \xc3\xa4\n# \xc3\xa4 \xe4\n"), Err(format!("SRV/n.toml:2:5: {words}")));
        let words = "is UTF-16, as Windows' editors may write it: save it as UTF-8";
        assert_eq!(said(b"\xff\xfea\0"), Err(format!("SRV/n.toml: {words}")));
        let words =
            "\"x/no.toml\" cannot be included: there is no file SRV/x/no.toml: create it, or remove it from `include`";
        assert_eq!(said(b"include = [\n\"*.d/*.toml\",\n\"x/no.toml\"]\n"), Err(format!("SRV/n.toml:3:1: {words}")));
        std::os::unix::fs::symlink("user@host.1", scratch.path().join(".#d.toml")).expect("made");
        assert_eq!(said(b"include = [\"*d.toml\"]\n"), Ok(Vec::new()), "it is hidden");
        std::fs::create_dir(scratch.path().join("d.toml")).expect("made");
        let words = "cannot be read: it is a folder: name the files in it, such as \"machines.d/*.toml\"";
        assert_eq!(said(b"include = [\"d*\"]\n"), Err(format!("SRV/d.toml: {words}")));
        assert_eq!(said(b"include = [\"no*\", \"n.toml\"]\n"), Ok(Vec::new()));
    }

    #[test]
    fn a_variable_names_included_files_and_a_folder_may_have_brackets() {
        let scratch = tempfile::tempdir().expect("a folder");
        let at = |name: &str| scratch.path().join(name);
        std::fs::create_dir_all(at("my [lab]/d")).expect("made");
        std::fs::write(at("my [lab]/n.toml"), "include = [\"no/*.toml\"]\n").expect("written");
        let rule = "[[machines]]\nmac = \"52:54:00:12:34:56\"\nmenu = 1\n";
        std::fs::write(at("my [lab]/d/a.toml"), rule).expect("written");
        let of = |environment: &[(&str, &str)]| {
            let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let loaded = load(Some(&at("my [lab]/n.toml")), environment, &[]).expect("read");
            let places = loaded.faults.iter().map(|fault| fault.place.replace(scratch.path().to_str().unwrap(), "SRV"));
            (places.collect::<Vec<_>>(), loaded.patterns)
        };
        let found = vec!["SRV/my [lab]/d/a.toml:3:1".to_owned()];
        for text in ["[\"d/*.toml\"]", "d/*.toml", "[\"d/*.toml\", \"d/a.toml\", \"d/link.toml\"]"] {
            let _ = std::os::unix::fs::symlink("a.toml", at("my [lab]/d/link.toml"));
            let (places, patterns) = of(&[("NETBOOTD_INCLUDE", text)]);
            assert_eq!(places, found, "{text}");
            let pattern = glob::Pattern::new(&patterns[0].to_string_lossy()).expect("a pattern");
            assert!(pattern.matches_path(&at("my [lab]/d/b.toml")), "it is watched: {pattern}");
        }
        assert_eq!(of(&[]).0, Vec::<String>::new());
        let (places, _) = of(&[("NETBOOTD_MACHINES", "[{menu=1}]"), ("NETBOOTD_HTTP", "{port=\"x\"}")]);
        assert_eq!(places, ["environment NETBOOTD_HTTP", "environment NETBOOTD_MACHINES"], "what it sets is its own");
    }

    #[test]
    fn dates_without_quotes_are_text() {
        let text = "[profiles.x]\nkernel = \"k\"\ntitle = 2026-11-26\n[[machines]]\nmac = \"52:54:00:12:34:56\"\n\
                    vars = { day = 1979-05-27, at = 07:32:00, all = [1979-05-27T07:32:00Z] }\n";
        let config = loaded(text, &[], &[]).expect("good");
        assert_eq!(config.profiles["x"].title.as_deref(), Some("2026-11-26"));
        let vars = serde_json::to_value(&config.machines[0].vars).expect("JSON");
        let wanted = serde_json::json!({ "day": "1979-05-27", "at": "07:32:00", "all": ["1979-05-27T07:32:00Z"] });
        assert_eq!(vars, wanted);
    }

    #[test]
    fn files_of_machines_are_included_and_their_faults_have_their_places() {
        let scratch = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| {
            let path = scratch.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(&path, text).expect("written");
            path
        };
        let main = "include = [\"machines.d/*.toml\"]\n[[machines]]\nname = \"a\"\n";
        let path = put("n.toml", main);
        put("machines.d/20.toml", "\n[[machines]]\nname = \"c\"\n[[machines]]\nname = \"d\"\n");
        put("machines.d/10.toml", "[profiles.p]\nkernel = \"k\"\n[[machines]]\nname = \"b\"\n");
        put("machines.d/other.txt", "no TOML");
        let loaded = |path: &Path| load(Some(path), [], &[]);
        let relayed = |prefix: &str| format!("[[lease.relayed]]\nprefix = \"{prefix}\"\n");
        let good = loaded(&path).expect("good");
        let names: Vec<&str> = good.config.machines.iter().filter_map(|machine| machine.name.as_deref()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert!(good.config.profiles.contains_key("p"));
        let place = |path: &[&str]| good.places.of(path).replace(&format!("{}/", scratch.path().display()), "");
        assert_eq!(place(&["machines", "0", "name"]), "n.toml:3:1");
        assert_eq!(place(&["machines", "1", "name"]), "machines.d/10.toml:4:1");
        assert_eq!(place(&["machines", "3", "name"]), "machines.d/20.toml:5:1");
        let all = put("all.toml", &main.replace("machines.d/*", "*"));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(loaded(&all).expect("good").config.machines.len(), 1, "it does not include itself");
        put(
            "machines.d/20.toml",
            &format!("http.port = 9\n[profiles.q]\nkernel = \"k\"\n{}", relayed("198.51.100.0/24")),
        );
        let profile = "[profiles.r]\nkernel = \"k\"\n";
        put("n.toml", &format!("http.base_url = \"http://a\"\n{main}{profile}{}", relayed("203.0.113.0/24")));
        let parts = loaded(&path).expect("good");
        assert_eq!(Faults(parts.faults).to_string(), "", "each has settings and profiles of its own");
        assert_eq!((parts.config.http.port, parts.config.profiles.len()), (9, 3));
        assert_eq!(parts.config.lease.relayed.len(), 2, "a list of tables is one of all files");
        put("n.toml", main);
        put("machines.d/20.toml", "[[machines]]\nnmae = \"c\"\n");
        let fault = Faults(loaded(&path).expect("read").faults).to_string();
        assert!(fault.contains("machines.d/20.toml:2:1: unknown key \"nmae\" (did you mean \"name\"?);"), "{fault}");
    }
}
