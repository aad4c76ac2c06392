//! Which files of a folder are a signed set of loaders, and what is missing where they are none.

use super::{
    chain::{Incomplete, Lead, Set, is_shim_name, suffix},
    loader::{Loader, LoaderFile},
    program::Kind,
};

/// A file with the name of a loader of a set, which cannot be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The firmware that would run it.
    pub loader: Loader,
    /// The file's name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
    /// Whether it is a whole program, for another processor.
    pub is_of_another: bool,
}

/// The sets among the files of one folder, and what keeps others from being one. `place` is the folder, and `unusable`
/// are the other files in it.
#[must_use]
pub fn sets_among(files: &[LoaderFile], unusable: &[Unusable], place: &str) -> (Vec<Set>, Vec<Incomplete>) {
    let (mut sets, mut incomplete) = (Vec::new(), Vec::new());
    for loader in Loader::ALL.into_iter().filter(|loader| !suffix(*loader).is_empty()) {
        let own: Vec<&LoaderFile> = files.iter().filter(|file| file.loader == loader).collect();
        let found: Vec<Set> =
            [Lead::Ipxe, Lead::Grub].into_iter().filter_map(|lead| set_of(loader, lead, &own)).collect();
        let (has_grub, has_any) = (found.iter().all(|set| set.lead == Lead::Grub), !found.is_empty());
        // A complete set of GRUB does not make up for one of iPXE: what belongs to that alone is looked at by itself.
        let (lead, part) = match (has_any, has_grub) {
            (false, _) => (None, own),
            (true, true) => (Some(Lead::Ipxe), part_of_ipxe(&own)),
            (true, false) => (None, Vec::new()),
        };
        if let Some(missing) = missing(loader, &part, if has_any { &[] } else { unusable }) {
            incomplete.push(Incomplete { loader, lead, place: place.to_owned(), missing });
        }
        sets.extend(found);
    }
    (sets, incomplete)
}

fn set_of(loader: Loader, lead: Lead, files: &[&LoaderFile]) -> Option<Set> {
    let is_second =
        |file: &&&LoaderFile| file.is_signed() && file.kind() == Some(lead.kind()) && !is_shim_name(&file.name);
    let mut seconds: Vec<&LoaderFile> = files.iter().filter(is_second).copied().collect();
    // The same preference as among unsigned loaders; GRUB's netboot image has what the network needs.
    seconds.sort_by_key(|file| !file.name.starts_with("snponly") && !file.name.starts_with("grubnet"));
    let second = *seconds.first()?;
    let shims = || files.iter().filter(|file| file.is_signed() && file.kind() == Some(Kind::Shim));
    let stem = second.name.split('.').next().unwrap_or_default();
    let shim = shims().find(|file| file.name.starts_with(stem)).or_else(|| shims().next())?;
    Some(Set::served(loader, lead, Some((*shim).clone()), second.clone()))
}

/// The files that someone put there for a signed iPXE, and not for GRUB alone: its own shim, or a signed second stage for
/// any shim.
fn part_of_ipxe<'a>(files: &[&'a LoaderFile]) -> Vec<&'a LoaderFile> {
    let is_named = |file: &LoaderFile| ["snponly", "ipxe"].iter().any(|stem| file.name.starts_with(stem));
    let is_signed_second = |file: &&LoaderFile| is_named(file) && file.is_signed() && !is_shim_name(&file.name);
    let has_second = files.iter().copied().any(|file| is_signed_second(&file));
    let is_part = |file: &&LoaderFile| is_named(file) || has_second && file.kind() == Some(Kind::Shim);
    files.iter().copied().filter(is_part).collect()
}

