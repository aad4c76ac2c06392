//! Finds the file for a name that a client asks for. TFTP, HTTP (`/loaders/`, `/assets/`) and `explain` use this, so a
//! name means the same in all of them.
//!
//! The first match is used:
//!
//! 1. a file below the assets folder;
//! 2. in the folder of a signed set of loaders, a file of that set, and nothing else;
//! 3. a text that is made for the client, or a loader of this host with this name;
//! 4. a file below the assets folder whose path differs only in case, if it is the only one;
//! 5. like 3, in any folder and in any case, because firmware and DHCP servers add various folders to the name;
//! 6. like 1 to 5, without wrong bytes at the end of the name ([`spellings`]).

use std::sync::Arc;

use super::{
    asset::Asset,
    case::Budget,
    found::{Asker, Decided, Found, Names},
};
use crate::boot::{
    chain::is_shim_name,
    grub,
    loader::LoaderFile,
    over::Of,
    query::Query,
    reason::Reason,
    script::{Standing, script},
};

impl Names<'_> {
    /// Finds the file for a name, with slashes or backslashes.
    ///
    /// # Errors
    /// [`Reason::NotFound`], [`Reason::Garbled`], [`Reason::Escape`], [`Reason::Unreadable`], [`Reason::NoLoader`],
    /// [`Reason::LoaderMissing`].
    pub fn find(&self, name: &[u8], asker: Asker) -> Result<Found, Reason> {
        let mut budget = Budget::default();
        let mut refused = None;
        for spelling in spellings(name) {
            match self.spelled(spelling, asker, &mut budget) {
                Err(Reason::NotFound(_)) => {}
                // The error is for the name as it was sent, if no shorter name is a file either.
                Err(why @ Reason::Escape(_)) => refused = refused.or(Some(why)),
                found => return found,
            }
        }
        Err(refused.unwrap_or_else(|| not_found(name)))
    }

    /// A file of the assets folder that has this very path, which [`Self::find`] looks for first; where that waits for no
    /// other host.
    #[must_use]
    pub fn at_hand(&self, name: &[u8]) -> Option<Found> {
        let path = name.strip_prefix(b"/").unwrap_or(name);
        let asset = self.assets?.at_hand(path)?;
        Some(self.found(String::from_utf8_lossy(path).trim_start_matches('/').to_owned(), asset))
    }

    fn spelled(&self, name: &[u8], asker: Asker, budget: &mut Budget) -> Result<Found, Reason> {
        let exact = self.asset(name);
        let leads_out = match exact {
            Err(why @ Reason::Escape(_)) => why,
            Err(Reason::NotFound(_)) => Reason::NotFound(String::new()),
            found => return found,
        };
        let Ok(path) = std::str::from_utf8(name) else { return Err(leads_out) };
        let path = normalised(path);
        // A shim takes its second stage only from its own set, whatever else has that name on this host.
        if let Some(file) = self.rules.loaders.sets.find(&path)
            && last_part(&path) != AUTOEXEC
        {
            return file.map(|file| self.loader(file, asker)).ok_or(leads_out);
        }
        if let Some(found) = self.by_whole_name(&path, asker) {
            return found;
        }
        if let Some((path, asset)) = self.assets.and_then(|assets| assets.without_case(&path, budget)) {
            return Ok(self.found(path, Arc::new(asset)));
        }
        // U-Boot adds the folder of its boot file to a path, even if the path begins with a slash.
        if let Some((_, absolute)) = path.rsplit_once("//")
            && let Ok(found) = self.asset(absolute.as_bytes())
        {
            return Ok(found);
        }
        // A link of the user that leaves the folder is a mistake, which must be reported and not hidden by another
        // file.
        if matches!(leads_out, Reason::Escape(_)) && !path.split('/').any(|part| part == "..") {
            return Err(leads_out);
        }
        self.by_last_part(&path, asker).unwrap_or(Err(leads_out))
    }

    fn asset(&self, name: &[u8]) -> Result<Found, Reason> {
        let Some(assets) = self.assets else { return Err(Reason::NotFound(String::new())) };
        let path = name.strip_prefix(b"/").unwrap_or(name);
        let (path, asset) = match assets.shared_of_bytes(path) {
            // Only now, because a file on the disk can have a backslash in its name.
            Err(Reason::NotFound(_)) if name.contains(&b'\\') => {
                let path: Vec<u8> = name.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
                let asset = assets.shared_of_bytes(&path)?;
                (path, asset)
            }
            asset => (path.to_vec(), asset?),
        };
        Ok(self.found(String::from_utf8_lossy(&path).trim_start_matches('/').to_owned(), asset))
    }

    /// A profile's file is none, whatever its name: a machine that has it whole has its one-time profile.
    fn found(&self, path: String, asset: Arc<Asset>) -> Found {
        let is_loader = self.rules.loaders.named(last_part(&path)).is_some() && !self.rules.boots(&path);
        Found::Asset { path, asset, of: if is_loader { Of::Loader } else { Of::Asset } }
    }

    /// Texts and loaders that are not files of the user. More of them can be added here.
    fn by_whole_name(&self, path: &str, asker: Asker) -> Option<Result<Found, Reason>> {
        if path == AUTOEXEC {
            return Some(Ok(self.way_to_script(AUTOEXEC)));
        }
        if grub::is_configuration(path) {
            return Some(Ok(self.grub_configuration(path)));
        }
        if path == UNIVERSAL {
            return Some(self.universal(asker));
        }
        let loader = self.rules.loaders.named(path).map(|file| Ok(self.loader(file, asker)));
        loader.or_else(|| self.pxelinux(path)).or_else(|| self.boot_cfg(path))
    }

    fn boot_cfg(&self, path: &str) -> Option<Result<Found, Reason>> {
        let asset = self.assets?.boot_cfg(path, self.base)?;
        Some(asset.map(|asset| self.found(path.to_owned(), Arc::new(asset))))
    }

    fn by_last_part(&self, path: &str, asker: Asker) -> Option<Result<Found, Reason>> {
        if self.is_beside_own_shim(path) {
            return None;
        }
        let last = last_part(path);
        let any_case = || self.rules.loaders.iter().find(|file| file.name.eq_ignore_ascii_case(last));
        self.by_whole_name(last, asker)
            .or_else(|| self.by_whole_name(&last.to_ascii_lowercase(), asker))
            .or_else(|| any_case().map(|file| Ok(self.loader(file, asker))))
    }

    /// Whether a shim of the user's own is in the same folder below the assets. A loader of this host would be refused
    /// by it.
    fn is_beside_own_shim(&self, path: &str) -> bool {
        let Some((folder, _)) = path.rsplit_once('/').filter(|(folder, name)| !folder.is_empty() && *name != AUTOEXEC)
        else {
            return false;
        };
        let mut own = self.rules.machines.iter().filter_map(|(_, rule)| rule.loader.as_deref());
        own.any(|own| {
            let own = own.trim_start_matches('/');
            is_shim_name(own) && own.rsplit_once('/').is_some_and(|(own, _)| own.eq_ignore_ascii_case(folder))
        })
    }

    /// iPXE accepts a script with any name. With a loader it would ask for the same file again.
    fn loader(&self, file: &LoaderFile, asker: Asker) -> Found {
        if asker.is_ipxe {
            return self.script_instead_of(&file.name);
        }
        Found::Loader(file.clone())
    }

    fn universal(&self, asker: Asker) -> Result<Found, Reason> {
        if asker.is_ipxe {
            return Ok(self.script_instead_of(UNIVERSAL));
        }
        let wanted = asker.firmware.loader().ok_or(Reason::NoLoader(asker.firmware))?;
        let file = self.rules.loaders.of(wanted).ok_or(Reason::LoaderMissing(wanted))?;
        Ok(self.loader(file, asker))
    }

    /// The result for an iPXE that would only load itself again.
    #[must_use]
    pub fn script_instead_of(&self, loader: &str) -> Found {
        self.way_to_script(&format!("{loader} (script for iPXE)"))
    }

    /// The file that every GRUB asks for first. It says that a GRUB has started.
    fn grub_configuration(&self, path: &str) -> Found {
        let made = grub::configuration(self.rules, self.base);
        let machine = self.caller.and_then(|caller| caller.machine());
        let decided = Some(Decided { machine, outcome: made.outcome, begins: None });
        Found::Text { name: path.to_owned(), text: made.text, decided }
    }

    /// The script that sends an iPXE to `/boot.ipxe` with its MAC address, UUID and hardware.
    fn way_to_script(&self, name: &str) -> Found {
        let text = script(self.rules, self.base, &Query::default(), Standing::default()).text;
        Found::Text { name: name.to_owned(), text, decided: None }
    }
}

