//! Values, and the characters that stand for them in a rendered text.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::{names::Names, plain::plain};

/// The values of one rendering.
#[derive(Debug, Default)]
pub(in crate::boot) struct Values {
    /// In the order in which they were put.
    pub(super) put: Mutex<Vec<Value>>,
    /// What messages call them.
    pub(super) names: Names,
}

impl Values {
    /// None yet, for a template's context.
    pub(in crate::boot) fn named(names: Names) -> Self {
        Self { names, ..Self::default() }
    }

    /// The character that stands for a value; none where there are too many.
    pub(in crate::boot) fn put(&self, value: Value) -> Option<char> {
        let mut values = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        let place = u32::try_from(values.len()).ok().and_then(|index| char::from_u32(FIRST + index))?;
        values.push(value);
        is_place(place).then_some(place)
    }
}

/// Supplementary Private Use Area B (The Unicode Standard, §23.5): no text that people write has these, no filter
/// changes them, and every parser takes them for letters.
const FIRST: u32 = 0x10_0000;

/// Whether a character is kept for values.
pub(in crate::boot) fn is_place(c: char) -> bool {
    u32::from(c) >= FIRST
}

/// What was rendered, with the values that belong into it.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) values: &'a [Value],
    pub(super) names: &'a Names,
}

impl<'a> Text<'a> {
    /// The value that a character stands for.
    pub(super) fn value(self, place: char) -> Option<&'a Value> {
        let index = u32::from(place).checked_sub(FIRST)?;
        self.values.get(usize::try_from(index).ok()?)
    }

    /// With each value written by `write`, which is given the offset of its place. Its faults are said of the value:
    /// `holds a space`.
    pub(super) fn replaced(
        self,
        mut write: impl FnMut(usize, &Value) -> Result<String, String>,
    ) -> Result<String, String> {
        let mut result = String::with_capacity(self.text.len());
        for (at, c) in self.text.char_indices() {
            match self.value(c).filter(|_| is_place(c)) {
                Some(value) => {
                    result.push_str(&write(at, value).map_err(|fault| self.at(at, &self.fault(value, &fault)))?)
                }
                None => result.push(c),
            }
        }
        Ok(result)
    }

    /// What is wrong with a value, which is not quoted.
    pub(super) fn fault(self, value: &Value, fault: &str) -> String {
        format!("{} {fault}", self.names.subject(value))
    }

    pub(super) fn at(self, offset: usize, fault: &str) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        format!("{fault} (line {} of the answer)", before.matches('\n').count() + 1)
    }

    /// A part of it with the values as they are, for what the result is expected to say.
    pub(super) fn expected(self, part: &str) -> Result<String, String> {
        let mut result = String::with_capacity(part.len());
        for c in part.chars() {
            match self.value(c) {
                Some(value) => result.push_str(&plain(value).map_err(|fault| self.fault(value, &fault))?),
                None => result.push(c),
            }
        }
        Ok(result)
    }

    /// For messages: the name of the first value of a part that is not what it should be.
    pub(super) fn first_in(self, part: &str) -> Option<String> {
        part.chars().find_map(|c| self.value(c)).map(|value| self.names.subject(value))
    }
}

/// What Unicode, and so Python's `splitlines` and YAML 1.1, take for a line's end beside the control characters.
pub(super) fn ends_a_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}
