//! Bounds what the server can reach of its host, whatever a client makes it do (Landlock, landlock(7)): files to read
//! and to write, one TCP port, no program to run, no process to signal.
//!
//! It holds for the calling thread and those that it starts later: there must be no others yet.

use std::path::{Path, PathBuf, absolute};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::{loaders, plan::Plan};
use crate::{config::fixed::StateUrl, state::State};

/// What a server may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Folders whose files may be read, and single files.
    read: Vec<PathBuf>,
    /// Folders whose files may be made, written and removed too.
    write: Vec<PathBuf>,
    /// TCP port to listen on.
    port: u16,
    /// TCP port to connect to, on any host: that of the server with the state.
    server: Option<u16>,
}

impl Bounds {
    /// What this plan needs, at its start and when it is read again.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let state = match &plan.fixed.state {
            StateUrl::Set(url) | StateUrl::Default(url) => State::folder(url),
        };
        let (server, to_connect) =
            plan.fixed.state_server.as_ref().map(|server| State::reach(&server.url)).unwrap_or_default();
        let control = plan.fixed.control.socket.parent().map(Path::to_owned);
        let write = state.into_iter().chain(control).filter_map(|folder| absolute(folder).ok());
        let password = plan.fixed.state_server.iter().filter_map(|server| server.password_file.clone());
        Self {
            read: unique(reads(plan).chain(to_connect).chain(password)),
            write: unique(write),
            port: plan.fixed.http.port,
            server,
        }
    }

    /// Whether a folder may be read.
    #[must_use]
    pub fn cover(&self, folder: &Path) -> bool {
        let Ok(folder) = absolute(folder) else { return false };
        let real = folder.canonicalize().unwrap_or(folder);
        self.read.iter().chain(&self.write).any(|open| real.starts_with(open.canonicalize().as_ref().unwrap_or(open)))
    }

    /// For the log.
    #[must_use]
    pub fn writes(&self) -> String {
        let folders: Vec<String> = self.write.iter().map(|folder| folder.display().to_string()).collect();
        folders.join(" and ")
    }
}

fn reads(plan: &Plan) -> impl Iterator<Item = PathBuf> {
    let watched = plan.watched.read_from();
    let named = watched.iter().chain(&plan.loader_dirs).filter_map(|folder| nearest(folder));
    let folders: Vec<PathBuf> = named.chain(packages().filter_map(nearest)).collect();
    // Of the working folder only what is there: the folder itself may be anyone's home.
    let nearby = loaders::PACKAGES.iter().map(Path::new).filter(|place| place.is_relative());
    let nearby = nearby.filter_map(|place| absolute(place).ok()).filter(|place| place.is_dir());
    let assets = plan.fixed.assets.iter().flat_map(|assets| assets_and_around(&assets.path()));
    let links: Vec<PathBuf> = watched.iter().flat_map(|folder| behind_links(folder)).collect();
    folders.into_iter().chain(nearby).chain(assets).chain(links).chain(loaders::behind_links(&plan.loader_dirs))
}

/// The folders of packages that bring loaders.
fn packages() -> impl Iterator<Item = &'static Path> {
    let ipxe = loaders::PACKAGES.iter().map(Path::new).filter(|place| place.is_absolute());
    ipxe.chain(loaders::grub_packages().filter_map(Path::parent))
}

/// The assets folder, and the one that it is in: it may be a link that is switched to a folder beside, and a rule for a
/// folder is none for what is mounted over it (landlock(7) goes by the folder above then). What is served stays beneath
/// the assets folder.
fn assets_and_around(path: &Path) -> Vec<PathBuf> {
    let is_home = |folder: &Path| folder == Path::new("/root") || folder.parent() == Some(Path::new("/home"));
    let is_wide = |folder: &Path| WIDE.iter().any(|wide| folder == Path::new(wide)) || is_home(folder);
    let around = path.parent().and_then(nearest).filter(|folder| !is_wide(folder));
    nearest(path).into_iter().filter(|folder| folder == path || !is_wide(folder)).chain(around).collect()
}

