//! `netbootd iso`: shows what a CD or DVD image contains, how machines boot it, and whether it is complete.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use serde_json::json;

use super::failure::{EX_UNAVAILABLE, Failure, print};
use crate::{
    boot::text::visible,
    files::image::ImageFile,
    iso::{
        Index, Kind,
        el_torito::Platform,
        name::plain,
        recognise::recognise,
        recognised::{How, Part, Place, Recognised, Variant},
        verify::{Verdict, verify},
    },
};

/// Show what a CD or DVD image contains, and how machines boot it.
///
/// Nothing is mounted, copied or started. Exits with 1 if the image is incomplete or damaged, or is not an image.
#[derive(Debug, clap::Args)]
pub(super) struct Iso {
    /// The image file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Read the whole image, and compare it with the checksums inside it
    #[arg(long)]
    verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Iso {
    pub(super) fn run(self) -> Result<(), Failure> {
        let name = self.file.display();
        let image = ImageFile::open(&self.file);
        let image = image.map_err(|error| Failure::new(EX_UNAVAILABLE, format!("{name}: {error}")))?;
        let damaged = |fault: &dyn std::fmt::Display| Failure::new(DAMAGED, format!("{name}: {fault}"));
        let index = match Index::open(&image) {
            Ok(index) => index,
            Err(fault) => {
                if self.json {
                    print(&format!("{:#}\n", json!({ "file": name.to_string(), "fault": fault.to_string() })))?;
                }
                return Err(damaged(&fault));
            }
        };
        // That a part is missing says more than the checksums of the rest, and the lists may be in that part.
        let verdict = match self.verify && index.missing() == 0 {
            false => None,
            true => Some(verified(&image, &index).map_err(|fault| damaged(&fault))?),
        };
        let shown = Shown {
            name: self.file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            found: recognise(&image, &index),
            unreadable: Unreadable::of(&index),
            index: &index,
            verdict,
            is_to_verify: self.verify,
        };
        print(&if self.json { shown.as_json(&self.file) } else { shown.as_text() })?;
        match shown.fault() {
            Some(fault) => Err(damaged(&fault)),
            None => Ok(()),
        }
    }
}

fn verified(image: &ImageFile, index: &Index) -> Result<Verdict, crate::iso::Fault> {
    let mut bar = Bar::new();
    verify(image, index, &mut |done, total| bar.show(done, total))
}

/// A progress bar on a terminal.
struct Bar {
    is_terminal: bool,
    shown: Option<u64>,
}

impl Bar {
    fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), shown: None }
    }

    fn show(&mut self, done: u64, total: u64) {
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
        if self.is_terminal && self.shown != Some(percent) {
            self.shown = Some(percent);
            // The progress bar is only for display. An error in writing it must not end the command.
            let _ = write!(std::io::stderr(), "\r{}", bar(percent, done, total));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn bar(percent: u64, done: u64, total: u64) -> String {
    let full = usize::try_from(percent / 4).unwrap_or(0);
    format!("verifying [{:25}] {percent:3} %, {} of {} ", "#".repeat(full), size(done), size(total))
}

/// Why an image has no output.
struct Unreadable {
    count: usize,
    first: Vec<(String, String)>,
}

impl Unreadable {
    fn of(index: &Index) -> Self {
        let all = index.walk().filter_map(|(path, item)| match item.kind {
            Kind::Unreadable(fault) => Some((path, fault.to_string())),
            _ => None,
        });
        let mut found = Self { count: 0, first: Vec::new() };
        for one in all {
            found.count += 1;
            if found.first.len() < 5 {
                found.first.push(one);
            }
        }
        found
    }
}

/// Everything that is known about one image.
struct Shown<'a> {
    name: String,
    index: &'a Index,
    found: Recognised,
    unreadable: Unreadable,
    verdict: Option<Verdict>,
    is_to_verify: bool,
}

impl Shown<'_> {
    /// The faults of the image itself.
    fn fault(&self) -> Option<String> {
        let missing = self.index.missing();
        if missing > 0 {
            return Some(format!(
                "it is incomplete: {} of {} are missing; download it again",
                size(missing),
                size(self.index.volume().stated)
            ));
        }
        let verdict = self.verdict.as_ref().filter(|verdict| !verdict.is_good())?;
        Some(match verdict.damaged.len() {
            0 => "it is damaged: the checksum inside it does not match; download it again".into(),
            1 => "it is damaged: 1 file does not match its checksum; download it again".into(),
            more => format!("it is damaged: {more} files do not match their checksums; download it again"),
        })
    }

    fn as_text(&self) -> String {
        let (volume, found) = (self.index.volume(), &self.found);
        let mut text = format!("{}: {}\n", self.name, found.title);
        let mut line = |title: &str, value: &str| {
            let _ = writeln!(text, "  {title:12} {}", visible(value));
        };
        line("family", &format!("{} ({})", found.kind, found.family));
        line("version", found.version.as_deref().unwrap_or("unknown"));
        line("volume", &format!("\"{}\", {}, {} files", volume.label, volume.side.title(), self.files()));
        line(
            "size",
            &format!("{}, {}", size(volume.length), if self.index.missing() == 0 { "complete" } else { "incomplete" }),
        );
        line("firmware", &self.firmware());
        if let Some(need) = &found.memory {
            line("memory", &format!("{} MiB: {}", need.mib, need.why));
        }
        for variant in &found.variants {
            self.variant(variant, &mut line);
        }
        match &found.how {
            How::Refused { why, instead } => {
                line("cannot boot", why);
                line("instead", instead);
            }
            How::San => line("boots as", "a virtual drive of iPXE (sanboot)"),
            _ => {}
        }
        for note in &found.notes {
            line("note", note);
        }
        for warning in self.warnings() {
            line("warning", &warning);
        }
        if self.is_to_verify && self.verdict.is_none() {
            line("checksums", "not compared: the image is incomplete");
        }
        if let Some(verdict) = &self.verdict {
            line("checksums", &checksums(verdict));
            for (path, why) in verdict.damaged.iter().take(20) {
                line("damaged", &format!("{path}: {why}"));
            }
        }
        text
    }

    fn variant(&self, variant: &Variant, line: &mut impl FnMut(&str, &str)) {
        line("for", variant.arch.unwrap_or("unknown processor"));
        line("  kernel", &place(&variant.kernel));
        for part in &variant.initrds {
            line("  initrd", &initrd(part));
        }
        for (path, arguments) in &variant.modules {
            line("  with", format!("{path} {arguments}").trim_end());
        }
        if !variant.cmdline.is_empty() {
            let url = self.url();
            line("  cmdline", &variant.cmdline_at(&url, &url));
        }
    }

    /// The image's URL, with a placeholder for the server's address, which is not known here.
    fn url(&self) -> String {
        format!("http://SERVER:8080/assets/{}", plain(&self.name))
    }

    fn files(&self) -> usize {
        self.index.walk().filter(|(_, item)| !matches!(item.kind, Kind::Folder)).count()
    }

    fn firmware(&self) -> String {
        let entries = &self.index.volume().boot_entries;
        let has = |platform| entries.iter().any(|entry| entry.platform == platform);
        match (has(Platform::Bios), has(Platform::Efi)) {
            (true, true) => "BIOS and UEFI boot it from a drive".into(),
            (true, false) => "BIOS boots it from a drive, UEFI does not".into(),
            (false, true) => "UEFI boots it from a drive, BIOS does not".into(),
            (false, false) => "no firmware boots it from a drive".into(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut all = Vec::new();
        if plain(&self.name) != self.name {
            all.push(format!(
                "its name has special characters, which some clients pass to a shell: machines get it as {}",
                plain(&self.name)
            ));
        }
        if let Some(fault) = &self.index.volume().passed_over {
            all.push(format!("it has a second file system that cannot be read: {fault}"));
        }
        if self.unreadable.count > 0 {
            all.push(format!("{} of its files and folders cannot be read:", self.unreadable.count));
            all.extend(self.unreadable.first.iter().map(|(path, why)| format!("{path}: {why}")));
        }
        all
    }

    fn as_json(&self, file: &Path) -> String {
        let volume = self.index.volume();
        let url = self.url();
        let entries = volume.boot_entries.iter().map(|entry| match entry.platform {
            Platform::Bios => "bios".to_owned(),
            Platform::Efi => "efi".to_owned(),
            Platform::Other(id) => format!("{id:#x}"),
        });
        let lines: Vec<String> = self.found.variants.iter().map(|variant| variant.cmdline_at(&url, &url)).collect();
        let all = json!({
            "file": file.display().to_string(),
            "name": plain(&self.name),
            "size": volume.length,
            "missing": self.index.missing(),
            "volume": {
                "label": volume.label,
                "file_system": volume.side.title(),
                "system": volume.system,
                "publisher": volume.publisher,
                "application": volume.application,
                "files": self.files(),
                "firmware": entries.collect::<Vec<_>>(),
            },
            "recognised": self.found,
            "cmdlines": lines,
            "warnings": self.warnings(),
            "verified": self.verdict,
            "fault": self.fault(),
        });
        format!("{all:#}\n")
    }
}

fn checksums(verdict: &Verdict) -> String {
    let mut parts = Vec::new();
    match verdict.implanted {
        Some(true) => parts.push("the checksum inside it matches".to_owned()),
        Some(false) => parts.push("the checksum inside it does not match".to_owned()),
        None => {}
    }
    if !verdict.lists.is_empty() {
        let files =
            if verdict.intact == 1 { "1 file matches".into() } else { format!("{} files match", verdict.intact) };
        parts.push(format!("{files} {}", verdict.lists.join(", ")));
    }
    if verdict.is_empty() { "the image has none; nothing was compared".into() } else { parts.join("; ") }
}

fn place(place: &Place) -> String {
    match place {
        Place::Image(path) => path.clone(),
        Place::Unpacked(path) => format!("{path} (served unpacked)"),
        Place::Host { path, package } => format!("{path} (package {package})"),
        Place::Supplied(name) => format!("{name} (you have to supply this file)"),
    }
}

fn initrd(part: &Part) -> String {
    match part {
        Part::File(file) => place(file),
        Part::Put { path: Some(path), name } => format!("{path}, added as /{name}"),
        Part::Put { path: None, name } => format!("the whole image, added as /{name}"),
    }
}

/// Bytes with a binary unit.
fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..0x400 => format!("{bytes} bytes"),
        0x400..0x10_0000 => format!("{} KiB", tenths(1 << 10)),
        0x10_0000..0x4000_0000 => format!("{} MiB", tenths(1 << 20)),
        _ => format!("{} GiB", tenths(1 << 30)),
    }
}

