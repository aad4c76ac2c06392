//! Detects the program that sends a request by its options and their order: each program builds it differently.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::boot::{heard::Firmware, loader::ClientArch, recent::Recent};

/// A program that sends read requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Program {
    /// iPXE: `blksize` 1432, then `tsize` 0, and nothing else but an empty `multicast` (net/udp/tftp.c,
    /// `tftp_send_rrq`).
    Ipxe,
    /// The same block size in a different request: another build of iPXE, or a ROM.
    PerhapsIpxe,
    /// UEFI (MdeModulePkg Mtftp4Dxe by UefiPxeBcDxe): `tsize`, `blksize` 1468, `windowsize`, and never a timeout.
    Edk2,
    /// U-Boot: `timeout` is the first of its options (net/tftp.c, `tftp_send`).
    UBoot,
    /// Another program, for example the ROM of a BIOS machine.
    #[default]
    Other,
}

impl Program {
    /// The program that sends these options (names in lower case, in their order).
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

    /// Whether it is surely iPXE.
    #[must_use]
    pub fn is_ipxe(self) -> bool {
        self == Self::Ipxe
    }

    /// The architecture of its firmware, as far as the request shows it.
    #[must_use]
    pub fn firmware(self) -> ClientArch {
        match self {
            Self::Edk2 => ClientArch::EFI_X86_64,
            Self::UBoot => ClientArch::U_BOOT_ARM64,
            Self::Ipxe | Self::PerhapsIpxe | Self::Other => ClientArch::X86_BIOS,
        }
    }
}

/// Remembers which client fetched which loader, to detect iPXE by its second request. If the main DHCP server names the
/// same file for all clients, the loaded iPXE asks for the same loader again, without end.
#[derive(Debug)]
pub struct Returns(Recent<Ipv4Addr, Fetch>);

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
    /// Whether a client that asks for a loader is probably an iPXE that needs the script, because it asks a second
    /// time. Only requests that iPXE can send count: a ROM that gets a script would stop.
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
        // A request that comes again at once only means that the request or its reply was lost.
        if since < LOADED_AFTER {
            return false;
        }
        fetch.at = now;
        let is_ipxe = fetch.times >= needed;
        // If unsure, send the loader again: a ROM that was taken for iPXE boots at its next start.
        fetch.times = if is_ipxe && program == Program::PerhapsIpxe { 0 } else { fetch.times + 1 };
        is_ipxe
    }
}

/// The architecture of a client, if DHCP received this from its address. What firmware sent by DHCP has priority over the
/// form of its TFTP request.
pub(super) fn firmware(program: Program, heard: Option<Firmware>) -> ClientArch {
    heard.and_then(|firmware| firmware.arch).unwrap_or(program.firmware())
}

/// The largest number of clients that are remembered.
const REMEMBERED: usize = 1024;
/// iPXE asks again 10 to 16 s after its start, on a slow network up to a minute later.
const LOADED_WITHIN: Duration = Duration::from_secs(180);
/// iPXE cannot have started earlier.
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
    fn programs_are_detected_by_their_options_and_their_order() {
        for (options, expected) in [
            (&[("blksize", "1432"), ("tsize", "0")][..], Program::Ipxe),
            (&[("blksize", "1432"), ("tsize", "0"), ("multicast", "")], Program::Ipxe),
            (&[("tsize", "0"), ("blksize", "1432")], Program::PerhapsIpxe),
            (&[("blksize", "1432")], Program::PerhapsIpxe),
            // EDK2: its size probe, and its request for the file; one without windows.
            (&[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")], Program::Edk2),
            (&[("blksize", "1468"), ("windowsize", "4")], Program::Edk2),
            (&[("tsize", "0"), ("blksize", "1468")], Program::Edk2),
            (&[("timeout", "5"), ("tsize", "0"), ("blksize", "1468")], Program::UBoot),
            // The ROM of Intel: its size probe, and its request. GRUB. PXELINUX. No options.
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
    fn dhcp_has_priority_over_the_form_of_the_request() {
        let arm = Firmware { arch: Some(ClientArch(11)), is_weak_ipxe: false, spoke_last: true };
        assert_eq!(firmware(Program::Edk2, Some(arm)), ClientArch(11));
        assert_eq!(firmware(Program::Edk2, Some(Firmware::default())), ClientArch::EFI_X86_64);
        assert_eq!(firmware(Program::Edk2, None), ClientArch::EFI_X86_64);
        assert_eq!(firmware(Program::Other, None), ClientArch::X86_BIOS);
    }

    #[test]
    fn ipxe_is_detected_by_its_second_request_and_firmware_is_not() {
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
        // If unsure: the loader twice, then the script once, and so on.
        let doubtful = [700, 716, 732, 748, 764, 780].map(|at| asks(Program::PerhapsIpxe, "own.efi", f64::from(at)));
        assert_eq!(doubtful, [false, false, true, false, false, true]);
        for at in 0..10 {
            for program in [Program::Edk2, Program::UBoot, Program::Other] {
                assert!(!asks(program, "undionly.kpxe", 1000.0 + 20.0 * f64::from(at)));
            }
        }
    }
}
