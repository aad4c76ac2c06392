//! YAML, by the events of its parser.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::Value;

use super::{
    plain::plain,
    value::{Text, ends_a_line, is_place},
};

/// Where a value stands.
#[derive(Clone, Copy)]
enum Place {
    /// It is a scalar.
    Whole,
    /// In a scalar of one or more lines, which may be quoted.
    Inside,
    /// In a literal block, where line breaks are what they are.
    Literal,
    /// In a folded block, where one is a space.
    Folded,
}

pub(super) fn finished(text: Text<'_>) -> Result<String, String> {
    let meant = events(text.text).map_err(|error| format!("it is not valid YAML: {error}"))?;
    let places = places(&meant);
    let result = text.replaced(|at, value| write(text, &places, at, value))?;
    let is = events(&result).map_err(|error| unreadable(text, &places, &error))?;
    compare(text, &meant, &is)?;
    Ok(result)
}

fn write(text: Text<'_>, places: &BTreeMap<char, Place>, at: usize, value: &Value) -> Result<String, String> {
    let before = text.text.get(..at).unwrap_or_default();
    let place = text.text.get(at..).and_then(|rest| rest.chars().next()).and_then(|c| places.get(&c));
    match place {
        Some(Place::Whole) => Ok(flow(value)),
        Some(Place::Literal) => block(value, leading(before.rsplit('\n').next().unwrap_or_default())),
        Some(Place::Folded) => {
            one_line(value).map_err(|fault| format!("{fault}: a block that begins with | has lines"))
        }
        Some(Place::Inside) => one_line(value).map_err(|fault| format!("{fault}, {QUOTED}")),
        // In a comment.
        None => one_line(value),
    }
}

/// Which value it is that alone makes the text one that cannot be read.
fn unreadable(text: Text<'_>, places: &BTreeMap<char, Place>, error: &str) -> String {
    let alone = text.text.char_indices().filter(|(_, c)| is_place(*c)).find_map(|(at, c)| {
        let value = text.value(c)?;
        let written = write(text, places, at, value).ok()?;
        let fails = events(&text.text.replacen(c, &written, 1)).is_err();
        fails.then(|| text.at(at, &text.fault(value, &format!("cannot be used where the template puts it, {QUOTED}"))))
    });
    alone.unwrap_or_else(|| format!("it is not valid YAML once its values are inserted: {error}"))
}

fn events(text: &str) -> Result<Vec<Event<'_>>, String> {
    Parser::new_from_str(text).map(|event| event.map(|(event, _)| event).map_err(|error| error.to_string())).collect()
}

