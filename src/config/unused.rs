//! Keys of a profile that nothing of it uses.

use super::{Level, check::Check, schema::Profile};

impl Check<'_> {
    /// Warns of an initrd or a command line that no machine gets. A variant inherits both, so a profile may set them for
    /// its variants alone.
    pub(super) fn unused_keys(&mut self, name: &str, profile: &Profile) {
        let variants: Vec<(&String, &Profile, Profile)> =
            profile.arch.iter().map(|(arch, variant)| (arch, variant, variant.over(profile))).collect();
        for (key, is_set, ways) in KEYS {
            let uses = |profile: &Profile| profile.ways().iter().any(|way| ways.contains(way));
            // What it boots is missing, or named twice: that is a fault of its own.
            let is_known = |profile: &Profile| profile.ways().len() == 1;
            if is_set(profile) && is_known(profile) && !uses(profile) && !variants.iter().any(|(_, _, it)| uses(it)) {
                self.unused(&["profiles", name, key], key, ways);
            }
            for (arch, variant, merged) in &variants {
                if is_set(variant) && is_known(merged) && !uses(merged) {
                    self.unused(&["profiles", name, "arch", arch, key], key, ways);
                }
            }
        }
    }

    fn unused(&mut self, place: &[&str], key: &str, ways: &[&str]) {
        let (last, others) = ways.split_last().unwrap_or((&"kernel", &[]));
        let message = format!("{key} is not used here: it goes with {} or {last}", others.join(", "));
        self.finding(Level::Warning, place, message);
    }
}

type Key = (&'static str, fn(&Profile) -> bool, &'static [&'static str]);

/// With what each goes.
const KEYS: [Key; 2] = [
    ("initrd", |profile| !profile.initrd.is_empty(), &["kernel", "iso"]),
    ("cmdline", |profile| profile.cmdline.is_some(), &["kernel", "efi", "iso"]),
];
