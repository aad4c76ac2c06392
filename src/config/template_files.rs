//! The templates folder → templates.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Level, check::Check};
use crate::{boot::template::Templates, files::permission};

impl Check<'_> {
    /// Every file of the templates folder by its name; files in subfolders by `FOLDER/NAME`.
    pub(super) fn templates(&mut self) -> Templates {
        let Some(folder) = self.loaded.config.templates.as_deref() else { return Templates::default() };
        let mut files = Vec::new();
        if let Err(error) = read(folder, "", DEEPEST, &mut files) {
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

/// The contents of each file, by its path below the templates folder, or why it cannot be read.
fn read(
    folder: &Path,
    above: &str,
    depth: usize,
    files: &mut Vec<(String, Result<Vec<u8>, String>)>,
) -> io::Result<()> {
    for (name, path) in entries(folder)? {
        let name = format!("{above}{name}");
        if path.is_dir() {
            if depth > 0
                && let Err(error) = read(&path, &format!("{name}/"), depth - 1, files)
            {
                files.push((name, Err(format!("the folder cannot be read: {error}"))));
            }
            continue;
        }
        // A dangling link is reported as a file that cannot be read. Pipes and devices are ignored.
        if path.is_file() || !path.exists() {
            files.push((name, fs::read(&path).map_err(|error| format!("it cannot be read: {error}"))));
        }
    }
    Ok(())
}

/// The depth of subfolders. It is limited because a link can make a loop.
const DEEPEST: usize = 3;

/// The entries of a folder, without hidden files and backup files of editors.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| !name.starts_with('.') && !name.ends_with('~')) {
            entries.push((name.to_owned(), path));
        }
    }
    Ok(entries)
}
