//! Templates: the embedded ones of the scripts, and the command lines that users write.

use std::fmt;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context, value::Serde};
use serde::Serialize;

use super::why::Why;

/// The embedded templates, and the rules for rendering the users' own: an undefined name is an error.
pub struct Templates {
    environment: Environment<'static>,
}

impl Default for Templates {
    fn default() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        for (name, source) in EMBEDDED {
            let added = environment.add_template(name, source);
            debug_assert!(added.is_ok(), "{name}: {added:?}");
        }
        Self { environment }
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Templates")
    }
}

impl Templates {
    /// Renders a kernel command line.
    ///
    /// # Errors
    /// [`Why::Template`] for a fault of the template, or a result that iPXE would read as more than one command.
    pub fn cmdline(&self, template: &str, machine: &impl Serialize, vars: &impl Serialize) -> Result<String, Why> {
        let rendered = self
            .environment
            .render_named_str("cmdline", template, context! { machine => Serde(machine), vars => Serde(vars) })
            .map_err(|error| Why::Template(error.to_string()))?;
        if rendered.contains(|c: char| c.is_control()) {
            return Err(Why::Template("cmdline holds a line break or another control character".into()));
        }
        if let Some(word) = rendered.split_whitespace().find(|w| matches!(*w, "||" | "&&") || w.starts_with('#')) {
            return Err(Why::Template(format!("cmdline holds the word {word:?}, at which iPXE would end the command")));
        }
        Ok(rendered)
    }

    /// Renders an embedded template. They are tested with all that they can be given; should one fail all the same,
    /// the client is told on its screen rather than left without a script.
    #[must_use]
    pub fn render(&self, name: &str, context: minijinja::Value) -> String {
        let rendered = self.environment.get_template(name).and_then(|template| template.render(context));
        rendered.unwrap_or_else(|error| {
            format!("#!ipxe\necho netbootd: {}\nsleep 30\nexit 1\n", on_screen(&error.to_string()))
        })
    }
}

/// Words that may hold what a stranger sent, for an iPXE `echo`: one line, nothing that iPXE would expand or execute
/// (`${…}`, `&&`, `||`, `#`; core/exec.c).
#[must_use]
pub fn on_screen(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, ' '..='~') && !matches!(c, '$' | '&' | '|' | '#' | '{' | '}') { c } else { '?' })
        .take(400)
        .collect()
}

const EMBEDDED: &[(&str, &str)] = &[
    ("bootstrap.ipxe", include_str!("../../ipxe-scripts/bootstrap.ipxe")),
    ("boot.ipxe", include_str!("../../ipxe-scripts/boot.ipxe")),
    ("menu.ipxe", include_str!("../../ipxe-scripts/menu.ipxe")),
    ("local.ipxe", include_str!("../../ipxe-scripts/local.ipxe")),
    ("local_disk.ipxe", include_str!("../../ipxe-scripts/local_disk.ipxe")),
    ("looping.ipxe", include_str!("../../ipxe-scripts/looping.ipxe")),
    ("refused.ipxe", include_str!("../../ipxe-scripts/refused.ipxe")),
    ("way_on.ipxe", include_str!("../../ipxe-scripts/way_on.ipxe")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_would_be_more_than_one_command_is_refused() {
        let machine = std::collections::BTreeMap::from([("name", "k8s08")]);
        let render = |template: &str| Templates::default().cmdline(template, &machine, &machine);
        assert_eq!(render("a=b ip=${netX/ip} c#d"), Ok("a=b ip=${netX/ip} c#d".into()));
        for template in ["a || shell", "a && shell", "a # b", "a\nshell", "{{ machine.nmae }}", "{{ machine.name"] {
            assert!(matches!(render(template), Err(Why::Template(_))), "{template}");
        }
    }
}
