//! `/metrics`: what the recorder sees, counted for Prometheus; and how the boots stand, at the moment that it is asked.
//!
//! Labels are closed sets: names of stages, reasons ([`Reason::label`]) and the profiles of the configuration. No packet of
//! a stranger's makes a new one.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::SystemTime,
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};

use super::{process::Process, server::Server, tally::Tally};
use crate::{
    boot::{live::Live, over::Of},
    lease::{
        book::Held,
        view::{Leases, Standing as OfLeasing},
    },
    timeline::{
        boot::{Going, Timeline},
        cause::State as BootState,
        event::lost,
        machines::{Line, Snapshot},
        moment::Moment,
        stage::Stage,
    },
};

/// All counters. Cheap to count in, and shared by the recorder and who asks.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Family<Event, Counter>,
    bytes: Family<Carried, Counter>,
    took: Family<OfStage, Histogram, Seconds>,
    boot_took: Histogram,
    handed_over: Family<OfProfile, Counter>,
    stops: Family<OfCause, Counter>,
    rivals: Family<OfFault, Counter>,
    /// Set by each request, one after the other.
    standing: Mutex<Standing>,
}

/// What is counted when it is asked for.
#[derive(Clone, Debug, Default)]
struct Standing {
    machines: Gauge,
    boots: Family<OfState, Gauge>,
    stopped: Family<OfCause, Gauge>,
    transfers: Family<Active, Gauge>,
    faulty: Gauge,
    faulty_profile: Family<OfProfile, Gauge>,
    state_lost: Gauge,
    reads: Counter,
    leases: Family<OfLease, Gauge>,
    lease_addresses: Family<OfNetwork, Gauge>,
    leasing: Family<OfNetwork, Gauge>,
    lease_stopped: Family<OfStop, Gauge>,
    leases_full: Family<OfNetwork, Counter>,
    lease_replies: Family<OfReply, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Event {
    stage: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Carried {
    protocol: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStage {
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProfile {
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCause {
    cause: Cow<'static, str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFault {
    fault: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfNetwork {
    network: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLease {
    network: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStop {
    network: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReply {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Active {
    stage: &'static str,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            events: Family::default(),
            bytes: Family::default(),
            took: Family::new_with_constructor(Seconds),
            boot_took: Histogram::new(BOOTS),
            handed_over: Family::default(),
            stops: Family::default(),
            rivals: Family::default(),
            standing: Mutex::default(),
        };
        metrics.register();
        metrics.begin();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let Self { events, bytes, took, boot_took, handed_over, stops, rivals, standing, registry } = self;
        let standing = standing.get_mut().unwrap_or_else(PoisonError::into_inner);
        standing.register_leases(registry);
        let Standing { machines, boots, stopped, transfers, faulty, faulty_profile, state_lost, reads, .. } = standing;
        registry.register("netbootd_events", "Events, by stage and result", events.clone());
        let help = "Bytes of loaders and assets that clients acknowledged";
        registry.register("netbootd_acknowledged_bytes", help, bytes.clone());
        let help = "From the request of a file to its last acknowledgement, for complete transfers";
        registry.register("netbootd_transfer_duration_seconds", help, took.clone());
        let help = "From a machine's first packet to the end of the last file that its script names";
        registry.register("netbootd_boot_duration_seconds", help, boot_took.clone());
        registry.register("netbootd_handed_over", "Machines that have all files of their profile", handed_over.clone());
        registry.register(
            "netbootd_stops",
            "Boots that were found to have stopped, by the probable cause",
            stops.clone(),
        );
        registry.register(
            "netbootd_rivals",
            "Reports of other servers that keep machines from booting",
            rivals.clone(),
        );
        registry.register("netbootd_machines", "Machines that are remembered", machines.clone());
        registry.register("netbootd_boots", "Last boots of these machines, by state", boots.clone());
        registry.register("netbootd_stopped_boots", "Last boots that stopped, by the probable cause", stopped.clone());
        let help = "Running transfers; a slow_but_alive one accepts no data at the moment";
        registry.register("netbootd_active_transfers", help, transfers.clone());
        let help = "Profiles that cannot boot: a file is missing, or their configuration has a fault";
        registry.register("netbootd_faulty_profiles", help, faulty.clone());
        registry.register("netbootd_faulty_profile", "1 for each profile that cannot boot", faulty_profile.clone());
        let help = "1 where the state cannot be used: one-time profiles are not served then";
        registry.register("netbootd_state_lost", help, state_lost.clone());
        registry.register("netbootd_configuration_reads", "How often the configuration was read again", reads.clone());
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("netbootd_build_info", "The version of netbootd", build);
        registry.register_collector(Box::new(Lost));
        registry.register_collector(Box::new(Process));
    }

    /// What is alarming is there before it happens: a counter that begins with its first event has not risen, to
    /// Prometheus (`increase`).
    fn begin(&self) {
        for (stage, outcomes) in EXPECTED {
            for outcome in *outcomes {
                self.events.get_or_create(&Event { stage: stage.name(), outcome }).inc_by(0);
            }
        }
        for fault in ["other_proxy", "lease_claims_pxe", "lease_claims_http", "lease_names_bootfile"] {
            self.rivals.get_or_create(&OfFault { fault }).inc_by(0);
        }
        for cause in CAUSES {
            self.stops.get_or_create(&OfCause { cause: cause.into() }).inc_by(0);
        }
    }

    /// Counts an event, and the lines that came of it. `boot` is the boot that it belongs to.
    pub fn count<'a>(&self, tally: Tally, lines: &[Line], boot: impl FnOnce() -> Option<&'a Timeline>, now: Moment) {
        if let Some((over, of, fresh)) = tally.carried {
            let kind = if of == Of::Loader { "loader" } else { "asset" };
            self.bytes.get_or_create(&Carried { protocol: over.label(), kind }).inc_by(fresh);
        }
        if let Some(fault) = tally.rival {
            self.rivals.get_or_create(&OfFault { fault }).inc();
        }
        let of_line = || lines.first().map(|line| line.step.stage);
        let stage = tally.stage.or_else(of_line).or_else(|| tally.stage_of_repetition());
        if let (Some(stage), Some(outcome)) = (stage, tally.outcome) {
            self.events.get_or_create(&Event { stage: stage.name(), outcome }).inc();
            if let Some(took) = tally.took {
                self.took.get_or_create(&OfStage { stage: stage.name() }).observe(took.as_secs_f64());
            }
        }
        if lines.iter().any(|line| line.step.stage == Stage::HandedOver) {
            self.count_hand_over(boot(), now);
        }
    }

    /// Counts a hand-over; [`Self::count`] does this for one that an event brings.
    pub fn count_hand_over(&self, boot: Option<&Timeline>, now: Moment) {
        let Some(boot) = boot else { return };
        if let Some(chosen) = &boot.chosen {
            self.handed_over.get_or_create(&OfProfile { profile: chosen.profile.clone() }).inc();
        }
        // One that was not heard from its first packet on is not counted.
        if boot.discovers > 0 {
            self.boot_took.observe(now.since(boot.began).as_secs_f64());
        }
    }

    /// How the configuration stands.
    pub fn set_configuration(&self, live: &Live) {
        // As in `begin`: else the first hand-over of each profile would be missing from what Prometheus counts.
        for profile in live.rules.load().profiles.keys() {
            self.handed_over.get_or_create(&OfProfile { profile: profile.clone() }).inc_by(0);
        }
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = live.faults.load();
        let profiles: BTreeSet<&str> = faults.iter().map(|fault| fault.profile.as_str()).collect();
        standing.faulty.set(i64::try_from(profiles.len()).unwrap_or(i64::MAX));
        // Those that are fixed are left out.
        standing.faulty_profile.clear();
        for profile in profiles {
            standing.faulty_profile.get_or_create(&OfProfile { profile: profile.to_owned() }).set(1);
        }
        standing.state_lost.set(i64::from(live.state_fault.load().is_some()));
        let reads = live.reads.load(Ordering::Relaxed);
        standing.reads.inc_by(reads.saturating_sub(standing.reads.get()));
    }

    /// How the leases stand.
    pub fn set_leases(&self, leases: &Leases) {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.set_leases(leases);
    }

    /// Counts a boot that was found to have stopped.
    pub fn count_stop(&self, cause: Cow<'static, str>) {
        self.stops.get_or_create(&OfCause { cause }).inc();
    }

    /// Everything, in OpenMetrics 1.0.
    ///
    /// # Errors
    /// None that is known: writing to a text does not fail.
    pub fn exposition(&self, snapshot: &Snapshot, now: Moment) -> Result<String, fmt::Error> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.set(snapshot, now);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Standing {
    fn register_leases(&self, registry: &mut Registry) {
        let Self { leases, lease_addresses, leasing, lease_stopped, leases_full, lease_replies, .. } = self;
        registry.register("netbootd_leases", "Addresses that are in use, by network and state", leases.clone());
        let help = "Addresses in the ranges of a network";
        registry.register("netbootd_lease_addresses", help, lease_addresses.clone());
        let help = "1 where addresses are leased; 0 while it is asked whether another server leases, and after a stop";
        registry.register("netbootd_leasing", help, leasing.clone());
        let help = "1 where no address is leased any more, by the reason";
        registry.register("netbootd_lease_stopped", help, lease_stopped.clone());
        let help = "Requests for which no address was free";
        registry.register("netbootd_leases_full", help, leases_full.clone());
        registry.register("netbootd_lease_replies", "Replies about leases, by kind", lease_replies.clone());
    }

    fn set_leases(&self, seen: &Leases) {
        let mut counts = BTreeMap::<_, i64>::new();
        for lease in seen.leases.iter().filter(|lease| lease.ends_in > 0) {
            *counts.entry((lease.network.to_string(), lease.held.name())).or_default() += 1;
        }
        // Also what stops no more: leasing goes on when the range fits again.
        self.leases.clear();
        self.lease_addresses.clear();
        self.leasing.clear();
        self.lease_stopped.clear();
        for network in &seen.networks {
            let of = || OfNetwork { network: network.name.to_string() };
            for state in Held::ALL.map(Held::name) {
                let count = counts.get(&(network.name.to_string(), state)).copied().unwrap_or_default();
                self.leases.get_or_create(&OfLease { network: network.name.to_string(), state }).set(count);
            }
            self.lease_addresses.get_or_create(&of()).set(network.size.into());
            self.leasing.get_or_create(&of()).set(i64::from(network.state == OfLeasing::Leasing));
            if let Some(reason) = network.label {
                self.lease_stopped.get_or_create(&OfStop { network: network.name.to_string(), reason }).set(1);
            }
            let full = self.leases_full.get_or_create(&of());
            full.inc_by(network.full.saturating_sub(full.get()));
        }
        for (kind, count) in &seen.replies {
            let counter = self.lease_replies.get_or_create(&OfReply { kind });
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    fn set(&self, snapshot: &Snapshot, now: Moment) {
        let mut states: BTreeMap<&'static str, i64> = STATES.into_iter().map(|state| (state, 0)).collect();
        let (mut causes, mut active) = (BTreeMap::<_, i64>::new(), BTreeMap::<_, i64>::new());
        for boot in snapshot.machines.iter().filter_map(|machine| machine.boot()) {
            let state = boot.state(now);
            *states.entry(state.name()).or_default() += 1;
            if let BootState::Stopped(stop) = &state {
                *causes.entry(stop.cause.label()).or_default() += 1;
            }
            for download in &boot.downloads {
                let verdict = match download.pace {
                    Going::Progressing => "progressing",
                    Going::Paused { .. } => "slow_but_alive",
                    Going::Done | Going::Stopped { .. } => continue,
                };
                *active.entry((download.stage.name(), verdict)).or_default() += 1;
            }
        }
        self.machines.set(i64::try_from(snapshot.machines.len()).unwrap_or(i64::MAX));
        for (state, count) in states {
            self.boots.get_or_create(&OfState { state }).set(count);
        }
        // What is there no more is left out.
        self.stopped.clear();
        for (cause, count) in causes {
            self.stopped.get_or_create(&OfCause { cause }).set(count);
        }
        self.transfers.clear();
        for ((stage, verdict), count) in active {
            self.transfers.get_or_create(&Active { stage, verdict }).set(count);
        }
    }
}

/// The route.
pub fn router(metrics: Arc<Metrics>, server: Arc<dyn Server>, live: Arc<Live>) -> Router {
    Router::new().route("/metrics", get(metrics_for)).with_state((metrics, server, live))
}

type Shared = (Arc<Metrics>, Arc<dyn Server>, Arc<Live>);

async fn metrics_for(State((metrics, server, live)): State<Shared>, headers: HeaderMap) -> Response {
    let snapshot = server.snapshot().await;
    metrics.set_configuration(&live);
    metrics.set_leases(&server.leases());
    let Ok(text) = metrics.exposition(&snapshot, Moment::from(SystemTime::now())) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("application/openmetrics-text") {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return ([(header::CONTENT_TYPE, kind)], text).into_response();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], plain(&text)).into_response()
}

/// OpenMetrics → the older text format, for programs that know no other: there the name of a counter has its `_total` in
/// the comments as well, and `# EOF` is unknown.
fn plain(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let total = if kind == "counter" { "_total" } else { "" };
            let words = help.take().map_or("", |(_, words)| words);
            text.push_str(&format!("# HELP {name}{total} {words}\n# TYPE {name}{total} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Events that no stage could send.
#[derive(Debug)]
struct Lost;

impl Collector for Lost {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counter = ConstCounter::new(lost());
        let help = "Events that were dropped because the event queue was full; the other metrics lack them";
        counter.encode(encoder.encode_descriptor("netbootd_lost_events", help, None, counter.metric_type())?)
    }
}

#[derive(Clone, Debug)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(TRANSFERS)
    }
}

/// [`BootState::name`], so that each is there before it comes.
const STATES: [&str; 8] = ["booting", "slow_but_alive", "menu", "shell", "local", "handed_over", "reported", "stopped"];
const TRANSFER: &[&str] =
    &["ok", "dead", "silent", "closed_by_client", "ended_by_client", "no_memory", "began_anew", "server"];
const EXPECTED: &[(Stage, &[&str])] = &[
    (Stage::Loader, TRANSFER),
    (Stage::Kernel, TRANSFER),
    (Stage::Initrd, TRANSFER),
    (Stage::File, TRANSFER),
    (Stage::Script, &["boot", "menu", "local", "shell"]),
    (Stage::Reported, &["installed", "failed", "other"]),
    (
        Stage::Refused,
        &["loader_missing", "not_found", "unreadable", "template", "ipxe_loop", "loader_loop", "busy", "no_free_port"],
    ),
];
/// [`crate::timeline::cause::Cause::label`], but for refusals, which are events.
const CAUSES: [&str; 29] = [
    "rival",
    "held_back",
    "not_leased",
    "address_not_taken",
    "offer_ignored",
    "http_boot_ignored",
    "not_here",
    "loader_not_fetched",
    "loader_stopped",
    "loader_not_started",
    "other_firmware",
    "unsigned_not_started",
    "shim_not_started",
    "second_stage_not_started",
    "kernel_refused",
    "grub_script_not_fetched",
    "script_not_fetched",
    "not_fetched",
    "closed_by_machine",
    "no_memory",
    "file_stopped",
    "dead",
    "server",
    "never_reported",
    "reported_failure",
    "other_network",
    "script_loops",
    "installs_again",
    "file_changed",
];
/// Seconds: a loader takes some milliseconds, an initrd over a bad line an hour.
const TRANSFERS: [f64; 12] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0];
/// Seconds: firmware alone takes ten.
const BOOTS: [f64; 12] = [5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0, 900.0, 3600.0];
