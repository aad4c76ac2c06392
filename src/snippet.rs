//! Lines for the DHCP server that leases addresses, for networks where a proxy offer is not wanted or is ignored: which
//! server to boot from, the boot file of each client architecture, and iPXE's script.

use std::net::Ipv4Addr;

use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, context, value::Serde};
use serde::Serialize;

use crate::boot::loader::{ClientArch, Loader};

/// A kind of DHCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// dnsmasq, Pi-hole
    Dnsmasq,
    /// ISC Kea
    Kea,
    /// ISC dhcpd
    Isc,
    /// Windows Server
    Windows,
    /// MikroTik RouterOS
    Mikrotik,
    /// UniFi
    Unifi,
    /// OpenWrt
    Openwrt,
    /// pfSense and OPNsense
    Pfsense,
}

impl Kind {
    /// The template's name and text.
    fn template(self) -> &'static str {
        match self {
            Self::Dnsmasq => "dnsmasq.conf",
            Self::Kea => "kea.json",
            Self::Isc => "isc.conf",
            Self::Windows => "windows.ps1",
            Self::Mikrotik => "mikrotik.rsc",
            Self::Unifi => "unifi.txt",
            Self::Openwrt => "openwrt.sh",
            Self::Pfsense => "pfsense.txt",
        }
    }
}

/// This server, as the lines name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// The address that machines reach it at: next-server, siaddr.
    pub address: Ipv4Addr,
    /// Base of the script's URL: without a slash at its end.
    pub base: String,
    /// Base of the loaders' URLs. Firmware may have no DNS, so this has an IP address.
    pub loader_base: String,
    /// The loaders that were found, and their names.
    pub loaders: Vec<(Loader, String)>,
}

/// The lines for a kind of server.
///
/// # Errors
/// A template that fails, which a test excludes.
pub fn snippet(kind: Kind, here: &Here) -> Result<String, Error> {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    // These are no HTML, whatever their names end in.
    templates.set_auto_escape_callback(|_| AutoEscape::None);
    TEMPLATES.iter().try_for_each(|(name, text)| templates.add_template(name, text))?;
    let loaders: Vec<LoaderLines> = here.loaders.iter().map(|(loader, name)| here.lines(*loader, name)).collect();
    let known = context! {
        address => here.address.to_string(),
        base => &here.base,
        loaders => Serde(loaders),
        pfsense => Serde(here.pfsense()),
        universal => UNIVERSAL,
    };
    let text = templates.get_template(kind.template())?.render(known)?;
    Ok(format!("{}\n", text.trim_end()))
}

/// What a template is given of a loader.
#[derive(Serialize)]
struct LoaderLines {
    title: &'static str,
    tag: &'static str,
    name: String,
    url: String,
    /// Codes of firmware that fetches it by TFTP.
    tftp: Vec<Code>,
    /// And by HTTP.
    http: Vec<Code>,
}

/// A client architecture (option 93) in the notations of the servers.
#[derive(Serialize)]
struct Code {
    number: u16,
    hex: String,
    /// As ISC dhcpd compares: `00:07`.
    octets: String,
    /// As in option 60: `PXEClient:Arch:00007`.
    five: String,
}

impl Code {
    fn new(ClientArch(number): ClientArch) -> Self {
        let [high, low] = number.to_be_bytes();
        let octets = format!("{high:02x}:{low:02x}");
        Self { number, hex: format!("0x{number:04x}"), octets, five: format!("{number:05}") }
    }
}

/// A field of pfSense's form.
#[derive(Serialize)]
struct Field {
    /// Padded to the column of the values.
    title: String,
    value: String,
}

impl Here {
    fn lines(&self, loader: Loader, name: &str) -> LoaderLines {
        let codes = |http| loader.client_archs(http).map(Code::new).collect();
        LoaderLines {
            title: loader.title(),
            tag: loader.arch(),
            name: name.to_owned(),
            url: self.url(name),
            tftp: codes(false),
            http: codes(true),
        }
    }

    fn url(&self, name: &str) -> String {
        format!("{}/loaders/{name}", self.loader_base)
    }

