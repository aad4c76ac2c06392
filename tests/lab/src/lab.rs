//! The lab's life: a switch, hosts and taps in namespaces of its own; all of it removed at the end, whatever the end was.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::{Host, ip};

/// Owns the switch, every [`Host`] and a folder for files. Keep it longest: what still runs in it when it is dropped is killed.
#[derive(Debug)]
pub struct Lab {
    name: Name,
    switch: Host,
    directory: PathBuf,
    ports: AtomicU32,
}

impl Lab {
    /// Makes the switch, after removing what labs of processes that were killed have left.
    pub fn new() -> Result<Lab> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        remove_labs(|owner| !Path::new("/proc").join(owner.to_string()).exists()).context("removing abandoned labs")?;

        let name = Name { owner: process::id(), number: LABS.fetch_add(1, Ordering::Relaxed) };
        let directory = name.directory();
        let switch = Host::in_namespace(name.namespace("switch"), &directory);
        // From here on Drop removes what was made, also where a later step fails.
        let lab = Lab { name, switch, directory, ports: AtomicU32::new(0) };
        fs::create_dir(&lab.directory).with_context(|| format!("creating {}", lab.directory.display()))?;
        ip(&["netns", "add", lab.switch.namespace()])?;
        // No spanning tree and no forwarding delay: a port forwards from its first moment, as an access port should.
        // No snooping: there is no querier, and multicast (IPv6 neighbours, LLDP) would be dropped.
        let bridge = ["type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"];
        lab.switch.ip(&[&["link", "add", BRIDGE][..], &bridge].concat())?;
        lab.switch.ip(&["link", "set", BRIDGE, "up"])?;
        Ok(lab)
    }

    /// Adds a host whose `eth1` is up, with `address` (such as `10.77.0.1/24`) if there is one. It has no default route:
    /// broadcasts that were not pinned to an interface fail there, as they do on an isolated boot network.
    pub fn host(&self, name: &str, address: Option<&str>) -> Result<Host> {
        let host = self.host_alone(name)?;
        self.plug_host_in(&host, "eth1", address)?;
        Ok(host)
    }

    /// Adds two hosts (a name and an address each) whose `eth1` are the two ends of one cable, for measurements: the CPU
    /// time of a switch, and of the filters that the machine may have for bridges, counts as that of the sender.
    pub fn two_hosts(&self, [here, there]: [(&str, &str); 2]) -> Result<[Host; 2]> {
        let hosts = [self.host_alone(here.0)?, self.host_alone(there.0)?];
        let [host, peer] = &hosts;
        host.ip(&["link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", peer.namespace()])?;
        set_up(host, "eth1", Some(here.1))?;
        set_up(peer, "eth1", Some(there.1))?;
        wait_for_link(host, "eth1")?;
        wait_for_link(peer, "eth1")?;
        Ok(hosts)
    }

    fn host_alone(&self, name: &str) -> Result<Host> {
        let host = Host::in_namespace(self.name.namespace(name), &self.directory);
        ip(&["netns", "add", host.namespace()])?;
        host.ip(&["link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// Gives a host, which may be another lab's, an interface in this network.
    pub fn plug_host_in(&self, host: &Host, interface: &str, address: Option<&str>) -> Result<()> {
        // Both ends are made inside the lab: an interface never appears in the machine's own namespace.
        let port = self.port_name();
        let far_end = ["type", "veth", "peer", "name", interface, "netns", host.namespace()];
        self.switch.ip(&[&["link", "add", &port][..], &far_end].concat())?;
        self.plug_in(&port)?;
        set_up(host, interface, address)?;
        wait_for_link(host, interface)?;
        wait_for_link(&self.switch, &port)
    }

    /// A folder for files that end with the lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The namespace of the switch: where virtual machines run, beside their taps.
    pub fn switch(&self) -> &Host {
        &self.switch
    }

    /// Adds a tap to the switch and returns its name.
    pub(crate) fn tap(&self) -> Result<String> {
        let tap = self.port_name();
        self.switch.ip(&["tuntap", "add", &tap, "mode", "tap"])?;
        self.plug_in(&tap)?;
        Ok(tap)
    }

    fn port_name(&self) -> String {
        format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed))
    }

    fn plug_in(&self, port: &str) -> Result<()> {
        self.switch.ip(&["link", "set", port, "master", BRIDGE, "up"]).map(drop)
    }
}

