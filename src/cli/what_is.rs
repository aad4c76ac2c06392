//! `netbootd check FILE…`: identifies files.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::failure::{FAULTS, Failure, print};
use crate::{
    boot::{
        image::{HEAD, Image},
        loader::LOADER_NAMES,
    },
    daemon::loaders,
    files::{image::ImageFile, permission},
    iso::Index,
};

/// A file, and its kind.
struct Identified {
    file: PathBuf,
    /// The kind of the file, or why it cannot be identified.
    what: Result<String, String>,
}

/// Prints the kind of each of these files.
pub(super) fn tell(files: &[PathBuf], as_json: bool) -> Result<(), Failure> {
    let identified: Vec<Identified> =
        files.iter().map(|file| Identified { file: file.clone(), what: what_is(file) }).collect();
    let faults = identified.iter().filter(|identified| identified.what.is_err()).count();
    let text = if as_json {
        let rows = identified.iter().map(|Identified { file, what }| match what {
            Ok(what) => json!({ "file": file, "is": what }),
            Err(fault) => json!({ "file": file, "fault": fault }),
        });
        format!("{:#}\n", json!({ "files": rows.collect::<Vec<_>>() }))
    } else {
        let line = |Identified { file, what }: &Identified| {
            let words = what.as_ref().map_or_else(Clone::clone, |what| format!("it is {what}"));
            format!("{}: {words}\n", file.display())
        };
        identified.iter().map(line).collect()
    };
    print(&text)?;
    match faults {
        0 => Ok(()),
        1 => Err(Failure::new(FAULTS, "1 fault")),
        faults => Err(Failure::new(FAULTS, format!("{faults} faults"))),
    }
}

fn what_is(path: &Path) -> Result<String, String> {
    let fault = |error: std::io::Error| permission::denied(path).unwrap_or_else(|| error.to_string());
    let file = File::open(path).map_err(fault)?;
    let about = file.metadata().map_err(fault)?;
    if !about.is_file() {
        return Err("it is not a regular file".into());
    }
    if about.len() == 0 {
        return Err("it is empty".into());
    }
    let mut head = Vec::new();
    (&file).take(HEAD as u64).read_to_end(&mut head).map_err(fault)?;
    match Image::of(&head) {
        Image::Iso => cd_image(path, about.len()),
        image => match loader(path) {
            Some(loader) => Ok(loader),
            None if image.is_known() => Ok(format!("{}, {}", image.title(), size(about.len()))),
            None => Err(format!("it is {}", image.title())),
        },
    }
}

fn cd_image(path: &Path, length: u64) -> Result<String, String> {
    let image = ImageFile::open(path).map_err(|error| error.to_string())?;
    let index = Index::open(&image).map_err(|fault| format!("a CD image that cannot be read: {fault}"))?;
    let volume = index.volume();
    if index.missing() > 0 {
        return Err(format!(
            "an incomplete CD image, {:?}: {} of {} are missing; download it again",
            volume.label,
            size(index.missing()),
            size(volume.stated)
        ));
    }
    Ok(format!("a CD image ({}), {:?}, {}", volume.side.title(), volume.label, size(length)))
}

/// Identifies an iPXE loader by its name and contents.
fn loader(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let known = LOADER_NAMES.iter().find(|known| known.path.rsplit('/').next() == Some(name))?;
    let file = loaders::read(path, *known).ok()??;
    let version = file.version.map(|version| format!(", version {version}")).unwrap_or_default();
    Some(format!("the iPXE loader {} for {}{version}, SHA-256 {}", file.name, file.loader.title(), file.sha256))
}

/// A size with a decimal unit.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        1_000_000_000.. => (1_000_000_000, "GB"),
        1_000_000.. => (1_000_000, "MB"),
        1000.. => (1000, "kB"),
        bytes => return format!("{bytes} bytes"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_identified_by_their_contents() {
        let scratch = tempfile::tempdir().expect("a folder");
        let is = |name: &str, bytes: &[u8]| {
            let path = scratch.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            what_is(&path)
        };
        let mut kernel = vec![0; 2000];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(is("vmlinuz", &kernel), Ok("a Linux kernel for x86, 2.0 kB".into()));
        assert_eq!(is("initrd", b"070701and so on"), Ok("a cpio archive, 15 bytes".into()));
        assert_eq!(is("initrd.gz", b"\x1f\x8b\x08and so on"), Ok("something compressed with gzip, 12 bytes".into()));
        assert_eq!(
            is("vmlinuz", b"<!DOCTYPE html><title>404"),
            Err("it is a web page, as servers send for an error".into())
        );
        assert_eq!(is("nothing", b""), Err("it is empty".into()));
        assert_eq!(what_is(scratch.path()), Err("it is not a regular file".into()));
        let gone = what_is(&scratch.path().join("gone"));
        assert_eq!(gone, Err("No such file or directory (os error 2)".into()));
        let made = crate::iso::made::iso("DEBIAN_LIVE", &[("casper/vmlinuz", crate::iso::made::Of::Bytes(b"kernel"))]);
        assert_eq!(
            is("live.iso", &made.bytes).map(|words| words.split(", ").take(2).collect::<Vec<_>>().join(", ")),
            Ok("a CD image (ISO 9660 with Rock Ridge), \"DEBIAN_LIVE\"".into())
        );
    }
}