/// With slashes instead of backslashes, and without slashes at the start.
fn normalised(name: &str) -> String {
    name.replace('\\', "/").trim_start_matches('/').to_owned()
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The name as it was sent, and then without bytes that can follow it. Boot ROMs read option 67 as a string with a NUL
/// at its end. If the DHCP server sends no NUL (RFC 2132 §9.5 asks for none), they also read the options after it: the
/// end mark 0xff, or the code and length of another option. Each form is used only if the one before it is not a file.
pub fn spellings(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = first_alien(name);
    let cut = name.get(..end).unwrap_or(name);
    let trimmed = cut.trim_ascii();
    // The code of the next option can be a letter, but its length cannot.
    let is_length = name.get(end).is_some_and(|byte| *byte < b' ');
    let without_code = cut.get(..cut.len().saturating_sub(usize::from(is_length))).unwrap_or(cut);
    let word = trimmed.split(|byte| *byte == b' ').next().unwrap_or(trimmed);
    let all = [name, cut, trimmed, without_code, word];
    (0..all.len()).filter_map(move |at| {
        let (before, spelling) = (all.get(..at)?, *all.get(at)?);
        (!before.contains(&spelling) && !spelling.is_empty()).then_some(spelling)
    })
}

/// The first byte that no path contains: a control character, or a byte that is not UTF-8.
fn first_alien(name: &[u8]) -> usize {
    let text = match std::str::from_utf8(name) {
        Ok(text) => text,
        Err(error) => name.get(..error.valid_up_to()).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default(),
    };
    text.find(|c: char| c.is_ascii_control()).unwrap_or(text.len())
}

fn not_found(name: &[u8]) -> Reason {
    match std::str::from_utf8(name) {
        Ok(text) if first_alien(name) == name.len() => {
            // A folder's name alone, a slash, would leave nothing to be read.
            let path = normalised(text);
            Reason::not_found(if path.is_empty() { text } else { &path })
        }
        _ => Reason::garbled(name),
    }
}

/// The name that means the loader for any client, for DHCP servers that can name only one file.
pub const UNIVERSAL: &str = "netboot";
/// iPXE for EFI looks for this file at every start.
const AUTOEXEC: &str = "autoexec.ipxe";

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
        os::unix::fs::symlink,
    };

    use super::*;
    use crate::{
        boot::{
            loader::{ClientArch, Loader, tests::file},
            loaders::Loaders,
            machine::{Rendered, Rules},
            profile::{Boot, Profile},
        },
        files::AssetRoot,
    };

    const FIRMWARE: Asker = Asker { firmware: ClientArch::EFI_X86_64, is_ipxe: false };
    const IPXE: Asker = Asker { is_ipxe: true, ..FIRMWARE };

    /// The files of the tests: two loaders, and these files.
    fn answers(asked: &[(&[u8], Asker)]) -> Vec<String> {
        let scratch = tempfile::tempdir().expect("a folder");
        let root = scratch.path().join("root");
        for path in ["sb/snponly.efi", "boot/bcd", "one file", "odd\\name", "Custom/shimx64.efi", "k.img"] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "own").expect("written");
        }
        fs::write(root.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "own").expect("written");
        fs::write(scratch.path().join("secret"), "secret").expect("written");
        fs::create_dir(root.join("out")).expect("made");
        symlink("../../secret", root.join("out/snponly.efi")).expect("made");
        let loaders = Loaders::new(vec![file("snponly.efi", Loader::EfiX86_64), file("undionly.kpxe", Loader::Bios)]);
        let rules = Rules { loaders, ..Rules::default() };
        let assets = AssetRoot::open(&root).expect("opened");
        let names = Names { rules: &rules, assets: Some(&assets), base: "http://192.0.2.1:8080", caller: None };
        let answer = |(name, asker): &(&[u8], Asker)| match names.find(name, *asker) {
            Ok(Found::Loader(file)) => format!("loader {}", file.name),
            Ok(Found::Asset { path, of, .. }) => format!("{of:?} {path}"),
            Ok(Found::Text { name, text, .. }) => {
                assert!(text.starts_with("#!ipxe\n") && text.contains("http://192.0.2.1:8080/boot.ipxe?mac="));
                format!("text {name}")
            }
            Err(why) => format!("{}: {why}", why.label()),
        };
        asked.iter().map(answer).collect()
    }

    use std::os::unix::ffi::OsStrExt as _;

    fn for_firmware(names: &[&[u8]]) -> Vec<String> {
        answers(&names.iter().map(|name| (*name, FIRMWARE)).collect::<Vec<_>>())
    }

    #[test]
    fn a_file_of_the_users_own_goes_before_a_loader_of_that_name() {
        let got = for_firmware(&[
            b"sb/snponly.efi",
            b"\\sb\\snponly.efi",
            b"snponly.efi",
            b"/snponly.efi",
            b"//a/b/snponly.efi",
            b"..\\snponly.efi",
            b"SB\\SNPONLY.EFI",
            b"\\EFI\\UNDIONLY.KPXE",
            b"out/snponly.efi",
        ]);
        let loader = "loader snponly.efi";
        let escape = "escape: out/snponly.efi leads out of the assets folder: mount its target within the folder (mount --bind), or \
                 copy it there; a link that stays inside is made with ln -sr";
        let own = "Loader sb/snponly.efi";
        assert_eq!(got, [own, own, loader, loader, loader, loader, own, "loader undionly.kpxe", escape]);
    }

    #[test]
    fn a_file_that_a_profile_boots_is_no_loader_whatever_its_name() {
        let boots = |path: &str| Boot::Efi { path: path.into(), cmdline: String::new() };
        let own = Profile {
            variants: BTreeMap::from([("i386".into(), boots("i386/ipxe.efi"))]),
            ..Profile::from(boots("/sb/ipxe.efi"))
        };
        let rendered = Rendered {
            assets: BTreeMap::from([(("s".into(), None), BTreeSet::from(["script/ipxe.efi".to_owned()]))]),
            ..Rendered::default()
        };
        let rules = Rules {
            loaders: Loaders::new(vec![file("ipxe.efi", Loader::EfiX86_64)]),
            profiles: BTreeMap::from([("own".into(), own)]),
            rendered,
            ..Rules::default()
        };
        let root = tempfile::tempdir().expect("a folder");
        let assets = AssetRoot::open(root.path()).expect("opened");
        let names = Names { rules: &rules, assets: Some(&assets), base: "http://192.0.2.1:8080", caller: None };
        let is_loader = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, "own").expect("written");
            let name = path.strip_prefix(root.path()).expect("below it").as_os_str().as_bytes();
            names.find(name, FIRMWARE).expect("found").loader().is_some()
        };
        assert_eq!(
            ["sb/ipxe.efi", "i386/ipxe.efi", "script/ipxe.efi", "ipxe.efi"].map(is_loader),
            [false, false, false, true]
        );
    }

    #[test]
    fn a_path_is_exact_first_and_then_without_case() {
        let got =
            for_firmware(&[b"\\Boot\\BCD", b"boot/bcd", b"custom/SHIMX64.efi", b"odd\\name", b"nothing\\there", b"/"]);
        let there = ["Asset boot/bcd", "Asset boot/bcd", "Asset Custom/shimx64.efi", "Asset odd\\name"];
        assert_eq!(got[..4], there);
        assert_eq!(got[4..], ["not_found: there is no file nothing/there", "not_found: there is no file /"]);
    }

    /// The ROMs of Lenovo, Kontron and Gigabyte read this with Kea, pfSense and Fedora's dhcpd.
    #[test]
    fn bytes_that_a_rom_reads_after_the_name_are_removed() {
        let kpxe = [
            b"undionly.kpxe\xff".as_slice(),
            b"undionly.kpxe\xff\xff\0\xff",
            b"undionly.kpxe\r\n",
            b"undionly.kpxe ",
            b" undionly.kpxe\t",
            b"undionly.kpxe<\x09PXEClient\xff",
            b"boot/undionly.kpxe\x80\x04abc",
            b"undionly.kpxe x",
            b"undionly.kpxe\x97\x11\x01",
        ];
        assert!(for_firmware(&kpxe).iter().all(|got| got == "loader undionly.kpxe"), "{:?}", for_firmware(&kpxe));
        let got = for_firmware(&[
            b"sb/snponly.efi\xff",
            b"Boot\\BCD\xff",
            b"one file",
            b"one file\xff",
            b"one file ",
            b"caf\xe9",
            b"caf\xe9\xff",
            b"nothing\xff\xfe",
            b"\xff",
            b"\x01\x02",
        ]);
        let own = ["Loader sb/snponly.efi", "Asset boot/bcd", "Asset one file", "Asset one file", "Asset one file"];
        assert_eq!(got[..5], own);
        assert_eq!(got[5], "Asset caf\u{fffd}", "a name on the disk that is no UTF-8");
        for (got, shown) in got[6..].iter().zip(["caf\\xe9\\xff", "nothing\\xff\\xfe", "\\xff", "\\x01\\x02"]) {
            assert!(got.starts_with(&format!("garbled_name: there is no file {shown}: ")), "{got}");
        }
    }

    #[test]
    fn the_universal_name_is_the_loader_for_the_client() {
        let bios = Asker { firmware: ClientArch::X86_BIOS, ..FIRMWARE };
        let arm = Asker { firmware: ClientArch(11), ..FIRMWARE };
        let s390 = Asker { firmware: ClientArch(31), ..FIRMWARE };
        let universal = b"netboot".as_slice();
        let got = answers(&[
            (universal, bios),
            (b"\\x\\NETBOOT\xff", FIRMWARE),
            (universal, IPXE),
            (universal, arm),
            (universal, s390),
        ]);
        assert_eq!(got[..3], ["loader undionly.kpxe", "loader snponly.efi", "text netboot (script for iPXE)"]);
        assert!(got[3].starts_with("loader_missing: no UEFI arm64 loader was found"), "{}", got[3]);
        assert!(got[4].starts_with("no_loader: there is no network boot loader for s390 basic"), "{}", got[4]);
    }

    #[test]
    fn an_ipxe_gets_the_script_instead_of_a_loader_and_the_users_own_files_as_they_are() {
        let got = answers(&[
            (b"undionly.kpxe", IPXE),
            (b"boot/undionly.kpxe\xff", IPXE),
            (b"sb/snponly.efi", IPXE),
            (b"k.img", IPXE),
            (b"\\efi\\autoexec.ipxe", FIRMWARE),
            (b"autoexec.ipxe", IPXE),
        ]);
        let script = "text undionly.kpxe (script for iPXE)";
        let (own, autoexec) = ("Loader sb/snponly.efi", "text autoexec.ipxe");
        assert_eq!(got, [script, script, own, "Asset k.img", autoexec, autoexec]);
    }

    #[test]
    fn without_an_assets_folder_there_are_loaders_and_texts() {
        let rules = Rules { loaders: Loaders::new(vec![file("ipxe.efi", Loader::EfiX86_64)]), ..Rules::default() };
        let names = Names { rules: &rules, assets: None, base: "http://192.0.2.1:8080", caller: None };
        assert!(matches!(names.find(b"x/ipxe.efi\xff", FIRMWARE), Ok(Found::Loader(_))));
        assert_eq!(names.find(b"../etc/passwd", FIRMWARE).err(), Some(Reason::not_found("../etc/passwd")));
    }
}
