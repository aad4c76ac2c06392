use serde_json::json;

use serde_json::Value;

use super::*;

/// A file of a name, with each `@` of it a value.
fn put(name: &str, template: &str, values: &[Value]) -> Result<String, String> {
    let own = Values::default();
    let mut left = values.iter();
    let place = |c| if c == '@' { own.put(left.next().expect("a value").clone()).expect("a place") } else { c };
    let text: String = template.chars().map(place).collect();
    Format::of(name, &text).finished(&text, &own)
}

fn one(name: &str, template: &str, value: &str) -> Result<String, String> {
    put(name, template, &[json!(value)])
}

#[test]
fn a_file_is_of_the_format_that_its_name_or_its_first_words_say() {
    for (name, text, format) in [
        ("user-data", "#cloud-config\n", Format::Yaml),
        ("ubuntu/user-data", "#!/bin/sh\n", Format::Shell),
        ("user-data", "#!/usr/bin/env python3\n", Format::Lines),
        ("user-data", "#include\nhttp://x/\n", Format::Lines),
        ("user-data", "## template: jinja\n#cloud-config\n", Format::Lines),
        ("node.txt", "#cloud-config\n", Format::Yaml),
        ("meta-data", "", Format::Yaml),
        ("a.ign", "", Format::Json),
        ("answer.TOML", "", Format::Toml),
        ("autoinst.xml", "", Format::Xml),
        ("ks.cfg", "text\n%packages\n%end\n", Format::Kickstart),
        ("preseed.cfg", "# x\nd-i a/b string c\n", Format::Preseed),
        ("answers.yaml/notes", "", Format::Lines),
    ] {
        assert_eq!(Format::of(name, text), format, "{name} {text}");
    }
}

#[test]
fn a_whole_scalar_is_quoted_and_a_part_of_one_stands_as_it_is() {
    let yaml = |template: &str, value: &str| one("a.yaml", template, value);
    assert_eq!(yaml("a: @\n", "x: # \"y\"\nz"), Ok("a: \"x: # \\\"y\\\"\\nz\"\n".into()));
    assert_eq!(yaml("path: /home/@/x\n", "admin"), Ok("path: /home/admin/x\n".into()));
    assert_eq!(yaml("hostname: node-@\n", "7"), Ok("hostname: node-7\n".into()));
    assert_eq!(yaml("a: \"x @\"\n", "y # z: 1"), Ok("a: \"x y # z: 1\"\n".into()));
    assert_eq!(yaml("a: '@'\n", "y \"z\""), Ok("a: 'y \"z\"'\n".into()));
    assert_eq!(yaml("# for @\na: 1\n", "k8s: {"), Ok("# for k8s: {\na: 1\n".into()));
    assert_eq!(yaml("@: 1\n", "a: b"), Ok("\"a: b\": 1\n".into()));
    assert_eq!(
        put("a.yaml", "a: [@, x]\nb: @\n", &[json!(["p", 1]), json!(null)]),
        Ok("a: [[\"p\",1], x]\nb: null\n".into())
    );
    assert_eq!(put("a.yaml", "a: n@\n", &[json!(7)]), Ok("a: n7\n".into()));
    assert_eq!(yaml("a: @\n", "x\u{85}\u{2028}"), Ok("a: \"x\\u0085\\u2028\"\n".into()));
}

#[test]
fn a_part_of_a_scalar_that_would_be_something_else_is_refused() {
    for (template, value) in [
        ("path: /home/@/x\n", "a: b"),
        ("path: /home/@/x\n", "a #b"),
        ("path: /home/@/x\n", "a\nroot: yes"),
        ("path: x@\n", ": y"),
        ("path: @x\n", "- "),
        ("path: @x\n", "!!int "),
        ("path: @x\n", "&a "),
        ("path: [a@, b]\n", "x, y"),
        ("path: {a: b@}\n", "x, y: z"),
        ("path: \"a @\"\n", "\" b: c"),
        ("path: \"a @\"\n", "\\x"),
        ("path: 'a @'\n", "it's"),
        ("path: 1@\n", "23"),
        ("path: @e\n", "tru"),
        ("path: @-01-01\n", "2026"),
        ("# @\na: 1\n", "x\nroot: yes"),
        ("a: >\n  x @\n", "b\nc"),
        ("a: |\n  @\n", " x"),
    ] {
        let fault = one("a.yaml", template, value).expect_err(&format!("{template} {value}"));
        assert!(fault.contains("value") || fault.contains("put together"), "{fault}");
    }
    assert!(put("a.yaml", "a: x@\n", &[json!(["y"])]).is_err());
    let fault = one("a.yaml", "a: 1\nb: /home/@/x\n", "a\nb").expect_err("a line break");
    assert!(fault.ends_with("(line 2 of the answer)"), "{fault}");
    assert!(one("a.yaml", "a: [1\n", "").is_err_and(|fault| fault.starts_with("it is not valid YAML: ")));
}

