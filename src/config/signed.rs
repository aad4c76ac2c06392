//! Which kernels are signed, for machines with Secure Boot.

use super::settings::Settings;
use crate::{
    boot::{
        profile::{Boot, Linux},
        program::{Kind, Program},
        urls::is_remote,
    },
    files::AssetRoot,
};

/// Whether a file below the assets folder is a signed shim.
pub(super) fn is_shim(assets: &AssetRoot, path: &str) -> bool {
    program(assets, path).is_some_and(|program| program.is_signed() && program.kind() == Some(Kind::Shim))
}

/// A line for each kernel that is an EFI program: who signed it, and which machines start it.
#[must_use]
pub fn kernels(settings: &Settings) -> Vec<String> {
    let Some(assets) = settings.fixed.assets.as_deref() else { return Vec::new() };
    let mut lines = Vec::new();
    for (name, profile) in &settings.profiles {
        for (arch, boot) in profile.boots() {
            let Boot::Linux(linux) = boot else { continue };
            let profile = arch.map_or_else(|| name.clone(), |arch| format!("{name} on {arch}"));
            lines.extend(kernel(&profile, linux, assets));
        }
    }
    lines
}

fn kernel(profile: &str, Linux { kernel, shim, .. }: &Linux, assets: &AssetRoot) -> Option<String> {
    let program = program(assets, kernel)?;
    let verdict = match (program.is_signed(), shim) {
        (false, _) => "machines with Secure Boot on refuse it".to_owned(),
        (true, Some(shim)) if !is_remote(shim) && !is_shim(assets, shim) => {
            format!("but {shim} is no signed shim, so machines with Secure Boot on refuse it")
        }
        (true, Some(shim)) => format!("machines with Secure Boot on start it by {shim}"),
        (true, None) => "by iPXE, machines with Secure Boot on refuse it without a shim: set shim to the one of its \
                         distribution; GRUB of its distribution starts it"
            .to_owned(),
    };
    Some(format!("profile {profile}: the kernel {kernel} is {}; {verdict}", program.words()))
}

fn program(assets: &AssetRoot, path: &str) -> Option<Program> {
    let asset = assets.file(path).ok().filter(|asset| asset.size <= LARGEST)?;
    let mut bytes = vec![0; usize::try_from(asset.size).ok()?];
    asset.read_exact_at(&mut bytes, 0).ok()?;
    Program::of(&bytes)
}

/// In bytes. Kernels with all their drivers have some 60 MB.
const LARGEST: u64 = 256 << 20;
