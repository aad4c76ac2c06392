//! Judges the way of the boot files: from the server that offers them to here.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    client::Client,
    finding::{Area, Finding, Fix, Verdict},
};
use crate::boot::{image::Role, length};

/// What was fetched of one boot server.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// The server that the offers name.
    pub server: Option<Ipv4Addr>,
    /// The interface that it was asked on.
    pub interface: String,
    /// Whether it runs on this host.
    pub is_here: bool,
    /// The MTU of that interface in bytes.
    pub link_mtu: usize,
    /// A host at the other end, and the largest packet that passes to it, in bytes: the boot server, or, from its own
    /// host, the leasing server.
    pub echoed: Option<(Ipv4Addr, usize)>,
    /// Whether port 4011 answered; none: it was not asked.
    pub boot_server: Option<Result<(), String>>,
    /// The loaders that were offered by TFTP.
    pub loaders: Vec<Loader>,
    /// The loaders that were offered by HTTP: who gets it, its URL, and its size or what went wrong.
    pub by_http: Vec<(Client, String, Result<usize, String>)>,
    /// Boot files that are offered by another protocol than HTTP and TFTP: who gets it, and its URL.
    pub others: Vec<(Client, String)>,
    /// The script: its URL, and how many lines it has.
    pub script: Option<(String, Result<usize, NoScript>)>,
    /// Files that the script names.
    pub files: Vec<File>,
    /// What was fetched to measure the rate: its name, bytes and time.
    pub sample: Option<(String, usize, Duration)>,
}

/// A loader that was offered by TFTP.
#[derive(Clone, Debug)]
pub struct Loader {
    /// Who is offered it.
    pub client: Client,
    /// Its name.
    pub name: String,
    /// With blocks of 512 bytes and no option: its size.
    pub small: Result<usize, String>,
    /// With the blocks of UEFI: its size and that of its blocks.
    pub full: Result<(usize, u16), String>,
    /// The largest blocks that arrive, if full ones do not.
    pub largest: Option<u16>,
    /// Whether HTTP serves the same bytes; none: it does not serve this name.
    pub is_same: Option<bool>,
}

/// Why a machine has no script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoScript {
    /// None came, or something else.
    NotFetched(String),
    /// It boots nothing, and says why.
    Refused(String),
}

/// A file that the script names.
#[derive(Clone, Debug)]
pub struct File {
    /// Its URL.
    pub url: String,
    /// What the script takes it for; none: any file.
    pub role: Option<Role>,
    /// Its first bytes and its size, or what went wrong.
    pub head: Result<(Vec<u8>, u64), String>,
}

/// All findings about a path.
#[must_use]
pub fn judge(path: &Path) -> Vec<Finding> {
    let mut findings: Vec<Finding> = path.mtu().into_iter().collect();
    let is_small = findings.iter().any(|finding| finding.verdict == Verdict::Fault);
    findings.extend(path.boot_server());
    // What follows from a small MTU is not said again.
    let loaders = path.loaders.iter().map(|loader| path.loader(loader));
    findings.extend(loaders.filter(|finding| !is_small || finding.id != "loader_in_small_blocks"));
    findings.extend(path.by_http.iter().map(|(client, url, size)| loader_by_http(*client, url, size)));
    findings.extend(path.others.iter().map(|(client, url)| {
        let text =
            format!("{url} for {} was not fetched: this program fetches by http:// and by TFTP only", client.title());
        found("not_fetched", Verdict::Note, text)
    }));
    findings.extend(path.script());
    findings.extend(path.files.iter().map(file));
    findings.extend(path.sample.as_ref().map(sample));
    findings
}

fn found(id: &'static str, verdict: Verdict, text: impl Into<String>) -> Finding {
    Finding::new(id, Area::Path, verdict, text)
}

impl Path {
    fn at(&self) -> String {
        self.server.map_or("the boot server".into(), |server| server.to_string())
    }

    /// Of what passes to the leasing server, and of what TFTP brought.
    fn mtu(&self) -> Option<Finding> {
        // Machines that boot have the MTU of Ethernet, also where this host has large frames.
        let by_echo = self.echoed.filter(|(_, mtu)| *mtu < self.link_mtu.min(ETHERNET));
        let full = self.loaders.iter().find(|loader| loader.small.is_ok() && loader.full.is_err());
        let by_tftp = full.and_then(|loader| loader.largest).map(|block| usize::from(block) + HEADERS);
        let Some(mtu) = by_echo.map(|(_, mtu)| mtu).or(by_tftp) else {
            let (to, mtu) = self.echoed?;
            return Some(found("path_mtu", Verdict::Ok, format!("packets of {mtu} bytes pass to {to}")));
        };
        let text = format!(
            "packets of more than {mtu} bytes are lost on the way, though the MTU of {} is {}: TFTP and HTTP stop in the middle",
            self.interface, self.link_mtu
        );
        let mut finding = found("path_mtu", Verdict::Fault, text);
        if let Some((to, mtu)) = by_echo {
            finding = finding.seen(format!("the largest ICMP echo that comes back from {to} has {mtu} bytes"));
        }
        if let Some(Loader { name, full: Err(why), .. }) = full {
            finding = finding.seen(format!("{name} comes with blocks of 512 bytes, and not with those of UEFI: {why}"));
        }
        let interface = &self.interface;
        Some(match self.is_here {
            true => finding.fixed_by(Fix::Run(format!("sudo ip link set dev {interface} mtu {mtu}"))),
            false => finding
                .fixed_by(Fix::Do(format!("on {}, where INTERFACE is that of this network:", self.at())))
                .fixed_by(Fix::Paste(format!("sudo ip link set dev INTERFACE mtu {mtu}"))),
        })
    }

