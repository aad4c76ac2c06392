//! The page's templates. Whatever came from the wire is escaped by the engine, since all of them are HTML by name.

use std::sync::LazyLock;

use minijinja::{Environment, UndefinedBehavior, Value, context, syntax::SyntaxConfig, value::Serde};
use serde::Serialize;

use super::{
    files,
    words::{Row, Whole},
};

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.unwrap_or_default());
    environment.add_function("file", |name: String| files::address(&name));
    for (name, source) in SOURCES {
        let added = environment.add_template(name, source);
        debug_assert!(added.is_ok(), "{name}: {added:?}");
    }
    environment
});

const SOURCES: [(&str, &str); 12] = [
    ("layout.html", include_str!("../../../assets/layout.html")),
    ("icons.html", include_str!("../../../assets/icons.html")),
    ("machines.html", include_str!("../../../assets/machines.html")),
    ("empty.html", include_str!("../../../assets/empty.html")),
    ("faults.html", include_str!("../../../assets/faults.html")),
    ("summary.html", include_str!("../../../assets/summary.html")),
    ("row.html", include_str!("../../../assets/row.html")),
    ("boot.html", include_str!("../../../assets/boot.html")),
    ("machine.html", include_str!("../../../assets/machine.html")),
    ("whole.html", include_str!("../../../assets/whole.html")),
    ("leases.html", include_str!("../../../assets/leases.html")),
    ("message.html", include_str!("../../../assets/message.html")),
];

/// A whole page.
pub(super) fn page(name: &str, context: Value) -> String {
    // A test renders each of them with all that there can be.
    let rendered = TEMPLATES.get_template(name).and_then(|template| template.render(context));
    rendered.unwrap_or_else(|error| {
        tracing::error!("the status page's {name}: {error:#}");
        "<!doctype html><title>netbootd</title><p>This page could not be rendered; see the log.\n".to_owned()
    })
}

/// A row of the list.
pub(super) fn row(row: &Row) -> String {
    fragment("row.html", row)
}

/// What changes by itself on a machine's page.
pub(super) fn whole(whole: &Whole) -> String {
    fragment("whole.html", whole)
}

/// A piece of a page by its template, which knows its value as `it`.
pub(super) fn fragment(name: &str, it: impl Serialize) -> String {
    page(name, context! { it => Serde(it) })
}
