//! What is counted of a boot; and the dashboard and the alert rules that are shipped: well formed, and about metrics that
//! there are.

use std::{borrow::Cow, collections::BTreeSet, fs, net::Ipv4Addr, process::Command, sync::Arc, time::Duration};

use netbootd::{
    boot::{
        live::Live,
        loader::Loader,
        mac::MacAddr,
        machine::{By, Rules},
        outcome::{Outcome, Way},
        over::{Of, Over},
        profile::{Boot, Profile, ProfileFault},
        reason::Reason,
        roster::Roster,
    },
    lease::{
        book::Held,
        view::{Leases, OnNetwork, OneLease, Standing},
    },
    status::{metrics::Metrics, tally::Tally},
    timeline::{
        cause::Cause,
        event::{AddressOffer, Discover, Event, What, Who},
        machines::Timelines,
        moment::Moment,
        transfer::{Progress, Transfer},
    },
};
use netbootd_lab::{PROMTOOL, required};
use serde_json::json;

const NOW: Moment = Moment::from_secs(1_000_000);

/// The exposition after a whole boot, with a transfer on its way, and of a machine that was refused.
fn exposition() -> String {
    let (metrics, mut timelines) = (Metrics::default(), Timelines::default());
    let who = Who::from(MacAddr([2; 6]));
    let (name, took, over): (String, _, _) = ("k".into(), Duration::from_secs(2), Over::Http);
    let way = Way::Boot(vec![name.clone()]);
    let (profile, by, report_within) = ("debian".into(), By::Default, None);
    let transfer = |of| Transfer { of, name: name.clone(), sent: 9, size: 9, took, failure: None, fresh: 4, over };
    let progress = Progress { of: Of::Asset, name: "x".into(), acked: 5, size: 9, took, rate: 5, fresh: 5, over };
    let seen = [
        What::Discover(Discover { client: "UEFI".into(), ..Discover::default() }),
        What::Transfer(Transfer { over: Over::Tftp, ..transfer(Of::Loader) }),
        What::Script(Outcome::Chosen {
            mac: MacAddr([2; 6]),
            profile,
            by,
            once: false,
            until_installed: false,
            report_within,
            way,
        }),
        What::Progress(Progress { name: name.clone(), ..progress.clone() }),
        What::Transfer(transfer(Of::Asset)),
        What::Progress(progress),
    ];
    let refused = (Who::from(MacAddr([4; 6])), What::Refused(Reason::Unknown));
    for (who, what) in seen.map(|what| (who, what)).into_iter().chain([refused]) {
        let tally = Tally::of(&what);
        let lines = timelines.apply(Event { who, what }, NOW);
        metrics.count(tally, &lines, || timelines.boot(who), NOW);
    }
    let live = Live::new(
        Rules { profiles: [("rescue".to_owned(), Profile::from(Boot::Local))].into(), ..Rules::default() },
        Roster::default(),
    );
    let fault = ProfileFault { profile: "debian".into(), arch: None, fault: "there is no file k".into() };
    live.faults.store(Arc::new(vec![fault]));
    metrics.set_configuration(&live);
    let network = |name: &str, state, label| OnNetwork {
        name: name.into(),
        state,
        why: None,
        label,
        range: "192.0.2.100-192.0.2.109".into(),
        size: 10,
        full: 3,
    };
    let lease = |last: u8, held, ends_in| OneLease {
        address: [192, 0, 2, last].into(),
        card: MacAddr([2; 6]),
        network: "eth1".into(),
        held,
        ends_in,
        time: 60,
    };
    let leases = Leases {
        networks: vec![
            network("eth1", Standing::Leasing, None),
            network("eth2", Standing::Stopped, Some("foreign_server")),
        ],
        leases: vec![lease(1, Held::Leased, 60), lease(2, Held::Leased, -1), lease(3, Held::Taken, 60)],
        replies: vec![("offer", 5), ("nak", 1)],
    };
    // What is counted is counted once, however often somebody asks; and what was wrong before is right again.
    let networks = vec![network("eth1", Standing::Stopped, Some("unfit"))];
    metrics.set_leases(&Leases { networks, ..leases.clone() });
    metrics.set_leases(&leases);
    metrics.exposition(&timelines.snapshot(NOW), NOW).expect("written")
}

#[test]
fn a_boot_is_counted_once_at_each_stage() {
    let text = exposition();
    for line in [
        "netbootd_events_total{stage=\"discover\",outcome=\"ok\"} 1",
        "netbootd_events_total{stage=\"loader\",outcome=\"ok\"} 1",
        "netbootd_events_total{stage=\"script\",outcome=\"boot\"} 1",
        "netbootd_events_total{stage=\"kernel\",outcome=\"ok\"} 1",
        "netbootd_events_total{stage=\"kernel\",outcome=\"dead\"} 0",
        "netbootd_acknowledged_bytes_total{protocol=\"tftp\",kind=\"loader\"} 4",
        "netbootd_acknowledged_bytes_total{protocol=\"http\",kind=\"asset\"} 14",
        "netbootd_transfer_duration_seconds_bucket{le=\"3.0\",stage=\"kernel\"} 1",
        "netbootd_leases{network=\"eth1\",state=\"leased\"} 1",
        "netbootd_leases{network=\"eth1\",state=\"taken\"} 1",
        "netbootd_lease_addresses{network=\"eth1\"} 10",
        "netbootd_leasing{network=\"eth1\"} 1",
        "netbootd_leasing{network=\"eth2\"} 0",
        "netbootd_lease_stopped{network=\"eth2\",reason=\"foreign_server\"} 1",
        "netbootd_leases_full_total{network=\"eth1\"} 3",
        "netbootd_lease_replies_total{kind=\"offer\"} 5",
        "netbootd_boot_duration_seconds_count 1",
        "netbootd_handed_over_total{profile=\"debian\"} 1",
        "netbootd_machines 2",
        "netbootd_boots{state=\"handed_over\"} 1",
        "netbootd_boots{state=\"stopped\"} 1",
        "netbootd_boots{state=\"menu\"} 0",
        "netbootd_stopped_boots{cause=\"unknown_machine\"} 1",
        "netbootd_active_transfers{stage=\"file\",verdict=\"progressing\"} 1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n") && !text.contains("reason=\"unfit\""), "{text}");
}

