//! netbootd and dnsmasq in proxy mode, in turn, on one host of a lab; machines that ask them on another. Answers per
//! CPU second of the server alone, and how long a thousand machines wait that are switched on at once.
//!
//! Every request is another machine's: nothing that a server remembers of one spares it work for the next. Both log as
//! they do by default, into /dev/null, and with `--quiet` as little as they can.
//!
//! `cargo build --release --workspace --bins && target/release/netbootd-bench-dhcp`, as root

mod client;
mod leases;
mod server;

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use clap::Parser;
use netbootd_lab::{Captured, Host, Lab, NETWORK_TOOLS, beside, median, peak_megabytes, quantile};

use crate::{
    client::{Crowd, socket},
    server::{Place, Server},
};

#[derive(Parser)]
struct Arguments {
    /// The servers take turns this often; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Requests of each kind in a round
    #[arg(long, default_value_t = 200_000)]
    requests: u32,
    /// Machines that are switched on at once
    #[arg(long, default_value_t = 1000)]
    machines: u32,
    /// Both servers log as little as they can
    #[arg(long)]
    quiet: bool,
    /// Only this: leases, beside dnsmasq and Kea
    #[arg(long)]
    leases: bool,
    /// Only one server, to be profiled
    #[arg(long, value_enum)]
    server: Option<Server>,
}

/// What one server did in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Thousands of OFFERs per CPU second, to one machine at a time.
    offers_alone: f64,
    /// Thousands of OFFERs per CPU second.
    offers: f64,
    /// Milliseconds from DISCOVER to OFFER.
    offers_p99: f64,
    /// Thousands of ACKs on port 4011 per CPU second.
    acks: f64,
    /// Requests of all kinds that were not answered.
    unanswered: usize,
    /// Of the machines that were switched on at once.
    storm: Storm,
    /// MB, at its highest.
    rss: f64,
}

#[derive(Clone, Copy, Debug)]
struct Storm {
    /// Machines without an answer.
    lost: usize,
    /// Milliseconds from DISCOVER to OFFER.
    median: f64,
    p99: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    netbootd_lab::check(&[NETWORK_TOOLS])?;
    println!("{}", std::env::args().collect::<Vec<_>>().join(" "));
    if arguments.leases {
        return leases::print_table(arguments.rounds);
    }
    let lab = Lab::new()?;
    let [host, client] = lab.two_hosts([("server", &format!("{SERVER}/16")), ("client", &format!("{CLIENT}/16"))])?;
    let place = Place::new(&lab, &host, arguments.quiet)?;
    let mut all: Vec<(Server, Vec<Round>)> = [Server::Netbootd, Server::Dnsmasq].map(|s| (s, Vec::new())).into();
    all.retain(|(server, _)| arguments.server.is_none_or(|only| only == *server));
    for round in 1..=arguments.rounds {
        for (server, rounds) in &mut all {
            let measured = measure(*server, &place, &client, &arguments)?;
            println!("round {round}, {}: {measured:.2?}", server.name());
            rounds.push(measured);
        }
    }
    print_table(&all, &arguments);
    Ok(())
}

