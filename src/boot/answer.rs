//! Answer files (preseed, kickstart, autoinstall, cloud-init, Ignition): who may have one, and what it says.
//!
//! They hold secrets, so a machine's script names each by an address that this server has signed. The signature covers
//! what the machine said of itself and the profile that it was sent to: the answer is rendered for the machine exactly
//! as its script was, also where its rule goes by a UUID that no installer repeats or by the interface that iPXE used,
//! and also when `once` is spent.
//!
//! It does not cover the machine's IP address: an installer's DHCP client sends another client identifier than iPXE and
//! may be leased another address (RFC 2131 §4.2), and a relay or a router may stand between.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use minijinja::{Error, ErrorKind, Value, context, value::Serde};
use sha2::Sha256;

use super::{
    hardware::Hardware,
    identity::MachineId,
    mac::MacAddr,
    machine::{Machine, Rules},
    query::Query,
    reason::{Denied, Reason},
    roster::Roster,
    template::Templates,
    urls::{ServerUrls, escaped_path},
};

/// What addresses are signed with. All clones are one key: what one of them adopts, the others have.
#[derive(Clone)]
pub struct Key(Arc<ArcSwap<Vec<[u8; Key::LENGTH]>>>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Bytes of a key: a block of SHA-256, which HMAC takes as it is (RFC 2104 §2).
    pub const LENGTH: usize = 64;

    /// From random bytes.
    #[must_use]
    pub fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(vec![bytes])))
    }

    /// The bytes that sign now.
    #[must_use]
    pub fn bytes(&self) -> [u8; Self::LENGTH] {
        self.0.load().first().copied().unwrap_or([0; Self::LENGTH])
    }

    /// Signs with other bytes from now on. What was signed with those of before stays good. Whether they are others.
    pub fn adopt(&self, bytes: [u8; Self::LENGTH]) -> bool {
        let before = self.0.load_full();
        let is_news = before.first() != Some(&bytes);
        if is_news {
            let older = before.iter().copied().filter(|older| *older != bytes).take(MOST_KEYS - 1);
            self.0.store(Arc::new([bytes].into_iter().chain(older).collect()));
        }
        is_news
    }

    /// Signs for a scope: an answer's name, or a folder's with the slash at its end, which opens what is directly in it.
    pub(super) fn token(&self, scope: &str, expires: u64, query: &Query) -> String {
        let said = |value: &Option<String>| value.clone().filter(|value| value.len() <= LONGEST).unwrap_or_default();
        let Query { mac, uuid, serial, arch, platform, profile, interface, hardware, renewed, .. } = query;
        let Hardware { manufacturer, product, asset, .. } = hardware;
        let renewed = &renewed.filter(|times| *times > 0).map(|times| times.to_string());
        let fields = [mac, uuid, serial, arch, platform, profile, interface, manufacturer, product, asset, renewed];
        let fields = fields.map(said).to_vec();
        // Command lines are short, and most machines have nothing at the end.
        let used = fields.iter().rposition(|field| !field.is_empty()).map_or(0, |last| last + 1);
        let fields = fields.get(..used).unwrap_or_default();
        let mut token = serde_json::json!((expires, fields)).to_string().into_bytes();
        let tag = code(&self.bytes(), &token, scope).finalize().into_bytes();
        token.extend(tag.iter().take(TAG));
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What was signed, where the token opens `name`. `now`: seconds since 1970.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn open(&self, token: &str, name: &str, now: u64) -> Result<Query, Denied> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Denied::NotSigned)?;
        let (signed, tag) = bytes.split_last_chunk::<TAG>().ok_or(Denied::NotSigned)?;
        let folder = name.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"));
        // In constant time.
        let opens = |scope: &str| self.has_signed(signed, scope, tag);
        if !opens(name) && !opens(&folder) {
            return Err(Denied::NotSigned);
        }
        let (expires, fields): (u64, Vec<String>) = serde_json::from_slice(signed).map_err(|_| Denied::NotSigned)?;
        if expires <= now {
            return Err(Denied::Expired);
        }
        let mut fields = fields.into_iter();
        let mut next = || fields.next();
        let [mac, uuid, serial, arch, platform, profile, interface] = std::array::from_fn(|_| next());
        let [manufacturer, product, asset, renewed] = std::array::from_fn(|_| next());
        let renewed = Some(renewed.and_then(|times| times.parse().ok()).unwrap_or_default());
        let hardware = Hardware { manufacturer, product, asset, ..Hardware::default() };
        Ok(Query { mac, uuid, serial, arch, platform, profile, interface, hardware, renewed, ..Query::default() })
    }

    /// What a machine's files begin with where several machines boot from one address: it says whose they are.
    #[must_use]
    pub fn claim(&self, machine: MachineId) -> String {
        let mut claim = machine.key().to_string().into_bytes();
        let tag = code(&self.bytes(), &claim, CLAIM).finalize().into_bytes();
        claim.extend(tag.iter().take(TAG));
        URL_SAFE_NO_PAD.encode(claim)
    }

    /// Whose a claim is; none where it is not ours.
    #[must_use]
    pub fn claimed(&self, claim: &str) -> Option<MachineId> {
        let bytes = URL_SAFE_NO_PAD.decode(claim).ok()?;
        let (signed, tag) = bytes.split_last_chunk::<TAG>()?;
        if !self.has_signed(signed, CLAIM, tag) {
            return None;
        }
        let key = std::str::from_utf8(signed).ok()?.parse().ok()?;
        Some(MachineId::of_key(key, []))
    }

    fn has_signed(&self, signed: &[u8], scope: &str, tag: &[u8; TAG]) -> bool {
        self.0.load().iter().any(|bytes| code(bytes, signed, scope).verify_truncated_left(tag).is_ok())
    }
}

