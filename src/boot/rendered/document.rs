//! JSON and TOML, as trees of values.

use serde_json::{Map, Value};

use super::{
    plain::plain,
    value::{Text, is_place},
};

/// What the two differ in.
pub(super) struct Syntax {
    name: &'static str,
    /// The offsets of the places that stand in a text or a comment.
    inside: fn(&str) -> Vec<usize>,
    parse: fn(&str) -> Result<Value, String>,
    write: fn(&Value) -> Result<String, String>,
}

pub(super) const JSON: Syntax = Syntax {
    name: "JSON",
    inside: inside_json,
    parse: |text| serde_json::from_str(text).map_err(|error| error.to_string()),
    write: |value| Ok(value.to_string()),
};

pub(super) const TOML: Syntax = Syntax {
    name: "TOML",
    inside: inside_toml,
    parse: |text| {
        let document: toml_edit::DocumentMut = text.parse().map_err(|error| toml_fault(text, &error))?;
        Ok(of_table(document.as_table()))
    },
    write: |value| Ok(toml(value)?.to_string()),
};

pub(super) fn finished(text: Text<'_>, syntax: &Syntax) -> Result<String, String> {
    let inside = (syntax.inside)(text.text);
    let is_inside = |at: usize| inside.binary_search(&at).is_ok();
    // A place is a text of its own until its value is there.
    let mut meant = String::with_capacity(text.text.len());
    let mut whole = Vec::new();
    for (at, c) in text.text.char_indices() {
        match is_place(c) && !is_inside(at) {
            true => {
                meant.extend(['"', c, '"']);
                whole.push(c);
            }
            false => meant.push(c),
        }
    }
    let meant = (syntax.parse)(&meant).map_err(|error| format!("it is not valid {}: {error}", syntax.name))?;
    let result = text.replaced(|at, value| match is_inside(at) {
        true => inside_text(value),
        false => (syntax.write)(value),
    })?;
    let is = (syntax.parse)(&result)
        .map_err(|error| format!("it is not valid {} once its values are inserted: {error}; {QUOTED}", syntax.name))?;
    match expected(text, &whole, &meant)? == is {
        true => Ok(result),
        false => Err(format!("a value changes the structure of the {} around it; {QUOTED}", syntax.name)),
    }
}

fn inside_text(value: &Value) -> Result<String, String> {
    let text = plain(value)?;
    match text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\')) {
        true => Err(format!("cannot be used inside quotes; {QUOTED}")),
        false => Ok(text),
    }
}

fn expected(text: Text<'_>, whole: &[char], meant: &Value) -> Result<Value, String> {
    Ok(match meant {
        Value::String(string) => {
            let mut chars = string.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) if whole.contains(&c) => text.value(c).cloned().unwrap_or_default(),
                _ => Value::String(text.expected(string)?),
            }
        }
        Value::Array(items) => items.iter().map(|item| expected(text, whole, item)).collect::<Result<_, _>>()?,
        Value::Object(members) => {
            let mut result = Map::new();
            for (key, value) in members {
                if result.insert(text.expected(key)?, expected(text, whole, value)?).is_some() {
                    return Err("a value makes a key appear twice".into());
                }
            }
            Value::Object(result)
        }
        other => other.clone(),
    })
}

fn inside_json(text: &str) -> Vec<usize> {
    let (mut inside, mut is_text, mut is_escaped) = (Vec::new(), false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_text => is_escaped = true,
            '"' => is_text = !is_text,
            c if is_text && is_place(c) => inside.push(at),
            _ => {}
        }
    }
    inside
}

/// Where a place of TOML is in a comment, or in one of its four kinds of strings (TOML 1.0, String).
fn inside_toml(text: &str) -> Vec<usize> {
    let mut inside = Vec::new();
    let mut end: Option<&str> = None;
    let mut skipped = 0;
    for (at, c) in text.char_indices() {
        if at < skipped {
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        match end {
            Some(end) if is_place(c) && !end.is_empty() => inside.push(at),
            Some("\"" | "\"\"\"") if c == '\\' => skipped = at + 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            Some(mark) if rest.starts_with(mark) => {
                skipped = at + mark.len();
                end = None;
            }
            Some(_) => {}
            None => {
                end = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|mark| rest.starts_with(mark));
                skipped = at + end.map_or(0, str::len);
                if c == '#' {
                    end = Some("\n");
                }
            }
        }
    }
    inside
}

/// What is wrong and where. The parser's own message quotes the line, which may hold secrets.
fn toml_fault(text: &str, error: &toml_edit::TomlError) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("{} at line {}", error.message(), before.matches('\n').count() + 1)
}

fn of_table(table: &dyn toml_edit::TableLike) -> Value {
    Value::Object(table.iter().map(|(key, item)| (key.to_owned(), of_item(item))).collect())
}

fn of_item(item: &toml_edit::Item) -> Value {
    match item {
        toml_edit::Item::None => Value::Null,
        toml_edit::Item::Value(value) => of_value(value),
        toml_edit::Item::Table(table) => of_table(table),
        toml_edit::Item::ArrayOfTables(tables) => tables.iter().map(|table| of_table(table)).collect(),
    }
}

fn of_value(value: &toml_edit::Value) -> Value {
    use toml_edit::Value as Toml;
    match value {
        Toml::String(text) => Value::String(text.value().clone()),
        Toml::Integer(number) => (*number.value()).into(),
        Toml::Float(number) => (*number.value()).into(),
        Toml::Boolean(truth) => (*truth.value()).into(),
        // JSON has none: a list of one says that it is no text.
        Toml::Datetime(time) => Value::Array(vec![time.value().to_string().into()]),
        Toml::Array(items) => items.iter().map(of_value).collect(),
        Toml::InlineTable(table) => of_table(table),
    }
}

fn toml(value: &Value) -> Result<toml_edit::Value, String> {
    Ok(match value {
        Value::String(text) => text.as_str().into(),
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => return Err("is not a TOML number".into()),
        },
        Value::Array(items) => {
            items.iter().map(toml).collect::<Result<Vec<_>, _>>()?.into_iter().collect::<toml_edit::Array>().into()
        }
        Value::Object(members) => {
            let mut table = toml_edit::InlineTable::new();
            for (key, value) in members {
                table.insert(key, toml(value)?);
            }
            table.into()
        }
        Value::Null => return Err("is none, but TOML has no null".into()),
    })
}

const QUOTED: &str = "remove the quotes from the template: the value is quoted automatically";
