//! The templates folder → templates.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Level, check::Check, watched::DEEPEST};
use crate::{boot::template::Templates, files::permission};

impl Check<'_> {
    /// The loader folders that cannot be read: other folders are searched without them.
    pub(super) fn loader_dirs(&mut self) {
        for folder in &self.loaded.config.loader_dirs {
            if let Err(error) = fs::read_dir(folder) {
                let reason = permission::denied(folder).unwrap_or_else(|| error.to_string());
                let message = format!("the loader folder {} cannot be read: {reason}", folder.display());
                self.finding(Level::Warning, &["loader_dirs"], message);
            }
        }
    }

    /// Every file of the templates folder by its name; files in subfolders by `FOLDER/NAME`.
    pub(super) fn templates(&mut self) -> Templates {
        let Some(folder) = self.loaded.config.templates.as_deref() else { return Templates::default() };
        let mut files = Vec::new();
        if let Err(error) = read(folder, "", &mut Vec::new(), &mut files) {
            let reason = permission::denied(folder).unwrap_or_else(|| error.to_string());
            let message = format!("the templates folder {} cannot be read: {reason}", folder.display());
            self.finding(Level::Fault, &["templates"], message);
        }
        let templates = Templates::of_files(files);
        for fault in templates.faulty().values() {
            self.finding(Level::Fault, &["templates"], format!("{}: {fault}", folder.display()));
        }
        for note in templates.notes() {
            self.finding(Level::Warning, &["templates"], format!("{}: {note}", folder.display()));
        }
        templates
    }
}

/// The contents of each file, by its path below the templates folder, or why it cannot be read. `way` are the folders that
/// lead here: a link to one of them makes a loop, and leads to nothing new.
fn read(
    folder: &Path,
    above: &str,
    way: &mut Vec<PathBuf>,
    files: &mut Vec<(String, Result<Vec<u8>, String>)>,
) -> io::Result<()> {
    let real = folder.canonicalize()?;
    if way.contains(&real) {
        return Ok(());
    }
    way.push(real);
    let read = read_entries(folder, above, way, files);
    way.pop();
    read
}

fn read_entries(
    folder: &Path,
    above: &str,
    way: &mut Vec<PathBuf>,
    files: &mut Vec<(String, Result<Vec<u8>, String>)>,
) -> io::Result<()> {
    for (name, path) in entries(folder)? {
        let is_text = path.file_name().is_some_and(|name| name.to_str().is_some());
        let name = format!("{above}{name}");
        if !is_text {
            files.push((name, Err("its name is not UTF-8: rename it".into())));
            continue;
        }
        if path.is_dir() {
            // The folder itself is the first one on the way.
            let read = match way.len() <= DEEPEST {
                true => read(&path, &format!("{name}/"), way, files).map_err(|error| error.to_string()),
                false => Err(format!("it is deeper than {DEEPEST} folders below the templates folder")),
            };
            if let Err(error) = read {
                files.push((name, Err(format!("the folder cannot be read: {error}"))));
            }
            continue;
        }
        // A dangling link is reported as a file that cannot be read. Pipes and devices are ignored.
        if path.is_file() || !path.exists() {
            let reason = |error: io::Error| permission::denied(&path).unwrap_or_else(|| error.to_string());
            files.push((name, fs::read(&path).map_err(|error| format!("it cannot be read: {}", reason(error)))));
        }
    }
    Ok(())
}

/// The entries of a folder, without hidden files and backup files of editors.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with('.') && !name.ends_with('~') {
            entries.push((name, path));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn every_file_is_read_once_or_named() {
        let scratch = tempfile::tempdir().expect("a folder");
        let deep = scratch.path().join("a/b/c/d/e");
        fs::create_dir_all(&deep).expect("made");
        fs::write(deep.join("x.ks"), "x").expect("written");
        symlink("..", deep.join("loop")).expect("made");
        fs::write(scratch.path().join(OsStr::from_bytes(b"\xe4.ks")), "x").expect("written");
        let mut files = Vec::new();
        read(scratch.path(), "", &mut Vec::new(), &mut files).expect("read");
        files.sort();
        let fault = "its name is not UTF-8: rename it".to_owned();
        assert_eq!(files, [("a/b/c/d/e/x.ks".into(), Ok(b"x".to_vec())), ("\u{fffd}.ks".into(), Err(fault))]);
        fs::create_dir_all(deep.join("f/g/h/i")).expect("made");
        fs::write(deep.join("f/g/h/i/y.ks"), "y").expect("written");
        let mut files = Vec::new();
        read(scratch.path(), "", &mut Vec::new(), &mut files).expect("read");
        let fault = files.iter().find(|(name, _)| name == "a/b/c/d/e/f/g/h/i").and_then(|(_, read)| read.clone().err());
        assert!(fault.is_some_and(|fault| fault.contains("deeper than 8 folders")), "{files:?}");
    }
}
