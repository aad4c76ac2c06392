//! A Debian of its own in a folder: packages are installed into it, and it is started with its own systemd.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Host, Process};
use tempfile::TempDir;

/// Removed when dropped.
pub(crate) struct Root {
    folder: TempDir,
}

impl Root {
    /// A minimal system of this release; the mirror is asked for it once, and what came is kept in `target/roots`.
    pub(crate) fn debian(release: &str) -> Result<Self> {
        let kept = target().join(format!("roots/{release}.tar"));
        if !kept.exists() {
            fs::create_dir_all(target().join("roots"))?;
            let whole = kept.with_extension("part.tar");
            let include = "--include=systemd,systemd-sysv,dbus,iproute2";
            run(Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", include, release]).arg(&whole))?;
            fs::rename(whole, &kept)?;
        }
        // Not in /tmp, where the machine that is started has a file system of its own.
        let folder = tempfile::Builder::new().prefix("netbootd-root-").tempdir_in("/var/tmp")?;
        run(Command::new("tar").arg("-C").arg(folder.path()).arg("-xf").arg(&kept))?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name.trim_start_matches('/'))
    }

    pub(crate) fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.path(name)).with_context(|| format!("reading {name}"))
    }

    /// Runs a program in it, where nothing else runs; with this machine's network, for the mirror. What it printed.
    pub(crate) fn run(&self, program: &[&str]) -> Result<String> {
        run(container(&self.folder, &mut Command::new("systemd-nspawn")).args(["--pipe", "--"]).args(program))
    }

    /// Starts it on a host of the lab, with a folder of that host's as `/srv/netboot`.
    pub(crate) fn start(&self, host: &Host, assets: &Path) -> Result<Running> {
        // Not by `ip netns exec`, whose /sys has no control groups.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", host.namespace())).arg("systemd-nspawn");
        container(&self.folder, &mut command).args(["--boot", "--console=pipe"]);
        // Its own filter stands before the service's; it does not know these.
        command.arg("--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self");
        command.arg(format!("--bind-ro={}:/srv/netboot", assets.display()));
        let running = Running { process: Process::spawn("systemd", &mut command)? };
        let began = Instant::now();
        loop {
            let Err(error) = running.run(&["systemctl", "is-active", "multi-user.target"]) else { return Ok(running) };
            ensure!(began.elapsed() < START, "{error}\n{}", running.process.lines().join("\n"));
            thread::sleep(Duration::from_millis(200));
        }
    }
}

fn container<'a>(folder: &TempDir, command: &'a mut Command) -> &'a mut Command {
    command.args(["--quiet", "--register=no", "--keep-unit", "--directory"]).arg(folder.path())
}

/// A Debian that runs; it is switched off when dropped.
pub(crate) struct Running {
    process: Process,
}

impl Running {
    /// Runs a program in it. What it printed.
    pub(crate) fn run(&self, program: &[&str]) -> Result<String> {
        let pid = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let init = children.split_whitespace().next().context("there is no systemd")?;
        run(Command::new("nsenter").args(["--all", "--target", init, "--"]).args(program))
    }

    /// A property of the service.
    pub(crate) fn property(&self, name: &str) -> Result<String> {
        let shown = self.run(&["systemctl", "show", "--value", "--property", name, "netbootd"])?;
        Ok(shown.trim().to_owned())
    }

    /// What the service printed.
    pub(crate) fn journal(&self) -> String {
        let journal = self.run(&["journalctl", "--no-pager", "--output=cat", "--unit=netbootd"]);
        journal.unwrap_or_else(|error| error.to_string())
    }
}

/// What a program printed, where it succeeded.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive").output();
    let output = output.with_context(|| format!("starting {command:?}"))?;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}\n{said}\n{errors}", output.status);
    Ok(said.into_owned())
}

/// The package that was built, by the end of its name.
pub(crate) fn built(extension: &str) -> Result<PathBuf> {
    let folder = target().join("packages");
    let entries = fs::read_dir(&folder).with_context(|| format!("{}: make deb rpm", folder.display()))?;
    let mut packages = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let package = packages.find(|path| path.extension() == Some(OsStr::new(extension)));
    package.with_context(|| format!("no .{extension} in {}: make {extension}", folder.display()))
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target")
}

const START: Duration = Duration::from_secs(60);
