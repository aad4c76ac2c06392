//! The whole examination: host, network and path, in this order.

use std::{
    io,
    net::Ipv4Addr,
    path::PathBuf,
    process,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    ask::{Patience, ask},
    configuration::{self, Checked},
    finding::{Finding, Fix, Verdict},
    host::{self, seen::Host},
    look::{Started, look, prefix_of, started},
    network::{self, Heard, Network},
    path,
    probe::probe,
};
use crate::{
    config::{Level, load::environment, schema::DhcpSocket, settings::Settings},
    daemon::privileges::{self, PrivilegeError},
    net::{
        holder::{Holder, other_holders, sockets_on_67},
        interface::{Interface, Unclear, choose, usable},
    },
};

/// What to examine.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Interfaces by name; none: those that are served, and all other suitable ones.
    pub interfaces: Vec<String>,
    /// The configuration; none: that of the server that runs, or the packages' one.
    pub config: Option<PathBuf>,
    /// The user whose rights count.
    pub user: Option<String>,
    /// The boot server, if it is on another host.
    pub server: Option<Ipv4Addr>,
}

/// Why nothing could be examined.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The interface.
    #[error(transparent)]
    Unclear(#[from] Unclear),
    /// The user.
    #[error(transparent)]
    User(#[from] PrivilegeError),
    /// The operating system.
    #[error("the operating system: {0}")]
    System(#[from] io::Error),
}

/// Examines everything. `progress` is called before each step.
///
/// # Errors
/// An interface or a user that is not there.
pub fn examine(wanted: &Wanted, progress: &mut dyn FnMut(&str)) -> Result<Vec<Finding>, Failed> {
    progress("looking at this host");
    let examination = Examination::begin(wanted)?;
    let seen = examination.look();
    let mut findings = examination.host(&seen);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        progress("asking the network as BIOS, UEFI, UEFI HTTP and iPXE");
        let patience = Patience { least: Duration::from_secs(3), most: Duration::from_secs(7) };
        let networks = examination.ask(&seen, patience).await;
        findings.extend(network::judge(&networks));
        for (network, interface) in networks.iter().zip(&examination.interfaces).filter(|(n, _)| !n.offers.is_empty()) {
            let path = probe(network, interface, examination.run, progress).await;
            findings.extend(path::judge(&path));
        }
    });
    Ok(findings)
}

/// What is found before a server starts.
#[derive(Clone, Debug, Default)]
pub struct Quick {
    /// All findings.
    pub findings: Vec<Finding>,
    /// ProxyDHCP servers that answer already.
    pub proxies: Vec<Ipv4Addr>,
}

/// The quick half, for a server that is about to start on these interfaces with these settings: this host, and one
/// question to the network.
///
/// # Errors
/// As [`examine`].
pub fn examine_quickly(interfaces: &[Interface], settings: &Settings) -> Result<Quick, Failed> {
    let usable = interfaces.iter().filter(|interface| interface.usable().is_ok());
    let interfaces: Vec<Interface> = usable.cloned().collect();
    let seen = look(&interfaces, Some(settings), None, &[]);
    let mut findings = host::judge(&seen);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let patience = Patience { least: Duration::from_millis(800), most: Duration::from_millis(3500) };
    let asking = Asking {
        interfaces: &interfaces,
        seen: &seen,
        served: None,
        settings: Some(settings),
        leases: false,
        server: None,
        run: run(),
    };
    let networks = runtime.block_on(asking.ask(patience));
    findings.extend(network::judge(&networks));
    // That nobody offers a boot yet is why this server starts; what check says, it says itself.
    let is_known =
        |finding: &Finding| matches!(finding.id, "no_boot_server" | "not_asked" | "no_rights" | "not_running");
    findings.retain(|finding| !is_known(finding));
    let mut proxies: Vec<Ipv4Addr> = networks
        .iter()
        .flat_map(|network| &network.offers)
        .filter(|offer| offer.is_proxy())
        .map(Heard::server)
        .collect();
    proxies.sort_unstable();
    proxies.dedup();
    Ok(Quick { findings, proxies })
}

struct Examination {
    interfaces: Vec<Interface>,
    /// Those that the configuration or the running server names, and that do not exist.
    missing: Vec<String>,
    served: Vec<String>,
    started: Option<Started>,
    checked: Checked,
    server: Option<Ipv4Addr>,
    run: u16,
}

