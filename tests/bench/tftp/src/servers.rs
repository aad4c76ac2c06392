//! The servers, each as its own documentation says to run it, with the least logging that it has.

use std::{
    env, fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use netbootd_lab::{Host, Process};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Server {
    Netbootd,
    Dnsmasq,
    TftpdHpa,
    Atftpd,
    Tftpd,
    AsyncTftp,
}

impl Server {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Netbootd => "netbootd",
            Self::Dnsmasq => "dnsmasq",
            Self::TftpdHpa => "tftpd-hpa",
            Self::Atftpd => "atftpd",
            Self::Tftpd => "tftpd (crate)",
            Self::AsyncTftp => "async-tftp",
        }
    }

    /// Whether it grants `windowsize`.
    pub(crate) fn has_windows(self) -> bool {
        !matches!(self, Self::Dnsmasq | Self::TftpdHpa)
    }

    /// Starts it on a host, on one CPU; `peers` are folders to look for its program in before `PATH`.
    pub(crate) fn start(self, place: &Place<'_>, cpu: Option<u8>) -> Result<(Process, Meter)> {
        let folder = place.folder.to_str().context("the folder's name is not UTF-8")?;
        let address = place.address.to_string();
        let (program, arguments): (&str, Vec<String>) = match self {
            Self::Netbootd => {
                let config = place.folder.with_extension("toml");
                fs::write(&config, place.configuration())?;
                let config = config.to_str().context("the folder's name is not UTF-8")?.to_owned();
                ("netbootd", vec!["up".into(), "--config".into(), config])
            }
            Self::Dnsmasq => {
                let options =
                    ["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--enable-tftp", "--user=root"];
                let more = [
                    format!("--tftp-root={folder}"),
                    "--tftp-max=1000".into(),
                    "--pid-file".into(),
                    "--quiet-tftp".into(),
                ];
                ("dnsmasq", options.map(str::to_owned).into_iter().chain(more).collect())
            }
            Self::TftpdHpa => {
                ("in.tftpd", strings(&["-L", "-s", "-u", "root", "-a", &format!("{address}:69"), folder]))
            }
            Self::Atftpd => {
                let daemon = ["--daemon", "--no-fork", "--user", "root.root", "--maxthread", "1000", "--verbose=0"];
                (
                    "atftpd",
                    strings(&[&daemon[..], &["--bind-address", &address, "--logfile", "/dev/null", folder]].concat()),
                )
            }
            Self::Tftpd => ("tftpd", strings(&["-i", &address, "-p", "69", "-d", folder, "-r", "-q"])),
            Self::AsyncTftp => ("self", strings(&["serve-async-tftp", &address, folder])),
        };
        let program = if program == "self" { env::current_exe()? } else { place.program(program)? };
        let mut command = match cpu {
            None => place.host.command(&program),
            Some(cpu) => pinned(place.host, &program, cpu),
        };
        // The libraries of packages that were unpacked beside their programs.
        let libraries: Vec<String> =
            place.peers.iter().map(|folder| format!("{}/usr/lib/x86_64-linux-gnu", folder.display())).collect();
        command.env("LD_LIBRARY_PATH", libraries.join(":")).args(arguments);
        let process = Process::spawn(self.name(), &mut command)?;
        let meter = Meter::new(&process)?;
        place.wait_until_bound(&process)?;
        Ok((process, meter))
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn pinned(host: &Host, program: &Path, cpu: u8) -> Command {
    let mut command = host.command("taskset");
    command.args(["-c", &cpu.to_string()]).arg(program);
    command
}

/// Where a server runs.
pub(crate) struct Place<'a> {
    pub(crate) host: &'a Host,
    pub(crate) address: Ipv4Addr,
    pub(crate) folder: &'a Path,
    pub(crate) peers: &'a [PathBuf],
}

impl Place<'_> {
    fn configuration(&self) -> String {
        let folder = self.folder.display();
        format!(
            "interfaces = [\"eth1\"]\nassets = \"{folder}\"\nloader_dirs = [\"{folder}\"]\n[tftp]\nmax_transfers = 1000\n"
        )
    }

    fn program(&self, name: &str) -> Result<PathBuf> {
        let beside = env::current_exe()?.with_file_name(name);
        if name == "netbootd" {
            return Ok(beside);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let peers = self.peers.iter().flat_map(|folder| ["bin", "usr/sbin", "sbin"].map(|below| folder.join(below)));
        let folders = peers.chain(env::split_paths(&path)).chain(["/usr/sbin".into()]);
        let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
        found.with_context(|| format!("{name} is neither in PATH nor below --peers"))
    }

    /// Until somebody has UDP port 69 there.
    fn wait_until_bound(&self, process: &Process) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let sockets = self.host.enter(|| fs::read_to_string("/proc/thread-self/net/udp"))??;
            if sockets.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(":0045")))
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} did not open port 69; it printed {:?}", process.label(), process.lines());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A control group of its own for a server: CPU time of all its threads and children, also of those that have ended
/// and were never waited for.
pub(crate) struct Meter(PathBuf);

impl Meter {
    fn new(process: &Process) -> Result<Self> {
        let version_1 = Path::new("/sys/fs/cgroup/cpuacct");
        let root = if version_1.is_dir() { version_1 } else { Path::new("/sys/fs/cgroup") };
        let meter = Self(root.join(format!("netbootd-bench-{}", process.pid())));
        fs::create_dir(&meter.0).with_context(|| format!("making the control group {}", meter.0.display()))?;
        fs::write(meter.0.join("cgroup.procs"), process.pid().to_string())?;
        Ok(meter)
    }

    /// CPU time so far in seconds.
    pub(crate) fn seconds(&self) -> Result<f64> {
        if let Ok(nanoseconds) = fs::read_to_string(self.0.join("cpuacct.usage")) {
            return Ok(nanoseconds.trim().parse::<f64>()? / 1e9);
        }
        let stat = fs::read_to_string(self.0.join("cpu.stat"))?;
        let microseconds = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        Ok(microseconds.context("no usage_usec in cpu.stat")?.parse::<f64>()? / 1e6)
    }

    /// Ends what is left of the server, and the group with it.
    pub(crate) fn end(self) -> Result<()> {
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
pub(crate) fn peak_megabytes(process: &Process) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
