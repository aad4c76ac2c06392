//! Templates: the embedded ones of the scripts, and the command lines that users write.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    fmt,
    sync::Arc,
};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, context, escape_formatter,
    value::{Serde, ValueKind},
};
use serde::Serialize;

use super::{
    mac_filters,
    reason::Reason,
    rendered::{Format, Names, Values, cmdline},
    source::{RAW, Source, Sources},
    text::on_screen,
};

/// The embedded templates, or the users' own in their place. An undefined name is an error, and a value that would end
/// an iPXE command, or its line, is one too.
pub struct Templates {
    environment: Environment<'static>,
    /// Names of the answer files.
    answers: Arc<BTreeSet<String>>,
    /// How the values of each are written.
    formats: BTreeMap<String, Format>,
    /// Those that are sent as they are.
    raw: BTreeMap<String, Vec<u8>>,
    /// What is wrong with those that are none.
    faulty: BTreeMap<String, String>,
    /// What people want to know of others.
    notes: Vec<String>,
}

impl Default for Templates {
    fn default() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // Without it, a fault does not name the value that is undefined.
        environment.set_debug(true);
        environment.set_auto_escape_callback(|name| match name.rsplit(['.', '/']).next().unwrap_or(name) {
            "ipxe" => AutoEscape::Custom(IPXE.into()),
            "grub" => AutoEscape::Custom(GRUB.into()),
            "cmdline" => AutoEscape::Custom(CMDLINE.into()),
            // Answer files are rendered in a way of their own (`Templates::answer`).
            _ => AutoEscape::Custom(LINE.into()),
        });
        environment.set_formatter(format);
        environment.set_fuel(Some(FUEL));
        mac_filters::add(&mut environment);
        for (name, source) in EMBEDDED {
            let added = environment.add_template(name, source);
            debug_assert!(added.is_ok(), "{name}: {added:?}");
        }
        Self {
            environment,
            answers: Arc::default(),
            formats: BTreeMap::new(),
            raw: BTreeMap::new(),
            faulty: BTreeMap::new(),
            notes: Vec::new(),
        }
    }
}

/// Steps of one rendering, and blocks of 64 bytes that it may make: a loop that is too long must end before other clients
/// notice it. The largest of the examples takes some hundreds.
const FUEL: u64 = 1_000_000;
/// In iPXE scripts.
const IPXE: &str = "ipxe";
/// In GRUB scripts, where a text is written as one word in quotes.
const GRUB: &str = "grub";
/// In kernel command lines.
const CMDLINE: &str = "cmdline";
/// In what an answer file includes, and whatever else is rendered.
const LINE: &str = "line";

/// A value stays where it is put: it can neither end the line that it stands in, nor an iPXE command.
fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &minijinja::Value) -> Result<(), Error> {
    let kind = match state.auto_escape() {
        AutoEscape::Custom(kind) => Some(kind),
        _ => None,
    };
    if value.is_safe() {
        // A template says so of it.
        return Ok(write!(out, "{value}")?);
    }
    let refuse = |fault: &str| {
        let value = serde_json::to_value(value).unwrap_or_default();
        let fault = format!("{} {fault}", Names::of_state(state).subject(&value));
        Err(Error::new(ErrorKind::InvalidOperation, fault))
    };
    if kind.is_some() && matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return refuse("is not text: for a list write {{ … | join(',') }}, for a table use one of its keys");
    }
    if kind.is_some_and(|kind| kind == CMDLINE) && !value.is_undefined() {
        return Ok(write!(out, "{}", cmdline::marked(&plain(value)))?);
    }
    if let (Some(kind), Some(text)) = (kind, value.as_str()) {
        if text.contains(|c: char| c.is_control()) {
            return refuse("holds a line break or another control character");
        }
        if let (true, Some(word)) = (kind == IPXE, ends_a_command(text)) {
            return refuse(&format!("holds {word}, at which iPXE would end the command"));
        }
        match kind == GRUB {
            true => write!(out, "{}", grub_word(text))?,
            false => write!(out, "{text}")?,
        }
        return Ok(());
    }
    if kind.is_some() && !value.is_undefined() {
        return Ok(write!(out, "{}", plain(value))?);
    }
    escape_formatter(out, state, value)
}