#[test]
fn a_block_keeps_its_indentation() {
    let block = |value: Value| {
        put("user-data", "#cloud-config\nwrite_files:\n  - content: |\n      @\n    path: /x\n", &[value])
    };
    let lines = "#cloud-config\nwrite_files:\n  - content: |\n      a: b\n      # c\n\n      d\n    path: /x\n";
    assert_eq!(block(json!("a: b\n# c\n\nd\n")), Ok(lines.into()));
    assert_eq!(block(json!(["a: b", "# c", "", "d"])), Ok(lines.into()));
    let nested = put("a.yaml", "a: |\n  x:\n    y: @\n  z\n", &[json!("1\n2")]);
    assert_eq!(nested, Ok("a: |\n  x:\n    y: 1\n    2\n  z\n".into()));
}

#[test]
fn json_and_toml_say_what_their_templates_do() {
    let json = |template: &str, value: Value| put("a.ign", template, &[value]);
    assert_eq!(json("{\"a\": @}", json!("x\" {")), Ok("{\"a\": \"x\\\" {\"}".into()));
    assert_eq!(json("{\"a\": \"/home/@\"}", json!("me")), Ok("{\"a\": \"/home/me\"}".into()));
    assert_eq!(json("{\"a\": @}", json!({"b": [1]})), Ok("{\"a\": {\"b\":[1]}}".into()));
    assert!(json("{\"a\": \"/home/@\"}", json!("x\", \"b\": \"y")).is_err());
    assert!(json("{\"a\": \"/home/@\"}", json!("x\\n")).is_err());
    assert!(json("{\"a\": 1, \"@\": 2}", json!("a")).is_err());
    assert!(json("{\"a\": @,}", json!("a")).is_err_and(|fault| fault.starts_with("it is not valid JSON: ")));

    let toml = |template: &str, value: Value| put("answer.toml", template, &[value]);
    assert_eq!(toml("[global] # for @\na = 1\n", json!("k8s08 \"x\"")).map(|_| ()), Err("a value cannot be used inside quotes; remove the quotes from the template: the value is quoted automatically (line 1 of the answer)".into()));
    assert_eq!(toml("fqdn = \"@.lan\"\n", json!("k8s08")), Ok("fqdn = \"k8s08.lan\"\n".into()));
    assert_eq!(toml("a = '''\n@'''\n", json!("k8s08")), Ok("a = '''\nk8s08'''\n".into()));
    assert!(toml("a = '@'\n", json!("x' # y")).is_err());
    let keys = toml("root_ssh_keys = @\n", json!(["ssh a \"b\"", "c"])).expect("good");
    let parsed: toml_edit::DocumentMut = keys.parse().expect("TOML");
    assert_eq!(parsed["root_ssh_keys"][0].as_str(), Some("ssh a \"b\""));
    let map = toml("[network]\nfilter = @\n", json!({"ID_NET_NAME_MAC": "*x"})).expect("good");
    assert_eq!(
        map.parse::<toml_edit::DocumentMut>().expect("TOML")["network"]["filter"]["ID_NET_NAME_MAC"].as_str(),
        Some("*x")
    );
    assert!(toml("a = @\n", json!(null)).is_err());
}

#[test]
fn a_value_in_a_shell_script_stays_the_word_that_it_is() {
    let sh = |template: &str, value: &str| one("a.sh", template, value);
    assert_eq!(sh("echo @\n", "a b; $(reboot)"), Ok("echo 'a b; $(reboot)'\n".into()));
    assert_eq!(sh("X=@\n", "it's"), Ok("X=\"it's\"\n".into()));
    assert_eq!(sh("echo @/x\n", "a"), Ok("echo a/x\n".into()));
    assert_eq!(sh("echo '@'\n", "$6$a b"), Ok("echo '$6$a b'\n".into()));
    assert_eq!(sh("echo \"@\"\n", "a b"), Ok("echo \"a b\"\n".into()));
    assert_eq!(sh("cat <<EOF\n@\nEOF\necho\n", "it's a \"b\""), Ok("cat <<EOF\nit's a \"b\"\nEOF\necho\n".into()));
    assert_eq!(sh("cat <<'EOF'\n@\nEOF\n", "$HOME"), Ok("cat <<'EOF'\n$HOME\nEOF\n".into()));
    assert_eq!(sh("# it's @\necho\n", "x y"), Ok("# it's x y\necho\n".into()));
    for (template, value) in [
        ("echo x@\n", "a b"),
        ("echo '@'\n", "it's"),
        ("echo \"@\"\n", "$HOME"),
        ("echo \"$(cat @)\"\n", "a; reboot"),
        ("cat <<EOF\n@\nEOF\n", "$(reboot)"),
        ("echo $((1<<2)) x@\n", "; reboot"),
        ("rm @\n", "-rf"),
        ("echo @\n", "a\nreboot"),
    ] {
        assert!(sh(template, value).is_err(), "{template} {value}");
    }
}

