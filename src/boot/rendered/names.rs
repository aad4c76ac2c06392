//! The names of values in messages. Values may be secrets, and messages are public: a message never quotes a value.

use std::collections::BTreeMap;

use serde_json::Value;

use super::plain::plain;

/// What a template is given, to find the name of a value in it.
#[derive(Clone, Debug, Default)]
pub(in crate::boot) struct Names(minijinja::Value);

impl Names {
    /// For a template's context.
    pub(in crate::boot) fn new(context: minijinja::Value) -> Self {
        Self(context)
    }

    /// For the template that is being rendered.
    pub(in crate::boot) fn of_state(state: &minijinja::State<'_, '_>) -> Self {
        let known = TABLES.iter().filter_map(|table| Some((*table, state.lookup(table)?)));
        Self(minijinja::Value::from(known.collect::<BTreeMap<_, _>>()))
    }

    /// A value as the subject of a sentence: `the value of vars.user`. A value that a template computes has no name.
    pub(in crate::boot) fn subject(&self, value: &Value) -> String {
        let names: Vec<String> =
            self.leaves().filter(|(_, known)| is_same(known, value)).map(|(name, _)| name).collect();
        match names.is_empty() {
            true => "a value".into(),
            // Which of several equal values it is, is not known.
            false => format!("the value of {}", names.join(" or ")),
        }
    }

    /// A message of others, in which each quoted value is replaced by its name.
    pub(in crate::boot) fn instead_of_values(&self, message: &str) -> String {
        self.leaves().fold(message.to_owned(), |message, (name, value)| match value.as_str() {
            // As Rust quotes a text, and as the template engine does.
            Some(text) if !text.is_empty() => message
                .replace(&format!("{text:?}"), &name)
                .replace(&format!("{:?}", minijinja::Value::from(text)), &name),
            _ => message,
        })
    }

    /// All values with their names, tables and lists too.
    fn leaves(&self) -> impl Iterator<Item = (String, Value)> {
        let mut found = Vec::new();
        for table in TABLES {
            let known = self.0.get_attr(table).ok().and_then(|known| serde_json::to_value(known).ok());
            collect(table.to_owned(), known.unwrap_or_default(), &mut found);
        }
        found.into_iter()
    }
}

/// What templates are given that differs between machines.
const TABLES: [&str; 2] = ["vars", "machine"];

fn collect(name: String, value: Value, found: &mut Vec<(String, Value)>) {
    match &value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(format!("{name}[{index}]"), item.clone(), found);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                collect(format!("{name}.{key}"), member.clone(), found);
            }
        }
        _ => {}
    }
    found.push((name, value));
}

/// Command lines have values as texts.
fn is_same(known: &Value, value: &Value) -> bool {
    known == value || value.as_str().is_some_and(|text| plain(known).is_ok_and(|known| known == text))
}

#[cfg(test)]
mod tests {
    use minijinja::{context, value::Serde};

    use super::super::super::template::Templates;

    /// What an answer file and a command line say of a value that does not fit there.
    fn faults(file: &str, template: &str, secret: &serde_json::Value) -> Vec<String> {
        let vars = std::collections::BTreeMap::from([("pw", secret)]);
        let files = [(file.to_owned(), Ok(template.replace('@', "{{ vars.pw }}").into_bytes()))];
        let templates = Templates::of_files(files);
        let given = context! { vars => Serde(&vars), machine => context! { name => "web1" } };
        let answer = match file.ends_with(".ipxe") {
            true => templates.script(file, given).map(String::into_bytes),
            false => templates.answer(file, given),
        };
        let line = templates.cmdline(&template.replace('@', "{{ vars.pw }}"), &"", &vars, minijinja::Value::default());
        [answer.err(), line.err()].into_iter().flatten().map(|why| why.to_string()).collect()
    }