/// The message authentication code of what is signed.
fn code(key: &[u8; Key::LENGTH], signed: &[u8], scope: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new(key.into());
    mac.update(signed);
    // JSON has no such byte: where the one ends and the other begins is certain.
    mac.update(&[0]);
    mac.update(scope.as_bytes());
    mac
}

/// Signs the addresses of one script.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The server's.
    pub key: &'a Key,
    /// Seconds since 1970.
    pub now: u64,
}

/// The functions `answer("NAME")` and `answers("FOLDER")` of command lines and scripts, which are a machine's addresses.
#[derive(Clone, Debug, Default)]
pub struct Urls {
    server: ServerUrls,
    query: Query,
    /// The key, and when the addresses end. None where a script is only looked at: its addresses open nothing.
    signed: Option<(Key, u64)>,
    /// The answers that were asked for.
    asked: Arc<Mutex<BTreeSet<String>>>,
    /// Its profile is served until it reports that it is installed.
    decides: bool,
}

impl Urls {
    /// For a machine, and the profile that it is sent to. `renewed`: how often it was given that again until now.
    #[must_use]
    pub fn new(
        rules: &Rules,
        base: &str,
        query: &Query,
        profile: &str,
        signer: Option<Signer<'_>>,
        renewed: u64,
    ) -> Self {
        // What was signed before stays of then.
        let renewed = query.renewed.or(Some(renewed));
        let mut query = Query { profile: Some(profile.to_owned()), renewed, ..query.clone() };
        if !rules.machines.asks_parts() {
            // They decide nothing, and command lines are short.
            query.hardware = Hardware::default();
        }
        let signed = signer.map(|Signer { key, now }| (key.clone(), now + rules.answers.lifetime.as_secs()));
        let mac = query.mac().ok().flatten().unwrap_or(MacAddr([0; 6]));
        let rule = rules.machines.of(&query.facts(mac)).map(|(_, rule)| rule);
        let decides = rule.is_some_and(|rule| rule.until_installed.is_some());
        Self { server: ServerUrls::new(base), query, signed, decides, ..Self::default() }
    }

