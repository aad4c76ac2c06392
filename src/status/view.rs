//! A machine as people and programs are shown it: what was seen of it, joined with what it boots.

use std::{borrow::Cow, cmp::Reverse};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    known::{Known, Row, of_rules},
    server::Server,
};
use crate::{
    boot::{
        hardware::Hardware,
        identity::MachineId,
        live::Live,
        loader::{ClientArch, Loader},
        mac::MacAddr,
        machine::By,
        reason::Reason,
        roster::{Assignment, Tried},
        selector::Facts,
        strangers::Permission,
    },
    timeline::{
        boot::{Chosen, Download, Going, Step, Timeline},
        cause::{State, Stop},
        event::Who,
        machines::{self, Snapshot},
        moment::Moment,
        stage::Stage,
    },
};

/// A machine: what it boots, and what was seen of it. Field names are kept from one release to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Its MAC address; its UUID where no card of it is known, or other machines use its card too; its IP address where no
    /// more is known.
    pub id: String,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its SMBIOS UUID, where it has sent one of its own; as it said it first.
    pub uuid: Option<String>,
    /// The MAC addresses that it was heard by.
    #[serde(default)]
    pub cards: Vec<String>,
    /// Its IP address, when it was last seen.
    pub address: Option<String>,
    /// As a rule calls it.
    pub name: Option<String>,
    /// What it boots next, by what was seen of it; none where that is not enough (`depends_on`), and where only known
    /// machines are answered and it is not one.
    pub profile: Option<String>,
    /// Who says so.
    pub by: Option<By>,
    /// For one boot only.
    pub once: bool,
    /// What was assigned to it while the server ran.
    pub assigned: Option<Assignment>,
    /// Whether it was let in where only known machines are answered.
    pub approved: bool,
    /// What a person said about it in this run of the server, where only known machines are answered.
    #[serde(default)]
    pub permission: Option<Permission>,
    /// The profile that it was to have once, and has had.
    pub spent: Option<String>,
    /// Why its memory is too little for that profile, where both are known.
    #[serde(default)]
    pub lacks_memory: Option<String>,
    /// For one boot only in this sense: until it reports that it is installed.
    #[serde(default)]
    pub until_installed: bool,
    /// Hand-overs of such a profile without that report.
    #[serde(default)]
    pub tried: Option<Tried>,
    /// Whether what is said of it outlives a restart.
    pub kept: bool,
    /// What it said of its parts, as iPXE reads them; anyone may claim to be this machine and say something else.
    #[serde(default)]
    pub hardware: Hardware,
    /// The appliance that served its last boot, where several share one state.
    #[serde(default)]
    pub appliance: Option<String>,
    /// The last thing that was seen of it.
    pub last: Option<Step>,
    /// Its last boot.
    pub boot: Option<Boot>,
    /// What was not seen of it yet, and decides which profile it boots: then `profile` is none.
    #[serde(default)]
    pub depends_on: Option<Cow<'static, str>>,
    /// Its SMBIOS serial number, as its iPXE said it; anyone may claim to be this machine and say something else.
    #[serde(default)]
    pub serial: Option<String>,
    /// The interface of this server that it was heard on last.
    #[serde(default)]
    pub interface: Option<String>,
}

/// One boot, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Boot {
    /// Of the machine's boots, counted from 1 on.
    pub number: u32,
    /// Its first packet.
    pub began: Moment,
    /// When the machine was last heard.
    pub last: Moment,
    /// The other appliance that served it; none: this one.
    #[serde(default)]
    pub appliance: Option<String>,
    /// The firmware that asked, in words.
    pub client: Option<String>,
    /// [`State::name`].
    pub state: Cow<'static, str>,
    /// The furthest stage.
    pub stage: Stage,
    /// What it boots, once its script was fetched.
    pub chosen: Option<Chosen>,
    /// The stages in their order.
    pub stages: Vec<StageView>,
    /// The files that it fetches.
    pub downloads: Vec<Download>,
    /// Where it stopped, and why.
    pub stop: Option<StopView>,
}

/// One boot with all its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WholeBoot {
    /// In short.
    #[serde(flatten)]
    pub boot: Boot,
    /// Steps of this boot, in order.
    pub steps: Vec<Step>,
    /// How many were left out in the middle of them.
    pub left_out: u32,
}

