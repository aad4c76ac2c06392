//! Other servers that keep machines from booting by us, and what to do about each.

use std::{fmt, net::Ipv4Addr};

/// A server that gets in the way, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its address.
    pub server: Ipv4Addr,
    /// What it does.
    pub fault: Fault,
}

/// What another server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It leases nothing and calls itself a boot server, as we do.
    OtherProxy,
    /// It leases addresses and calls itself a boot server: option 60.
    LeaseClaimsPxe,
    /// It leases addresses and calls itself a server for HTTP Boot, without a URI of ours.
    LeaseClaimsHttp,
    /// It leases addresses and names a boot file of its own.
    LeaseNamesBootfile {
        /// As it names it.
        name: String,
        /// The host that it comes from.
        from: Ipv4Addr,
    },
}

impl Fault {
    /// A short fixed name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::OtherProxy => "other_proxy",
            Self::LeaseClaimsPxe => "lease_claims_pxe",
            Self::LeaseClaimsHttp => "lease_claims_http",
            Self::LeaseNamesBootfile { .. } => "lease_names_bootfile",
        }
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server;
        match &self.fault {
            Fault::OtherProxy => write!(
                f,
                "another ProxyDHCP server answers network boots here: {server}; a machine may take either offer, \
                 so one boots from here and the next from there: stop one of the two"
            ),
            Fault::LeaseClaimsPxe => write!(
                f,
                "the DHCP server {server} sends option 60 (PXEClient) with its leases: UEFI machines then use it as \
                 their boot server and stop with PXE-E16; remove option 60 there (Windows: in the scope and server \
                 options, a leftover of WDS)"
            ),
            Fault::LeaseClaimsHttp => write!(
                f,
                "the DHCP server {server} sends option 60 (HTTPClient) with its leases, but no URI of this server: UEFI \
                 HTTP Boot then looks for its boot file there; remove option 60 there, or send it with a URI of this \
                 server, only to clients of HTTP Boot: netbootd dhcp-snippet prints the lines for each kind of server"
            ),
            Fault::LeaseNamesBootfile { name, from } => write!(
                f,
                "the DHCP server {server} also names a boot file, {name} from {from}: some machines use that one \
                 instead; remove it there (options 66 and 67, next-server and filename, dhcp-boot), or let it name \
                 this server, next-server first: netbootd dhcp-snippet prints the lines for each kind of server"
            ),
        }
    }
}