    /// The server that they are of.
    #[must_use]
    pub fn server(&self) -> &ServerUrls {
        &self.server
    }

    /// For nobody: addresses that open nothing and are as long as those of most machines.
    #[must_use]
    pub fn sample(base: &str, mac: MacAddr, profile: &str) -> Self {
        let said = |text: &str| Some(text.to_owned());
        let query = Query {
            mac: Some(mac.to_string()),
            uuid: said("00000000-0000-0000-0000-000000000000"),
            serial: said("0000000000"),
            arch: said("x86_64"),
            platform: said("efi"),
            profile: said(profile),
            interface: said("eth0"),
            ..Query::default()
        };
        let key = Key::new([0; Key::LENGTH]);
        Self { server: ServerUrls::new(base), query, signed: Some((key, 0)), ..Self::default() }
    }

    /// The answers that templates have asked for so far.
    #[must_use]
    pub fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For a template's context.
    pub(crate) fn functions(&self, templates: &Templates) -> Value {
        let (urls, names) = (self.clone(), templates.answers());
        let answer = move |name: String| {
            if !names.contains(&name) {
                return Err(no_answer(&format!("no answer file {name:?}"), &names));
            }
            Ok(urls.url(name.clone(), [name]))
        };
        let (urls, names) = (self.clone(), templates.answers());
        let answers = move |folder: String| {
            let folder = folder.trim_matches('/');
            let scope = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            let inside = |name: &&String| name.strip_prefix(&scope).is_some_and(|rest| !rest.contains('/'));
            let inside: Vec<String> = names.iter().filter(inside).cloned().collect();
            if inside.is_empty() {
                return Err(no_answer(&format!("no folder {folder:?} of answer files"), &names));
            }
            Ok(urls.url(scope, inside))
        };
        let report = self.report();
        let (base, asset) = (self.server.base(), self.server.asset());
        context! { base, asset, answer => Value::from_function(answer), answers => Value::from_function(answers), report }
    }

    /// The function `report()`, by an address that is signed for the machine.
    fn report(&self) -> Value {
        let scope = report_scope(self.decides);
        let token = self.signed.as_ref().map(|(key, expires)| key.token(scope, *expires, &self.query));
        self.server.report(&self.card(), token)
    }

    /// The machine's MAC address as it is written here; empty where it is not known.
    fn card(&self) -> String {
        self.query.mac().ok().flatten().map(|mac| mac.to_string()).unwrap_or_default()
    }

    fn url(&self, scope: String, opened: impl IntoIterator<Item = String>) -> String {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).extend(opened);
        let token = self.signed.as_ref().map(|(key, expires)| key.token(&scope, *expires, &self.query));
        let token = token.as_deref().unwrap_or("unsigned");
        format!("{}/answers/s/{token}/{}", self.server.base(), escaped_path(&scope))
    }
}

fn no_answer(what: &str, names: &BTreeSet<String>) -> Error {
    let there: Vec<&str> = names.iter().map(String::as_str).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Error::new(ErrorKind::InvalidOperation, format!("there is {what} in the templates folder; there are: {there}"))
}

/// A rendered answer file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The machine that it is for.
    pub mac: MacAddr,
    /// What it says.
    pub body: Vec<u8>,
    /// What it is.
    pub content_type: &'static str,
}

