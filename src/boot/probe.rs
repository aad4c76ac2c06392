//! Files that shim and GRUB ask for, and need not find.

/// Whether shim, or GRUB behind it, asks for it and need not find it.
#[must_use]
pub fn is_probe(path: &str) -> bool {
    is_shim_probe(path) || is_grub_probe(path)
}

/// Lists of revocations, certificates, MokManager (shim, `load_certs`, `start_image`).
#[must_use]
pub fn is_shim_probe(path: &str) -> bool {
    let name = last_part(path).to_ascii_lowercase();
    let is_of_shim = ["revocations", "shim_certificate"].iter().any(|start| name.starts_with(start))
        || ["mmx64.efi", "mmaa64.efi", "mmia32.efi"].contains(&name.as_str());
    is_of_shim && name.ends_with(".efi")
}

/// Lists of modules, fonts, languages, and configurations of one machine (grub-core/normal/main.c).
fn is_grub_probe(path: &str) -> bool {
    let path = path.replace('\\', "/").to_ascii_lowercase();
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    let is_in_grub = folder.split('/').any(|part| part == "grub" || part == "grub2");
    is_in_grub
        && (name.ends_with(".lst")
            || name.ends_with(".mod")
            || name.starts_with("grub.cfg")
            || name.ends_with(".pf2")
            || folder.ends_with("locale")
            || name.ends_with(".gmo"))
}

/// Without the folders.
fn last_part(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_known_and_boot_files_are_none() {
        for path in [
            "x86_64-sb/revocations_sku.efi",
            "sb\\revocations_sbat.efi",
            "revocations.efi",
            "shim_certificate_0.efi",
            "sb/shim_certificate.efi",
            "mmx64.efi",
            "grub/x86_64-efi/command.lst",
            "/grub/grub.cfg-01-52-54-00-12-34-56",
            "grub/fonts/unicode.pf2",
        ] {
            assert!(is_probe(path), "{path}");
        }
        for path in ["x86_64-sb/snponly.efi", "sb/grubx64.efi", "debian/vmlinuz", "debian/command.lst", "mm.efi"] {
            assert!(!is_probe(path), "{path}");
        }
    }
}
