//! What the page says of a machine and its boots, in words: the values that its templates are filled with.

use std::borrow::Cow;

use serde::Serialize;

use super::{link::encoded, packet::PacketShown, time::Time};
use crate::{
    boot::machine::By,
    status::view::{self, Progress, StageView, StopView},
    timeline::{
        boot::{Download, Going, Step, Timeline},
        machines,
        moment::Moment,
        stage::Stage,
        transfer::bytes,
    },
};

/// A machine in short: a row of the list, the head of its own page.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// The element's.
    pub(super) id: String,
    /// Of the machine in the API.
    pub(super) machine: String,
    /// Of its page.
    href: String,
    pub(super) title: String,
    /// Where that is not its title.
    mac: Option<String>,
    /// Likewise.
    address: Option<String>,
    /// Why its memory is too little for what it boots next.
    lacks_memory: Option<String>,
    /// What it said of its parts.
    hardware: Vec<(&'static str, String)>,
    client: Option<String>,
    /// That served it, where there are several.
    appliance: Option<String>,
    /// [`crate::timeline::cause::State::name`], or `unseen`.
    pub(super) state: Cow<'static, str>,
    pub(super) words: &'static str,
    next: Option<Next>,
    pub(super) boot: Option<BootShown>,
    /// What the box above the list looks in, on the server and on the page: in lower case.
    pub(super) find: String,
}

/// What a machine boots next, and why that.
#[derive(Clone, Debug, Serialize)]
struct Next {
    profile: String,
    why: String,
    /// What the boot that is seen got, where that is another.
    this_boot: Option<String>,
}

/// A boot.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BootShown {
    number: u32,
    pub(super) began: Time,
    pub(super) last: Time,
    state: Cow<'static, str>,
    words: &'static str,
    client: Option<String>,
    /// Another one that served it.
    appliance: Option<String>,
    profile: Option<String>,
    stages: Vec<StageShown>,
    downloads: Vec<DownloadShown>,
    stop: Option<StopShown>,
}

/// A boot with all its steps.
#[derive(Clone, Debug, Serialize)]
struct WholeBoot {
    #[serde(flatten)]
    boot: BootShown,
    steps: Vec<StepShown>,
    left_out: u32,
}