/// A series that begins with its first event has not risen, to Prometheus.
#[test]
fn every_profile_and_every_cause_of_a_stop_is_there_before_it_happens() {
    let text = exposition();
    assert!(text.contains("netbootd_handed_over_total{profile=\"rescue\"} 0\n"), "{text}");
    let words = String::new;
    let causes = [
        Cause::Rival(words()),
        Cause::HeldBack(1),
        Cause::NotLeased,
        Cause::AddressNotTaken(AddressOffer { address: Ipv4Addr::LOCALHOST, server: Ipv4Addr::LOCALHOST }),
        Cause::OfferIgnored,
        Cause::NotHere(words()),
        Cause::LoaderNotFetched,
        Cause::LoaderStopped(words()),
        Cause::LoaderNotStarted(words()),
        Cause::OtherFirmware { name: words(), of: Loader::Bios, wanted: Loader::EfiX86_64 },
        Cause::UnsignedNotStarted(words()),
        Cause::ShimNotStarted(words()),
        Cause::SecondStageNotStarted(words()),
        Cause::KernelRefused(words()),
        Cause::GrubScriptNotFetched,
        Cause::ScriptNotFetched,
        Cause::NotFetched(vec![]),
        Cause::HttpBootIgnored,
        Cause::ClosedByMachine(words()),
        Cause::NoMemory(words()),
        Cause::FileStopped { name: words(), what: words() },
        Cause::Dead(words()),
        Cause::OurFault(words()),
        Cause::NeverReported(1),
        Cause::ReportedFailure(words()),
        Cause::OtherNetwork(words()),
        Cause::ScriptLoops,
        Cause::InstallsAgain(words()),
        Cause::FileChanged(words()),
    ];
    for cause in causes {
        // Whatever is added to the causes has to be added above; refusals are counted as events.
        match cause {
            Cause::Rival(_) | Cause::HeldBack(_) | Cause::NotLeased | Cause::AddressNotTaken(_) => {}
            Cause::OfferIgnored | Cause::HttpBootIgnored | Cause::NotHere(_) | Cause::LoaderNotFetched => {}
            Cause::LoaderStopped(_) | Cause::LoaderNotStarted(_) | Cause::ScriptNotFetched | Cause::NotFetched(_) => {}
            Cause::ClosedByMachine(_) | Cause::Dead(_) | Cause::OurFault(_) | Cause::NeverReported(_) => {}
            Cause::OtherFirmware { .. } | Cause::NoMemory(_) | Cause::FileStopped { .. } => {}
            Cause::UnsignedNotStarted(_) | Cause::ShimNotStarted(_) | Cause::SecondStageNotStarted(_) => {}
            Cause::KernelRefused(_) | Cause::GrubScriptNotFetched => {}
            Cause::ReportedFailure(_) | Cause::Refused { .. } => {}
            Cause::OtherNetwork(_) | Cause::ScriptLoops | Cause::InstallsAgain(_) | Cause::FileChanged(_) => {}
        }
        let line = format!("\nnetbootd_stops_total{{cause=\"{}\"}} 0\n", cause.label());
        assert!(text.contains(&line), "{line}");
        assert!(matches!(cause.label(), Cow::Borrowed(_)));
    }
}

#[test]
fn what_the_dashboard_and_the_alerts_are_about_is_there() {
    let text = exposition();
    let there: BTreeSet<&str> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    for file in ["grafana-dashboard.json", "prometheus-alerts.yml"] {
        let used = used(&read(file));
        assert!(used.len() > 5, "{file}: {used:?}");
        let missing: Vec<&String> = used.iter().filter(|name| !there.contains(name.as_str())).collect();
        assert!(missing.is_empty(), "{file}: {missing:?} of {there:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read("grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<i64> = panels.iter().filter_map(|panel| panel["id"].as_i64()).collect();
    assert_eq!((ids.len(), dashboard["uid"].as_str()), (panels.len(), Some("netbootd")));
}

#[test]
fn promtool_finds_no_fault_with_the_alerts_and_the_dashboards_expressions() {
    let Some(()) = required(&[&[PROMTOOL]]) else { return };
    let checked = |file: &str| {
        let output = Command::new(PROMTOOL.file).args(["check", "rules", file]).output().expect("started");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
        said
    };
    let said = checked(&path("prometheus-alerts.yml"));
    assert!(said.contains("SUCCESS: 13 rules found"), "{said}");
    // It reads no dashboards, and their expressions as those of rules. JSON is YAML.
    let dashboard: serde_json::Value = serde_json::from_str(&read("grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let rule = |(number, target): (usize, &serde_json::Value)| json!({ "record": format!("r{number}"), "expr": target["expr"] });
    let rules: Vec<_> = targets.enumerate().map(rule).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yml");
    fs::write(&file, json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string()).expect("written");
    let said = checked(&file.display().to_string());
    assert!(said.contains(&format!("SUCCESS: {} rules found", rules.len())) && rules.len() > 20, "{said}");
}

fn path(name: &str) -> String {
    format!("{}/packaging/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).expect("read")
}

/// The names of metrics in a text: of netbootd's own and of the process.
fn used(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("netbootd_") || word.starts_with("process_")).map(str::to_owned).collect()
}
