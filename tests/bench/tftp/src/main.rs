//! TFTP servers in turn, each on a host of a lab, read by the same clients on another host. CPU time before wall time;
//! only ratios of one run mean something.
//!
//! `cargo build --release --workspace && target/release/netbootd-bench-tftp`

#![expect(clippy::indexing_slicing, reason = "a client that reads past a packet fails, as it should")]

mod servers;

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use netbootd_lab::{
    Host, Lab, NETWORK_TOOLS, beside, median, peak_megabytes, pin_to_first_cpu, quantile,
    tftp_crowd::{Fetch, crowd},
    weather::Weather,
};

use crate::servers::{Place, Server};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Serve>,
    /// Rows to measure, by a part of their name [default: all]
    #[arg(long)]
    row: Vec<String>,
    /// Servers [default: all]
    #[arg(long, value_enum)]
    server: Vec<Server>,
    /// The servers take turns this often; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Folder that holds peers' programs in bin/ or usr/sbin/, repeatable
    #[arg(long)]
    peers: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Serve {
    /// async-tftp is a library: this is its example server
    #[command(hide = true)]
    ServeAsyncTftp { address: Ipv4Addr, folder: PathBuf },
}

/// A line of the table.
struct Row {
    name: &'static str,
    file: &'static str,
    block_size: usize,
    window: u64,
    clients: u16,
    /// Times that each client fetches the file.
    times: u32,
    /// One CPU for both ends: else the wake-up of the other CPU is all that a single client measures.
    is_pinned: bool,
    /// Of the clients' cable.
    weather: Option<Weather>,
    /// For what takes long.
    most_rounds: usize,
}

/// Rows differ from this one.
const ROW: Row = Row {
    name: "",
    file: "big",
    block_size: 1468,
    window: 1,
    clients: 1,
    times: 1,
    is_pinned: false,
    weather: None,
    most_rounds: usize::MAX,
};

const ROWS: &[Row] = &[
    Row { name: "lock-step 512", file: "small", block_size: 512, is_pinned: true, ..ROW },
    Row { name: "lock-step 1468", is_pinned: true, ..ROW },
    Row { name: "window 4", window: 4, times: 2, is_pinned: true, ..ROW },
    Row { name: "window 16", window: 16, times: 4, is_pinned: true, ..ROW },
    Row { name: "window 64", window: 64, times: 4, is_pinned: true, ..ROW },
    Row { name: "w16, 50 clients", file: "small", window: 16, clients: 50, ..ROW },
    Row { name: "storm of 50", file: "snponly.efi", clients: 50, times: 4, ..ROW },
    Row { name: "storm of 500", file: "snponly.efi", clients: 500, most_rounds: 2, ..ROW },
    // Most servers leave it to the client to ask again, 4 s after each packet that is lost. So the file is short.
    Row { name: "1 % loss, 200 kB", file: "short.efi", clients: 20, weather: Some(LOSSY), most_rounds: 1, ..ROW },
    Row { name: "5 ms, lock-step", file: "snponly.efi", clients: 20, weather: Some(FAR), most_rounds: 1, ..ROW },
    Row { name: "5 ms, window 16", file: "snponly.efi", window: 16, clients: 20, weather: Some(FAR), ..ROW },
];

const LOSSY: Weather = Weather { lost: 10, ..Weather::FAIR };
/// A round trip of 10 ms.
const FAR: Weather = Weather { delay: Duration::from_millis(5), ..Weather::FAIR };

