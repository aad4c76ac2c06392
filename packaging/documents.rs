//! Writes what packages carry beside the program, into the folder that is named: man pages and completions, from the
//! same definitions as the command line; the configuration and the pages, as they are installed; what the program is made of, with the licences.

mod fish;
mod pages;
mod reference;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use serde_json::{Value, json};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("a folder is to be named")?);
    fs::create_dir_all(&folder)?;
    let command = netbootd::cli::Arguments::command();
    clap_mangen::generate_to(command.clone(), &folder)?;
    for page in ["netbootd.1", "netbootd-up.1"] {
        let page = folder.join(page);
        let text = fs::read_to_string(&page)?;
        fs::write(page, text + MORE)?;
    }
    let schema = serde_json::from_str(include_str!("netbootd.schema.json"))?;
    fs::write(folder.join("netbootd.toml.5"), reference::page(&schema)?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let file = generate_to(shell, &mut command.clone(), "netbootd", &folder)?;
        if shell == Shell::Fish {
            fs::write(&file, fs::read_to_string(&file)? + &fish::arguments(&command))?;
        }
    }
    fs::write(folder.join("netbootd.toml"), configuration()?)?;
    write_pages(&folder.join("pages"))?;
    let linked = linked()?;
    fs::write(folder.join("THIRD-PARTY"), third_party(&linked)?)?;
    fs::write(folder.join("netbootd.cdx.json"), format!("{:#}\n", bill_of_materials(&linked)?))?;
    Ok(())
}

/// What no definition of the command line says. Options come from there, and are not repeated.
const MORE: &str = r"
.SH SIGNALS
.TP
SIGHUP
Reads the configuration again, which a change of its files does too. If its terminal was closed, netbootd ends.
.TP
SIGTERM, SIGINT
Lets running transfers come to their end, for http.grace; a second one ends it at once.
.SH ENVIRONMENT
.TP
NETBOOTD_LOG
What is logged: a level (debug), or a level for a part of the program (netbootd::dhcp=debug).
.TP
NETBOOTD_SECTION__KEY
Sets a key of the configuration, for example NETBOOTD_HTTP__PORT=8081. It overrides the file, and a flag overrides it.
.SH FILES
.TP
/etc/netbootd/netbootd.toml
The configuration; every key is in it, with its meaning.
.TP
/var/lib/netbootd/assets
What is served where the configuration names no other folder.
.TP
/var/lib/netbootd/state.db
What outlives a restart.
.TP
/run/netbootd/control.sock
For netbootd assign, unassign and machines.
.TP
/usr/share/netbootd
The configuration's JSON Schema, and templates of answer files.
.TP
/usr/share/doc/netbootd
The pages of the documentation, such as README.md, and secure-boot.md, which messages name.
.SH EXIT STATUS
Those of sysexits(3): 64 usage, 69 something is not there or taken, 71 the operating system, 77 no permission, 78 the configuration.
.SH SEE ALSO
netbootd.toml(5), dnsmasq(8), systemctl(1)
";

/// The pages of the documentation, in one folder.
fn write_pages(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(sources.join("packaging/docs"))?.map(|entry| entry.map(|entry| entry.path()));
    let mut pages = docs.collect::<Result<Vec<_>, _>>()?;
    pages.retain(|page| page.extension().is_some_and(|ending| ending == "md"));
    pages.extend(["README.md", "SECURITY.md"].map(|page| sources.join(page)));
    for page in pages {
        let name = page.file_name().context("a page without a name")?;
        fs::write(folder.join(name), pages::installed(&fs::read_to_string(&page)?))?;
    }
    Ok(())
}

/// What it names beside itself is elsewhere when it is installed.
fn configuration() -> Result<String> {
    let mut text = include_str!("netbootd.toml").to_owned();
    for (here, there) in [
        ("./netbootd.schema.json", "file:///usr/share/netbootd/netbootd.schema.json"),
        ("packaging/templates", "/usr/share/netbootd/templates"),
    ] {
        ensure!(text.contains(here), "the configuration does not name {here}");
        text = text.replace(here, there);
    }
    Ok(text)
}

