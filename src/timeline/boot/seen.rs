//! What each event means to a boot: the words for people, and what is known of it then.

use super::{Chosen, Download, Ending, Going, Seen, Step, Timeline};
use crate::{
    boot::{
        chain::is_shim_name,
        machine::By,
        outcome::{Outcome, Way},
        over::Of,
        own::Own,
        reason::Reason,
    },
    timeline::{
        event::{Discover, Report, ReportEvent, What},
        handover::{Bytes, Got},
        moment::Moment,
        stage::{Awaited, Stage},
        transfer::{At, Pace, Part, Pause, Progress, Silent, Transfer, bytes},
    },
};

/// Names and words from elsewhere are as long as a stranger likes.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(Timeline::TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Whether a file is a machine's own loader, or an EFI program beside its shim.
fn is_with_loader(own: &str, name: &str) -> bool {
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    own == name || (is_shim_name(own) && folder(own) == folder(name) && name.ends_with(".efi"))
}

impl Timeline {
    pub(super) fn seen(&mut self, what: What, now: Moment) -> Vec<Seen> {
        match what {
            What::Discover(discover) => self.discover(discover, now),
            What::Own(own) => {
                self.own = Some(own);
                Vec::new()
            }
            What::Offer(offer) => vec![Seen(Stage::Offer, offer, false)],
            What::TookOffer(shape) => {
                let text = format!("taken {shape}: sent first from now on");
                vec![Seen(Stage::Offer, text, false)]
            }
            What::TookLoader(trust) => {
                let text = format!("the {} loader started: offered first from now on", trust.name());
                vec![Seen(Stage::Offer, text, false)]
            }
            What::ShimRuns => {
                self.has_shim = true;
                Vec::new()
            }
            What::NotHere(name) => self.looks_for(name, now).into_iter().collect(),
            What::Forgotten => {
                vec![Seen(Stage::Offer, "what was learned of its firmware is forgotten".into(), false)]
            }
            What::BootServer(offer) => vec![Seen(Stage::BootServer, offer, false)],
            What::Firmware(client) => {
                self.client.get_or_insert(client);
                Vec::new()
            }
            What::Refused(why) => self.refused(&why),
            What::Retry => {
                self.scripts = 0;
                // What it was handed did not run: it is back in iPXE.
                self.ending = None;
                self.kernel_refused = self.kernel_that_did_not_start();
                vec![Seen(Stage::Script, "the boot failed, and it asks for its script again".into(), false)]
            }
            What::Hardware(hardware) => {
                self.hardware = hardware.after(&self.hardware);
                Vec::new()
            }
            What::LittleMemory(lacks) => vec![Seen(Stage::Script, lacks, false)],
            What::Kept(_) => Vec::new(),
            What::Serial(serial) => {
                self.serial = Some(serial);
                Vec::new()
            }
            What::HeardOn(interface) => {
                self.interface = Some(interface);
                Vec::new()
            }
            What::Script(outcome) => {
                self.claims = false;
                self.script(outcome, now)
            }
            What::OwnScript(outcome) => {
                // Those of a script that it was sent before do not say so.
                self.claims |= !self.loads_once(now);
                self.script(outcome, now)
            }
            What::NotSaidWhose(name) => {
                let text = format!(
                    "{name} was fetched from an IP address that several machines use, so it is counted for none of \
                     them; once = \"installed\" does not need this count"
                );
                vec![Seen(Stage::File, text, false)]
            }
            What::SharedUuid([one, other]) => {
                let text = format!(
                    "two machines that boot at the same time have the same SMBIOS UUID, by the cards {one} and {other}, and \
                     count as one: give each a [[machines]] rule with a name and its MAC address"
                );
                vec![Seen(Stage::Discover, text, false)]
            }
            What::Started(progress) | What::Progress(progress) => {
                self.progress(progress, now);
                Vec::new()
            }
            What::Transfer(transfer) => {
                let part = Part { start: 0, whole: transfer.size, is_look: false };
                self.transfer(&transfer, part, now)
            }
            What::Part(transfer, part) => self.transfer(&transfer, part, now),
            What::Pace(pace) => self.pace(&pace, now).into_iter().collect(),
            What::Silent(silent) => self.silent(&silent, now).into_iter().collect(),
            What::Answer { name, size, to } => {
                self.may_run_already(now);
                vec![Seen(Stage::Answer, format!("{name}, {} to {to}", bytes(size)), false)]
            }
            What::Rival(rival) => {
                // It is reported where the boot does not continue.
                self.rival = Some(shortened(rival.to_string()));
                Vec::new()
            }
            What::Said(line) => vec![Seen(Stage::Syslog, shortened(line), false)],
            What::SignedReport(report, _) => {
                self.may_run_already(now);
                let runs = self.runs_unseen();
                runs.into_iter().chain([self.report(report)]).collect()
            }
            What::Report(report) => {
                self.may_run_already(now);
                let is_once = self.chosen.as_ref().is_some_and(|chosen| chosen.once);
                let runs = if is_once { None } else { self.runs_unseen() };
                runs.into_iter().chain([self.report(report)]).collect()
            }
            What::Address(address) => {
                self.address = Some(address);
                Vec::new()
            }
            What::OtherNetwork { address, heard_on } => {
                let text = format!("it was heard on {heard_on}, but took the address {address} of another network");
                self.other_network = Some(shortened(text));
                Vec::new()
            }
            request @ What::Request(_) => request.into_parts().flat_map(|what| self.seen(what, now)).collect(),
            What::OfferedAddress(offer) => {
                self.offered = Some(offer);
                Vec::new()
            }
        }
    }