/// What a folder with a part of a set lacks, or what is wrong with that part.
fn missing(loader: Loader, files: &[&LoaderFile], unusable: &[Unusable]) -> Option<String> {
    let is_shim = |file: &LoaderFile| is_shim_name(&file.name) || file.kind() == Some(Kind::Shim);
    let (shims, seconds): (Vec<&LoaderFile>, Vec<&LoaderFile>) = files.iter().copied().partition(|file| is_shim(file));
    let signed = seconds.iter().find(|file| file.is_signed());
    let unusable = |shim: bool| unusable.iter().filter(move |it| it.loader == loader && is_shim_name(&it.name) == shim);
    let good = shims.iter().find(|file| file.is_signed() && file.kind() == Some(Kind::Shim));
    let Some(shim) = good.or(shims.first()) else {
        let second = signed?;
        let name = &second.name;
        if let Some(Unusable { name: shim, why, .. }) = unusable(true).next() {
            let get = shim_source(second);
            return Some(format!(
                "{name} is signed, but the shim beside it cannot be used: {shim}: {why}; a good one is {get}"
            ));
        }
        let (suffix, get) = (suffix(loader), shim_source(second));
        let shim = match second.kind()? {
            Kind::Grub => format!("shim{suffix}.efi"),
            Kind::Ipxe | Kind::Shim => format!("snponly-shim{suffix}.efi"),
        };
        return Some(format!("{name} is signed, but there is no shim beside it: put {shim} there ({get})"));
    };
    if let Some(fault) = shim_fault(shim) {
        let get = seconds.first().map_or(GET, |second| shim_source(second));
        return Some(format!("{} {fault}: replace it ({get})", shim.name));
    }
    if let Some(second) = signed {
        return Some(refused(second, shim));
    }
    // A program for another processor may be the second stage of another set.
    let damaged = unusable(false).find(|it| !it.is_of_another || seconds.is_empty());
    if let Some(Unusable { name, why, .. }) = damaged {
        let shim = &shim.name;
        return Some(format!("the second stage for {shim} cannot be used: {name}: {why}; a good one is {GET}"));
    }
    let second = seconds.iter().find(|file| file.kind().is_some()).or(seconds.first());
    Some(match second {
        Some(second) => refused(second, shim),
        None => format!("{} has no second stage beside it: put a signed snponly.efi there ({GET})", shim.name),
    })
}

/// Why a file with a shim's name does not start a second stage under Secure Boot.
fn shim_fault(shim: &LoaderFile) -> Option<&'static str> {
    match shim.kind() {
        _ if !shim.is_signed() => Some("is not signed, so firmware with Secure Boot refuses it"),
        Some(Kind::Shim) => None,
        Some(Kind::Ipxe) => Some("is iPXE, not a shim"),
        Some(Kind::Grub) => Some("is GRUB, not a shim"),
        // Shim 15.3 of 2021 is the first with it. Those before it are revoked.
        None if shim.has_no_sbat() => Some("has no .sbat section: it is not a shim, or it is one from before 2021"),
        None => Some("is not a shim: its .sbat section does not name one"),
    }
}

/// Why a shim does not start this second stage, and the fix.
fn refused(second: &LoaderFile, shim: &LoaderFile) -> String {
    let (name, shim, has_no_sbat) = (&second.name, &shim.name, second.has_no_sbat());
    match second.is_signed() {
        true if has_no_sbat && name.starts_with("grub") => format!(
            "{name} is signed, but it has no .sbat section, so {shim} refuses it: use GRUB of Debian 13 or Ubuntu 24.04"
        ),
        true if has_no_sbat => format!(
            "{name} is signed, but it has no .sbat section, so {shim} refuses it: replace it by a signed one ({GET}), or sign \
             the iPXE of Debian 13, which has that section"
        ),
        true => format!(
            "{name} is signed, but its .sbat section names neither iPXE nor GRUB: replace it by a signed iPXE ({GET})"
        ),
        // To sign it would not help.
        false if has_no_sbat => format!(
            "{name} is not signed and has no .sbat section, so {shim} refuses it: replace it by a signed one ({GET})"
        ),
        false => format!(
            "{name} is not signed, so {shim} refuses it: replace it by a signed one ({GET}), or sign it with sbsign"
        ),
    }
}

/// Where the shim for a second stage is available.
fn shim_source(second: &LoaderFile) -> &'static str {
    if second.name.starts_with("grub") { "in the package shim-signed" } else { GET }
}

