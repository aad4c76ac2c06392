//! The places of keys: file, line and column.

use std::{collections::BTreeMap, ops::Range, path::Path};

use toml_edit::{Document, Item, Table, TableLike};

use super::{
    Fault, Faults,
    text_file::{self, NamedBy},
};
use crate::boot::source::plain_text;

/// The places where keys were set.
#[derive(Debug, Default)]
pub struct Places {
    /// The configuration file, then the included files.
    pub(super) files: Vec<File>,
    /// Notes about files that were read anyway.
    pub(super) notes: Vec<Fault>,
    /// Key → variable.
    pub(super) environment: BTreeMap<String, String>,
}

/// A file of the configuration.
#[derive(Debug)]
pub(super) struct File {
    name: String,
    pub(super) text: String,
    lines: Lines,
    document: Document<String>,
    /// Its part of all `[[machines]]`. The rules of all files are one list.
    machines: Range<usize>,
}

impl Places {
    /// Reads a file, after those that were read before.
    ///
    /// # Errors
    /// It cannot be read, or is not valid TOML.
    pub(super) fn read(&mut self, path: &Path, named: NamedBy) -> Result<(), Faults> {
        let name = path.display().to_string();
        let fault = |place: String, message: String| Faults(vec![Fault { place, message }]);
        let bytes =
            text_file::read(path, named).map_err(|reason| fault(name.clone(), format!("cannot be read: {reason}")))?;
        let text = utf8(&bytes).map_err(|(at, message)| fault(format!("{name}{at}"), message))?;
        let (text, notes) = plain_text(text, false);
        self.notes
            .extend(notes.into_iter().map(|what| Fault { place: name.clone(), message: format!("the file {what}") }));
        let lines = Lines::of(&text);
        let document = Document::parse(text.clone()).map_err(|error| {
            let at = error.span().map_or_else(String::new, |span| format!(":{}", lines.position(&text, span.start)));
            fault(format!("{name}{at}"), error.message().to_owned())
        })?;
        let first = self.files.last().map_or(0, |file| file.machines.end);
        let machines =
            document.get("machines").and_then(Item::as_array_of_tables).map_or(0, toml_edit::ArrayOfTables::len);
        self.files.push(File { name, text, lines, document, machines: first..first + machines });
        Ok(())
    }

    /// The contents of all files, in the order in which they were read.
    pub(super) fn text_of(&self, number: usize) -> &str {
        self.files.get(number).map_or("", |file| &file.text)
    }

    /// The contents of the file that was read last.
    pub(super) fn last_text(&self) -> &str {
        self.files.last().map_or("", |file| &file.text)
    }

    /// `FILE:LINE:COLUMN` or an environment variable; `command line` for values that are in neither.
    #[must_use]
    pub fn of(&self, path: &[&str]) -> String {
        let dotted = path.join(".");
        // A variable also sets the sections in its name, and a whole list, or what no file has of its table.
        let below = |key: &str, whole: &str| Some(key.strip_prefix(whole)?.to_owned());
        let is_section = |rest: String| rest.is_empty() || rest.starts_with('.');
        let is_own = |rest: String| {
            let inner = rest.strip_prefix('.').map(|rest| rest.split('.').next().unwrap_or_default());
            inner.is_some_and(|part| part.parse::<usize>().is_ok() || self.find(path).is_none())
        };
        let sets = |key: &str| below(key, &dotted).is_some_and(is_section) || below(&dotted, key).is_some_and(is_own);
        if let Some((_, variable)) = self.environment.iter().find(|(key, _)| sets(key)) {
            return format!("environment {variable}");
        }
        // A missing key has the place of its table.
        let found = (1..=path.len()).rev().find_map(|length| self.find(path.get(..length)?));
        match (found, self.files.first()) {
            (Some((file, offset)), _) => file.at(offset),
            (None, Some(file)) => file.name.clone(),
            (None, None) => "command line".into(),
        }
    }

    /// The files, in the order in which they were read.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// What two files set: a setting, or a profile, which is a unit. Which of them is meant is not known. A fault at
    /// the later one, with its key.
    pub(super) fn set_twice(&self) -> Vec<(Vec<String>, Fault)> {
        let mut first: BTreeMap<Vec<String>, &File> = BTreeMap::new();
        let mut twice = Vec::new();
        for file in &self.files {
            for key in file.keys() {
                let Some(before) = first.get(&key) else {
                    first.insert(key, file);
                    continue;
                };
                let path: Vec<&str> = key.iter().map(String::as_str).collect();
                let there = before.place(&path);
                let message = match path.as_slice() {
                    ["profiles", name] => {
                        format!("profile {name:?} is also defined at {there}: rename one of the two, or remove it")
                    }
                    path => format!("{} is also set at {there}: remove it from one of the two files", path.join(".")),
                };
                let fault = Fault { place: file.place(&path), message };
                twice.push((key, fault));
            }
        }
        twice
    }

