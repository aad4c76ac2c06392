//! The name of an image in a URL, for clients that parse the URL.

/// The name itself if it has no special characters, or else a similar name without them.
///
/// live-boot, archiso and casper pass the URL to a shell, split it at dots, and recognise an image by `.iso` at its
/// end. So only letters, digits, dots, dashes and underscores are kept.
#[must_use]
pub fn plain(name: &str) -> String {
    let stem = match name.len().checked_sub(4).and_then(|at| name.split_at_checked(at)) {
        Some((stem, end)) if end.eq_ignore_ascii_case(".iso") => stem,
        _ => name,
    };
    let plain = plain_characters(stem);
    format!("{}.iso", if plain.is_empty() { "image" } else { &plain })
}

/// The same for a folder that an image is in.
#[must_use]
pub fn plain_folder(name: &str) -> String {
    let plain = plain_characters(name);
    if plain.is_empty() { "folder".to_owned() } else { plain }
}

fn plain_characters(name: &str) -> String {
    let mut plain = String::new();
    for c in name.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' => plain.push(c),
            _ if plain.ends_with('-') => {}
            _ => plain.push('-'),
        }
    }
    plain.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_stays_and_another_becomes_plain() {
        for (name, expected) in [
            ("debian-12.5.0_amd64.iso", "debian-12.5.0_amd64.iso"),
            ("Windows 11 (x64).ISO", "Windows-11-x64.iso"),
            ("a'; reboot #.iso", "a-reboot.iso"),
            ("ubuntu.img", "ubuntu.img.iso"),
            ("äöü.iso", "image.iso"),
            ("", "image.iso"),
            ("..iso", "image.iso"),
        ] {
            assert_eq!(plain(name), expected, "{name}");
        }
    }
}
