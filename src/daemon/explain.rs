//! What a machine would get at each stage of its boot, and why: the answers of the code that serves, without a server.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::runtime;
use uuid::Uuid;

use super::{loaders, plan};
use crate::{
    boot::{
        chain::{Lead, Set},
        client::{Client, Speaks},
        faults::Files,
        grub,
        hardware::Hardware,
        loader::{ClientArch, Loader},
        mac::MacAddr,
        machine::{By, MachineRule, Rules},
        outcome::{Outcome, Way},
        over::Over,
        own::Own,
        pxelinux,
        query::Query,
        reason::Reason,
        roster::{Entry, Roster},
        script::{Script, Standing, script},
        selector::Facts,
    },
    config::{fixed::StateUrl, load::Loaded, settings::Settings},
    dhcp::{
        proxy::{self, Action, Deciding, Here, Port},
        request::Request,
    },
    files::{
        AssetRoot,
        found::{Asker, Found, Names},
    },
    net::interface::{Interface, choose},
    offers::attempts::{Attempts, Rates},
    state::State,
};

/// The machine that is asked about.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its card.
    pub mac: MacAddr,
    /// Its firmware (option 93).
    pub arch: ClientArch,
    /// SMBIOS UUID.
    pub uuid: Option<Uuid>,
    /// SMBIOS serial number.
    pub serial: Option<String>,
    /// Its maker, model and asset tag.
    pub hardware: Hardware,
    /// The interface that it is heard on; `None`: the one that a server would serve first.
    pub interface: Option<String>,
    /// Its firmware boots by HTTP.
    pub http_boot: bool,
    /// It has an iPXE of its own.
    pub ipxe: bool,
    /// Its boot program reads `pxelinux.cfg`: U-Boot, petitboot, PXELINUX.
    pub pxelinux: bool,
}

/// What it would get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// From its firmware's first request on.
    pub stages: Vec<Stage>,
    /// The interface that it is taken to be heard on, where a rule asks for one.
    pub interface: Option<String>,
    /// What was said of it since, where the state could be read.
    pub said: Option<Entry>,
    /// Where that was read, or why not.
    pub state: String,
}

/// One request, and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Who asks.
    pub client: String,
    /// The rules about it, as far as this stage knows the machine; the first one decides.
    pub rules: Vec<Fitting>,
    /// The answer; none: it is refused.
    pub answer: Option<String>,
    /// Why it is refused.
    pub refused: Option<String>,
    /// What it is sent.
    pub script: Option<String>,
}

/// A rule that is about the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fitting {
    /// From 1, in the order of the configuration.
    pub number: usize,
    /// `name`.
    pub name: Option<String>,
    /// `FILE:LINE:COLUMN`.
    pub place: String,
    /// Why it does not decide, where it does not.
    pub passed_over: Option<String>,
}

/// Explains a boot. The state is opened to be read, if it is there; no server is asked.
#[must_use]
pub fn explain(loaded: &Loaded, settings: Settings, asked: &Asked) -> Explanation {
    let (roster, state) = roster(&settings.fixed.state);
    let (interface, here) = place(&settings, asked.interface.as_ref());
    let is_asked = settings.machines.iter().any(|(selector, _)| !selector.interfaces.is_empty());
    let (found, _) = loaders::find(&settings.loader_dirs);
    let assets = settings.fixed.assets.clone();
    let rules = plan::rules_with(settings, found);
    let roster = Arc::new(roster).among(&Arc::new(rules.names()));
    let heard_on = interface.as_deref();
    let uuid = asked.uuid;
    let (serial, hardware) = (asked.serial.as_deref(), Some(&asked.hardware));
    let facts = Facts { mac: asked.mac, uuid, serial, hardware, arch: None, interface: heard_on };
    let said = rules.said(&facts, &roster);
    let stages = Explaining { loaded, assets, rules, roster: &roster, here, heard_on, asked }.stages();
    Explanation { stages, interface: interface.filter(|_| is_asked), said, state }
}

/// The interface that a machine is heard on, and our HTTP stage as it is reached there; where none is named, the first
/// one that would be served.
pub(super) fn place(settings: &Settings, named: Option<&String>) -> (Option<String>, Here) {
    let names = named.map_or(settings.fixed.interfaces.as_slice(), std::slice::from_ref);
    let there = choose(names).ok().and_then(|all| all.into_iter().next());
    let address = there.as_ref().map_or(Ipv4Addr::UNSPECIFIED, Interface::address);
    let base = settings.fixed.http.base(address);
    let firmware_url = settings.fixed.http.firmware_base(address);
    // It need not be on this host: the configuration may be another one's.
    let name = names.first().cloned().or(there.map(|there| there.name));
    let heard_on = name.as_deref().unwrap_or_default().into();
    (name, Here { address, base_url: base, firmware_url, interface: heard_on })
}