    fn discover(&mut self, discover: Discover, now: Moment) -> Vec<Seen> {
        let Discover { client, is_ipxe, is_http_boot, secs, .. } = discover;
        if is_ipxe && self.has_own_loader() {
            // What its loader came to is known now.
            self.ending.take_if(|ending| matches!(ending, Ending::HandedOver { probable: true, .. }));
        }
        self.is_http_boot |= is_http_boot;
        if self.discovers == 0 {
            self.secs = secs;
        }
        let is_doubled = self.asked.replace(now).is_some_and(|before| now.since(before) < Self::DOUBLED);
        self.discovers = self.discovers.saturating_add(u32::from(!is_doubled));
        self.scripts = 0;
        self.has_ipxe |= is_ipxe;
        if !is_ipxe || self.client.is_none() {
            self.client = Some(client.clone());
        }
        vec![Seen(Stage::Discover, client, false)]
    }

    /// What is refused to the system that was booted, an installer that looks for files, says nothing of the boot.
    fn refused(&mut self, why: &Reason) -> Vec<Seen> {
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

    /// Firmware that has fetched nothing asks for its boot file, which it was sent to this server for: that is why it
    /// stops. Loaders look for files that need not be there, and a Raspberry Pi looks for many: these are only reported.
    fn looks_for(&mut self, name: String, now: Moment) -> Option<Seen> {
        let is_firmware = !self.has_ipxe && !self.has_grub && self.own.is_none() && self.ending.is_none();
        if is_firmware && !self.is_past_offers() && self.downloads.is_empty() {
            self.last = now;
            self.not_here.get_or_insert_with(|| shortened(name));
            return None;
        }
        let is_usual = self.own == Some(Own::RaspberryPi) && self.has_own_files();
        (!is_usual).then(|| Seen(Stage::Refused, shortened(Reason::NotFound(name).to_string()), false))
    }

    fn script(&mut self, outcome: Outcome, now: Moment) -> Vec<Seen> {
        self.scripts = self.scripts.saturating_add(1);
        self.put_aside();
        self.awaited = Awaited::default();
        self.chosen = None;
        self.ending = None;
        let Outcome::Chosen { way, profile, by, once, until_installed, report_within, .. } = outcome else {
            return match outcome {
                Outcome::Refused(_, why) => self.refused(&why),
                Outcome::Grub => {
                    (self.has_grub, self.own) = (true, None);
                    vec![Seen(Stage::Script, "GRUB started: sent the script that identifies the machine".into(), false)]
                }
                _ => vec![Seen(Stage::Script, "sent the script that identifies the machine".into(), false)],
            };
        };
        let text = match (&way, by, once) {
            (Way::Menu, ..) => "the menu".into(),
            (Way::Shell, ..) => "iPXE's shell".into(),
            (Way::Local, By::Spent, _) => "local disk: already booted its one-time profile".into(),
            (Way::Local, ..) => "local disk".into(),
            (Way::Elsewhere, ..) => {
                format!("profile {profile}: files on another server; only a report shows that it runs")
            }
            (Way::Boot(_) | Way::Disk(_), _, true) if until_installed => {
                format!("profile {profile}, until it reports that it is installed")
            }
            (Way::Boot(_) | Way::Disk(_), By::Assignment, true) => format!("profile {profile}, assigned, once"),
            (Way::Boot(_) | Way::Disk(_), By::Assignment, false) => format!("profile {profile}, assigned"),
            (Way::Boot(_) | Way::Disk(_), _, true) => format!("profile {profile}, once"),
            (Way::Boot(_) | Way::Disk(_), _, false) => format!("profile {profile}"),
        };
        let seen = vec![Seen(Stage::Script, text, false)];
        if !matches!(way, Way::Menu | Way::Shell | Way::Local) {
            self.is_given(&profile);
        }
        let report_within = report_within.map(|within| within.as_secs());
        let chosen = Chosen { profile, once, until_installed, report_within, is_elsewhere: false };
        match way {
            Way::Menu => self.ending = Some(Ending::Menu),
            Way::Shell => self.ending = Some(Ending::Shell),
            Way::Local => self.ending = Some(Ending::Local),
            Way::Elsewhere => {
                // That it stands still could not be seen.
                self.ending = Some(Ending::HandedOver { at: now, probable: true });
                self.chosen = Some(Chosen { is_elsewhere: true, ..chosen });
            }
            // A script of the user's own: where it stands could not be seen either, until it fetches a file from here.
            Way::Boot(files) if files.is_empty() => {
                self.ending = Some(Ending::HandedOver { at: now, probable: true });
                self.awaited = Awaited::default().with(Got::of_any());
                self.chosen = Some(Chosen { is_elsewhere: true, ..chosen });
            }
            Way::Disk(image) => {
                self.awaited = Awaited::new(vec![image.clone()]).with(Got::of_disk(image, now));
                self.chosen = Some(chosen);
            }
            Way::Boot(files) => {
                self.awaited = Awaited::new(files);
                self.chosen = Some(chosen);
            }
        }
        seen
    }

    /// The kernel that it had whole when the boot failed, where Secure Boot may have refused it.
    pub(in crate::timeline) fn kernel_that_did_not_start(&self) -> Option<String> {
        let is_there = |download: &&Download| download.stage == Stage::Kernel && download.pace == Going::Done;
        let kernel = self.downloads.iter().find(is_there).filter(|_| self.hardware.secure_boot == Some(true));
        kernel.map(|kernel| kernel.name.clone())
    }

    /// The stage that a file belongs to. A loader of the user's own is below the assets, as all other files are.
    fn stage_of(&self, of: Of, name: &str) -> Stage {
        match &self.own {
            Some(Own::Loader(own)) if of == Of::Asset && is_with_loader(own.trim_start_matches('/'), name) => {
                Stage::Loader
            }
            _ => self.awaited.stage(of, name),
        }
    }

    /// No line about a pause behind what it has probably started: nothing more of it will come.
    fn pace(&mut self, Pace { of, name, acked, size, at }: &Pace, now: Moment) -> Option<Seen> {
        let stage = self.stage_of(*of, name);
        let so_far = format!("at {} of {}", bytes(*acked), bytes(*size));
        let text = match at {
            At::Paused(Pause { lasted, window_closed: true }) => {
                format!("{name}: alive, paused {} s, window closed by the client, {so_far}", lasted.as_secs())
            }
            At::Paused(Pause { lasted, window_closed: false }) => {
                format!("{name}: no progress for {} s, still trying, {so_far}", lasted.as_secs())
            }
            At::GoesOn { paused } => format!("{name}: continues after {} s, {so_far}", paused.as_secs()),
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
        let is_over = matches!(at, At::Paused(_)) && self.awaited.is_likely_started(name);
        (!is_over).then_some(Seen(stage, text, false))
    }

    fn progress(&mut self, Progress { of, name, acked, size, rate, .. }: Progress, now: Moment) {
        let stage = self.stage_of(of, &name);
        self.forget_refusal();
        self.download(stage, &name, now, |download| {
            (download.acked, download.size, download.rate) = (acked, size, rate);
            download.pace = Going::Progressing;
        });
    }

    /// It counts as handed over: a machine with a one-time installation must not be installed again.
    fn silent(&mut self, Silent { name, unacknowledged, since }: &Silent, now: Moment) -> Option<Seen> {
        let text = format!(
            "probably: it was sent all of {name}, has acknowledged all but the last {}, and has been silent for {} s, as after a kernel start",
            bytes(*unacknowledged),
            since.as_secs()
        );
        self.has_most_likely_all(name).then(|| {
            self.ending = Some(Ending::HandedOver { at: now, probable: true });
            Seen(Stage::HandedOver, text, false)
        })
    }

    fn transfer(&mut self, transfer: &Transfer, part: Part, now: Moment) -> Vec<Seen> {
        let Transfer { of, name, sent, size, took, failure, .. } = transfer;
        let stage = self.stage_of(*of, name);
        self.scripts = 0;
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
        // A client that is gone with the last byte has not said that it has it.
        let has = if failure.is_some() && sent >= size { 0 } else { *sent };
        let bytes_of = Bytes { from: part.start, to: part.start.saturating_add(has), whole: part.whole };
        if self.awaited.got.is_disk(name) && !part.is_look {
            return self.read(transfer, bytes_of, now);
        }
        let (is_script, has_all) =
            (self.chosen.as_ref().is_some_and(|it| it.is_elsewhere), *of == Of::Asset && !part.is_look);
        let has_all = has_all && self.has_all(name, bytes_of);
        let is_part = if *sent == part.whole { String::new() } else { format!(" of {}", bytes(part.whole)) };
        let text = match failure {
            Some(failure) => {
                let what = if is_started { "acknowledged" } else { "stopped at" };
                format!("{name}: {what} {} of {}: {failure}", bytes(*sent), bytes(*size))
            }
            // Of so short a time, a rate says nothing.
            None if seconds < 0.01 => format!("{name}, {}{is_part} in less than 0.01 s", bytes(*sent)),
            None => format!("{name}, {}{is_part} in {seconds:.2} s ({}/s)", bytes(*sent), bytes(rate)),
        };
        let mut seen = vec![Seen(stage, text, failure.is_some() && !is_started)];
        // A PXELINUX may ask for its file before the end of its own transfer is heard. It has to fetch what that names.
        let is_without_script = self.ending.is_none() && self.chosen.is_none();
        if stage == Stage::Loader && *of == Of::Asset && is_without_script && failure.is_none() && !part.is_look {
            // A machine that was sent on by it is not stopped for want of our script; an iPXE that comes of it goes on.
            self.ending = Some(Ending::HandedOver { at: now, probable: true });
            let words = format!("probably: it has all of {name}, its rule's own loader, which continues by itself");
            seen.push(Seen(Stage::HandedOver, words, false));
        }
        if has_all {
            self.ending = Some(Ending::HandedOver { at: now, probable: false });
            let words = if is_script { "it has a whole file" } else { "it has its kernel and all initrds" };
            if let Some(chosen) = &mut self.chosen {
                chosen.is_elsewhere = false;
            }
            seen.push(Seen(Stage::HandedOver, words.into(), false));
        }
        seen
    }

    /// A disk image is read in small ranges, without end: the first one is reported, and what fails.
    fn read(&mut self, Transfer { name, sent, size, failure, .. }: &Transfer, of: Bytes, now: Moment) -> Vec<Seen> {
        let is_first = self.awaited.got.read(of);
        if is_first {
            self.awaited.is_read();
        }
        let mut seen = Vec::new();
        match failure {
            Some(failure) => {
                let text = format!("{name}: stopped at {} of {}: {failure}", bytes(*sent), bytes(*size));
                seen.push(Seen(Stage::Kernel, text, true));
            }
            None if is_first => seen.push(Seen(Stage::Kernel, format!("{name} is read"), false)),
            None => {}
        }
        if let Some(Step { stage, text, .. }) = self.runs(now) {
            // Taken in by its caller, as every step.
            self.steps.pop();
            seen.push(Seen(stage, text, false));
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

    /// The first word of a machine whose files came from another server, or that ran a script: it was handed over. Where
    /// that uses something up, the word has to be signed.
    fn runs_unseen(&mut self) -> Option<Seen> {
        let is_elsewhere = self.chosen.as_mut().map(|chosen| std::mem::take(&mut chosen.is_elsewhere));
        is_elsewhere?.then(|| Seen(Stage::HandedOver, "it runs: it sent a report".into(), false))
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