/// A stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopView {
    /// At which stage.
    pub stage: Stage,
    /// When it was last heard.
    pub since: Moment,
    /// A short fixed name of the cause.
    pub cause: String,
    /// In a sentence.
    pub text: String,
    /// What to do about it.
    pub fix: Option<Cow<'static, str>>,
}

/// A stage of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageView {
    /// Which.
    pub stage: Stage,
    /// How far it is.
    pub is: Progress,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Over, and it worked.
    Done,
    /// Now.
    Active,
    /// Now, and nothing moves for a while.
    Paused,
    /// The boot stopped here.
    Failed,
    /// Not yet.
    Pending,
}

impl Machine {
    /// All that were seen.
    #[must_use]
    pub fn all(live: &Live, server: &dyn Server, snapshot: &Snapshot, now: Moment) -> Vec<Self> {
        let known = Known::new(&live.rules.load(), &live.roster.load(), &snapshot.machines);
        let seen = known.rows.iter().filter(|(_, seen)| seen.is_some());
        seen.map(|row| Self::new(live, server, &known, *row, now)).collect()
    }

    /// Joins what is known of a machine, which may not have been seen at all.
    #[must_use]
    pub(super) fn new(live: &Live, server: &dyn Server, known: &Known<'_>, (who, seen): Row<'_>, now: Moment) -> Self {
        let rules = live.rules.load();
        let roster = live.roster.load();
        let who = seen.map_or(who, |seen| seen.who);
        let machine = match who {
            Who::Machine(machine) => Some(of_rules(&rules, machine)),
            Who::Address(_) => None,
        };
        // What was heard in this run goes before what is kept.
        let heard_on = machine.and_then(|machine| server.heard_on(machine));
        let interface = heard_on.as_deref().or_else(|| seen?.interface());
        let serial = seen.and_then(machines::Machine::boot).and_then(|boot| boot.serial.as_deref());
        let arch = seen.and_then(machines::Machine::arch).and_then(ClientArch::loader);
        let hardware = seen.and_then(machines::Machine::hardware).cloned();
        let facts = machine.map(|machine| Facts {
            mac: machine.card,
            uuid: machine.uuid(),
            serial,
            hardware: hardware.as_ref(),
            arch,
            interface,
        });
        let mac = machine.filter(MachineId::has_card).map(|machine| machine.card);
        // A rule by serial number is known by its name where the machine did not say its serial number in this boot.
        let own = machine.and_then(|machine| known.rule_of(&rules, machine));
        let rule = own.or_else(|| facts.and_then(|facts| rules.machines.of(&facts)).map(|(_, rule)| rule));
        let said = machine.and_then(|machine| roster.of(machine));
        let said = said.as_ref();
        let let_in = own.map(Some).or_else(|| facts.and_then(|facts| rules.rule(&facts, &roster).ok()));
        let choice = let_in.map(|rule| rules.choose(rule, said, None, ""));
        let stopped = matches!(choice, Some(Err(Reason::TriedOften { .. })));
        let choice = choice.and_then(Result::ok);
        // Firmware of another architecture would be given something else, and which one it has was not seen.
        let of_arch = |arch| {
            let facts = Facts { arch: Some(arch), ..facts? };
            let rule = own.map(Some).or_else(|| rules.rule(&facts, &roster).ok())?;
            let choice = rules.choose(rule, said, None, "").ok()?;
            Some((choice.profile, choice.by, choice.once))
        };
        let is_of_any = |arch| of_arch(arch) == choice.map(|choice| (choice.profile, choice.by, choice.once));
        let is_unclear = facts.is_some() && arch.is_none() && !stopped && !Loader::ALL.into_iter().all(is_of_any);
        let choice = choice.filter(|_| !is_unclear);
        let timeline = seen.and_then(machines::Machine::boot);
        Self {
            id: known.id(who),
            mac: mac.map(|mac| mac.to_string()),
            uuid: machine.and_then(|machine| machine.uuid_as_said()).map(|uuid| uuid.to_string()),
            cards: seen.map(|seen| seen.cards.iter().map(ToString::to_string).collect()).unwrap_or_default(),
            address: match who {
                Who::Address(address) => Some(address),
                Who::Machine(_) => timeline.and_then(|timeline| timeline.address),
            }
            .map(|address| address.to_string()),
            name: rule.and_then(|rule| rule.name.clone()),
            profile: choice.map(|choice| choice.profile).or(stopped.then_some("local")).map(str::to_owned),
            by: choice.map(|choice| choice.by).or(stopped.then_some(By::Tried)),
            until_installed: choice.is_some_and(|choice| choice.until_installed),
            tried: said.and_then(|said| said.tried.clone()),
            lacks_memory: choice
                .and_then(|choice| rules.profiles.get(choice.profile))
                .and_then(|profile| profile.lacks_memory(hardware.as_ref()?.memory_mib)),
            depends_on: is_unclear.then_some("architecture".into()),
            serial: serial.map(str::to_owned),
            interface: interface.map(str::to_owned),
            once: choice.is_some_and(|choice| choice.once),
            assigned: said.and_then(|said| said.assigned.clone()),
            approved: said.is_some_and(|said| said.approved),
            permission: machine.and_then(|machine| rules.strangers.said(machine)),
            spent: said
                .and_then(|said| said.had_once(rule.and_then(|rule| rule.profile.as_deref())))
                .map(str::to_owned),
            kept: server.keeps(),
            hardware: hardware.unwrap_or_default(),
            appliance: timeline
                .and_then(|timeline| timeline.appliance.as_deref().or_else(|| server.appliance()))
                .map(str::to_owned),
            last: timeline.and_then(|timeline| timeline.steps.last().cloned()),
            boot: timeline.map(|timeline| Boot::new(timeline, now)),
        }
    }

