//! One boot of one machine, from its first packet on: what was seen, in order, and how far that has come.

use std::{borrow::Cow, net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    event::{At, Discover, Pace, Pause, Progress, Report, ReportEvent, Silent, Transfer, What, bytes},
    machine::By,
    moment::Moment,
    script::{Outcome, Way},
    stage::{Awaited, Stage},
    why::Why,
};

/// See the module. It is kept over a restart as JSON; what an older server did not know has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// Of the machine's boots, counted from 1 on.
    pub number: u32,
    /// When its first packet came.
    pub began: Moment,
    /// When the machine was last heard.
    pub last: Moment,
    /// The firmware that asked, in words.
    pub client: Option<String>,
    /// How often a DISCOVER came.
    pub discovers: u32,
    /// How long it had been at it when it was first heard, by its own count, in seconds.
    pub secs: u16,
    /// An iPXE has asked.
    pub has_ipxe: bool,
    /// The address that it took, or fetched from.
    pub address: Option<Ipv4Addr>,
    /// What another server told it that keeps machines from booting by us.
    pub rival: Option<String>,
    /// What its script boots.
    pub chosen: Option<Chosen>,
    /// What was seen, in order; of a long boot its beginning and its end.
    pub steps: Vec<Step>,
    /// Steps that were left out between them.
    pub left_out: u32,
    /// The files that it fetched, or fetches.
    pub downloads: Vec<Download>,
    /// What it has come to, where that is known.
    pub ending: Option<Ending>,
    awaited: Awaited,
    /// Steps since the boot last got further: firmware repeats its requests, and a repetition is no news.
    repeatable: usize,
    /// The cause that was told of its stop.
    pub told: Option<Cow<'static, str>>,
}

/// What a machine's script boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Chosen {
    /// The profile's name.
    pub profile: String,
    /// Whether it is to be had once.
    pub once: bool,
    /// In seconds: what it boots reports within this time of its hand-over.
    pub report_within: Option<u64>,
}

/// One thing that was seen, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Step {
    /// When.
    pub at: Moment,
    /// At which stage.
    pub stage: Stage,
    /// What happened.
    pub text: String,
    /// Whether it stopped the boot, as far as is known.
    pub failed: bool,
}

/// A file on its way to a machine, or there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Download {
    /// Which stage it belongs to.
    pub stage: Stage,
    /// A loader's name, or a path below the assets folder.
    pub name: String,
    /// Bytes that the machine has acknowledged.
    pub acked: u64,
    /// Bytes in all.
    pub size: u64,
    /// Bytes per second: lately, or of the whole where it has ended.
    pub rate: u64,
    /// When it was first told of.
    pub began: Moment,
    /// All pauses of it together, in seconds.
    pub paused: u64,
    /// How it goes.
    pub pace: Going,
}

/// How a download goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Going {
    /// The machine takes it.
    #[default]
    Progressing,
    /// It takes nothing for now, and lives.
    Paused {
        /// Since when.
        since: Moment,
        /// The machine asked for it, by closing its window.
        window_closed: bool,
    },
    /// It has the whole.
    Done,
    /// It stopped short.
    Stopped {
        /// [`super::event::Failure::label`].
        label: Cow<'static, str>,
        /// In words.
        text: String,
    },
}

/// What a boot has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Ending {
    /// It was refused.
    Refused {
        /// [`Why::label`].
        label: Cow<'static, str>,
        /// In words, with the mend.
        text: String,
    },
    /// It shows the menu to whoever stands before it.
    Menu,
    /// It shows iPXE's shell.
    Shell,
    /// It was sent on to its own disk.
    Local,
    /// It has everything that its script names.
    HandedOver {
        /// When.
        at: Moment,
        /// The last acknowledgement is missing.
        probable: bool,
    },
    /// What booted said that it is done.
    Reported {
        /// Whether it worked.
        ok: bool,
        /// In its own words.
        text: String,
    },
}

impl Timeline {
    /// How many steps are kept.
    pub const STEPS: usize = 48;
    /// Of those, how many of the beginning.
    const FIRST: usize = 16;
    /// And how many lines that the machine sent by syslog.
    pub const WORDS: usize = 16;
    /// How many steps can come before the boot has got further.
    const REPEATABLE: usize = 32;
    /// How many downloads are kept.
    pub const DOWNLOADS: usize = 12;
    /// Of words that come from elsewhere, how many characters are kept.
    const TEXT: usize = 400;
    /// A machine that was silent for so long is at another boot when it asks again.
    const QUIET: Duration = Duration::from_secs(120);

    /// A boot of which nothing is known yet.
    #[must_use]
    pub fn begin(number: u32, now: Moment) -> Self {
        Self { number, began: now, last: now, ..Self::default() }
    }