    /// Sort key of a place: values without a file come last.
    pub(super) fn order(&self, path: &[&str]) -> impl Ord + use<> {
        let found = self.find(path).map(|(file, offset)| (file.machines.start, file.name.clone(), offset));
        (found.is_none(), found)
    }

    fn find(&self, path: &[&str]) -> Option<(&File, usize)> {
        // If several files set a key, the last one is used.
        self.files.iter().rev().find_map(|file| Some((file, file.offset(path)?)))
    }
}

impl File {
    /// The keys that one file alone may set: all but lists of tables (`[[machines]]`, `[[lease.relayed]]`), which are one
    /// list of all files.
    fn keys(&self) -> Vec<Vec<String>> {
        let mut keys = Vec::new();
        let mut tables: Vec<(Vec<String>, &dyn TableLike)> = vec![(Vec::new(), self.document.as_table())];
        while let Some((path, table)) = tables.pop() {
            let is_list = |key: &str, item: &Item| item.is_array_of_tables() || path.is_empty() && key == "machines";
            for (key, item) in table.iter().filter(|(key, item)| !is_list(key, item)) {
                let path = [path.as_slice(), &[key.to_owned()]].concat();
                let is_profile = path.len() == 2 && path.starts_with(&["profiles".to_owned()]);
                match item.as_table_like().filter(|_| !is_profile) {
                    Some(inner) => tables.push((path, inner)),
                    None => keys.push(path),
                }
            }
        }
        keys.sort_by_cached_key(|key| self.offset(&key.iter().map(String::as_str).collect::<Vec<_>>()));
        keys
    }

    fn place(&self, path: &[&str]) -> String {
        self.offset(path).map_or_else(|| self.name.clone(), |offset| self.at(offset))
    }

    fn at(&self, offset: usize) -> String {
        format!("{}:{}", self.name, self.lines.position(&self.text, offset))
    }

    fn offset(&self, path: &[&str]) -> Option<usize> {
        let own;
        let path = match path {
            ["machines", index, rest @ ..] => {
                let index: usize = index.parse().ok()?;
                own = self.machines.contains(&index).then(|| index - self.machines.start)?.to_string();
                &[&["machines", own.as_str()], rest].concat()
            }
            path => path,
        };
        let mut at = At::Item(self.document.as_item());
        let mut span = None;
        for part in path {
            (at, span) = match (at.element(part), at) {
                (Some(element), _) => (element, element.span()),
                (None, At::Value(_)) => return None,
                (None, At::Item(item)) => below(item.as_table_like()?, part)?,
                (None, At::Table(table)) => below(table, part)?,
            };
        }
        span.map(|span| span.start)
    }
}

/// The position in the document where a path ends.
#[derive(Clone, Copy)]
enum At<'a> {
    Item(&'a Item),
    /// An element of `[[…]]`.
    Table(&'a Table),
    /// An element of `[…, …]`.
    Value(&'a toml_edit::Value),
}

impl<'a> At<'a> {
    fn element(self, part: &str) -> Option<Self> {
        let (Self::Item(item), index) = (self, part.parse::<usize>().ok()?) else { return None };
        let value = || item.as_array()?.get(index).map(Self::Value);
        item.as_array_of_tables().and_then(|tables| tables.get(index)).map(Self::Table).or_else(value)
    }

    fn span(self) -> Option<Range<usize>> {
        match self {
            Self::Item(item) => item.span(),
            Self::Table(table) => table.span(),
            Self::Value(value) => value.span(),
        }
    }
}

/// Bytes as a text; or `:LINE:COLUMN` of the first one that is none, and what is wrong.
fn utf8(bytes: &[u8]) -> Result<&str, (String, String)> {
    std::str::from_utf8(bytes).map_err(|error| {
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return (String::new(), "is UTF-16, as Windows' editors may write it: save it as UTF-8".into());
        }
        let before = bytes.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok()).unwrap_or("");
        let byte = bytes.get(before.len()).copied().unwrap_or_default();
        let place = format!(":{}", Lines::of(before).position(before, before.len()));
        (place, format!("the byte 0x{byte:02X} is not UTF-8 (is the file in Latin-1?): save the file as UTF-8"))
    })
}

fn below<'a>(table: &'a dyn TableLike, key: &str) -> Option<(At<'a>, Option<Range<usize>>)> {
    let (key, value) = table.get_key_value(key)?;
    Some((At::Item(value), key.span().or_else(|| value.span())))
}

/// The offsets of the line starts. They are kept because thousands of rules need their places.
#[derive(Debug)]
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// `LINE:COLUMN`, both from 1; columns are characters.
    fn position(&self, text: &str, offset: usize) -> String {
        let line = self.0.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|line| self.0.get(line)).copied().unwrap_or_default();
        let before = text.get(start..offset).unwrap_or_default();
        format!("{line}:{}", before.chars().count() + 1)
    }
}
