//! XML 1.0 (W3C Recommendation, fifth edition).

use std::collections::BTreeMap;

use super::{
    super::text::escaped_for_markup,
    plain::plain,
    value::{Text, is_place},
};

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between tags.
    Content,
    /// In the quotes of an attribute.
    Attribute,
    /// In a tag, outside quotes.
    Tag,
    /// In what no character is escaped in, and this ends.
    Until(&'static str),
}

pub(super) fn finished(text: Text<'_>) -> Result<String, String> {
    let places = places(text.text);
    text.replaced(|at, value| {
        let value = plain(value)?;
        if let Some(c) = value.chars().find(|c| !is_char(*c)) {
            return Err(format!("holds the character U+{:04X}, which XML does not have", u32::from(c)));
        }
        match places.get(&at).copied().unwrap_or(Place::Content) {
            // Parsers read a CR as LF (§2.11), and in an attribute each of these as a space (§3.3.3).
            Place::Content => Ok(escaped_for_markup(&value).replace('\r', "&#13;")),
            Place::Attribute => {
                Ok(escaped_for_markup(&value).replace('\t', "&#9;").replace('\n', "&#10;").replace('\r', "&#13;"))
            }
            Place::Tag if !value.is_empty() && value.chars().all(is_of_name) => Ok(value),
            Place::Tag => Err("is not a name: only a name can be in a tag outside quotes".into()),
            Place::Until(end) => match ends(text.text, at, &value, end) || value.contains('\r') {
                true => Err(format!("holds a carriage return, or {end:?} together with the text around it")),
                false => Ok(value),
            },
        }
    })
}

/// Whether a value, with what is before and behind it, has an end that the template does not have there.
fn ends(text: &str, at: usize, value: &str, end: &str) -> bool {
    let few = end.len() - 1;
    let before = text.get(..at).unwrap_or_default().chars().rev().take(few).collect::<Vec<_>>();
    let behind = text.get(at..).unwrap_or_default().chars().skip(1).take(few);
    let around: String = before.into_iter().rev().chain(value.chars()).chain(behind).collect();
    // A comment has no two hyphens either (§2.5).
    around.contains(end) || end == COMMENT && around.contains("--")
}

fn places(text: &str) -> BTreeMap<usize, Place> {
    let mut places = BTreeMap::new();
    let mut place = Place::Content;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        if is_place(c) {
            places.insert(at, place);
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        place = match place {
            Place::Content => {
                let begun = BEGINS.iter().find(|(begin, _)| rest.starts_with(begin));
                begun.map_or(place, |(_, place)| *place)
            }
            Place::Tag if c == '>' => Place::Content,
            Place::Tag if matches!(c, '"' | '\'') => {
                quote = Some(c);
                Place::Attribute
            }
            Place::Attribute if quote == Some(c) => Place::Tag,
            // The end is looked for from its last character on, for which nothing else is remembered.
            Place::Until(end) if text.get(..at + c.len_utf8()).is_some_and(|before| before.ends_with(end)) => {
                Place::Content
            }
            place => place,
        };
    }
    places
}

/// What begins between tags, and what is in it. The longer ones come first.
const BEGINS: [(&str, Place); 4] = [
    ("<!--", Place::Until(COMMENT)),
    ("<![CDATA[", Place::Until("]]>")),
    ("<?", Place::Until("?>")),
    ("<", Place::Tag),
];
const COMMENT: &str = "-->";

/// §2.2, production 2.
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// What a name is made of, and no more than people use (§2.3).
fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}
