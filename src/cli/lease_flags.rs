//! The flags of `up` about leases, and the address that an interface gets for the time that netbootd runs.

use std::{
    ffi::OsString,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use figment::value::Value;
use tracing::{info, warn};

use super::failure::{EX_NOPERM, EX_UNAVAILABLE, EX_USAGE, Failure};
use crate::{
    boot::mac::MacAddr,
    config::units,
    lease::terms::Prefix,
    net::{
        conflict,
        interface::{Interface, look},
    },
};

#[derive(Debug, clap::Args)]
pub(super) struct LeaseFlags {
    /// Lease addresses too, on a network without a DHCP server [default: all addresses of the interface's network]
    #[arg(long, value_name = "RANGE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    lease: Option<String>,
    /// Lease also on the interface with the default route, if no other DHCP server answers there
    #[arg(long, requires = "lease")]
    lease_anyway: bool,
    /// Stop by itself after this time, for example 2h
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub(super) ends_after: Option<Duration>,
    /// Address of this host on the interface, for example 192.0.2.1/24
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = address)]
    address: Option<Address>,
    /// Set this address, and remove it at the end
    #[arg(long, requires = "address")]
    set_address: bool,
}

/// An address, and the length of its prefix in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    address: Ipv4Addr,
    length: u8,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = units::duration(text)?;
    if time.is_zero() { Err("the time is zero; example: 2h".into()) } else { Ok(time) }
}

fn address(text: &str) -> Result<Address, String> {
    let parsed = text.split_once('/').and_then(|(address, length)| {
        let length = length.parse().ok().filter(|length| (1..=30).contains(length))?;
        Some(Address { address: address.parse().ok()?, length })
    });
    parsed.ok_or_else(|| format!("{text:?} is not an address with a prefix length; example: 192.0.2.1/24"))
}

/// `--lease RANGE` as `--lease=RANGE`. Without a range, the next argument is the kernel.
pub(super) fn joined(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut is_over = false;
    for argument in arguments {
        is_over |= argument == "--";
        match joined.last_mut() {
            Some(last) if !is_over && last == "--lease" && is_range(&argument) => {
                last.push("=");
                last.push(argument);
            }
            _ => joined.push(argument),
        }
    }
    joined
}

fn is_range(argument: &OsString) -> bool {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | ',' | '/');
    argument.to_str().is_some_and(|text| text.contains('.') && text.chars().all(is_part))
}

impl LeaseFlags {
    /// As keys of the configuration.
    pub(super) fn keys(&self) -> Vec<(&'static str, Value)> {
        let Some(lease) = &self.lease else { return Vec::new() };
        let mut keys = vec![("lease.enabled", Value::from(true))];
        if !lease.is_empty() {
            keys.push(("lease.range", Value::from(lease.split(',').map(str::to_owned).collect::<Vec<_>>())));
        }
        keys.extend(self.lease_anyway.then(|| ("lease.on_default_route", Value::from(true))));
        keys
    }

    /// Gives the interface its address, if it lacks it and this is wanted. The address goes when the result is dropped, or
    /// when this process ends in any other way.
    ///
    /// # Errors
    /// How to set the address by hand, or why it could not be set.
    pub(super) fn set_address(&self, interfaces: &[String]) -> Result<Option<SetAddress>, Failure> {
        let Some(address) = self.address else { return Ok(None) };
        let [name] = interfaces else {
            return Err(Failure::new(EX_USAGE, "--address needs one --interface, which gets the address"));
        };
        let found = look(interfaces).unwrap_or_default();
        let Some(interface) = found.first() else {
            return Err(Failure::new(EX_USAGE, format!("unknown interface {name}: ip link lists them")));
        };
        let has = interface.addresses.iter().zip(&interface.networks);
        if has.into_iter().any(|(has, (_, length))| *has == address.address && *length == address.length)
            && interface.is_up
        {
            return Ok(None);
        }
        if self.set_address {
            return SetAddress::new(interface, address).map(Some);
        }
        let up = if interface.is_up { "" } else { " && ip link set dev {name} up" }.replace("{name}", name);
        Err(Failure::new(
            EX_UNAVAILABLE,
            format!(
                "{name} does not have the address {address}: set it with\n  ip address add {address} dev {name}{up}\n\
                 or add --set-address, which sets it and removes it at the end"
            ),
        ))
    }