/// A value as text: minijinja writes `True` where everybody else writes `true`.
fn plain(value: &minijinja::Value) -> String {
    match value.kind() {
        ValueKind::Bool => value.is_true().to_string(),
        _ => value.to_string(),
    }
}

/// What is wrong, where it is: minijinja names the `include` that failed, and not why.
fn in_words(error: &Error, names: &Names) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source().and_then(|source| source.downcast_ref::<Error>()) {
        innermost = inner;
    }
    match (innermost.kind(), innermost.name(), innermost.line()) {
        (ErrorKind::OutOfFuel, Some(name), Some(line)) => {
            format!("it takes more than {FUEL} steps or more than 64 MB: a loop runs too often (in {name}:{line})")
        }
        (_, Some(name), Some(line)) if innermost.detail().is_some_and(|detail| detail.starts_with(CALCULATION)) => {
            format!("its values cannot be calculated with (in {name}:{line})")
        }
        _ => names.instead_of_values(&innermost.to_string()),
    }
}

/// What minijinja says before it quotes numbers.
const CALCULATION: &str = "unable to calculate";

/// A text as one word of a GRUB script: in single quotes, in which GRUB replaces nothing.
pub(super) fn grub_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// iPXE splits at white space, and looks for these (core/exec.c). What follows a # may be a secret.
fn ends_a_command(text: &str) -> Option<&'static str> {
    text.split_whitespace().find_map(|word| match word {
        "||" => Some("the word ||"),
        "&&" => Some("the word &&"),
        ";" => Some("the word ;"),
        word => word.starts_with('#').then_some("a word that begins with #"),
    })
}

/// Whether a file of the user's own is a script, and no answer file.
fn is_script(name: &str) -> bool {
    name.ends_with(".ipxe") || EMBEDDED.iter().any(|(own, _)| *own == name)
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Templates")
    }
}

impl Templates {
    /// The same with files of the user's own, by their names below the templates folder; in the place of one that cannot
    /// be read stands why. A template of an embedded one's name takes its place. One that is faulty is so alone.
    #[must_use]
    pub fn of_files(own: impl IntoIterator<Item = (String, Result<Vec<u8>, String>)>) -> Self {
        let mut templates = Self::default();
        let Sources { files, notes } = Sources::of(own);
        templates.notes = notes;
        templates.answers = Arc::new(files.keys().filter(|name| !is_script(name)).cloned().collect());
        for (name, source) in files {
            match source {
                Source::Template(text) => templates.add(name, text),
                Source::Raw(bytes) => drop(templates.raw.insert(name, bytes)),
                Source::Faulty(fault) => drop(templates.faulty.insert(name.clone(), format!("{fault} (in {name})"))),
            }
        }
        templates
    }

    fn add(&mut self, name: String, text: String) {
        let format = Format::of(&name, &text);
        match self.environment.add_template_owned(name.clone(), text) {
            Ok(()) => drop(self.formats.insert(name, format)),
            Err(error) => drop(self.faulty.insert(name, format!("{error}{RAW}"))),
        }
    }

    /// The same with templates of the user's own, all of which have to be good.
    ///
    /// # Errors
    /// What is wrong with each that is none, with its name and line.
    pub fn with(own: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<String>> {
        let templates = Self::of_files(own.into_iter().map(|(name, text)| (name, Ok(text.into_bytes()))));
        if templates.faulty.is_empty() { Ok(templates) } else { Err(templates.faulty.into_values().collect()) }
    }

    /// What is wrong with each file that is no template, by its name.
    #[must_use]
    pub fn faulty(&self) -> &BTreeMap<String, String> {
        &self.faulty
    }

    /// What people want to know of files that are used all the same.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The user's own files that are no scripts: what machines may be given as answer files, those too that are faulty.
    #[must_use]
    pub fn answers(&self) -> Arc<BTreeSet<String>> {
        self.answers.clone()
    }

    /// Whether there is a template of this name, be it a faulty one.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.faulty.contains_key(name) || self.environment.get_template(name).is_ok()
    }

