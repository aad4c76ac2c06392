//! Answer files as they come out of their templates: a value must not change what the template says.
//!
//! A template is rendered with one character of Unicode's private use in the place of each value. That text is read by a
//! parser of its format, which tells where each value stands: it is a whole scalar, and comes quoted; or it is a part of
//! one, and stands there as it is; or it stands in a block, and is indented. Then the result is read again. It has to be
//! the same document, with the values in their places; else it is refused, and no machine is given something else than
//! its administrator wrote.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

mod document;
mod lines;
mod yaml;

/// How the values of a file are written, and what its result is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// cloud-config, NoCloud, Butane.
    Yaml,
    /// Ignition.
    Json,
    /// Proxmox.
    Toml,
    /// AutoYaST, Windows.
    Xml,
    /// Commands, and sections that are shell scripts.
    Kickstart,
    /// A question a line; some answers are shell commands.
    Preseed,
    /// A shell script.
    Shell,
    /// Anything else: a value keeps to its line.
    Lines,
}

impl Format {
    /// By the file's name, and by its first words where the name says nothing.
    pub(super) fn of(name: &str, text: &str) -> Self {
        let file = name.rsplit('/').next().unwrap_or(name);
        let suffix = file.rsplit_once('.').map_or("", |(_, suffix)| suffix).to_ascii_lowercase();
        let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
        // cloud-init's own templates are no YAML before it has rendered them.
        if begins(&["## template:"]) {
            return Self::Lines;
        }
        if let Some(interpreter) = text.lines().next().and_then(|line| line.strip_prefix("#!")) {
            return if is_shell(interpreter) { Self::Shell } else { Self::Lines };
        }
        match suffix.as_str() {
            "yaml" | "yml" | "bu" => Self::Yaml,
            "json" | "ign" => Self::Json,
            "toml" => Self::Toml,
            "xml" => Self::Xml,
            "ks" => Self::Kickstart,
            "sh" => Self::Shell,
            _ if begins(&["#cloud-config"]) => Self::Yaml,
            // What cloud-init takes for user-data beside its configuration (cloudinit/user_data.py).
            _ if begins(&["#include", "#part-handler", "#cloud-boothook", "Content-Type:", "MIME-Version:"]) => {
                Self::Lines
            }
            _ if ["user-data", "meta-data", "vendor-data", "network-config"].contains(&file) => Self::Yaml,
            _ if text.lines().any(|line| line.starts_with("%packages") || line.starts_with("%post")) => Self::Kickstart,
            _ if text.lines().any(|line| line.starts_with("d-i ")) => Self::Preseed,
            _ => Self::Lines,
        }
    }

    /// The finished file.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub(super) fn finished(self, text: &str, values: &Values) -> Result<String, String> {
        let values = values.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = Text { text, values: &values };
        match self {
            Self::Yaml => yaml::finished(text),
            Self::Json => document::finished(text, &document::JSON),
            Self::Toml => document::finished(text, &document::TOML),
            Self::Xml => text.replaced(|_, value| plain(value).map(|text| escaped_for_xml(&text))),
            Self::Kickstart | Self::Preseed | Self::Shell | Self::Lines => lines::finished(text, self),
        }
    }
}

fn is_shell(interpreter: &str) -> bool {
    let mut words = interpreter.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word));
    let first = words.next().unwrap_or_default();
    let shell = if first == "env" { words.next().unwrap_or_default() } else { first };
    ["sh", "bash", "dash", "ash", "ksh", "zsh"].contains(&shell)
}

/// The values of one rendering, in the order in which they were put.
#[derive(Debug, Default)]
pub(super) struct Values(Mutex<Vec<Value>>);

impl Values {
    /// The character that stands for a value; none where there are too many.
    pub(super) fn put(&self, value: Value) -> Option<char> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = u32::try_from(values.len()).ok().and_then(|index| char::from_u32(FIRST + index))?;
        values.push(value);
        is_place(place).then_some(place)
    }
}

/// Supplementary Private Use Area B (The Unicode Standard, §23.5): no text that people write has these, no filter
/// changes them, and every parser takes them for letters.
const FIRST: u32 = 0x10_0000;

/// Whether a character is kept for values.
pub(super) fn is_place(c: char) -> bool {
    u32::from(c) >= FIRST
}

/// What was rendered, with the values that belong into it.
#[derive(Clone, Copy)]
struct Text<'a> {
    text: &'a str,
    values: &'a [Value],
}

impl<'a> Text<'a> {
    /// The value that a character stands for.
    fn value(self, place: char) -> Option<&'a Value> {
        let index = u32::from(place).checked_sub(FIRST)?;
        self.values.get(usize::try_from(index).ok()?)
    }

    /// With each value written by `write`, which is given the offset of its place.
    fn replaced(self, mut write: impl FnMut(usize, &Value) -> Result<String, String>) -> Result<String, String> {
        let mut result = String::with_capacity(self.text.len());
        for (at, c) in self.text.char_indices() {
            match self.value(c).filter(|_| is_place(c)) {
                Some(value) => result.push_str(&write(at, value).map_err(|fault| self.at(at, &fault))?),
                None => result.push(c),
            }
        }
        Ok(result)
    }

    fn at(self, offset: usize, fault: &str) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        format!("{fault} (line {} of the answer)", before.matches('\n').count() + 1)
    }

    /// A part of it with the values as they are, for what the result is expected to say.
    fn expected(self, part: &str) -> Result<String, String> {
        let mut result = String::with_capacity(part.len());
        for c in part.chars() {
            match self.value(c) {
                Some(value) => result.push_str(&plain(value)?),
                None => result.push(c),
            }
        }
        Ok(result)
    }

    /// For messages: the first value of a part that is not what it should be.
    fn first_in(self, part: &str) -> String {
        part.chars().find_map(|c| self.value(c)).map_or_else(String::new, shown)
    }
}

/// A value as a part of a text.
fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(format!("the value {} is no text: it cannot be a part of one", shown(value)))
        }
    }
}

/// A value in a message.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn escaped_for_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
