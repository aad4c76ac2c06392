//! One boot of one machine, from its first packet on: what was seen, in order, and how far that has come.

mod seen;
mod unfinished;

use std::{borrow::Cow, net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    event::{AddressOffer, Discover, What},
    moment::Moment,
    stage::{Awaited, Stage},
    transfer::bytes,
};
use crate::boot::{hardware::Hardware, own::Own, text::is_unseen};

/// See the module. It is kept over a restart as JSON; what an older server did not know has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// Of the machine's boots, counted from 1 on.
    pub number: u32,
    /// The appliance that saw it, where that is another one.
    #[serde(skip)]
    pub appliance: Option<String>,
    /// When its first packet came.
    pub began: Moment,
    /// When the machine was last heard.
    pub last: Moment,
    /// The firmware that asked, in words.
    pub client: Option<String>,
    /// How often a DISCOVER came; one that the network doubled counts once.
    pub discovers: u32,
    /// When the last one came.
    asked: Option<Moment>,
    /// How long it had been at it when it was first heard, by its own count, in seconds.
    pub secs: u16,
    /// An iPXE has asked.
    pub has_ipxe: bool,
    /// A GRUB has started.
    #[serde(default)]
    pub has_grub: bool,
    /// Its shim has started: it asked for what only a shim looks for.
    #[serde(default)]
    pub has_shim: bool,
    /// The kernel that it had whole when its boot failed, with Secure Boot on.
    #[serde(default)]
    pub kernel_refused: Option<String>,
    /// The first file that it asked for by TFTP, which is not here, while it had fetched nothing.
    #[serde(default)]
    pub not_here: Option<String>,
    /// Its firmware boots by HTTP.
    pub is_http_boot: bool,
    /// The address that it took, or fetched from.
    pub address: Option<Ipv4Addr>,
    /// What it was offered that goes on without our script.
    pub own: Option<Own>,
    /// What another server sent it that keeps machines from booting by us.
    pub rival: Option<String>,
    /// That its address is in another network than the one that it was heard on, in words.
    #[serde(default)]
    pub other_network: Option<String>,
    /// The last address that a server offered to it.
    #[serde(default)]
    pub offered: Option<AddressOffer>,
    /// The profile that an earlier boot of it reported as installed.
    #[serde(default)]
    pub installed: Option<String>,
    /// Scripts that it fetched one after the other, with no file between them.
    #[serde(default)]
    pub scripts: u32,
    /// What its script boots.
    pub chosen: Option<Chosen>,
    /// Steps of this boot, in order; of a long boot its beginning and its end.
    pub steps: Vec<Step>,
    /// Steps that were left out between them.
    pub left_out: u32,
    /// The files that it fetched, or fetches.
    pub downloads: Vec<Download>,
    /// Its script's files say whose they are, since other machines boot from the same address.
    pub claims: bool,
    /// What it has come to, where that is known.
    pub ending: Option<Ending>,
    awaited: Awaited,
    /// What it lacks of a one-time profile that an earlier script began.
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<Box<Unfinished>>,
    /// Steps since the boot last got further: firmware repeats its requests, and a repetition is no news.
    repeatable: usize,
    /// What the machine said of its parts, in this boot or in an earlier one.
    #[serde(default)]
    pub hardware: Hardware,
    /// Its serial number, as its iPXE said it, in this boot or in an earlier one.
    #[serde(default)]
    pub serial: Option<String>,
    /// Its SMBIOS UUID in the byte order in which it was heard first.
    #[serde(default)]
    pub uuid: Option<String>,
    /// The interface of ours that it fetched its script by, in this boot or in an earlier one.
    #[serde(default)]
    pub interface: Option<String>,
    /// The cause that was reported for its stop.
    pub told: Option<Cow<'static, str>>,
}

/// What a machine lacks of a one-time profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unfinished {
    chosen: Chosen,
    awaited: Awaited,
}

/// What a machine's script boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Chosen {
    /// The profile's name.
    pub profile: String,
    /// Whether it is a one-time profile.
    pub once: bool,
    /// Once in this sense: it is served until the machine reports that it is installed.
    #[serde(default)]
    pub until_installed: bool,
    /// In seconds: what it boots reports within this time of its hand-over.
    pub report_within: Option<u64>,
    /// Whether some of its files are on another server: then what it boots has to say that it runs.
    #[serde(default)]
    pub is_elsewhere: bool,
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
    /// When it was first reported.
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
        /// [`super::transfer::Failure::label`].
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
        /// [`Reason::label`].
        label: Cow<'static, str>,
        /// In words, with the fix.
        text: String,
    },
    /// It shows the menu on its screen.
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
        /// As the machine reported it.
        text: String,
    },
}