    /// Whether someone should look at it, smallest first: it stopped, it is under way, or it is done; then who was heard
    /// last.
    #[must_use]
    pub fn urgency(&self) -> impl Ord {
        let group = match self.boot.as_ref().map(|boot| &*boot.state) {
            Some("booting" | "slow_but_alive") => 0,
            Some("stopped") => 1,
            Some("menu" | "shell") => 2,
            Some(_) => 3,
            None => 4,
        };
        (group, Reverse(self.boot.as_ref().map(|boot| boot.last)), self.id.clone())
    }

    /// Whether its names, addresses and parts hold all of these words, in any case.
    #[must_use]
    pub fn has_words(&self, words: &str) -> bool {
        let optional = [&self.mac, &self.uuid, &self.address, &self.name, &self.profile].into_iter().flatten();
        let texts = optional.chain([&self.id]).chain(&self.cards).map(String::as_str);
        let parts = self.hardware.known().map(|(_, text)| text);
        let texts: Vec<Cow<'_, str>> = texts.map(Cow::from).chain(parts).collect();
        has_words(&texts.join(" ").to_lowercase(), words)
    }

    /// What people call it.
    #[must_use]
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

impl Boot {
    /// One boot as it stands.
    #[must_use]
    pub fn new(timeline: &Timeline, now: Moment) -> Self {
        let state = timeline.state(now);
        Self {
            number: timeline.number,
            began: timeline.began,
            last: timeline.last,
            appliance: timeline.appliance.clone(),
            client: timeline.client.clone(),
            state: state.name().into(),
            stage: timeline.stage(),
            chosen: timeline.chosen.clone(),
            stages: stages(timeline, &state),
            downloads: timeline.downloads.clone(),
            stop: match &state {
                State::Stopped(stop) => Some(StopView::from(stop)),
                _ => None,
            },
        }
    }
}

impl WholeBoot {
    /// One boot as it stands.
    #[must_use]
    pub fn new(timeline: &Timeline, now: Moment) -> Self {
        Self { boot: Boot::new(timeline, now), steps: timeline.steps.clone(), left_out: timeline.left_out }
    }
}

impl From<&Stop> for StopView {
    fn from(Stop { stage, since, cause }: &Stop) -> Self {
        let (label, text, fix) = (cause.label().into_owned(), cause.text(), cause.fix().map(Cow::Borrowed));
        Self { stage: *stage, since: *since, cause: label, text, fix }
    }
}

/// Whether a text in lower case has all of these words, in any case. A MAC address may be copied in any spelling.
pub(super) fn has_words(text: &str, words: &str) -> bool {
    let has = |word: &str| {
        let mac = word.parse::<MacAddr>();
        text.contains(word) || mac.is_ok_and(|mac| text.contains(&mac.to_string()))
    };
    words.to_lowercase().split_whitespace().all(has)
}

/// The stages that a boot goes through, as far as they are known: those that it used, and those that are still to come.
fn stages(timeline: &Timeline, state: &State) -> Vec<StageView> {
    let reached = timeline.stage();
    let was = |stage| timeline.steps.iter().any(|step| step.stage == stage);
    let download = |stage| timeline.downloads.iter().rfind(|download| download.stage == stage);
    let lacks = |stage| timeline.lacks_at(stage);
    let is_refused = matches!(state, State::Stopped(stop) if stop.stage == Stage::Script && timeline.chosen.is_none());
    let is_to_come = |stage| match stage {
        Stage::BootServer => false,
        // Not for an iPXE that the machine brought itself.
        Stage::Loader => reached < Stage::Loader && !timeline.has_ipxe,
        Stage::Kernel => lacks(stage) || reached < Stage::Script || is_refused,
        Stage::Initrd => lacks(stage),
        Stage::Reported => timeline.chosen.as_ref().is_some_and(|chosen| chosen.report_within.is_some()),
        // What it has behind it and was not seen, another DHCP server did, or an iPXE of the machine's own.
        _ => stage >= reached && !matches!(state, State::Local | State::Menu | State::Shell),
    };
    let progress = |stage| match (state, download(stage).map(|download| &download.pace)) {
        (_, Some(Going::Paused { .. })) => Progress::Paused,
        (_, Some(Going::Progressing)) => Progress::Active,
        (_, Some(Going::Stopped { .. })) => Progress::Failed,
        (State::Stopped(stop), _) if stop.stage == stage => Progress::Failed,
        _ if lacks(stage) => Progress::Pending,
        _ if was(stage) => Progress::Done,
        _ => Progress::Pending,
    };
    let shown = SHOWN.into_iter().filter(|stage| was(*stage) || download(*stage).is_some() || is_to_come(*stage));
    let mut shown: Vec<StageView> = shown.map(|stage| StageView { stage, is: progress(stage) }).collect();
    // Between two stages a boot is at the next one.
    let is_idle = shown.iter().all(|stage| matches!(stage.is, Progress::Done | Progress::Pending));
    if *state == State::Booting
        && is_idle
        && let Some(next) = shown.iter_mut().find(|stage| stage.is == Progress::Pending)
    {
        next.is = Progress::Active;
    }
    shown
}

/// The stages of a row, in order.
const SHOWN: [Stage; 9] = [
    Stage::Discover,
    Stage::Offer,
    Stage::BootServer,
    Stage::Loader,
    Stage::Script,
    Stage::Kernel,
    Stage::Initrd,
    Stage::HandedOver,
    Stage::Reported,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boot::{
            mac::MacAddr,
            outcome::{Outcome, Way},
        },
        timeline::event::What,
    };

