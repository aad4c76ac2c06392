//! The documents say what is true: each configuration in them is checked, each command is read by the program that it names,
//! links lead somewhere, and the README fits a screen.

#[path = "../packaging/pages.rs"]
mod pages;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Parser as _;
use netbootd::cli::Arguments;
use toml_edit::{DocumentMut, Item};

#[test]
fn every_configuration_is_accepted() -> Result<()> {
    let mut count = 0;
    for page in pages()? {
        for block in blocks(&page, "toml")? {
            check(&block).with_context(|| format!("{}:\n{block}", page.display()))?;
            count += 1;
        }
    }
    ensure!(count >= 5, "only {count} configurations were found");
    Ok(())
}

#[test]
fn every_command_is_one() -> Result<()> {
    let mut count = 0;
    for page in pages()? {
        for line in blocks(&page, "sh")?.iter().flat_map(|block| block.lines()) {
            for command in line.split(" #").next().unwrap_or_default().split("&&") {
                let words = shlex::split(command).with_context(|| format!("{}: {line}", page.display()))?;
                let words: Vec<&str> = words.iter().map(String::as_str).skip_while(|word| *word == "sudo").collect();
                is_command(&words).with_context(|| format!("{}: {line}", page.display()))?;
                count += usize::from(!words.is_empty());
            }
        }
    }
    ensure!(count >= 20, "only {count} commands were found");
    Ok(())
}

/// Made of the table that `netbootd what` searches: `BLESS=1 cargo test --test documents` writes it.
#[test]
fn troubleshooting_has_the_whole_table() -> Result<()> {
    let path = root().join("packaging/docs/troubleshooting.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, netbootd::trouble::page())?;
    }
    ensure!(fs::read_to_string(&path)? == netbootd::trouble::page(), "run BLESS=1 cargo test --test documents");
    Ok(())
}

/// The manual says that every key is in it.
#[test]
fn the_configuration_that_is_shipped_names_every_key() -> Result<()> {
    let shipped = fs::read_to_string(root().join("packaging/netbootd.toml"))?;
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = shipped.split(|c: char| !is_of_word(c)).collect();
    let schema = fs::read_to_string(root().join("packaging/netbootd.schema.json"))?;
    let schema: serde_json::Value = serde_json::from_str(&schema)?;
    let tables = schema.get("$defs").and_then(serde_json::Value::as_object).context("no tables")?;
    for table in tables.values().chain([&schema]) {
        let keys = table.get("properties").and_then(serde_json::Value::as_object).into_iter().flatten();
        let missing: Vec<&String> = keys.map(|(key, _)| key).filter(|key| !words.contains(key.as_str())).collect();
        ensure!(missing.is_empty(), "{missing:?}");
    }
    Ok(())
}

#[test]
fn no_link_leads_nowhere() -> Result<()> {
    for page in pages()? {
        let text = fs::read_to_string(&page)?;
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://")) {
            let target = page.parent().context("a folder")?.join(link);
            ensure!(target.exists(), "{}: {link}", page.display());
        }
    }
    Ok(())
}

/// Packages put the pages into one folder, and what they name beside themselves elsewhere.
#[test]
fn no_link_of_an_installed_page_leads_nowhere() -> Result<()> {
    let pages: Vec<PathBuf> = pages()?.into_iter().filter(|page| !page.ends_with("appliance/README.md")).collect();
    let beside: BTreeSet<&str> = pages.iter().filter_map(|page| page.file_name()?.to_str()).collect();
    for page in &pages {
        let text = pages::installed(&fs::read_to_string(page)?);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://")) {
            let is_there = match link.strip_prefix("/usr/share/netbootd/").or(link.strip_prefix("/etc/netbootd/")) {
                Some(name) => root().join("packaging").join(name).exists(),
                None => beside.contains(link) || link == "status.png",
            };
            ensure!(is_there, "{}: {link}", page.display());
        }
    }
    Ok(())
}

/// A user of a package has no sources.
#[test]
fn no_text_for_a_screen_names_a_page_by_its_place_in_the_sources() {
    assert!(!netbootd::trouble::page().contains("packaging/"));
}

#[test]
fn the_readme_is_read_in_three_minutes() -> Result<()> {
    let text = fs::read_to_string(root().join("README.md"))?;
    ensure!(text.lines().count() <= 120, "{} lines", text.lines().count());
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
    ensure!(wide.is_empty(), "wider than a screen: {wide:#?}");
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Result<Vec<PathBuf>> {
    let pages = fs::read_dir(root().join("packaging/docs"))?.map(|entry| entry.map(|entry| entry.path()));
    let mut pages = pages.collect::<Result<Vec<_>, _>>()?;
    pages.retain(|page| page.extension().is_some_and(|ending| ending == "md"));
    pages.extend(["README.md", "SECURITY.md", "packaging/appliance/README.md"].map(|page| root().join(page)));
    Ok(pages)
}

/// The fenced blocks of a language.
fn blocks(page: &Path, language: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(page)?;
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1).filter_map(|rest| rest.split_once("\n```"));
    Ok(blocks.map(|(block, _)| block.to_owned()).collect())
}

