//! Packages for another architecture, fetched with an apt folder of their own and unpacked: nothing is installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// An apt that looks at the host's own sources for another architecture.
#[derive(Debug)]
pub(crate) struct Foreign {
    folder: PathBuf,
    architecture: &'static str,
}

impl Foreign {
    /// In a folder that is there, with a fresh index: of the host's own release, or of another one from the same mirror.
    pub(crate) fn new(folder: &Path, architecture: &'static str, release: Option<&str>) -> Result<Foreign> {
        for name in ["lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(folder.join(name))?;
        }
        File::create(folder.join("status"))?;
        let foreign = Foreign { folder: folder.to_owned(), architecture };
        if let Some(release) = release {
            let line = format!("deb [signed-by={KEYRING}] {} {release} main\n", mirror()?);
            fs::write(folder.join(SOURCES), line)?;
        }
        foreign.apt("apt-get", &["update"])?;
        Ok(foreign)
    }

    /// The first package of a name's start that a package depends on.
    pub(crate) fn dependency(&self, package: &str, start: &str) -> Result<String> {
        let listing = self.apt("apt-cache", &["depends", package])?;
        let mut depends = listing.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let name =
            depends.find(|name| name.starts_with(start)).with_context(|| format!("{package} names no {start}"))?;
        Ok(name.to_owned())
    }

    /// Downloads a package and unpacks it; the folder that it is in.
    pub(crate) fn unpack(&self, package: &str) -> Result<PathBuf> {
        let scratch = self.folder.join("packages").join(package);
        fs::create_dir_all(&scratch)?;
        let mut download = self.command("apt-get", &["download", package]);
        run(download.current_dir(&scratch))?;
        let mut files = fs::read_dir(&scratch)?;
        let file = files.next().context("nothing was downloaded")??.path();
        let tree = scratch.join("tree");
        run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&tree))?;
        Ok(tree)
    }

    fn apt(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(&mut self.command(program, arguments))
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let of = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        let settings = [
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures={}", self.architecture),
            format!("Dir::State::lists={}", of("lists")),
            format!("Dir::State::status={}", of("status")),
            format!("Dir::Cache={}", of("cache")),
            // Its sandbox user may not write into a folder of root's.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let sources = self.folder.join(SOURCES);
        if sources.exists() {
            command.args([
                "-o",
                &format!("Dir::Etc::sourcelist={}", sources.display()),
                "-o",
                "Dir::Etc::sourceparts=-",
            ]);
        }
        for setting in &settings {
            command.args(["-o", setting]);
        }
        if program == "apt-get" {
            command.arg("-qq");
        }
        command.args(arguments);
        command
    }
}

/// The one that the host has its own packages from.
fn mirror() -> Result<String> {
    let format = ["indextargets", "--format", "$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"];
    let targets = run(Command::new("apt-get").args(format))?;
    let uri = targets.lines().find_map(|line| line.strip_prefix("Debian Debian main "));
    Ok(uri.context("apt knows no mirror of Debian; apt-get update first")?.trim().to_owned())
}

const SOURCES: &str = "sources.list";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