    /// Whether this is seen of a new boot, and no more of this one.
    #[must_use]
    pub fn is_over_with(&self, what: &What, now: Moment) -> bool {
        let is_quiet = now.since(self.last) > Self::QUIET;
        let got_beyond = |stage: Stage| self.steps.iter().any(|step| step.stage > stage && step.stage < Stage::Refused);
        match what {
            What::Discover(Discover { is_ipxe: false, .. }) => {
                is_quiet || self.has_ipxe || self.ending.is_some() || got_beyond(Stage::BootServer)
            }
            What::Discover(_) => is_quiet || got_beyond(Stage::Loader),
            What::Script(_) => is_quiet || matches!(self.ending, Some(Ending::HandedOver { .. } | Ending::Local)),
            _ => false,
        }
    }

    /// Takes in what was seen; what is new to people.
    pub fn apply(&mut self, what: What, now: Moment) -> Vec<Step> {
        if !matches!(what, What::Rival(_)) {
            self.last = now;
        }
        let seen = self.seen(what, now);
        let steps = seen.into_iter().map(|Seen(stage, text, failed)| {
            // Names and words that came from the network end on terminals.
            let text = if text.contains(char::is_control) { text.replace(char::is_control, "?") } else { text };
            Step { at: now, stage, text, failed }
        });
        steps.filter(|step| self.is_news(step)).collect()
    }

    /// Adds what was seen of a machine when its card was not known yet.
    pub(super) fn absorb(&mut self, other: Self) {
        for step in other.steps {
            let at = self.steps.partition_point(|mine| mine.at <= step.at);
            self.steps.insert(at, step);
        }
        self.bound_steps();
        self.downloads.extend(other.downloads);
        self.bound_downloads();
        self.last = self.last.max(other.last);
    }

    /// Files that its script names and that it has not fetched whole.
    #[must_use]
    pub fn lacks(&self) -> Vec<&str> {
        self.awaited.names()
    }

    /// Whether such files are among those.
    #[must_use]
    pub fn lacks_at(&self, stage: Stage) -> bool {
        self.awaited.has(stage)
    }

    fn seen(&mut self, what: What, now: Moment) -> Vec<Seen> {
        match what {
            What::Discover(discover) => self.discover(discover),
            What::Offer(offer) => vec![Seen(Stage::Offer, offer, false)],
            What::TookOffer(shape) => {
                let text = format!("taken {shape}: from now on its first offer is that one");
                vec![Seen(Stage::Offer, text, false)]
            }
            What::BootServer(offer) => vec![Seen(Stage::BootServer, offer, false)],
            What::Refused(why) => self.refused(&why),
            What::Script(outcome) => self.script(outcome, now),
            What::Started(progress) | What::Progress(progress) => {
                self.progress(progress, now);
                Vec::new()
            }
            What::Transfer(transfer) => self.transfer(&transfer, now),
            What::Pace(pace) => vec![self.pace(&pace, now)],
            What::Silent(silent) => self.silent(&silent, now).into_iter().collect(),
            What::Answer { name, size, to } => {
                self.may_run_already(now);
                vec![Seen(Stage::Answer, format!("{name}, {} to {to}", bytes(size)), false)]
            }
            What::Rival(rival) => {
                // It is told where the boot does not get on.
                self.rival = Some(shortened(rival.to_string()));
                Vec::new()
            }
            What::Said(line) => vec![Seen(Stage::Syslog, shortened(line), false)],
            What::Report(report) => {
                self.may_run_already(now);
                vec![self.report(report)]
            }
            What::Address(address) => {
                self.address = Some(address);
                Vec::new()
            }
            What::Packet { .. } => Vec::new(),
        }
    }

    fn discover(&mut self, Discover { client, is_ipxe, secs }: Discover) -> Vec<Seen> {
        if self.discovers == 0 {
            self.secs = secs;
        }
        self.discovers = self.discovers.saturating_add(1);
        self.has_ipxe |= is_ipxe;
        if !is_ipxe || self.client.is_none() {
            self.client = Some(client.clone());
        }
        vec![Seen(Stage::Discover, client, false)]
    }

    /// What is refused to the system that was booted, an installer that looks for files, says nothing of the boot.
    fn refused(&mut self, why: &Why) -> Vec<Seen> {
        let text = shortened(why.to_string());
        if matches!(self.ending, None | Some(Ending::Refused { .. } | Ending::Menu)) {
            self.ending = Some(Ending::Refused { label: why.label().into(), text: text.clone() });
        }
        vec![Seen(Stage::Refused, text, true)]
    }

