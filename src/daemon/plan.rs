//! What a server is about to do: the configuration, and what was found of it on this host.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use tracing::{info, warn};

use super::loaders;
use crate::{
    boot::{
        loader::Loader,
        machine::{Choice, Live, Rules},
        profile::{Boot, Profile},
        roster::Roster,
        selector::RuleBook,
        why::install_hint,
    },
    config::{
        resolve::{Dhcp, Fixed, Settings, StateUrl, Tftp},
        schema::Control,
    },
    files::AssetRoot,
    net::{
        interface::{Interface, Unclear, choose},
        limits::ClientLimits,
    },
};

/// All that a server needs to know.
#[derive(Debug)]
pub struct Plan {
    /// The interfaces to serve as they were at the start; at least one. They are followed by their names.
    pub interfaces: Vec<Interface>,
    /// What decides.
    pub live: Arc<Live>,
    /// The assets folder.
    pub assets: Option<Arc<AssetRoot>>,
    /// The DHCP stage.
    pub dhcp: Dhcp,
    /// Where what outlives a restart is kept.
    pub state: StateUrl,
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
    /// Who may change something while the server runs.
    pub control: Control,
    /// What a reload cannot change.
    pub fixed: Fixed,
    /// The folders that a change of the configuration shows in.
    pub watched: Vec<PathBuf>,
}

/// The rules of a configuration, with the loaders of this host. What is missing is logged.
pub(super) fn rules(settings: Settings) -> Rules {
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
    for loader in settings.machines.iter().filter_map(|(_, rule)| rule.loader.as_deref()) {
        let is_asset = settings.assets.as_ref().is_some_and(|assets| assets.file(loader).is_ok());
        if loaders.named(loader).is_none() && !is_asset {
            let there: Vec<&str> = loaders.iter().map(|file| file.name.as_str()).collect();
            warn!("a rule names the loader {loader}, which is neither an asset nor one of: {}", there.join(", "));
        }
    }
    Rules {
        loaders,
        machines: RuleBook::new(settings.machines),
        known_only: settings.dhcp.known_only,
        offer: settings.dhcp.offer,
        has_assets: settings.assets.is_some(),
        profiles: settings.profiles,
        default_profile: settings.default_profile,
        menu: settings.menu,
        templates: settings.templates,
        answers: settings.answers,
    }
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
        Ok(Self {
            interfaces,
            control: settings.control.clone(),
            fixed: settings.fixed(),
            watched: settings.watched.clone(),
            assets: settings.assets.clone(),
            dhcp: settings.dhcp,
            state: settings.state.clone(),
            tftp: settings.tftp.clone(),
            http_port: settings.http_port,
            listing: settings.listing,
            base_url: settings.base_url.clone(),
            http_limits: settings.http_limits,
            grace: settings.grace,
            live: Live::new(rules(settings), Roster::default()),
        })
    }

    /// Our HTTP stage for the clients of an interface.
    pub(super) fn base_url(&self, address: Ipv4Addr) -> String {
        self.base_url.clone().unwrap_or_else(|| format!("http://{address}:{}", self.http_port))
    }

    /// `things`, and what else a stage serves.
    pub(super) fn and_assets(&self, things: &str) -> String {
        match &self.assets {
            Some(assets) => format!("{things}, and every file in {}", assets.path().display()),
            None => things.to_owned(),
        }
    }

    /// A line for each thing that is served, before the first client comes.
    pub(super) fn announce(&self) {
        let rules = self.live.rules.load();
        match rules.choose(None, None, None, "x86_64") {
            Ok(Choice { boot: Boot::Menu, .. }) => info!("boots the menu of profiles ({})", rules.profiles.len()),
            Ok(Choice { boot: Boot::Local, .. }) => info!("boots the local disk"),
            Ok(Choice { profile, boot, .. }) => {
                info!("boots profile {profile}: {} {}", boot.files().join(" "), boot.cmdline().unwrap_or_default());
            }
            Err(why) => warn!("{why}"),
        }
        for initrd in self.assets.iter().flat_map(|assets| unpadded_initrds(&rules, assets)) {
            warn!(
                "the length of {initrd} is no multiple of 4: a UEFI machine may lose the initrd behind it; \
                 pad it with truncate --size=%4 {initrd}"
            );
        }
    }

    /// The kinds of firmware that have a loader.
    pub(super) fn clients(&self) -> String {
        let serves = self.live.rules.load().serves();
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
    let all = rules.profiles.values().flat_map(Profile::boots).filter_map(|(_, boot)| match boot {
        Boot::Linux(linux) => Some(linux),
        _ => None,
    });
    let mut paths: Vec<String> = all.flat_map(|linux| followed(&linux.initrd)).collect();
    paths.sort_unstable();
    paths.dedup();
    paths.retain(|path| assets.file(path).is_ok_and(|asset| asset.size % 4 != 0));
    paths
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::boot::profile::Linux;

    #[test]
    fn an_initrd_that_would_shift_the_next_one_is_told() {
        let scratch = tempfile::tempdir().expect("a folder");
        for (name, length) in [("padded", 8), ("odd", 7), ("last", 5)] {
            fs::write(scratch.path().join(name), vec![0; length]).expect("written");
        }
        let initrd = ["padded", "odd", "last"].map(String::from).to_vec();
        let linux = Linux { kernel: "k".into(), initrd, cmdline: String::new() };
        let profiles = BTreeMap::from([("p".into(), Boot::Linux(linux).into())]);
        let rules = Rules { profiles, ..Rules::default() };
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        assert_eq!(unpadded_initrds(&rules, &assets), ["odd"]);
    }
}
