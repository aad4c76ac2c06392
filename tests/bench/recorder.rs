//! What counting costs the recorder: the timelines of a thousand machines that boot, alone and with the metrics. And how
//! much memory a machine takes that is remembered.
//! `cargo bench --bench recorder`

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made is none")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use netbootd::{
    boot::{
        mac::MacAddr,
        machine::By,
        outcome::{Outcome, Way},
        over::{Of, Over},
    },
    status::{metrics::Metrics, tally::Tally},
    timeline::{
        event::{Discover, Event, Request, What, Who},
        machines::Timelines,
        moment::Moment,
        transfer::{Progress, Transfer},
    },
};

const MACHINES: u16 = 1000;
const ROUNDS: usize = 15;
/// As many as are remembered of a machine.
const BOOTS: u64 = 5;
/// Bytes.
const REQUEST: usize = 548;

fn main() {
    // What is freed would be used again: all of it stays until the end.
    let (after_one, _one) = remembered(1);
    let (after_all, _all) = remembered(BOOTS);
    println!("a machine: {after_one:.1} kB of memory after a boot, {after_all:.1} kB after {BOOTS}");

    let mut rounds: Vec<(Duration, Duration)> =
        (0..ROUNDS).map(|_| (round(None), round(Some(Metrics::default())))).collect();
    let count = u32::from(MACHINES) * u32::try_from(boot(0).len()).unwrap();
    rounds.sort_by_key(|(alone, _)| *alone);
    let alone = rounds.get(ROUNDS / 2).unwrap().0 / count;
    rounds.sort_by_key(|(_, counted)| *counted);
    let counted = rounds.get(ROUNDS / 2).unwrap().1 / count;
    println!("an event: {alone:?} for the timelines, {counted:?} with the metrics (medians of {ROUNDS} rounds)");
}

/// All machines that are remembered, each after so many boots, and the memory that each takes in kB.
fn remembered(boots: u64) -> (f64, Timelines) {
    let before = memory();
    let mut timelines = Timelines::default();
    for at in (0..boots).map(|boot| Moment::from_secs(1_000_000 + boot * 3600)) {
        for number in 0..u16::try_from(Timelines::MACHINES).unwrap() {
            for event in boot(number) {
                let who = event.who;
                // As long as the requests of common firmware and of iPXE.
                if event.what.discover().is_some() {
                    let request = Request::new(67, &[0; REQUEST]);
                    timelines.apply(Event { who, what: What::Request(Box::new(request)) }, at);
                }
                timelines.apply(event, at);
            }
        }
    }
    ((memory() - before) / Timelines::MACHINES as f64, timelines)
}

/// Of this process, in kB.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1.024
}

fn round(metrics: Option<Metrics>) -> Duration {
    let now = Moment::from_secs(1_000_000);
    let mut timelines = Timelines::default();
    let events: Vec<Event> = (0..MACHINES).flat_map(boot).collect();
    let began = Instant::now();
    for event in events {
        let (who, tally) = (event.who, metrics.is_some().then(|| Tally::of(&event.what)));
        let lines = timelines.apply(event, now);
        if let (Some(metrics), Some(tally)) = (&metrics, tally) {
            metrics.count(tally, &lines, || timelines.boot(who), now);
        }
        black_box(lines);
    }
    began.elapsed()
}

/// As the stages tell it.
fn boot(number: u16) -> Vec<Event> {
    let [high, low] = number.to_be_bytes();
    let mac = MacAddr([2, 0, 0, 0, high, low]);
    let discover =
        |client: &str, is_ipxe| What::Discover(Discover { client: client.into(), is_ipxe, ..Discover::default() });
    let took = Duration::from_millis(500);
    let transfer = |of, name: &str, over| {
        What::Transfer(Transfer { of, name: name.into(), sent: 9, size: 9, took, failure: None, fresh: 9, over })
    };
    let progress = |acked| {
        let (of, name, over) = (Of::Asset, "initrd.img".into(), Over::Http);
        What::Progress(Progress { of, name, acked, size: 9, took, rate: 5, fresh: 3, over })
    };
    let (profile, way) = ("debian".into(), Way::Boot(vec!["vmlinuz".into(), "initrd.img".into()]));
    let seen = vec![
        discover("UEFI x86_64", false),
        What::Offer("snponly.efi by TFTP from 192.0.2.10".into()),
        transfer(Of::Loader, "snponly.efi", Over::Tftp),
        discover("iPXE on UEFI x86_64", true),
        What::Offer("http://192.0.2.10:8080/boot.ipxe".into()),
        What::Script(Outcome::Chosen {
            mac,
            profile,
            by: By::Default,
            once: false,
            until_installed: false,
            report_within: None,
            way,
        }),
        transfer(Of::Asset, "vmlinuz", Over::Http),
        progress(3),
        progress(6),
        transfer(Of::Asset, "initrd.img", Over::Http),
    ];
    seen.into_iter().map(|what| Event { who: Who::from(mac), what }).collect()
}
