//! Debian's PostgreSQL, in a folder of its own.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::{Host, Process};

/// A cluster: killed, and its folder removed, when dropped. Over TCP its user `netbootd` needs [`Postgres::PASSWORD`];
/// over the socket in its folder nobody does.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    host: Option<Host>,
    process: Option<Process>,
}

impl Postgres {
    /// Of the user `netbootd`, who owns the database of that name.
    pub const PASSWORD: &str = "correct horse";

    /// Makes a cluster, and starts it: on a host of the lab on all its addresses, else on a socket in its folder only.
    pub fn start(host: Option<&Host>) -> Result<Postgres> {
        let folder = tempfile::Builder::new().prefix("netbootd-postgres-").tempdir()?;
        let owner = owner()?;
        if let Some(owner) = &owner {
            chown(folder.path(), Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        }
        let mut made = Postgres { folder, host: host.cloned(), process: None };
        let data = made.data();
        let data = data.to_str().context("a path of characters")?;
        let initdb = made
            .command("initdb", false)?
            .args(["-D", data, "-U", "netbootd", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"])
            .arg(format!("--pwfile={}", made.password_file()?.display()))
            .args(["--encoding=UTF8", "--locale=C"])
            .output()?;
        if !initdb.status.success() {
            bail!("initdb: {}{}", String::from_utf8_lossy(&initdb.stdout), String::from_utf8_lossy(&initdb.stderr));
        }
        // Everyone who is in the lab may try.
        let access = "local all all trust\nhost all all 0.0.0.0/0 scram-sha-256\n";
        fs::write(made.data().join("pg_hba.conf"), access)?;
        made.start_again()?;
        made.sql("postgres", "CREATE DATABASE netbootd")?;
        Ok(made)
    }

    /// Starts it after [`Postgres::kill`], and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let (data, folder) = (self.data(), self.folder.path().to_owned());
        let addresses = if self.host.is_some() { "*" } else { "" };
        loop {
            let mut command = self.command("postgres", true)?;
            command.arg("-D").arg(&data).arg("-k").arg(&folder);
            command.args(["-c", &format!("listen_addresses={addresses}"), "-c", "max_connections=60"]);
            let process = Process::spawn("postgres", &mut command)?;
            let waited = process.wait_for_line("ready to accept connections", Duration::from_secs(60));
            self.process = Some(process);
            match waited {
                Ok(_) => return Ok(()),
                // After a kill its children may still be ending.
                Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(100)),
                Err(error) => return Err(error),
            }
        }
    }

    /// `kill -9` of the server.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// Stops it as its service would.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGINT)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal(signal)?;
            process.wait_exit(Duration::from_secs(30))?;
        }
        Ok(())
    }

    /// Sends a signal to the server and each of its processes: `SIGSTOP` makes it silent, with its connections open.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref().context("it does not run")?;
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.pid()))?;
        process.signal(signal)?;
        for child in children.split_whitespace() {
            let pid = nix::unistd::Pid::from_raw(child.parse()?);
            // One of them may just have ended.
            let _ = nix::sys::signal::kill(pid, signal);
        }
        Ok(())
    }

    /// The URL of its socket.
    pub fn local_url(&self, database: &str) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://netbootd@{folder}/{database}")
    }

    /// Runs a statement; what it printed.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let mut command = self.command("psql", true)?;
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "netbootd", "-d", database]);
        let output = command.arg("-h").arg(self.folder.path()).args(["-c", statement]).output()?;
        if !output.status.success() {
            bail!("psql: {statement}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// A file with its password.
    pub fn password_file(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("password");
        if !path.exists() {
            fs::write(&path, format!("{}\n", Self::PASSWORD))?;
        }
        Ok(path)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of its programs, as a user that it agrees to run as, and on its host.
    fn command(&self, program: &str, on_host: bool) -> Result<Command> {
        let program = programs()?.join(program);
        let mut words: Vec<String> = Vec::new();
        if let Some(owner) = owner()? {
            words.extend(["setpriv".into(), format!("--reuid={}", owner.uid), format!("--regid={}", owner.gid)]);
            words.extend(["--clear-groups".into(), "--".into()]);
        }
        words.push(program.display().to_string());
        let (first, rest) = words.split_first().context("a program")?;
        let mut command = match self.host.as_ref().filter(|_| on_host) {
            Some(host) => host.command(first),
            None => Command::new(first),
        };
        command.args(rest).current_dir(self.folder.path()).env("PGTZ", "UTC");
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once; what it has written is removed with it.
        let _ = self.end(Signal::SIGQUIT);
    }
}

/// It does not run as root.
fn owner() -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    Ok(Some(User::from_name("postgres")?.context("no user `postgres`: install the package postgresql (make deps)")?))
}

/// Of the newest version that is there.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("install the package postgresql (make deps)")?;
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.flatten().map(|entry| entry.path()).filter(|path| path.join("bin/initdb").exists());
    Ok(newest.max_by_key(|path| version(path)).context("no PostgreSQL server is installed (make deps)")?.join("bin"))
}