#[derive(Clone, Debug, Serialize)]
struct StageShown {
    name: &'static str,
    is: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct DownloadShown {
    name: String,
    stage: &'static str,
    /// `progressing`, `paused`, `done` or `stopped`.
    is: &'static str,
    acked: u64,
    size: u64,
    got: String,
    of: String,
    rate: Option<String>,
    /// Of a pause.
    since: Option<Time>,
    /// Of a pause or a stop, in words.
    why: Option<String>,
    /// All pauses before this one.
    paused: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct StopShown {
    stage: &'static str,
    since: Time,
    text: String,
    fix: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct StepShown {
    at: Time,
    /// Since the boot's beginning.
    after: String,
    stage: &'static str,
    text: String,
    failed: bool,
}

/// A machine's own page, as far as it changes by itself.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Whole {
    pub(super) row: Row,
    /// The last one first.
    boots: Vec<WholeBoot>,
    packets: Vec<PacketShown>,
}

impl Row {
    pub(super) fn new(machine: &view::Machine) -> Self {
        let title = machine.title().to_owned();
        let boot = machine.boot.as_ref();
        let (state, other) = (boot.map_or("unseen".into(), |boot| boot.state.clone()), |text: &String| *text != title);
        let row = Self {
            id: format!("m-{}", machine.id),
            machine: machine.id.clone(),
            href: format!("/machines/{}", encoded(&machine.id)),
            mac: machine.mac.clone().filter(other),
            address: machine.address.clone().filter(other),
            hardware: machine.hardware.known().map(|(name, text)| (name, text.into_owned())).collect(),
            lacks_memory: machine.lacks_memory.clone(),
            client: boot.and_then(|boot| boot.client.clone()),
            appliance: machine.appliance.clone(),
            words: words(&state),
            state,
            next: next(machine),
            boot: boot.map(BootShown::new),
            title,
            find: String::new(),
        };
        Self { find: row.found_by(machine), ..row }
    }

    fn found_by(&self, machine: &view::Machine) -> String {
        let next = self.next.as_ref().map(|next| &next.profile);
        let stop = self.boot.as_ref().and_then(|boot| boot.stop.as_ref()).map(|stop| &stop.text);
        let of_machine = [&machine.uuid, &self.mac, &self.address, &self.client, &self.appliance];
        let optional = of_machine.into_iter().flatten().chain(next).chain(stop).chain(&machine.cards);
        let all = [self.title.as_str(), self.machine.as_str(), self.words].into_iter();
        let parts = self.hardware.iter().map(|(_, text)| text.as_str());
        all.chain(optional.map(String::as_str)).chain(parts).collect::<Vec<_>>().join(" ").to_lowercase()
    }
}

fn next(machine: &view::Machine) -> Option<Next> {
    if let Some(fact) = &machine.depends_on {
        let (profile, why) = (format!("depends on its {fact}"), "which was not seen yet".to_owned());
        return Some(Next { profile, why, this_boot: None });
    }
    let profile = machine.profile.clone()?;
    let had = machine.spent.as_deref().unwrap_or_default();
    let once = if machine.once { ", once" } else { "" };
    let why = match machine.by? {
        By::Assignment => format!("assigned{once}"),
        By::Rule => format!("by its rule{once}"),
        By::Default => format!("the default{once}"),
        By::Menu => "chosen from the menu".to_owned(),
        By::Tried => {
            let words = machine.tried.as_ref().and_then(|tried| tried.failed.as_deref()).unwrap_or_default();
            let count = machine.tried.as_ref().map(|tried| tried.count).unwrap_or_default();
            let failed = if words.is_empty() { String::new() } else { format!("; its last report: failed: {words}") };
            format!("stopped: handed over {count} times and never reported installed{failed}")
        }
        By::Spent => format!("already booted {had} (one-time)"),
    };
    let chosen = machine.boot.as_ref().and_then(|boot| boot.chosen.as_ref());
    let this_boot = chosen.map(|chosen| chosen.profile.clone()).filter(|chosen| *chosen != profile);
    Some(Next { profile, why, this_boot })
}

impl BootShown {
    fn new(boot: &view::Boot) -> Self {
        Self {
            number: boot.number,
            began: Time::new(boot.began),
            last: Time::new(boot.last),
            state: boot.state.clone(),
            words: words(&boot.state),
            client: boot.client.clone(),
            appliance: boot.appliance.clone(),
            profile: boot.chosen.as_ref().map(|chosen| chosen.profile.clone()),
            stages: boot.stages.iter().map(StageShown::new).collect(),
            downloads: boot.downloads.iter().map(DownloadShown::new).collect(),
            stop: boot.stop.as_ref().map(StopShown::new),
        }
    }
}

impl StageShown {
    fn new(StageView { stage, is }: &StageView) -> Self {
        let is = match is {
            Progress::Done => "done",
            Progress::Active => "active",
            Progress::Paused => "paused",
            Progress::Failed => "failed",
            Progress::Pending => "pending",
        };
        Self { name: title(*stage), is }
    }
}

impl DownloadShown {
    fn new(download: &Download) -> Self {
        let (is, since, why) = match &download.pace {
            Going::Progressing => ("progressing", None, None),
            Going::Paused { since, window_closed: true } => {
                ("paused", Some(*since), Some("the client is alive and asked the server to wait".to_owned()))
            }
            Going::Paused { since, window_closed: false } => {
                ("paused", Some(*since), Some("no data gets through; netbootd keeps trying".to_owned()))
            }
            Going::Done => ("done", None, None),
            Going::Stopped { text, .. } => ("stopped", None, Some(text.clone())),
        };
        let has_rate = download.rate > 0 && matches!(is, "progressing" | "done");
        Self {
            name: download.name.clone(),
            stage: title(download.stage),
            is,
            acked: download.acked,
            size: download.size,
            got: bytes(download.acked),
            of: bytes(download.size),
            rate: has_rate.then(|| format!("{}/s", bytes(download.rate))),
            since: since.map(Time::new),
            why,
            paused: (download.paused > 0).then(|| format!("{} s", download.paused)),
        }
    }
}

impl StopShown {
    fn new(StopView { stage, since, text, fix, .. }: &StopView) -> Self {
        let (text, fix) = (sentence(text), fix.as_deref().map(sentence));
        Self { stage: title(*stage), since: Time::new(*since), text, fix }
    }
}

impl Whole {
    pub(super) fn new(machine: &view::Machine, seen: Option<&machines::Machine>, now: Moment) -> Self {
        let boot = |timeline: &std::sync::Arc<Timeline>| WholeBoot {
            boot: BootShown::new(&view::Boot::new(timeline, now)),
            steps: timeline.steps.iter().map(|step| StepShown::new(step, timeline.began)).collect(),
            left_out: timeline.left_out,
        };
        Self {
            row: Row::new(machine),
            boots: seen.map(|seen| seen.boots.iter().rev().map(boot).collect()).unwrap_or_default(),
            packets: seen.map(|seen| seen.packets.iter().rev().map(PacketShown::new).collect()).unwrap_or_default(),
        }
    }
}

impl StepShown {
    fn new(step: &Step, began: Moment) -> Self {
        let after = format!("+{:.1} s", step.at.since(began).as_secs_f64());
        Self { at: Time::new(step.at), after, stage: title(step.stage), text: step.text.clone(), failed: step.failed }
    }
}

/// A state in words.
fn words(state: &str) -> &'static str {
    match state {
        "booting" => "Booting",
        "slow_but_alive" => "Slow but alive",
        "menu" => "In the menu",
        "shell" => "In iPXE's shell",
        "local" => "Sent to its disk",
        "handed_over" => "Handed over",
        "reported" => "Reported done",
        "stopped" => "Stopped",
        _ => "Not seen yet",
    }
}

/// A stage in words.
fn title(stage: Stage) -> &'static str {
    match stage {
        Stage::Discover => "Discover",
        Stage::Offer => "Offer",
        Stage::BootServer => "Boot server",
        Stage::Loader => "Loader",
        Stage::Script => "Script",
        Stage::Kernel => "Kernel",
        Stage::Initrd => "Initrd",
        Stage::File => "File",
        Stage::HandedOver => "Handed over",
        Stage::Answer => "Answer file",
        Stage::Reported => "Reported",
        Stage::Refused => "Refused",
        Stage::Syslog => "Syslog",
    }
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    let stop = if text.ends_with(['.', '…', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}
