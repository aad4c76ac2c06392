//! Answer files as they come out of their templates: a value must not change what the template says.
//!
//! A template is rendered with one character of Unicode's private use in the place of each value. That text is read by a
//! parser of its format, which says where each value stands: it is a whole scalar, and comes quoted; or it is a part of
//! one, and stands there as it is; or it stands in a block, and is indented. Then the result is read again. It has to be
//! the same document, with the values in their places; else it is refused, and no machine is given something else than
//! its administrator wrote.

use std::sync::PoisonError;

pub(super) mod cmdline;
mod document;
mod format;
mod lines;
mod names;
mod plain;
mod value;
mod xml;
mod yaml;

use self::value::Text;
pub(super) use self::{
    format::Format,
    names::Names,
    value::{Values, is_place},
};

impl Format {
    /// The finished file.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub(super) fn finished(self, text: &str, values: &Values) -> Result<String, String> {
        let Values { put, names } = values;
        let values = put.lock().unwrap_or_else(PoisonError::into_inner);
        let text = Text { text, values: &values, names };
        match self {
            Self::Yaml => yaml::finished(text),
            Self::Json => document::finished(text, &document::JSON),
            Self::Toml => document::finished(text, &document::TOML),
            Self::Xml => xml::finished(text),
            Self::Kickstart | Self::Preseed | Self::Shell | Self::Lines => lines::finished(text, self),
        }
    }
}

#[cfg(test)]
mod tests;
