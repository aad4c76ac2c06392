//! Defaults < file < environment < command line, with every unknown key and its place.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    providers::{Format, Serialized, Toml},
    value::Value,
};

use super::{
    Fault, Faults,
    places::Places,
    schema::{Config, Machine, Profile},
};

/// A configuration before it is resolved, and where its values stand.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Their places.
    pub places: Places,
    /// The folders that its files are in, or would be.
    pub folders: Vec<PathBuf>,
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
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = file {
        places.read(path)?;
        figment = figment.merge(Toml::string(places.text_of(0)));
        for (number, path) in included(path, &figment, &places)?.iter().enumerate() {
            places.read(path)?;
            // Lists are joined: each file has machines of its own.
            figment = figment.admerge(Toml::string(places.text_of(number + 1)));
        }
    }
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
        let folders = file.map(|file| folders(file, &config.include)).unwrap_or_default();
        return Ok(Loaded { config, places, folders });
    }
    unknown.sort_by_key(|path| places.order(&path.iter().map(String::as_str).collect::<Vec<_>>()));
    Err(Faults(unknown.iter().map(|path| places.unknown(path)).collect()))
}

/// Of environment variables: `NETBOOTD_HTTP__PORT` is `http.port`. `NETBOOTD_LOG` is the log filter's.
const PREFIX: &str = "NETBOOTD_";

fn folder(file: &Path) -> PathBuf {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn folders(file: &Path, patterns: &[String]) -> Vec<PathBuf> {
    let own = folder(file);
    let included = patterns.iter().map(|pattern| folder(&own.join(pattern))).filter(|folder| folder.is_dir());
    let all: BTreeSet<PathBuf> = included.chain([own.clone()]).collect();
    all.into_iter().collect()
}

/// The files that the patterns of `include` name, relative to the configuration's folder, each once and in order.
fn included(file: &Path, figment: &Figment, places: &Places) -> Result<Vec<PathBuf>, Faults> {
    let patterns: Vec<String> = figment.extract_inner("include").map_err(|error| places.fault(&error))?;
    let folder = folder(file);
    let mut paths = BTreeSet::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let fault = |problem: String| {
            let place = places.of(&["include", &index.to_string()]);
            Faults(vec![Fault { place, message: format!("{pattern:?} cannot be included: {problem}") }])
        };
        let found = glob::glob(&folder.join(pattern).to_string_lossy()).map_err(|error| fault(error.to_string()))?;
        for path in found {
            paths.insert(path.map_err(|error| fault(error.to_string()))?);
        }
    }
    Ok(paths.into_iter().collect())
}

impl Places {
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
        let known = known_keys(parents);
        let near =
            known.iter().map(|there| (strsim::jaro_winkler(key, there), there)).max_by(|a, b| a.0.total_cmp(&b.0));
        let meant = near.filter(|(likeness, _)| *likeness > 0.85).map(|(_, there)| format!(" (is it {there:?}?)"));
        let (known, meant) = (known.join(", "), meant.unwrap_or_default());
        let section = match parents {
            [] => "at the top".into(),
            ["machines", _, rest @ ..] => format!("in [{}]", [&["[machines]"], rest].concat().join(".")),
            parents => format!("in [{}]", parents.join(".")),
        };
        Fault { place: self.of(&path), message: format!("unknown key {key:?}{meant}; {section} there are: {known}") }
    }
}

/// The keys of a section, taken from the schema itself.
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
        let text = "asets = \"/x\"\n\n[http]\n  prot = 80\n\n[profiles.debian]\nkernel = \"k\"\ninitrds = []\n\
                    [[machines]]\nmac = \"52:54:00:12:34:56\"\n[[machines]]\nprofil = \"x\"\n[machines.override]\nlocal = 1\n";
        assert_eq!(
            loaded(text, &[("NETBOOTD_HTTPS__PORT", "2")], &[]),
            Err("n.toml:1:1: unknown key \"asets\" (is it \"assets\"?); at the top there are: assets, control, default_profile, dhcp, http, include, interfaces, loader_dirs, machines, menu, profiles, state, templates, tftp\n\
                 n.toml:4:3: unknown key \"prot\" (is it \"port\"?); in [http] there are: answers_expire, answers_open, base_url, grace, keepalive, listing, max_connections, max_connections_per_client, port, rate_limit\n\
                 n.toml:8:1: unknown key \"initrds\" (is it \"initrd\"?); in [profiles.debian] there are: arch, cmdline, disk, efi, initrd, iso, kernel, script, title\n\
                 n.toml:12:1: unknown key \"profil\" (is it \"profile\"?); in [[machines]] there are: arch, mac, menu, name, once, oui, override, profile, serial, uuid, vars\n\
                 n.toml:14:1: unknown key \"local\" (is it \"local_boot\"?); in [[machines].override] there are: loader, local_boot\n\
                 environment NETBOOTD_HTTPS__PORT: unknown key \"https\" (is it \"http\"?); at the top there are: assets, control, default_profile, dhcp, http, include, interfaces, loader_dirs, machines, menu, profiles, state, templates, tftp"
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
        let good = loaded(&path).expect("good");
        let names: Vec<&str> = good.config.machines.iter().filter_map(|machine| machine.name.as_deref()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert!(good.config.profiles.contains_key("p"));
        let place = |path: &[&str]| good.places.of(path).replace(&format!("{}/", scratch.path().display()), "");
        assert_eq!(place(&["machines", "0", "name"]), "n.toml:3:1");
        assert_eq!(place(&["machines", "1", "name"]), "machines.d/10.toml:4:1");
        assert_eq!(place(&["machines", "3", "name"]), "machines.d/20.toml:5:1");
        put("machines.d/20.toml", "[[machines]]\nnmae = \"c\"\n");
        let fault = loaded(&path).map(|_| ()).expect_err("unknown").to_string();
        assert!(fault.contains("machines.d/20.toml:2:1: unknown key \"nmae\" (is it \"name\"?);"), "{fault}");
    }
}
