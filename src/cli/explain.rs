//! `netbootd explain`: shows the boot replies that a machine would get, and why.

use std::{collections::BTreeSet, path::PathBuf};

use uuid::Uuid;

use super::failure::{EX_CONFIG, EX_OSERR, EX_USAGE, Failure, configuration, print};
use crate::{
    boot::{
        hardware::Hardware,
        loader::{ClientArch, Loader},
        mac::MacAddr,
    },
    config::{Faults, load::load, resolve::resolve},
    daemon::explain::{Asked, Explanation, Fitting, Stage, explain},
};

/// Show the replies that a machine would get at each stage of its boot, and why.
///
/// For each stage it shows the loader for the machine's firmware, the reply to its iPXE and the complete boot script,
/// with the rule that decided. It uses the same code as the server, but sends no request to a server. Assignments are
/// read from the state file, if it can be read.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The MAC address of the machine's network card, in any notation
    #[arg(long, value_name = "MAC")]
    mac: MacAddr,
    /// Its firmware: bios, i386, x86_64, arm64…, or a number of DHCP option 93
    #[arg(long, value_name = "ARCH", default_value = "x86_64")]
    arch: String,
    /// Its SMBIOS UUID
    #[arg(long, value_name = "UUID")]
    uuid: Option<Uuid>,
    /// Its SMBIOS serial number (iPXE reports it, firmware does not)
    #[arg(long, value_name = "SERIAL")]
    serial: Option<String>,
    /// Its manufacturer, as iPXE reports it
    #[arg(long, value_name = "TEXT")]
    manufacturer: Option<String>,
    /// Its product name, as iPXE reports it
    #[arg(long, value_name = "TEXT")]
    product: Option<String>,
    /// Its asset tag, as iPXE reports it
    #[arg(long, value_name = "TEXT")]
    asset: Option<String>,
    /// The interface of this host on which its requests arrive [default: the first one that is served]
    #[arg(short, long, value_name = "NAME")]
    interface: Option<String>,
    /// Its firmware boots by HTTP (UEFI HTTP Boot)
    #[arg(long)]
    http_boot: bool,
    /// It already runs iPXE, for example from ROM, and gets the script at once
    #[arg(long)]
    ipxe: bool,
    /// Configuration file [default: /etc/netbootd/netbootd.toml, if it exists]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let arch = ClientArch::named(&self.arch, self.http_boot).ok_or_else(|| {
            let there = Loader::ALL.map(Loader::arch).join(", ");
            let words =
                format!("unknown architecture {:?}; known are: {there}, and the numbers of DHCP option 93", self.arch);
            Failure::new(EX_USAGE, words)
        })?;
        let asked = Asked {
            mac: self.mac,
            arch,
            uuid: self.uuid,
            serial: self.serial,
            hardware: Hardware {
                manufacturer: self.manufacturer,
                product: self.product,
                asset: self.asset,
                ..Hardware::default()
            }
            .bounded(),
            interface: self.interface,
            http_boot: self.http_boot,
            ipxe: self.ipxe,
        };
        let of_configuration = |faults: Faults| Failure::new(EX_CONFIG, faults);
        let loaded = load(configuration(self.config.as_deref()), std::env::vars(), &[]).map_err(of_configuration)?;
        let settings = resolve(&loaded).map_err(of_configuration)?;
        let explanation = explain(&loaded, settings, &asked);
        if self.json {
            let json = serde_json::to_string_pretty(&explanation).map_err(|error| Failure::new(EX_OSERR, error))?;
            print(&(json + "\n"))
        } else {
            print(&as_text(self.mac, &explanation))
        }
    }
}

fn as_text(mac: MacAddr, Explanation { stages, interface, said, state }: &Explanation) -> String {
    let mut text = format!("{mac}\n");
    if let Some(interface) = interface {
        text += &format!("  interface     {interface}\n");
    }
    let assigned = said.as_ref().and_then(|entry| entry.assigned.as_ref());
    if let Some(assignment) = assigned {
        let once = if assignment.once { ", once" } else { "" };
        text += &format!("  assigned      {}{once}\n", assignment.profile);
    }
    if said.as_ref().is_some_and(|entry| entry.approved) {
        text += "  approved      yes (for dhcp.answer = \"known\")\n";
    }
    if let Some(entry) = said.as_ref().filter(|entry| entry.has_had_any()) {
        let all: BTreeSet<&String> = entry.spent.iter().chain(&entry.had).collect();
        let all: Vec<&str> = all.into_iter().map(String::as_str).collect();
        text += &format!("  booted once   {}\n", all.join(", "));
    }
    text += &format!("  state         {state}\n");
    for Stage { client, rules, answer, refused, script } in stages {
        text += &format!("\n{client}\n");
        for Fitting { number, name, place, passed_over } in rules {
            let name = name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            let why = passed_over.as_deref().unwrap_or("decides");
            text += &format!("  rule {number}{name} ({place}): {why}\n");
        }
        if rules.is_empty() {
            text += "  no rule applies\n";
        }
        text += &answer.as_ref().map(|answer| format!("  gets: {answer}\n")).unwrap_or_default();
        text += &refused.as_ref().map(|why| format!("  refused: {why}\n")).unwrap_or_default();
        for line in script.iter().flat_map(|script| script.lines()) {
            text += format!("    {line}").trim_end();
            text.push('\n');
        }
    }
    text
}