fn set_up(host: &Host, interface: &str, address: Option<&str>) -> Result<()> {
    if let Some(address) = address {
        host.ip(&["address", "add", address, "broadcast", "+", "dev", interface])?;
    }
    // Its addresses are those that it was given, even where a router of the lab advertises others.
    let accept = format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra");
    host.enter(|| fs::write(&accept, "0"))?.with_context(|| format!("writing {accept}"))?;
    host.ip(&["link", "set", interface, "up"]).map(drop)
}

/// The kernel takes a link into use a moment after both of its ends are up, and drops what is sent before.
fn wait_for_link(host: &Host, interface: &str) -> Result<()> {
    let until = Instant::now() + LINK;
    while !host.ip(&["link", "show", interface])?.contains(" state UP ") {
        ensure!(Instant::now() < until, "{interface} of {} has no link after {LINK:?}", host.namespace());
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

const LINK: Duration = Duration::from_secs(20);

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.name.remove() {
            eprintln!("lab: not everything could be removed: {error:#}");
        }
    }
}

/// For a program that is told to stop while its labs are alive on another thread: kills what runs in them and removes them.
pub fn remove_labs_of_this_process() -> Result<()> {
    remove_labs(|owner| owner == process::id())
}

fn remove_labs(gone: impl Fn(u32) -> bool) -> Result<()> {
    let folders = fs::read_dir(env::temp_dir())?.flatten();
    let folders = folders.filter_map(|entry| Name::parse(entry.file_name().to_str()?));
    let namespaces = namespaces()?;
    let named = namespaces.iter().filter_map(|namespace| Name::parse(namespace));
    let mut abandoned: Vec<Name> = folders.chain(named).filter(|name| gone(name.owner)).collect();
    abandoned.sort_unstable();
    abandoned.dedup();
    abandoned.iter().try_for_each(Name::remove)
}

/// `nbl<pid>-<number>`, then `-<host>` for a namespace: whoever finds it knows whether its owner still lives.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Name {
    owner: u32,
    number: u32,
}

impl Name {
    fn parse(text: &str) -> Option<Name> {
        let mut parts = text.strip_prefix(PREFIX)?.splitn(3, '-');
        Some(Name { owner: parts.next()?.parse().ok()?, number: parts.next()?.parse().ok()? })
    }

    fn namespace(&self, host: &str) -> String {
        format!("{PREFIX}{}-{}-{host}", self.owner, self.number)
    }

    fn directory(&self) -> PathBuf {
        env::temp_dir().join(format!("{PREFIX}{}-{}", self.owner, self.number))
    }

    fn remove(&self) -> Result<()> {
        for namespace in namespaces()?.iter().filter(|namespace| Name::parse(namespace).as_ref() == Some(self)) {
            let removed = kill_all_in(namespace).and_then(|()| ip(&["netns", "delete", namespace]));
            // Another test that starts at the same time may have been first.
            if removed.is_err() && namespaces()?.contains(namespace) {
                removed?;
            }
        }
        match fs::remove_dir_all(self.directory()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.directory().display()))
            }
            _ => Ok(()),
        }
    }
}

fn namespaces() -> Result<Vec<String>> {
    // A line is `name` or `name (id: 3)`.
    let list = ip(&["netns", "list"])?;
    Ok(list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// A namespace lives on, with its interfaces, until the last process in it has ended.
fn kill_all_in(namespace: &str) -> Result<()> {
    for pid in ip(&["netns", "pids", namespace])?.split_whitespace() {
        // A process of ours may have a thread in there (`Host::enter`); it leaves by itself.
        let pid: i32 = pid.parse().with_context(|| format!("ip netns pids printed {pid}"))?;
        if pid.cast_unsigned() != process::id() {
            // It may have ended since it was listed.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(())
}

const PREFIX: &str = "nbl";
const BRIDGE: &str = "br0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_owner() {
        let name = Name { owner: 4711, number: 2 };
        assert_eq!(name.namespace("dhcp-a"), "nbl4711-2-dhcp-a");
        assert_eq!(Name::parse("nbl4711-2-dhcp-a"), Some(name.clone()));
        assert_eq!(Name::parse("nbl4711-2"), Some(name));
        assert_eq!(Name::parse("nblx-2-dhcp"), None);
        assert_eq!(Name::parse("cni-4711-2"), None);
    }
}
