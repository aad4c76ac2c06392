//! The next step of a boot: the one answer that DHCP, HTTP and every view of them give.

use super::{
    chain::{Lead, Trust},
    client::{Client, Speaks},
    loader::LoaderFile,
    machine::Rules,
    reason::Reason,
    roster::Roster,
};

/// What a client is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep<'a> {
    /// Firmware, or an iPXE that cannot do more: load this.
    Loader {
        /// The file's name below `/loaders/` or the assets folder; TFTP has both under one roof.
        name: &'a str,
        /// Where HTTP has it.
        under: Under,
        /// How it is fetched.
        via: Via,
    },
    /// A capable iPXE: fetch `/boot.ipxe`.
    Script,
    /// A Raspberry Pi: fetch your own firmware's files from here, by TFTP.
    RaspberryPi,
    /// A U-Boot for which there is no loader: it needs none to fetch its `pxelinux.cfg`, by TFTP.
    PxelinuxCfg,
}

/// Where HTTP has a file to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// `/loaders/`: an iPXE that was found on this host.
    Loaders,
    /// `/assets/`: something of the user's own, such as a shim for Secure Boot.
    Assets,
}

/// How firmware fetches a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// PXE 2.1.
    Tftp,
    /// UEFI HTTP Boot.
    Http,
}

/// The next step for this client. `trust`: whether it is to get a signed set of loaders, where there is one.
///
/// # Errors
/// Why there is none.
pub fn next<'a>(client: &Client, rules: &'a Rules, roster: &Roster, trust: Trust) -> Result<NextStep<'a>, Reason> {
    let rule = rules.rule(&client.facts(), roster)?;
    let via = match client.speaks {
        Speaks::Ipxe { http: true } => return Ok(NextStep::Script),
        Speaks::Ipxe { http: false } | Speaks::Pxe => Via::Tftp,
        Speaks::HttpBoot => Via::Http,
    };
    let own = rule.and_then(|rule| rule.loader.as_deref());
    if client.is_raspberry_pi() && own.is_none() {
        return if rules.has_assets { Ok(NextStep::RaspberryPi) } else { Err(Reason::NoRaspberryPi) };
    }
    let found = |file: &'a LoaderFile| NextStep::Loader { name: &file.name, under: Under::Loaders, via };
    let wanted = client.arch().loader();
    let start = |wanted, lead| {
        let loaders = &rules.loaders;
        loaders.start(wanted, lead, trust).or_else(|| loaders.start(wanted, lead, trust.other()))
    };
    match own.map(|name| (name, rules.loaders.named(name))) {
        Some((GRUB, None)) => {
            let wanted = wanted.ok_or(Reason::NoLoader(client.arch()))?;
            start(wanted, Lead::Grub).map(found).ok_or(Reason::GrubMissing(wanted))
        }
        Some((name, Some(file))) => match wanted {
            Some(wanted) if wanted != file.loader => {
                Err(Reason::OtherLoader { name: name.to_owned(), of: file.loader, wanted })
            }
            _ => Ok(found(file)),
        },
        Some((name, None)) => Ok(NextStep::Loader { name, under: Under::Assets, via }),
        None => {
            let wanted = wanted.ok_or(Reason::NoLoader(client.arch()))?;
            let is_u_boot = client.arch().is_u_boot();
            let file = match client.speaks {
                Speaks::Ipxe { .. } => rules.loaders.with_drivers(wanted),
                // Of U-Boot's EFI nobody switches Secure Boot on by accident, and its shims are few.
                Speaks::Pxe | Speaks::HttpBoot if is_u_boot => rules.loaders.of(wanted),
                Speaks::Pxe | Speaks::HttpBoot => start(wanted, Lead::Ipxe),
            };
            match file {
                None if is_u_boot && client.speaks == Speaks::Pxe => Ok(NextStep::PxelinuxCfg),
                file => file.map(found).ok_or(Reason::LoaderMissing(wanted)),
            }
        }
    }
}