/// The answer file of a name for a machine. Its template is given `machine`, `vars`, `base`, `asset()`, `report()` and `profile`: the one that
/// the query names, else the one that the machine would boot now.
///
/// # Errors
/// Why there is none.
pub fn answer(
    rules: &Rules,
    roster: &Roster,
    base: &str,
    name: &str,
    query: &Query,
    signer: Option<Signer<'_>>,
) -> Result<Answer, Reason> {
    let mac = query.mac()?.ok_or_else(|| Reason::BadQuery("mac is missing".into()))?;
    if !rules.templates.answers().contains(name) {
        return Err(Reason::no_answer(name));
    }
    let rule = rules.rule(&query.facts(mac), roster)?;
    let machine = query.machine(mac, rule);
    let profile = match query.profile.as_deref().filter(|profile| !profile.is_empty()) {
        Some(profile) => profile,
        None => rules.choose(rule, rules.said(&query.facts(mac), roster).as_ref(), None, &machine.arch)?.profile,
    };
    let none = BTreeMap::new();
    let vars = rule.map_or(&none, |rule| &rule.vars);
    let context = answer_context(&ServerUrls::new(base), profile, &machine, vars);
    let renewed = rules.said(&query.facts(mac), roster).map_or(0, |entry| entry.renewed);
    let report = Urls::new(rules, base, query, profile, signer, renewed).report();
    let body = rules.templates.answer(name, context! { report, ..context })?;
    Ok(Answer { mac, content_type: content_type(name, &body), body })
}

/// What the template of an answer file is given.
#[must_use]
pub fn answer_context(
    server: &ServerUrls,
    profile: &str,
    machine: &Machine,
    vars: &BTreeMap<String, serde_json::Value>,
) -> Value {
    let (base, report, asset) = (server.base(), server.report(&machine.mac, None), server.asset());
    context! { base, profile, report, asset, machine => Serde(machine), vars => Serde(vars) }
}

/// Whether an installer asks for a file that need not be there: cloud-init's NoCloud does so at every boot
/// (cloudinit/sources/helpers and DataSourceNoCloud.py).
#[must_use]
pub fn is_optional(name: &str) -> bool {
    ["vendor-data", "network-config"].contains(&name.rsplit('/').next().unwrap_or(name))
}

fn content_type(name: &str, body: &[u8]) -> &'static str {
    let name = name.strip_suffix(".raw").unwrap_or(name);
    match name.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("ign" | "json") => "application/json",
        _ if std::str::from_utf8(body).is_err() || body.contains(&0) => "application/octet-stream",
        _ if body.starts_with(b"#cloud-config") => "text/cloud-config; charset=utf-8",
        Some("yaml" | "yml") => "application/yaml",
        Some("toml") => "application/toml",
        Some("xml") => "application/xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// What an address for reports is signed for: whether `installed` ends a one-time boot. No answer file has such a name, so no
/// address of one is good for it.
#[must_use]
pub fn report_scope(decides: bool) -> &'static str {
    if decides { "/report/installed" } else { "/report/any" }
}