    fn boot_server(&self) -> Option<Finding> {
        let at = self.at();
        Some(match self.boot_server.as_ref()? {
            Ok(()) => found("boot_server_answers", Verdict::Ok, format!("UDP port 4011 of {at} answers")),
            Err(why) => {
                let text = format!(
                    "UDP port 4011 of {at} does not answer: firmware that asks it stops with PXE-E55 or PXE-E16"
                );
                found("boot_server_silent", Verdict::Fault, text).seen(why.clone())
                    .fixed_by(Fix::Do(format!("allow UDP port 4011 in every firewall on {at} and on the way; run netbootd doctor on {at}: it reads the packet filter there")))
            }
        })
    }

    fn loader(&self, loader: &Loader) -> Finding {
        let Loader { client, name, small, full, is_same, .. } = loader;
        let (client, at) = (client.title(), self.at());
        match (small, full) {
            (Err(why), Err(_)) => {
                let text = format!("{name} for {client} does not come by TFTP from {at}: {why}");
                let fix = match why.contains("TFTP error") {
                    true => {
                        "`netbootd loaders` shows the names of the loaders; where the leasing server names this file, let it name netboot"
                    }
                    false => {
                        "allow UDP port 69 and the answers to it in every firewall on the way; behind NAT set tftp.single_port = true"
                    }
                };
                found("loader_not_fetched", Verdict::Fault, text).fixed_by(Fix::Do(fix.into()))
            }
            (Ok(_), Err(why)) => {
                let text = format!("{name} for {client} comes by TFTP from {at} in small blocks only: {why}");
                found("loader_in_small_blocks", Verdict::Fault, text)
                    .fixed_by(Fix::Configure(format!("tftp.max_block_size = {}", loader.largest.unwrap_or(512))))
            }
            (Err(why), Ok(_)) => {
                let text = format!(
                    "{name} for {client} does not come in blocks of 512 bytes from {at}, as old ROMs ask: {why}"
                );
                found("loader_in_large_blocks", Verdict::Warning, text)
            }
            (Ok(small), Ok((full, _))) if small != full || *is_same == Some(false) => {
                let text = format!(
                    "{name} for {client} is not the same each time: by TFTP {small} and {full} bytes, and other bytes by HTTP"
                );
                found("loader_differs", Verdict::Fault, text).fixed_by(Fix::Do(
                    "another server, or a cache on the way, answers for this address: check for a second host with it"
                        .into(),
                ))
            }
            (Ok(size), Ok((_, block))) => {
                let same = if *is_same == Some(true) { ", and the same bytes by HTTP" } else { "" };
                let text = format!(
                    "{name} for {client} comes by TFTP from {at}: {size} bytes in blocks of 512 and of {block}{same}"
                );
                found("loader", Verdict::Ok, text)
            }
        }
    }

    fn script(&self) -> Option<Finding> {
        let (url, lines) = self.script.as_ref()?;
        Some(match lines {
            Ok(lines) => found("script", Verdict::Ok, format!("{url} is a script of {lines} lines")),
            Err(NoScript::NotFetched(why)) => {
                found("script_not_fetched", Verdict::Fault, format!("iPXE cannot fetch its script {url}: {why}"))
                    .fixed_by(Fix::Do(
                        "allow the HTTP port in every firewall on the way, and check http.base_url".into(),
                    ))
            }
            Err(NoScript::Refused(why)) if is_of_a_file(why) => {
                found("file_corrupt", Verdict::Fault, format!("{url} boots nothing: {why}")).fixed_by(right_file())
            }
            Err(NoScript::Refused(why)) => {
                found("script_not_fetched", Verdict::Fault, format!("{url} boots nothing: {why}"))
                    .fixed_by(Fix::Do("netbootd check names the place in the configuration".into()))
            }
        })
    }
}

fn loader_by_http(client: Client, url: &str, size: &Result<usize, String>) -> Finding {
    let client = client.title();
    match size {
        Ok(size) => found("loader", Verdict::Ok, format!("{url} for {client}: {size} bytes")),
        Err(why) => found("loader_not_fetched", Verdict::Fault, format!("{url} for {client} does not come: {why}"))
            .fixed_by(Fix::Do(
                "allow the HTTP port in every firewall on the way; `netbootd loaders` shows which loaders are there"
                    .into(),
            )),
    }
}