/// What one server did in one round of a row.
struct Measured {
    cpu: f64,
    wall: f64,
    megabytes: f64,
    peak: f64,
    took: Vec<Duration>,
    failures: Vec<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Serve::ServeAsyncTftp { address, folder }) = arguments.command {
        return serve_async_tftp(address, folder);
    }
    netbootd_lab::check(&[NETWORK_TOOLS])?;
    let lab = Lab::new()?;
    let (ours, theirs) = (format!("{SERVER}/16"), "10.77.0.50/16");
    let wired = lab.two_hosts([("server", &ours), ("client", theirs)])?;
    // Weather needs a switch.
    let switched = [lab.host("far-server", Some(&ours))?, lab.host("far-client", Some(theirs))?];
    // Each client has an address of its own.
    for [_, client] in [&wired, &switched] {
        client.ip(&["route", "add", "local", "10.77.128.0/17", "dev", "eth1"])?;
    }
    let folder = lab.directory().join("files");
    fs::create_dir(&folder)?;
    let files = [
        ("big", 64_000_000, false),
        ("small", 16_000_000, false),
        ("snponly.efi", 1_000_000, true),
        ("short.efi", 200_000, true),
    ];
    for (name, size, is_loader) in files {
        fs::write(folder.join(name), contents(size, is_loader))?;
    }
    let every = [Server::Dnsmasq, Server::TftpdHpa, Server::Atftpd, Server::Tftpd, Server::AsyncTftp, Server::Netbootd];
    let chosen = if arguments.server.is_empty() { every.to_vec() } else { arguments.server.clone() };
    println!("{}", std::env::args().collect::<Vec<_>>().join(" "));
    let mut table = Vec::new();
    for row in ROWS
        .iter()
        .filter(|row| arguments.row.is_empty() || arguments.row.iter().any(|part| row.name.contains(part.as_str())))
    {
        println!(
            "\n{:<16} {:>9} {:>9} {:>10} {:>9} {:>9} {:>8}  wrong",
            row.name, "MB/CPU s", "MB/s", "files/s", "median s", "p99 s", "RSS MB"
        );
        let [host, client] = if row.weather.is_some() { &switched } else { &wired };
        let place = Place { host, address: SERVER, folder: &folder, peers: &arguments.peers };
        let _cable = row.weather.map(|weather| weather.over(&lab, "port1")).transpose()?;
        let mut rounds: Vec<(Server, Vec<Measured>)> = chosen.iter().map(|server| (*server, Vec::new())).collect();
        for _ in 0..arguments.rounds.min(row.most_rounds) {
            for (server, results) in &mut rounds {
                if row.window == 1 || server.has_windows() {
                    results.push(measure(*server, row, &place, client)?);
                }
            }
        }
        report(&rounds);
        table.extend(line(row, &rounds, arguments.rounds));
    }
    println!("\n{HOW_TO_READ}");
    println!(
        "\n| TFTP, MB per CPU s, {} rounds | netbootd | best other server | ratio, and its spread | time of the median client, less is better | RSS MB |",
        arguments.rounds
    );
    println!("|---|---|---|---|---|---|");
    table.iter().for_each(|line| println!("{line}"));
    Ok(())
}

