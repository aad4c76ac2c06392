//! What netbootd would answer to each request of a capture, by the functions that answer on the wire, and what other
//! servers answered in it.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    explain::{place, roster},
    loaders, plan,
};
use crate::{
    boot::{live::Live, mac::MacAddr, over::Over, reason::Reason},
    config::settings::Settings,
    dhcp::{
        destination::destination,
        offered::Offered,
        proxy::{self, Action, Deciding, Here, Port},
        request::{Kind, Request},
        rival::rivals,
    },
    files::{
        AssetRoot,
        found::{Caller, Found, Names},
    },
    net::{
        capture::{Damaged, Packet, packets},
        frame::Datagram,
    },
    offers::attempts::Attempts,
    tftp::{
        asker::Returns,
        packet::Packet as Tftp,
        serve::{Client, look_up},
    },
};

/// Where the capture is taken to be from.
#[derive(Clone, Copy, Debug, Default)]
pub struct At<'a> {
    /// The interface of this host that hears the requests.
    pub interface: Option<&'a String>,
    /// Our address there.
    pub address: Option<Ipv4Addr>,
}

/// All that was found in a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Packets of network boots, in their order.
    pub packets: Vec<Line>,
    /// How many packets are something else.
    pub others: usize,
    /// How many packets the capture kept only in part.
    pub cut: usize,
    /// Where assignments were read, or why not.
    pub state: String,
}

/// A packet of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// From 1, as Wireshark counts.
    pub number: usize,
    /// Microseconds since the first packet.
    pub at: u64,
    /// Sender.
    pub from: SocketAddrV4,
    /// Receiver.
    pub to: SocketAddrV4,
    /// What it is.
    pub what: String,
    /// What netbootd would answer; none: it is no request, or it gets no answer.
    pub answer: Option<String>,
    /// Why netbootd would not answer.
    pub refused: Option<String>,
    /// The bytes of that answer, in hexadecimal, and where they would go.
    pub wire: Option<(SocketAddrV4, String)>,
    /// What this packet of another server keeps machines from.
    pub breaks: Vec<String>,
}

/// Explains the bytes of a capture file.
///
/// # Errors
/// The file is no capture, or it is damaged.
pub fn explain_capture(file: &[u8], settings: Settings, at: At<'_>) -> Result<Explained, Damaged> {
    let all = packets(file)?;
    let (roster, state) = roster(&settings.fixed.state);
    let (here, is_named) = (here(&settings, at), at.address.is_some() || at.interface.is_some());
    let attempts = Mutex::new(Attempts::new(settings.fixed.dhcp.rates, []));
    let (found, _) = loaders::find(&settings.loader_dirs);
    let assets = settings.fixed.assets.clone();
    let live = Live::new(plan::rules_with(settings, found), roster);
    let (returns, began, first) = (Mutex::default(), Instant::now(), all.first().map_or(0, |p| p.at));
    let explaining = Explaining { here, is_named, attempts, returns, assets, live, began, first };
    let lines: Vec<Line> = all.iter().filter_map(|packet| explaining.packet(packet)).collect();
    let (others, cut) = (all.len() - lines.len(), all.iter().filter(|packet| packet.cut > 0).count());
    Ok(Explained { packets: lines, others, cut, state })
}

fn here(settings: &Settings, at: At<'_>) -> Here {
    let (_, here) = place(settings, at.interface);
    let Some(address) = at.address else { return here };
    let base_url = settings.fixed.http.base(address);
    let firmware_url = settings.fixed.http.firmware_base(address);
    Here { address, base_url, firmware_url, ..here }
}

struct Explaining {
    here: Here,
    /// Whether the user named our address or interface. Else the capture may be of another host.
    is_named: bool,
    attempts: Mutex<Attempts>,
    returns: Mutex<Returns>,
    assets: Option<Arc<AssetRoot>>,
    live: Arc<Live>,
    began: Instant,
    /// The time of the first packet.
    first: u64,
}

