//! The answer files that are shipped as examples, rendered for a machine and read by parsers of their formats.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use netbootd::{
    boot::{
        answer::{Answer, answer},
        machine::Rules,
        query::Query,
        roster::Roster,
        selector::RuleBook,
    },
    config::{Fault, Level, load::load, resolve::resolve, settings::Settings},
};
use netbootd_lab::{CLOUD_INIT, KSVALIDATOR, Tool, required};
use saphyr::{LoadableYamlNode as _, Yaml};

const TEMPLATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/templates");

/// Each example on the command line that its first lines name. The values are such as would break out of a line of YAML
/// or JSON that was put together from text.
const CONFIGURATION: &str = r#"
assets = "ASSETS"
templates = "TEMPLATES"

[profiles.debian]
kernel = "vmlinuz"
cmdline = 'auto=true priority=critical url={{ answer("debian/preseed.cfg") }}'
[profiles.fedora]
kernel = "vmlinuz"
cmdline = 'inst.ks={{ answer("fedora/install.ks") }}'
[profiles.ubuntu]
kernel = "vmlinuz"
cmdline = 'autoinstall ds=nocloud-net;s={{ answers("ubuntu") }}'
[profiles.cloud]
kernel = "vmlinuz"
cmdline = 'ds=nocloud-net;s={{ answers("cloud") }}'
[profiles.coreos]
kernel = "vmlinuz"
cmdline = 'ignition.config.url={{ answer("coreos/config.ign") }}'
[profiles.proxmox]
kernel = "vmlinuz"
cmdline = 'x={{ answer("proxmox/answer.toml") }}'
"#;

/// Of the machine of each profile: there are as many as profiles.
const VARS: &str = r#"vars = { user = "o'brien: \"admin\" # {x}", password_hash = "$6$salt$a/b.c", disk = "/dev/sda", ssh_keys = ["ssh-ed25519 AAAA me: it's \"I\" <me@lab>"] }"#;

const PROFILES: [&str; 6] = ["debian", "fedora", "ubuntu", "cloud", "coreos", "proxmox"];

const USER: &str = "o'brien: \"admin\" # {x}";
const KEY: &str = "ssh-ed25519 AAAA me: it's \"I\" <me@lab>";

fn configuration() -> String {
    let rule = |(number, profile): (usize, &str)| {
        format!("[[machines]]\nname = \"k8s0{number}\"\nmac = \"{}\"\nprofile = \"{profile}\"\n{VARS}\n", mac(number))
    };
    format!("{CONFIGURATION}{}", PROFILES.into_iter().enumerate().map(rule).collect::<String>())
}

fn mac(number: usize) -> String {
    format!("52:54:00:12:34:0{number}")
}

/// The rules of the configuration; its faults where it has any.
fn rules(configuration: &str) -> Result<Rules, String> {
    let settings = settings(configuration)?;
    let (profiles, templates) = (settings.profiles, settings.templates);
    Ok(Rules { profiles, templates, machines: RuleBook::new(settings.machines), ..Rules::default() })
}

fn settings(configuration: &str) -> Result<Settings, String> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("vmlinuz"), "kernel").expect("written");
    let path = folder.path().join("netbootd.toml");
    let text = configuration.replace("ASSETS", &folder.path().display().to_string()).replace("TEMPLATES", TEMPLATES);
    fs::write(&path, text).expect("written");
    let loaded = load(Some(&path), [], &[]).map_err(|faults| faults.to_string())?;
    resolve(&loaded).map_err(|faults| faults.to_string())
}

/// An answer's text, and what it is sent as.
struct Rendered {
    text: String,
    content_type: &'static str,
}

fn rendered(name: &str) -> Rendered {
    let rules = rules(&configuration()).expect("no fault");
    let of = name.split('/').next().expect("a folder");
    let number = PROFILES.iter().position(|profile| *profile == of).expect("a profile");
    let query = Query { mac: Some(mac(number)), profile: Some(of.into()), ..Query::default() };
    let Answer { body, content_type, .. } =
        answer(&rules, &Roster::default(), "http://192.0.2.10:8080", name, &query, None).expect("rendered");
    Rendered { text: String::from_utf8(body).expect("text"), content_type }
}

/// What the machine of a number asks for to say so.
fn report(number: usize, event: &str) -> String {
    format!("http://192.0.2.10:8080/report?mac={}&event={event}", mac(number))
}

