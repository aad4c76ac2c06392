//! netbootd, nginx (sendfile) and axum with tower-http's ServeDir, in turn, on one host of a lab; their clients on
//! another. Counts CPU seconds of the server alone, and prints a table of ratios.
//!
//! ```sh
//! cargo build --release --workspace --bins && target/release/netbootd-bench-http
//! ```

mod client;
mod server;

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use netbootd_lab::{Lab, NETWORK_TOOLS, Tool, check};

use crate::{
    client::{download, small, stall},
    server::{Kind, Server},
};

fn main() -> Result<()> {
    if let [_, word, folder] = std::env::args().collect::<Vec<_>>().as_slice()
        && word == "serve-dir"
    {
        return server::serve_dir(folder);
    }
    check(&[NETWORK_TOOLS, &[Tool::new("/usr/sbin/nginx", "nginx-light")]])?;
    let lab = Lab::new()?;
    let host = lab.host("server", Some("10.77.0.2/24"))?;
    let client = lab.host("client", Some("10.77.0.50/24"))?;
    let folder = lab.directory().join("assets");
    fs::create_dir(&folder)?;
    // Numbers, so that no file system keeps it as a hole.
    let megabyte: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
    fs::write(folder.join("big"), megabyte.repeat(512))?;
    fs::write(folder.join("small"), megabyte.get(..4096).context("4 KiB")?)?;

    let mut all: Vec<(Kind, Vec<Figures>)> = Kind::ALL.map(|kind| (kind, Vec::new())).into();
    for round in 1..=ROUNDS {
        for (kind, rounds) in &mut all {
            let figures = measure(*kind, &lab, &host, &client)?;
            println!("round {round}, {}: {figures:.1?}", kind.name());
            rounds.push(figures);
        }
    }
    print_table(&all);
    Ok(())
}

/// Of one server in one round.
#[derive(Clone, Copy, Debug)]
struct Figures {
    /// MB per CPU second.
    one: f64,
    /// MB per CPU second.
    hundred: f64,
    /// Requests per CPU second, thousands.
    small: f64,
    /// MB that its memory grew by.
    stalled_200: f64,
    stalled_1000: f64,
    /// Of a fresh client's small file beside 1,000 stalled ones, milliseconds.
    fresh: f64,
    /// MB, at its highest.
    rss: f64,
}

fn measure(kind: Kind, lab: &Lab, host: &netbootd_lab::Host, client: &netbootd_lab::Host) -> Result<Figures> {
    let server = Server::start(kind, lab, host)?;
    let prefix = kind.prefix();
    let (big, little) = (format!("{prefix}/big"), format!("{prefix}/small"));
    client.enter(|| -> Result<Figures> {
        // Warms the page cache and the server.
        download(1, &big, 512 << 20)?;
        let per_cpu = |work: &dyn Fn() -> Result<f64>| -> Result<f64> {
            let before = server.cpu()?;
            let done = work()?;
            Ok(done / (server.cpu()? - before).as_secs_f64())
        };
        let one = per_cpu(&|| (0..4).map(|_| download(1, &big, 512 << 20)).sum())?;
        let hundred = per_cpu(&|| download(100, &big, 40 << 20))?;
        let small = per_cpu(&|| small(50, &little, Duration::from_secs(3)))? / 1e3;
        let rss = server.rss()?;
        let stalled = stall(200, &big)?;
        let stalled_200 = server.rss()? - rss;
        let more = stall(800, &big)?;
        let stalled_1000 = server.rss()? - rss;
        let fresh = client::latency(&little)?.as_secs_f64() * 1e3;
        drop((stalled, more));
        Ok(Figures { one, hundred, small, stalled_200, stalled_1000, fresh, rss })
    })?
}

fn print_table(all: &[(Kind, Vec<Figures>)]) {
    let median = |rounds: &[Figures], of: fn(&Figures) -> f64| -> f64 {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!(
        "\n| server | 1 client, MB/CPU s | 100 clients, MB/CPU s | 4 KiB, k/CPU s | RSS MB | 200 stalled, + MB | 1,000 stalled, + MB | fresh beside them, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let base = all.iter().find(|(kind, _)| *kind == Kind::Nginx).map(|(_, rounds)| rounds.as_slice()).unwrap_or(&[]);
    for (kind, rounds) in all {
        let figure = |of| median(rounds, of);
        let ratio = |of| format!("{:.1} ({:.2}×)", median(rounds, of), median(rounds, of) / median(base, of));
        println!(
            "| {} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.2} |",
            kind.name(),
            ratio(|f| f.one),
            ratio(|f| f.hundred),
            ratio(|f| f.small),
            figure(|f| f.rss),
            figure(|f| f.stalled_200),
            figure(|f| f.stalled_1000),
            figure(|f| f.fresh)
        );
    }
}

const ROUNDS: u32 = 3;