/// Where signed loaders are available.
pub const GET: &str = "in ipxeboot.tar.gz of github.com/ipxe/ipxe/releases, folders x86_64-sb and arm64-sb";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{
        chain::tests::{GRUB, IPXE, program},
        program::tests::SHIM,
    };

    fn names(sets: &[Set]) -> Vec<&str> {
        sets.iter().flat_map(|set| set.files().map(|file| file.name.as_str())).collect()
    }

    #[test]
    fn a_shim_and_a_signed_second_stage_are_a_set() {
        let shim = |name: &str| program(name, &["Microsoft"], SHIM);
        let ipxe = |name: &str| program(name, &["iPXE"], IPXE);
        let snponly = ["x86_64-sb/snponly-shimx64.efi", "x86_64-sb/snponly.efi"];
        for files in [
            // The release's folder, a FOG server's, one file renamed by hand.
            vec![
                shim("ipxe-shim.efi"),
                shim("shimx64.efi"),
                shim("snponly-shim.efi"),
                ipxe("ipxe.efi"),
                ipxe("snponly.efi"),
            ],
            vec![shim("snponly-shimx64.efi"), ipxe("snponly.efi")],
            vec![shim("shimx64.efi"), ipxe("snponly.efi")],
        ] {
            let (sets, incomplete) = sets_among(&files, &[], "/d");
            assert_eq!((names(&sets), incomplete), (snponly.to_vec(), vec![]));
        }
        let only_ipxe = sets_among(&[shim("shimx64.efi"), ipxe("ipxe.efi")], &[], "/d").0;
        assert_eq!(names(&only_ipxe), ["x86_64-sb/ipxe-shimx64.efi", "x86_64-sb/ipxe.efi"]);
        let grub =
            sets_among(&[shim("shimx64.efi.signed"), program("grubnetx64.efi.signed", &["D"], GRUB)], &[], "/d").0;
        assert_eq!(names(&grub), ["x86_64-grub/shimx64.efi", "x86_64-grub/grubx64.efi"]);
    }

    #[test]
    fn what_a_set_lacks_is_said() {
        let lacks = |files: &[LoaderFile]| {
            let (sets, incomplete) = sets_among(files, &[], "/d");
            assert!(sets.is_empty(), "{sets:?}");
            incomplete.into_iter().map(|it| it.missing).collect::<Vec<_>>().join("; ")
        };
        let shim = program("shimx64.efi", &["Microsoft"], SHIM);
        let unsigned = program("snponly.efi", &[], IPXE);
        assert!(
            lacks(&[shim.clone(), unsigned.clone()])
                .starts_with("snponly.efi is not signed, so shimx64.efi refuses it")
        );
        assert!(lacks(&[shim]).starts_with("shimx64.efi has no second stage beside it"));
        assert!(
            lacks(&[program("snponly.efi", &["iPXE"], IPXE)]).contains("no shim beside it: put snponly-shimx64.efi")
        );
        assert!(lacks(&[program("shimx64.efi", &[], SHIM), unsigned.clone()]).starts_with("shimx64.efi is not signed"));
        assert_eq!(lacks(&[unsigned]), "", "that is no set and need not be one");
        assert!(
            lacks(&[program("grubx64.efi", &["Debian"], GRUB)])
                .ends_with("there is no shim beside it: put shimx64.efi there (in the package shim-signed)")
        );
    }

    #[test]
    fn a_complete_grub_does_not_hide_what_an_ipxe_set_lacks() {
        let grub = [program("shimx64.efi", &["Microsoft"], SHIM), program("grubx64.efi", &["Debian"], GRUB)];
        let lacks = |more: &[LoaderFile]| {
            let (sets, incomplete) = sets_among(&[&grub, more].concat(), &[], "/d");
            assert_eq!(sets.iter().map(|set| set.lead).collect::<Vec<_>>(), [Lead::Grub]);
            incomplete.into_iter().map(|it| format!("{}: {}", it.title(), it.missing)).collect::<Vec<_>>().join("; ")
        };
        let shim = program("snponly-shimx64.efi", &["Microsoft"], SHIM);
        let unsigned = program("snponly.efi", &[], IPXE);
        assert_eq!(lacks(&[]), "");
        assert_eq!(lacks(std::slice::from_ref(&unsigned)), "", "the usual loader is no part of a set");
        assert!(lacks(&[shim.clone(), unsigned]).starts_with("signed iPXE: snponly.efi is not signed"));
        assert!(lacks(&[shim]).starts_with("signed iPXE: snponly-shimx64.efi has no second stage beside it"));
        let refused = "signed iPXE: snponly.efi is signed, but it has no .sbat section";
        let said = lacks(&[program("snponly.efi", &["lab"], "")]);
        assert!(said.starts_with(refused), "{said}");
    }

    /// A file that is there is never said to be missing, and a signed one never to be unsigned.
    #[test]
    fn what_is_wrong_with_a_file_of_a_set_is_said() {
        let shim = program("snponly-shimx64.efi", &["Microsoft"], SHIM);
        let ipxe = program("snponly.efi", &["iPXE"], IPXE);
        let unusable = |name: &str, is_of_another| Unusable {
            loader: Loader::EfiX86_64,
            name: name.into(),
            why: "the file is empty".into(),
            is_of_another,
        };
        let other = "other,1,Vendor,other,1,https://x\n";
        let cases: [(Vec<LoaderFile>, Vec<Unusable>, &str); 13] = [
            (
                vec![ipxe.clone()],
                vec![unusable("snponly-shimx64.efi", false)],
                "snponly.efi is signed, but the shim beside it cannot be used: snponly-shimx64.efi: the file is empty; a good one is in ipxeboot",
            ),
            (
                vec![program("snponly.efi", &["lab"], "")],
                vec![unusable("shimx64.efi", true)],
                "snponly.efi is signed, but the shim beside it cannot be used: shimx64.efi: the file is empty; a good one",
            ),
            (
                vec![program("grubx64.efi", &["Debian"], GRUB)],
                vec![unusable("shimx64.efi", false)],
                "grubx64.efi is signed, but the shim beside it cannot be used: shimx64.efi: the file is empty; a good one is in the package shim-signed",
            ),
            (
                vec![shim.clone()],
                vec![unusable("snponly.efi", false)],
                "the second stage for snponly-shimx64.efi cannot be used: snponly.efi: the file is empty; a good one is in ipxeboot",
            ),
            (
                vec![shim.clone(), program("ipxe.efi", &[], IPXE)],
                vec![unusable("snponly.efi", true)],
                "ipxe.efi is not signed, so snponly-shimx64.efi refuses it",
            ),
            (
                vec![shim.clone(), program("snponly.efi", &["lab"], "")],
                vec![],
                "snponly.efi is signed, but it has no .sbat section, so snponly-shimx64.efi refuses it: replace it by a signed one",
            ),
            (
                vec![shim.clone(), program("grubx64.efi", &["lab"], "")],
                vec![],
                "grubx64.efi is signed, but it has no .sbat section, so snponly-shimx64.efi refuses it: use GRUB of",
            ),
            (
                vec![shim.clone(), program("snponly.efi", &["lab"], other)],
                vec![],
                "snponly.efi is signed, but its .sbat section names neither iPXE nor GRUB: replace",
            ),
            (
                vec![shim, program("snponly.efi", &[], "")],
                vec![],
                "snponly.efi is not signed and has no .sbat section, so snponly-shimx64.efi refuses it: replace it by a signed one",
            ),
            (
                vec![program("shimx64.efi", &["iPXE"], IPXE), ipxe.clone()],
                vec![],
                "shimx64.efi is iPXE, not a shim: replace it (in ipxeboot",
            ),
            (
                vec![program("shimx64.efi", &["Debian"], GRUB), program("grubx64.efi", &["Debian"], GRUB)],
                vec![],
                "shimx64.efi is GRUB, not a shim: replace it (in the package shim-signed)",
            ),
            (
                vec![program("shimx64.efi", &["Microsoft"], ""), ipxe.clone()],
                vec![],
                "shimx64.efi has no .sbat section: it is not a shim, or it is one from before 2021: replace it",
            ),
            (
                vec![program("shimx64.efi", &["Microsoft"], other), ipxe],
                vec![],
                "shimx64.efi is not a shim: its .sbat section does not name one: replace it",
            ),
        ];
        for (files, unusable, expected) in cases {
            let (sets, incomplete) = sets_among(&files, &unusable, "/d");
            assert!(sets.is_empty(), "{sets:?}");
            let said: Vec<&str> = incomplete.iter().map(|it| it.missing.as_str()).collect();
            assert!(matches!(said[..], [said] if said.starts_with(expected)), "{said:?}\n{expected}");
        }
    }
}