#[test]
fn preseed_is_one_line_a_question() {
    let Rendered { text, content_type } = rendered("debian/preseed.cfg");
    assert!(content_type.starts_with("text/plain"));
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        assert!(matches!(words.as_slice(), ["d-i" | "tasksel", question, _, ..] if question.contains('/')), "{line}");
    }
    let hash = "\nd-i passwd/user-password-crypted password $6$salt$a/b.c\n";
    let report =
        format!("\nd-i preseed/late_command string wget -q -O /dev/null '{}' || true\n", report(0, "installed"));
    for part in [&report, hash, "\nd-i netcfg/get_hostname string k8s00\n", "\nd-i partman-auto/disk string /dev/sda\n"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn kickstart_has_its_commands_and_its_packages() {
    let Rendered { text, .. } = rendered("fedora/install.ks");
    let (commands, packages) = text.split_once("\n%packages\n").expect("packages");
    assert!(packages.ends_with("%end\n"), "{text}");
    assert!(commands.starts_with("text\nlang "), "{text}");
    let report = format!("'{}' || :\n%end\n", report(1, "installed"));
    assert!(commands.contains("%post --nochroot\ncurl ") && commands.contains(&report), "{text}");
    assert!(commands.contains("--hostname=k8s01\n") && commands.contains("--password=$6$salt$a/b.c\n"), "{text}");
}

#[test]
fn autoinstall_is_yaml_whatever_its_values_hold() {
    let Rendered { text, content_type } = rendered("ubuntu/user-data");
    assert!(text.starts_with("#cloud-config\n") && content_type.starts_with("text/cloud-config"), "{text}");
    let yaml = &yaml(&text)["autoinstall"];
    assert_eq!(yaml["version"].as_integer(), Some(1));
    let identity = &yaml["identity"];
    assert_eq!((identity["hostname"].as_str(), identity["username"].as_str()), (Some("k8s02"), Some(USER)));
    assert_eq!(identity["password"].as_str(), Some("$6$salt$a/b.c"));
    assert_eq!(yaml["ssh"]["authorized-keys"][0].as_str(), Some(KEY));
    assert_eq!(yaml["late-commands"][0][4].as_str(), Some(report(2, "installed").as_str()));
    assert_eq!(yaml["error-commands"][0][2].as_str(), Some(report(2, "failed").as_str()));
    let meta = rendered("ubuntu/meta-data").text;
    assert_eq!(meta, "instance-id: \"52:54:00:12:34:02\"\nlocal-hostname: \"k8s02\"\n");
}

#[test]
fn nocloud_is_yaml_whatever_its_values_hold() {
    let Rendered { text, content_type } = rendered("cloud/user-data");
    assert!(text.starts_with("#cloud-config\n") && content_type.starts_with("text/cloud-config"), "{text}");
    let user_data = yaml(&text);
    let user = &user_data["users"][0];
    assert_eq!((user["name"].as_str(), user["ssh_authorized_keys"][0].as_str()), (Some(USER), Some(KEY)));
    assert_eq!(user_data["write_files"][0]["content"].as_str(), Some("cloud"));
    assert_eq!(user_data["final_message"].as_str(), Some("cloud-init has finished on k8s03"));
    assert_eq!(user_data["phone_home"]["url"].as_str(), Some(report(3, "installed").as_str()));
    let meta = rendered("cloud/meta-data").text;
    assert_eq!(yaml(&meta)["instance-id"].as_str(), Some("52:54:00:12:34:03"));
    assert_eq!(yaml(&rendered("cloud/vendor-data").text)["package_update"].as_bool(), Some(true));
}

#[test]
fn ignition_is_json_whatever_its_values_hold() {
    let Rendered { text, content_type } = rendered("coreos/config.ign");
    assert_eq!(content_type, "application/json");
    let config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["ignition"]["version"], "3.4.0");
    assert_eq!(config["passwd"]["users"][0]["sshAuthorizedKeys"][0], KEY);
    let unit = config["systemd"]["units"][0]["contents"].as_str().expect("a unit");
    let start =
        format!("\n[Service]\nType=oneshot\nExecStart=/usr/bin/curl -fsS --retry 5 '{}'\n", report(4, "installed"));
    assert!(unit.starts_with("[Unit]\n") && unit.contains(&start), "{unit}");
    assert_eq!(config["storage"]["files"][0]["contents"]["source"], "data:,k8s04");
}

#[test]
fn proxmox_is_toml_whatever_its_values_hold() {
    let Rendered { text, content_type } = rendered("proxmox/answer.toml");
    assert_eq!(content_type, "application/toml");
    let answer: toml_edit::DocumentMut = text.parse().expect("TOML");
    assert_eq!(answer["global"]["fqdn"].as_str(), Some("k8s05.lan"));
    assert_eq!(answer["global"]["root-ssh-keys"][0].as_str(), Some(KEY));
    assert_eq!(answer["disk-setup"]["disk-list"][0].as_str(), Some("/dev/sda"));
}

