//! What a file of the templates folder is: a template, or a file that is sent as it is.

use std::collections::BTreeMap;

use super::rendered::is_place;

/// A file of the templates folder, by the name that it is asked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A template.
    Template(String),
    /// Sent as it is.
    Raw(Vec<u8>),
    /// Neither; why.
    Faulty(String),
}

/// The files, and what people want to know of them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) files: BTreeMap<String, Source>,
    pub(super) notes: Vec<String>,
}

impl Sources {
    /// Reads files by their names below the templates folder; in the place of one that cannot be read stands why.
    pub(super) fn of(files: impl IntoIterator<Item = (String, Result<Vec<u8>, String>)>) -> Self {
        let mut sources = Self::default();
        let mut shorter = BTreeMap::new();
        for (name, content) in files {
            let source = match content {
                Err(error) => Source::Faulty(error),
                Ok(bytes) if is_raw(&name) => {
                    if let Some(asked) = without_raw(&name) {
                        shorter.insert(asked, bytes.clone());
                    }
                    Source::Raw(bytes)
                }
                Ok(bytes) => sources.read(&name, bytes),
            };
            sources.files.insert(name, source);
        }
        for (name, bytes) in shorter {
            // A template of that name goes before it.
            sources.files.entry(name).or_insert(Source::Raw(bytes));
        }
        sources
    }

    fn read(&mut self, name: &str, bytes: Vec<u8>) -> Source {
        // A NUL is in no text, and nearly every file that is none has one early.
        let is_text = !bytes.contains(&0);
        let text = match String::from_utf8(bytes) {
            Ok(text) if is_text => text,
            Ok(text) => return Source::Raw(text.into_bytes()),
            Err(error) => return Source::Raw(error.into_bytes()),
        };
        let (text, noted) = plain_text(&text, keeps_line_ends(name));
        self.notes.extend(noted.into_iter().map(|what| format!("{name} {what}")));
        if text.contains(is_place) {
            return Source::Faulty(
                "it holds characters from U+100000 on, which are for private use; remove them".into(),
            );
        }
        match unraw(&text).contains("${#") {
            // minijinja would take it for the beginning of a comment, and all up to the next #} for one.
            true => Source::Faulty(format!("it holds ${{#, in which {{# begins a template comment{RAW}")),
            false => Source::Template(text),
        }
    }
}

/// A text without a byte order mark and with the line ends of Unix; what was changed.
#[must_use]
pub fn plain_text(text: &str, keeps_line_ends: bool) -> (String, Vec<&'static str>) {
    let mut notes = Vec::new();
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    if bare.len() < text.len() {
        notes.push("begins with a byte order mark (BOM), which is ignored");
    }
    if !keeps_line_ends && bare.contains("\r\n") {
        notes.push("has Windows line ends (CRLF), which are read as LF");
        return (bare.replace("\r\n", "\n"), notes);
    }
    (bare.to_owned(), notes)
}

/// What Windows reads by itself.
fn keeps_line_ends(name: &str) -> bool {
    let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix).to_ascii_lowercase();
    ["bat", "cmd", "ps1", "reg", "inf"].contains(&suffix.as_str())
}

/// Below `raw/`, or with a suffix `.raw` beside another one.
fn is_raw(name: &str) -> bool {
    name.starts_with("raw/") || without_raw(name).is_some()
}

/// `post.sh.raw` is asked for by `post.sh` as well.
fn without_raw(name: &str) -> Option<String> {
    let (folder, file) = name.rsplit_once('/').map_or(("", name), |(folder, file)| (folder, file));
    let file = match file.strip_suffix(".raw") {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => {
            let (rest, suffix) = file.rsplit_once('.')?;
            format!("{}.{suffix}", rest.strip_suffix(".raw").filter(|rest| !rest.is_empty())?)
        }
    };
    Some(if folder.is_empty() { file } else { format!("{folder}/{file}") })
}