    /// An answer file of the user's own: rendered, or as it is.
    ///
    /// # Errors
    /// [`Reason::Template`], with its name and line; also where a value would change what the file says.
    pub fn answer(&self, name: &str, context: minijinja::Value) -> Result<Vec<u8>, Reason> {
        if let Some(fault) = self.faulty.get(name) {
            return Err(Reason::Template(fault.clone()));
        }
        if let Some(bytes) = self.raw.get(name) {
            return Ok(bytes.clone());
        }
        let names = Names::new(context.clone());
        let values = Arc::new(Values::named(names.clone()));
        let mut environment = self.environment.clone();
        // What it includes is a part of it, whatever its name.
        environment.set_auto_escape_callback(|_| AutoEscape::Custom(LINE.into()));
        let put = values.clone();
        environment.set_formatter(move |out, state, value| match value.is_undefined() || value.is_safe() {
            true => format(out, state, value),
            false => {
                let place = serde_json::to_value(value).ok().and_then(|value| put.put(value));
                let place = place.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "too many values"))?;
                Ok(write!(out, "{place}")?)
            }
        });
        let rendered = environment.get_template(name).and_then(|template| template.render(context));
        let rendered = rendered.map_err(|error| Reason::Template(in_words(&error, &names)))?;
        let format = self.formats.get(name).copied().unwrap_or(Format::Lines);
        let finished = format.finished(&rendered, &values);
        let mut text = finished.map_err(|fault| Reason::Template(format!("{fault} (in {name})")))?;
        if !text.ends_with('\n') {
            // minijinja takes the last one; some readers lose a line that does not end.
            text.push('\n');
        }
        Ok(text.into_bytes())
    }

    /// Renders a script of the user's own.
    ///
    /// # Errors
    /// [`Reason::Template`], also where it is no iPXE script.
    pub fn script(&self, name: &str, context: minijinja::Value) -> Result<String, Reason> {
        if let Some(fault) = self.faulty.get(name) {
            return Err(Reason::Template(fault.clone()));
        }
        let names = Names::new(context.clone());
        let rendered = self.environment.get_template(name).and_then(|template| template.render(context));
        let script = rendered.map_err(|error| Reason::Template(in_words(&error, &names)))?;
        if !script.starts_with("#!ipxe") {
            return Err(Reason::Template(format!("{name} does not begin with #!ipxe")));
        }
        Ok(script)
    }

    /// Renders a kernel command line, in which `answer()` and `answers()` are the machine's `urls`.
    ///
    /// # Errors
    /// [`Reason::Template`] for a fault of the template, or a result that iPXE would read as more than one command.
    pub fn cmdline(
        &self,
        template: &str,
        machine: &impl Serialize,
        vars: &impl Serialize,
        functions: minijinja::Value,
    ) -> Result<String, Reason> {
        let context = context! { machine => Serde(machine), vars => Serde(vars), ..functions };
        let names = Names::new(context.clone());
        let rendered = self
            .environment
            .render_named_str("cmdline", template, context)
            .map_err(|error| Reason::Template(in_words(&error, &names)))?;
        let rendered =
            cmdline::finished(&rendered, &names).map_err(|fault| Reason::Template(format!("{fault} (in cmdline)")))?;
        if rendered.contains(|c: char| c.is_control()) {
            return Err(Reason::Template("cmdline holds a line break or another control character".into()));
        }
        if let Some(word) = ends_a_command(&rendered) {
            return Err(Reason::Template(format!("cmdline holds {word}, at which iPXE would end the command")));
        }
        Ok(rendered)
    }

    /// Renders an embedded template. They are tested with all that they can be given; should one fail all the same,
    /// the client's screen shows it; the client is not left without a script.
    #[must_use]
    pub fn render(&self, name: &str, context: minijinja::Value) -> String {
        let names = Names::new(context.clone());
        let rendered = self.environment.get_template(name).and_then(|template| template.render(context));
        rendered.unwrap_or_else(|error| {
            let fault = in_words(&error, &names);
            if name.ends_with(".grub") {
                return format!("echo {}\nsleep 30\nexit\n", grub_word(&format!("netbootd: {}", on_screen(&fault))));
            }
            format!("#!ipxe\necho netbootd: {}\nsleep 30\nexit 1\n", on_screen(&fault))
        })
    }
}

