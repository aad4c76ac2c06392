//! What machines and their boots become by what is seen of them.

use super::*;
use crate::{
    boot::{
        machine::By,
        outcome::{Outcome, Way},
        over::{Of, Over},
        own::Own,
        reason::Reason,
    },
    timeline::{
        boot::{Download, Going},
        event::{AddressOffer, Discover, Report, ReportEvent, Request, Signed},
        stage::Stage,
        transfer::{At, Failure, Pace, Pause, Progress, Silent, Transfer},
    },
};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

const NOW: Moment = Moment::from_secs(1_000_000);

fn discover(client: &str) -> What {
    What::Discover(Discover {
        client: client.into(),
        is_ipxe: client.starts_with("iPXE"),
        is_http_boot: client.contains("UEFI HTTP"),
        ..Discover::default()
    })
}

fn line(stage: Stage, text: &str, failed: bool) -> Line {
    Line { who: Who::from(MAC), step: Step { at: NOW, stage, text: text.to_owned(), failed } }
}

fn offered(address: Ipv4Addr) -> What {
    What::OfferedAddress(AddressOffer { address, server: Ipv4Addr::new(192, 0, 2, 1) })
}

fn machine(what: What) -> Event {
    Event { who: Who::from(MAC), what }
}

fn boot(profile: &str, files: &[&str]) -> Outcome {
    let way = Way::Boot(files.iter().map(|&file| file.to_owned()).collect());
    Outcome::Chosen {
        mac: MAC,
        profile: profile.into(),
        by: By::Default,
        once: false,
        until_installed: false,
        report_within: None,
        way,
    }
}

fn fetched(of: Of, name: &str, size: u64, failure: Option<Failure>) -> Event {
    let took = Duration::from_millis(500);
    let transfer = Transfer { of, name: name.into(), sent: size, size, took, failure, fresh: size, over: Over::Http };
    Event { who: Who::Address(IP), what: What::Transfer(transfer) }
}

