//! Limits of kernels and loaders: command lines that they cut, and initrds that are too large.

use super::{
    Fault, Finding, Level,
    load::Loaded,
    settings::{Cmdline, Settings},
};
use crate::{
    boot::{
        image::{HEAD, Image, LinuxHeader},
        loader::Loader,
        loaders::Loaders,
        profile::{Boot, Linux},
    },
    files::AssetRoot,
};

impl Cmdline {
    fn warning(&self, message: String) -> Finding {
        let message = format!("{}{message}", self.whose);
        Finding { level: Level::Warning, fault: Fault { place: self.place.clone(), message } }
    }

    fn linux<'a>(&self, settings: &'a Settings) -> Option<&'a Linux> {
        let profile = settings.profiles.get(&self.profile)?;
        let boot = self.arch.as_ref().map_or(Some(&profile.boot), |arch| profile.variants.get(arch));
        match boot {
            Some(Boot::Linux(linux)) => Some(linux),
            _ => None,
        }
    }
}

/// Findings about the profiles alone.
pub(super) fn examine(loaded: &Loaded, settings: &Settings) -> Vec<Finding> {
    let cut = settings.cmdlines.iter().filter_map(|cmdline| {
        let kernel = head(settings.fixed.assets.as_deref()?, &cmdline.linux(settings)?.kernel)?;
        let limit = longest_cmdline(&kernel, cmdline.arch.as_deref())?;
        (cmdline.length > limit).then(|| {
            let length = cmdline.length;
            cmdline.warning(format!("the command line has {length} bytes, but the kernel uses only the first {limit}"))
        })
    });
    let named = settings.cmdlines.iter().filter_map(|cmdline| {
        let linux = cmdline.linux(settings)?;
        let word = linux.cmdline.split_whitespace().find(|word| word.starts_with("initrd="))?;
        let what = "netbootd adds the initrds of a profile to the command line";
        Some(cmdline.warning(format!("{what}: remove {word} from cmdline")))
    });
    let mut findings: Vec<Finding> = cut.chain(named).collect();
    for (name, profile) in &settings.profiles {
        let Some(assets) = &settings.fixed.assets else { continue };
        for (arch, boot) in profile.boots().filter(|(arch, _)| arch.is_none_or(|arch| arch == "i386")) {
            let Boot::Linux(linux) = boot else { continue };
            if let Some(message) = too_large(linux, assets) {
                let variant = arch.map_or(vec![], |arch| vec!["arch", arch]);
                let place = loaded.places.of(&[&["profiles", name], variant.as_slice(), &["initrd"]].concat());
                findings.push(Finding { level: Level::Warning, fault: Fault { place, message } });
            }
        }
    }
    findings
}

/// Findings about the profiles together with the loaders that were found.
pub(super) fn loaders(settings: &Settings, loaders: &Loaders) -> Vec<Finding> {
    let Some(loader) = loaders.of(Loader::EfiArm64) else { return Vec::new() };
    let Some(version) = loader.version.as_deref().filter(|version| cuts_arm64(version)) else { return Vec::new() };
    let long = settings.cmdlines.iter().filter(|cmdline| cmdline.length > ARM64_LONGEST && is_arm64(cmdline, settings));
    let warnings = long.map(|cmdline| {
        cmdline.warning(format!(
            "the command line has {} bytes, but {} (iPXE {version}) passes only about {ARM64_LONGEST} to an arm64 kernel: use \
             an iPXE of 2024 or later",
            cmdline.length, loader.name
        ))
    });
    warnings.collect()
}

/// In bytes, if the limit of this kernel is known.
fn longest_cmdline(kernel: &[u8], arch: Option<&str>) -> Option<usize> {
    match Image::of(kernel) {
        Image::X86Kernel => LinuxHeader::of(kernel).map(|header| header.longest_cmdline()),
        // arch/arm64/include/uapi/asm/setup.h, COMMAND_LINE_SIZE with its NUL.
        Image::Arm64Kernel => Some(2047),
        // A compressed kernel.
        Image::Efi | Image::Gzip if arch == Some("arm64") => Some(2047),
        _ => None,
    }
}

