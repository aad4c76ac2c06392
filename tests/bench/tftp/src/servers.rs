//! The servers, each as its own documentation says to run it, with the log that it has by default, which nobody reads.

use std::{
    env, fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use netbootd_lab::{Host, Meter, Process, unread, wait_until_bound};

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

    /// Starts it on a host, on the first CPU alone or on all; `peers` are folders to look for its program in before `PATH`.
    pub(crate) fn start(self, place: &Place<'_>, is_pinned: bool) -> Result<(Process, Meter)> {
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
                    "--log-facility=-".into(),
                ];
                ("dnsmasq", options.map(str::to_owned).into_iter().chain(more).collect())
            }
            Self::TftpdHpa => {
                ("in.tftpd", strings(&["-L", "-s", "-u", "root", "-a", &format!("{address}:69"), folder]))
            }
            Self::Atftpd => {
                let daemon = ["--daemon", "--no-fork", "--user", "root.root", "--maxthread", "1000"];
                ("atftpd", strings(&[&daemon[..], &["--bind-address", &address, "--logfile", "-", folder]].concat()))
            }
            Self::Tftpd => ("tftpd", strings(&["-i", &address, "-p", "69", "-d", folder, "-r"])),
            Self::AsyncTftp => ("self", strings(&["serve-async-tftp", &address, folder])),
        };
        let program = if program == "self" { env::current_exe()? } else { place.program(program)? };
        let mut command = unread(place.host, &place.folder.with_extension("log"));
        if is_pinned {
            command.args(["taskset", "-c", "0"]);
        }
        command.arg(program);
        // The libraries of packages that were unpacked beside their programs.
        let libraries: Vec<String> =
            place.peers.iter().map(|folder| format!("{}/usr/lib/x86_64-linux-gnu", folder.display())).collect();
        command.env("LD_LIBRARY_PATH", libraries.join(":")).args(arguments);
        command.env_remove("NETBOOTD_LOG");
        let (process, meter) = Meter::spawn(self.name(), &mut command)?;
        wait_until_bound(place.host, 69, &process)?;
        Ok((process, meter))
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
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
}
