//! `netbootd loaders`: shows which iPXE binaries were found, and which are missing.

use std::path::PathBuf;

use serde_json::json;

use super::failure::{EX_UNAVAILABLE, Failure, print};
use crate::{
    boot::{
        loader::{Loader, LoaderFile, Loaders},
        reason::install_hint,
    },
    daemon::loaders::{PACKAGES, Rejected, find},
};

/// Show the iPXE loaders that were found on this host.
///
/// netbootd searches the given folders first, then the folders of the distributions' packages.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Folder to search first, repeatable
    #[arg(long = "loader-dir", value_name = "DIR")]
    loader_dirs: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (loaders, rejected) = find(&self.loader_dirs);
        let text = if self.json { as_json(&loaders, &rejected) } else { as_text(&loaders, &rejected) };
        print(&text)?;
        match loaders.iter().next() {
            Some(_) => Ok(()),
            None => {
                let places = PACKAGES.join(", ");
                let hint = install_hint(Loader::EfiX86_64);
                Err(Failure::new(EX_UNAVAILABLE, format!("no loader was found in {places}: {hint}")))
            }
        }
    }
}

fn as_text(loaders: &Loaders, rejected: &[Rejected]) -> String {
    let mut text = String::new();
    for loader in Loader::ALL {
        let files: Vec<&LoaderFile> = loaders.iter().filter(|file| file.loader == loader).collect();
        if files.is_empty() {
            text += &format!("{:13} none: {}\n", loader.title(), install_hint(loader));
        }
        for (index, file) in files.into_iter().enumerate() {
            let title = if index == 0 { loader.title() } else { "" };
            let version = file.version.as_deref().unwrap_or("version unknown");
            text += &format!("{title:13} {}  {}  {version}\n", file.name, file.origin);
            text += &format!("{:13}   sha256 {}\n", "", file.sha256);
        }
    }
    for Rejected { path, why } in rejected {
        text += &format!("ignored       {}: {why}\n", path.display());
    }
    text
}

fn as_json(loaders: &Loaders, rejected: &[Rejected]) -> String {
    let files = loaders.iter().map(|file| {
        json!({
            "name": file.name,
            "architecture": file.loader.title(),
            "is_default": loaders.of(file.loader).is_some_and(|default| default.name == file.name),
            "origin": file.origin,
            "version": file.version,
            "size": file.bytes.len(),
            "sha256": file.sha256,
        })
    });
    let missing = Loader::ALL.into_iter().filter(|loader| loaders.of(*loader).is_none());
    let missing = missing.map(|loader| json!({ "architecture": loader.title(), "fix": install_hint(loader) }));
    let rejected = rejected.iter().map(|r| json!({ "file": r.path.display().to_string(), "why": r.why.to_string() }));
    let all = json!({
        "loaders": files.collect::<Vec<_>>(),
        "missing": missing.collect::<Vec<_>>(),
        "rejected": rejected.collect::<Vec<_>>(),
    });
    format!("{all:#}\n")
}