const EMBEDDED: &[(&str, &str)] = &[
    ("ask.ipxe", include_str!("../../ipxe-scripts/ask.ipxe")),
    ("bootstrap.ipxe", include_str!("../../ipxe-scripts/bootstrap.ipxe")),
    ("boot.ipxe", include_str!("../../ipxe-scripts/boot.ipxe")),
    ("menu.ipxe", include_str!("../../ipxe-scripts/menu.ipxe")),
    ("local.ipxe", include_str!("../../ipxe-scripts/local.ipxe")),
    ("local_disk.ipxe", include_str!("../../ipxe-scripts/local_disk.ipxe")),
    ("chain.ipxe", include_str!("../../ipxe-scripts/chain.ipxe")),
    ("efi.ipxe", include_str!("../../ipxe-scripts/efi.ipxe")),
    ("modules.ipxe", include_str!("../../ipxe-scripts/modules.ipxe")),
    ("san.ipxe", include_str!("../../ipxe-scripts/san.ipxe")),
    ("shell.ipxe", include_str!("../../ipxe-scripts/shell.ipxe")),
    ("looping.ipxe", include_str!("../../ipxe-scripts/looping.ipxe")),
    ("refused.ipxe", include_str!("../../ipxe-scripts/refused.ipxe")),
    ("way_on.ipxe", include_str!("../../ipxe-scripts/way_on.ipxe")),
    ("start.grub", include_str!("../../grub-scripts/start.grub")),
    ("boot.grub", include_str!("../../grub-scripts/boot.grub")),
    ("efi.grub", include_str!("../../grub-scripts/efi.grub")),
    ("menu.grub", include_str!("../../grub-scripts/menu.grub")),
    ("local.grub", include_str!("../../grub-scripts/local.grub")),
    ("local_disk.grub", include_str!("../../grub-scripts/local_disk.grub")),
    ("looping.grub", include_str!("../../grub-scripts/looping.grub")),
    ("refused.grub", include_str!("../../grub-scripts/refused.grub")),
    ("shell.grub", include_str!("../../grub-scripts/shell.grub")),
    ("way_on.grub", include_str!("../../grub-scripts/way_on.grub")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_would_be_more_than_one_command_is_refused() {
        let machine = std::collections::BTreeMap::from([("name", "k8s08")]);
        let render =
            |template: &str| Templates::default().cmdline(template, &machine, &machine, minijinja::Value::default());
        assert_eq!(render("a=b;c ip=${netX/ip} c#d"), Ok("a=b;c ip=${netX/ip} c#d".into()));
        for template in
            ["a || shell", "a && shell", "a ; shell", "a # b", "a\nshell", "{{ machine.nmae }}", "{{ machine.name"]
        {
            assert!(matches!(render(template), Err(Reason::Template(_))), "{template}");
        }
    }

    /// Also in a release: Cargo.toml builds minijinja without debug assertions for the tests too.
    #[test]
    fn an_undefined_value_is_named_with_its_place() {
        let vars = BTreeMap::from([("site", "x")]);
        for (template, name) in [
            ("a\nb={{ vars.role }}", "vars.role"),
            ("{{ machine.nmae | upper }}", "machine.nmae"),
            ("{% if vars.role %}a{% endif %}", "vars.role"),
            ("{{ vars.disk.size }}", "vars.disk"),
            ("{{ role }}", "role"),
        ] {
            let refused = Templates::default().cmdline(template, &vars, &vars, minijinja::Value::default());
            let words = refused.expect_err(template).to_string();
            let line = template.lines().count();
            assert!(words.contains(&format!("`{name}` is undefined (in cmdline:{line})")), "{template}: {words}");
        }
    }

    #[test]
    fn a_value_is_one_argument_of_a_command_line_or_it_is_refused() {
        let render = |template: &str, value: serde_json::Value| {
            let vars = BTreeMap::from([("x", value)]);
            let made = Templates::default().cmdline(template, &"", &vars, minijinja::Value::default());
            made.map_err(|why| why.to_string())
        };
        for value in ["a b", "x init=/bin/sh", " a", "a\tb", "a\nb", "a\"b", "${net0/mac}", "a || shell", "a # b"] {
            let refused = render("user={{ vars.x }} q", value.into()).expect_err(value);
            assert!(refused.contains("the value of vars.x holds "), "{refused}");
        }
        let spaces = render("user={{ vars.x }}", "a b".into()).expect_err("two arguments");
        assert!(spaces.contains("several arguments") && spaces.contains("{{ … | safe }}"), "{spaces}");
        for value in ["a;b", "$6$salt$hash", "#fff", "ü", "", "a{{b}}", "a=b,c", "C:\\x"] {
            assert_eq!(render("user={{ vars.x }} q", value.into()), Ok(format!("user={value} q")));
        }
        assert_eq!(render("title=\"{{ vars.x }}\"", "a b".into()), Ok("title=\"a b\"".into()));
        // iPXE makes one space of two.
        assert!(render("title=\"{{ vars.x }}\"", "a  b".into()).is_err());
        assert!(render("title=\"{{ vars.x }}\"", "a\" b".into()).is_err());
        assert_eq!(render("{{ vars.x | safe }}", "console=ttyS0 quiet".into()), Ok("console=ttyS0 quiet".into()));
        assert_eq!(render("a={{ vars.x }}", true.into()), Ok("a=true".into()));
        assert_eq!(render("a={{ vars.x }}", 1.5.into()), Ok("a=1.5".into()));
        assert_eq!(render("a={{ vars.x | join(',') }}", serde_json::json!(["a", "b"])), Ok("a=a,b".into()));
        for value in [serde_json::json!(["a", "b"]), serde_json::json!({ "a": 1 })] {
            let refused = render("a={{ vars.x }}", value).expect_err("no text");
            assert!(refused.contains("is not text"), "{refused}");
        }
    }

    #[test]
    fn a_template_that_goes_round_for_ever_ends_with_its_cause() {
        let round = "{% for a in range(99999) %}{% for b in range(99999) %}b{% endfor %}{% endfor %}";
        let files = [
            ("long.ipxe", format!("#!ipxe\n{round}\n")),
            ("round.ipxe", "#!ipxe\n{% include 'round.ipxe' %}\n".into()),
            ("long.cfg", round.into()),
            ("macro.cfg", "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".into()),
            ("outer.cfg", "{% include 'inner.cfg' %}".into()),
            ("inner.cfg", "\n{{ nothing }}".into()),
        ];
        let templates = Templates::of_files(files.map(|(name, text)| (name.to_owned(), Ok(text.into_bytes()))));
        let script = |name: &str| templates.script(name, context! {}).expect_err(name).to_string();
        let answer = |name: &str| templates.answer(name, context! {}).expect_err(name).to_string();
        assert!(script("long.ipxe").contains("a loop runs too often (in long.ipxe:2)"), "{}", script("long.ipxe"));
        assert!(answer("long.cfg").contains("a loop runs too often (in long.cfg:1)"), "{}", answer("long.cfg"));
        assert!(script("round.ipxe").contains("recursion limit exceeded"), "{}", script("round.ipxe"));
        assert!(answer("macro.cfg").contains("recursion limit exceeded"), "{}", answer("macro.cfg"));
        assert!(answer("outer.cfg").contains("(in inner.cfg:2)"), "{}", answer("outer.cfg"));
    }

    #[test]
    fn a_value_stays_where_it_is_put() {
        let own = [
            ("s.ipxe", "#!ipxe\necho {{ x }}\n"),
            ("user.yaml", "name: {{ x }}\n"),
            ("preseed.cfg", "d-i name string {{ x }}\n"),
            ("debian/user-data", "{% include 'user.yaml' %}{% set y %}a-{{ x }}{% endset %}\nmore: {{ y }}"),
            ("debian.yaml/notes", "d-i name string {{ x }}\n"),
            ("safe.yaml", "list: {{ x | safe }}\n"),
        ];
        let templates = Templates::with(own.map(|(name, source)| (name.into(), source.into()))).expect("good");
        let script = |x: &str| templates.script("s.ipxe", context! { x }).map_err(|why| why.to_string());
        assert_eq!(script("a b ${net0/mac}"), Ok("#!ipxe\necho a b ${net0/mac}".into()));
        for x in ["a\nshell", "a || shell", "a && shell", "# a"] {
            let error = script(x).expect_err(x);
            assert!(error.contains("(in s.ipxe:2)"), "{error}");
        }
        let put = |name: &str, x: &str| {
            let answer = templates.answer(name, context! { x }).map_err(|why| why.to_string());
            answer.map(|bytes| String::from_utf8(bytes).expect("text"))
        };
        assert_eq!(put("user.yaml", "a\nroot: yes # \"x\""), Ok("name: \"a\\nroot: yes # \\\"x\\\"\"\n".into()));
        assert_eq!(put("debian/user-data", "b"), Ok("name: \"b\"\nmore: a-b\n".into()));
        assert!(put("debian/user-data", "b: c").expect_err("more").contains("(in debian/user-data)"));
        assert_eq!(put("preseed.cfg", "a || # b"), Ok("d-i name string a || # b\n".into()));
        assert_eq!(put("debian.yaml/notes", "a: b"), Ok("d-i name string a: b\n".into()));
        assert_eq!(put("safe.yaml", "[a, b]"), Ok("list: [a, b]\n".into()));
        assert!(put("preseed.cfg", "a\nb").is_err());
    }

    #[test]
    fn one_faulty_file_is_faulty_alone() {
        let files = [
            ("bad.sh", Ok(b"echo ${#disks[@]}\n".to_vec())),
            ("half.ipxe", Ok(b"#!ipxe\n{% if x %}\n".to_vec())),
            ("local.ipxe", Ok(b"#!ipxe\n{% if x %}\n".to_vec())),
            ("locked", Err("Permission denied".to_owned())),
            ("good.cfg", Ok(b"x {{ x }}\n".to_vec())),
            ("raw/post.sh", Ok(b"echo ${#disks[@]} {{ x }}\n".to_vec())),
        ];
        let templates = Templates::of_files(files.map(|(name, file)| (name.to_owned(), file)));
        let put = |name: &str| templates.answer(name, context! { x => 1 }).map_err(|why| why.to_string());
        assert_eq!(put("good.cfg"), Ok(b"x 1\n".to_vec()));
        assert_eq!(put("raw/post.sh"), Ok(b"echo ${#disks[@]} {{ x }}\n".to_vec()));
        assert!(put("bad.sh").expect_err("faulty").contains("{% raw %}"));
        assert!(put("locked").expect_err("faulty").contains("Permission denied (in locked)"));
        let script = templates.script("half.ipxe", context! {}).expect_err("faulty").to_string();
        assert!(script.contains("(in half.ipxe:2)") && script.contains("{% raw %}"), "{script}");
        assert!(templates.has("half.ipxe"));
        // The embedded one goes on.
        let machine = context! { name => "k8s08", local_boot => "exit" };
        assert!(templates.render("local.ipxe", context! { machine }).contains("k8s08 boots from its local disk"));
        let names: Vec<&str> = templates.faulty().keys().map(String::as_str).collect();
        assert_eq!(names, ["bad.sh", "half.ipxe", "local.ipxe", "locked"]);
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
        assert!(matches!(templates.script("refused.ipxe", context! {}), Err(Reason::Template(_))));
    }
}
