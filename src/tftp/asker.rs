//! Which program asks, by the options of its request and their order: no two of these build it alike.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::boot::{heard::Firmware, loader::Loader, recent::Recent};

/// A program that sends read requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Program {
    /// iPXE: `blksize` 1432, then `tsize` 0, and nothing else but an empty `multicast` (net/udp/tftp.c,
    /// `tftp_send_rrq`).
    Ipxe,
    /// The same block size in another request: an iPXE of another build, or a ROM.
    PerhapsIpxe,
    /// UEFI (MdeModulePkg Mtftp4Dxe by UefiPxeBcDxe): `tsize`, `blksize` 1468, `windowsize`, and never a timeout.
    Edk2,
    /// U-Boot: `timeout` is the first of its options (net/tftp.c, `tftp_send`).
    UBoot,
    /// Any other, a BIOS's ROM among them.
    #[default]
    Other,
}

impl Program {
    /// The program that sends these options, names in lower case, in their order.
    #[must_use]
    pub fn of(options: &[(Vec<u8>, &[u8])]) -> Self {
        let names: Vec<&[u8]> = options.iter().map(|(name, _)| name.as_slice()).collect();
        let has = |name: &[u8], value: &[u8]| options.iter().any(|(n, v)| n == name && *v == value);
        match names.as_slice() {
            [b"timeout", ..] => Self::UBoot,
            [b"blksize", b"tsize"] | [b"blksize", b"tsize", b"multicast"]
                if has(b"blksize", b"1432") && has(b"tsize", b"0") =>
            {
                Self::Ipxe
            }
            _ if has(b"blksize", b"1432") => Self::PerhapsIpxe,
            _ if names.contains(&b"timeout".as_slice()) => Self::Other,
            _ if names.contains(&b"windowsize".as_slice()) || has(b"blksize", b"1468") => Self::Edk2,
            _ => Self::Other,
        }
    }

    /// The loader for its firmware, as far as the request tells.
    #[must_use]
    pub fn firmware(self) -> Loader {
        match self {
            Self::Edk2 => Loader::EfiX86_64,
            Self::UBoot => Loader::EfiArm64,
            Self::Ipxe | Self::PerhapsIpxe | Self::Other => Loader::Bios,
        }
    }
}

/// Who fetched which loader, to know an iPXE by its coming back: where the leasing server names one file for everybody,
/// the iPXE that came of it asks for the same file again, for ever.
#[derive(Debug)]
pub(super) struct Returns(Recent<Ipv4Addr, Fetch>);

#[derive(Debug)]
struct Fetch {
    name: String,
    at: Instant,
    times: u32,
}

impl Default for Returns {
    fn default() -> Self {
        Self(Recent::new(REMEMBERED))
    }
}

impl Returns {
    /// Whether a client that asks for a loader is an iPXE that should have the script instead, so far as its coming back
    /// tells. Only requests that an iPXE may have sent count: a ROM that was given a script would stop there.
    pub(super) fn is_ipxe(&mut self, client: Ipv4Addr, program: Program, name: &str, now: Instant) -> bool {
        let needed = match program {
            Program::Ipxe => 1,
            Program::PerhapsIpxe => 2,
            Program::Edk2 | Program::UBoot | Program::Other => return false,
        };
        let fetch = self.0.touch_or(client, || Fetch { name: String::new(), at: now, times: 0 });
        let since = now.saturating_duration_since(fetch.at);
        if fetch.name != name || since > LOADED_WITHIN {
            *fetch = Fetch { name: name.to_owned(), at: now, times: 1 };
            return false;
        }
        // A request that is repeated at once was lost, or its answer.
        if since < LOADED_AFTER {
            return false;
        }
        fetch.at = now;
        let is_ipxe = fetch.times >= needed;
        // In doubt the loader has its turn again: a ROM that was misread boots at its next start.
        fetch.times = if is_ipxe && program == Program::PerhapsIpxe { 0 } else { fetch.times + 1 };
        is_ipxe
    }
}

