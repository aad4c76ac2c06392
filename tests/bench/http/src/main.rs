//! netbootd, nginx (sendfile) and axum with tower-http's ServeDir, in turn, on one host of a lab; their clients on
//! another. Counts CPU seconds of the server alone, and prints a table of ratios. With names of rows, only those.
//!
//! ```sh
//! cargo build --release --workspace --bins && target/release/netbootd-bench-http [ROW…]
//! ```

mod client;
mod rows;
mod server;

use std::{env, fs, process::Command};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Host, Lab, NETWORK_TOOLS, Tool, check};

use crate::{
    rows::{ROWS, Row, Run},
    server::{Kind, Server},
};

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    if let [word, folder] = words.as_slice()
        && word == "serve-dir"
    {
        return server::serve_dir(folder);
    }
    let rows: Vec<&Row> = ROWS.iter().filter(|row| words.is_empty() || words.iter().any(|w| w == row.name)).collect();
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    ensure!(!rows.is_empty(), "the rows are {}", names.join(", "));
    check(&[NETWORK_TOOLS, TOOLS])?;
    let lab = Lab::new()?;
    let host = lab.host("server", Some("10.77.0.2/24"))?;
    let client = lab.host("client", Some("10.77.0.50/24"))?;
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

    let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
    println!("congestion control: {}, rounds: {ROUNDS}", congestion.trim());
    println!("\n| | {} |", Kind::ALL.map(Kind::name).join(" | "));
    println!("|---|{}", "---|".repeat(Kind::ALL.len()));
    for row in rows {
        let mut figures = Kind::ALL.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            let kinds = Kind::ALL.into_iter().zip(&mut figures);
            for (kind, figures) in kinds.filter(|(kind, _)| *kind == Kind::Netbootd || row.name != IMAGE) {
                // A server that turns clients away has no figure; the others still have theirs.
                figures.push(measure(row, kind, &lab, &host, &client).unwrap_or_else(|error| {
                    eprintln!("{}, {}: {error:#}", row.name, kind.name());
                    f64::NAN
                }));
            }
        }
        println!("{}", line(row, &figures));
    }
    Ok(())
}

/// One figure, of a server that has just been started.
fn measure(row: &Row, kind: Kind, lab: &Lab, host: &Host, client: &Host) -> Result<f64> {
    let server = Server::start(kind, lab, host)?;
    let prefix = kind.prefix();
    let file = lab.directory().join("assets/big");
    let at = |name: &str| format!("{prefix}/{name}");
    let run = Run { server: &server, host, file, big: at("big"), small: at("small"), in_image: at("big.iso/big") };
    client.enter(|| (row.measure)(&run))?
}

/// Medians, beside nginx's, with the lowest and the highest figure.
fn line(row: &Row, figures: &[Vec<f64>]) -> String {
    let median = |figures: &[f64]| -> f64 {
        let mut figures = figures.to_vec();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let nginx = Kind::ALL.iter().position(|kind| *kind == Kind::Nginx).and_then(|at| figures.get(at));
    let base = nginx.map_or(f64::NAN, |figures| median(figures));
    let cell = |figures: &Vec<f64>| match median(figures) {
        _ if figures.is_empty() => "–".to_owned(),
        failed if failed.is_nan() => "turns clients away".to_owned(),
        median => {
            let (least, most) = figures.iter().fold((f64::MAX, f64::MIN), |(l, m), f| (l.min(*f), m.max(*f)));
            let beside = if base.is_nan() { String::new() } else { format!("{:.2}×; ", median / base) };
            format!("{median:.2} ({beside}{least:.2}–{most:.2})")
        }
    };
    let cells: Vec<String> = figures.iter().map(cell).collect();
    format!("| {}: {} | {} |", row.name, row.what, cells.join(" | "))
}

const TOOLS: &[Tool] = &[
    Tool::new("/usr/sbin/nginx", "nginx-light"),
    Tool::new("ss", "iproute2"),
    Tool::new("xorriso", "xorriso"),
    Tool::new("dd", "coreutils"),
    Tool::new("fincore", "util-linux"),
];
const ROUNDS: u32 = 3;
/// The row that only ours has a figure in: others serve no files of images.
const IMAGE: &str = "image";