/// A template without what stands between `{% raw %}` and `{% endraw %}`.
fn unraw(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, behind)) = split_at_tag(rest, "raw") {
        result.push_str(before);
        rest = split_at_tag(behind, "endraw").map_or("", |(_, behind)| behind);
    }
    result + rest
}

fn split_at_tag<'a>(text: &'a str, tag: &str) -> Option<(&'a str, &'a str)> {
    for (at, _) in text.match_indices("{%") {
        let inside = text.get(at + 2..)?.trim_start_matches(['-', '+']).trim_start();
        let Some(behind) = inside.strip_prefix(tag) else { continue };
        if let Some(end) = behind.trim_start().trim_start_matches(['-', '+']).strip_prefix("%}") {
            return Some((text.get(..at)?, end));
        }
    }
    None
}

/// What to do with a text that only looks like a template.
pub(super) const RAW: &str = "; put text that is not a template between {% raw %} and {% endraw %}, or the whole file below \
                              templates/raw/, or give it a second suffix .raw";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> (BTreeMap<String, Source>, Vec<String>) {
        let Sources { files, notes } = Sources::of([(name.to_owned(), Ok(bytes.to_vec()))]);
        (files, notes)
    }

    #[test]
    fn a_file_is_sent_as_it_is_by_its_name_or_where_it_is_no_text() {
        let raw = |names: &[&str], bytes: &[u8]| {
            names.iter().map(|name| ((*name).to_owned(), Source::Raw(bytes.to_vec()))).collect::<BTreeMap<_, _>>()
        };
        let shell = b"echo ${#disks[@]} {{ x }}\r\n";
        assert_eq!(read("raw/post.sh", shell).0, raw(&["raw/post.sh"], shell));
        assert_eq!(read("raw/ubuntu/user-data", shell).0, raw(&["raw/ubuntu/user-data"], shell));
        assert_eq!(read("post.sh.raw", shell).0, raw(&["post.sh", "post.sh.raw"], shell));
        assert_eq!(read("x/post.raw.sh", shell).0, raw(&["x/post.raw.sh", "x/post.sh"], shell));
        assert_eq!(read("apkovl.tar.gz", b"\x1f\x8b\x08\xff").0, raw(&["apkovl.tar.gz"], b"\x1f\x8b\x08\xff"));
        assert_eq!(read("x.bin", b"a\0b").0, raw(&["x.bin"], b"a\0b"));
        for name in ["post.sh", "draw/post.sh", ".raw", "raw.sh"] {
            assert!(matches!(read(name, shell).0[name], Source::Faulty(_)), "{name}");
        }
        let both = [("a.sh.raw".to_owned(), Ok(b"raw".to_vec())), ("a.sh".to_owned(), Ok(b"{{ x }}".to_vec()))];
        assert_eq!(Sources::of(both).files["a.sh"], Source::Template("{{ x }}".into()));
    }

    #[test]
    fn shell_that_would_be_taken_for_a_comment_is_told_with_its_fix() {
        let faulty = |text: &str| matches!(&read("a.sh", text.as_bytes()).0["a.sh"], Source::Faulty(fault) if fault.contains("{% raw %}"));
        assert!(faulty("echo ${#disks[@]}\n"));
        assert!(faulty("echo ${#a} ${b#}\n"));
        assert!(faulty("{% raw %}${#a}{% endraw %} ${#b}\n"));
        assert!(!faulty("{% raw %}${#a}{% endraw %} {# a comment #}\n{%- raw -%}${#b}{%- endraw %}"));
    }

    #[test]
    fn what_windows_adds_is_left_out_and_told() {
        let (files, notes) = read("a.ipxe", "\u{feff}#!ipxe\r\nexit\r\n".as_bytes());
        assert_eq!(files["a.ipxe"], Source::Template("#!ipxe\nexit\n".into()));
        assert!(notes.len() == 2 && notes[0].starts_with("a.ipxe begins with a byte order mark"), "{notes:?}");
        assert_eq!(read("a.cmd", b"exit\r\n").0["a.cmd"], Source::Template("exit\r\n".into()));
    }
}
