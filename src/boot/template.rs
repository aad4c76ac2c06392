//! Templates: the embedded ones of the scripts, and the command lines that users write.

use std::{collections::BTreeSet, fmt, sync::Arc};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, context, escape_formatter,
    value::Serde,
};
use serde::Serialize;

use super::{answer::Urls, why::Why};

/// The embedded templates, or the users' own in their place. An undefined name is an error, and a value that would end
/// an iPXE command, or its line, is one too.
pub struct Templates {
    environment: Environment<'static>,
    /// Names of the answer files.
    answers: Arc<BTreeSet<String>>,
}

impl Default for Templates {
    fn default() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|name| match name.rsplit(['.', '/']).next().unwrap_or(name) {
            // JSON is what YAML reads, too.
            "json" | "ign" | "yaml" | "yml" => AutoEscape::Json,
            // cloud-init's NoCloud: YAML without a suffix.
            "user-data" | "meta-data" | "vendor-data" | "network-config" => AutoEscape::Json,
            "ipxe" | "cmdline" => AutoEscape::Custom(IPXE.into()),
            _ => AutoEscape::Custom(LINE.into()),
        });
        environment.set_formatter(format);
        for (name, source) in EMBEDDED {
            let added = environment.add_template(name, source);
            debug_assert!(added.is_ok(), "{name}: {added:?}");
        }
        Self { environment, answers: Arc::default() }
    }
}

/// In iPXE scripts.
const IPXE: &str = "ipxe";
/// In files of lines: preseed, kickstart.
const LINE: &str = "line";

/// A value stays where it is put: it can neither end the line that it stands in, nor an iPXE command.
fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &minijinja::Value) -> Result<(), Error> {
    let kind = match state.auto_escape() {
        AutoEscape::Custom(kind) => Some(kind == IPXE),
        _ => None,
    };
    if let (Some(is_ipxe), Some(text)) = (kind, value.as_str()) {
        let refuse = |what: String| Err(Error::new(ErrorKind::InvalidOperation, what));
        if text.contains(|c: char| c.is_control()) {
            return refuse(format!("the value {text:?} holds a line break or another control character"));
        }
        if let (true, Some(word)) = (is_ipxe, ends_a_command(text)) {
            return refuse(format!("the value {text:?} holds the word {word:?}, at which iPXE would end the command"));
        }
        return Ok(write!(out, "{text}")?);
    }
    if kind.is_some() && !value.is_undefined() {
        return Ok(write!(out, "{value}")?);
    }
    escape_formatter(out, state, value)
}

/// iPXE splits at white space, and looks for these (core/exec.c).
fn ends_a_command(text: &str) -> Option<&str> {
    text.split_whitespace().find(|word| matches!(*word, "||" | "&&") || word.starts_with('#'))
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Templates")
    }
}

impl Templates {
    /// The same with templates of the user's own, by name: one of an embedded one's name takes its place.
    ///
    /// # Errors
    /// What is wrong with each that is none, with its name and line.
    pub fn with(own: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<String>> {
        let mut templates = Self::default();
        let (mut faults, mut answers) = (Vec::new(), BTreeSet::new());
        for (name, source) in own {
            if !name.ends_with(".ipxe") {
                answers.insert(name.clone());
            }
            if let Err(error) = templates.environment.add_template_owned(name, source) {
                faults.push(error.to_string());
            }
        }
        templates.answers = Arc::new(answers);
        if faults.is_empty() { Ok(templates) } else { Err(faults) }
    }

    /// The user's own templates that are no scripts: what machines may be given as answer files.
    #[must_use]
    pub fn answers(&self) -> Arc<BTreeSet<String>> {
        self.answers.clone()
    }

    /// Whether there is a template of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.environment.get_template(name).is_ok()
    }

    /// Renders a script or an answer file of the user's own.
    ///
    /// # Errors
    /// [`Why::Template`], with its name and line.
    pub fn own(&self, name: &str, context: minijinja::Value) -> Result<String, Why> {
        let rendered = self.environment.get_template(name).and_then(|template| template.render(context));
        rendered.map_err(|error| Why::Template(error.to_string()))
    }

