//! Files of lines: kickstart, preseed, shell scripts and whatever else.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    format::{Format, is_shell},
    plain::plain,
    value::{Text, ends_a_line, is_place},
};

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where nothing but a line's end means anything.
    Free,
    /// In a field that ends at white space.
    Field,
    /// At the beginning of a word, or behind its `=`; there are no quotes around it.
    Word { is_shell: bool },
    /// Elsewhere in a word without quotes.
    Part { is_shell: bool },
    /// In single quotes.
    Single,
    /// In double quotes.
    Double { is_shell: bool },
    /// In a here-document; in one of these, `$` and backticks mean something.
    Here { expands: bool },
}

pub(super) fn finished(text: Text<'_>, format: Format) -> Result<String, String> {
    let mut places = BTreeMap::new();
    match format {
        Format::Shell => words(text.text, 0, true, &mut places),
        Format::Kickstart => kickstart(text.text, &mut places),
        Format::Preseed => preseed(text.text, &mut places),
        _ => {}
    }
    text.replaced(|at, value| {
        let written = written(value, places.get(&at).copied().unwrap_or(Place::Free))?;
        let begins_line = text.text.get(..at).is_none_or(|before| before.is_empty() || before.ends_with('\n'));
        let ends_line = text.text.get(at..).and_then(|rest| rest.chars().nth(1)).is_none_or(|next| next == '\n');
        if format == Format::Kickstart && begins_line && written.starts_with('%') {
            return Err("would begin or end a section".into());
        }
        if format != Format::Lines && ends_line && written.ends_with('\\') {
            return Err("would join its line with the next one".into());
        }
        Ok(written)
    })
}

fn written(value: &Value, place: Place) -> Result<String, String> {
    let text = plain(value)?;
    let refuse = |why: &str| Err(why.to_owned());
    if text.contains(ends_a_line) {
        return refuse("holds a line break or another control character");
    }
    let stands = |unsafe_chars: &[char], where_it_is: &str| match text.chars().find(|c| unsafe_chars.contains(c)) {
        Some(c) => Err(format!("holds {c:?}, which has a special meaning {where_it_is}")),
        None => Ok(text.clone()),
    };
    match place {
        Place::Free => Ok(text),
        Place::Field if text.is_empty() || text.contains(char::is_whitespace) => refuse("is not a single word"),
        Place::Field => Ok(text),
        Place::Word { .. } if text.starts_with('-') && value.is_string() => {
            refuse("would be read as an option: if that is intended, write {{ … | safe }}")
        }
        Place::Word { is_shell } | Place::Part { is_shell } if is_word(&text, is_shell) => Ok(text),
        Place::Word { .. } => shlex::try_quote(&text).map(Into::into).map_err(|error| error.to_string()),
        Place::Part { .. } => refuse("cannot be a part of a word: write the whole word as one value, which is quoted"),
        Place::Single => stands(&['\''], "in single quotes"),
        Place::Double { is_shell: true } => stands(&['"', '\\', '$', '`', '!'], "in double quotes"),
        Place::Double { is_shell: false } => stands(&['"', '\\'], "in double quotes"),
        Place::Here { expands: true } => stands(&['$', '`', '\\'], "in a here-document"),
        // A line of its own could be the one that ends it.
        Place::Here { expands: false } => Ok(text),
    }
}

/// Whether a text is one word, and itself, without quotes.
fn is_word(text: &str, is_shell: bool) -> bool {
    let stands = |c: char| match is_shell {
        true => c.is_alphanumeric() || "_@%+=:,./-".contains(c),
        // Python's shlex, by which kickstart is read, ends a word at a # wherever it stands.
        false => !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\' | '#'),
    };
    !text.is_empty() && text.chars().all(stands)
}

/// Commands are read as words (pykickstart/parser.py), scripts by the interpreter that they name, and packages by lines.
fn kickstart(text: &str, places: &mut BTreeMap<usize, Place>) {
    let (mut at, mut section): (usize, Option<(usize, bool)>) = (0, None);
    for line in text.split_inclusive('\n') {
        let word = line.split_whitespace().next().unwrap_or_default();
        match section {
            Some((start, is_shell)) if word == "%end" => {
                if is_shell {
                    words(text.get(start..at).unwrap_or_default(), start, true, places);
                }
                section = None;
            }
            Some(_) => {}
            None => {
                words(line, at, false, places);
                if word.starts_with('%') && !["%include", "%ksappend"].contains(&word) {
                    let is_script = ["%pre", "%pre-install", "%post", "%onerror", "%traceback"].contains(&word);
                    let other = line.split_once("--interpreter").map(|(_, rest)| rest.trim_start_matches(['=', ' ']));
                    let is_shell =
                        other.is_none_or(|other| is_shell(other.split_whitespace().next().unwrap_or_default()));
                    section = Some((at + line.len(), is_script && is_shell));
                }
            }
        }
        at += line.len();
    }
    if let Some((start, true)) = section {
        words(text.get(start..).unwrap_or_default(), start, true, places);
    }
}