    fn script(&mut self, outcome: Outcome, now: Moment) -> Vec<Seen> {
        self.awaited = Awaited::default();
        self.chosen = None;
        self.ending = None;
        let Outcome::Chosen { way, profile, by, once, report_within, .. } = outcome else {
            return match outcome {
                Outcome::Refused(_, why) => self.refused(&why),
                _ => vec![Seen(Stage::Script, "asked who it is".into(), false)],
            };
        };
        let text = match (&way, by, once) {
            (Way::Menu, ..) => "the menu".into(),
            (Way::Shell, ..) => "iPXE's shell".into(),
            (Way::Local, By::Spent, _) => "on to the local disk: it has had what it was to boot once".into(),
            (Way::Local, ..) => "on to the local disk".into(),
            (Way::Boot(_), By::Assignment, true) => format!("profile {profile}, assigned, once"),
            (Way::Boot(_), By::Assignment, false) => format!("profile {profile}, assigned"),
            (Way::Boot(_), _, true) => format!("profile {profile}, once"),
            (Way::Boot(_), _, false) => format!("profile {profile}"),
        };
        let mut seen = vec![Seen(Stage::Script, text, false)];
        match way {
            Way::Menu => self.ending = Some(Ending::Menu),
            Way::Shell => self.ending = Some(Ending::Shell),
            Way::Local => self.ending = Some(Ending::Local),
            Way::Boot(files) => {
                // Of a script of the user's own nothing is known but that the machine has it.
                if files.is_empty() {
                    self.ending = Some(Ending::HandedOver { at: now, probable: false });
                    let has_it = "it has its script, and does what that says".to_owned();
                    seen.push(Seen(Stage::HandedOver, has_it, false));
                }
                self.awaited = Awaited::new(files);
                let report_within = report_within.map(|within| within.as_secs());
                self.chosen = Some(Chosen { profile, once, report_within });
            }
        }
        seen
    }

    fn pace(&mut self, Pace { of, name, acked, size, at }: &Pace, now: Moment) -> Seen {
        let stage = self.awaited.stage(*of, name);
        let so_far = format!("at {} of {}", bytes(*acked), bytes(*size));
        let text = match at {
            At::Paused(Pause { lasted, window_closed: true }) => {
                format!("{name}: alive, paused {} s, window closed by the client, {so_far}", lasted.as_secs())
            }
            At::Paused(Pause { lasted, window_closed: false }) => {
                format!("{name}: no progress for {} s, still trying, {so_far}", lasted.as_secs())
            }
            At::GoesOn { paused } => format!("{name}: goes on after {} s, {so_far}", paused.as_secs()),
        };
        self.download(stage, name, now, |download| {
            (download.acked, download.size) = (*acked, *size);
            match *at {
                At::Paused(Pause { lasted, window_closed }) => {
                    download.rate = 0;
                    download.pace = Going::Paused { since: now.before(lasted), window_closed };
                }
                At::GoesOn { paused } => {
                    download.paused += paused.as_secs();
                    download.pace = Going::Progressing;
                }
            }
        });
        Seen(stage, text, false)
    }

    fn progress(&mut self, Progress { of, name, acked, size, rate, .. }: Progress, now: Moment) {
        let stage = self.awaited.stage(of, &name);
        self.forget_refusal();
        self.download(stage, &name, now, |download| {
            (download.acked, download.size, download.rate) = (acked, size, rate);
            download.pace = Going::Progressing;
        });
    }

    /// It counts as handed over: a machine that is to be installed once must not be so again.
    fn silent(&mut self, Silent { name, unacknowledged, since }: &Silent, now: Moment) -> Option<Seen> {
        let text = format!(
            "probably: it was sent all of {name}, has acknowledged all but the last {}, and is silent for {} s, as one that started its kernel",
            bytes(*unacknowledged),
            since.as_secs()
        );
        self.awaited.is_silent_at_the_end_of(name).then(|| {
            self.ending = Some(Ending::HandedOver { at: now, probable: true });
            Seen(Stage::HandedOver, text, false)
        })
    }