fn places(events: &[Event<'_>]) -> BTreeMap<char, Place> {
    let mut places = BTreeMap::new();
    for event in events {
        let Event::Scalar(text, style, ..) = event else { continue };
        for c in text.chars().filter(|c| is_place(*c)) {
            let place = match style {
                ScalarStyle::Plain if text.chars().count() == 1 => Place::Whole,
                ScalarStyle::Literal => Place::Literal,
                ScalarStyle::Folded => Place::Folded,
                _ => Place::Inside,
            };
            places.insert(c, place);
        }
    }
    places
}

/// Whether the result says what the template does.
fn compare(text: Text<'_>, meant: &[Event<'_>], is: &[Event<'_>]) -> Result<(), String> {
    let mut is = is.iter();
    for event in meant {
        match event {
            Event::Scalar(scalar, ..) if !scalar.chars().any(is_place) => same(text, Some(event), is.next(), "")?,
            Event::Scalar(scalar, ScalarStyle::Plain, anchor, tag) if scalar.chars().count() == 1 => {
                let value = scalar.chars().next().and_then(|c| text.value(c)).unwrap_or(&Value::Null);
                let written = flow(value);
                let own =
                    events(&written).map_err(|error| text.fault(value, &format!("is not valid YAML: {error}")))?;
                let mut own = own.into_iter().filter(|event| !is_frame(event));
                let first = own.next().map(|event| marked(event, *anchor, tag.clone()));
                same(text, first.as_ref(), is.next(), scalar)?;
                own.try_for_each(|event| same(text, Some(&event), is.next(), scalar))?;
            }
            Event::Scalar(scalar, style, anchor, tag) => {
                let expected = match style {
                    ScalarStyle::Literal => expected_block(text, scalar)?,
                    _ => text.expected(scalar)?,
                };
                if *style == ScalarStyle::Plain && tag.is_none() && is_typed(&expected) {
                    let value = text.first_in(scalar).unwrap_or_default();
                    return Err(format!(
                        "{value} is a part of a text that YAML would not read as text: put all of it in quotes, or \
                         write it as one value, such as {{{{ a ~ b }}}}"
                    ));
                }
                let expected = Event::Scalar(expected.into(), *style, *anchor, tag.clone());
                same(text, Some(&expected), is.next(), scalar)?;
            }
            event => same(text, Some(event), is.next(), "")?,
        }
    }
    Ok(())
}

fn same(text: Text<'_>, meant: Option<&Event<'_>>, is: Option<&Event<'_>>, scalar: &str) -> Result<(), String> {
    if meant == is {
        return Ok(());
    }
    match text.first_in(scalar) {
        None => Err("a value changes the structure of the YAML around it".into()),
        Some(value) => Err(format!("{value} cannot be used where the template puts it, {QUOTED}")),
    }
}

fn is_frame(event: &Event<'_>) -> bool {
    matches!(event, Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd)
}

/// A value has the anchor and the tag that the template puts before it.
fn marked<'a>(event: Event<'a>, anchor: usize, tag: Option<std::borrow::Cow<'a, saphyr_parser::Tag>>) -> Event<'a> {
    match event {
        Event::Scalar(text, style, ..) => Event::Scalar(text, style, anchor, tag),
        Event::SequenceStart(..) => Event::SequenceStart(anchor, tag),
        Event::MappingStart(..) => Event::MappingStart(anchor, tag),
        event => event,
    }
}

/// JSON, of which every text is one in YAML too. What YAML 1.1 takes for a line break, or for nothing that can be
/// printed, is written as its number (YAML 1.1 §5.1): PyYAML, and so cloud-init, reads that version.
fn flow(value: &Value) -> String {
    let mut written = String::new();
    for c in value.to_string().chars() {
        match c {
            c if is_special(c) => written.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => written.push(c),
        }
    }
    written
}

/// What YAML 1.1 does not read as itself: line ends, and what cannot be printed (§5.1).
fn is_special(c: char) -> bool {
    ends_a_line(c) || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A value's lines, or those of a list of texts, each behind the first with the indentation that the template has there.
fn block(value: &Value, indentation: &str) -> Result<String, String> {
    let text = lines_of(value)?;
    if let Some(c) = text.chars().find(|c| is_special(*c) && !matches!(c, '\n' | '\t')) {
        return Err(format!("holds the control character U+{:04X}", u32::from(c)));
    }
    Ok(joined(&text, indentation))
}

fn lines_of(value: &Value) -> Result<String, String> {
    let text = match value {
        Value::Array(items) => items.iter().map(plain).collect::<Result<Vec<_>, _>>()?.join("\n"),
        value => plain(value)?,
    };
    Ok(text.trim_end_matches('\n').to_owned())
}

fn joined(text: &str, indentation: &str) -> String {
    let lines = text.split('\n').enumerate().map(|(number, line)| match (number, line) {
        (0, _) | (_, "") => line.to_owned(),
        _ => format!("{indentation}{line}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn expected_block(text: Text<'_>, scalar: &str) -> Result<String, String> {
    let mut result = String::new();
    for line in scalar.split_inclusive('\n') {
        for c in line.chars() {
            match text.value(c) {
                Some(value) => {
                    let lines = lines_of(value).map_err(|fault| text.fault(value, &fault))?;
                    result.push_str(&joined(&lines, leading(line)));
                }
                None => result.push(c),
            }
        }
    }
    Ok(result)
}

fn leading(line: &str) -> &str {
    let end = line.find(|c| c != ' ').unwrap_or(line.len());
    line.get(..end).unwrap_or_default()
}

fn one_line(value: &Value) -> Result<String, String> {
    let text = plain(value)?;
    match text.chars().find(|c| is_special(*c)) {
        Some(_) => Err("holds a line break or another control character".into()),
        None => Ok(text),
    }
}

/// Whether YAML 1.1 or 1.2 takes a plain scalar for a number, a truth, a time or nothing (YAML 1.1's types; YAML 1.2
/// §10.3.2).
fn is_typed(text: &str) -> bool {
    let word = text.to_ascii_lowercase();
    if ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&word.as_str()) {
        return true;
    }
    let number = word.trim_start_matches(['+', '-']);
    if number.trim_start_matches('.') == "inf" || word == ".nan" {
        return true;
    }
    let is_number = number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && number.contains(|c: char| c.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '_' | 'e' | '+' | '-' | ':'));
    let of_base = |prefix: &str, base: u32| {
        number
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(base) || c == '_'))
    };
    is_number && !is_address(number) || of_base("0x", 16) || of_base("0o", 8) || of_base("0b", 2)
}

/// IPv4 addresses, and versions of three parts: more dots than a number has.
fn is_address(text: &str) -> bool {
    text.matches('.').count() > 1
}

const QUOTED: &str = "because YAML would not read it as the same text: make all of it one value, which is then \
                      quoted, such as {{ \"/home/\" ~ vars.user }}";