    /// Renders a script of the user's own.
    ///
    /// # Errors
    /// [`Why::Template`], also where it is no iPXE script.
    pub fn script(&self, name: &str, context: minijinja::Value) -> Result<String, Why> {
        let script = self.own(name, context)?;
        if !script.starts_with("#!ipxe") {
            return Err(Why::Template(format!("{name} does not begin with #!ipxe")));
        }
        Ok(script)
    }

    /// Renders a kernel command line, in which `answer()` and `answers()` are the machine's `urls`.
    ///
    /// # Errors
    /// [`Why::Template`] for a fault of the template, or a result that iPXE would read as more than one command.
    pub fn cmdline(
        &self,
        template: &str,
        machine: &impl Serialize,
        vars: &impl Serialize,
        urls: &Urls,
    ) -> Result<String, Why> {
        let context = context! { machine => Serde(machine), vars => Serde(vars), ..urls.functions(self) };
        let rendered = self
            .environment
            .render_named_str("cmdline", template, context)
            .map_err(|error| Why::Template(error.to_string()))?;
        if rendered.contains(|c: char| c.is_control()) {
            return Err(Why::Template("cmdline holds a line break or another control character".into()));
        }
        if let Some(word) = ends_a_command(&rendered) {
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
    ("efi.ipxe", include_str!("../../ipxe-scripts/efi.ipxe")),
    ("san.ipxe", include_str!("../../ipxe-scripts/san.ipxe")),
    ("shell.ipxe", include_str!("../../ipxe-scripts/shell.ipxe")),
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
        let render = |template: &str| Templates::default().cmdline(template, &machine, &machine, &Urls::default());
        assert_eq!(render("a=b ip=${netX/ip} c#d"), Ok("a=b ip=${netX/ip} c#d".into()));
        for template in ["a || shell", "a && shell", "a # b", "a\nshell", "{{ machine.nmae }}", "{{ machine.name"] {
            assert!(matches!(render(template), Err(Why::Template(_))), "{template}");
        }
    }

    #[test]
    fn a_value_stays_where_it_is_put() {
        let own = [
            ("s.ipxe", "#!ipxe\necho {{ x }}\n"),
            ("user.yaml", "name: {{ x }}\n"),
            ("preseed.cfg", "d-i name string {{ x }}\n"),
            ("debian/user-data", "name: {{ x }}\n"),
            ("debian.yaml/preseed", "d-i name string {{ x }}\n"),
        ];
        let templates = Templates::with(own.map(|(name, source)| (name.into(), source.into()))).expect("good");
        let put = |name: &str, x: &str| templates.own(name, context! { x }).map_err(|why| why.to_string());
        assert_eq!(put("s.ipxe", "a b ${net0/mac}"), Ok("#!ipxe\necho a b ${net0/mac}".into()));
        for x in ["a\nshell", "a || shell", "a && shell", "# a"] {
            let error = put("s.ipxe", x).expect_err(x);
            assert!(error.contains("(in s.ipxe:2)"), "{error}");
        }
        assert_eq!(put("user.yaml", "a\nroot: yes # \"x\""), Ok("name: \"a\\nroot: yes # \\\"x\\\"\"".into()));
        assert_eq!(put("debian/user-data", "a: b"), Ok("name: \"a: b\"".into()));
        assert_eq!(put("preseed.cfg", "a || # b"), Ok("d-i name string a || # b".into()));
        assert_eq!(put("debian.yaml/preseed", "a: b"), Ok("d-i name string a: b".into()));
        assert!(put("preseed.cfg", "a\nb").is_err());
    }

    #[test]
    fn a_template_of_the_users_own_takes_the_place_of_an_embedded_one_and_its_faults_have_a_line() {
        let own = |source: &str| Templates::with([("local.ipxe".to_owned(), source.to_owned())]);
        let machine = context! { name => "k8s08" };
        let templates = own("#!ipxe\necho bye {{ machine.name }}\nexit").expect("good");
        assert_eq!(templates.render("local.ipxe", context! { machine }), "#!ipxe\necho bye k8s08\nexit");
        assert!(templates.has("local.ipxe") && templates.has("menu.ipxe") && !templates.has("other.ipxe"));
        let faults = own("#!ipxe\n{% if %}").map(|_| ()).expect_err("no template");
        assert!(faults.len() == 1 && faults[0].contains("(in local.ipxe:2)"), "{faults:?}");
        assert!(matches!(templates.script("refused.ipxe", context! {}), Err(Why::Template(_))));
    }
}
