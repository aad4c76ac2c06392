//! What a server costs: CPU time and memory, seen from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{Host, Process};

/// A control group of its own for a server: CPU time of all its threads and children, also of those that have ended
/// and were never waited for.
#[derive(Debug)]
pub struct Meter(PathBuf);

impl Meter {
    /// Puts a process that has just been started into its group.
    pub fn new(process: &Process) -> Result<Meter> {
        let version_1 = Path::new("/sys/fs/cgroup/cpuacct");
        let root = if version_1.is_dir() { version_1 } else { Path::new("/sys/fs/cgroup") };
        let meter = Meter(root.join(format!("netbootd-bench-{}", process.pid())));
        fs::create_dir(&meter.0).with_context(|| format!("making the control group {}", meter.0.display()))?;
        fs::write(meter.0.join("cgroup.procs"), process.pid().to_string())?;
        Ok(meter)
    }

    /// CPU time so far in seconds.
    pub fn seconds(&self) -> Result<f64> {
        if let Ok(nanoseconds) = fs::read_to_string(self.0.join("cpuacct.usage")) {
            return Ok(nanoseconds.trim().parse::<f64>()? / 1e9);
        }
        let stat = fs::read_to_string(self.0.join("cpu.stat"))?;
        let microseconds = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        Ok(microseconds.context("no usage_usec in cpu.stat")?.parse::<f64>()? / 1e6)
    }

    /// Ends what is left of the server, and the group with it.
    pub fn end(self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            for pid in fs::read_to_string(self.0.join("cgroup.procs"))?.lines() {
                // It may have ended since it was listed.
                let _ = Command::new("kill").args(["-KILL", pid]).output()?;
            }
            match fs::remove_dir(&self.0) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// The most memory that a process has had, in MB.
pub fn peak_megabytes(process: &Process) -> Result<f64> {
    memory(process, "VmHWM:")
}

/// The memory that a process has now, in MB.
pub fn resident_megabytes(process: &Process) -> Result<f64> {
    memory(process, "VmRSS:")
}

fn memory(process: &Process, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// Waits until somebody on this host has a UDP port.
pub fn wait_until_bound(host: &Host, port: u16, process: &Process) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let ending = format!(":{port:04X}");
    loop {
        let sockets = host.enter(|| fs::read_to_string("/proc/thread-self/net/udp"))??;
        if sockets.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&ending))) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{} did not open port {port}; it printed {:?}", process.label(), process.lines());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The middle one; `None` of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// In seconds, of times that are in order: 0.5 for the median, 0.99 for what all but one of a hundred stay below.
pub fn quantile(sorted: &[Duration], part: f64) -> f64 {
    let index = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(f64::NAN, Duration::as_secs_f64)
}