    /// What to do about an interface without an address, for whom leases are wanted.
    pub(super) fn hint(&self) -> &'static str {
        let is_lost = self.lease.is_some() && self.address.is_none();
        if is_lost {
            "\n(--address 192.0.2.1/24 --set-address gives an interface an address while netbootd runs)"
        } else {
            ""
        }
    }
}

/// An address that was set. A process of its own waits for our end and removes it then: after the start we have no right
/// to, and no signal that kills us is heard.
pub(super) struct SetAddress {
    /// Its standard input closes when we end.
    waiting: Child,
}

impl SetAddress {
    fn new(interface: &Interface, address: Address) -> Result<Self, Failure> {
        let name = &interface.name;
        let down = if interface.is_up { "" } else { "ip link set dev \"$2\" down" };
        if !interface.is_up {
            ip(&["link", "set", "dev", name, "up"])?;
            conflict::wait_for_carrier(name);
        }
        if let Err(failure) = is_free(interface, address) {
            if !interface.is_up {
                ip(&["link", "set", "dev", name, "down"])?;
            }
            return Err(failure);
        }
        let address = address.to_string();
        ip(&["address", "add", &address, "broadcast", "+", "dev", name])?;
        let script = format!("trap '' INT TERM HUP; read -r end; ip address delete \"$1\" dev \"$2\"; {down}");
        let waiting = Command::new("sh")
            .args(["-c", &script, "netbootd-address", &address, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::new(EX_UNAVAILABLE, format!("cannot run sh: {error}")))?;
        info!("{name} has the address {address} until netbootd ends");
        Ok(Self { waiting })
    }
}

impl Drop for SetAddress {
    fn drop(&mut self) {
        drop(self.waiting.stdin.take());
        if let Err(error) = self.waiting.wait() {
            warn!("the address could not be removed: {error}");
        }
    }
}

/// Another host that has the address answers first: an address is set only if nobody does (RFC 5227 §2.1).
fn is_free(interface: &Interface, Address { address, length }: Address) -> Result<(), Failure> {
    let name = &interface.name;
    match conflict::holder(interface, address) {
        Ok(None) => Ok(()),
        Ok(Some(card)) => Err(Failure::new(
            EX_UNAVAILABLE,
            format!(
                "{address} is in use on {name} by another host ({}): choose a free address of that network, such as \
                 --address {}/{length}; if that host is a DHCP server, leave --lease out",
                MacAddr(card),
                another(address, length)
            ),
        )),
        Err(error) => {
            warn!("cannot try whether another host on {name} has {address}: {error}");
            Ok(())
        }
    }
}

/// Another address of the same network, for an example.
fn another(address: Ipv4Addr, length: u8) -> Ipv4Addr {
    let prefix = Prefix::of(address, length);
    let last = Ipv4Addr::from_bits(prefix.last().to_bits() - 1);
    if last == address { Ipv4Addr::from_bits(prefix.network.to_bits() + 1) } else { last }
}

fn ip(arguments: &[&str]) -> Result<(), Failure> {
    let command = format!("ip {}", arguments.join(" "));
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|error| Failure::new(EX_UNAVAILABLE, format!("{command}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let is_denied = said.contains("not permitted");
    let (code, fix) =
        if is_denied { (EX_NOPERM, "; this needs root: sudo netbootd up …") } else { (EX_UNAVAILABLE, "") };
    Err(Failure::new(code, format!("{command}: {said}{fix}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_told_from_a_kernel() {
        let of = |line: &str| {
            let joined = joined(line.split_whitespace().map(OsString::from));
            joined.iter().map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("up --lease 192.0.2.5-192.0.2.9 vmlinuz"), "up --lease=192.0.2.5-192.0.2.9 vmlinuz");
        assert_eq!(of("up --lease 192.0.2.9-192.0.2.5"), "up --lease=192.0.2.9-192.0.2.5", "its fault is reported");
        for kept in
            ["up --lease vmlinuz initrd.img", "up --lease ./a.iso", "up --lease --for 2h", "up k -- --lease 1.1"]
        {
            assert_eq!(of(kept), kept);
        }
    }

    #[test]
    fn an_address_has_its_prefix() {
        assert_eq!(address("192.0.2.1/24").map(|address| address.to_string()), Ok("192.0.2.1/24".into()));
        for text in ["192.0.2.1", "192.0.2.1/", "192.0.2.1/33", "192.0.2.1/31", "boot.lab/24", "/24"] {
            assert!(address(text).is_err(), "{text}");
        }
        assert!(time("0s").is_err() && time("2").is_err() && time("2h").is_ok());
    }
}
