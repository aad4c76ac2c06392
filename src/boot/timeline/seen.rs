//! What each event means to a boot: the words for people, and what is known of it then.

use super::{Chosen, Download, Ending, Going, Timeline};
use crate::boot::{
    event::{At, Discover, Of, Pace, Pause, Progress, Report, ReportEvent, Silent, Transfer, What, bytes},
    machine::By,
    moment::Moment,
    own::Own,
    script::{Outcome, Way},
    stage::{Awaited, Stage},
    why::Why,
};

/// A stage, the words, and whether it stopped the boot.
pub(super) struct Seen(pub(super) Stage, pub(super) String, pub(super) bool);

/// Names and words from elsewhere are as long as a stranger likes.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(Timeline::TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Timeline {
    pub(super) fn seen(&mut self, what: What, now: Moment) -> Vec<Seen> {
        match what {
            What::Discover(discover) => self.discover(discover),
            What::Own(own) => {
                self.own = Some(own);
                Vec::new()
            }
            What::Offer(offer) => vec![Seen(Stage::Offer, offer, false)],
            What::TookOffer(shape) => {
                let text = format!("taken {shape}: from now on its first offer is that one");
                vec![Seen(Stage::Offer, text, false)]
            }
            What::BootServer(offer) => vec![Seen(Stage::BootServer, offer, false)],
            What::Refused(why) => self.refused(&why),
            What::Retry => {
                // What it was handed did not run: it is back in iPXE.
                self.ending = None;
                vec![Seen(Stage::Script, "the boot failed, and it asks for its script again".into(), false)]
            }
            What::Hardware(hardware) => {
                self.hardware = hardware;
                Vec::new()
            }
            What::HeardOn(interface) => {
                self.interface = Some(interface);
                Vec::new()
            }
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
                let runs = self.runs_from_elsewhere();
                runs.into_iter().chain([self.report(report)]).collect()
            }
            What::Address(address) => {
                self.address = Some(address);
                Vec::new()
            }
            What::OfferedAddress(_) | What::Packet { .. } => Vec::new(),
        }
    }

    fn discover(&mut self, Discover { client, is_ipxe, is_http_boot, secs }: Discover) -> Vec<Seen> {
        if is_ipxe && self.has_own_loader() {
            // What its loader came to is known now.
            self.ending.take_if(|ending| matches!(ending, Ending::HandedOver { probable: true, .. }));
        }
        self.is_http_boot |= is_http_boot;
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
        let text = why.fix().map_or_else(|| why.to_string(), |fix| format!("{why}; {fix}"));
        let text = shortened(text);
        if why.label() == "not_found" && self.has_own_files() {
            // A loader of the user's own and a Raspberry Pi look for files that need not be there, and go on.
            return vec![Seen(Stage::Refused, text, false)];
        }
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
            (Way::Elsewhere, ..) => {
                format!("profile {profile}: it has files on another server, and only a report says that it runs")
            }
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
            Way::Elsewhere => {
                // That it stands still could not be seen.
                self.ending = Some(Ending::HandedOver { at: now, probable: true });
                let report_within = report_within.map(|within| within.as_secs());
                self.chosen = Some(Chosen { profile, once, report_within, is_elsewhere: true });
            }
            Way::Boot(files) => {
                // Of a script of the user's own nothing is known but that the machine has it.
                if files.is_empty() {
                    self.ending = Some(Ending::HandedOver { at: now, probable: false });
                    let has_it = "it has its script, and does what that says".to_owned();
                    seen.push(Seen(Stage::HandedOver, has_it, false));
                }
                self.awaited = Awaited::new(files);
                let report_within = report_within.map(|within| within.as_secs());
                self.chosen = Some(Chosen { profile, once, report_within, is_elsewhere: false });
            }
        }
        seen
    }

    /// The stage that a file belongs to. A loader of the user's own is below the assets, as all other files are.
    fn stage_of(&self, of: Of, name: &str) -> Stage {
        match &self.own {
            Some(Own::Loader(own)) if of == Of::Asset && own.trim_start_matches('/') == name => Stage::Loader,
            _ => self.awaited.stage(of, name),
        }
    }

    fn pace(&mut self, Pace { of, name, acked, size, at }: &Pace, now: Moment) -> Seen {
        let stage = self.stage_of(*of, name);
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
        let stage = self.stage_of(of, &name);
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
        let stage = self.stage_of(*of, name);
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
        if stage == Stage::Loader && *of == Of::Asset && self.ending.is_none() {
            // A machine that was sent on by it is not stopped for want of our script; an iPXE that comes of it goes on.
            self.ending = Some(Ending::HandedOver { at: now, probable: true });
            let words = format!("probably: it has all of {name}, its rule's own loader, which goes on by itself");
            seen.push(Seen(Stage::HandedOver, words, false));
        }
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

    /// The first word of a machine whose files came from another server: it was handed over.
    fn runs_from_elsewhere(&mut self) -> Option<Seen> {
        let is_elsewhere = self.chosen.as_mut().map(|chosen| std::mem::take(&mut chosen.is_elsewhere));
        is_elsewhere?.then(|| Seen(Stage::HandedOver, "it runs: it reports".into(), false))
    }

    fn report(&mut self, Report { event, text }: Report) -> Seen {
        let (colon, text) = (if text.is_empty() { "" } else { ": " }, shortened(text));
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
}
