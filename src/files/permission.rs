//! Why this process may not read a path, from the owners and modes of the files and folders on it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf, absolute},
};

use rustix::{
    fs::{Access, access},
    io::Errno,
    process::geteuid,
};

/// What denies access, with the fix: `user netbootd cannot read /srv/initrd.img (0600 root:root): chmod a+r
/// /srv/initrd.img`. `None` if owners and modes allow it.
#[must_use]
pub fn denied(path: &Path) -> Option<String> {
    let culprit = culprit(&absolute(path).ok()?, LINKS)?;
    let metadata = fs::metadata(&culprit.path).ok()?;
    let user = name_in("/etc/passwd", geteuid().as_raw()).unwrap_or_else(|| format!("{}", geteuid().as_raw()));
    let owner = name_in("/etc/passwd", metadata.uid()).unwrap_or_else(|| metadata.uid().to_string());
    let group = name_in("/etc/group", metadata.gid()).unwrap_or_else(|| metadata.gid().to_string());
    let (verb, bits) = match (culprit.is_on_the_way, metadata.is_dir()) {
        (true, _) => ("enter", "a+x"),
        (false, true) => ("list", "a+rx"),
        (false, false) => ("read", "a+r"),
    };
    let (mode, path) = (metadata.mode() & 0o7777, culprit.path.display());
    Some(format!("user {user} cannot {verb} {path} ({mode:04o} {owner}:{group}): chmod {bits} {path}"))
}

/// Why a user cannot create files in a folder, with the fix; `None` if owner and mode allow it.
#[must_use]
pub fn cannot_write(folder: &Path, user: &str, uid: u32, gid: u32) -> Option<String> {
    let metadata = fs::metadata(folder).ok()?;
    let bits = match (metadata.uid() == uid, metadata.gid() == gid) {
        (true, _) => metadata.mode() >> 6,
        (false, true) => metadata.mode() >> 3,
        (false, false) => metadata.mode(),
    };
    if bits & 0o3 == 0o3 {
        return None;
    }
    let owner = name_in("/etc/passwd", metadata.uid()).unwrap_or_else(|| metadata.uid().to_string());
    let group = name_in("/etc/group", metadata.gid()).unwrap_or_else(|| metadata.gid().to_string());
    let (mode, path) = (metadata.mode() & 0o7777, folder.display());
    Some(format!("user {user} cannot write in {path} ({mode:04o} {owner}:{group}): chown {user} {path}"))
}

struct Culprit {
    path: PathBuf,
    is_on_the_way: bool,
}

/// The first file or folder on the path that this process cannot pass. Links are followed.
fn culprit(path: &Path, links: usize) -> Option<Culprit> {
    let path = &tidy(path);
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    for part in way {
        let is_on_the_way = part != path.as_path();
        if let Ok(target) = fs::read_link(part) {
            let target = part.parent().unwrap_or(part).join(target);
            if let Some(culprit) = links.checked_sub(1).and_then(|links| culprit(&target, links)) {
                return Some(Culprit { is_on_the_way: is_on_the_way || culprit.is_on_the_way, ..culprit });
            }
        }
        let wanted = match is_on_the_way {
            true => Access::EXEC_OK,
            false if part.is_dir() => Access::READ_OK | Access::EXEC_OK,
            false => Access::READ_OK,
        };
        if access(part, wanted) == Err(Errno::ACCESS) {
            return Some(Culprit { path: part.to_owned(), is_on_the_way });
        }
    }
    None
}

/// The path without `..`. Only links contain `..` here.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(tidied.pop()),
            part => tidied.push(part),
        }
    }
    tidied
}

/// In passwd(5) and group(5), the name is the first field and the number the third.
fn name_in(file: &str, number: u32) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let names = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
    });
    names.into_iter().next()
}

/// The number of links that the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt, symlink},
        thread,
    };

    use rustix::{
        process::{Gid, Uid},
        thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
    };

    use super::*;

    #[test]
    fn the_file_or_folder_that_denies_is_named_with_its_mode_and_the_fix() {
        if !geteuid().is_root() {
            return eprintln!("skipped: only root can be another user");
        }
        let scratch = tempfile::tempdir().expect("a folder");
        let mode = |name: &str, mode| {
            let path = scratch.path().join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        };
        mode("", 0o755);
        for folder in ["open", "shut"] {
            fs::create_dir(scratch.path().join(folder)).expect("made");
            for file in ["good", "secret"] {
                fs::write(scratch.path().join(folder).join(file), "x").expect("made");
                mode(&format!("{folder}/{file}"), if file == "good" { 0o644 } else { 0o600 });
            }
        }
        symlink("../shut/good", scratch.path().join("open/link")).expect("made");
        mode("shut", 0o700);
        let root = scratch.path().to_owned();
        // In its own thread, so that the other tests stay root.
        let seen = thread::spawn(move || {
            set_thread_groups(&[]).expect("groups");
            let (gid, uid) = (Gid::from_raw(65_534), Uid::from_raw(65_534));
            set_thread_res_gid(gid, gid, gid).expect("a group");
            set_thread_res_uid(uid, uid, uid).expect("a user");
            let names = ["open/good", "open/secret", "shut/good", "open/link", "shut", "open/nothing"];
            names.map(|name| denied(&root.join(name)).map(|words| words.replace(&format!("{}/", root.display()), "")))
        });
        let shut = |verb: &str, bits: &str| {
            Some(format!("user nobody cannot {verb} shut (0700 root:root): chmod {bits} shut"))
        };
        let secret = "user nobody cannot read open/secret (0600 root:root): chmod a+r open/secret";
        let expected =
            [None, Some(secret.into()), shut("enter", "a+x"), shut("enter", "a+x"), shut("list", "a+rx"), None];
        assert_eq!(seen.join().expect("no panic"), expected);
    }
}