    fn transfer(&mut self, Transfer { of, name, sent, size, took, failure, .. }: &Transfer, now: Moment) -> Vec<Seen> {
        let stage = self.awaited.stage(*of, name);
        let seconds = took.as_secs_f64();
        let rate = (*sent as f64 / seconds.max(1e-6)) as u64;
        self.forget_refusal();
        let is_started = self.awaited.is_likely_started(name);
        let pace = match failure {
            Some(failure) if !is_started => {
                Going::Stopped { label: failure.label().into(), text: shortened(failure.to_string()) }
            }
            _ => Going::Done,
        };
        self.download(stage, name, now, |download| {
            (download.acked, download.size, download.rate, download.pace) = (*sent, *size, rate, pace);
        });
        if let Some(failure) = failure {
            let what = if is_started { "acknowledged" } else { "stopped at" };
            let text = format!("{name}: {what} {} of {}: {failure}", bytes(*sent), bytes(*size));
            return vec![Seen(stage, text, !is_started)];
        }
        let text = format!("{name}, {} in {seconds:.2} s ({}/s)", bytes(*sent), bytes(rate));
        let mut seen = vec![Seen(stage, text, false)];
        if self.awaited.got(name) {
            self.ending = Some(Ending::HandedOver { at: now, probable: false });
            seen.push(Seen(Stage::HandedOver, "it has its kernel and all initrds".into(), false));
        }
        seen
    }

    /// What is first heard of it comes from a system that runs: how that was booted was not seen, by a server that has
    /// just started or because it came from a disk.
    fn may_run_already(&mut self, now: Moment) {
        if self.steps.is_empty() && self.ending.is_none() {
            self.ending = Some(Ending::HandedOver { at: now, probable: true });
        }
    }

    fn report(&mut self, Report { event, text }: Report) -> Seen {
        let (text, colon) = (shortened(text.clone()), if text.is_empty() { "" } else { ": " });
        match event {
            ReportEvent::Other(word) => Seen(Stage::Reported, format!("{}{colon}{text}", shortened(word)), false),
            ReportEvent::Installed | ReportEvent::Failed => {
                let ok = event == ReportEvent::Installed;
                let word = if ok { "installed" } else { "failed" };
                let told = format!("{word}{colon}{text}");
                self.ending = Some(Ending::Reported { ok, text });
                Seen(Stage::Reported, told, !ok)
            }
        }
    }

    /// A machine that takes files got past what was refused to it before.
    fn forget_refusal(&mut self) {
        self.ending.take_if(|ending| matches!(ending, Ending::Refused { .. }));
    }

    /// Changes what is known of a file's download. One that had ended begins anew: a second try, or the next piece of a
    /// CD image.
    fn download(&mut self, stage: Stage, name: &str, now: Moment, change: impl FnOnce(&mut Download)) {
        let found = self.downloads.iter().position(|download| download.name == name);
        let mut download = found.map_or_else(
            || Download { name: name.to_owned(), began: now, stage, ..Download::default() },
            |found| self.downloads.remove(found),
        );
        if !matches!(download.pace, Going::Progressing | Going::Paused { .. }) {
            (download.stage, download.began, download.paused) = (stage, now, 0);
        }
        change(&mut download);
        self.downloads.insert(found.unwrap_or(self.downloads.len()), download);
        self.bound_downloads();
    }

    /// What a running system fetches by the thousand makes room first, then what is the oldest.
    fn bound_downloads(&mut self) {
        while self.downloads.len() > Self::DOWNLOADS {
            let is_other = |download: &Download| download.stage == Stage::File && download.pace == Going::Done;
            let first = self.downloads.iter().position(is_other).unwrap_or(0);
            self.downloads.remove(first);
        }
    }

    fn is_news(&mut self, step: &Step) -> bool {
        if step.stage == Stage::Syslog {
            self.forget_words();
            self.steps.push(step.clone());
            self.bound_steps();
            return true;
        }
        let gets_on = step.stage > Stage::BootServer && step.stage != Stage::Refused;
        if gets_on {
            (self.repeatable, self.told) = (0, None);
        } else {
            let steps = self.steps.iter().rev().filter(|step| step.stage != Stage::Syslog);
            let repeatable = steps.take(self.repeatable);
            let is_known = repeatable.clone().any(|known| (known.stage, &known.text) == (step.stage, &step.text));
            if is_known || self.repeatable >= Self::REPEATABLE {
                return false;
            }
            self.repeatable += 1;
        }
        self.steps.push(step.clone());
        self.bound_steps();
        true
    }

    /// Of its own words the last ones are kept: an installer has thousands, which leave nothing else of a timeline.
    fn forget_words(&mut self) {
        let is_word = |step: &Step| step.stage == Stage::Syslog;
        if self.steps.iter().filter(|step| is_word(step)).count() >= Self::WORDS
            && let Some(first) = self.steps.iter().position(is_word)
        {
            self.steps.remove(first);
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    fn bound_steps(&mut self) {
        while self.steps.len() > Self::STEPS {
            self.steps.remove(Self::FIRST);
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

/// A stage, the words, and whether it stopped the boot.
struct Seen(Stage, String, bool);

/// Names and words from elsewhere are as long as a stranger likes.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(Timeline::TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}