/// Folders with more in them than a boot server has any business with.
const WIDE: [&str; 6] = ["/", "/home", "/etc", "/usr", "/var", "/tmp"];

/// A folder that is not there yet may come: its rule is that of the folder that it would be in, but never that of the
/// whole file system.
fn nearest(place: &Path) -> Option<PathBuf> {
    let place = absolute(place).ok()?;
    let there = place.ancestors().find(|folder| folder.is_dir())?;
    (there != Path::new("/")).then(|| there.to_owned())
}

/// The folders that links in this one lead to: a configuration or a template may be kept elsewhere.
fn behind_links(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let targets = entries.filter(|path| path.is_symlink()).filter_map(|path| path.canonicalize().ok());
    let folders =
        targets.filter_map(|target| if target.is_dir() { Some(target) } else { target.parent().map(Path::to_owned) });
    folders.filter(|folder| folder != Path::new("/")).collect()
}

fn unique(folders: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    folders.dedup();
    folders
}

/// Whether the kernel holds us to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// To everything.
    Fully,
    /// To what this kernel knows.
    Partly,
    /// It has no Landlock, or was started without it.
    Not,
}

/// From here on there is nothing but what is within these bounds.
///
/// # Errors
/// The kernel has Landlock, and refused.
pub fn enter(bounds: &Bounds) -> Result<Held, RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, READ))?
        .add_rules(path_beneath_rules(&bounds.read, READ))?
        .add_rules(path_beneath_rules(&bounds.write, write()))?
        .add_rule(NetPort::new(bounds.port, AccessNet::BindTcp))?
        .add_rules(bounds.server.map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp))))?;
    Ok(match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Held::Fully,
        RulesetStatus::PartiallyEnforced => Held::Partly,
        RulesetStatus::NotEnforced => Held::Not,
    })
}

const READ: BitFlags<AccessFs> = landlock::make_bitflags!(AccessFs::{ReadFile | ReadDir});

fn write() -> BitFlags<AccessFs> {
    READ | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::MakeSock | AccessFs::RemoveFile
}

/// Linux 6.12. From version 9 on, a rule would be needed for the service manager's socket.
const KNOWN: ABI = ABI::V6;

/// What the kernel and the C library report: sockets and interfaces, CPUs and their limits, the time zone, randomness. Of
/// other processes `/proc` shows no more than their names: who is in a sandbox may look into none.
const SYSTEM: [&str; 8] = [
    "/proc",
    "/sys/class/net",
    "/sys/devices",
    "/sys/fs/cgroup",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/dev/urandom",
    // What asks the C library for randomness finds no such call in a static program, and opens both.
    "/dev/random",
];

#[cfg(test)]
mod tests {
    use std::{
        fs, io,
        net::{TcpListener, TcpStream},
        os::unix::{fs::symlink, net::UnixListener},
        process::Command,
        thread,
    };

    use super::*;

    /// Of a thread of its own: the other tests are not in it.
    fn inside(bounds: Bounds, test: impl FnOnce() + Send + 'static) {
        let held = thread::spawn(move || {
            let held = enter(&bounds).expect("entered");
            if held != Held::Not {
                test();
            }
            held
        });
        let held = held.join().expect("no panic");
        assert!(held != Held::Not || std::env::var_os("CI").is_none(), "this kernel has no Landlock");
    }