impl Examination {
    fn begin(wanted: &Wanted) -> Result<Self, Failed> {
        let started = started();
        let config = wanted.config.clone().or_else(|| started.as_ref()?.config.clone()).or_else(installed);
        let own = || environment().into_iter().filter(|(name, _)| name.starts_with("NETBOOTD_")).collect();
        let environment = started.as_ref().map_or_else(own, |started| started.environment.clone());
        // What a server may read whatever the permissions are, no permission keeps from booting.
        let bound = started.as_ref().filter(|started| !started.reads_all);
        let user = wanted.user.clone().or_else(|| bound?.user.clone().filter(|user| user != "root"));
        let of_packages = || started.is_none().then(privileges::service_user).flatten().map(str::to_owned);
        let user = user.or_else(of_packages);
        let checked = configuration::seen_by(user.as_deref(), || configuration::check(config.as_deref(), environment))?;
        let checked =
            checked.ok_or_else(|| io::Error::other("the check of the configuration ended by a bug in netbootd"))?;
        let configured =
            || checked.settings.as_ref().map(|settings| settings.fixed.interfaces.clone()).unwrap_or_default();
        let named = started.as_ref().map(|started| started.interfaces.clone()).filter(|names| !names.is_empty());
        let named = named.unwrap_or_else(configured);
        let served = if started.is_some() { choose(&named).unwrap_or_default() } else { Vec::new() };
        let served: Vec<String> = served.into_iter().map(|interface| interface.name).collect();
        let (interfaces, missing) = examined(&wanted.interfaces, &named)?;
        Ok(Self { interfaces, missing, served, started, checked, server: wanted.server, run: run() })
    }

    fn look(&self) -> Host {
        look(&self.interfaces, self.checked.settings.as_ref(), self.started.as_ref(), &self.served)
    }

    fn host(&self, seen: &Host) -> Vec<Finding> {
        let mut findings = host::judge(seen);
        findings.extend(self.missing.iter().map(|name| missing(name, &usable())));
        findings.extend(self.loaders());
        findings.extend(self.configuration());
        findings
    }

    fn loaders(&self) -> Option<Finding> {
        let found: Vec<String> = self.checked.loaders.iter().map(|file| file.name.clone()).collect();
        // Those that are missing are findings of the configuration.
        (!found.is_empty()).then(|| {
            Finding::of_host("loaders", Verdict::Ok, format!("loaders are there and sound: {}", found.join(", ")))
        })
    }

    fn configuration(&self) -> Vec<Finding> {
        let found = self.checked.findings.iter().map(|finding| {
            let verdict = if finding.level == Level::Fault { Verdict::Fault } else { Verdict::Warning };
            let place = &finding.fault.place;
            let id = if place == "loaders" { "loader_missing" } else { "configuration" };
            let verdict = if id == "loader_missing" { Verdict::Fault } else { verdict };
            let message = &finding.fault.message;
            // Where a message ends with what to do, that is the fix.
            let finding = Finding::of_host(id, verdict, format!("{place}: {message}"));
            match message.rsplit_once(": ") {
                Some((_, command)) if command.starts_with("chmod ") || command.starts_with("chown ") => {
                    finding.fixed_by(Fix::Run(format!("sudo {command}")))
                }
                _ if id == "loader_missing" => finding.fixed_by(Fix::Run(INSTALL.into())),
                _ => finding,
            }
        });
        let findings: Vec<Finding> = found.collect();
        match findings.is_empty() {
            true => {
                vec![Finding::of_host("configuration", Verdict::Ok, "configuration and assets have no faults")]
            }
            false => findings,
        }
    }

    async fn ask(&self, seen: &Host, patience: Patience) -> Vec<Network> {
        let asking = Asking {
            interfaces: &self.interfaces,
            seen,
            served: self.started.as_ref().map(|_| self.served.as_slice()),
            settings: self.checked.settings.as_ref(),
            leases: self.started.as_ref().is_some_and(|started| started.leases),
            server: self.server,
            run: self.run,
        };
        asking.ask(patience).await
    }
}

/// What is asked of the networks of these interfaces.
struct Asking<'a> {
    interfaces: &'a [Interface],
    seen: &'a Host,
    /// Those that netbootd serves, where it runs.
    served: Option<&'a [String]>,
    settings: Option<&'a Settings>,
    /// Whether the command line of netbootd says that it leases.
    leases: bool,
    server: Option<Ipv4Addr>,
    run: u16,
}

impl Asking<'_> {
    /// Whether the netbootd on this host leases addresses on an interface, or is to do so once it runs.
    fn is_to_lease(&self, name: &String) -> bool {
        let is_served = match (self.served, self.settings) {
            (Some(served), _) => served.contains(name),
            (None, Some(settings)) => settings.fixed.interfaces.is_empty() || settings.fixed.interfaces.contains(name),
            (None, None) => false,
        };
        let leasing = self.settings.and_then(|settings| settings.fixed.lease.as_ref());
        is_served && leasing.map_or(self.leases, |leasing| leasing.terms_of(name).enabled)
    }

    /// Whether the netbootd on this host listens at layer 2 on an interface, where these programs have port 67.
    fn is_at_layer_2(&self, name: &String, holders: &[Holder]) -> bool {
        let socket = self.settings.map_or(DhcpSocket::Auto, |settings| settings.fixed.dhcp.socket);
        let captures = match socket {
            DhcpSocket::Auto => !holders.iter().any(Holder::is_netbootd),
            DhcpSocket::Capture => true,
            DhcpSocket::Bind => false,
        };
        captures && self.served.is_some_and(|served| served.contains(name))
    }

    async fn ask(&self, patience: Patience) -> Vec<Network> {
        let each = self.interfaces.iter().map(|interface| async move {
            let heard = match interface.usable() {
                Ok(()) => ask(interface, self.run, patience).await.map_err(|error| match error.kind() {
                    io::ErrorKind::PermissionDenied => refused(self.seen).to_owned(),
                    _ => error.to_string(),
                }),
                Err(why) => Err(format!("it {}", why.of(&interface.name))),
            };
            let (offers, failed) = heard.map_or_else(|why| (Vec::new(), Some(why)), |offers| (offers, None));
            let (name, holders) = (&interface.name, other_holders(&sockets_on_67(interface)));
            let link = self.seen.links.iter().find(|link| link.name == *name);
            Network {
                interface: name.clone(),
                addresses: interface.addresses.clone(),
                prefix: prefix_of(name, interface.addresses.first().copied()),
                is_served: self.served.map(|served| served.contains(name)),
                is_beside_another: !holders.is_empty() && !holders.iter().any(Holder::is_netbootd),
                is_at_layer_2: self.is_at_layer_2(name, &holders),
                is_to_lease: self.is_to_lease(name),
                is_filtered: link.is_some_and(|link| host::drops_dhcp(self.seen, link)),
                known_only: self.settings.is_some_and(|settings| settings.offers.known_only),
                server: self.server,
                offers,
                failed,
            }
        });
        futures_util::future::join_all(each).await
    }
}