fn file(File { url, role, head }: &File) -> Finding {
    match head {
        Err(why) => {
            found("file_not_fetched", Verdict::Fault, format!("the script names {url}, which does not come: {why}"))
                .fixed_by(Fix::Do(
                    "put the file into the assets folder, or correct the profile that names it: netbootd check".into(),
                ))
        }
        Ok((head, size)) => match role.map(|role| checked(role, head, *size)) {
            Some(Err(words)) => found("file_corrupt", Verdict::Fault, format!("{url} {words}")).fixed_by(right_file()),
            Some(Ok(())) | None => found("file", Verdict::Ok, format!("{url}: {size} bytes")),
        },
    }
}

fn right_file() -> Fix {
    Fix::Do("put the right file in its place: netbootd check says what each file is".into())
}

/// Whether a script is refused because of what a file is ([`Role::starts`], [`length::check`]).
fn is_of_a_file(why: &str) -> bool {
    [" is not a kernel: ", " is not an EFI program: ", " is cut off: "].iter().any(|words| why.contains(words))
}

/// What is wrong with a file. A server that does not say its size says 0.
fn checked(role: Role, head: &[u8], size: u64) -> Result<(), String> {
    role.check(head, None)?;
    if role == Role::Kernel && size > 0 { length::check(head, size) } else { Ok(()) }
}

fn sample((name, bytes, took): &(String, usize, Duration)) -> Finding {
    let rate = *bytes as f64 / took.as_secs_f64().max(1e-3) / 1e6;
    let text = format!("{:.1} MB of {name} came in {:.1} s: {rate:.1} MB/s", *bytes as f64 / 1e6, took.as_secs_f64());
    match rate {
        // A 100 Mbit/s network carries eleven.
        ..2.0 => found("slow_path", Verdict::Warning, text).fixed_by(Fix::Do(
            "check for a link at 10 Mbit/s or half duplex (ethtool INTERFACE), and http.rate_limit".into(),
        )),
        _ => found("rate", Verdict::Ok, text),
    }
}

/// The MTU of Ethernet without large frames.
const ETHERNET: usize = 1500;
/// Of IPv4, UDP and TFTP.
const HEADERS: usize = 20 + 8 + 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(path: &Path) -> Vec<(&'static str, Verdict)> {
        judge(path).into_iter().map(|finding| (finding.id, finding.verdict)).collect()
    }

    fn loader(small: Result<usize, String>, full: Result<(usize, u16), String>, largest: Option<u16>) -> Path {
        let loader = Loader { client: Client::Uefi, name: "snponly.efi".into(), small, full, largest, is_same: None };
        Path { loaders: vec![loader], link_mtu: 1500, interface: "eth1".into(), ..Path::default() }
    }

    #[test]
    fn small_blocks_alone_show_a_small_mtu() {
        let silent = || Err("no more data after 0 bytes".to_owned());
        let path = loader(Ok(9), silent(), Some(1368));
        let findings = judge(&path);
        assert!(findings[0].text.starts_with("packets of more than 1400 bytes are lost"), "{findings:#?}");
        assert_eq!(findings[0].fix[1], Fix::Paste("sudo ip link set dev INTERFACE mtu 1400".into()));
        assert_eq!(findings.len(), 1, "{findings:#?}");
        let unmeasured = judge(&loader(Ok(9), silent(), None));
        assert_eq!(unmeasured[0].fix, [Fix::Configure("tftp.max_block_size = 512".into())]);
        let path = Path {
            is_here: true,
            echoed: Some((Ipv4Addr::new(192, 0, 2, 1), 1400)),
            ..loader(Ok(9), Ok((9, 1468)), None)
        };
        assert_eq!(ids(&path), [("path_mtu", Verdict::Fault), ("loader", Verdict::Ok)]);
        assert_eq!(judge(&path)[0].fix, [Fix::Run("sudo ip link set dev eth1 mtu 1400".into())]);
        let jumbo = Path { link_mtu: 9000, echoed: Some((Ipv4Addr::new(192, 0, 2, 1), 1504)), ..path };
        assert_eq!(ids(&jumbo), [("path_mtu", Verdict::Ok), ("loader", Verdict::Ok)]);
        assert_eq!(ids(&loader(Err("silent".into()), silent(), None)), [("loader_not_fetched", Verdict::Fault)]);
        assert_eq!(ids(&loader(Ok(9), Ok((8, 1468)), None)), [("loader_differs", Verdict::Fault)]);
    }

    #[test]
    fn files_are_judged_by_their_first_bytes_and_the_rate_by_a_sample() {
        let file =
            |head: &[u8]| File { url: "http://x/k".into(), role: Some(Role::Kernel), head: Ok((head.to_vec(), 9)) };
        let files = vec![file(b"<html>404"), file(b"MZ\0\0"), File { head: Err("404".into()), ..file(b"") }];
        let slow = Some(("k".into(), 1_000_000, Duration::from_secs(1)));
        let found = ids(&Path { files, sample: slow, ..Path::default() });
        assert_eq!(found[0], ("file_corrupt", Verdict::Fault));
        assert_eq!(found[2..], [("file_not_fetched", Verdict::Fault), ("slow_path", Verdict::Warning)]);
    }
}