/// What claims are signed for. No answer file has such a name.
const CLAIM: &str = "/m/";
/// Keys that an appliance had one after the other while it runs, more than it has in a year.
const MOST_KEYS: usize = 8;
/// Half of the hash: enough for a signature (RFC 2104 §5), and a kernel's command line is short.
const TAG: usize = 16;
/// Of what a machine says of itself, in bytes; a UUID has 36.
const LONGEST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{
        machine::MachineRule,
        selector::{RuleBook, Selector},
    };

    const NOW: u64 = 1_800_000_000;

    fn query() -> Query {
        let said = |text: &str| Some(text.to_owned());
        Query {
            mac: said("52:54:00:12:34:56"),
            uuid: said("00112233-4455-6677-8899-aabbccddeeff"),
            serial: said("CZ 1234"),
            arch: said("x86_64"),
            platform: said("efi"),
            profile: said("debian"),
            interface: said("eth1"),
            renewed: Some(0),
            ..Query::default()
        }
    }

    #[test]
    fn a_token_opens_what_it_was_made_for_until_its_time_is_over() {
        let (key, other) = (Key::new([7; 64]), Key::new([8; 64]));
        let token = key.token("debian/user-data", NOW + 10, &query());
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{token}");
        assert_eq!(key.open(&token, "debian/user-data", NOW), Ok(query()));
        let adopted = Key::new([7; 64]);
        assert!(adopted.clone().adopt([8; 64]) && !adopted.adopt([8; 64]));
        assert_eq!(adopted.open(&token, "debian/user-data", NOW), Ok(query()), "what it signed before stays good");
        let of_all = adopted.token("debian/user-data", NOW + 10, &query());
        assert_eq!(other.open(&of_all, "debian/user-data", NOW), Ok(query()), "it signs as the others do");
        assert_eq!(key.open(&token, "debian/user-data", NOW + 9), Ok(query()));
        assert_eq!(key.open(&token, "debian/user-data", NOW + 10), Err(Denied::Expired));
        // Only a token that was signed here says whether it has expired.
        for (key, token, name) in [
            (&key, token.as_str(), "debian/meta-data"),
            (&key, &token, "user-data"),
            (&other, &token, "debian/user-data"),
            (&key, "", "debian/user-data"),
            (&key, "unsigned", "debian/user-data"),
            (&key, "not base64!", "debian/user-data"),
        ] {
            assert_eq!(key.open(token, name, NOW + 99), Err(Denied::NotSigned), "{token} {name}");
        }
    }

    #[test]
    fn a_folders_token_opens_what_is_directly_in_it() {
        let key = Key::new([7; 64]);
        let opened = |scope: &str, name: &str| key.open(&key.token(scope, NOW + 1, &query()), name, NOW).is_ok();
        assert!(opened("debian/", "debian/user-data") && opened("", "user-data"));
        for (scope, name) in
            [("debian/", "user-data"), ("debian/", "debian/a/b"), ("", "debian/user-data"), ("debian/", "rescue/x")]
        {
            assert!(!opened(scope, name), "{scope} {name}");
        }
    }

    #[test]
    fn no_bit_of_a_token_can_be_changed() {
        let key = Key::new([7; 64]);
        let token = key.token("user-data", NOW + 10, &query());
        let bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(key.open(&changed, "user-data", NOW), Err(Denied::NotSigned), "bit {bit}");
        }
    }

    fn rules() -> Rules {
        let own = [
            ("debian/user-data", "#cloud-config\nhostname: {{ machine.name }}\nrole: {{ vars.role }}\n"),
            ("debian/meta-data", "instance-id: {{ machine.uuid }}\n"),
            ("preseed.cfg", "d-i url string {{ base }}/{{ profile }}\n"),
            ("node.ign", "{\"name\": {{ machine.name }}}\n"),
            ("own.ipxe", "#!ipxe\n"),
        ];
        let by_uuid = Selector { uuids: vec![uuid()], ..Selector::default() };
        let rule = MachineRule {
            name: Some("k8s08".into()),
            vars: [("role".to_owned(), "db: \"x\"".into())].into(),
            ..MachineRule::default()
        };
        Rules {
            templates: Templates::with(own.map(|(name, text)| (name.into(), text.into()))).expect("good"),
            machines: RuleBook::new(vec![(by_uuid, rule)]),
            default_profile: "menu".into(),
            ..Rules::default()
        }
    }

    fn uuid() -> uuid::Uuid {
        "00112233-4455-6677-8899-aabbccddeeff".parse().expect("a UUID")
    }

    #[test]
    fn an_answer_is_rendered_for_the_machine_that_its_script_was_made_for() {
        let rules = rules();
        let put = |name: &str, query: &Query| {
            let answer = answer(&rules, &Roster::default(), "http://192.0.2.10:8080", name, query, None);
            answer.map(|answer| {
                (
                    String::from_utf8(answer.body).expect("text"),
                    answer.content_type.split(';').next().unwrap_or_default(),
                )
            })
        };
        let user_data = "#cloud-config\nhostname: \"k8s08\"\nrole: \"db: \\\"x\\\"\"\n";
        assert_eq!(put("debian/user-data", &query()), Ok((user_data.into(), "text/cloud-config")));
        let preseed = "d-i url string http://192.0.2.10:8080/debian\n";
        assert_eq!(put("preseed.cfg", &query()), Ok((preseed.into(), "text/plain")));
        assert_eq!(put("node.ign", &query()), Ok(("{\"name\": \"k8s08\"}\n".into(), "application/json")));
        // A client that sends its MAC address alone does not match that rule, and gets the default profile.
        let bare = Query { mac: query().mac, ..Query::default() };
        let preseed = "d-i url string http://192.0.2.10:8080/menu\n";
        assert_eq!(put("preseed.cfg", &bare), Ok((preseed.into(), "text/plain")));
        assert!(matches!(put("debian/user-data", &bare), Err(Reason::Template(fault)) if fault.contains("vars.role")));
        assert_eq!(put("own.ipxe", &query()), Err(Reason::no_answer("own.ipxe")));
        assert_eq!(put("boot.ipxe", &query()), Err(Reason::no_answer("boot.ipxe")));
        assert!(matches!(put("preseed.cfg", &Query::default()), Err(Reason::BadQuery(_))));
    }

    #[test]
    fn an_address_says_how_often_its_machine_was_given_its_profile_again() {
        let (rules, key) = (rules(), Key::new([7; 64]));
        let signed = |query: &Query, renewed| {
            let signer = Some(Signer { key: &key, now: NOW });
            let urls = Urls::new(&rules, "http://192.0.2.10:8080", query, "debian", signer, renewed);
            let url =
                rules.templates.cmdline("{{ answer('preseed.cfg') }}", &"", &"", urls.functions(&rules.templates));
            let url = url.expect("an address");
            let token = url.split('/').rev().nth(1).expect("a token").to_owned();
            key.open(&token, "preseed.cfg", NOW).expect("opened")
        };
        let asks = Query { renewed: None, ..query() };
        let script = signed(&asks, 3);
        assert_eq!((script.renewed, signed(&asks, 0).renewed), (Some(3), Some(0)));
        assert_eq!(signed(&script, 4).renewed, Some(3), "an answer file that an older script led to is of then");
    }

    #[test]
    fn templates_name_answers_by_signed_addresses() {
        let (rules, key) = (rules(), Key::new([7; 64]));
        let urls = |signer| Urls::new(&rules, "http://192.0.2.10:8080", &query(), "debian", signer, 0);
        let signed = urls(Some(Signer { key: &key, now: NOW }));
        let line = |template: &str, urls: &Urls| {
            rules.templates.cmdline(template, &"", &"", urls.functions(&rules.templates)).map_err(|why| why.to_string())
        };
        let text =
            line("ds=nocloud-net;s={{ answers('debian') }} url={{ answer(\"preseed.cfg\") }}", &signed).expect("it");
        let mut tokens = text.split("http://192.0.2.10:8080/answers/s/").skip(1).map(|rest| rest.split_once('/'));
        let mut next = || tokens.next().flatten().expect("a token");
        let (folder, rest) = next();
        assert_eq!(rest, "debian/ url=");
        assert_eq!(key.open(folder, "debian/meta-data", NOW + 86_399), Ok(query()));
        assert_eq!(key.open(folder, "debian/meta-data", NOW + 86_400), Err(Denied::Expired));
        let (one, rest) = next();
        assert_eq!(rest, "preseed.cfg");
        assert_eq!(key.open(one, "preseed.cfg", NOW), Ok(query()));
        let asked = ["debian/meta-data", "debian/user-data", "preseed.cfg"].map(String::from);
        assert_eq!(signed.asked(), asked.into());

        let unsigned = urls(None);
        let url = "http://192.0.2.10:8080/answers/s/unsigned/";
        assert_eq!(line("{{ answers('') }}", &unsigned).as_deref(), Ok(url));
        let fault = line("a={{ answer('debian/userdata') }}", &unsigned).expect_err("no such answer");
        let there = "there are: debian/meta-data, debian/user-data, node.ign, preseed.cfg (in cmdline:1)";
        assert!(
            fault.contains("no answer file \"debian/userdata\" in the templates folder; ") && fault.contains(there),
            "{fault}"
        );
        assert!(line("{{ answers('rescue') }}", &unsigned).expect_err("none").contains("no folder \"rescue\""));
    }
}