impl Explaining {
    /// None: the packet is no part of a network boot.
    fn packet(&self, packet: &Packet<'_>) -> Option<Line> {
        let Datagram { from, to, payload } = packet.datagram()?;
        let at = packet.at.saturating_sub(self.first);
        let now = self.began + Duration::from_micros(at);
        let (what, breaks) = (String::new(), Vec::new());
        let line = Line { number: packet.number, at, from, to, what, answer: None, refused: None, wire: None, breaks };
        match (from.port(), to.port()) {
            // A request of EDK2 to port 4011 comes from port 4011.
            (_, 67 | 4011) if payload.first() == Some(&1) => Some(self.request(line, payload, now)),
            (67 | 4011, _) if payload.first() == Some(&2) => Some(self.of_server(line, payload)),
            (_, 69) => Some(self.read(line, payload, *from.ip(), now)),
            // The answer to a read request comes from any port.
            (1024.., 1024..) if payload.starts_with(&[0, 5]) => tftp_error(line, payload),
            _ => None,
        }
    }

    fn request(&self, line: Line, payload: &[u8], now: Instant) -> Line {
        let port = if line.to.port() == 67 { Port::Dhcp } else { Port::BootServer };
        let request = match Request::parse(payload) {
            Ok(request) => request,
            Err(why) => {
                return Line { what: "a message that cannot be read".into(), refused: Some(why.to_string()), ..line };
            }
        };
        let who = request.client().map(|client| format!(" ({client})")).unwrap_or_default();
        let kind = match request.kind {
            Kind::Discover => "DHCPDISCOVER".to_owned(),
            Kind::Request => "DHCPREQUEST".to_owned(),
            Kind::Decline => "DHCPDECLINE".to_owned(),
            Kind::Release => "DHCPRELEASE".to_owned(),
            Kind::Inform => "DHCPINFORM".to_owned(),
            Kind::Other(number) => format!("DHCP message {number}"),
        };
        let relay =
            if request.giaddr.is_unspecified() { String::new() } else { format!(" by the relay {}", request.giaddr) };
        let what = format!("{kind} of {}{who} to port {}{relay}", request.mac, line.to.port());
        if let Some(why) = self.elsewhere(*line.to.ip()) {
            return Line { what, refused: Some(why), ..line };
        }
        let (rules, roster) = (self.live.rules.load(), self.live.roster.load());
        let deciding = Deciding { rules: &rules, roster: &roster };
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let action = proxy::answer(&request, port, &self.here, deciding, &mut attempts, now);
        let is_booting = request.booting().is_some() || attempts.has_just_asked(request.mac, now);
        if let Some(address) = request.address().filter(|_| is_booting) {
            self.took(&mut attempts, request.mac, address);
        }
        match action {
            Action::Reply { reply, client, offer, delay, .. } => {
                self.live.heard().asked(&client);
                let late = if delay.is_zero() { String::new() } else { format!(", {delay:?} late") };
                let bytes = reply.encode();
                let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let goes_to = destination(&request, line.from, port);
                Line { what, answer: Some(offer + &late), wire: Some((goes_to, hex)), ..line }
            }
            Action::Refuse(_, why) | Action::Ignore(why) => {
                if let Some(client) = request.booting() {
                    self.live.heard().asked(&client);
                }
                Line { what, refused: Some(why.to_string()), ..line }
            }
        }
    }

    /// A unicast to another host never reaches us, and neither does a multicast. The broadcast address of a network ends
    /// in 255, as far as a capture shows it.
    fn elsewhere(&self, to: Ipv4Addr) -> Option<String> {
        let (ours, [.., last]) = (self.here.address, to.octets());
        let is_for_all = to.is_unspecified() || last == u8::MAX;
        let is_ours = to == ours || ours.is_unspecified();
        (self.is_named && !is_for_all && !is_ours)
            .then(|| format!("it is sent to {to}, and this server is {ours} (see --address)"))
    }

    fn took(&self, attempts: &mut Attempts, mac: MacAddr, address: Ipv4Addr) {
        attempts.took_address(mac, address);
        self.live.heard().took(mac, address);
    }

