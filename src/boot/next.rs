//! The next step of a boot: the one answer that DHCP, HTTP and every view of them give.

use super::{
    client::{Client, Speaks},
    loader::LoaderFile,
    machine::Rules,
    why::Why,
};

/// What a client is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep<'a> {
    /// Firmware, or an iPXE that cannot do more: load this.
    Loader {
        /// The file.
        file: &'a LoaderFile,
        /// How it is fetched.
        via: Via,
    },
    /// A capable iPXE: fetch `/boot.ipxe`.
    Script,
}

/// How firmware fetches a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// PXE 2.1.
    Tftp,
    /// UEFI HTTP Boot.
    Http,
}

/// The next step for this client.
///
/// # Errors
/// Why there is none.
pub fn next<'a>(client: &Client, rules: &'a Rules) -> Result<NextStep<'a>, Why> {
    let via = match client.speaks {
        Speaks::Ipxe { http: true } => return Ok(NextStep::Script),
        Speaks::Ipxe { http: false } | Speaks::Pxe => Via::Tftp,
        Speaks::HttpBoot => Via::Http,
    };
    let loader = client.arch().loader().ok_or(Why::NoLoader(client.arch()))?;
    let file = rules.loaders.of(loader).ok_or(Why::LoaderMissing(loader))?;
    Ok(NextStep::Loader { file, via })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{
        client::MacAddr,
        loader::{ClientArch, Loader, Loaders, tests::file},
    };

    fn client(arch: u16, speaks: Speaks) -> Client {
        Client { mac: MacAddr([2, 0, 0, 0, 0, 1]), archs: vec![ClientArch(arch)], speaks }
    }

    #[test]
    fn firmware_gets_a_loader_ipxe_a_script_and_the_rest_a_reason() {
        let rules = Rules {
            loaders: Loaders::new(vec![file("undionly.kpxe", Loader::Bios), file("snponly.efi", Loader::EfiX86_64)]),
            ..Rules::default()
        };
        let step = |arch, speaks| match next(&client(arch, speaks), &rules) {
            Ok(NextStep::Loader { file, via }) => Ok((file.name.clone(), Some(via))),
            Ok(NextStep::Script) => Ok(("script".to_owned(), None)),
            Err(why) => Err(why),
        };
        assert_eq!(step(0, Speaks::Pxe), Ok(("undionly.kpxe".into(), Some(Via::Tftp))));
        assert_eq!(step(7, Speaks::Pxe), Ok(("snponly.efi".into(), Some(Via::Tftp))));
        assert_eq!(step(16, Speaks::HttpBoot), Ok(("snponly.efi".into(), Some(Via::Http))));
        assert_eq!(step(0, Speaks::Ipxe { http: true }), Ok(("script".into(), None)));
        assert_eq!(step(0, Speaks::Ipxe { http: false }), Ok(("undionly.kpxe".into(), Some(Via::Tftp))));
        assert_eq!(step(11, Speaks::Pxe), Err(Why::LoaderMissing(Loader::EfiArm64)));
        assert_eq!(step(14, Speaks::Pxe), Err(Why::NoLoader(ClientArch(14))));
        // An iPXE of any architecture needs no loader of ours.
        assert_eq!(step(14, Speaks::Ipxe { http: true }), Ok(("script".into(), None)));
    }
}