/// The interfaces to examine, and those that the configuration or the running server names in vain: that is a finding, and
/// no reason to look at nothing. What the command line names has to be there.
fn examined(wanted: &[String], named: &[String]) -> Result<(Vec<Interface>, Vec<String>), Unclear> {
    if !wanted.is_empty() {
        return Ok((choose(wanted)?, Vec::new()));
    }
    let found = if named.is_empty() { Vec::new() } else { choose(named).unwrap_or_default() };
    let mut all: Vec<Interface> = found.into_iter().filter(|found| found.index != 0).collect();
    let is_missing = |name: &&String| !all.iter().any(|there| there.name == **name);
    let missing: Vec<String> = named.iter().filter(is_missing).cloned().collect();
    all.extend(usable().into_iter().filter(|interface| !named.contains(&interface.name)));
    if all.is_empty() && missing.is_empty() {
        all = choose(&[])?;
    }
    Ok((all, missing))
}

/// A named interface that does not exist.
fn missing(name: &str, there: &[Interface]) -> Finding {
    let text = format!("there is no interface {name}, which netbootd is to serve");
    let finding = Finding::of_host("no_interface", Verdict::Fault, text);
    let names: Vec<&str> = there.iter().map(|interface| interface.name.as_str()).collect();
    let finding = if names.is_empty() { finding } else { finding.seen(format!("suitable: {}", names.join(", "))) };
    finding.fixed_by(match names.as_slice() {
        [one] => Fix::Configure(format!("interfaces = [{one:?}]")),
        _ => Fix::Do(format!("add the interface {name}, or name another one in interfaces of the configuration")),
    })
}

/// What keeps the network from being asked. Root has the right, except in a container. With the right, it is a packet
/// filter: the kernel refuses what one drops on its way out.
fn refused(seen: &Host) -> &'static str {
    match seen.is_root {
        _ if seen.has_rights => {
            "a packet filter of this host drops DHCP requests that leave it (from UDP port 68 to 67): let them pass for \
             the time of the examination, or run it on another machine of this network"
        }
        true => "this needs CAP_NET_RAW, which root does not have here: run it on the host itself, or add that right",
        false => "this needs root or CAP_NET_RAW: run it with sudo",
    }
}

fn installed() -> Option<PathBuf> {
    Some(PathBuf::from("/etc/netbootd/netbootd.toml")).filter(|path| path.exists())
}

/// Another number for each run.
fn run() -> u16 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mixed = now.subsec_nanos() ^ process::id().rotate_left(16) ^ (now.as_secs() as u32);
    (mixed ^ mixed >> 16) as u16
}

/// Debian, Ubuntu; Fedora, RHEL.
const INSTALL: &str = "sudo apt-get install ipxe || sudo dnf install ipxe-bootimgs-x86";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_named_and_does_not_exist_is_a_fault_with_its_fix() {
        let named = ["none0".to_owned(), "lo".to_owned()];
        let (interfaces, missing) = examined(&[], &named).expect("no reason to stop");
        assert_eq!(missing, ["none0"]);
        assert!(interfaces.iter().any(|there| there.name == "lo"));
        let [none, _] = &named;
        assert_eq!(
            examined(&[], std::slice::from_ref(none)).map(|(_, missing)| missing).ok(),
            Some(vec![none.clone()])
        );
        assert!(matches!(examined(std::slice::from_ref(none), &[]), Err(Unclear::Unknown { .. })));
        let found = super::missing("none0", &[]);
        assert_eq!((found.verdict, found.fix.len()), (Verdict::Fault, 1));
    }

    #[test]
    fn root_is_not_sent_to_sudo() {
        let refused = |is_root, has_rights| refused(&Host { is_root, has_rights, ..Host::default() });
        assert!(refused(false, false).contains("sudo") && !refused(true, false).contains("sudo"));
        assert!(refused(true, true).starts_with("a packet filter of this host drops DHCP requests"));
    }
}
