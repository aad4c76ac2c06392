//! `netbootd loaders`: shows which loaders were found, which are signed, and which are missing.

use std::path::PathBuf;

use serde_json::json;

use super::failure::{EX_UNAVAILABLE, Failure, print};
use crate::{
    boot::{
        chain::{Incomplete, Lead, Set, Sets},
        loader::{Loader, LoaderFile},
        loaders::Loaders,
        reason::install_hint,
        signed::GET,
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
            text += &format!("{:13}   {}sha256 {}\n", "", signature(file), file.sha256);
        }
    }
    text += &sets_as_text(&loaders.sets);
    for Rejected { path, why } in rejected {
        text += &format!("ignored       {}: {why}\n", path.display());
    }
    text
}

/// In front of the checksum; a BIOS program has none.
fn signature(file: &LoaderFile) -> String {
    file.program.as_ref().map(|program| format!("{}, ", program.words())).unwrap_or_default()
}

/// The loaders for Secure Boot, and GRUB; what is missing where a part of them is there.
fn sets_as_text(sets: &Sets) -> String {
    let mut text = String::new();
    for set in sets.iter() {
        let whole = match &set.shim {
            Some(_) => format!("signed set: shim and {}, complete", set.lead.title()),
            None => format!("{} without a shim, for machines without Secure Boot", set.lead.title()),
        };
        text += &format!("{:13} {whole}{}\n", set.loader.title(), when(set));
        for file in set.files() {
            text += &format!(
                "{:13}   {}  {}\n{:13}     {}sha256 {}\n",
                "",
                file.name,
                file.origin,
                "",
                signature(file),
                file.sha256
            );
            text += &note(set, file).map(|note| format!("{:13}     {note}\n", "")).unwrap_or_default();
        }
    }
    for incomplete in &sets.incomplete {
        let Incomplete { loader, place, missing, .. } = incomplete;
        text += &format!("{:13} no {} set in {place}: {missing}\n", loader.title(), incomplete.title());
    }
    let has_signed = sets.iter().any(|set| set.lead == Lead::Ipxe);
    if !has_signed && sets.incomplete.is_empty() {
        text += &format!("{:13} no signed set of iPXE, for machines with Secure Boot: {GET}\n", "");
    }
    text
}

fn when(set: &Set) -> &'static str {
    match (set.lead, &set.shim) {
        (Lead::Ipxe, _) => "; UEFI machines are offered it first",
        (Lead::Grub, _) => "; for machines with loader = \"grub\" in [machines.override]",
    }
}

/// What people have to know of a file of a set.
fn note(set: &Set, file: &LoaderFile) -> Option<&'static str> {
    set.limit().filter(|_| file.name == set.second.name)
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
            "signed_by": file.program.as_ref().map(|program| &program.signed_by),
        })
    });
    let sets = loaders.sets.iter().map(|set| {
        let files = set.files().map(|file| {
            json!({
                "name": file.name,
                "origin": file.origin,
                "sha256": file.sha256,
                "signed_by": file.program.as_ref().map(|program| &program.signed_by),
                "note": note(set, file),
            })
        });
        json!({
            "architecture": set.loader.title(),
            "starts": set.lead.title(),
            "signed": set.shim.is_some(),
            "files": files.collect::<Vec<_>>(),
        })
    });
    let incomplete = loaders.sets.incomplete.iter();
    let incomplete =
        incomplete.map(|it| json!({ "architecture": it.loader.title(), "folder": it.place, "missing": it.missing }));
    let missing = Loader::ALL.into_iter().filter(|loader| loaders.of(*loader).is_none());
    let missing = missing.map(|loader| json!({ "architecture": loader.title(), "fix": install_hint(loader) }));
    let rejected = rejected.iter().map(|r| json!({ "file": r.path.display().to_string(), "why": r.why.to_string() }));
    let all = json!({
        "loaders": files.collect::<Vec<_>>(),
        "missing": missing.collect::<Vec<_>>(),
        "sets": sets.collect::<Vec<_>>(),
        "incomplete_sets": incomplete.collect::<Vec<_>>(),
        "rejected": rejected.collect::<Vec<_>>(),
    });
    format!("{all:#}\n")
}