/// The loader for whoever asks from an address where DHCP heard this: what firmware said of itself goes before what its
/// request looks like.
pub(super) fn firmware(program: Program, heard: Option<Firmware>) -> Loader {
    heard.and_then(|firmware| firmware.loader).unwrap_or(program.firmware())
}

/// Clients whose last loader is remembered.
const REMEMBERED: usize = 1024;
/// iPXE asks again 10 to 16 s after it was started, and a minute later on a slow network.
const LOADED_WITHIN: Duration = Duration::from_secs(180);
/// It cannot have been started sooner.
const LOADED_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn program(options: &[(&str, &str)]) -> Program {
        let options: Vec<_> =
            options.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes())).collect();
        Program::of(&options)
    }

    #[test]
    fn programs_are_told_apart_by_their_options_and_their_order() {
        for (options, expected) in [
            (&[("blksize", "1432"), ("tsize", "0")][..], Program::Ipxe),
            (&[("blksize", "1432"), ("tsize", "0"), ("multicast", "")], Program::Ipxe),
            (&[("tsize", "0"), ("blksize", "1432")], Program::PerhapsIpxe),
            (&[("blksize", "1432")], Program::PerhapsIpxe),
            // EDK2's size probe, and its request for the file; one without windows.
            (&[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")], Program::Edk2),
            (&[("blksize", "1468"), ("windowsize", "4")], Program::Edk2),
            (&[("tsize", "0"), ("blksize", "1468")], Program::Edk2),
            (&[("timeout", "5"), ("tsize", "0"), ("blksize", "1468")], Program::UBoot),
            // Intel's ROM: its size probe, and its request. GRUB. PXELINUX. Nothing at all.
            (&[("tsize", "0")], Program::Other),
            (&[("blksize", "1456")], Program::Other),
            (&[("blksize", "1024"), ("tsize", "0")], Program::Other),
            (&[("tsize", "0"), ("blksize", "1408")], Program::Other),
            (&[], Program::Other),
        ] {
            assert_eq!(program(options), expected, "{options:?}");
        }
    }

    #[test]
    fn what_dhcp_heard_goes_before_what_the_request_looks_like() {
        let arm = Firmware { loader: Some(Loader::EfiArm64), is_weak_ipxe: false };
        assert_eq!(firmware(Program::Edk2, Some(arm)), Loader::EfiArm64);
        assert_eq!(firmware(Program::Edk2, Some(Firmware::default())), Loader::EfiX86_64);
        assert_eq!(firmware(Program::Edk2, None), Loader::EfiX86_64);
        assert_eq!(firmware(Program::Other, None), Loader::Bios);
    }

    #[test]
    fn an_ipxe_is_known_by_its_coming_back_and_firmware_never_is() {
        let client = Ipv4Addr::new(192, 0, 2, 1);
        let start = Instant::now();
        let mut returns = Returns::default();
        let mut asks = |program, name, seconds| {
            returns.is_ipxe(client, program, name, start + Duration::from_millis((seconds * 1000.0) as u64))
        };
        assert!(!asks(Program::Ipxe, "own.efi", 0.0), "it may have been sent here on purpose");
        assert!(!asks(Program::Ipxe, "own.efi", 0.3), "a repetition");
        assert!(asks(Program::Ipxe, "own.efi", 16.0) && asks(Program::Ipxe, "own.efi", 32.0));
        assert!(!asks(Program::Ipxe, "other.efi", 48.0) && !asks(Program::Ipxe, "other.efi", 600.0));
        // In doubt: twice the loader, then the script once, and so on.
        let doubtful = [700, 716, 732, 748, 764, 780].map(|at| asks(Program::PerhapsIpxe, "own.efi", f64::from(at)));
        assert_eq!(doubtful, [false, false, true, false, false, true]);
        for at in 0..10 {
            for program in [Program::Edk2, Program::UBoot, Program::Other] {
                assert!(!asks(program, "undionly.kpxe", 1000.0 + 20.0 * f64::from(at)));
            }
        }
    }
}