fn measure(server: Server, row: &Row, place: &Place<'_>, client: &Host) -> Result<Measured> {
    let expected = Arc::new(fs::read(place.folder.join(row.file))?);
    let fetch = Fetch { name: row.file, expected: expected.clone(), block_size: row.block_size, window: row.window };
    let (process, meter) = server.start(place, row.is_pinned)?;
    let fetched = |clients| {
        client.enter(|| -> Result<_> {
            if row.is_pinned {
                pin_to_first_cpu()?;
            }
            crowd((1..=clients).map(own_address), &fetch, SERVER)
        })?
    };
    let (cpu, began) = (meter.seconds()?, Instant::now());
    let (mut took, mut failures) = (Vec::new(), Vec::new());
    for _ in 0..row.times {
        for outcome in fetched(row.clients)? {
            match outcome {
                Ok(time) => took.push(time),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
    }
    let wall = began.elapsed().as_secs_f64();
    let cpu = meter.seconds()? - cpu;
    took.sort_unstable();
    let megabytes = expected.len() as f64 * took.len() as f64 / 1e6;
    let peak = peak_megabytes(&process)?;
    drop(process);
    meter.end()?;
    Ok(Measured { cpu, wall, megabytes, peak, took, failures })
}

/// The median round of each server.
fn report(rounds: &[(Server, Vec<Measured>)]) {
    for (server, results) in rounds {
        let Some(per_cpu) = middle(results, Measured::per_cpu) else {
            println!("{:<16} no windows", server.name());
            continue;
        };
        let wrong: Vec<&str> = results.iter().flat_map(|r| &r.failures).map(String::as_str).collect();
        println!(
            "{:<16} {per_cpu:>9.0} {:>9.0} {:>10.1} {:>9.3} {:>9.3} {:>8.1}  {}",
            server.name(),
            middle(results, |r| r.megabytes / r.wall).unwrap_or_default(),
            middle(results, |r| r.took.len() as f64 / r.wall).unwrap_or_default(),
            middle(results, |r| quantile(&r.took, 0.5)).unwrap_or_default(),
            middle(results, |r| quantile(&r.took, 0.99)).unwrap_or_default(),
            peak(results),
            wrong.first().map_or_else(String::new, |first| format!("{} times, {first}", wrong.len())),
        );
    }
}

/// A line of the table: netbootd beside the best other server that sent every file whole. The spread is that of the
/// rounds, each beside the same round of that server.
fn line(row: &Row, results: &[(Server, Vec<Measured>)], rounds: usize) -> Option<String> {
    let (_, ours) = results.iter().find(|(server, _)| *server == Server::Netbootd)?;
    let is_whole = |results: &[Measured]| !results.is_empty() && results.iter().all(|r| r.failures.is_empty());
    let others = results.iter().filter(|(server, results)| *server != Server::Netbootd && is_whole(results));
    let of = |results: &[Measured]| middle(results, Measured::per_cpu).unwrap_or_default();
    let (server, best) = others.max_by(|(_, a), (_, b)| of(a).total_cmp(&of(b)))?;
    let per_cpu = |results: &[Measured]| results.iter().map(Measured::per_cpu).collect::<Vec<_>>();
    let (ratio, least, most) = beside(&per_cpu(ours), &per_cpu(best))?;
    let time = |results: &[Measured]| middle(results, |r| quantile(&r.took, 0.5)).unwrap_or_default();
    let fewer = match row.most_rounds {
        most if most >= rounds => String::new(),
        1 => ", 1 round".to_owned(),
        most => format!(", {most} rounds"),
    };
    Some(format!(
        "| {}{fewer} | {:.0} | {} {:.0} | {ratio:.2}× ({least:.2}–{most:.2}) | {:.2}× | {:.1} |",
        row.name,
        of(ours),
        server.name(),
        of(best),
        time(ours) / time(best),
        peak(ours),
    ))
}

impl Measured {
    fn per_cpu(&self) -> f64 {
        self.megabytes / self.cpu.max(0.01)
    }
}

fn middle(results: &[Measured], of: impl Fn(&Measured) -> f64) -> Option<f64> {
    median(results.iter().map(of).collect())
}

fn peak(results: &[Measured]) -> f64 {
    results.iter().map(|r| r.peak).fold(0.0, f64::max)
}

/// Bytes that repeat nowhere near a block's length; behind the headers of an EFI program where netbootd is to take it
/// for a loader.
fn contents(length: usize, is_loader: bool) -> Vec<u8> {
    let mut state = length as u64;
    let mut bytes: Vec<u8> = (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    if is_loader {
        bytes[..0x46].fill(0);
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
    }
    bytes
}

fn serve_async_tftp(address: Ipv4Addr, folder: PathBuf) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = async_tftp::server::TftpServerBuilder::with_dir_ro(folder)?;
        server.bind((address, 69).into()).build().await?.serve().await?;
        Ok(())
    })
}

/// Each client's, since servers limit what one address can have.
fn own_address(client: u16) -> Ipv4Addr {
    let [high, low] = client.to_be_bytes();
    Ipv4Addr::new(10, 77, 128 + high, low)
}

/// Above the table.
const HOW_TO_READ: &str = "Logs: all servers' as they are by default, to a file that nobody reads. A ratio is \
    netbootd's figure divided by that of the best other server that sent every file whole. Its spread is that of the \
    rounds, each beside the same round. The time is the ratio of the same two servers.";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
