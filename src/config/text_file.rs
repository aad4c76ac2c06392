//! The bytes of a configuration file. To read one waits for no other program, except for the file that `--config` names.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

use super::{Fault, Faults};
use crate::files::permission;

/// What names the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// `--config`. It may be a pipe or a terminal: `/dev/stdin`, or `<(…)` of a shell.
    CommandLine,
    /// `include`.
    Include,
}

/// Reads a file.
///
/// # Errors
/// Why it cannot be read, and the fix.
pub(super) fn read(path: &Path, named: NamedBy) -> Result<Vec<u8>, String> {
    let metadata = fs::metadata(path).map_err(|error| reason(path, named, &error))?;
    let kind = metadata.file_type();
    let is_stream = kind.is_fifo() || kind.is_char_device();
    let waits = named == NamedBy::CommandLine && is_stream;
    if !kind.is_file() && !waits {
        return Err(format!("it is {}", other_kind(kind, named)));
    }
    // Another file may have its name by now: then too, nothing waits.
    let flags = if waits { OFlags::empty() } else { OFlags::NONBLOCK };
    let flags = (flags | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let mut bytes = Vec::new();
    file.and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| reason(path, named, &error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it has more than {} MiB, which is no configuration: name another file", LARGEST >> 20));
    }
    Ok(bytes)
}

/// Whether the file that `--config` names can be read once more, while a server runs.
///
/// # Errors
/// It was removed, or is a pipe, which gives its text once.
pub fn is_readable_again(path: &Path) -> Result<(), Faults> {
    let fault = |message: &str| Err(Faults(vec![Fault { place: path.display().to_string(), message: message.into() }]));
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => fault("the file was removed: put it back"),
        Ok(metadata)
            if metadata.file_type().is_fifo() || metadata.file_type().is_char_device() && path != Path::new(NULL) =>
        {
            fault("it is a pipe or a device, which can be read only once: start netbootd again, or use a file")
        }
        _ => Ok(()),
    }
}

fn reason(path: &Path, named: NamedBy, error: &std::io::Error) -> String {
    if let Some(reason) = permission::denied(path) {
        return reason;
    }
    let fix = match (error.kind(), named) {
        (ErrorKind::NotFound, NamedBy::CommandLine) => "; give another file with --config, or omit --config",
        (ErrorKind::NotFound, NamedBy::Include) => "; `include` names it: put it back, or remove the link to it",
        _ => "",
    };
    format!("{error}{fix}")
}

fn other_kind(kind: fs::FileType, named: NamedBy) -> &'static str {
    match () {
        () if kind.is_dir() && named == NamedBy::CommandLine => "a folder: name a file in it",
        () if kind.is_dir() => "a folder: name the files in it, such as \"machines.d/*.toml\"",
        () if kind.is_fifo() => "a FIFO (a named pipe): use a regular file",
        () if kind.is_socket() => "a socket: use a regular file",
        () => "a device: use a regular file",
    }
}

/// Bytes: a rule for each of a hundred thousand machines fits.
const LARGEST: u64 = 64 << 20;
/// It is always empty.
const NULL: &str = "/dev/null";

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, path::PathBuf, process::Command, thread};

    use super::*;

    #[test]
    fn only_regular_files_are_included_and_a_pipe_is_read_once() {
        let scratch = tempfile::tempdir().expect("a folder");
        let at = |name: &str| scratch.path().join(name);
        let (fifo, socket, file) = (at("fifo"), at("socket"), at("file"));
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("started").success());
        let _listener = UnixListener::bind(&socket).expect("bound");
        fs::write(&file, "x").expect("written");
        assert_eq!(read(&file, NamedBy::Include), Ok(b"x".to_vec()));
        for (path, words) in [
            (fifo.clone(), "it is a FIFO (a named pipe): use a regular file"),
            (socket, "it is a socket: use a regular file"),
            (PathBuf::from("/dev/zero"), "it is a device: use a regular file"),
            (scratch.path().to_owned(), "it is a folder: name the files in it, such as \"machines.d/*.toml\""),
        ] {
            assert_eq!(read(&path, NamedBy::Include), Err(words.into()));
        }
        let missing = read(&at("nothing"), NamedBy::Include).expect_err("no file");
        assert!(!missing.contains("--config") && missing.contains("`include`"), "{missing}");

        let folder = read(scratch.path(), NamedBy::CommandLine);
        assert_eq!(folder, Err("it is a folder: name a file in it".into()));

        let written = fifo.clone();
        let writer = thread::spawn(move || fs::write(written, "y"));
        assert_eq!(read(&fifo, NamedBy::CommandLine), Ok(b"y".to_vec()));
        writer.join().expect("no panic").expect("written");
        let endless = read(Path::new("/dev/zero"), NamedBy::CommandLine).expect_err("endless");
        assert!(endless.starts_with("it has more than 64 MiB"), "{endless}");
        assert_eq!(read(Path::new(NULL), NamedBy::CommandLine), Ok(Vec::new()));

        let again = |path: &Path| is_readable_again(path).map_err(|faults| faults.to_string());
        assert!(again(&fifo).is_err_and(|words| words.contains("only once")));
        assert!(again(&at("nothing")).is_err_and(|words| words.contains("was removed: put it back")));
        assert_eq!((again(&file), again(Path::new(NULL))), (Ok(()), Ok(())));
    }
}
