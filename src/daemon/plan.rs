//! What a server is about to do: the configuration, and what was found of it on this host.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use tracing::{info, warn};

use super::loaders;
use crate::{
    boot::{
        loader::Loader,
        machine::{Choice, Rules},
        template::Templates,
        why::install_hint,
    },
    config::resolve::{Settings, Tftp},
    files::AssetRoot,
    net::{
        interface::{Interface, Unclear, choose},
        limits::ClientLimits,
    },
};

/// All that a server needs to know.
#[derive(Debug)]
pub struct Plan {
    /// The interfaces to serve; at least one.
    pub interfaces: Vec<Interface>,
    /// What decides.
    pub rules: Arc<Rules>,
    /// The assets folder.
    pub assets: Option<Arc<AssetRoot>>,
    /// The TFTP stage.
    pub tftp: Tftp,
    /// TCP port of the HTTP stage.
    pub http_port: u16,
    /// Whether HTTP shows the folders below the assets folder.
    pub listing: bool,
    /// Base of all URLs, where it is not the address that the client is on.
    pub base_url: Option<String>,
    /// What HTTP clients are held to.
    pub http_limits: ClientLimits,
    /// For transfers that run when the server is told to stop.
    pub grace: Duration,
}

impl Plan {
    /// Adds what is found on this host: interfaces and loaders. What was chosen, and what is missing, is logged.
    ///
    /// # Errors
    /// Which interfaces there are to choose from.
    pub fn new(settings: Settings) -> Result<Self, Unclear> {
        let interfaces = choose(&settings.interfaces)?;
        if settings.interfaces.is_empty() {
            let chosen: Vec<String> = interfaces.iter().map(ToString::to_string).collect();
            info!("interface {}, the only wired one that is up and has an IPv4 address", chosen.join(", "));
        }
        let (loaders, rejected) = loaders::find(&settings.loader_dirs);
        for rejected in rejected {
            warn!("{} is passed over: {}", rejected.path.display(), rejected.why);
        }
        for loader in Loader::ALL {
            match loaders.of(loader) {
                Some(file) => info!("loader for {}: {}", loader.title(), file.origin),
                None if matches!(loader, Loader::Bios | Loader::EfiX86_64) => {
                    warn!("no loader for {}: {}", loader.title(), install_hint(loader));
                }
                None => {}
            }
        }
        let rules = Rules {
            loaders,
            profiles: settings.profiles,
            default_profile: settings.default_profile,
            templates: Templates::default(),
        };
        Ok(Self {
            interfaces,
            rules: Arc::new(rules),
            assets: settings.assets,
            tftp: settings.tftp,
            http_port: settings.http_port,
            listing: settings.listing,
            base_url: settings.base_url,
            http_limits: settings.http_limits,
            grace: settings.grace,
        })
    }

    /// Our HTTP stage for the clients of an interface.
    pub(super) fn base_url(&self, address: Ipv4Addr) -> String {
        self.base_url.clone().unwrap_or_else(|| format!("http://{address}:{}", self.http_port))
    }

    /// A line for each listener and each thing that is served, before the first client comes.
    pub(super) fn announce(&self) {
        let also = |things: &str| match &self.assets {
            Some(assets) => format!("{things}, and every file in {}", assets.path().display()),
            None => things.to_owned(),
        };
        for interface in &self.interfaces {
            let name = &interface.name;
            info!("dhcp  {name}, ports 67 and 4011: where to boot, beside the network's own DHCP server");
            for address in &interface.addresses {
                if self.tftp.enabled {
                    info!("tftp  {address}:{}: {}", self.tftp.port, also("loaders"));
                }
                info!("http  {}: {}", self.base_url(*address), also("scripts, loaders"));
            }
        }
        match self.rules.choose(None) {
            Ok(Choice::Profile(name, profile)) => {
                let files: Vec<&str> =
                    [&profile.kernel].into_iter().chain(&profile.initrd).map(String::as_str).collect();
                info!("boots profile {name}: {} {}", files.join(" "), profile.cmdline);
            }
            Ok(Choice::Menu) => info!("boots the menu of profiles ({})", self.rules.profiles.len()),
            Ok(Choice::Local) => info!("boots the local disk"),
            Err(why) => warn!("{why}"),
        }
        for initrd in self.assets.iter().flat_map(|assets| unpadded_initrds(&self.rules, assets)) {
            warn!(
                "the length of {initrd} is no multiple of 4: a UEFI machine may lose the initrd behind it; \
                 pad it with truncate --size=%4 {initrd}"
            );
        }
    }

    /// The kinds of firmware that have a loader.
    pub(super) fn clients(&self) -> String {
        let serves = self.rules.serves();
        let http = |loader: &Loader| *loader != Loader::Bios;
        let mut kinds: Vec<String> = serves.iter().map(|loader| loader.title().to_owned()).collect();
        kinds.extend(serves.iter().any(http).then(|| "UEFI HTTP".to_owned()));
        kinds.push("iPXE".into());
        kinds.join(", ")
    }
}

/// An EFI kernel joins the initrds that its command line names without padding (drivers/firmware/efi/libstub,
/// `handle_cmdline_files`), and its unpacker loses an archive that does not begin at a multiple of four: the machine
/// boots and silently lacks files.
fn unpadded_initrds(rules: &Rules, assets: &AssetRoot) -> Vec<String> {
    let followed = |initrds: &[String]| initrds.split_last().map_or_else(Vec::new, |(_, rest)| rest.to_vec());
    let mut paths: Vec<String> = rules.profiles.values().flat_map(|profile| followed(&profile.initrd)).collect();
    paths.sort_unstable();
    paths.dedup();
    paths.retain(|path| assets.file(path).is_ok_and(|asset| asset.size % 4 != 0));
    paths
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::boot::machine::Profile;

    #[test]
    fn an_initrd_that_would_shift_the_next_one_is_told() {
        let scratch = tempfile::tempdir().expect("a folder");
        for (name, length) in [("padded", 8), ("odd", 7), ("last", 5)] {
            fs::write(scratch.path().join(name), vec![0; length]).expect("written");
        }
        let initrd = ["padded", "odd", "last"].map(String::from).to_vec();
        let profile = Profile { kernel: "k".into(), initrd, cmdline: String::new() };
        let rules = Rules { profiles: BTreeMap::from([("p".into(), profile)]), ..Rules::default() };
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        assert_eq!(unpadded_initrds(&rules, &assets), ["odd"]);
    }
}
