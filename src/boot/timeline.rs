//! Event → bounded timelines → the line that says what a machine's boot has come to.
//!
//! The stages learn different things of a machine: DHCP its MAC address, TFTP and HTTP only its IP address. They are
//! joined here.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    attempts::Shape,
    client::MacAddr,
    machine::By,
    recent::Recent,
    script::{Outcome, Way},
    stage::Awaited,
    why::Why,
};

pub use super::stage::Stage;

/// Something that a stage saw. Stages send these and forget them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose boot it belongs to.
    pub who: Who,
    /// What was seen.
    pub what: What,
}

/// How a stage knows a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// By its card.
    Machine(MacAddr),
    /// By the address that it fetches from.
    Address(Ipv4Addr),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(mac) => fmt::Display::fmt(mac, f),
            Self::Address(address) => fmt::Display::fmt(address, f),
        }
    }
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// DHCPDISCOVER of a PXE client; which kind.
    Discover(String),
    /// Our answer on port 67; what it offers.
    Offer(String),
    /// Our answer on port 4011; what it offers.
    BootServer(String),
    /// It fetched what an offer of this shape named, and did not take the others.
    TookOffer(Shape),
    /// The machine was seen to take this address.
    Address(Ipv4Addr),
    /// A request that got no boot.
    Refused(Why),
    /// `/boot.ipxe` was answered.
    Script(Outcome),
    /// A file's transfer began.
    Started(Progress),
    /// How far a transfer is: told every few seconds while its client takes something.
    Progress(Progress),
    /// A file's transfer ended.
    Transfer(Transfer),
    /// A file's transfer pauses, or goes on.
    Pace(Pace),
    /// All of a file was sent, and the client fell silent before it had acknowledged the end.
    Silent(Silent),
    /// An answer file was given.
    Answer {
        /// Its name.
        name: String,
        /// In bytes.
        size: u64,
        /// An installer may have another address than the iPXE before it.
        to: IpAddr,
    },
}

/// A transfer that lacks nothing but acknowledgements: iPXE on UEFI now and then starts its kernel without the last ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// The file.
    pub name: String,
    /// Bytes that were sent and not acknowledged.
    pub unacknowledged: u64,
    /// Since the last acknowledgement.
    pub since: Duration,
}

/// A transfer on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What kind of file.
    pub of: Of,
    /// Its name: a loader's, or a path below the assets folder.
    pub name: String,
    /// Bytes that the client has acknowledged.
    pub acked: u64,
    /// Bytes that are to be sent.
    pub size: u64,
    /// Since the request.
    pub took: Duration,
    /// Bytes per second, since it was told before.
    pub rate: u64,
}

/// A transfer whose client takes nothing for a while, and lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What kind of file.
    pub of: Of,
    /// Its name.
    pub name: String,
    /// Bytes that the client has acknowledged.
    pub acked: u64,
    /// Bytes in all.
    pub size: u64,
    /// What it is at.
    pub at: At,
}

/// What a transfer is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// It pauses.
    Paused(Pause),
    /// It goes on.
    GoesOn {
        /// How long it had paused.
        paused: Duration,
    },
}

/// A pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// So far.
    pub lasted: Duration,
    /// The client asked for it, by closing its window.
    pub window_closed: bool,
}

/// A file's transfer, when it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// What kind of file.
    pub of: Of,
    /// Its name: a loader's, or a path below the assets folder.
    pub name: String,
    /// Bytes that the client has acknowledged.
    pub sent: u64,
    /// Bytes that were to be sent.
    pub size: u64,
    /// From the request to the last acknowledgement.
    pub took: Duration,
    /// Why it stopped short; `None` where it did not.
    pub failure: Option<String>,
}

/// What kind of file a transfer carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// An iPXE binary.
    Loader,
    /// Anything else that is served.
    Asset,
}

/// One step of a machine's boot, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The machine; its address where no card is known.
    pub who: Who,
    /// The stage.
    pub stage: Stage,
    /// What happened.
    pub text: String,
    /// Whether it stopped the boot, as far as is known.
    pub failed: bool,
}

