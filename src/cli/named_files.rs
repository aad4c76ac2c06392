//! Files that the command line names, and the folder that they are served from.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::failure::{EX_UNAVAILABLE, EX_USAGE, Failure};
use crate::boot::urls::is_remote;

/// The path of a regular file without symbolic links: `/vmlinuz` is a link into `/boot`, and with it the served folder
/// would be the whole file system.
///
/// # Errors
/// What is there instead.
pub(super) fn real(path: &Path) -> Result<PathBuf, Failure> {
    let shown = path.display();
    if path.to_str().is_some_and(is_remote) {
        let fix = "download it and name the file, or name the address in a profile of a configuration (kernel, initrd)";
        return Err(Failure::new(EX_USAGE, format!("{shown} is an address, and no file of this host: {fix}")));
    }
    let real = path.canonicalize().map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let here = env::current_dir().ok().filter(|_| missing && path.is_relative());
        let here = here.map_or_else(String::new, |here| format!(" (searched in {})", here.display()));
        let fix = if missing && looks_like_parameter(path) {
            "; parameters of the kernel come behind --: netbootd up KERNEL INITRD -- console=ttyS0"
        } else {
            ""
        };
        Failure::new(EX_UNAVAILABLE, format!("{shown}: {error}{here}{fix}"))
    })?;
    // What cannot be looked at is reported with its fix when the configuration is checked.
    match real.metadata() {
        Ok(found) if found.is_dir() => {
            Err(Failure::new(EX_USAGE, format!("{shown} is a folder: name a kernel, an initrd or a CD image in it")))
        }
        Ok(found) if !found.is_file() => Err(Failure::new(
            EX_USAGE,
            format!("{shown} is not a regular file: copy its content into one, and name that"),
        )),
        _ => Ok(real),
    }
}

/// `console=ttyS0`, as people type it behind the files.
fn looks_like_parameter(path: &Path) -> bool {
    path.to_str().is_some_and(|text| {
        let name = text.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty() && !name.contains('/')
    })
}

/// The folder that files are served from: the named one, or the deepest one that holds all of them.
///
/// # Errors
/// There is no such folder but `/`, or the named one is missing.
pub(super) fn folder_of(files: &[&PathBuf], named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return named
            .canonicalize()
            .map_err(|error| Failure::new(EX_UNAVAILABLE, format!("{}: {error}", named.display())));
    }
    let mut folders = files.iter().map(|path| path.parent().unwrap_or(Path::new("/")));
    let first = folders.next().unwrap_or(Path::new("/"));
    let common = folders.fold(first, |common, folder| {
        common.ancestors().find(|above| folder.starts_with(above)).unwrap_or(Path::new("/"))
    });
    match common == Path::new("/") {
        true => {
            let words = "the files are in no common folder but /: put them into one folder";
            Err(Failure::new(EX_USAGE, words))
        }
        false => Ok(common.to_owned()),
    }
}

/// The path of a file below that folder.
///
/// # Errors
/// It is not in it, or its name is not UTF-8.
pub(super) fn below(file: &Path, folder: &Path) -> Result<String, Failure> {
    let below = file.strip_prefix(folder).map_err(|_| {
        let fix = "put it there, or set --assets to a folder that contains all the files";
        let (file, folder) = (file.display(), folder.display());
        Failure::new(EX_USAGE, format!("{file} is not in the assets folder {folder}: {fix}"))
    })?;
    let unclear = || Failure::new(EX_USAGE, format!("{}: the file name is not UTF-8: rename the file", file.display()));
    below.to_str().map(str::to_owned).ok_or_else(unclear)
}
