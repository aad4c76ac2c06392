//! `netbootd explain`: shows the boot replies that a machine would get, and why.

use std::{collections::BTreeSet, fs, net::Ipv4Addr, path::PathBuf};

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use uuid::Uuid;

use super::{
    client::At,
    failure::{EX_CONFIG, EX_OSERR, EX_UNAVAILABLE, EX_USAGE, Failure, configuration, print},
};
use crate::{
    boot::{
        hardware::Hardware,
        loader::{ClientArch, Loader},
        mac::MacAddr,
        text::visible,
    },
    config::{
        Faults,
        load::{Loaded, environment, load},
        resolve::resolve,
        settings::Settings,
    },
    daemon::{
        explain::{Asked, Explanation, Fitting, Stage, explain},
        explain_capture::{self, Explained, Line, explain_capture},
    },
};

/// Show the replies that a machine would get at each stage of its boot, and why.
///
/// For each stage it shows the loader for the machine's firmware, the reply to its iPXE and the complete boot script,
/// with the rule that decided. It uses the same code as the server. Assignments are read from the state file, if it can
/// be read. With a MACHINE, the running server says what it knows of it. With --pcap, each request of a capture is shown
/// with its reply, and so are the messages of other servers.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// A machine that the running server has seen: MAC address, UUID, or its name from its rule
    #[arg(value_name = "MACHINE", conflicts_with_all = ["mac", "pcap"], required_unless_present_any = ["mac", "pcap"])]
    machine: Option<String>,
    /// The MAC address of the machine's network card, in any notation
    #[arg(long, value_name = "MAC", conflicts_with = "pcap")]
    mac: Option<MacAddr>,
    /// Explain the requests of a capture file (pcap or pcapng, of tcpdump or Wireshark)
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// With --pcap: show the bytes of each reply too
    #[arg(long, requires = "pcap", conflicts_with_all = ["mac", "machine"])]
    wire: bool,
    /// With --pcap: the address of this server on the machines' network [default: that of the interface]
    #[arg(long, value_name = "ADDRESS", requires = "pcap", conflicts_with_all = ["mac", "machine"])]
    address: Option<Ipv4Addr>,
    /// Its firmware: bios, i386, x86_64, arm64…, or a number of DHCP option 93 [default: what it said, else x86_64]
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
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
    /// Show the pxelinux.cfg file that it would get too (always shown for U-Boot)
    #[arg(long)]
    pxelinux: bool,
    /// Configuration file [default: /etc/netbootd/netbootd.toml, if it exists]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let of_configuration = |faults: Faults| Failure::new(EX_CONFIG, faults);
        let loaded = load(configuration(self.config.as_deref()), environment(), &[]).map_err(of_configuration)?;
        let settings = resolve(&loaded).map_err(of_configuration)?;
        match &self.pcap {
            Some(file) => self.capture(file, settings),
            None => self.machine(&loaded, settings),
        }
    }

    fn machine(&self, loaded: &Loaded, settings: Settings) -> Result<(), Failure> {
        let mut asked = self.asked()?;
        let Some(mac) = self.mac.or(self.seen(&mut asked)?) else {
            let words = "the server has not heard the MAC address of this machine: use explain --mac MAC";
            return Err(Failure::new(EX_UNAVAILABLE, words));
        };
        asked.mac = mac;
        let explanation = explain(loaded, settings, &asked);
        if self.at.json {
            let json = serde_json::to_string_pretty(&explanation).map_err(|error| Failure::new(EX_OSERR, error))?;
            print(&(json + "\n"))
        } else {
            print(&as_text(mac, &explanation))
        }
    }

    /// What the command line says.
    fn asked(&self) -> Result<Asked, Failure> {
        let arch = self.arch.as_deref().unwrap_or("x86_64");
        let arch = ClientArch::named(arch, self.http_boot).ok_or_else(|| {
            let there = Loader::ALL.map(Loader::arch).join(", ");
            let words = format!("unknown architecture {arch:?}; known are: {there}, and the numbers of DHCP option 93");
            Failure::new(EX_USAGE, words)
        })?;
        Ok(Asked {
            mac: MacAddr([0; 6]),
            arch,
            uuid: self.uuid,
            serial: self.serial.clone(),
            hardware: Hardware {
                manufacturer: self.manufacturer.clone(),
                product: self.product.clone(),
                asset: self.asset.clone(),
                ..Hardware::default()
            }
            .bounded(),
            interface: self.interface.clone(),
            http_boot: self.http_boot,
            ipxe: self.ipxe,
            pxelinux: self.pxelinux,
        })
    }

    /// What the running server knows of a machine. A MAC address that it has not seen works as `--mac`.
    fn seen(&self, asked: &mut Asked) -> Result<Option<MacAddr>, Failure> {
        let Some(machine) = &self.machine else { return Ok(None) };
        let path = format!("/api/v1/machines/{}", utf8_percent_encode(machine, NON_ALPHANUMERIC));
        let seen = match (self.at.ask(Method::GET, &path, None), machine.parse()) {
            (Ok(seen), _) => seen,
            // Without a server, nothing is known of it. What the server refuses is refused: several machines use the card.
            (Err(Failure { code: EX_UNAVAILABLE, .. }), Ok(mac)) => return Ok(Some(mac)),
            (Err(failure), _) => return Err(failure),
        };
        let text = |pointer: &str| seen.pointer(pointer).and_then(Value::as_str);
        let client = text("/boot/client").unwrap_or_default();
        let title = client.strip_prefix("iPXE on ").unwrap_or(client);
        if self.arch.is_none()
            && let Some(arch) = ClientArch::titled(title)
        {
            asked.arch = arch;
            asked.ipxe |= title != client;
            asked.http_boot |= title.contains(" HTTP");
        }
        asked.serial = asked.serial.take().or_else(|| text("/serial").map(str::to_owned));
        asked.interface = asked.interface.take().or_else(|| text("/interface").map(str::to_owned));
        asked.uuid = asked.uuid.or_else(|| text("/uuid")?.parse().ok());
        let hardware =
            seen.get("hardware").and_then(|hardware| serde_json::from_value::<Hardware>(hardware.clone()).ok());
        if let Some(known) = hardware.filter(|_| asked.hardware.is_empty()) {
            asked.hardware = known;
        }
        Ok(text("/mac").and_then(|mac| mac.parse().ok()).or(machine.parse().ok()))
    }

    fn capture(&self, file: &PathBuf, settings: Settings) -> Result<(), Failure> {
        let name = file.display();
        let bytes = fs::read(file).map_err(|error| Failure::new(EX_UNAVAILABLE, format!("{name}: {error}")))?;
        let at = explain_capture::At { interface: self.interface.as_ref(), address: self.address };
        let explained = explain_capture(&bytes, settings, at);
        let mut explained = explained.map_err(|damaged| Failure::new(EX_UNAVAILABLE, format!("{name}: {damaged}")))?;
        if !self.wire {
            explained.packets.iter_mut().for_each(|packet| packet.wire = None);
        }
        if self.at.json {
            let json = serde_json::to_string_pretty(&explained).map_err(|error| Failure::new(EX_OSERR, error))?;
            return print(&(json + "\n"));
        }
        print(&capture_as_text(&explained))
    }
}