fn measure(server: Server, place: &Place<'_>, client: &Host, arguments: &Arguments) -> Result<Round> {
    let (process, meter) = server.start(place)?;
    // The kind of packet that costs most to read: iPXE sends its whole list of features.
    let (ipxe, edk2) = (Captured::named("ipxe-rom-discover")?, Captured::named("ovmf-pxe-asks-the-boot-server")?);
    let round = client.enter(|| -> Result<Round> {
        let (broadcast, boot_server) = (SocketAddrV4::new(Ipv4Addr::BROADCAST, 67), SocketAddrV4::new(SERVER, 4011));
        let mut unanswered = 0;
        // A round that warms the server up, then the one that counts.
        let mut per_cpu = |captured: &Captured, to, in_flight, first: u32| -> Result<(f64, f64)> {
            let socket = socket(if to == broadcast { 68 } else { 4011 })?;
            let crowd = Crowd { socket: &socket, captured, to, in_flight };
            crowd.ask(first..first + arguments.requests / 10)?;
            let before = meter.seconds()?;
            let first = first + arguments.requests / 10;
            let mut waited = crowd.ask(first..first + arguments.requests)?;
            let spent = meter.seconds()? - before;
            unanswered += arguments.requests as usize - waited.len();
            waited.sort_unstable();
            Ok((waited.len() as f64 / spent / 1e3, quantile(&waited, 0.99) * 1e3))
        };
        let (offers_alone, _) = per_cpu(&ipxe, broadcast, 1, 0)?;
        let (offers, offers_p99) = per_cpu(&ipxe, broadcast, IN_FLIGHT, 1 << 24)?;
        let (acks, _) = per_cpu(&edk2, boot_server, IN_FLIGHT, 2 << 24)?;
        let requests: Vec<_> = (0..arguments.machines).map(|n| ipxe.from_machine((3 << 24) + n)).collect();
        let waited = netbootd_lab::storm(&socket(68)?, &requests, broadcast, client::PATIENCE)?;
        let lost = waited.iter().filter(|waited| waited.is_none()).count();
        let mut times: Vec<_> = waited.into_iter().flatten().collect();
        times.sort_unstable();
        let storm = Storm { lost, median: quantile(&times, 0.5) * 1e3, p99: quantile(&times, 0.99) * 1e3 };
        Ok(Round { offers_alone, offers, offers_p99, acks, unanswered, storm, rss: 0.0 })
    })??;
    let rss = peak_megabytes(&process)?;
    drop(process);
    meter.end()?;
    Ok(Round { rss, ..round })
}

fn print_table(all: &[(Server, Vec<Round>)], Arguments { rounds, machines, quiet, .. }: &Arguments) {
    let storm = format!("of {machines} machines at once, not answered, less is better");
    println!("\nLogs: {}. {}", if *quiet { "as little as each can" } else { BY_DEFAULT }, HOW_TO_READ);
    println!(
        "\n| DHCP, {rounds} rounds | {} | ratio, and its spread |",
        all.iter().map(|(s, _)| s.name()).collect::<Vec<_>>().join(" | ")
    );
    println!("|---|{}---|", "---|".repeat(all.len()));
    type Figure = fn(&Round) -> f64;
    let rows: [(&str, Figure); 9] = [
        ("DISCOVER, 1 in flight, thousands of OFFERs per CPU s", |r| r.offers_alone),
        ("DISCOVER, 32 in flight, thousands of OFFERs per CPU s", |r| r.offers),
        ("… p99, ms from DISCOVER to OFFER, less is better", |r| r.offers_p99),
        ("REQUEST on port 4011, 32 in flight, thousands of ACKs per CPU s", |r| r.acks),
        (&storm, |r| r.storm.lost as f64),
        ("of those answered: median ms from DISCOVER to OFFER, less is better", |r| r.storm.median),
        ("… and p99, ms, less is better", |r| r.storm.p99),
        ("requests that were not answered, less is better", |r| r.unanswered as f64),
        ("RSS at its highest, MB, less is better", |r| r.rss),
    ];
    for (name, of) in rows {
        let figures: Vec<Vec<f64>> = all.iter().map(|(_, rounds)| rounds.iter().map(of).collect()).collect();
        let cells: Vec<String> =
            figures.iter().map(|figures| format!("{:.1}", median(figures.clone()).unwrap_or(f64::NAN))).collect();
        let ratio = match figures.as_slice() {
            [ours, others] => beside(ours, others),
            _ => None,
        };
        let ratio =
            ratio.map_or_else(String::new, |(ratio, least, most)| format!("{ratio:.2}× ({least:.2}–{most:.2})"));
        println!("| {name} | {} | {ratio} |", cells.join(" | "));
    }
}

/// How all servers log.
const BY_DEFAULT: &str = "all servers' as they are by default, to where nobody reads them";
/// Above a table.
const HOW_TO_READ: &str = "A ratio is netbootd's figure divided by the other server's. Its spread is that of the rounds, each \
    beside the same round.";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
const IN_FLIGHT: usize = 32;