/// The image is incomplete, damaged, or not an image. The command itself worked.
const DAMAGED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_does_nothing_to_the_terminal() {
        let made = crate::iso::made::iso("LAB\x1b[2J\nEL", &[]);
        let scratch = tempfile::tempdir().expect("a folder");
        let file = scratch.path().join("x.iso");
        std::fs::write(&file, &made.bytes).expect("written");
        let image = ImageFile::open(&file).expect("a file");
        let index = Index::open(&image).expect("an image");
        let found = recognise(&image, &index);
        let unreadable = Unreadable::of(&index);
        let shown =
            Shown { name: "x.iso".into(), index: &index, found, unreadable, verdict: None, is_to_verify: false };
        assert!(shown.as_text().contains("  volume       \"LAB?[2J?EL\", "), "{}", shown.as_text());
    }

    #[test]
    fn sizes_and_the_progress_bar_are_readable() {
        assert_eq!(
            [size(1023), size(1536), size(7 << 20), size(5 << 30)],
            ["1023 bytes", "1.5 KiB", "7.0 MiB", "5.0 GiB"]
        );
        let half = "verifying [############             ]  50 %, 2.0 GiB of 4.0 GiB ";
        assert_eq!(bar(50, 2 << 30, 4 << 30), half);
        assert!(bar(100, 9 << 40, 9 << 40).len() < 80);
    }
}