/// Each crate that is linked, with its licence; then each text, with those that come under it.
fn third_party(linked: &[Crate]) -> Result<String> {
    let mut list = String::from(
        "netbootd is made of these too:\n\n\
         Rust's standard library: MIT OR Apache-2.0 (https://github.com/rust-lang/rust)\n\
         SQLite, in libsqlite3-sys: public domain (https://sqlite.org)\n\
         the GNU C library, linked in: LGPL-2.1-or-later (https://sourceware.org/glibc); with netbootd's sources it can be\n\
         linked against another one\n",
    );
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for each in linked {
        let name = format!("{} {}", each.name, each.version);
        list.push_str(&format!("{name}: {} ({})\n", each.licence, each.repository));
        for text in licences(&each.manifest)? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    for (text, names) in &texts {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        list.push_str(&format!("\n{}\n{}\n\n{}\n", "-".repeat(78), names.join(", "), text.trim_end()));
    }
    Ok(list)
}

/// The texts that lie beside a crate's manifest.
fn licences(manifest: &Path) -> Result<Vec<String>> {
    let folder = manifest.parent().context("no folder")?;
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
        let is_one = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"].iter().any(|word| name.starts_with(word));
        if is_one && path.is_file() {
            texts.push(fs::read_to_string(path)?.replace("\r\n", "\n"));
        }
    }
    texts.sort();
    Ok(texts)
}

/// The same crates for programs that look for known holes (CycloneDX 1.5).
fn bill_of_materials(linked: &[Crate]) -> Result<Value> {
    let lock: toml_edit::DocumentMut = include_str!("../Cargo.lock").parse()?;
    let locked = lock.get("package").and_then(toml_edit::Item::as_array_of_tables).context("no packages")?;
    let hash = |each: &Crate| {
        let text = |table: &toml_edit::Table, key: &str| table.get(key)?.as_str().map(str::to_owned);
        let is_it = |table: &&toml_edit::Table| {
            text(table, "name").as_ref() == Some(&each.name) && text(table, "version").as_ref() == Some(&each.version)
        };
        text(locked.iter().find(is_it)?, "checksum")
    };
    let component = |each: &Crate| {
        let purl = format!("pkg:cargo/{}@{}", each.name, each.version);
        Ok(json!({
            "type": "library",
            "bom-ref": purl,
            "name": each.name,
            "version": each.version,
            "purl": purl,
            "licenses": [{ "expression": each.licence.replace('/', " OR ") }],
            "hashes": [{ "alg": "SHA-256", "content": hash(each).with_context(|| format!("{purl} is not locked"))? }],
        }))
    };
    let version = env!("CARGO_PKG_VERSION");
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "application", "name": "netbootd", "version": version } },
        "components": linked.iter().map(component).collect::<Result<Vec<Value>>>()?,
    }))
}

/// What is linked.
struct Crate {
    name: String,
    version: String,
    licence: String,
    repository: String,
    manifest: PathBuf,
}

/// Every crate in the program, but not those that only build it.
fn linked() -> Result<Vec<Crate>> {
    let tree = cargo(&["tree", "--package=netbootd", "--edges=normal", "--prefix=none", "--format={p}"])?;
    let packages = tree.lines().filter_map(|line| line.split_once(" v"));
    let wanted: BTreeSet<(&str, &str)> =
        packages.filter_map(|(name, rest)| Some((name, rest.split_whitespace().next()?))).collect();
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version=1"])?)?;
    let all = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    let crates = all.iter().map(|package| {
        let field = |name: &str| package.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let manifest = field("manifest_path").into();
        let (licence, repository) = (field("license"), field("repository"));
        Crate { name: field("name"), version: field("version"), licence, repository, manifest }
    });
    let is_linked =
        |each: &Crate| wanted.contains(&(each.name.as_str(), each.version.as_str())) && each.name != "netbootd";
    Ok(crates.filter(is_linked).collect())
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).arg("--locked").output()?;
    ensure!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
