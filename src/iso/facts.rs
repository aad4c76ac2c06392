//! Facts about an image from its own files, as far as they are needed to recognise its family.

use super::{families::CASPER_OF, index::Index, kernel::arch_in, source::ReadAt};

/// Facts about an image, besides its tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The first line of `.disk/info`.
    pub(super) info: String,
    /// The title with the version.
    pub(super) title: Option<String>,
    /// Its version.
    pub(super) version: Option<String>,
    /// iPXE's name of the processor that it is for.
    pub(super) arch: Option<&'static str>,
    /// The release of casper: 1472 is 1.472.
    pub(super) casper: Option<u32>,
}

impl Facts {
    pub(super) fn of(image: &dyn ReadAt, index: &Index) -> Self {
        let text = |path: &str| {
            let bytes = index.read(image, path, SMALL).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let line = |path: &str| text(path).lines().next().unwrap_or_default().trim().to_owned();
        let info = line(".disk/info");
        let tree = TreeInfo::of(&text(".treeinfo"));
        let said = [
            // What follows the dash has dates.
            (title_of(&info), version_in(info.split(" - ").next().unwrap_or_default())),
            (tree.title(), tree.version.clone()),
            named("Arch Linux", line("arch/version")),
            named("SystemRescue", line("sysresccd/VERSION")),
            named("Alpine Linux", line(".alpine-release").rsplit('-').next().unwrap_or_default().to_owned()),
            named("NixOS", line("version.txt")),
            named("Clonezilla", version_in(&line("Clonezilla-Live-Version")).unwrap_or_default()),
            named("GParted Live", version_in(&line("GParted-Live-Version")).unwrap_or_default()),
            (None, version_of_label(&index.volume().label)),
        ];
        let title = said.iter().find_map(|(title, _)| title.clone());
        let version = said.into_iter().find_map(|(_, version)| version);
        let arch = arch_in(&info).or_else(|| arch_in(&tree.arch)).or_else(|| arch_in(&index.volume().label));
        let casper = casper(image, index, &info);
        Self { info, title, version, arch, casper }
    }
}

/// A file that contains only a version.
fn named(name: &str, version: String) -> (Option<String>, Option<String>) {
    let version = Some(version).filter(|version| !version.is_empty() && version.len() < 40);
    (version.as_ref().map(|version| format!("{name} {version}")), version)
}

/// `Ubuntu 24.04 LTS "Noble Numbat" - Release amd64 (20240424)`: the text before the dash, without the code name.
fn title_of(info: &str) -> Option<String> {
    let name = info.split(" - ").next().unwrap_or_default();
    let plain: Vec<&str> = name.split('"').step_by(2).map(str::trim).filter(|part| !part.is_empty()).collect();
    let title: String = plain.join(" ").chars().filter(|c| !c.is_control()).take(80).collect();
    (!title.is_empty()).then_some(title)
}

/// The first word that starts with a digit and is a version or a number.
fn version_in(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.len() < 20
            && word.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-')
    };
    text.split([' ', '(', ')', ',', '-']).find(is_version).map(str::to_owned)
}

/// `Fedora-WS-Live-40-1-14`, `ESXI-8.0U2-22380479`, `TALOS_V1_7_0`, `Gentoo-amd64-20241103`: labels contain other
/// numbers too.
fn version_of_label(label: &str) -> Option<String> {
    let mut words = label.split([' ', '-', '_']);
    while let Some(word) = words.next() {
        let behind = word.strip_prefix(['v', 'V']).unwrap_or_default();
        if !behind.is_empty() && is_number(behind) {
            let more = words.take_while(|word| is_number(word));
            return Some(std::iter::once(behind).chain(more).collect::<Vec<_>>().join("."));
        }
        let has_dot = word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        let is_short = is_number(word) && word.len() <= 2 && !matches!(word, "32" | "64" | "86");
        let is_date = is_number(word) && word.len() == 8 && word.starts_with("20");
        if word.len() < 24
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
            && (has_dot || is_short || is_date)
        {
            return Some(word.to_owned());
        }
    }
    None
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The file of productmd beside an installer (`.treeinfo`).
#[derive(Default)]
struct TreeInfo {
    family: String,
    version: Option<String>,
    arch: String,
}

impl TreeInfo {
    fn of(text: &str) -> Self {
        let mut found = Self::default();
        let mut section = "";
        for line in text.lines() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| section == "general") else { continue };
            let value = value.trim().chars().filter(|c| !c.is_control()).take(40).collect::<String>();
            match key.trim() {
                "family" => found.family = value,
                "version" => found.version = Some(value),
                "arch" => found.arch = value,
                _ => {}
            }
        }
        found
    }

    fn title(&self) -> Option<String> {
        let version = self.version.as_deref().unwrap_or_default();
        (!self.family.is_empty()).then(|| format!("{} {version}", self.family).trim_end().to_owned())
    }
}

