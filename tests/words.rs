//! Plain English in what people read: messages, the page, scripts, documents and comments. Each word here was used in a way
//! that readers had to guess at; beside it stands what to write instead.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

/// Expression of whole words → what to write instead.
const INSTEAD: &[(&str, &str)] = &[
    ("mend", "fix"),
    ("mends", "fixes"),
    ("mended", "fixed"),
    ("told", "reported, given, logged or known"),
    ("untold", "not reported"),
    ("tells of", "reports"),
    ("tell of", "report"),
    ("is to boot", "boots"),
    ("are to boot", "boot"),
    ("was to be", "is"),
    ("is to be had", "is used"),
    ("to be had", "available"),
    ("what it is to", "what it does"),
    ("for ever", "forever, or without end"),
    ("gets on", "continues"),
    ("get on", "continue"),
    ("whoever", "a client that, a user who"),
    ("of whom", "whose"),
    ("by who", "by the user who"),
    ("for who", "for users who"),
    ("as good as", "the same as"),
    ("all kinds of things", "name them"),
    ("by its own words", "as it reports"),
    ("in its own words", "as it reports"),
    ("looked after", "watched"),
    ("a slip of the pen", "a typing error"),
];

#[test]
fn people_read_plain_english() -> Result<()> {
    let mut faults = Vec::new();
    for file in files() {
        let text = fs::read_to_string(&file)?;
        let is_code = file.extension().is_some_and(|ending| ending == "rs");
        let text = if is_code { text.split("#[cfg(test)]").next().unwrap_or_default() } else { &text };
        for (number, line) in (1..).zip(text.lines()) {
            let shown = if is_code { read_in_code(line) } else { line.to_owned() };
            let shown = without_markup(&shown).to_lowercase();
            let found = INSTEAD.iter().filter(|(words, _)| has_words(&shown, words));
            faults.extend(found.map(|(words, instead)| {
                format!("{}:{number}: {words:?}: write {instead}: {}", file.display(), line.trim())
            }));
        }
    }
    ensure!(faults.is_empty(), "{} places:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

/// Without placeholders, expressions of templates and tags: names in them are no text.
fn without_markup(text: &str) -> String {
    let mut depth = 0_i32;
    let kept = text.chars().filter(|c| {
        depth += i32::from(matches!(c, '{' | '<'));
        let is_text = depth <= 0;
        depth -= i32::from(matches!(c, '}' | '>'));
        is_text
    });
    kept.collect()
}

/// A comment, or what stands between quotation marks in a line of code. A name alone is no text.
fn read_in_code(line: &str) -> String {
    if line.trim_start().starts_with("//") {
        return line.split('`').step_by(2).collect::<Vec<_>>().join(" | ");
    }
    let quoted = line.split('"').skip(1).step_by(2).filter(|text| text.contains(' '));
    quoted.collect::<Vec<_>>().join(" | ")
}

/// An iPXE console has 80 columns (RFC 854 terminals and VGA text mode alike).
#[test]
fn what_a_clients_screen_shows_fits_it() -> Result<()> {
    for file in below("ipxe-scripts") {
        for line in fs::read_to_string(&file)?.lines() {
            let Some(shown) = line.trim_start().strip_prefix("echo ") else { continue };
            // A value is at most as long as a name or an address.
            let shown = shown.replace("{{ why }}", "").replace("{{ base }}", "http://192.0.2.10:8080");
            ensure!(shown.chars().count() <= 79, "{}: {line}", file.display());
        }
    }
    Ok(())
}

#[test]
fn words_are_found_whole() {
    assert!(has_words("it is told once", "told") && has_words("told", "told"));
    assert!(!has_words("a threshold", "told") && !has_words("recommend it", "mend"));
}

fn has_words(line: &str, words: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    line.match_indices(words).any(|(at, _)| {
        let (before, behind) = (&line.get(..at), &line.get(at + words.len()..));
        !is_letter(before.and_then(|text| text.chars().next_back()))
            && !is_letter(behind.and_then(|text| text.chars().next()))
    })
}

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "ipxe-scripts", "assets", "packaging/docs", "packaging/systemd"];
    let alone = ["README.md", "SECURITY.md", "packaging/netbootd.toml", "packaging/netbootd.schema.json"];
    folders.iter().flat_map(|folder| below(folder)).chain(alone.map(|file| root.join(file))).collect()
}

fn below(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let is_text = path.extension().is_some_and(|ending| {
                ["rs", "ipxe", "html", "js", "md", "service", "sql"].iter().any(|text| ending == *text)
            });
            match path.is_dir() {
                true => folders.push(path),
                false => files.extend(Some(path).filter(|_| is_text)),
            }
        }
    }
    files
}