    fn refused<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn only_what_is_within_the_bounds_can_be_reached() {
        let scratch = tempfile::tempdir().expect("a folder");
        let at = |name: &str| scratch.path().join(name);
        for folder in ["assets", "state", "elsewhere"] {
            fs::create_dir(at(folder)).expect("made");
            fs::write(at(folder).join("file"), "x").expect("written");
        }
        symlink("/etc/shadow", at("assets/link")).expect("made");
        let elsewhere = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("bound").port();
        let bounds = Bounds { read: vec![at("assets")], write: vec![at("state")], port, server: None };
        let root = scratch.path().to_owned();
        inside(bounds, move || {
            let at = |name: &str| root.join(name);
            assert!(fs::read(at("assets/file")).is_ok() && fs::read_dir(at("assets")).is_ok());
            assert!(refused(fs::write(at("assets/file"), "y")) && refused(fs::write(at("assets/new"), "y")));
            assert!(refused(fs::remove_file(at("assets/file"))));

            assert!(fs::write(at("state/file"), "y").is_ok() && fs::write(at("state/new"), "y").is_ok());
            assert!(fs::remove_file(at("state/new")).is_ok() && UnixListener::bind(at("state/socket")).is_ok());

            assert!(refused(fs::read(at("elsewhere/file"))) && refused(fs::write(at("elsewhere/new"), "y")));
            assert!(refused(fs::read("/etc/shadow")) && refused(fs::read(at("assets/link"))));
            assert!(refused(fs::read("/etc/passwd")) && refused(fs::read_dir("/")));
            assert!(refused(fs::write("/etc/netbootd-was-here", "")) && refused(fs::write("/tmp/netbootd-too", "")));
            assert!(refused(Command::new("/bin/true").status()), "no program is to be run");
            // Of root's own processes too, what is inside them.
            assert!(fs::read("/proc/1/comm").is_ok() && refused(fs::read("/proc/1/environ")));

            assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
            let other = elsewhere.local_addr().expect("bound");
            assert!(refused(TcpStream::connect(other)) && refused(TcpListener::bind("127.0.0.1:0")));

            // What the server asks of the system while it runs.
            assert!(fs::read("/proc/thread-self/net/udp").is_ok() && fs::read_dir("/proc/self/fd").is_ok());
            assert!(fs::read_dir("/sys/class/net").is_ok() && fs::read("/sys/class/net/lo/mtu").is_ok());
        });
    }

    /// Else a reload loses the loaders that the start has found there.
    #[test]
    fn every_folder_of_a_package_with_loaders_is_within_the_bounds() {
        let read: Vec<PathBuf> = packages().filter_map(nearest).collect();
        let bounds = Bounds { read, write: Vec::new(), port: 0, server: None };
        let mut folders = loaders::grub_packages().filter_map(Path::parent).chain([Path::new("/usr/lib/ipxe")]);
        assert!(folders.all(|folder| bounds.cover(folder)), "{bounds:?}");
    }

    #[test]
    fn where_links_lead_to_is_within_the_bounds_too() {
        let scratch = tempfile::tempdir().expect("a folder");
        let at = |name: &str| scratch.path().join(name);
        for folder in ["etc", "kept", "kept/more"] {
            fs::create_dir(at(folder)).expect("made");
        }
        fs::write(at("kept/netbootd.toml"), "").expect("written");
        symlink("../kept/netbootd.toml", at("etc/netbootd.toml")).expect("made");
        symlink(at("kept/more"), at("etc/more")).expect("made");
        symlink("nowhere", at("etc/broken")).expect("made");
        symlink("/vmlinuz-of-nobody", at("etc/top")).expect("made");
        fs::write(at("etc/plain.toml"), "").expect("written");
        let mut found = behind_links(&at("etc"));
        found.sort();
        assert_eq!(found, [at("kept"), at("kept/more")].map(|folder| folder.canonicalize().expect("there")));
        assert_eq!(behind_links(&at("nowhere")), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn a_folder_that_may_come_is_covered_by_the_one_that_it_comes_into() {
        let scratch = tempfile::tempdir().expect("a folder");
        assert_eq!(nearest(scratch.path()).as_deref(), Some(scratch.path()));
        assert_eq!(nearest(&scratch.path().join("not/yet")).as_deref(), Some(scratch.path()));
        assert_eq!(nearest(Path::new("/nowhere/at/all")), None);

        let bounds = Bounds { read: vec![scratch.path().to_owned()], write: Vec::new(), port: 0, server: None };
        assert!(bounds.cover(scratch.path()) && bounds.cover(&scratch.path().join("below")));
        assert!(!bounds.cover(Path::new("/etc")) && !bounds.cover(Path::new("relative")));
    }
}