    #[test]
    fn no_message_quotes_a_value() {
        let text = [
            ("a.yaml", "a: /x/@\n", "S3cret: x"),
            ("a.yaml", "a: 'x@'\n", "S3cret' x"),
            ("a.yaml", "a: |\n  @\n", "S3cret\u{7}x"),
            ("a.yaml", "a: >\n  @\n", "S3cret\nx"),
            ("a.yaml", "a: \"@\"\n", "\\S3cret"),
            ("a.yaml", "a: {{ vars.pw | safe }}\n", "[S3cret"),
            ("a.yaml", "@: 1\nS3cret: 2\n{{ vars.pw | safe }}: 3\n", "S3cret: x"),
            ("a.json", "{\"a\": \"@\"}", "S3cret\""),
            ("a.json", "{\"a\": {{ vars.pw | safe }} }", "S3cret"),
            ("a.json", "{@: 1, @: 2}", "S3cret x"),
            ("a.toml", "a = \"@\"\n", "S3cret\""),
            ("a.toml", "a = {{ vars.pw | safe }}\n", "S3cret x"),
            ("a.toml", "{{ vars.pw | safe }} = 1\n{{ vars.pw | safe }} = 1\n", "S3cret"),
            ("a.ks", "%post\necho \"@\"\n%end\n", "S3cret\""),
            ("a.ks", "user --name=x@\n", "S3cret x"),
            ("a.ks", "@\n", "%S3cret"),
            ("a.sh", "echo @\n", "-S3cret"),
            ("a.sh", "echo '@'\n", "S3cret'"),
            ("a.sh", "cat <<E\n@\nE\n", "S3cret$"),
            ("preseed.cfg", "d-i a/@ string x\n", "S3cret x"),
            ("preseed.cfg", "d-i a/b string @\n", "S3cret\\"),
            ("a.txt", "@\n", "S3cret\nx"),
            ("a.ipxe", "#!ipxe\necho @\n", "S3cret\nx"),
            ("a.ipxe", "#!ipxe\necho @\n", "S3cret || x"),
            ("a.ipxe", "#!ipxe\necho @\n", "#S3cret"),
            ("a.txt", "{{ vars.pw | hyphens }}", "S3cret"),
            ("a.txt", "{% include vars.pw %}", "S3cret"),
            ("a.txt", "{{ vars.pw + 1 }}", "S3cret"),
            ("a.txt", "{{ vars.pw | int }}", "S3cret"),
            ("a.txt", "{{ vars.pw.nothing.more }}", "S3cret"),
            ("a.txt", "{{ vars[vars.pw] }}", "S3cret"),
            ("a.txt", "{{ vars.pw | indent(vars.pw) }}", "S3cret"),
            ("a.txt", "{% for a in vars.pw.x %}{% endfor %}", "S3cret"),
            ("a.txt", "a={{ vars.pw | safe }} {{ nothing }}", "#S3cret"),
        ];
        for (file, template, secret) in text {
            let faults = faults(file, template, &secret.into());
            assert!(!faults.is_empty(), "{file} {template}: no fault");
            for fault in faults {
                assert!(!fault.contains("S3cret"), "{file} {template}: {fault}");
            }
        }
        for secret in [serde_json::json!(["S3cret"]), serde_json::json!({ "a": "S3cret" })] {
            for (file, template) in [("a.sh", "echo @\n"), ("a.yaml", "a: x@\n"), ("a.ipxe", "#!ipxe\necho @\n")] {
                for fault in faults(file, template, &secret) {
                    assert!(fault.contains("the value of vars.pw is not text"), "{file} {template}: {fault}");
                    assert!(!fault.contains("S3cret"), "{file} {template}: {fault}");
                }
            }
        }
        for fault in faults("a.txt", "{{ vars.pw ** 99999 }}", &serde_json::json!(424_242)) {
            assert!(!fault.contains("424242"), "{fault}");
        }
    }

    #[test]
    fn a_message_names_the_variable() {
        let secret = "Tr0ub4dor\"&3".into();
        let named = |file: &str, template: &str| faults(file, template, &secret).concat();
        let script = named("web.ks", "%packages\n@core\n%end\n%post\necho \"root:@\" | chpasswd\n%end\n");
        assert!(
            script.contains("the value of vars.pw holds '\"', which has a special meaning in double quotes"),
            "{script}"
        );
        assert!(
            named("a.yaml", "a: \"@\"\n").contains("the value of vars.pw cannot be used where the template puts it")
        );
        assert!(faults("a.txt", "wpa=@", &"a b".into()).concat().contains("the value of vars.pw holds a space"));
        let list = faults("a.sh", "echo x{{ vars.pw[1] }}\n", &serde_json::json!(["a", "b c"])).concat();
        assert!(list.contains("the value of vars.pw[1] cannot be a part of a word"), "{list}");
        let computed = faults("a.sh", "echo x{{ vars.pw ~ 'y' }}\n", &"b c".into()).concat();
        assert!(computed.contains("a value cannot be a part of a word"), "{computed}");
    }
}