    /// The stages that are shown of a boot of which no DHCP was heard, as of an iPXE on a USB stick.
    fn shown(outcome: Outcome) -> Vec<(Stage, Progress)> {
        let mut timeline = Timeline::begin(1, Moment::from_secs(1_000_000));
        timeline.apply(What::Script(outcome), Moment::from_secs(1_000_000));
        let boot = Boot::new(&timeline, Moment::from_secs(1_000_001));
        boot.stages.iter().map(|shown| (shown.stage, shown.is)).collect()
    }

    #[test]
    fn stages_that_were_passed_unseen_are_not_to_come() {
        use Progress::{Active, Done, Failed, Pending};
        let chosen = Outcome::Chosen {
            mac: MacAddr([2; 6]),
            profile: "p".into(),
            by: By::Default,
            once: false,
            until_installed: false,
            report_within: None,
            way: Way::Boot(vec!["k".into(), "i".into()]),
        };
        let [script, kernel, initrd, end] = [Stage::Script, Stage::Kernel, Stage::Initrd, Stage::HandedOver];
        assert_eq!(shown(chosen), [(script, Done), (kernel, Active), (initrd, Pending), (end, Pending)]);
        let refused = Outcome::Refused(None, Reason::Unknown);
        assert_eq!(shown(refused), [(script, Failed), (kernel, Pending), (end, Pending)]);
    }
}