/// All machines that were seen lately. Of more than [`Timelines::MACHINES`] those that were silent the longest are
/// forgotten, so a flood of made-up addresses costs a fixed amount of memory, and of time for each.
#[derive(Debug)]
pub struct Timelines {
    machines: Recent<Who, Machine>,
    by_address: Recent<Ipv4Addr, MacAddr>,
}

impl Default for Timelines {
    fn default() -> Self {
        Self { machines: Recent::new(Self::MACHINES), by_address: Recent::new(Self::MACHINES) }
    }
}

/// What a machine's script boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The profile's name.
    pub profile: String,
    /// Whether it is to be had once.
    pub once: bool,
}

#[derive(Debug, Default)]
struct Machine {
    address: Option<Ipv4Addr>,
    /// Lines shown since the boot last got further: firmware repeats its requests, and a repetition is no news.
    shown: HashSet<(Stage, String)>,
    /// What its script boots.
    chosen: Option<Chosen>,
    awaited: Awaited,
}

impl Timelines {
    /// How many machines are remembered at least; it may be twice as many.
    pub const MACHINES: usize = 2048;
    /// How many lines of one machine can be shown before its boot has got further.
    const LINES: usize = 32;

    /// Takes an event in; the lines are what is new to people.
    pub fn apply(&mut self, event: Event) -> Vec<Line> {
        let who = self.joined(event.who);
        if let What::Address(address) = event.what {
            if let Who::Machine(mac) = who {
                self.learn_address(mac, address);
            }
            return Vec::new();
        }
        let machine = self.machines.touch(who);
        let lines = machine.lines(event.what);
        lines.into_iter().filter(|(stage, text, _)| machine.is_news(*stage, text)).map(line_of(who)).collect()
    }

    /// What a machine's last script boots.
    #[must_use]
    pub fn chosen(&self, who: Who) -> Option<&Chosen> {
        self.machines.peek(&who)?.chosen.as_ref()
    }

    /// The card behind an address, where it is known.
    fn joined(&self, who: Who) -> Who {
        match who {
            Who::Address(address) => self.by_address.peek(&address).map_or(who, |mac| Who::Machine(*mac)),
            Who::Machine(_) => who,
        }
    }

    fn learn_address(&mut self, mac: MacAddr, address: Ipv4Addr) {
        let before = self.machines.touch(Who::Machine(mac)).address.replace(address);
        if let Some(before) = before.filter(|before| *before != address)
            && self.by_address.peek(&before) == Some(&mac)
        {
            self.by_address.remove(&before);
        }
        self.by_address.insert(address, mac);
    }
}

type Step = (Stage, String, bool);

fn line_of(who: Who) -> impl Fn(Step) -> Line {
    move |(stage, text, failed)| Line { who, stage, text, failed }
}

impl Machine {
    fn lines(&mut self, what: What) -> Vec<Step> {
        match what {
            What::Discover(client) => vec![(Stage::Discover, client, false)],
            What::Offer(offer) => vec![(Stage::Offer, offer, false)],
            What::TookOffer(shape) => {
                vec![(Stage::Offer, format!("taken {shape}: from now on its first offer is that one"), false)]
            }
            What::BootServer(offer) => vec![(Stage::BootServer, offer, false)],
            What::Refused(why) => vec![(Stage::Refused, why.to_string(), true)],
            What::Script(outcome) => self.script(outcome),
            What::Transfer(transfer) => self.transfer(&transfer),
            What::Pace(pace) => vec![self.pace(&pace)],
            What::Silent(silent) => self.silent(&silent).into_iter().collect(),
            What::Answer { name, size, to } => {
                vec![(Stage::Answer, format!("{name}, {} to {to}", bytes(size)), false)]
            }
            // The line at its end says it all.
            What::Address(_) | What::Started(_) | What::Progress(_) => Vec::new(),
        }
    }

