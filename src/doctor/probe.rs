//! Fetches what a boot server offers, as firmware and iPXE do.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    ask::ask_boot_server,
    client::Client,
    echo::path_mtu,
    http::{Got, get},
    network::{Heard, Network},
    path::{File, Loader, NoScript, Path},
    tftp::{self, How},
};
use crate::{
    boot::image::{HEAD, Role},
    net::interface::Interface,
};

/// Fetches everything that the offers of one network lead to. `progress` is called before each step.
pub async fn probe(network: &Network, interface: &Interface, run: u16, progress: &mut dyn FnMut(&str)) -> Path {
    let own = interface.address();
    let mut path = Path { interface: network.interface.clone(), link_mtu: interface.mtu, ..Path::default() };
    let proxy = network.offers.iter().find(|offer| offer.offered.yiaddr.is_unspecified());
    path.server =
        proxy.map(Heard::server).or_else(|| network.offers.iter().find_map(|offer| Some(offer.boot_file()?.1)));
    path.is_here = path.server.is_some_and(|server| interface.addresses.contains(&server));
    let leasing = network.offers.iter().find(|offer| !offer.offered.yiaddr.is_unspecified()).map(Heard::server);
    // From the boot server's host, another host of the network stands for the machines.
    if let Some(other) = path.server.filter(|_| !path.is_here).or(leasing).filter(|other| *other != own) {
        progress("measuring the largest packet that passes");
        let mtu = path_mtu(&interface.name, other, interface.mtu).ok().flatten();
        path.echoed = mtu.map(|mtu| (other, mtu));
    }
    if let Some(proxy) = proxy {
        progress("asking UDP port 4011");
        let answer = ask_boot_server(own, proxy.server(), run).await;
        path.boot_server = Some(answer.map_err(|error| error.to_string()));
    }
    let base = network.offers.iter().find_map(|offer| base_of(&offer.boot_file()?.0));
    for client in Client::ALL {
        for (name, host) in offered(network, client, path.server) {
            let is_http = name.starts_with("http://");
            if client == Client::Ipxe && is_http {
                progress("fetching the script");
                script(&mut path, &name).await;
            } else if is_http {
                progress(&format!("fetching {name}"));
                let got = get(&name, WHOLE, Duration::from_secs(5)).await.and_then(whole);
                path.by_http.push((client, name, got.map(|bytes| bytes.len())));
            } else if name.contains("://") {
                path.others.push((client, name));
            } else if !path.loaders.iter().any(|loader| loader.name == name) {
                progress(&format!("fetching {name} by TFTP"));
                path.loaders.push(loader(client, name, own, host, base.as_deref()).await);
            }
        }
    }
    path
}

/// What a client is offered: of a proxy's offer and a lease's, firmware and iPXE differ in which they take. So the boot
/// file that a lease names on the boot server is looked at too, except for the name that is another loader for each client.
fn offered(network: &Network, client: Client, server: Option<Ipv4Addr>) -> Vec<(String, Ipv4Addr)> {
    let mut offers: Vec<&Heard> = network.offers.iter().filter(|offer| offer.client == client).collect();
    offers.sort_by_key(|offer| !offer.offered.yiaddr.is_unspecified());
    let mut files = offers.into_iter().filter_map(Heard::boot_file);
    let first = files.next();
    let is_firmware = matches!(client, Client::Bios | Client::Uefi);
    let also = |(name, host): &(String, Ipv4Addr)| {
        is_firmware && Some(*host) == server && name != UNIVERSAL && !name.contains("://")
    };
    first.into_iter().chain(files.filter(also)).collect()
}

/// `http://10.77.0.2:8080`
fn base_of(url: &str) -> Option<String> {
    let (host, _) = url.strip_prefix("http://")?.split_once('/')?;
    Some(format!("http://{host}"))
}

fn whole(got: Got) -> Result<Vec<u8>, String> {
    match got.status {
        _ if got.is_cut => Err(format!("it stopped after {} bytes", got.bytes.len())),
        200 | 206 => Ok(got.bytes),
        status => Err(format!("HTTP status {status}")),
    }
}

