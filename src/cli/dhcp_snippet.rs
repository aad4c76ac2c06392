//! `netbootd dhcp-snippet`: configuration lines for the main DHCP server.

use std::{net::Ipv4Addr, path::PathBuf};

use clap::ValueEnum as _;

use super::failure::{EX_CONFIG, EX_OSERR, EX_UNAVAILABLE, Failure, configuration, print, unclear};
use crate::{
    boot::loader::Loader,
    config::{
        Faults,
        fixed::Tftp,
        load::{environment, load},
        resolve::resolve,
        settings::Settings,
    },
    daemon::loaders::find,
    net::interface::choose,
    snippet::{Here, Kind, snippet},
};

/// Show the lines for your main DHCP server that make it name netbootd as the boot server.
///
/// Use them if you do not want proxy offers, or if firmware ignores them. Then set `dhcp.enabled = false` in netbootd's
/// configuration, so that only one server names boot files.
#[derive(Debug, clap::Args)]
pub(super) struct DhcpSnippet {
    /// The kind of DHCP server [default: list the kinds]
    #[arg(value_enum)]
    kind: Option<Kind>,
    /// The interface that the machines are on [default: the interface that `up` serves]
    #[arg(short, long, value_name = "NAME", conflicts_with = "address")]
    interface: Option<String>,
    /// The IP address of this server [default: the address of the interface]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Ipv4Addr>,
    /// Configuration file [default: /etc/netbootd/netbootd.toml, if it exists]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl DhcpSnippet {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Some(kind) = self.kind else { return print(&kinds()) };
        let of_configuration = |faults: Faults| Failure::new(EX_CONFIG, faults);
        let loaded = load(configuration(self.config.as_deref()), environment(), &[]).map_err(of_configuration)?;
        let settings = resolve(&loaded).map_err(of_configuration)?;
        can_be_fetched(&settings.fixed.tftp)?;
        let address = match self.address {
            Some(address) => address,
            None => address(&settings, self.interface)?,
        };
        let here = here(&settings, address)?;
        print(&snippet(kind, &here).map_err(|error| Failure::new(EX_OSERR, error))?)
    }
}

/// The lines name boot files, which PXE firmware fetches by TFTP from port 69 and from no other.
fn can_be_fetched(tftp: &Tftp) -> Result<(), Failure> {
    let words = match tftp {
        Tftp { enabled: false, .. } => {
            "the lines would name boot files that firmware fetches by TFTP, but tftp.enabled is false: set it to true"
                .into()
        }
        Tftp { port: 69, .. } => return Ok(()),
        Tftp { port, .. } => {
            format!(
                "the lines would name boot files that firmware fetches from UDP port 69, but tftp.port is {port}: set it to 69"
            )
        }
    };
    Err(Failure::new(EX_CONFIG, words))
}

fn kinds() -> String {
    let kinds = Kind::value_variants().iter().filter_map(Kind::to_possible_value);
    let line = |kind: clap::builder::PossibleValue| {
        let help = kind.get_help().map(ToString::to_string).unwrap_or_default();
        format!("  netbootd dhcp-snippet {:<9}  {help}\n", kind.get_name())
    };
    format!("Choose the kind of DHCP server:\n{}", kinds.map(line).collect::<String>())
}

/// The address of the named interface, or else of the interface that is served.
fn address(settings: &Settings, named: Option<String>) -> Result<Ipv4Addr, Failure> {
    let is_argument = named.is_some();
    let names = named.map_or_else(|| settings.fixed.interfaces.clone(), |name| vec![name]);
    let chosen = choose(&names).map_err(|why| unclear(&why, is_argument, ""))?;
    let first = chosen.first().filter(|interface| !interface.addresses.is_empty());
    let nowhere =
        || Failure::new(EX_UNAVAILABLE, "the interface has no IPv4 address: give this server's address with --address");
    first.map(|interface| interface.address()).ok_or_else(nowhere)
}

fn here(settings: &Settings, address: Ipv4Addr) -> Result<Here, Failure> {
    let (found, _) = find(&settings.loader_dirs);
    let loaders: Vec<_> =
        Loader::ALL.into_iter().filter_map(|loader| Some((loader, found.of(loader)?.name.clone()))).collect();
    if loaders.is_empty() {
        let words =
            "no loader was found, so there is no boot file to name: `netbootd loaders` shows which package to install";
        return Err(Failure::new(EX_UNAVAILABLE, words));
    }
    let loader_base = format!("http://{address}:{}", settings.fixed.http.port);
    let base = settings.fixed.http.base(address);
    Ok(Here { address, base, loader_base, loaders })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load::load, resolve::resolve};

    #[test]
    fn boot_files_that_no_firmware_can_fetch_are_refused() {
        let refused = |flags: &[(&'static str, figment::value::Value)]| {
            let settings = resolve(&load(None, [], flags).expect("loaded")).expect("resolved");
            can_be_fetched(&settings.fixed.tftp).err().map(|failure| failure.message)
        };
        assert_eq!(refused(&[]), None);
        assert!(refused(&[("tftp.enabled", false.into())]).is_some_and(|words| words.ends_with("set it to true")));
        assert!(refused(&[("tftp.port", 6969.into())]).is_some_and(|words| words.ends_with("is 6969: set it to 69")));
    }
}