/// The manifest of the live system lists the package. Otherwise the release of the distribution shows it.
fn casper(image: &dyn ReadAt, index: &Index, info: &str) -> Option<u32> {
    let manifests = index.find("casper/*.manifest").into_iter().chain(index.find("casper_*/*.manifest"));
    let of_manifest = |path: String| {
        let bytes = index.read(image, &path, MANIFEST).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().find_map(|line| line.strip_prefix("casper\t").or(line.strip_prefix("casper ")));
        let (major, minor) = line?.trim().split_once('.')?;
        let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
        major.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(minor.parse().ok()?)
    };
    manifests.take(8).find_map(of_manifest).or_else(|| casper_of(info))
}

fn casper_of(info: &str) -> Option<u32> {
    let version = version_in(info)?;
    let (major, minor) = version.split_once('.').unwrap_or((&version, ""));
    let major: u32 = major.parse().ok()?;
    let minor = minor.split('.').next().unwrap_or_default();
    let of = CASPER_OF.iter().find(|(word, first, _)| info.contains(word) && major >= *first);
    match (of, minor) {
        (Some((.., casper)), _) => Some(*casper),
        // Ubuntu and its flavours: a year and a month.
        (None, "04" | "10") if (8..60).contains(&major) => Some(match (major, minor) {
            (23.., _) | (22, "10") => 1472,
            (20.., _) | (19, "10") => 1445,
            _ => 1394,
        }),
        _ => None,
    }
}

/// Bytes of a small text file.
const SMALL: usize = 16 << 10;
/// Bytes of a list of packages.
const MANIFEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_of_casper_follows_from_the_distribution() {
        for (info, expected) in [
            ("Ubuntu 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827.1)", Some(1472)),
            ("Ubuntu-Server 22.04 LTS \"Jammy\" - Release amd64", Some(1445)),
            ("Kubuntu 18.04.6 LTS \"Bionic Beaver\" - Release amd64", Some(1394)),
            ("Linux Mint 21.3 \"Virginia\" - Release amd64 20240101", Some(1445)),
            ("Linux Mint 22 \"Wilma\" - Release amd64", Some(1498)),
            ("elementary OS 7.1 \"Horus\" - Stable amd64", Some(1445)),
            ("Something 3 - amd64", None),
            ("", None),
        ] {
            assert_eq!(casper_of(info), expected, "{info}");
        }
    }

    #[test]
    fn versions_are_found_in_labels() {
        for (label, expected) in [
            ("Fedora-WS-Live-40-1-14", Some("40")),
            ("ESXI-8.0U2-22380479-STANDARD", Some("8.0U2")),
            ("TALOS_V1_7_0", Some("1.7.0")),
            ("Gentoo-amd64-20241103", Some("20241103")),
            ("MT86PLUS_64", None),
            ("CCCOMA_X64FRE", None),
        ] {
            assert_eq!(version_of_label(label).as_deref(), expected, "{label}");
        }
    }

    #[test]
    fn titles_have_the_name_and_the_version() {
        let title = title_of("Ubuntu 24.04 LTS \"Noble Numbat\" - Release amd64 (20240424)");
        assert_eq!(title.as_deref(), Some("Ubuntu 24.04 LTS"));
        let info =
            TreeInfo::of("[header]\nversion = 1.2\n[general]\nfamily = Rocky Linux\nversion = 9.4\narch = x86_64\n");
        assert_eq!((info.title().as_deref(), info.arch.as_str()), (Some("Rocky Linux 9.4"), "x86_64"));
        assert_eq!(title_of(""), None);
    }
}