    fn of_server(&self, line: Line, payload: &[u8]) -> Line {
        let offered = match Offered::parse(payload) {
            Ok(offered) => offered,
            Err(Reason::MessageType(0)) => {
                let what = format!("an answer of a BOOTP server, {}, which is no DHCP server", line.from.ip());
                return Line { what, ..line };
            }
            Err(Reason::MessageType(number)) => {
                return Line { what: format!("DHCP message {number} of the server {}", line.from.ip()), ..line };
            }
            Err(why) => return Line { what: format!("a server's message ({why})"), ..line },
        };
        let server = offered.server_id.unwrap_or(*line.from.ip());
        let kind = match (offered.is_ack, offered.is_nak) {
            (true, _) => "DHCPACK",
            (_, true) => "DHCPNAK",
            _ => "DHCPOFFER",
        };
        let mut says = Vec::new();
        if !offered.yiaddr.is_unspecified() {
            says.push(format!("the address {}", offered.yiaddr));
        }
        if !offered.bootfile.is_empty() {
            says.push(format!("the boot file {}", String::from_utf8_lossy(&offered.bootfile)));
        }
        if !offered.vendor_class.is_empty() {
            says.push(format!("option 60 {}", String::from_utf8_lossy(&offered.vendor_class)));
        }
        let is_ours = server == self.here.address;
        let whose = if is_ours { "of this server" } else { "of another server" };
        let says = if says.is_empty() { String::new() } else { format!(": {}", says.join(", ")) };
        let what = format!("{kind} {whose}, {server}, for {}{says}", offered.mac);
        let breaks =
            rivals(&offered, *line.from.ip(), &[self.here.address], &[]).iter().map(ToString::to_string).collect();
        if offered.is_ack && !offered.yiaddr.is_unspecified() {
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            self.took(&mut attempts, offered.mac, offered.yiaddr);
        }
        Line { what, breaks, ..line }
    }

    /// A read request of TFTP: the names are looked up by the function that serves them.
    fn read(&self, line: Line, payload: &[u8], client: Ipv4Addr, now: Instant) -> Line {
        let request = match Tftp::parse(payload) {
            Ok(Tftp::Read(request)) => request,
            Ok(Tftp::Write) => {
                let why = Some(Reason::Write.to_string());
                return Line { what: "a TFTP write request".into(), refused: why, ..line };
            }
            Ok(_) => return Line { what: "a TFTP packet that is no request".into(), ..line },
            Err(why) => {
                return Line {
                    what: "a TFTP packet that cannot be read".into(),
                    refused: Some(why.to_string()),
                    ..line
                };
            }
        };
        let what = format!("a TFTP read request for {}", String::from_utf8_lossy(&request.filename));
        if let Some(why) = self.elsewhere(*line.to.ip()) {
            return Line { what, refused: Some(why), ..line };
        }
        let rules = self.live.rules.load();
        let caller = Caller {
            address: Some(client),
            interface: None,
            over: Over::Tftp,
            is_boot_client: true,
            attempts: &self.attempts,
            live: &self.live,
            signer: None,
        };
        let names =
            Names { rules: &rules, assets: self.assets.as_deref(), base: &self.here.base_url, caller: Some(caller) };
        let client = Client { address: client, heard: self.live.heard().at(client) };
        let mut returns = self.returns.lock().unwrap_or_else(PoisonError::into_inner);
        match look_up(&names, &request, client, (&mut returns, now)) {
            Ok(Found::Loader(file)) => answered(line, what, &file.name, file.bytes.len() as u64),
            Ok(Found::Asset { path, asset, .. }) => answered(line, what, &path, asset.size),
            Ok(Found::Text { name, text, .. }) => answered(line, what, &name, text.len() as u64),
            Err(why) => Line { what, refused: Some(why.to_string()), ..line },
        }
    }
}

fn answered(line: Line, what: String, name: &str, size: u64) -> Line {
    Line { what, answer: Some(format!("{name}, {size} bytes")), ..line }
}

/// The end of a transfer by one of its sides (RFC 1350 §5).
fn tftp_error(line: Line, payload: &[u8]) -> Option<Line> {
    let Ok(Tftp::Error { code, message }) = Tftp::parse(payload) else { return None };
    // EDK2 ends its question for a size so (UefiPxeBcDxe).
    let meaning = if code == 8 { " (a client that only asked for the size ends so)" } else { "" };
    Some(Line { what: format!("TFTP error {code}: {message:?}{meaning}"), ..line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_number_and_words() {
        let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 2000);
        let (what, breaks) = (String::new(), Vec::new());
        let line =
            Line { number: 1, at: 0, from: nobody, to: nobody, what, answer: None, refused: None, wire: None, breaks };
        let told = tftp_error(line.clone(), b"\0\x05\0\x01File not found\0").expect("an error");
        assert_eq!(told.what, "TFTP error 1: \"File not found\"");
        assert_eq!(tftp_error(line, b"\0\x05"), None);
    }
}
