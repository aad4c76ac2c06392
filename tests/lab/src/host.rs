//! A host of the lab: a namespace with one interface, `eth1`, whose other end is in the lab's switch.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{panic, thread};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// A name for a namespace that the [`Lab`](crate::Lab) owns: clones mean the same host, and dropping one removes nothing.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: String,
    /// The lab's, for what programs on this host keep.
    directory: PathBuf,
}

impl Host {
    pub(crate) fn in_namespace(namespace: String, directory: &Path) -> Host {
        Host { namespace, directory: directory.to_owned() }
    }

    /// The name that `ip netns` knows it by.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A command that will run on this host. Its process id is the program's own, so that signals reach the program.
    ///
    /// Hosts have networks of their own and the machine's files: a netbootd among them is told to keep its state and
    /// its control socket in the lab, and leaves an installed one's alone.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        let own = self.directory.join(&self.namespace).display().to_string();
        command.env("NETBOOTD_STATE__URL", format!("sqlite://{own}.db"));
        command.env("NETBOOTD_CONTROL__SOCKET", format!("{own}.sock"));
        command
    }

    /// `ip ARGS` on this host, for example `["link", "set", "eth1", "down"]`. Returns what it printed.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-n", &self.namespace];
        all.extend(args);
        ip(&all)
    }

    /// Runs `work` on a thread that is on this host: sockets opened there are the host's own, and remain so wherever they
    /// are used. Threads started by `work`, those of a tokio runtime for example, are on the host too.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = Path::new("/run/netns").join(&self.namespace);
        let namespace = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let joined = thread::scope(|scope| {
            let thread = scope.spawn(|| setns(namespace, CloneFlags::CLONE_NEWNET).map(|()| work()));
            thread.join()
        });
        match joined {
            Ok(result) => result.with_context(|| format!("entering {}", self.namespace)),
            Err(panicked) => panic::resume_unwind(panicked),
        }
    }
}

/// Runs `ip` and returns its output; its own message is the error.
pub(crate) fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(args).output().context("starting ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