#[test]
fn a_whole_boot_is_one_line_a_stage_though_the_stages_know_the_machine_by_different_names() {
    let mut timelines = Timelines::default();
    let boot = boot("debian", &["vmlinuz", "initrd.img"]);
    let events = [
        machine(discover("UEFI x86_64")),
        machine(What::Offer("snponly.efi by TFTP".into())),
        // Firmware repeats its DISCOVER until a lease has come.
        machine(discover("UEFI x86_64")),
        machine(What::Offer("snponly.efi by TFTP".into())),
        machine(What::Address(IP)),
        fetched(Of::Loader, "snponly.efi", 173_792, None),
        machine(discover("iPXE on UEFI x86_64")),
        machine(What::Script(boot)),
        fetched(Of::Asset, "vmlinuz", 12_000_000, None),
        fetched(Of::Asset, "initrd.img", 9_999, None),
    ];
    let lines: Vec<Line> = events.into_iter().flat_map(|event| timelines.apply(event, NOW)).collect();
    assert!(lines.iter().all(|line| line.who == Who::from(MAC) && !line.step.failed), "{lines:?}");
    let shown: Vec<String> =
        lines.iter().map(|line| format!("{} {}", line.step.stage.name(), line.step.text)).collect();
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
fn a_discover_that_is_heard_behind_the_script_of_its_boot_begins_no_other_boot() {
    let mut timelines = Timelines::default();
    let events = [
        machine(What::Address(IP)),
        machine(What::Script(boot("debian", &["vmlinuz", "initrd.img"]))),
        machine(discover("arm64 U-Boot")),
        machine(What::Offer("ipxe-arm64.efi by TFTP".into())),
        fetched(Of::Asset, "initrd.img", 9_999, None),
        fetched(Of::Asset, "vmlinuz", 12_000_000, None),
    ];
    let lines = events.into_iter().flat_map(|event| timelines.apply(event, NOW));
    let stages: Vec<Stage> = lines.map(|line| line.step.stage).collect();
    assert!(stages.ends_with(&[Stage::Initrd, Stage::Kernel, Stage::HandedOver]), "{stages:?}");
    assert_eq!(timelines.boot(Who::from(MAC)).map(|boot| boot.number), Some(1));
    // A second later it was switched on again.
    timelines.apply(machine(discover("arm64 U-Boot")), Moment::from_secs(1_000_001));
    assert_eq!(timelines.boot(Who::from(MAC)).map(|boot| boot.number), Some(2));
}

#[test]
fn the_address_that_a_leasing_server_offers_joins_a_machine_that_takes_it_without_a_word() {
    let mut timelines = Timelines::default();
    let (other, stranger) = (Ipv4Addr::new(192, 0, 2, 78), MacAddr([2; 6]));
    timelines.apply(machine(discover("BIOS")), NOW);
    timelines.apply(machine(offered(other)), NOW);
    timelines.apply(machine(offered(IP)), NOW);
    let address = |timelines: &Timelines| timelines.boot(Who::from(MAC)).and_then(|boot| boot.address);
    assert_eq!(address(&timelines), None, "it need not take it");
    let lines = timelines.apply(fetched(Of::Asset, "bootcode.bin", 9, None), NOW);
    assert!(lines.iter().all(|line| line.who == Who::from(MAC)), "{lines:?}");
    assert_eq!(address(&timelines), Some(IP));
    assert_eq!(timelines.snapshot(NOW).machines.len(), 1);
    // Of one that did not ask for a boot, nothing is made of it.
    timelines.apply(Event { who: Who::from(stranger), what: offered(other) }, NOW);
    assert_eq!(timelines.snapshot(NOW).machines.len(), 1);
}

#[test]
fn a_loader_of_the_users_own_hands_over_and_an_ipxe_behind_it_goes_on_with_the_boot() {
    let mut timelines = Timelines::default();
    let at = |seconds: u64| Moment::from_secs(1_000_000 + seconds);
    for what in [
        discover("UEFI x86_64"),
        What::Own(Own::Loader("boot/shimx64.efi".into())),
        What::Offer("boot/shimx64.efi by TFTP".into()),
        What::Address(IP),
    ] {
        timelines.apply(machine(what), at(0));
    }
    let stages = |lines: Vec<Line>| lines.iter().map(|line| line.step.stage).collect::<Vec<_>>();
    let state =
        |timelines: &Timelines, now| timelines.boot(Who::from(MAC)).map(|boot| (boot.number, boot.state(now).name()));
    let cut = fetched(Of::Asset, "boot/shimx64.efi", 5, Some(Failure::Closed));
    assert_eq!(stages(timelines.apply(cut, at(1))), [Stage::Loader]);
    assert_eq!(state(&timelines, at(1)), Some((1, "stopped")), "it did not get the whole of it");
    let whole = || fetched(Of::Asset, "boot/shimx64.efi", 9, None);
    assert_eq!(stages(timelines.apply(whole(), at(2))), [Stage::Loader, Stage::HandedOver]);
    // It looks for files that need not be there, takes others, and is silent then.
    timelines.apply(machine(What::Refused(Reason::not_found("boot/revocations.efi"))), at(3));
    timelines.apply(fetched(Of::Asset, "boot/grubx64.efi", 9, None), at(4));
    assert_eq!(timelines.tick(at(500)), []);
    assert_eq!(state(&timelines, at(500)), Some((1, "handed_over")));

    // The next boot is another one; and an iPXE that comes of the loader belongs to the same.
    timelines.apply(machine(discover("UEFI x86_64")), at(600));
    timelines.apply(machine(What::Own(Own::Loader("boot/shimx64.efi".into()))), at(600));
    timelines.apply(whole(), at(601));
    assert_eq!(state(&timelines, at(602)), Some((2, "handed_over")));
    for seconds in [620, 621] {
        timelines.apply(machine(discover("iPXE on UEFI x86_64")), at(seconds));
        assert_eq!(state(&timelines, at(seconds)), Some((2, "booting")));
    }
    timelines.apply(machine(What::Script(boot("debian", &["vmlinuz"]))), at(622));
    assert_eq!(state(&timelines, at(622)), Some((2, "booting")));
    timelines.apply(fetched(Of::Asset, "vmlinuz", 9, None), at(623));
    assert_eq!(state(&timelines, at(623)), Some((2, "handed_over")));
}

#[test]
fn a_loader_of_the_users_own_whose_end_is_heard_behind_its_script_hands_nothing_over() {
    let mut timelines = Timelines::default();
    let loader = What::Own(Own::Loader("pxelinux.0".into()));
    for what in [discover("BIOS"), loader, What::Address(IP), What::Script(boot("debian", &["vmlinuz"]))] {
        timelines.apply(machine(what), NOW);
    }
    let mut stages = |name: &str| {
        let lines = timelines.apply(fetched(Of::Asset, name, 9, None), NOW);
        lines.iter().map(|line| line.step.stage).collect::<Vec<_>>()
    };
    assert_eq!(stages("pxelinux.0"), [Stage::Loader]);
    assert_eq!(stages("vmlinuz"), [Stage::Kernel, Stage::HandedOver]);
}

#[test]
fn a_raspberry_pi_that_asks_for_no_more_files_has_most_likely_started_them() {
    let mut timelines = Timelines::default();
    let at = |seconds: u64| Moment::from_secs(1_000_000 + seconds);
    for what in [discover("BIOS"), What::Own(Own::RaspberryPi), offered(IP)] {
        timelines.apply(machine(what), at(0));
    }
    let not_found = |name: &str| Event { who: Who::Address(IP), what: What::Refused(Reason::not_found(name)) };
    let state = |timelines: &Timelines, now| timelines.boot(Who::from(MAC)).map(|boot| boot.state(now).name());
    timelines.apply(not_found("1a2b3c4d/start4.elf"), at(1));
    assert_eq!(state(&timelines, at(7)), Some("stopped"), "nothing of its own is there");
    for (name, seconds) in [("config.txt", 10), ("start4.elf", 11), ("kernel8.img", 14)] {
        timelines.apply(fetched(Of::Asset, name, 9, None), at(seconds));
    }
    timelines.apply(not_found("overlays/none.dtbo"), at(15));
    assert_eq!((timelines.tick(at(20)), state(&timelines, at(20))), (Vec::new(), Some("booting")));
    let lines = timelines.tick(at(25));
    let text = "probably: it has its firmware's files and asks for no more";
    assert_eq!(lines.iter().map(|line| line.step.text.as_str()).collect::<Vec<_>>(), [text]);
    assert_eq!((timelines.tick(at(500)), state(&timelines, at(500))), (Vec::new(), Some("handed_over")));
    assert_eq!(timelines.snapshot(at(500)).machines.len(), 1, "one machine in the views");
}

#[test]
fn a_boot_file_that_is_not_here_is_named_with_its_fix_and_only_of_a_machine_that_boots() {
    let not_here = || Event { who: Who::Address(IP), what: What::NotHere("pxelinux.0".into()) };
    let mut timelines = Timelines::default();
    let told: Vec<String> = timelines.apply(not_here(), NOW).into_iter().map(|line| line.step.text).collect();
    assert_eq!(told, ["there is no file pxelinux.0"]);
    assert_eq!(timelines.apply(not_here(), NOW), [], "once");
    assert_eq!(timelines.snapshot(NOW).machines, [], "a telephone asks for its own files");
    for what in [discover("BIOS"), What::Offer("undionly.kpxe".into()), What::Address(IP)] {
        timelines.apply(machine(what), NOW);
    }
    timelines.apply(not_here(), NOW);
    let lines = timelines.tick(Moment::from_secs(1_000_005));
    let text = lines.first().map(|line| line.step.text.as_str()).unwrap_or_default();
    let start = "it asked for pxelinux.0 by TFTP, which is not here; if the DHCP server names this boot file, let it name netboot";
    assert!(text.starts_with(start), "{text}");
    assert_eq!(timelines.tick(Moment::from_secs(1_000_050)), [], "once");
}

#[test]
fn what_a_started_loader_does_not_find_is_told_and_does_not_end_its_boot() {
    let not_here = |name: &str| Event { who: Who::Address(IP), what: What::NotHere(name.into()) };
    let told = |lines: Vec<Line>| lines.into_iter().map(|line| line.step.text).collect::<Vec<_>>();
    let mut timelines = Timelines::default();
    for what in [discover("BIOS"), What::Own(Own::Loader("pxelinux.0".into())), What::Address(IP)] {
        timelines.apply(machine(what), NOW);
    }
    timelines.apply(fetched(Of::Asset, "pxelinux.0", 9, None), NOW);
    assert_eq!(told(timelines.apply(not_here("ldlinux.c32"), NOW)), ["there is no file ldlinux.c32"]);
    assert_eq!(timelines.apply(not_here("ldlinux.c32"), NOW), [], "once");
    let boot = timelines.boot(Who::from(MAC)).expect("a boot");
    assert!(matches!(boot.state(NOW), State::HandedOver), "{:?}", boot.state(NOW));

    // A Raspberry Pi looks for many files in vain. Of one that has found none, they say why.
    let mut timelines = Timelines::default();
    for what in [discover("BIOS"), What::Own(Own::RaspberryPi), What::Address(IP)] {
        timelines.apply(machine(what), NOW);
    }
    assert_eq!(told(timelines.apply(not_here("start4.elf"), NOW)), ["there is no file start4.elf"]);
    timelines.apply(fetched(Of::Asset, "config.txt", 9, None), NOW);
    assert_eq!(timelines.apply(not_here("dt-blob.bin"), NOW), []);
}

#[test]
fn http_boot_that_fetches_nothing_may_allow_https_only() {
    let mut timelines = Timelines::default();
    for what in [discover("UEFI HTTP x86_64"), What::Offer("http://192.0.2.10".into()), What::Address(IP)] {
        timelines.apply(machine(what), NOW);
    }
    let lines = timelines.tick(Moment::from_secs(1_000_060));
    let text = lines.first().map(|line| line.step.text.as_str()).unwrap_or_default();
    assert!(text.contains("did not fetch its loader by HTTP; its firmware may allow https only"), "{text}");
}

#[test]
fn a_script_of_the_users_own_is_handed_over_with_the_first_whole_file() {
    let mut timelines = Timelines::default();
    let lines = timelines.apply(machine(What::Script(boot("own", &[]))), NOW);
    let stages: Vec<&str> = lines.iter().map(|line| line.step.stage.name()).collect();
    assert_eq!(stages, ["script"]);
    let chosen = Chosen { profile: "own".into(), is_elsewhere: true, ..Chosen::default() };
    assert_eq!(timelines.chosen(Who::from(MAC)), Some(&chosen));
    timelines.apply(machine(What::Address(IP)), NOW);
    let lines = timelines.apply(fetched(Of::Asset, "k", 9, None), NOW);
    let stages: Vec<&str> = lines.iter().map(|line| line.step.stage.name()).collect();
    assert_eq!(stages, ["file", "handed_over"], "the first file that it fetches whole");
    let lines = timelines.apply(fetched(Of::Asset, "other", 9, None), NOW);
    assert_eq!(lines.len(), 1, "once");
}

#[test]
fn a_request_on_the_boot_servers_port_says_at_which_address_its_machine_fetches() {
    let mut timelines = Timelines::default();
    let offer = Some("snponly.efi by TFTP from 192.0.2.10".to_owned());
    let request = Request { address: Some(IP), offer, ..Request::new(4011, &[0; 300]) };
    let lines = timelines.apply(machine(What::Request(Box::new(request))), NOW);
    assert_eq!(lines, [line(Stage::BootServer, "snponly.efi by TFTP from 192.0.2.10", false)]);
    assert_eq!(timelines.boot(Who::from(MAC)).and_then(|boot| boot.address), Some(IP));
    let [fetched] = timelines.apply(fetched(Of::Loader, "snponly.efi", 9, None), NOW).try_into().expect("a line");
    assert_eq!((fetched.who, fetched.step.stage), (Who::from(MAC), Stage::Loader));
}

#[test]
fn a_transfer_that_stopped_short_hands_nothing_over() {
    let mut timelines = Timelines::default();
    let boot = boot("p", &["k"]);
    timelines.apply(machine(What::Address(IP)), NOW);
    timelines.apply(machine(What::Script(boot)), NOW);
    let lines = timelines.apply(fetched(Of::Asset, "k", 100, Some(Failure::Closed)), NOW);
    let text = "k: stopped at 100 B of 100 B: the client closed the connection";
    assert_eq!(lines, [line(Stage::Kernel, text, true)]);
    assert_eq!(timelines.apply(fetched(Of::Asset, "k", 100, None), NOW).len(), 2, "the second try hands over");
}

#[test]
fn a_client_that_breaks_one_transfer_off_again_and_again_is_told_once() {
    let mut timelines = Timelines::default();
    timelines.apply(machine(What::Address(IP)), NOW);
    let script = machine(What::Script(boot("debian", &["vmlinuz"])));
    let aborted = || fetched(Of::Asset, "vmlinuz", 1, Some(Failure::Ended(0, "User aborted".into())));
    let mut told = |event: Event| timelines.apply(event, NOW).len();
    assert_eq!((0..20).map(|_| told(aborted())).sum::<usize>(), 1);
    assert_eq!(told(fetched(Of::Asset, "vmlinuz", 1, Some(Failure::Ended(8, "too large".into())))), 1, "another one");
    assert_eq!((told(aborted()), told(script), told(aborted())), (0, 1, 1), "it has got on, and fails again");
}

#[test]
fn who_falls_silent_at_the_very_end_has_probably_started_what_it_loaded() {
    let mut timelines = Timelines::default();
    timelines.apply(machine(What::Address(IP)), NOW);
    timelines.apply(machine(What::Script(boot("p", &["k", "i"]))), NOW);
    let mut told = |event: Event| {
        let lines = timelines.apply(event, NOW).into_iter();
        lines.map(|line| (line.step.stage.name(), line.step.text, line.step.failed)).collect::<Vec<_>>()
    };
    let silent = |name: &str| {
        let silent = Silent { name: name.into(), unacknowledged: 52, since: Duration::from_secs(10) };
        Event { who: Who::Address(IP), what: What::Silent(silent) }
    };
    // Another file follows: it waits, and has started nothing. Nor does a file count that no script named.
    assert_eq!(told(silent("k")), []);
    assert_eq!(told(silent("other")), []);
    told(fetched(Of::Asset, "k", 100, None));
    let text = "probably: it was sent all of i, has acknowledged all but the last 52 B, and has been silent for 10 s, as after a kernel start";
    assert_eq!(told(silent("i")), [("handed_over", text.into(), false)]);
    assert_eq!(told(silent("i")), [], "once");
    let pause = At::Paused(Pause { lasted: Duration::from_secs(23), window_closed: false });
    let pace = Pace { of: Of::Asset, name: "i".into(), acked: 48, size: 100, at: pause };
    assert_eq!(told(Event { who: Who::Address(IP), what: What::Pace(pace) }), [], "it is not still trying");
    // The end of the connection is no failure then.
    let end = told(fetched(Of::Asset, "i", 100, Some(Failure::Ours("dead".into()))));
    assert_eq!(end, [("initrd", "i: acknowledged 100 B of 100 B: dead".into(), false)]);
    // Should it go on all the same, it is not handed over twice.
    assert_eq!(told(fetched(Of::Asset, "i", 100, None)).len(), 1);
    // Its next boot is another one.
    told(machine(What::Script(boot("p", &["k"]))));
    assert!(matches!(
        told(fetched(Of::Asset, "i", 100, Some(Failure::Ours("dead".into())))).as_slice(),
        [("file", _, true)]
    ));
}

/// By TFTP it fetches the next file at once, whether the last acknowledgement arrived or not.
#[test]
fn a_machine_that_goes_on_without_the_last_acknowledgement_of_its_kernel_is_handed_over_with_the_last_file() {
    let silent = Silent { name: "k".into(), unacknowledged: 52, since: Duration::from_secs(10) };
    let silent = || Event { who: Who::Address(IP), what: What::Silent(silent.clone()) };
    let last = || fetched(Of::Asset, "i", 100, None);
    for events in [[silent(), last()], [last(), silent()]] {
        let mut timelines = Timelines::default();
        timelines.apply(machine(What::Address(IP)), NOW);
        timelines.apply(machine(once(&["k", "i"])), NOW);
        let Event { who, what: What::Transfer(kernel) } = fetched(Of::Asset, "k", 100, Some(Failure::Anew)) else {
            unreachable!("it is a transfer")
        };
        timelines.apply(Event { who, what: What::Transfer(Transfer { sent: 48, ..kernel }) }, NOW);
        let [first, second] = events.map(|event| {
            let lines = timelines.apply(event, NOW);
            lines.iter().any(|line| line.step.stage == Stage::HandedOver)
        });
        assert_eq!((first, second), (false, true));
    }
}

#[test]
fn an_answer_is_told_of_the_machine_that_it_is_for() {
    let answer = What::Answer { name: "debian/user-data".into(), size: 812, to: IP.into() };
    let lines = Timelines::default().apply(machine(answer), NOW);
    assert_eq!(lines, [line(Stage::Answer, "debian/user-data, 812 B to 192.0.2.77", false)]);
}

#[test]
fn a_transfer_on_its_way_makes_no_line() {
    let (name, took) = (String::from("vmlinuz"), Duration::from_secs(2));
    let progress = Progress {
        of: Of::Asset,
        name,
        acked: 5_000_000,
        size: 24_000_000,
        took,
        rate: 2_500_000,
        fresh: 5_000_000,
        over: Over::Http,
    };
    let mut timelines = Timelines::default();
    for what in [What::Started(progress.clone()), What::Progress(progress)] {
        assert_eq!(timelines.apply(Event { who: Who::Address(IP), what }, NOW), []);
    }
}

#[test]
fn a_pause_is_told_with_its_cause_and_its_end() {
    let mut timelines = Timelines::default();
    let mut told = |at| {
        let pace = Pace { of: Of::Asset, name: "initrd.img".into(), acked: 5_000_000, size: 24_000_000, at };
        let lines = timelines.apply(Event { who: Who::Address(IP), what: What::Pace(pace) }, NOW);
        lines.into_iter().map(|line| (line.step.stage, line.step.text, line.step.failed)).collect::<Vec<_>>()
    };
    let line = |text: &str| vec![(Stage::File, format!("initrd.img: {text}, at 5.0 MB of 24.0 MB"), false)];
    let pause = |seconds, window_closed| At::Paused(Pause { lasted: Duration::from_secs(seconds), window_closed });
    assert_eq!(told(pause(18, true)), line("alive, paused 18 s, window closed by the client"));
    assert_eq!(told(pause(18, false)), line("no progress for 18 s, still trying"));
    assert_eq!(told(At::GoesOn { paused: Duration::from_secs(42) }), line("continues after 42 s"));
}

#[test]
fn a_flood_of_machines_is_bounded_and_forgets_the_oldest() {
    let mut timelines = Timelines::default();
    for n in 0..20_000u32 {
        let [a, b, c, d] = n.to_be_bytes();
        let who = Who::from(MacAddr([2, 0, a, b, c, d]));
        timelines.apply(Event { who, what: What::Address(n.into()) }, NOW);
        timelines.apply(Event { who, what: discover("BIOS") }, NOW);
    }
    assert_eq!((timelines.machines.len(), timelines.by_address.len()), (Timelines::MACHINES, Timelines::MACHINES));
    assert!(timelines.by_address.peek(&Ipv4Addr::from(19_999)).is_some());
    for n in 0..1000 {
        timelines.apply(machine(What::Offer(n.to_string())), NOW);
    }
    let boot = |timelines: &Timelines| timelines.machines.peek(&Who::from(MAC)).and_then(Machine::boot).cloned();
    assert_eq!(boot(&timelines).map(|boot| boot.steps.len()), Some(32), "of what can be repeated");
    for n in 0..10_000u32 {
        let file = format!("{n}-{}", "x".repeat(4000));
        timelines.apply(machine(What::Address(IP)), NOW);
        timelines.apply(fetched(Of::Asset, &file, 1, None), NOW);
        timelines.apply(machine(What::Request(Box::new(Request::new(67, &[0; 300])))), NOW);
    }
    let boot = boot(&timelines).expect("a boot");
    assert_eq!((boot.steps.len(), boot.downloads.len()), (Timeline::STEPS, Timeline::DOWNLOADS));
    assert!(boot.left_out > 9_000 && boot.steps.iter().all(|step| step.text.len() < 5000));
}

fn once(files: &[&str]) -> What {
    let Outcome::Chosen { mac, profile, by, until_installed, report_within, way, .. } = boot("debian", files) else {
        unreachable!("it is chosen")
    };
    What::Script(Outcome::Chosen { mac, profile, by, once: true, until_installed, report_within, way })
}

fn uses_it_up(timelines: &mut Timelines, file: &str) -> bool {
    let lines = timelines.apply(machine(fetched(Of::Asset, file, 9, None).what), NOW);
    let is_handed_over = lines.iter().any(|line| line.step.stage == Stage::HandedOver);
    is_handed_over && timelines.chosen(Who::from(MAC)).is_some_and(|chosen| chosen.once)
}

/// Everyone on the network can do so, and then the machine would be installed again and again.
#[test]
fn who_sends_a_machines_requests_while_it_loads_does_not_keep_it_from_using_up_its_one_time_profile() {
    let refused = || What::Script(Outcome::Refused(Some(MAC), Reason::BadQuery("uuid=x".into())));
    let again = || once(&["k", "i", "j"]);
    for of_stranger in [
        vec![again()],
        vec![refused()],
        vec![What::Script(Outcome::Grub)],
        vec![discover("UEFI x86_64")],
        vec![refused(), again(), discover("UEFI x86_64"), discover("iPXE on UEFI x86_64"), again(), refused()],
    ] {
        let mut timelines = Timelines::default();
        let words = format!("{of_stranger:?}");
        timelines.apply(machine(discover("iPXE on UEFI x86_64")), NOW);
        timelines.apply(machine(again()), NOW);
        assert!(!uses_it_up(&mut timelines, "k"));
        for what in of_stranger.clone() {
            timelines.apply(machine(what), NOW);
        }
        assert!(!uses_it_up(&mut timelines, "i"), "{words}");
        for what in of_stranger {
            timelines.apply(machine(what), NOW);
        }
        assert!(uses_it_up(&mut timelines, "j"), "{words}");
        assert!(!uses_it_up(&mut timelines, "j"), "once: {words}");
    }
}

#[test]
fn a_machine_that_starts_anew_needs_all_files_of_its_one_time_profile_again() {
    let mut timelines = Timelines::default();
    for _ in 0..2 {
        timelines.apply(machine(discover("iPXE on UEFI x86_64")), NOW);
        timelines.apply(machine(once(&["k", "i"])), NOW);
        assert!(!uses_it_up(&mut timelines, "k"));
    }
    // It was given another profile meanwhile.
    timelines.apply(machine(What::Script(boot("other", &["k", "i"]))), NOW);
    assert!(!uses_it_up(&mut timelines, "i"));
    timelines.apply(machine(once(&["k", "i"])), NOW);
    assert!(!uses_it_up(&mut timelines, "i"));
    assert!(uses_it_up(&mut timelines, "k"));
}

#[test]
fn a_file_that_two_machines_at_one_address_lack_is_counted_for_neither() {
    let mut timelines = Timelines::default();
    let both = [MacAddr([2; 6]), MAC].map(Who::from);
    for who in both {
        timelines.apply(Event { who, what: once(&["k"]) }, NOW);
        timelines.apply(Event { who, what: What::Address(IP) }, NOW);
    }
    let lines = timelines.apply(fetched(Of::Asset, "k", 9, None), NOW);
    let said = lines.iter().filter(|line| line.step.text.contains("it is counted for none of them"));
    assert_eq!(said.map(|line| line.who).collect::<Vec<_>>(), both);
    assert!(lines.iter().all(|line| line.step.stage != Stage::HandedOver), "{lines:?}");
}

#[test]
fn a_flood_of_machines_does_not_push_out_one_that_loads_its_one_time_profile() {
    let mut timelines = Timelines::default();
    timelines.apply(machine(once(&["k", "i"])), NOW);
    uses_it_up(&mut timelines, "k");
    for n in 0..3 * Timelines::MACHINES as u32 {
        let [a, b, c, d] = n.to_be_bytes();
        timelines.apply(Event { who: Who::from(MacAddr([2, 0, a, b, c, d])), what: discover("BIOS") }, NOW);
        assert!(timelines.machines.len() <= Timelines::MACHINES);
    }
    assert!(uses_it_up(&mut timelines, "i"));
    // It makes room as all others then, and so does the oldest if all load one.
    for n in 0..Timelines::MACHINES as u32 + 9 {
        let [a, b, c, d] = n.to_be_bytes();
        timelines.apply(Event { who: Who::from(MacAddr([2, 0, a, b, c, d])), what: once(&["k"]) }, NOW);
        assert!(timelines.machines.len() <= Timelines::MACHINES);
    }
    assert!(timelines.boot(Who::from(MAC)).is_none());
}

/// A whole site is switched on while one machine is installed: its files are known by its address alone.
#[test]
fn a_flood_of_addresses_does_not_push_out_that_of_a_machine_that_loads_its_one_time_profile() {
    let mut timelines = Timelines::default();
    timelines.apply(machine(What::Address(IP)), NOW);
    timelines.apply(machine(once(&["k", "i"])), NOW);
    timelines.apply(fetched(Of::Asset, "k", 9, None), NOW);
    for n in 0..3 * Timelines::MACHINES as u32 {
        let [a, b, c, d] = n.to_be_bytes();
        let who = Who::from(MacAddr([2, 0, a, b, c, d]));
        timelines.apply(Event { who, what: What::Address(Ipv4Addr::new(10, b, c, d)) }, NOW);
        let to = Ipv4Addr::new(11, b, c, d).into();
        timelines.apply(Event { who, what: What::Answer { name: "preseed.cfg".into(), size: 1, to } }, NOW);
    }
    let lines = timelines.apply(fetched(Of::Asset, "i", 9, None), NOW);
    assert!(lines.iter().any(|line| line.step.stage == Stage::HandedOver), "{lines:?}");
    let known = (timelines.by_address.len(), timelines.at_address.len());
    assert_eq!(known, (Timelines::MACHINES, Timelines::MACHINES));
}

#[test]
fn who_asks_for_a_machines_script_elsewhere_does_not_keep_its_files_from_being_its_own() {
    let is_own = |own: fn(Outcome) -> What| {
        let mut timelines = Timelines::default();
        timelines.apply(machine(once(&["k"])), NOW);
        timelines.apply(machine(What::Address(IP)), NOW);
        let What::Script(outcome) = once(&["k"]) else { unreachable!("it is a script") };
        timelines.apply(machine(own(outcome)), NOW);
        timelines.apply(machine(What::Address(Ipv4Addr::new(192, 0, 2, 99))), NOW);
        let lines = timelines.apply(fetched(Of::Asset, "k", 9, None), NOW);
        lines.iter().any(|line| line.who == Who::from(MAC) && line.step.stage == Stage::HandedOver)
    };
    assert!(is_own(What::Script) && is_own(What::OwnScript));
}

#[test]
fn who_says_to_have_a_machines_address_does_not_keep_its_files_from_being_its_own() {
    let mut timelines = Timelines::default();
    timelines.apply(machine(once(&["k"])), NOW);
    timelines.apply(machine(What::Address(IP)), NOW);
    for n in 0..2 * AT_ONE_ADDRESS as u8 {
        let who = Who::from(MacAddr([2, 0, 0, 0, 0, n]));
        timelines.apply(Event { who, what: discover("BIOS") }, NOW);
        timelines.apply(Event { who, what: What::Address(IP) }, NOW);
    }
    let lines = timelines.apply(fetched(Of::Asset, "k", 9, None), NOW);
    assert!(lines.iter().any(|line| line.who == Who::from(MAC) && line.step.stage == Stage::HandedOver), "{lines:?}");
}

#[test]
fn a_boot_begins_with_firmware_that_asks_anew_and_five_are_remembered() {
    let mut timelines = Timelines::default();
    let mut at = NOW;
    let mut go = |what| {
        at = Moment::from_secs(1_000_000 + at.since(NOW).as_secs() + 3);
        timelines.apply(machine(what), at);
        timelines.snapshot(at).machines.first().map(|seen| (seen.boots.len(), seen.boot().map(|boot| boot.number)))
    };
    for n in 1..=7 {
        let one = Some((usize::min(n as usize, Machine::BOOTS), Some(n)));
        // Firmware, its repetition, its iPXE, the script by way of the menu, and the files: one boot.
        for what in [discover("BIOS"), discover("BIOS"), What::Address(IP), discover("iPXE on BIOS")] {
            assert_eq!(go(what), one);
        }
        let menu = Outcome::Chosen {
            mac: MAC,
            profile: "menu".into(),
            by: By::Default,
            once: false,
            until_installed: false,
            report_within: None,
            way: Way::Menu,
        };
        for what in [What::Script(menu), What::Script(boot("p", &["k"])), fetched(Of::Asset, "k", 9, None).what] {
            assert_eq!(go(what), one);
        }
    }
}

#[test]
fn a_boot_that_ended_between_two_looks_is_among_what_changed() {
    let mut timelines = Timelines::default();
    let at = |seconds: u64| Moment::from_secs(1_000_000 + seconds);
    let numbers = |timelines: &Timelines, version, then| {
        timelines.changed_since(version, then).map(|(_, boot)| boot.number).collect::<Vec<_>>()
    };
    timelines.apply(machine(discover("iPXE on BIOS")), at(0));
    timelines.apply(machine(What::Script(boot("p", &[]))), at(1));
    let version = timelines.version();
    assert_eq!(numbers(&timelines, 0, at(0)), [1]);
    timelines.apply(machine(discover("iPXE on BIOS")), at(2));
    assert_eq!(numbers(&timelines, version, at(1)), [2, 1], "both");
    assert_eq!(numbers(&timelines, version, at(2)), [2], "the other is kept already");
    assert_eq!(numbers(&timelines, timelines.version(), at(0)), [] as [u32; 0]);
}

/// Nobody here sees that a machine has files of another server.
#[test]
fn a_boot_from_another_server_is_handed_over_by_its_first_report() {
    let mut timelines = Timelines::default();
    let way = Way::Elsewhere;
    let boot = Outcome::Chosen {
        mac: MAC,
        profile: "mirror".into(),
        by: By::Default,
        once: true,
        until_installed: false,
        report_within: None,
        way,
    };
    let mut stages = |what: What| -> Vec<Stage> {
        timelines.apply(machine(what), NOW).into_iter().map(|line| line.step.stage).collect()
    };
    assert_eq!(stages(What::Script(boot)), [Stage::Script]);
    let report = |word: &str| Report { event: ReportEvent::Other(word.into()), text: String::new() };
    let signed = Signed { profile: "mirror".into(), decides: false };
    assert_eq!(stages(What::Report(report("forged"))), [Stage::Reported], "anyone can say that");
    let told = What::SignedReport(report("partitioned"), signed.clone());
    assert_eq!(stages(told), [Stage::HandedOver, Stage::Reported]);
    assert_eq!(stages(What::SignedReport(report("formatted"), signed)), [Stage::Reported]);
    assert!(timelines.chosen(Who::from(MAC)).is_some_and(|chosen| chosen.once && chosen.profile == "mirror"));
}

#[test]
fn what_was_seen_of_an_address_is_the_machines_once_it_is_known_and_comes_back_after_a_restart() {
    let mut timelines = Timelines::default();
    timelines.apply(fetched(Of::Loader, "snponly.efi", 9, None), NOW);
    assert_eq!(timelines.snapshot(NOW).machines.iter().map(|seen| seen.who).collect::<Vec<_>>(), [Who::Address(IP)]);
    timelines.apply(machine(discover("iPXE on BIOS")), NOW);
    timelines.apply(machine(What::Address(IP)), NOW);
    let seen = timelines.snapshot(NOW).machines;
    let boot = seen.first().and_then(Machine::boot).expect("a boot");
    let stages: Vec<Stage> = boot.steps.iter().map(|step| step.stage).collect();
    assert_eq!((seen.len(), stages, boot.downloads.len()), (1, vec![Stage::Discover, Stage::Loader], 1));

    let json = serde_json::to_string(&**boot).expect("written");
    let mut again = Timelines::default();
    again.restore(MAC.into(), [serde_json::from_str(&json).expect("read")]);
    assert_eq!(again.snapshot(NOW).machines.first().and_then(Machine::boot), Some(boot));
    // And it is known by its address at once.
    let lines = again.apply(fetched(Of::Asset, "x", 9, None), NOW);
    assert_eq!(lines.first().map(|line| line.who), Some(Who::from(MAC)));
    assert!(serde_json::from_str::<Timeline>(r#"{"later": 1}"#).is_ok(), "what another version wrote");
}

#[test]
fn downloads_that_were_under_way_end_with_the_server_that_sent_them() {
    let download = |pace| Download { name: "vmlinuz".into(), pace, ..Download::default() };
    for pace in [Going::Progressing, Going::Paused { since: NOW, window_closed: true }] {
        let mut boot = Timeline::begin(1, NOW);
        boot.downloads = vec![download(Going::Done), download(pace)];
        let mut timelines = Timelines::default();
        timelines.restore(MAC.into(), [boot]);
        let snapshot = timelines.snapshot(NOW);
        let boot = snapshot.machines.first().and_then(Machine::boot).expect("a boot");
        let State::Stopped(stop) = boot.state(NOW) else { panic!("{:?}", boot.state(NOW)) };
        assert_eq!((&*stop.cause.label(), &boot.downloads[0].pace), ("server", &Going::Done));
    }
}

#[test]
fn what_a_machine_says_is_heard_once_it_is_known_and_leaves_room_for_its_boot() {
    let mut timelines = Timelines::default();
    let (installer, stranger) = (Ipv4Addr::new(192, 0, 2, 78), Ipv4Addr::new(192, 0, 2, 9));
    let said = |from, line: &str| Event { who: Who::Address(from), what: What::Said(line.to_owned()) };
    assert_eq!(timelines.apply(said(stranger, "toner low"), NOW), []);
    timelines.apply(machine(discover("iPXE on UEFI x86_64")), NOW);
    // An installer has another address than its iPXE, and fetches an answer that was signed for its machine.
    assert_eq!(timelines.apply(said(installer, "too early"), NOW), []);
    let to = installer.into();
    timelines.apply(machine(What::Answer { name: "preseed.cfg".into(), size: 9, to }), NOW);
    let expected = [line(Stage::Syslog, "partman: no disk", false)];
    assert_eq!(timelines.apply(said(installer, "partman: no disk"), NOW), expected);
    for n in 0..100 {
        assert_eq!(timelines.apply(said(installer, &format!("line {n}")), NOW).len(), 1);
    }
    let snapshot = timelines.snapshot(NOW);
    let steps: Vec<&str> = snapshot.machines[0].boots[0].steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!((snapshot.machines.len(), steps.len()), (1, 2 + Timeline::WORDS), "{steps:?}");
    assert_eq!((steps[0], steps[1]), ("iPXE on UEFI x86_64", "preseed.cfg, 9 B to 192.0.2.78"));
    assert_eq!((steps[2], steps.last()), ("line 84", Some(&"line 99")));
}

/// Firmware sends the first three fields turned round, and iPXE shows them as the label does.
#[test]
fn the_byte_order_of_the_script_is_shown_once_it_is_known() {
    let shown = uuid::Uuid::from_u128(0x4c4c4544_0042_3510_8052_b4c04f564e31);
    let turned = uuid::Uuid::from_bytes(shown.to_bytes_le());
    let mut timelines = Timelines::default();
    let mut see = |uuid, what: What| {
        let who = Who::Machine(MachineId::new(None, Some(uuid), MAC));
        timelines.apply(Event { who, what }, NOW);
        let machines = timelines.snapshot(NOW).machines;
        let boot = machines.first().and_then(Machine::boot).and_then(|boot| boot.uuid.clone());
        (machines.first().and_then(Machine::id).and_then(|id| id.uuid_as_said()), boot)
    };
    assert_eq!(see(turned, discover("UEFI x86_64")).0, Some(turned));
    assert_eq!(see(shown, What::Script(boot("debian", &["k"]))), (Some(shown), Some(shown.to_string())));
    assert_eq!(see(turned, discover("UEFI x86_64")).0, Some(shown), "and stays");
}

#[test]
fn what_was_seen_of_a_machines_cards_is_one_timeline_and_of_one_adapter_at_two_machines_two() {
    let id =
        |uuid: u128, card: u8| MachineId::new(None, Some(uuid::Uuid::from_u128(uuid)), MacAddr([2, 0, 0, 0, 0, card]));
    let (one, other) = (0x4c4c4544_0042_3510_8052_b4c04f564e31, 0x4c4c4544_0042_3510_8052_b4c04f564e32);
    let mut timelines = Timelines::default();
    let mut see = |machine: MachineId, what: What| {
        timelines.apply(Event { who: Who::Machine(machine), what }, NOW);
        timelines.snapshot(NOW).machines.iter().map(|seen| (seen.cards.len(), seen.boots.len())).collect::<Vec<_>>()
    };
    assert_eq!(see(MacAddr([2, 0, 0, 0, 0, 1]).into(), discover("BIOS")), [(1, 1)], "a request without a UUID");
    assert_eq!(see(id(one, 1), discover("iPXE on BIOS")), [(1, 1)]);
    assert_eq!(see(id(one, 2), discover("BIOS")), [(2, 2)], "the firmware goes on to its other card");
    assert_eq!(see(id(other, 1), discover("BIOS")), [(2, 2), (1, 1)], "an adapter that another machine has now");
    assert_eq!(see(MacAddr([2, 0, 0, 0, 0, 1]).into(), discover("iPXE on BIOS")), [(2, 2), (1, 1)]);
    let snapshot = timelines.snapshot(NOW);
    let found = |machine| snapshot.find(Who::Machine(machine)).map(|seen| seen.cards.len());
    assert_eq!((found(id(one, 9)), found(id(other, 9))), (Some(2), Some(1)));
    assert_eq!(found(MacAddr([2, 0, 0, 0, 0, 2]).into()), Some(2));
}