    fn script(&mut self, outcome: Outcome) -> Vec<Step> {
        self.awaited = Awaited::default();
        self.chosen = None;
        let text = match outcome {
            Outcome::Bootstrap => "asked who it is".into(),
            Outcome::Refused(_, why) => return vec![(Stage::Refused, why.to_string(), true)],
            Outcome::Chosen { way: Way::Menu, .. } => "the menu".into(),
            Outcome::Chosen { way: Way::Shell, .. } => "iPXE's shell".into(),
            Outcome::Chosen { way: Way::Local, by: By::Spent, .. } => {
                "on to the local disk: it has had what it was to boot once".into()
            }
            Outcome::Chosen { way: Way::Local, .. } => "on to the local disk".into(),
            Outcome::Chosen { way: Way::Boot(files), profile, by, once, .. } => {
                // Of a script of the user's own nothing is known but that the machine has it.
                let is_own = files.is_empty();
                self.awaited = Awaited::new(files);
                let how = match (by, once) {
                    (By::Assignment, true) => ", assigned, once",
                    (By::Assignment, false) => ", assigned",
                    (_, true) => ", once",
                    (_, false) => "",
                };
                let text = format!("profile {profile}{how}");
                self.chosen = Some(Chosen { profile, once });
                if is_own {
                    let has_it = "it has its script, and does what that says".to_owned();
                    return vec![(Stage::Script, text, false), (Stage::HandedOver, has_it, false)];
                }
                text
            }
        };
        vec![(Stage::Script, text, false)]
    }

    fn pace(&self, Pace { of, name, acked, size, at }: &Pace) -> Step {
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
        (stage, text, false)
    }

    /// It counts as handed over: a machine that is to be installed once must not be so again.
    fn silent(&mut self, Silent { name, unacknowledged, since }: &Silent) -> Option<Step> {
        let text = format!(
            "probably: it was sent all of {name}, has acknowledged all but the last {}, and is silent for {} s, as one that started its kernel",
            bytes(*unacknowledged),
            since.as_secs()
        );
        self.awaited.is_silent_at_the_end_of(name).then_some((Stage::HandedOver, text, false))
    }

    fn transfer(&mut self, Transfer { of, name, sent, size, took, failure }: &Transfer) -> Vec<Step> {
        let stage = self.awaited.stage(*of, name);
        if let Some(failure) = failure {
            let is_failed = !self.awaited.is_likely_started(name);
            let what = if is_failed { "stopped at" } else { "acknowledged" };
            let text = format!("{name}: {what} {} of {}: {failure}", bytes(*sent), bytes(*size));
            return vec![(stage, text, is_failed)];
        }
        let seconds = took.as_secs_f64();
        let rate = *sent as f64 / seconds.max(1e-6);
        let text = format!("{name}, {} in {seconds:.2} s ({}/s)", bytes(*sent), bytes(rate as u64));
        let mut steps = vec![(stage, text, false)];
        if self.awaited.got(name) {
            steps.push((Stage::HandedOver, "it has its kernel and all initrds".into(), false));
        }
        steps
    }

    fn is_news(&mut self, stage: Stage, text: &str) -> bool {
        if stage > Stage::BootServer && stage != Stage::Refused {
            self.shown.clear();
            return true;
        }
        self.shown.len() < Timelines::LINES && self.shown.insert((stage, text.to_owned()))
    }
}

