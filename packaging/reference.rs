//! netbootd.toml(5): every key of the configuration, from the same schema that editors complete by.

use anyhow::{Context as _, Result};
use roff::{Inline, Roff, bold, italic, roman};
use serde_json::Value;

/// The page, made of the JSON Schema.
pub(crate) fn page(schema: &Value) -> Result<String> {
    let mut page = Roff::new();
    page.control("TH", ["NETBOOTD.TOML", "5", "", "netbootd", "File formats"]);
    page.control("SH", ["NAME"]);
    page.text([roman("netbootd.toml - configuration of netbootd")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "TOML. No key is needed; one that is not known is a fault. Defaults go before the file, the file before the \
         environment (NETBOOTD_HTTP__PORT=8081 is port in [http]), and that before flags. Times are written as \"90s\", \
         \"2m\", \"1h\" or \"500ms\", sizes as \"10MB\" or \"64KiB\". netbootd check tells all faults of a file at once.",
    )]);
    let root = Table { schema, place: "At the top".into() };
    root.write(schema, &mut page)?;
    for (heading, name) in SECTIONS {
        let table = definition(schema, name).with_context(|| format!("there is no {name}"))?;
        Table { schema, place: heading.into() }.write(table, &mut page)?;
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("netbootd"),
        roman("(1), "),
        bold("netbootd-up"),
        roman("(1), "),
        bold("netbootd-check"),
        roman("(1)"),
    ]);
    Ok(page.to_roff())
}

/// What is written in brackets, and the schema's name for it.
const SECTIONS: [(&str, &str); 14] = [
    ("[dhcp]", "Dhcp"),
    ("[lease]", "Lease"),
    ("[lease.interfaces.NAME]", "LeaseTerms"),
    ("[[lease.relayed]]", "RelayedNetwork"),
    ("[tftp]", "Tftp"),
    ("[http]", "Http"),
    ("[http.keepalive]", "Keepalive"),
    ("[syslog]", "Syslog"),
    ("[state]", "State"),
    ("[control]", "Control"),
    ("[menu]", "Menu"),
    ("[profiles.NAME]", "Profile"),
    ("[[machines]]", "Machine"),
    ("[machines.override]", "Override"),
];

/// One table of the file.
struct Table<'a> {
    schema: &'a Value,
    place: String,
}

impl Table<'_> {
    fn write(&self, table: &Value, page: &mut Roff) -> Result<()> {
        page.control("SH", [self.place.as_str()]);
        if let Some(text) = table.get("description").and_then(Value::as_str).filter(|_| self.place.starts_with('[')) {
            page.text([roman(on_one_line(text))]);
        }
        let keys = table.get("properties").and_then(Value::as_object).context("a table has no keys")?;
        for (key, value) in keys {
            // Tables have sections of their own.
            if is_table(value, self.schema) {
                continue;
            }
            page.control("TP", []);
            page.text(self.head(key, value));
            let text = value.get("description").and_then(Value::as_str).context("a key has no description")?;
            page.text([roman(on_one_line(text))]);
            for (word, meaning) in choices(value, self.schema) {
                page.control("RS", []);
                page.control("TP", []);
                page.text([roman(format!("\"{word}\""))]);
                page.text([roman(on_one_line(meaning))]);
                page.control("RE", []);
            }
        }
        Ok(())
    }

    /// `port = 8080`; of keys without a default, what kind of value they take.
    fn head(&self, key: &str, value: &Value) -> Vec<Inline> {
        let default = value.get("default").filter(|default| !default.is_null());
        let empty = default.is_some_and(|default| default.as_array().is_some_and(Vec::is_empty));
        match default.filter(|_| !empty) {
            Some(default) => vec![bold(key), roman(format!(" = {default}"))],
            None => vec![bold(key), roman(" = "), italic(kind(value, self.schema))],
        }
    }
}

fn definition<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get("$defs")?.get(name)
}

/// What a key's value is, behind a reference.
fn referred<'a>(value: &'a Value, schema: &'a Value) -> &'a Value {
    let name = value.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    name.and_then(|name| definition(schema, name)).unwrap_or(value)
}

fn is_table(value: &Value, schema: &Value) -> bool {
    let is_object = |value: &Value| referred(value, schema).get("properties").is_some();
    is_object(value) || ["additionalProperties", "items"].iter().any(|of| value.get(of).is_some_and(is_object))
}

/// The words that a key takes, each with its meaning.
fn choices<'a>(value: &'a Value, schema: &'a Value) -> Vec<(&'a str, &'a str)> {
    let one = |choice: &'a Value| Some((choice.get("const")?.as_str()?, choice.get("description")?.as_str()?));
    let all = referred(value, schema).get("oneOf").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(one).collect()
}

fn kind(value: &Value, schema: &Value) -> &'static str {
    let value = referred(value, schema);
    let is = |name: &str| match value.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        Some(kind) => kind == name,
        None => false,
    };
    match () {
        () if value.get("anyOf").is_some() => "text, or a list of texts",
        () if is("array") => "list of texts",
        () if is("object") => "table",
        () if is("integer") => "number",
        () if is("boolean") => "true or false",
        () => "text",
    }
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('`', "")
}