/// What was said of machines, and where that stands.
pub(super) fn roster(url: &StateUrl) -> (Roster, String) {
    let (StateUrl::Set(url) | StateUrl::Default(url)) = url;
    let none = |words: String| (Roster::default(), words);
    let path = url.trim_start_matches("sqlite://");
    if !Path::new(path.split('?').next().unwrap_or(path)).exists() {
        return none(format!("there is no state at {url}: no assignments are known"));
    }
    let read = async {
        let state = State::peek(url).await.map_err(|error| error.to_string())?;
        let roster = state.roster().await.map_err(|error| error.to_string());
        state.close().await;
        roster
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(read)) {
        Ok(roster) => (roster, format!("read from {url}")),
        Err(error) => none(format!("assignments are not known, since {url} cannot be read: {error}")),
    }
}

struct Explaining<'a> {
    loaded: &'a Loaded,
    assets: Option<Arc<AssetRoot>>,
    rules: Rules,
    roster: &'a Roster,
    here: Here,
    heard_on: Option<&'a str>,
    asked: &'a Asked,
}

impl Explaining<'_> {
    /// Up to the one that is refused, behind which no machine comes.
    fn stages(&self) -> Vec<Stage> {
        let firmware = if self.asked.http_boot { Speaks::HttpBoot } else { Speaks::Pxe };
        let speakers = [firmware, Speaks::Ipxe { http: true }];
        let mut stages = Vec::new();
        for speaks in speakers.into_iter().skip(usize::from(self.asked.ipxe)) {
            let (stage, goes_on) = self.dhcp(speaks);
            let is_answered = stage.refused.is_none();
            stages.push(stage);
            match goes_on {
                Some(Lead::Ipxe) => {}
                Some(Lead::Grub) => {
                    stages.push(self.grub());
                    return stages;
                }
                None => {
                    if is_answered && self.asked.arch.is_u_boot() {
                        stages.push(self.pxelinux());
                    }
                    return stages;
                }
            }
        }
        stages.push(self.script());
        if self.asked.pxelinux || self.asked.arch.is_u_boot() {
            stages.push(self.pxelinux());
        }
        stages
    }

    /// What a request on port 67 gets, and what comes of it.
    fn dhcp(&self, speaks: Speaks) -> (Stage, Option<Lead>) {
        let Asked { mac, arch, uuid, .. } = *self.asked;
        let request = Request::discover(mac, arch, uuid, speaks);
        let heard_on: Arc<str> = self.heard_on.unwrap_or_default().into();
        let client = Client { mac, uuid, archs: vec![arch], speaks, interface: Some(heard_on) };
        let mut attempts = Attempts::new(Rates::default(), []);
        let mut ask = |now| {
            let deciding = Deciding { rules: &self.rules, roster: self.roster };
            proxy::answer(&request, Port::Dhcp, &self.here, deciding, &mut attempts, now)
        };
        let now = Instant::now();
        let answer = match ask(now) {
            Action::Reply { reply, offer, own, delay, .. } => {
                // Its server's address is that of the network which this host has, or has not.
                let words = offer.replace(&format!(" from {}", self.here.address), "").replace("0.0.0.0", "SERVER");
                // A Raspberry Pi asks for names of its own.
                let file = if own == Some(Own::RaspberryPi) { String::new() } else { self.file_behind(&words) };
                let limit = self.limit(&words);
                let lead = self.offered(&words).map_or(Lead::Ipxe, |set| set.lead);
                // Nor does a U-Boot for which there is no loader come to an iPXE.
                let is_u_boot_alone = reply.bootfile.is_empty() && arch.is_u_boot();
                let lead = Some(lead).filter(|_| own != Some(Own::RaspberryPi) && !is_u_boot_alone);
                Ok((words + &file + &limit + &late(delay, &ask(now + AGAIN)), lead))
            }
            Action::Refuse(_, why) | Action::Ignore(why) => Err(why.to_string()),
        };
        let goes_on = answer.as_ref().ok().and_then(|(_, lead)| *lead);
        let (answer, refused) = answer.map_or_else(|why| (None, Some(why)), |(words, _)| (Some(words), None));
        let rules = self.fitting(&client.facts());
        (Stage { client: format!("{client} asks by DHCP"), rules, answer, refused, script: None }, goes_on)
    }

    /// Where the name of a boot file does not lead to the loader that is packaged under it. The names that TFTP and HTTP serve are
    /// looked up by the same function.
    fn file_behind(&self, offer: &str) -> String {
        let Some((name, _)) = offer.split_once(" by TFTP") else { return String::new() };
        let names = Names { rules: &self.rules, assets: self.assets.as_deref(), base: &self.base(), caller: None };
        match names.find(name.as_bytes(), Asker { firmware: self.asked.arch, is_ipxe: false }) {
            Ok(Found::Asset { path, .. }) => format!(" (the file {path} below the assets folder)"),
            Ok(Found::Loader(_) | Found::Text { .. }) => String::new(),
            Err(reason) => format!(" (not served: {reason})"),
        }
    }

    /// That the GRUB which is offered cannot boot the machine.
    fn limit(&self, offer: &str) -> String {
        let limit = self.offered(offer).and_then(Set::limit);
        limit.map(|limit| format!(" (it cannot boot this machine: {limit})")).unwrap_or_default()
    }

    /// The set whose first file is offered.
    fn offered(&self, offer: &str) -> Option<&Set> {
        self.rules.loaders.sets.iter().find(|set| offer.contains(set.first().name.as_str()))
    }

    /// Where it is not known, our address has a word in its place.
    fn base(&self) -> String {
        self.here.base_url.replace("//0.0.0.0", "//SERVER")
    }

    fn script(&self) -> Stage {
        let query = self.query();
        self.text("iPXE asks for /boot.ipxe".into(), &query, |standing| {
            script(&self.rules, &self.base(), &query, standing)
        })
    }

    /// The script that the configuration of every GRUB leads to. GRUB says no serial number and no model.
    fn grub(&self) -> Stage {
        let query = Query { serial: None, hardware: Hardware::default(), ..self.query() };
        self.text("GRUB asks for /boot.grub".into(), &query, |standing| {
            grub::script(&self.rules, &self.base(), &query, standing)
        })
    }

    fn pxelinux(&self) -> Stage {
        let query = self.query();
        let client = format!("its boot program asks for {} by TFTP", pxelinux::name_of(self.asked.mac));
        self.text(client, &query, |standing| pxelinux::file(&self.rules, &self.base(), Over::Tftp, &query, standing))
    }

    /// A text that boots a machine.
    fn text(&self, client: String, query: &Query, write: impl FnOnce(Standing<'_>) -> Script) -> Stage {
        let look = |name: &str, wanted| match &self.assets {
            Some(assets) => assets.look(name, wanted),
            None => Err(Reason::not_found(name)),
        };
        let standing = Standing { roster: Some(self.roster), files: Some(Files(&look)), ..Standing::default() };
        let answered = write(standing);
        let (answer, refused) = match answered.outcome {
            Outcome::Chosen { profile, by, once, until_installed, way, .. } => {
                let once = match (once, until_installed) {
                    (_, true) => ", until it reports that it is installed",
                    (true, false) => ", once",
                    (false, false) => "",
                };
                let by = words(by);
                let files = match way {
                    Way::Elsewhere => ": from another server".to_owned(),
                    Way::Disk(image) => format!(": {image}"),
                    Way::Boot(files) if !files.is_empty() => format!(": {}", files.join(", ")),
                    _ => String::new(),
                };
                (Some(format!("profile {profile}, chosen by {by}{once}{files}")), None)
            }
            Outcome::Refused(_, why) => (None, Some(why.to_string())),
            Outcome::Bootstrap | Outcome::Grub => (Some("a script that identifies the machine".into()), None),
        };
        let rules = self.fitting(&query.facts(self.asked.mac));
        Stage { client, rules, answer, refused, script: Some(answered.text) }
    }

    /// As the iPXE of this firmware fills it in.
    fn query(&self) -> Query {
        let Asked { mac, arch, uuid, serial, hardware, .. } = self.asked;
        let (arch, platform) = match arch.loader() {
            Some(Loader::Bios) => (Some("i386"), Some("pcbios")),
            Some(loader) => (Some(loader.arch()), Some("efi")),
            None => (None, None),
        };
        Query {
            mac: Some(mac.to_string()),
            uuid: uuid.map(|uuid| uuid.to_string()),
            serial: serial.clone(),
            arch: arch.map(str::to_owned),
            platform: platform.map(str::to_owned),
            hardware: hardware.clone(),
            interface: self.heard_on.map(str::to_owned),
            ..Query::default()
        }
    }

    fn fitting(&self, facts: &Facts<'_>) -> Vec<Fitting> {
        let all = self.rules.machines.all_of(facts);
        let best = all.first().map(|(_, selector, _)| selector.specificity());
        let rules = all.iter().enumerate().map(|(rank, (index, selector, rule))| {
            let MachineRule { name, .. } = rule;
            let passed_over = match rank {
                0 => None,
                _ if Some(selector.specificity()) == best => Some("equally specific, but later in the file".to_owned()),
                _ => Some("less specific".to_owned()),
            };
            let place = self.loaded.places.of(&["machines", &index.to_string()]);
            Fitting { number: index + 1, name: name.clone(), place, passed_over }
        });
        rules.collect()
    }
}

/// That an offer waits, and whether that is so from the second one on.
fn late(first: Duration, second: &Action) -> String {
    match second {
        Action::Reply { delay, .. } if delay.is_zero() => String::new(),
        Action::Reply { delay, .. } if *delay == first => format!(", {first:?} late"),
        Action::Reply { delay, .. } => format!(", {delay:?} late from its second DISCOVER on"),
        Action::Refuse(_, _) | Action::Ignore(_) => String::new(),
    }
}

/// Until firmware asks a second time (PXE 2.1 §2.2.1).
const AGAIN: Duration = Duration::from_secs(4);

fn words(by: By) -> &'static str {
    match by {
        By::Menu => "the user at the menu",
        By::Assignment => "an assignment",
        By::Rule => "its rule",
        By::Default => "default_profile",
        By::Tried => "once_tries: handed over that often and never reported installed",
        By::Spent => "its one-time profile, which it already booted",
    }
}