/// `netbootd check` of a configuration, beside files of the names that it has.
fn check(block: &str) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let folder = scratch.path();
    let shown: DocumentMut = block.parse()?;
    // Where the page shows a part of a configuration.
    let missing = missing_profiles(&shown).into_iter();
    let profiles: String = missing.map(|name| format!("\n[profiles.{name}]\nkernel = \"debian/vmlinuz\"\n")).collect();
    let configuration: DocumentMut = format!("{block}\n{profiles}").parse()?;
    fs::write(folder.join("n.toml"), configuration.to_string())?;
    for file in ["loaders/snponly.efi", "loaders/undionly.kpxe"] {
        put(&folder.join(file))?;
    }
    fs::create_dir(folder.join("assets"))?;
    let overrides = configuration.get("machines").and_then(Item::as_array_of_tables).into_iter().flatten();
    let loaders: Vec<String> =
        overrides.filter_map(|rule| Some(rule.get("override")?.get("loader")?.as_str()?.to_owned())).collect();
    for loader in loaders.iter().filter(|loader| !loader.contains('/')) {
        put(&folder.join("loaders").join(loader))?;
    }
    for file in named_files(configuration.get("profiles")) {
        let path = folder.join("assets").join(&file);
        put(&path)?;
        // An image is looked into.
        if file.ends_with(".iso") {
            fs::copy("/usr/lib/memtest86+/memtest86+x64.iso", &path).context("the package memtest86+")?;
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_netbootd"));
    command.current_dir(folder).env_clear().args(["check", "--config", "n.toml"]);
    command.env("NETBOOTD_ASSETS", "assets").env("NETBOOTD_LOADER_DIRS", "[\"loaders\"]");
    command.env("NETBOOTD_TEMPLATES", root().join("packaging/templates"));
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    Ok(())
}

fn missing_profiles(configuration: &DocumentMut) -> BTreeSet<String> {
    let rules = configuration.get("machines").and_then(Item::as_array_of_tables).into_iter().flatten();
    let by_rules = rules.filter_map(|rule| rule.get("profile")?.as_str());
    let default = configuration.get("default_profile").and_then(Item::as_str);
    let is_there = |name: &&str| {
        ["menu", "local", "shell"].contains(name)
            || configuration.get("profiles").is_some_and(|profiles| profiles.get(name).is_some())
    };
    by_rules.chain(default).filter(|name| !is_there(name)).map(str::to_owned).collect()
}

/// The values of the keys that name files, at any depth.
fn named_files(item: Option<&Item>) -> Vec<String> {
    let Some(table) = item.and_then(Item::as_table_like) else { return Vec::new() };
    let mut files = Vec::new();
    for (key, item) in table.iter() {
        match key {
            "kernel" | "initrd" | "efi" | "iso" | "disk" | "sanboot" | "shim" => {
                let array = item.as_array().into_iter().flatten().filter_map(|value| value.as_str());
                let all = item.as_str().into_iter().chain(array);
                files.extend(all.filter(|file| !file.contains("://")).map(str::to_owned));
            }
            _ => files.extend(named_files(Some(item))),
        }
    }
    files
}

/// A file that is what its name says, as far as `check` looks.
fn put(path: &Path) -> Result<()> {
    fs::create_dir_all(path.parent().context("a folder")?)?;
    let name = path.file_name().context("a name")?.to_string_lossy();
    let image = |end: &[u8], at: usize| [vec![0; at], end.to_vec()].concat();
    let bytes = match name.rsplit('.').next() {
        Some("iso") => image(b"CD001\x01", 0x8001),
        Some("kpxe") => vec![0xea],
        _ if name.contains("initrd") || name.ends_with(".cpio") => b"\x1f\x8b\x08\0\0\0\0\0".to_vec(),
        Some("img") => image(b"\x55\xaa", 0x1fe),
        _ => {
            let mut bytes = image(b"\x55\xaa\0\0HdrS", 0x1fe);
            bytes.resize(0x400, 0);
            bytes.splice(..2, *b"MZ");
            bytes.splice(0x3c..0x3d, [0x40]);
            bytes.splice(0x40..0x46, *b"PE\0\0\x64\x86");
            bytes
        }
    };
    Ok(fs::write(path, bytes)?)
}

/// A command line of netbootd is parsed, a target of make and a test have to exist; of other programs only those that the pages
/// may name.
fn is_command(words: &[&str]) -> Result<()> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    match *program {
        "netbootd" => {
            let arguments = words.iter().take_while(|word| !matches!(**word, ">" | "|"));
            Arguments::try_parse_from(arguments).map(drop).or_else(|error| match error.use_stderr() {
                true => Err(error.into()),
                false => Ok(()),
            })
        }
        "make" => {
            let makefile = fs::read_to_string(root().join("Makefile"))?;
            for target in arguments {
                ensure!(makefile.contains(&format!("\n{target}:")), "the Makefile has no target {target}");
            }
            Ok(())
        }
        "cargo" => is_test_or_bench(arguments),
        _ if program.contains('/') => {
            ensure!(root().join(program).exists(), "there is no {program}");
            Ok(())
        }
        _ => {
            ensure!(OTHERS.contains(program), "no test knows the command {program}");
            Ok(())
        }
    }
}

fn is_test_or_bench(arguments: &[&str]) -> Result<()> {
    ensure!(matches!(arguments.first(), Some(&"test" | &"bench" | &"build")), "no command of cargo that a page needs");
    let mut behind = arguments.iter().skip_while(|word| **word != "--ignored").skip(1);
    let Some(name) = behind.next() else { return Ok(()) };
    let definition = format!("fn {name}[a-z_]*\\(");
    let found = Command::new("grep").args(["-rqE", &definition]).arg(root().join("tests")).status()?;
    ensure!(found.success(), "there is no test {name}");
    Ok(())
}

/// Programs of others that the pages name.
const OTHERS: &[&str] = &[
    "apt",
    "createdb",
    "createuser",
    "dd",
    "dnf",
    "sqlite3",
    "systemctl",
    "sudoedit",
    "curl",
    "man",
    "journalctl",
    "ln",
    "mount",
    "cp",
    "openssl",
    "sbsign",
    "mokutil",
];
