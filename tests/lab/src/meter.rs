//! What a server costs: CPU time and memory, seen from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

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
        // A run that was killed left its group. It had a process with this number.
        let _ = fs::remove_dir(&meter.0);
        fs::create_dir(&meter.0).with_context(|| format!("making the control group {}", meter.0.display()))?;
        fs::write(meter.0.join("cgroup.procs"), process.pid().to_string())?;
        Ok(meter)
    }

    /// Starts what [`unread`] made, in a group of its own.
    pub fn spawn(label: &str, command: &mut Command) -> Result<(Process, Meter)> {
        let mut process = Process::spawn(label, command)?;
        let meter = Meter::new(&process)?;
        process.send(b"\n")?;
        Ok((process, meter))
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

    /// The memory that the server has now, in MB: all processes of the group together.
    pub fn resident_megabytes(&self) -> Result<f64> {
        let pids = fs::read_to_string(self.0.join("cgroup.procs"))?;
        pids.lines().map(|pid| memory(pid.parse()?, "VmRSS:")).sum()
    }

    /// Ends what is left of the server, and the group with it.
    pub fn end(self) -> Result<()> {
        self.remove()
    }

    fn remove(&self) -> Result<()> {
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

impl Drop for Meter {
    fn drop(&mut self) {
        // After `end`, it is not there any more.
        if self.0.is_dir() {
            let _ = self.remove();
        }
    }
}

/// A command that has [`Meter::spawn`] start a program on a host: add the program and its arguments. What it prints goes
/// to a file, since somebody who reads it meanwhile would take CPU time from clients.
pub fn unread(host: &Host, printed: &Path) -> Command {
    let mut command = host.command("sh");
    // The shell waits until it is in the group, and then becomes the program: one that starts others at once (nginx)
    // would have them outside.
    command.args(["-c", r#"read -r go; exec "$@" > "$0" 2>&1 < /dev/null"#]).arg(printed);
    command
}

/// The most memory that a process has had, in MB.
pub fn peak_megabytes(process: &Process) -> Result<f64> {
    memory(process.pid(), "VmHWM:")
}

/// The memory that a process has now, in MB.
pub fn resident_megabytes(process: &Process) -> Result<f64> {
    memory(process.pid(), "VmRSS:")
}

fn memory(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// Keeps the calling thread, and those that it starts, on the first CPU. With the server there too, the wake-up of
/// another CPU is not what a single client measures.
pub fn pin_to_first_cpu() -> Result<()> {
    // Of the thread, not of the process: its id is the one that it has in /proc.
    let thread = fs::read_link("/proc/thread-self")?;
    let thread = thread.file_name().context("no thread id")?;
    let status = Command::new("taskset").args(["-pc", "0"]).arg(thread).output()?.status;
    ensure!(status.success(), "taskset: {status}");
    Ok(())
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

/// Ours divided by another's: the ratio of the medians, and the lowest and the highest ratio of the rounds, each beside
/// the same round. `None` where there is no such number.
pub fn beside(ours: &[f64], others: &[f64]) -> Option<(f64, f64, f64)> {
    let ratio = median(ours.to_vec())? / median(others.to_vec())?;
    let ratios = || ours.iter().zip(others).map(|(our, other)| our / other).filter(|ratio| ratio.is_finite());
    ratio.is_finite().then(|| (ratio, ratios().fold(f64::MAX, f64::min), ratios().fold(f64::MIN, f64::max)))
}

/// In seconds, of times that are in order: 0.5 for the median, 0.99 for what all but one of a hundred stay below.
pub fn quantile(sorted: &[Duration], part: f64) -> f64 {
    let index = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(f64::NAN, Duration::as_secs_f64)
}