/// iPXE loads the initrds of a BIOS kernel below the address in the kernel's header.
fn too_large(linux: &Linux, assets: &AssetRoot) -> Option<String> {
    let kernel = head(assets, &linux.kernel).filter(|kernel| Image::of(kernel) == Image::X86Kernel)?;
    let limit = LinuxHeader::of(&kernel)?.initrds_end();
    let sizes: Vec<(&String, u64)> =
        linux.initrd.iter().filter_map(|path| Some((path, assets.file(path).ok()?.size))).collect();
    let total: u64 = sizes.iter().map(|(_, size)| size).sum();
    (total > limit).then(|| {
        let each: Vec<String> = sizes.iter().map(|(path, size)| format!("{path} {}", mebibytes(*size))).collect();
        format!(
            "the initrds have {} ({}), but on a BIOS machine they must fit below {}: a BIOS machine cannot boot this. \
             Use UEFI, or let the installer fetch its image itself",
            mebibytes(total),
            each.join(", "),
            mebibytes(limit)
        )
    })
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn is_arm64(cmdline: &Cmdline, settings: &Settings) -> bool {
    let kernel = || head(settings.fixed.assets.as_deref()?, &cmdline.linux(settings)?.kernel);
    match cmdline.arch.as_deref() {
        Some(arch) => arch == "arm64",
        None => kernel().is_some_and(|kernel| Image::of(&kernel) == Image::Arm64Kernel),
    }
}

/// Whether it is older than iPXE 1.21.1 of 2024. Versions of Debian and Ubuntu contain the date
/// (`1.21.1+git-20220113.…`).
fn cuts_arm64(version: &str) -> bool {
    let numbers: Vec<u32> = version.split(['.', '+', ' ', '-']).take(3).map_while(|part| part.parse().ok()).collect();
    let year = version.split_once("git-").or_else(|| version.split_once("git")).and_then(|(_, date)| {
        let year = date.get(..4)?.parse::<u32>().ok()?;
        (2000..2100).contains(&year).then_some(year)
    });
    match (numbers.as_slice(), year) {
        (_, Some(year)) => year < 2024,
        (numbers, None) => numbers < [1, 21, 1].as_slice(),
    }
}

/// The longest command line in bytes that reaches the kernel.
const ARM64_LONGEST: usize = 280;

/// The first bytes of a file, which identify its kind.
pub(super) fn head(assets: &AssetRoot, path: &str) -> Option<Vec<u8>> {
    assets.file(path).ok()?.head(HEAD).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boot::loader::{LoaderFile, tests::file},
        config::{load::load, resolve::attempt},
    };

    #[test]
    fn command_lines_that_an_old_arm64_ipxe_cuts_are_reported() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("n.toml");
        let text = format!(
            "[profiles.a]\nkernel = \"k\"\ncmdline = \"{long}\"\n[profiles.b]\nkernel = \"k\"\ncmdline = \"{long}\"\n\
             [profiles.b.arch.arm64]\nkernel = \"l\"\n",
            long = "x".repeat(300)
        );
        std::fs::write(&path, text).expect("written");
        let (settings, _) = attempt(&load(Some(&path), [], &[]).expect("read"));
        let found = |version: &str| {
            let arm64 = LoaderFile { version: Some(version.into()), ..file("snponly-arm64.efi", Loader::EfiArm64) };
            let findings = loaders(&settings, &Loaders::new(vec![arm64])).into_iter();
            findings.map(|finding| finding.fault.message).collect::<Vec<_>>()
        };
        let words = "the command line has 300 bytes, but snponly-arm64.efi (iPXE 1.20.1) passes only about 280 to an arm64 \
                     kernel: use an iPXE of 2024 or later";
        assert_eq!(found("1.20.1"), [words]);
        assert!(found("2.0.0").is_empty());
    }

    #[test]
    fn an_old_ipxe_is_known_by_its_version() {
        for (version, is_old) in [
            ("1.0.0+git-20190125.36a4c85-5.1", true),
            ("1.21.1+git-20220113.fbbdc3926-0ubuntu1", true),
            ("1.21.1+git-20240301.abc", false),
            ("1.20.1", true),
            ("1.21.1+ (g83449)", false),
            ("2.0.0", false),
        ] {
            assert_eq!(cuts_arm64(version), is_old, "{version}");
        }
    }
}
