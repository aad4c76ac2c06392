//! A configuration as the text of a file: what differs from the defaults.

use std::path::{Path, PathBuf, absolute};

use serde_json::{Map, Value};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table};

use super::schema::{Config, Control, Machine, Profile, State};

/// The text. Paths are made absolute, since the file may be put elsewhere; what was included stands in it.
///
/// # Errors
/// A value that no file can have.
pub fn text(config: &Config) -> Result<String, String> {
    let here = |path: &Path| absolute(path).unwrap_or_else(|_| path.to_owned());
    let all = |paths: &[PathBuf]| paths.iter().map(|path| here(path)).collect();
    let config = Config {
        include: Vec::new(),
        assets: config.assets.as_deref().map(here),
        templates: config.templates.as_deref().map(here),
        loader_dirs: all(&config.loader_dirs),
        state: State {
            url: config.state.url.as_deref().map(absolute_url),
            password_file: config.state.password_file.as_deref().map(here),
            copy: config.state.copy.as_deref().map(here),
            ..config.state.clone()
        },
        control: Control { socket: here(&config.control.socket), ..config.control.clone() },
        ..config.clone()
    };
    let json = |error: serde_json::Error| error.to_string();
    let of = |value: serde_json::Result<Value>| value.map_err(json);
    let mut whole = differences(of(serde_json::to_value(&config))?, &of(serde_json::to_value(Config::default()))?);
    // Tables of their own have defaults of their own.
    let profile = of(serde_json::to_value(Profile::default()))?;
    let machine = of(serde_json::to_value(Machine::default()))?;
    if let Some(Value::Object(profiles)) = whole.get_mut("profiles") {
        profiles.values_mut().for_each(|own| *own = Value::Object(differences(own.take(), &profile)));
    }
    if let Some(Value::Array(machines)) = whole.get_mut("machines") {
        machines.iter_mut().for_each(|own| *own = Value::Object(differences(own.take(), &machine)));
    }
    let mut document = DocumentMut::new();
    fill(document.as_table_mut(), whole);
    Ok(document.to_string())
}

/// The URL of a state file with the whole path of the file; others as they are.
fn absolute_url(url: &str) -> String {
    let file = url.strip_prefix(FILE_URL).filter(|file| !file.is_empty()).and_then(|file| absolute(file).ok());
    file.map_or_else(|| url.to_owned(), |file| format!("{FILE_URL}{}", file.display()))
}

const FILE_URL: &str = "sqlite://";

/// The keys of a table whose values are not the default ones.
fn differences(value: Value, default: &Value) -> Map<String, Value> {
    let Value::Object(keys) = value else { return Map::new() };
    let mut kept = Map::new();
    for (key, value) in keys {
        let default = default.get(&key).unwrap_or(&Value::Null);
        if value == *default {
            continue;
        }
        let value = match (value, default) {
            (value @ Value::Object(_), Value::Object(known)) if !known.is_empty() => {
                Value::Object(differences(value, default))
            }
            (value, _) => value,
        };
        kept.insert(key, value);
    }
    kept
}

/// Plain values first: behind a table's heading, they would be that table's.
fn fill(table: &mut Table, values: Map<String, Value>) {
    let is_table = |value: &Value| match value {
        Value::Object(_) => true,
        Value::Array(all) => !all.is_empty() && all.iter().all(Value::is_object),
        _ => false,
    };
    let (tables, plain): (Vec<_>, Vec<_>) = values.into_iter().partition(|(_, value)| is_table(value));
    for (key, value) in plain {
        if let Some(value) = plain_value(value) {
            table.insert(&key, Item::Value(value));
        }
    }
    for (key, value) in tables {
        match value {
            Value::Object(values) => {
                let mut inner = Table::new();
                // A heading only where there is something below it.
                inner.set_implicit(true);
                fill(&mut inner, values);
                table.insert(&key, Item::Table(inner));
            }
            Value::Array(all) => {
                let mut inner = ArrayOfTables::new();
                for value in all {
                    let mut one = Table::new();
                    if let Value::Object(values) = value {
                        fill(&mut one, values);
                    }
                    inner.push(one);
                }
                table.insert(&key, Item::ArrayOfTables(inner));
            }
            _ => {}
        }
    }
}