/// The programs that installers and clouds read their answers with, or their makers' checkers.
#[test]
fn the_parsers_of_installers_take_every_example() {
    const PYTHON: &str = "/usr/bin/python3";
    const TOOLS: &[Tool] =
        &[CLOUD_INIT, KSVALIDATOR, Tool::new(PYTHON, "python3-yaml"), Tool::new("debconf-set-selections", "debconf")];
    let Some(()) = required(&[TOOLS]) else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let cloud_init = Path::new(CLOUD_INIT.file).ancestors().nth(2).expect("usr").join("lib/python3/dist-packages");
    let read = |by: &str, name: &str| -> Output {
        let path = scratch.path().join(name.replace('/', "-"));
        fs::write(&path, rendered(name).text).expect("written");
        let mut command = match by {
            "cloud-init" => {
                let mut command = Command::new(PYTHON);
                command.args(["-m", "cloudinit.cmd.main", "schema", "--config-file"]).env("PYTHONPATH", &cloud_init);
                command
            }
            "ksvalidator" => {
                let mut command = Command::new(KSVALIDATOR.file);
                command.args(["--version", "F40"]);
                command
            }
            "debconf" => {
                let mut command = Command::new("debconf-set-selections");
                command.args(["--checkonly"]);
                command
            }
            "yaml" => {
                let mut command = Command::new(PYTHON);
                command.args(["-c", "import sys, yaml; assert yaml.safe_load(open(sys.argv[1]))"]);
                command
            }
            "toml" => {
                let mut command = Command::new(PYTHON);
                command.args(["-c", "import sys, tomllib; assert tomllib.load(open(sys.argv[1], 'rb'))"]);
                command
            }
            "json" => {
                let mut command = Command::new(PYTHON);
                command.args(["-m", "json.tool"]);
                command
            }
            other => panic!("no parser {other}"),
        };
        command.arg(&path).output().expect("started")
    };
    let all = [
        ("cloud/meta-data", "yaml"),
        ("cloud/user-data", "cloud-init"),
        ("cloud/user-data", "yaml"),
        ("cloud/vendor-data", "cloud-init"),
        ("coreos/config.ign", "json"),
        ("debian/preseed.cfg", "debconf"),
        ("fedora/install.ks", "ksvalidator"),
        ("proxmox/answer.toml", "toml"),
        ("ubuntu/meta-data", "yaml"),
        ("ubuntu/user-data", "cloud-init"),
        ("ubuntu/user-data", "yaml"),
    ];
    for (name, by) in all {
        let Output { status, stdout, stderr } = read(by, name);
        let words = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        // debconf warns and goes on.
        let is_taken = status.success() && !words.contains("warning:") && !words.to_lowercase().contains("invalid");
        assert!(is_taken, "{by} of {name}: {status}\n{words}\n{}", rendered(name).text);
    }
    let examples = rules(&configuration()).expect("no fault").templates.answers();
    let left: Vec<&String> = examples.iter().filter(|name| all.iter().all(|(read, _)| read != name)).collect();
    assert!(left.is_empty(), "no parser reads {left:?}");
}

#[test]
fn a_slip_in_an_answer_is_told_before_a_machine_asks_for_it() {
    let faults = |configuration: String| {
        // The server starts: only those machines lack something.
        let findings = settings(&configuration).expect("a server runs").findings;
        let faults = findings.into_iter().filter(|finding| finding.level == Level::Fault).map(|finding| finding.fault);
        let faults =
            faults.filter_map(|Fault { place, message }| Some((place.split_once(".toml:")?.1.to_owned(), message)));
        faults
            .filter(|(_, message)| !message.contains("vmlinuz"))
            .map(|(at, message)| format!("{at}: {message}"))
            .collect::<Vec<_>>()
    };
    let there = "cloud/meta-data, cloud/user-data, cloud/vendor-data, coreos/config.ign, debian/preseed.cfg, \
                 fedora/install.ks, proxmox/answer.toml, ubuntu/meta-data, ubuntu/user-data";
    assert_eq!(
        faults(configuration().replace("debian/preseed.cfg", "debian/preseed")),
        [format!(
            "7:1: the profile's template fails: invalid operation: there is no answer file \"debian/preseed\" in the \
             templates folder; there are: {there} (in cmdline:1) (for the machine k8s00)"
        )]
    );
    // A machine that lacks what the answer files of its profile ask for.
    let poor = format!("{}[[machines]]\nname = \"poor\"\nserial = \"1\"\nprofile = \"ubuntu\"\n", configuration());
    assert_eq!(
        faults(poor),
        [
            "13:1: the profile's template fails: undefined value: `vars.user` is undefined (in ubuntu/user-data:14) (for \
          the machine poor)"
        ]
    );
}

fn yaml(text: &str) -> Yaml<'_> {
    Yaml::load_from_str(text).expect("YAML").remove(0)
}
