//! Values as text.

use serde_json::Value;

/// A value as a part of a text; else what is wrong with the value.
pub(super) fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err("is not text, so it cannot be part of a text".into()),
    }
}
