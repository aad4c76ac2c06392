//! netbootd, nginx (sendfile) with its log and without, and axum with tower-http's ServeDir, in turn, on one host of a
//! lab; their clients on another. Counts CPU seconds of the server alone, and prints a table of ratios.
//!
//! ```sh
//! cargo build --release --workspace --bins && target/release/netbootd-bench-http
//! ```

mod client;
mod rows;
mod server;
mod table;

use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};
use netbootd_lab::{Host, Lab, NETWORK_TOOLS, Tool, check, pin_to_first_cpu};

use crate::{
    rows::{ROWS, Row, Run},
    server::{Kind, Server},
};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Serve>,
    /// Rows to measure, repeatable [default: all]
    #[arg(long, value_parser = PossibleValuesParser::new(ROWS.iter().map(|row| row.name)))]
    row: Vec<String>,
    /// Servers, repeatable [default: all]
    #[arg(long, value_enum)]
    server: Vec<Kind>,
    /// The servers take turns this often, in rows that take long less often; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Subcommand)]
enum Serve {
    /// ServeDir is a library: this is its server
    #[command(hide = true)]
    ServeDir { folder: PathBuf },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Serve::ServeDir { folder }) = arguments.command {
        return server::serve_dir(folder);
    }
    check(&[NETWORK_TOOLS, TOOLS])?;
    let lab = Lab::new()?;
    let [host, client] = lab.two_hosts([("server", "10.77.0.2/24"), ("client", "10.77.0.50/24")])?;
    let control = congestion_control(&[&host, &client])?;
    // Tens of thousands of connections are made one after the other, and the kernel keeps each port for a minute.
    client.enter(|| fs::write(PORTS, "1024 65535"))?.with_context(|| PORTS)?;
    make_files(&lab)?;

    let all = Kind::value_variants().iter().copied();
    let kinds: Vec<Kind> = all.filter(|kind| arguments.server.is_empty() || arguments.server.contains(kind)).collect();
    println!("congestion control: {control} at both ends for all, with the same files. {}", table::HOW_TO_READ);
    println!("{}", table::head(&kinds, arguments.rounds));
    for row in ROWS.iter().filter(|row| arguments.row.is_empty() || arguments.row.iter().any(|name| name == row.name)) {
        let mut figures: Vec<(Kind, Vec<f64>)> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
        for _ in 0..arguments.rounds.min(row.most_rounds) {
            for (kind, figures) in figures.iter_mut().filter(|(kind, _)| *kind == Kind::Netbootd || !row.is_only_ours) {
                // A server that turns clients away has no figure; the others still have theirs.
                figures.push(measure(row, *kind, &lab, &host, &client).unwrap_or_else(|error| {
                    eprintln!("{}, {}: {error:#}", row.name, kind.name());
                    f64::NAN
                }));
            }
        }
        println!("{}", table::line(row, &figures, arguments.rounds));
    }
    Ok(())
}

/// Sets the congestion control of both hosts, and returns it. What the machine itself uses is not every machine's, and is
/// left as it is: this is a setting of each namespace.
fn congestion_control(hosts: &[&Host]) -> Result<&'static str> {
    let is_set = |control: &str| -> Result<bool> {
        for host in hosts {
            // A kernel that lacks it or, as `tcp_allowed_congestion_control` has it, keeps it from namespaces says so.
            let set = host.enter(|| {
                fs::write(CONGESTION_CONTROL, control).and_then(|()| fs::read_to_string(CONGESTION_CONTROL))
            })?;
            if set.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    for control in CONTROLS {
        if is_set(control)? {
            return Ok(control);
        }
    }
    bail!("this kernel lets no namespace have one of the congestion controls {}", CONTROLS.join(" and "))
}

/// What all servers serve.
fn make_files(lab: &Lab) -> Result<()> {
    let folder = lab.directory().join("assets");
    fs::create_dir(&folder)?;
    // Numbers, so that no file system keeps it as a hole.
    let megabyte: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
    fs::write(folder.join("big"), megabyte.repeat(512))?;
    fs::write(folder.join("small"), megabyte.get(..4096).context("4 KiB")?)?;

    let image = lab.directory().join("big.iso");
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-r", "-o"]).arg(&image).arg("-graft-points");
    let made = xorriso.arg(format!("big={}", folder.join("big").display())).output()?;
    ensure!(made.status.success(), "xorriso: {}", String::from_utf8_lossy(&made.stderr));
    // Written as the file beside it was: the page cache keeps what is written in small pieces in small pieces.
    fs::write(folder.join("big.iso"), fs::read(&image)?)?;
    fs::remove_file(&image)?;

    // Nothing is written to the disk while servers are measured.
    for file in fs::read_dir(&folder)? {
        fs::File::open(file?.path())?.sync_all()?;
    }
    thread::sleep(SETTLED);
    Ok(())
}

/// One figure, of a server that has just been started.
fn measure(row: &Row, kind: Kind, lab: &Lab, host: &Host, client: &Host) -> Result<f64> {
    let server = Server::start(kind, lab, host, row.is_pinned)?;
    let prefix = kind.prefix();
    let file = lab.directory().join("assets/big");
    let at = |name: &str| format!("{prefix}/{name}");
    let run = Run { server: &server, host, file, big: at("big"), small: at("small"), in_image: at("big.iso/big") };
    let figure = client.enter(|| {
        if row.is_pinned {
            pin_to_first_cpu()?;
        }
        (row.measure)(&run)
    });
    server.stop()?;
    figure?
}

const TOOLS: &[Tool] = &[
    Tool::new("/usr/sbin/nginx", "nginx-light"),
    Tool::new("ss", "iproute2"),
    Tool::new("xorriso", "xorriso"),
    Tool::new("dd", "coreutils"),
    Tool::new("fincore", "util-linux"),
    Tool::new("taskset", "util-linux"),
];
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// The usual one of Linux, then one that every kernel has.
const CONTROLS: [&str; 2] = ["cubic", "reno"];
const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// netbootd keeps a small file in memory when it has not changed for 2 s.
const SETTLED: Duration = Duration::from_secs(3);