fn capture_as_text(Explained { packets, others, cut, state }: &Explained) -> String {
    let mut text = format!("state: {state}\n");
    for Line { number, at, from, what, answer, refused, wire, breaks, .. } in packets {
        text += &format!("\n#{number}  +{}.{:03} s  {from}\n  {}\n", at / 1_000_000, at / 1000 % 1000, visible(what));
        text += &answer.as_ref().map(|answer| format!("  netbootd answers: {}\n", visible(answer))).unwrap_or_default();
        text +=
            &refused.as_ref().map(|why| format!("  netbootd does not answer: {}\n", visible(why))).unwrap_or_default();
        text.extend(breaks.iter().map(|words| format!("  this breaks boots: {}\n", visible(words))));
        if let Some((to, hex)) = wire {
            text += &format!("  {} bytes to {to}:\n", hex.len() / 2);
            let lines = hex.as_bytes().chunks(64).map(|line| format!("    {}\n", String::from_utf8_lossy(line)));
            text.extend(lines);
        }
    }
    if packets.is_empty() {
        text += "\nthe capture has no DHCP or TFTP packet of a network boot: capture with\n\
                 tcpdump -i INTERFACE -w FILE 'udp port 67 or udp port 68 or udp port 4011 or udp port 69'\n";
    }
    text += &format!("\n{} packets of network boots, {others} others\n", packets.len());
    if *cut > 0 {
        text += &format!("{cut} packets were not kept whole: capture with tcpdump -s 0\n");
    }
    text
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