/// What a rule's `loader` says for the GRUB of this host.
pub const GRUB: &str = "grub";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{
        loader::{ClientArch, Loader, tests::file},
        loaders::Loaders,
        mac::MacAddr,
        machine::MachineRule,
        roster::Entry,
        selector::{RuleBook, Selector},
    };

    fn client(arch: u16, speaks: Speaks) -> Client {
        Client { mac: MacAddr([2, 0, 0, 0, 0, 1]), uuid: None, archs: vec![ClientArch(arch)], speaks, interface: None }
    }

    fn rules() -> Rules {
        let files = vec![
            file("undionly.kpxe", Loader::Bios),
            file("ipxe.pxe", Loader::Bios),
            file("snponly.efi", Loader::EfiX86_64),
            file("ipxe.efi", Loader::EfiX86_64),
        ];
        Rules { loaders: Loaders::new(files), ..Rules::default() }
    }

    fn step(client: &Client, rules: &Rules) -> Result<(String, Option<Via>), Reason> {
        next(client, rules, &Roster::default(), Trust::Signed).map(|step| match step {
            NextStep::Loader { name, under: Under::Loaders, via } => (name.to_owned(), Some(via)),
            NextStep::Loader { name, under: Under::Assets, via } => (format!("assets/{name}"), Some(via)),
            NextStep::Script => ("script".to_owned(), None),
            NextStep::RaspberryPi => ("pi".to_owned(), None),
            NextStep::PxelinuxCfg => ("pxelinux.cfg".to_owned(), None),
        })
    }

    #[test]
    fn firmware_gets_a_loader_ipxe_a_script_and_the_rest_a_reason() {
        let step = |arch, speaks| step(&client(arch, speaks), &rules());
        assert_eq!(step(0, Speaks::Pxe), Ok(("undionly.kpxe".into(), Some(Via::Tftp))));
        assert_eq!(step(7, Speaks::Pxe), Ok(("snponly.efi".into(), Some(Via::Tftp))));
        assert_eq!(step(16, Speaks::HttpBoot), Ok(("snponly.efi".into(), Some(Via::Http))));
        assert_eq!(step(0, Speaks::Ipxe { http: true }), Ok(("script".into(), None)));
        // A weak iPXE gets one that brings its own drivers.
        assert_eq!(step(0, Speaks::Ipxe { http: false }), Ok(("ipxe.pxe".into(), Some(Via::Tftp))));
        assert_eq!(step(7, Speaks::Ipxe { http: false }), Ok(("snponly.efi".into(), Some(Via::Tftp))));
        assert_eq!(step(11, Speaks::Pxe), Err(Reason::LoaderMissing(Loader::EfiArm64)));
        assert_eq!(step(14, Speaks::Pxe), Err(Reason::NoLoader(ClientArch(14))));
        let text = Reason::NoLoader(ClientArch(14)).to_string();
        assert!(
            text.starts_with("there is no network boot loader for PowerPC OPAL: put one below the assets"),
            "{text}"
        );
        // An iPXE of any architecture needs no loader of ours.
        assert_eq!(step(14, Speaks::Ipxe { http: true }), Ok(("script".into(), None)));
    }

    #[test]
    fn a_rule_names_another_loader_for_a_machine_or_an_architecture() {
        let with = |loader: &str, selector| {
            let rule = MachineRule { loader: Some(loader.into()), ..MachineRule::default() };
            Rules { machines: RuleBook::new(vec![(selector, rule)]), ..rules() }
        };
        let mac = || Selector { macs: vec![MacAddr([2, 0, 0, 0, 0, 1])], ..Selector::default() };
        let x64 = client(7, Speaks::Pxe);
        assert_eq!(step(&x64, &with("ipxe.efi", mac())), Ok(("ipxe.efi".into(), Some(Via::Tftp))));
        let all_x64 = Selector { archs: vec![Loader::EfiX86_64], ..Selector::default() };
        assert_eq!(step(&x64, &with("ipxe.efi", all_x64.clone())), Ok(("ipxe.efi".into(), Some(Via::Tftp))));
        let bios = client(0, Speaks::Pxe);
        assert_eq!(step(&bios, &with("ipxe.efi", all_x64)), Ok(("undionly.kpxe".into(), Some(Via::Tftp))));
        // The rule is not given to firmware that could not run it, and may be the only loader that there is.
        let wrong = Reason::OtherLoader { name: "ipxe.efi".into(), of: Loader::EfiX86_64, wanted: Loader::Bios };
        assert_eq!(step(&bios, &with("ipxe.efi", mac())), Err(wrong));
        assert_eq!(
            step(&client(16, Speaks::HttpBoot), &with("boot/shimx64.efi", mac())),
            Ok(("assets/boot/shimx64.efi".into(), Some(Via::Http)))
        );
        assert_eq!(
            step(&client(14, Speaks::Pxe), &with("opal/boot", mac())).map(|(name, _)| name),
            Ok("assets/opal/boot".into())
        );
        let on_eth2 = Selector { interfaces: vec!["eth2".into()], ..Selector::default() };
        let heard = |interface: &str| Client { interface: Some(interface.into()), ..x64.clone() };
        let by_interface = with("ipxe.efi", on_eth2);
        assert_eq!(step(&heard("eth2"), &by_interface), Ok(("ipxe.efi".into(), Some(Via::Tftp))));
        for elsewhere in [&heard("eth1"), &x64] {
            assert_eq!(step(elsewhere, &by_interface), Ok(("snponly.efi".into(), Some(Via::Tftp))));
        }
        // iPXE has been loaded already.
        assert_eq!(
            step(&client(7, Speaks::Ipxe { http: true }), &with("ipxe.efi", mac())).map(|(n, _)| n),
            Ok("script".into())
        );
    }

    #[test]
    fn u_boot_needs_no_loader_for_its_pxelinux_cfg() {
        let x64 = |arch, speaks| step(&client(arch, speaks), &rules());
        for arch in [21, 22] {
            assert_eq!(x64(arch, Speaks::Pxe), Ok(("pxelinux.cfg".into(), None)));
        }
        // By HTTP Boot it would have to be told what to fetch.
        assert_eq!(x64(24, Speaks::HttpBoot), Err(Reason::LoaderMissing(Loader::EfiArm64)));
        assert_eq!(x64(11, Speaks::Pxe), Err(Reason::LoaderMissing(Loader::EfiArm64)));
        let with_loader = Rules { loaders: Loaders::new(vec![file("arm64.efi", Loader::EfiArm64)]), ..rules() };
        assert_eq!(step(&client(22, Speaks::Pxe), &with_loader), Ok(("arm64.efi".into(), Some(Via::Tftp))));
    }

    #[test]
    fn strangers_get_nothing_where_only_known_machines_are_answered() {
        let rules = |selector| Rules {
            known_only: true,
            machines: RuleBook::new(vec![(selector, MachineRule::default())]),
            ..rules()
        };
        let mac = |last| Selector { macs: vec![MacAddr([2, 0, 0, 0, 0, last])], ..Selector::default() };
        assert!(step(&client(0, Speaks::Pxe), &rules(mac(1))).is_ok());
        assert_eq!(step(&client(0, Speaks::Pxe), &rules(mac(2))), Err(Reason::Unknown));
        assert_eq!(step(&client(0, Speaks::Ipxe { http: true }), &rules(mac(2))), Err(Reason::Unknown));
        let said = |entry| [(MacAddr([2, 0, 0, 0, 0, 1]), entry)].into_iter().collect::<Roster>();
        let is_answered =
            |roster: Roster| next(&client(0, Speaks::Pxe), &rules(mac(2)), &roster, Trust::Signed).is_ok();
        assert!(is_answered(said(Entry { approved: true, ..Entry::default() })));
        assert!(!is_answered(said(Entry { spent: Some("local".into()), ..Entry::default() })));
    }

    #[test]
    fn a_raspberry_pi_gets_its_own_files_whatever_architecture_it_claims() {
        let pi = |arch| Client { mac: MacAddr([0xdc, 0xa6, 0x32, 1, 2, 3]), ..client(arch, Speaks::Pxe) };
        let with_assets = Rules { has_assets: true, ..rules() };
        for arch in [0, 41] {
            assert_eq!(step(&pi(arch), &with_assets), Ok(("pi".into(), None)));
            assert_eq!(step(&pi(arch), &rules()), Err(Reason::NoRaspberryPi));
        }
        assert_eq!(step(&client(41, Speaks::Pxe), &with_assets), Ok(("pi".into(), None)));
        // With UEFI firmware on it, it is a machine like others.
        assert_eq!(step(&pi(11), &with_assets), Err(Reason::LoaderMissing(Loader::EfiArm64)));
    }
}