/// Owner, question and type are words; what is behind them is the answer, and that of a `…_command` is run by a shell.
fn preseed(text: &str, places: &mut BTreeMap<usize, Place>) {
    let mut at = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let line = logical_line(rest);
        let fields: Vec<(usize, &str)> = fields(line);
        for (start, field) in fields.iter().take(3) {
            let own = field.char_indices().filter(|(_, c)| is_place(*c));
            places.extend(own.map(|(offset, _)| (at + start + offset, Place::Field)));
        }
        let question = fields.get(1).map_or("", |(_, field)| field);
        if let (true, Some((start, _))) = (question.ends_with("_command"), fields.get(3)) {
            words(line.get(*start..).unwrap_or_default(), at + start, true, places);
        }
        at += line.len();
        rest = rest.get(line.len()..).unwrap_or_default();
    }
}

/// A line with those that a backslash joins to it.
fn logical_line(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        if !line.trim_end_matches('\n').ends_with('\\') {
            break;
        }
    }
    text.get(..end).unwrap_or(text)
}

/// What is between white space, with its offset; none for a comment.
fn fields(line: &str) -> Vec<(usize, &str)> {
    let mut fields = Vec::new();
    let mut start = None;
    for (at, c) in line.char_indices() {
        match (start, c.is_whitespace()) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                fields.extend(line.get(from..at).map(|field| (from, field)));
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start {
        fields.extend(line.get(from..).map(|field| (from, field)));
    }
    if fields.first().is_some_and(|(_, field)| field.starts_with('#')) { Vec::new() } else { fields }
}

/// A here-document that follows.
struct Here<'a> {
    end: &'a str,
    expands: bool,
    strips_tabs: bool,
}

/// Where the values of words stand: of a shell script (POSIX, Shell Command Language, §2.2 and §2.7.4), or of a command
/// that is only split into words.
fn words(part: &str, offset: usize, is_shell: bool, places: &mut BTreeMap<usize, Place>) {
    let mut scan = Scan { is_shell, ..Scan::default() };
    let mut here: Vec<Here<'_>> = Vec::new();
    let mut at = 0;
    for line in part.split_inclusive('\n') {
        let behind = part.get(at + line.len()..).unwrap_or_default();
        let body = line.trim_end_matches('\n');
        match here.first() {
            Some(Here { end, expands, strips_tabs }) => {
                let is_end = *end == if *strips_tabs { body.trim_start_matches('\t') } else { body };
                let own = line.char_indices().filter(|(_, c)| is_place(*c));
                places.extend(own.map(|(start, _)| (offset + at + start, Place::Here { expands: *expands })));
                if is_end {
                    here.remove(0);
                }
            }
            None => here = scan.line(line, behind, offset + at, places),
        }
        at += line.len();
    }
}

/// What is open at a point of a script.
#[derive(Default)]
struct Scan {
    is_shell: bool,
    quote: Option<char>,
    /// Commands within double quotes: `$(`, and whether a backtick is open.
    commands: usize,
    backtick: bool,
}

impl Scan {
    fn line<'a>(
        &mut self,
        line: &'a str,
        behind: &str,
        offset: usize,
        places: &mut BTreeMap<usize, Place>,
    ) -> Vec<Here<'a>> {
        let mut here = Vec::new();
        let mut chars = line.char_indices().peekable();
        let mut before = ' ';
        while let Some((at, c)) = chars.next() {
            let rest = line.get(at..).unwrap_or_default();
            if is_place(c) {
                places.insert(offset + at, self.place(before));
            }
            match (self.quote, c) {
                (None | Some('"'), '\\') => drop(chars.next()),
                (None, '\'' | '"') => self.quote = Some(c),
                (None, '#') if before.is_whitespace() || !self.is_shell => self.quote = Some('#'),
                (None, '<') if self.is_shell && rest.starts_with("<<") && before != '<' => {
                    here.extend(here_document(rest, behind));
                }
                (Some('"'), '$') if self.is_shell && rest.starts_with("$(") => self.commands += 1,
                (Some('"'), ')') => self.commands = self.commands.saturating_sub(1),
                (Some('"'), '`') if self.is_shell => self.backtick = !self.backtick,
                (Some('"'), '"') if self.commands > 0 => {}
                (Some(quote), c) if c == quote && quote != '#' => self.quote = None,
                _ => {}
            }
            before = c;
        }
        if self.quote == Some('#') {
            self.quote = None;
        }
        here
    }

    fn place(&self, before: char) -> Place {
        let is_shell = self.is_shell;
        match self.quote {
            Some('\'') => Place::Single,
            Some('"') if self.commands > 0 || self.backtick => Place::Part { is_shell },
            Some('"') => Place::Double { is_shell },
            Some(_) => Place::Free,
            None if before.is_whitespace() || matches!(before, '=' | ';' | '|' | '&' | '(') => Place::Word { is_shell },
            None => Place::Part { is_shell },
        }
    }
}

/// The here-document that begins with these words, where what follows has a line that ends it: `1 << 2` is none.
fn here_document<'a>(text: &'a str, behind: &str) -> Option<Here<'a>> {
    let text = text.strip_prefix("<<")?;
    let (text, strips_tabs) = text.strip_prefix('-').map_or((text, false), |rest| (rest, true));
    let text = text.trim_start_matches([' ', '\t']);
    let word = text.split(|c: char| c.is_whitespace() || ";|&()<>".contains(c)).next()?;
    let end = word.trim_matches(['\'', '"']).trim_start_matches('\\');
    let is_there = behind.lines().any(|line| end == if strips_tabs { line.trim_start_matches('\t') } else { line });
    (!end.is_empty() && is_there).then_some(Here { end, expands: end.len() == word.len(), strips_tabs })
}