/// TOML has no null: such a key is left out.
fn plain_value(value: Value) -> Option<toml_edit::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => value.into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64()?.into(),
        },
        Value::String(text) => text.into(),
        Value::Array(all) => all.into_iter().filter_map(plain_value).collect::<Array>().into(),
        Value::Object(keys) => {
            let keys = keys.into_iter().filter_map(|(key, value)| Some((key, plain_value(value)?)));
            keys.collect::<InlineTable>().into()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use figment::value::Value as Flag;

    use super::*;
    use crate::config::load::load;

    #[test]
    fn what_is_saved_comes_back_the_same() {
        let scratch = tempfile::tempdir().expect("a folder");
        let (first, second) = (scratch.path().join("a.toml"), scratch.path().join("b.toml"));
        let lines = "interfaces = [\"eth1\"]\nassets = \"/srv/netboot\"\ndefault_profile = \"debian\"\n\
            [dhcp]\nanswer = \"known\"\n[http]\nport = 8081\n[http.keepalive]\nidle = \"30s\"\n\
            [profiles.debian]\nkernel = \"debian/vmlinuz\"\ninitrd = [\"debian/initrd.img\"]\n\
            cmdline = \"a=\\\"b c\\\" {{ machine.name }}\"\n[profiles.debian.arch.i386]\nkernel = \"i386/vmlinuz\"\n\
            [profiles.\"a b\"]\nscript = \"x.ipxe\"\n\
            [[machines]]\nname = \"k8s08\"\nmac = [\"52:54:00:12:34:56\"]\nonce = true\nvars = { role = \"worker\", n = 3 }\n\
            [machines.override]\nlocal_boot = \"exit\"\n[[machines]]\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\"\nonce = \"installed\"\n";
        fs::write(&first, lines).expect("written");
        let flags = [("http.port", Flag::from(8082)), ("profiles.command-line.kernel", Flag::from("k"))];
        let loaded = load(Some(&first), [], &flags).expect("loaded");
        assert_eq!(loaded.faults, []);
        let saved = text(&loaded.config).expect("a text");
        fs::write(&second, &saved).expect("written");
        let again = load(Some(&second), [], &[]).expect("loaded");
        assert_eq!((again.faults.as_slice(), &again.config), ([].as_slice(), &loaded.config), "{saved}");
        assert!(!saved.contains("[tftp]") && !saved.contains("null"), "{saved}");
        assert_eq!(text(&Config::default()).as_deref(), Ok(""));
    }

    /// A service has another working folder than the shell that `up --save` was typed in.
    #[test]
    fn every_path_is_saved_whole() {
        let state = State {
            url: Some("sqlite://kept/state.db".into()),
            password_file: Some("password".into()),
            copy: Some("copy.db".into()),
            ..State::default()
        };
        let control = Control { socket: "control.sock".into(), ..Control::default() };
        let config = Config { state, control, assets: Some("assets".into()), ..Config::default() };
        let saved = text(&config).expect("a text");
        let here = std::env::current_dir().expect("a folder").display().to_string();
        for line in [
            format!("assets = \"{here}/assets\""),
            format!("url = \"sqlite://{here}/kept/state.db\""),
            format!("password_file = \"{here}/password\""),
            format!("copy = \"{here}/copy.db\""),
            format!("socket = \"{here}/control.sock\""),
        ] {
            assert!(saved.lines().any(|saved| saved == line), "{line}:\n{saved}");
        }
        let state = State { url: Some("postgres://n@db/n".into()), ..State::default() };
        let saved = text(&Config { state, ..Config::default() }).expect("a text");
        assert_eq!(saved, "[state]\nurl = \"postgres://n@db/n\"\n");
    }
}