#[test]
fn kickstart_and_preseed_are_split_as_their_installers_do() {
    let ks = |template: &str, value: &str| one("a.ks", template, value);
    assert_eq!(ks("user --name=@ --lock\n", "me"), Ok("user --name=me --lock\n".into()));
    assert_eq!(ks("user --gecos=@ --lock\n", "Ada Lovelace"), Ok("user --gecos='Ada Lovelace' --lock\n".into()));
    assert_eq!(ks("rootpw --iscrypted @\n", "$6$a$b/c."), Ok("rootpw --iscrypted $6$a$b/c.\n".into()));
    assert_eq!(ks("%post\necho @\n%end\n", "$HOME"), Ok("%post\necho '$HOME'\n%end\n".into()));
    assert_eq!(
        ks("%post --interpreter=/usr/bin/python3\nx = '@'\n%end\n", "a $b"),
        Ok("%post --interpreter=/usr/bin/python3\nx = 'a $b'\n%end\n".into())
    );
    for (template, value) in [
        ("user --name=x@\n", "me --groups=wheel"),
        ("user --name='@'\n", "me' --groups='wheel"),
        ("lang @\n", "--addsupport=x"),
        ("%packages\n@\n%end\n", "%end"),
        ("text\n@\n", "%post"),
        ("%post\necho \"@\"\n%end\n", "`reboot`"),
    ] {
        assert!(ks(template, value).is_err(), "{template} {value}");
    }

    let preseed = |template: &str, value: &str| one("preseed.cfg", template, value);
    let name = "d-i passwd/user-fullname string @\n";
    assert_eq!(preseed(name, "Ada \"A\" Lovelace"), Ok("d-i passwd/user-fullname string Ada \"A\" Lovelace\n".into()));
    let command = "d-i preseed/late_command string \\\n  in-target useradd @; \\\n  true\n";
    assert_eq!(preseed(command, "a b"), Ok(command.replace('@', "'a b'")));
    assert!(preseed(name, "x\\").is_err());
    assert!(preseed(name, "x\nd-i y/z string w").is_err());
    assert!(preseed("d-i @ string x\n", "a/b select").is_err());
    assert!(preseed("d-i preseed/late_command string echo '@'\n", "'; reboot '").is_err());
}

#[test]
fn what_other_parsers_take_for_a_line_end_is_refused_or_escaped() {
    for c in ['\u{85}', '\u{2028}', '\u{2029}'] {
        let value = format!("xa{c}b: y");
        for (name, template) in [
            ("a.yaml", "a: x@\n"),
            ("a.yaml", "a: 'x@'\n"),
            ("a.yaml", "a: |\n  @\n"),
            ("a.yaml", "a: >\n  @\n"),
            ("a.yaml", "# @\na: 1\n"),
            ("a.ks", "user --gecos=@\n"),
            ("preseed.cfg", "d-i a/b string @\n"),
            ("a.txt", "@\n"),
        ] {
            assert!(one(name, template, &value).is_err(), "{name} {template} U+{:04X}", u32::from(c));
        }
        let number = format!("\\u{:04x}", u32::from(c));
        assert_eq!(one("a.yaml", "a: @\n", &value), Ok(format!("a: \"xa{number}b: y\"\n")));
    }
}

#[test]
fn xml_is_escaped_where_it_is_read_as_markup() {
    let xml = |template: &str, value: &str| one("autoinst.xml", template, value);
    assert_eq!(xml("<a b=\"@\"/>", "x\"/><y>&"), Ok("<a b=\"x&quot;/&gt;&lt;y&gt;&amp;\"/>".into()));
    let lines = json!("x\ty\r\nz");
    assert_eq!(
        put("a.xml", "<a b='@'>@</a>", &[lines.clone(), lines]),
        Ok("<a b='x&#9;y&#13;&#10;z'>x\ty&#13;\nz</a>".into())
    );
    assert_eq!(xml("<a><![CDATA[x @ y]]></a>", "[[ a && b ]]"), Ok("<a><![CDATA[x [[ a && b ]] y]]></a>".into()));
    assert_eq!(xml("<!-- > @ --><a/>", "a & b"), Ok("<!-- > a & b --><a/>".into()));
    assert_eq!(xml("<@>", "name"), Ok("<name>".into()));
    assert_eq!(xml("<?x \"?><a>@</a>", "<"), Ok("<?x \"?><a>&lt;</a>".into()));
    for (template, value) in [
        ("<a>@</a>", "bell\u{7}"),
        ("<a b='@'/>", "\u{0}"),
        ("<a>@</a>", "\u{ffff}"),
        ("<a><![CDATA[@]]></a>", "x]]><b/>"),
        ("<a><![CDATA[x]@></a>", "]"),
        ("<!-- @ --><a/>", "x--><b/>"),
        ("<!-- @ --><a/>", "x -- y"),
        ("<a @='1'/>", "b='2' c"),
        ("<a @='1'/>", ""),
    ] {
        assert!(xml(template, value).is_err(), "{template} {value:?}");
    }
}