async fn loader(client: Client, name: String, own: Ipv4Addr, host: Ipv4Addr, base: Option<&str>) -> Loader {
    let fetched = {
        let name = name.clone();
        // Each waits for its packets on a thread of its own.
        tokio::task::spawn_blocking(move || {
            let fetch = |how: How| tftp::fetch(own, host, &name, how);
            let small = fetch(How { block: None, window: 1, most: WHOLE });
            let full = fetch(How { block: Some(FIRMWARE), window: 4, most: WHOLE });
            let try_block = |block: &u16| {
                let how = How { block: Some(*block), window: 1, most: usize::from(*block) };
                fetch(how).is_ok_and(|got| got.block == *block && got.bytes.len() >= usize::from(*block))
            };
            let largest = match (&small, &full) {
                (Ok(_), Err(_)) => BLOCKS.into_iter().find(try_block),
                _ => None,
            };
            (small, full, largest)
        })
        .await
    };
    let Ok((small, full, largest)) = fetched else {
        let ended = || Err("the fetch ended by a bug in netbootd".to_owned());
        return Loader {
            client,
            name,
            small: ended(),
            full: Err("it was not tried".into()),
            largest: None,
            is_same: None,
        };
    };
    let file = name.rsplit('/').next().unwrap_or(&name);
    let by_http = match base {
        Some(base) => get(&format!("{base}/loaders/{file}"), WHOLE, Duration::from_secs(5)).await.and_then(whole).ok(),
        None => None,
    };
    let is_same = match (&full, &by_http) {
        (Ok(full), Some(bytes)) => Some(full.bytes == *bytes),
        _ => None,
    };
    let small = small.map(|got| got.bytes.len()).map_err(|lost| lost.to_string());
    let full = full.map(|got| (got.bytes.len(), got.block)).map_err(|lost| lost.to_string());
    Loader { client, name, small, full, largest, is_same }
}

async fn script(path: &mut Path, url: &str) {
    let asked = format!("{url}?mac={}&arch=x86_64&platform=efi", Client::Uefi.card(0));
    let got = get(&asked, HEAD, Duration::from_secs(3)).await.and_then(whole);
    let text = got.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let lines = match &text {
        Ok(text) if text.contains(" netbootd has no boot for ") => Err(NoScript::Refused(refusal(text))),
        Ok(text) if text.starts_with("#!ipxe") => Ok(text.lines().count()),
        Ok(_) => Err(NoScript::NotFetched("it is no iPXE script".to_owned())),
        Err(why) => Err(NoScript::NotFetched(why.clone())),
    };
    path.script = Some((url.to_owned(), lines));
    let files = files(&text.unwrap_or_default());
    for (url, role) in files.iter().take(MOST_FILES) {
        let got = get(url, HEAD, Duration::from_secs(3)).await;
        let size = got.as_ref().ok().and_then(|got| got.size).unwrap_or_default();
        let head = got.and_then(whole).map(|bytes| (bytes, size));
        path.files.push(File { url: url.clone(), role: *role, head });
    }
    let largest = path.files.iter().max_by_key(|file| file.head.as_ref().map_or(0, |(_, size)| *size));
    if let Some(url) = largest.filter(|file| file.head.is_ok()).map(|file| file.url.clone()) {
        let began = Instant::now();
        match get(&url, SAMPLE, Duration::from_secs(6)).await {
            Ok(got) if !got.bytes.is_empty() => path.sample = Some((url, got.bytes.len(), began.elapsed())),
            _ => {}
        }
    }
}

/// What a script says that boots nothing.
fn refusal(text: &str) -> String {
    let said =
        text.lines().filter_map(|line| line.strip_prefix("echo ")).skip_while(|line| !line.contains("has no boot for"));
    let said: Vec<&str> = said.skip(1).take_while(|line| !line.starts_with("netbootd: ")).take(4).collect();
    said.join(" ")
}

/// The files that a script boots, with what it takes them for.
fn files(script: &str) -> Vec<(String, Option<Role>)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let role = match words.next()? {
            "kernel" => Some(Role::Kernel),
            "initrd" => Some(Role::Initrd),
            "module" | "imgfetch" => None,
            _ => return None,
        };
        let url = words.find(|word| word.starts_with("http://"))?;
        // An address that iPXE has to fill in first is another one for each machine.
        (!url.contains("${")).then(|| (url.to_owned(), role))
    };
    script.lines().filter_map(line).collect()
}

/// The name under which TFTP gives each machine the loader that fits it.
const UNIVERSAL: &str = "netboot";
/// No loader is larger.
const WHOLE: usize = 32 << 20;
/// Of the rate.
const SAMPLE: usize = 16 << 20;
/// Of a script.
const MOST_FILES: usize = 8;
/// EDK2's block size (UefiPxeBcDxe, `PxeBcTftpReadFile`).
const FIRMWARE: u16 = 1468;
/// Of paths with usual tunnels: PPPoE, WireGuard, VXLAN, Cilium.
const BLOCKS: [u16; 9] = [1460, 1432, 1408, 1388, 1368, 1328, 1248, 1024, 512];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_script_are_found() {
        let script = "#!ipxe\nkernel http://10.0.0.2:8080/assets/vmlinuz initrd=a || goto failed\n\
                      initrd --name a http://10.0.0.2:8080/assets/a || goto failed\nboot\nchain http://x/${uuid}\n";
        let expected = [
            ("http://10.0.0.2:8080/assets/vmlinuz".to_owned(), Some(Role::Kernel)),
            ("http://10.0.0.2:8080/assets/a".to_owned(), Some(Role::Initrd)),
        ];
        assert_eq!(files(script), expected);
        assert_eq!(base_of("http://10.0.0.2:8080/boot.ipxe").as_deref(), Some("http://10.0.0.2:8080"));
        assert_eq!(base_of("snponly.efi"), None);
    }
}