/// A number of bytes in decimal units, as network and disk makers count.
fn bytes(count: u64) -> String {
    let count_f = count as f64;
    match count {
        0..10_000 => format!("{count} B"),
        10_000..1_000_000 => format!("{:.1} kB", count_f / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count_f / 1e6),
        _ => format!("{:.2} GB", count_f / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

    fn machine(what: What) -> Event {
        Event { who: Who::Machine(MAC), what }
    }

    fn boot(profile: &str, files: &[&str]) -> Outcome {
        let way = Way::Boot(files.iter().map(|&file| file.to_owned()).collect());
        Outcome::Chosen { mac: MAC, profile: profile.into(), by: By::Default, once: false, way }
    }

    fn fetched(of: Of, name: &str, size: u64, failure: Option<&str>) -> Event {
        let took = Duration::from_millis(500);
        let failure = failure.map(str::to_owned);
        let transfer = Transfer { of, name: name.into(), sent: size, size, took, failure };
        Event { who: Who::Address(IP), what: What::Transfer(transfer) }
    }

    #[test]
    fn a_whole_boot_is_one_line_a_stage_though_the_stages_know_the_machine_by_different_names() {
        let mut timelines = Timelines::default();
        let boot = boot("debian", &["vmlinuz", "initrd.img"]);
        let events = [
            machine(What::Discover("UEFI x86_64".into())),
            machine(What::Offer("snponly.efi by TFTP".into())),
            // Firmware repeats its DISCOVER until a lease has come.
            machine(What::Discover("UEFI x86_64".into())),
            machine(What::Offer("snponly.efi by TFTP".into())),
            machine(What::Address(IP)),
            fetched(Of::Loader, "snponly.efi", 173_792, None),
            machine(What::Discover("iPXE on UEFI x86_64".into())),
            machine(What::Script(boot)),
            fetched(Of::Asset, "vmlinuz", 12_000_000, None),
            fetched(Of::Asset, "initrd.img", 9_999, None),
        ];
        let lines: Vec<Line> = events.into_iter().flat_map(|event| timelines.apply(event)).collect();
        assert!(lines.iter().all(|line| line.who == Who::Machine(MAC) && !line.failed), "{lines:?}");
        let shown: Vec<String> = lines.iter().map(|line| format!("{} {}", line.stage.name(), line.text)).collect();
        assert_eq!(
            shown,
            [
                "discover UEFI x86_64",
                "offer snponly.efi by TFTP",
                "loader snponly.efi, 173.8 kB in 0.50 s (347.6 kB/s)",
                "discover iPXE on UEFI x86_64",
                "script profile debian",
                "kernel vmlinuz, 12.0 MB in 0.50 s (24.0 MB/s)",
                "initrd initrd.img, 9999 B in 0.50 s (20.0 kB/s)",
                "handed_over it has its kernel and all initrds",
            ]
        );
    }

    #[test]
    fn a_script_of_the_users_own_is_all_that_a_machine_is_handed() {
        let mut timelines = Timelines::default();
        let lines = timelines.apply(machine(What::Script(boot("own", &[]))));
        let stages: Vec<&str> = lines.iter().map(|line| line.stage.name()).collect();
        assert_eq!(stages, ["script", "handed_over"]);
        let chosen = Chosen { profile: "own".into(), once: false };
        assert_eq!(timelines.chosen(Who::Machine(MAC)), Some(&chosen));
    }

    #[test]
    fn a_transfer_that_stopped_short_hands_nothing_over() {
        let mut timelines = Timelines::default();
        let boot = boot("p", &["k"]);
        timelines.apply(machine(What::Address(IP)));
        timelines.apply(machine(What::Script(boot)));
        let lines = timelines.apply(fetched(Of::Asset, "k", 100, Some("the client closed the connection")));
        let text = "k: stopped at 100 B of 100 B: the client closed the connection".to_owned();
        assert_eq!(lines, [Line { who: Who::Machine(MAC), stage: Stage::Kernel, text, failed: true }]);
        assert_eq!(timelines.apply(fetched(Of::Asset, "k", 100, None)).len(), 2, "the second try hands over");
    }

    #[test]
    fn who_falls_silent_at_the_very_end_has_probably_started_what_it_loaded() {
        let mut timelines = Timelines::default();
        timelines.apply(machine(What::Address(IP)));
        timelines.apply(machine(What::Script(boot("p", &["k", "i"]))));
        let mut told = |event: Event| {
            let lines = timelines.apply(event).into_iter();
            lines.map(|line| (line.stage.name(), line.text, line.failed)).collect::<Vec<_>>()
        };
        let silent = |name: &str| {
            let silent = Silent { name: name.into(), unacknowledged: 52, since: Duration::from_secs(10) };
            Event { who: Who::Address(IP), what: What::Silent(silent) }
        };
        // Another file follows: it waits, and has started nothing. Nor does a file count that no script named.
        assert_eq!(told(silent("k")), []);
        assert_eq!(told(silent("other")), []);
        told(fetched(Of::Asset, "k", 100, None));
        let text = "probably: it was sent all of i, has acknowledged all but the last 52 B, and is silent for 10 s, as one that started its kernel";
        assert_eq!(told(silent("i")), [("handed_over", text.into(), false)]);
        assert_eq!(told(silent("i")), [], "once");
        // The end of the connection is no failure then.
        let end = told(fetched(Of::Asset, "i", 100, Some("dead")));
        assert_eq!(end, [("initrd", "i: acknowledged 100 B of 100 B: dead".into(), false)]);
        // Should it go on all the same, it is not handed over twice.
        assert_eq!(told(fetched(Of::Asset, "i", 100, None)).len(), 1);
        // Its next boot is another one.
        told(machine(What::Script(boot("p", &["k"]))));
        assert!(matches!(told(fetched(Of::Asset, "i", 100, Some("dead"))).as_slice(), [("file", _, true)]));
    }

    #[test]
    fn an_answer_is_told_of_the_machine_that_it_is_for() {
        let answer = What::Answer { name: "debian/user-data".into(), size: 812, to: IP.into() };
        let lines = Timelines::default().apply(machine(answer));
        let text = "debian/user-data, 812 B to 192.0.2.77".to_owned();
        assert_eq!(lines, [Line { who: Who::Machine(MAC), stage: Stage::Answer, text, failed: false }]);
    }

    #[test]
    fn a_transfer_on_its_way_makes_no_line() {
        let (name, took) = (String::from("vmlinuz"), Duration::from_secs(2));
        let progress = Progress { of: Of::Asset, name, acked: 5_000_000, size: 24_000_000, took, rate: 2_500_000 };
        let mut timelines = Timelines::default();
        for what in [What::Started(progress.clone()), What::Progress(progress)] {
            assert_eq!(timelines.apply(Event { who: Who::Address(IP), what }), []);
        }
    }

    #[test]
    fn a_pause_is_told_with_its_cause_and_its_end() {
        let mut timelines = Timelines::default();
        let mut told = |at| {
            let pace = Pace { of: Of::Asset, name: "initrd.img".into(), acked: 5_000_000, size: 24_000_000, at };
            let lines = timelines.apply(Event { who: Who::Address(IP), what: What::Pace(pace) });
            lines.into_iter().map(|line| (line.stage, line.text, line.failed)).collect::<Vec<_>>()
        };
        let line = |text: &str| vec![(Stage::File, format!("initrd.img: {text}, at 5.0 MB of 24.0 MB"), false)];
        let pause = |seconds, window_closed| At::Paused(Pause { lasted: Duration::from_secs(seconds), window_closed });
        assert_eq!(told(pause(18, true)), line("alive, paused 18 s, window closed by the client"));
        assert_eq!(told(pause(18, false)), line("no progress for 18 s, still trying"));
        assert_eq!(told(At::GoesOn { paused: Duration::from_secs(42) }), line("goes on after 42 s"));
    }

    #[test]
    fn a_flood_of_machines_is_bounded_and_forgets_the_oldest() {
        let mut timelines = Timelines::default();
        for n in 0..20_000u32 {
            let [a, b, c, d] = n.to_be_bytes();
            let who = Who::Machine(MacAddr([2, 0, a, b, c, d]));
            timelines.apply(Event { who, what: What::Address(n.into()) });
            timelines.apply(Event { who, what: What::Discover("BIOS".into()) });
        }
        let remembered = Timelines::MACHINES..=2 * Timelines::MACHINES;
        assert!(remembered.contains(&timelines.machines.len()) && remembered.contains(&timelines.by_address.len()));
        assert!(timelines.by_address.peek(&Ipv4Addr::from(19_999)).is_some());
        for n in 0..1000 {
            timelines.apply(machine(What::Offer(n.to_string())));
        }
        let shown = timelines.machines.peek(&Who::Machine(MAC)).map(|machine| machine.shown.len());
        assert_eq!(shown, Some(Timelines::LINES));
    }
}
