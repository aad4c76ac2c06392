//! How many leases a CPU second of each leasing server gives, from DISCOVER to ACK: netbootd, dnsmasq and Kea, in turn, to
//! the machines of perfdhcp.

use std::{
    env, fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{
    DNSMASQ, Host, KEA, KEA_LIBRARIES, Lab, Meter, Process, Tool, beside, median, unread, wait_until_bound,
};

use crate::{BY_DEFAULT, HOW_TO_READ};

const TOOLS: &[Tool] = &[KEA, Tool::new("/usr/sbin/perfdhcp", "kea-admin"), Tool::new(DNSMASQ, "dnsmasq-base")];
/// Machines of a round. dnsmasq looks through all its leases for each of them, and writes all of them for each.
const MACHINES: u32 = 2000;

#[derive(Clone, Copy, Debug)]
enum Server {
    Netbootd,
    Dnsmasq,
    Kea,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Netbootd => "netbootd",
            Self::Dnsmasq => "dnsmasq",
            Self::Kea => "Kea",
        }
    }
}

/// The first look for another DHCP server takes some seconds.
const START: Duration = Duration::from_secs(30);

/// Each as its manual says, for 10.77.1.0 to 10.77.200.255, without a trial of each address, with its leases on the
/// disk and its log as it is by default.
fn start(server: Server, lab: &Lab, host: &Host) -> Result<(Process, Meter)> {
    let at = |name: &str| lab.directory().join(name).display().to_string();
    let printed = lab.directory().join("printed.log");
    fs::write(&printed, "")?;
    let mut command = unread(host, &printed);
    match server {
        Server::Netbootd => {
            let text = "[lease]\nclients = \"all\"\nrange = \"10.77.1.0-10.77.200.255\"\n\
                        [dhcp]\nmax_rate = 1000000\nmax_rate_per_client = 1000000\n";
            fs::write(at("netbootd.toml"), text)?;
            command.arg(env::current_exe()?.with_file_name("netbootd")).env_remove("NETBOOTD_LOG");
            command.args(["up", "--interface", "eth1", "--config", &at("netbootd.toml")]);
        }
        Server::Dnsmasq => {
            command.args([
                DNSMASQ,
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
                "--pid-file",
            ]);
            command.args(["--log-facility=-", "--interface=eth1", "--no-ping", "--dhcp-authoritative"]);
            command.args(["--dhcp-lease-max=100000", "--dhcp-range=10.77.1.0,10.77.200.255,255.255.0.0,1h"]);
            command.arg(format!("--dhcp-leasefile={}", at("dnsmasq.leases")));
        }
        Server::Kea => {
            let text = format!(
                r#"{{ "Dhcp4": {{ "interfaces-config": {{ "interfaces": [ "eth1" ] }}, "valid-lifetime": 3600,
                "lease-database": {{ "type": "memfile", "persist": true, "name": "{}" }},
                "loggers": [ {{ "name": "kea-dhcp4", "output_options": [ {{ "output": "stdout" }} ], "severity": "INFO" }} ],
                "subnet4": [ {{ "subnet": "10.77.0.0/16", "pools": [ {{ "pool": "10.77.1.0 - 10.77.200.255" }} ] }} ] }} }}"#,
                at("kea.leases")
            );
            fs::write(at("kea.conf"), text)?;
            command.args([KEA.file, "-c", &at("kea.conf")]).env("LD_LIBRARY_PATH", KEA_LIBRARIES);
            command.env("KEA_PIDFILE_DIR", lab.directory()).env("KEA_LOCKFILE_DIR", "none");
        }
    }
    let (process, meter) = Meter::spawn(server.name(), &mut command)?;
    match server {
        Server::Netbootd => {
            let began = Instant::now();
            while !fs::read_to_string(&printed)?.contains("addresses are leased") {
                ensure!(began.elapsed() < START, "netbootd leases nothing: {}", fs::read_to_string(&printed)?);
                thread::sleep(Duration::from_millis(50));
            }
        }
        Server::Dnsmasq | Server::Kea => wait_until_bound(host, 67, &process)?,
    }
    Ok((process, meter))
}

/// Thousands of machines for each CPU second, and how many were not served.
fn measured(server: Server) -> Result<(f64, u32)> {
    let lab = Lab::new()?;
    let [host, client] = lab.two_hosts([("server", "10.77.0.2/16"), ("client", "10.77.0.50/16")])?;
    let (process, meter) = start(server, &lab, &host)?;
    let crowd = |seed: u32| -> Result<u32> {
        let (machines, seed) = (MACHINES.to_string(), seed.to_string());
        let output = client
            .command("timeout")
            .args(["120", "/usr/sbin/perfdhcp", "-4", "-l", "eth1", "-r", "1000", "-R", "100000", "-s", &seed])
            .args(["-n", &machines, "-W", "2000000"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut received = said.lines().filter_map(|line| line.strip_prefix("received packets: ")?.trim().parse().ok());
        // Offers, then confirmations.
        received.next_back().with_context(|| said.clone())
    };
    let before = meter.seconds()?;
    let served = crowd(1)?;
    let spent = meter.seconds()? - before;
    ensure!(served > 0, "{} served nobody", server.name());
    drop(process);
    meter.end()?;
    Ok((f64::from(served) / spent / 1e3, MACHINES.saturating_sub(served)))
}

pub(crate) fn print_table(rounds: usize) -> Result<()> {
    netbootd_lab::check(&[TOOLS])?;
    let all = [Server::Netbootd, Server::Dnsmasq, Server::Kea];
    let mut figures = [Vec::new(), Vec::new(), Vec::new()];
    let mut lost = [0; 3];
    for round in 1..=rounds {
        for ((server, figures), lost) in all.iter().zip(&mut figures).zip(&mut lost) {
            let (rate, missing) = measured(*server)?;
            println!("round {round}, {}: {rate:.2} thousand leases per CPU second, {missing} not given", server.name());
            figures.push(rate);
            *lost += missing;
        }
    }
    let ours = figures.first().cloned().unwrap_or_default();
    println!("\nLogs: {BY_DEFAULT}. {HOW_TO_READ}");
    println!(
        "\n| leases, from DISCOVER to ACK | thousands per CPU s | netbootd beside it, and its spread | of {} not given |",
        MACHINES as usize * rounds
    );
    println!("|---|---|---|---|");
    for ((server, figures), lost) in all.iter().zip(&figures).zip(lost) {
        let of = median(figures.clone()).unwrap_or(f64::NAN);
        let ratio = match beside(&ours, figures) {
            Some((ratio, least, most)) => format!("{ratio:.2}× ({least:.2}–{most:.2})"),
            None => String::new(),
        };
        println!("| {} | {of:.2} | {ratio} | {lost} |", server.name());
    }
    Ok(())
}