    /// pfSense has a field for each of these, and none for other architectures.
    fn pfsense(&self) -> Vec<Field> {
        let named = |loader: Loader| self.loaders.iter().find(|(found, _)| *found == loader).map(|(_, name)| name);
        let file = |title: &'static str, loader| named(loader).map(|name| (title, name.clone()));
        let fields = [
            file("Default BIOS file name", Loader::Bios),
            file("UEFI 32 bit file name", Loader::EfiI386),
            file("UEFI 64 bit file name", Loader::EfiX86_64),
            file("ARM 32 bit file name", Loader::EfiArm32),
            file("ARM 64 bit file name", Loader::EfiArm64),
            named(Loader::EfiX86_64).map(|name| ("UEFI HTTPBoot URL", self.url(name))),
            Some(("iPXE boot URL", format!("{}/boot.ipxe", self.base))),
        ];
        let fields = fields.into_iter().flatten();
        fields.map(|(title, value)| Field { title: format!("{title:<32}"), value }).collect()
    }
}

/// The name under which TFTP gives each machine the loader that fits it.
const UNIVERSAL: &str = "netboot";

const TEMPLATES: [(&str, &str); 8] = [
    ("dnsmasq.conf", include_str!("../assets/snippets/dnsmasq.conf")),
    ("kea.json", include_str!("../assets/snippets/kea.json")),
    ("isc.conf", include_str!("../assets/snippets/isc.conf")),
    ("windows.ps1", include_str!("../assets/snippets/windows.ps1")),
    ("mikrotik.rsc", include_str!("../assets/snippets/mikrotik.rsc")),
    ("unifi.txt", include_str!("../assets/snippets/unifi.txt")),
    ("openwrt.sh", include_str!("../assets/snippets/openwrt.sh")),
    ("pfsense.txt", include_str!("../assets/snippets/pfsense.txt")),
];

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    fn here() -> Here {
        Here {
            address: Ipv4Addr::new(192, 0, 2, 10),
            base: "http://boot.lab:8080".into(),
            loader_base: "http://192.0.2.10:8080".into(),
            loaders: vec![(Loader::Bios, "undionly.kpxe".into()), (Loader::EfiX86_64, "snponly.efi".into())],
        }
    }

    #[test]
    fn every_kind_names_this_server_and_no_other_architecture_than_was_found() {
        for kind in Kind::value_variants() {
            let text = snippet(*kind, &here()).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            assert!(text.contains("192.0.2.10") && !text.contains("arm64") && !text.contains("{{"), "{kind:?}: {text}");
        }
    }

    #[test]
    fn dnsmasq_gets_next_server_with_every_boot_file_and_tells_ipxe_apart() {
        let expected = "\
# dnsmasq: lines for dnsmasq.conf, or a file in /etc/dnsmasq.d. Then restart dnsmasq.
# iPXE sends option 175; it gets its script, which ends the loop of loading iPXE again.
dhcp-match=set:netbootd-ipxe,175
dhcp-boot=tag:netbootd-ipxe,http://boot.lab:8080/boot.ipxe,,192.0.2.10
# BIOS
dhcp-match=set:netbootd-bios,option:client-arch,0
dhcp-boot=tag:netbootd-bios,tag:!netbootd-ipxe,undionly.kpxe,,192.0.2.10
# BIOS by HTTP
dhcp-match=set:netbootd-bios-http,option:client-arch,20
dhcp-boot=tag:netbootd-bios-http,tag:!netbootd-ipxe,http://192.0.2.10:8080/loaders/undionly.kpxe,,192.0.2.10
dhcp-option-force=tag:netbootd-bios-http,tag:!netbootd-ipxe,60,HTTPClient
# UEFI x86_64
dhcp-match=set:netbootd-x86_64,option:client-arch,7
dhcp-match=set:netbootd-x86_64,option:client-arch,9
dhcp-boot=tag:netbootd-x86_64,tag:!netbootd-ipxe,snponly.efi,,192.0.2.10
# UEFI x86_64 by HTTP
dhcp-match=set:netbootd-x86_64-http,option:client-arch,16
dhcp-match=set:netbootd-x86_64-http,option:client-arch,17
dhcp-boot=tag:netbootd-x86_64-http,tag:!netbootd-ipxe,http://192.0.2.10:8080/loaders/snponly.efi,,192.0.2.10
dhcp-option-force=tag:netbootd-x86_64-http,tag:!netbootd-ipxe,60,HTTPClient
";
        let text = snippet(Kind::Dnsmasq, &here()).expect("rendered");
        assert_eq!(text, expected.replace("by UEFI HTTP Boot", "by HTTP"));
    }
}