/// A stage, the words, and whether it stopped the boot.
struct Seen(Stage, String, bool);

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
    /// For the file behind the last one: a Raspberry Pi asks for it within a second or two.
    const LAST_FILE: Duration = Duration::from_secs(10);
    /// A machine that was silent for so long is at another boot when it asks again.
    const QUIET: Duration = Duration::from_secs(120);
    /// A script that loops fetches itself within some seconds.
    const NEXT_SCRIPT: Duration = Duration::from_secs(15);
    /// No machine starts anew within this time.
    const OVERTAKEN: Duration = Duration::from_secs(1);
    /// Two relays of one network pass on the same DISCOVER, and a machine that is heard on two interfaces is heard twice.
    const DOUBLED: Duration = Duration::from_millis(500);
    /// For so long after it was heard last a script may be under way.
    pub const UNDER_WAY: Duration = Duration::from_secs(3600);

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
            // A U-Boot does not wait for our offer: its first file can be served before its DISCOVER is heard.
            What::Discover(_) if self.discovers == 0 && now.since(self.began) < Self::OVERTAKEN => false,
            What::Discover(Discover { is_ipxe: false, .. }) => {
                is_quiet || self.has_ipxe || self.ending.is_some() || got_beyond(Stage::BootServer)
            }
            // Behind a loader of the user's own, a shim, there may come an iPXE: it goes on with the boot.
            What::Discover(_) if self.has_own_loader() => is_quiet || self.has_script(),
            What::Discover(_) => is_quiet || got_beyond(Stage::Loader),
            What::Script(_) | What::OwnScript(_) if self.has_own_loader() && !self.has_script() => is_quiet,
            What::Script(_) | What::OwnScript(_) => {
                is_quiet || matches!(self.ending, Some(Ending::HandedOver { .. } | Ending::Local))
            }
            _ => false,
        }
    }

    /// Takes in what was seen; what is new to people.
    pub fn apply(&mut self, what: What, now: Moment) -> Vec<Step> {
        if !matches!(what, What::Rival(_) | What::OfferedAddress(_) | What::NotHere(_)) {
            self.last = now;
        }
        let seen = self.seen(what, now);
        let steps = seen.into_iter().map(|Seen(stage, text, failed)| {
            // Names and words that came from the network end on terminals.
            let text = if text.contains(is_unseen) { text.replace(is_unseen, "?") } else { text };
            Step { at: now, stage, text, failed }
        });
        steps.filter(|step| self.is_news(step)).collect()
    }

    /// The profile that this boot reported as installed.
    pub(super) fn has_installed(&self) -> Option<String> {
        let is_installed = matches!(self.ending, Some(Ending::Reported { ok: true, .. }));
        self.chosen.as_ref().filter(|_| is_installed).map(|chosen| chosen.profile.clone())
    }

    /// Whether a script that is fetched now belongs to the ones before it.
    pub(super) fn scripts_go_on(&self, now: Moment) -> bool {
        now.since(self.last) < Self::NEXT_SCRIPT
    }

    fn has_own_loader(&self) -> bool {
        matches!(self.own, Some(Own::Loader(_)))
    }

    fn has_script(&self) -> bool {
        self.steps.iter().any(|step| step.stage == Stage::Script)
    }

    /// Whether it has taken some of the files by which it goes on without our script.
    pub(super) fn has_own_files(&self) -> bool {
        self.own.is_some() && self.downloads.iter().any(|download| download.pace == Going::Done)
    }

    /// Whether a Raspberry Pi has taken files, asks for no more, and so has most likely started them. What it asked for
    /// in vain need not be there.
    pub(super) fn goes_on_by_itself(&self, now: Moment) -> bool {
        let is_open = match &self.ending {
            None => true,
            Some(Ending::Refused { label, .. }) => label == "not_found",
            Some(_) => false,
        };
        let has_all = || self.downloads.iter().all(|download| download.pace == Going::Done);
        let is_quiet = now.since(self.last) >= Self::LAST_FILE;
        is_open && is_quiet && self.own == Some(Own::RaspberryPi) && self.has_own_files() && has_all()
    }

    /// Takes that in; the step.
    pub(super) fn hand_over_by_itself(&mut self, now: Moment) -> Step {
        self.ending = Some(Ending::HandedOver { at: now, probable: true });
        let text = "probably: it has its firmware's files and asks for no more".to_owned();
        let step = Step { at: now, stage: Stage::HandedOver, text, failed: false };
        self.steps.push(step.clone());
        self.bound_steps();
        step
    }

    /// As it is after a restart of this server, which closed all connections: nobody else would end its downloads.
    pub(super) fn kept(mut self) -> Self {
        for download in &mut self.downloads {
            if matches!(download.pace, Going::Progressing | Going::Paused { .. }) {
                let text = "it was stopped during the download".to_owned();
                download.pace = Going::Stopped { label: "server".into(), text };
            }
        }
        self
    }

    /// Whether its script is under way, so that a file that is fetched from its address may be its own.
    #[must_use]
    pub fn waits(&self, now: Moment) -> bool {
        let is_running = |download: &Download| matches!(download.pace, Going::Progressing | Going::Paused { .. });
        let is_fresh = now.since(self.last) < Self::UNDER_WAY || self.downloads.iter().any(is_running);
        let waits = (self.chosen.is_some() && self.awaited.waits()) || self.unfinished.is_some();
        waits && is_fresh
    }

    /// Looks whether time alone has made it a boot that is handed over: one that runs from a disk image.
    pub(super) fn runs_by_now(&self, now: Moment) -> bool {
        self.awaited.got.runs(now).is_some()
    }

    /// The step of that.
    pub(super) fn runs(&mut self, now: Moment) -> Option<Step> {
        let (read, lasted) = self.awaited.got.runs(now)?;
        self.awaited.got.end_disk();
        self.ending = Some(Ending::HandedOver { at: now, probable: false });
        let text = format!("it runs from its disk image: {} read in {} s", bytes(read), lasted.as_secs());
        let step = Step { at: now, stage: Stage::HandedOver, text, failed: false };
        self.is_news(&step).then_some(step)
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

    /// Whether the machine did more than ask for an offer.
    #[must_use]
    pub fn is_past_offers(&self) -> bool {
        self.steps.iter().any(|step| step.stage > Stage::BootServer)
    }

    /// Whether such files are among those.
    #[must_use]
    pub fn lacks_at(&self, stage: Stage) -> bool {
        self.awaited.has(stage)
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
        // Nor does a client that breaks its transfers off, and begins them anew without end.
        let gets_on = step.stage > Stage::BootServer && step.stage != Stage::Refused && !step.failed;
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

    /// Of its own reports the last ones are kept: an installer has thousands, which leave nothing else of a timeline.
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
