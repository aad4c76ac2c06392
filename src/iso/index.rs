//! The index of one version of an image: its tree, from one of its file systems, and its descriptors.

use std::collections::VecDeque;

use super::{
    extent::Extent,
    fault::Fault,
    iso9660::{self, Descriptors, Iso, Names},
    not_image::what_it_is,
    source::{ReadAt, Reader},
    tree::{self, Node, NodeWhat},
    udf_volume::Udf,
    volume::{Side, Volume},
};
use crate::spelling::fits;

/// Everything that is known about an image without reading its files.
#[derive(Debug)]
pub struct Index {
    volume: Volume,
    nodes: Vec<Node>,
}

/// A file inside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its ranges, in order. Their lengths add up to the size.
    pub extents: &'a [Extent],
    /// Its length in bytes.
    pub size: u64,
    /// Time of last modification in seconds since 1970.
    pub modified: Option<i64>,
}

/// The target of a path, after following links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A folder.
    Folder,
    /// A file.
    File(Entry<'a>),
}

/// An entry of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The name, without the folder.
    pub name: &'a str,
    /// Its kind; links are not followed.
    pub kind: Kind<'a>,
    /// Time of last modification in seconds since 1970.
    pub modified: Option<i64>,
}

/// The kind of an [`Item`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A folder.
    Folder,
    /// A file.
    File(Entry<'a>),
    /// A symbolic link and its target.
    Link(&'a str),
    /// A device, a socket or a pipe.
    Special,
    /// An entry that cannot be read, and why.
    Unreadable(&'a Fault),
}

impl Index {
    /// Reads the tree of an image. It takes a few milliseconds, for any size of the image.
    ///
    /// # Errors
    /// [`Fault`]: not an image, a root folder that cannot be read, or too many files. Faults of a single file or folder
    /// below the root are returned when it is looked up.
    pub fn open(image: &dyn ReadAt) -> Result<Self, Fault> {
        let reader = Reader::new(image);
        let iso = iso9660::descriptors(&reader).and_then(|all| all.map(|all| iso_side(&reader, all)).transpose());
        let udf = Udf::find(&reader).and_then(|found| found.map(|udf| udf_side(&udf)).transpose());
        match (iso, udf) {
            (Ok(Some(iso)), Ok(Some(udf))) if iso.is_only_a_notice_beside(&udf) || iso.is_short_of_names(&udf) => {
                // In an image with both, the ISO 9660 part has the boot entries and the size of the whole volume.
                let Volume { system, application, application_use, boot_entries, stated, .. } = iso.volume;
                let stated = stated.max(udf.volume.stated);
                let volume = Volume { system, application, application_use, boot_entries, stated, ..udf.volume };
                Ok(Self { volume, nodes: udf.nodes })
            }
            (Ok(Some(iso)), Ok(Some(udf))) => Ok(iso.corrected_by(udf)),
            (Ok(Some(iso)), Ok(None)) => Ok(iso),
            (Ok(Some(iso)), Err(fault)) => Ok(iso.with(fault)),
            (Ok(None), Ok(Some(udf))) => Ok(udf),
            (Err(fault), Ok(Some(udf))) => Ok(udf.with(fault)),
            (Err(fault), _) | (Ok(None), Err(fault)) => Err(fault),
            (Ok(None), Ok(None)) => Err(Fault::NoImage(what_it_is(&reader))),
        }
    }

    fn with(self, fault: Fault) -> Self {
        Self { volume: Volume { passed_over: Some(fault), ..self.volume }, ..self }
    }

    /// The ISO 9660 part of Windows media has only one text file, which says that the other files are in UDF.
    fn is_only_a_notice_beside(&self, udf: &Self) -> bool {
        let count = |index: &Self| index.list("").map_or(0, |items| items.len());
        let has = |index: &Self| index.lookup("sources").is_ok();
        count(udf) > 0 && (count(self) <= 2 && count(udf) > count(self) || !has(self) && has(udf))
    }

    /// Without Rock Ridge and Joliet, ISO 9660 has names of 8 and 3 capital letters. `genisoimage -udf` does not add either.
    fn is_short_of_names(&self, udf: &Self) -> bool {
        self.volume.side == Side::Plain && udf.nodes.len() >= self.nodes.len()
    }

    /// With the contents of files that this side has not, or not all of. genisoimage(1), -allow-limited-size: a file of 4 GiB
    /// or more has "a shrunk visible file size" in ISO 9660, and the right one in UDF. The tree stays that of ISO 9660,
    /// because genisoimage writes no links into UDF.
    fn corrected_by(mut self, mut udf: Self) -> Self {
        // The node of the same path in UDF. Folders are before their contents.
        let mut same: Vec<Option<usize>> = Vec::with_capacity(self.nodes.len());
        for node in &mut self.nodes {
            let is_root = same.is_empty();
            let folder = same.get(node.parent).copied().flatten().and_then(|at| udf.nodes.get(at));
            let at = match folder.map(|folder| &folder.what) {
                _ if is_root => Some(0),
                Some(NodeWhat::Folder { first, count }) => {
                    let children = udf.children(*first, *count);
                    children.binary_search_by(|child| child.name.cmp(&node.name)).ok().map(|at| first + at)
                }
                _ => None,
            };
            same.push(at);
            let Some(other) = at.and_then(|at| udf.nodes.get_mut(at)) else { continue };
            let is_better = match (&node.what, &other.what) {
                (NodeWhat::File { size, .. }, NodeWhat::File { size: whole, .. }) => whole > size,
                (NodeWhat::Unreadable(_), NodeWhat::File { .. }) => true,
                _ => false,
            };
            if is_better {
                std::mem::swap(&mut node.what, &mut other.what);
            }
        }
        self
    }

    /// The data in the descriptors.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// How many bytes are missing, compared with the size in the descriptor.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.volume.stated.saturating_sub(self.volume.length)
    }

    /// Finds the target of a path. Slashes at the ends and double slashes are ignored, and `..` cannot go above the
    /// root. The exact name has priority over a name in another case. Symbolic links are followed inside the image; an
    /// absolute link starts at its root.
    ///
    /// # Errors
    /// [`Fault::NotFound`], [`Fault::Links`], and the fault of the file.
    pub fn lookup(&self, path: &str) -> Result<Found<'_>, Fault> {
        let node = self.node(self.resolve(path)?, path)?;
        match &node.what {
            NodeWhat::Folder { .. } => Ok(Found::Folder),
            NodeWhat::File { extents, size } => {
                Ok(Found::File(Entry { extents, size: *size, modified: node.modified }))
            }
            NodeWhat::Unreadable(fault) => Err((**fault).clone()),
            NodeWhat::Special => Err(Fault::NotRead("it is a device, a socket or a pipe")),
            NodeWhat::Link(_) => Err(Fault::Links(shortened(path))),
        }
    }

    /// Finds a file by its path, like [`Index::lookup`].
    ///
    /// # Errors
    /// As there; [`Fault::NotFound`] for a folder.
    pub fn file(&self, path: &str) -> Result<Entry<'_>, Fault> {
        match self.lookup(path)? {
            Found::File(entry) => Ok(entry),
            Found::Folder => Err(Fault::NotFound(shortened(path))),
        }
    }

    /// The first bytes of a file, at most `most`.
    ///
    /// # Errors
    /// Those of [`Index::file`]; [`Fault::Read`].
    pub fn read(&self, image: &dyn ReadAt, path: &str, most: usize) -> Result<Vec<u8>, Fault> {
        let entry = self.file(path)?;
        let mut bytes = Vec::new();
        for extent in entry.extents {
            let room = most.saturating_sub(bytes.len());
            let length = usize::try_from(extent.length).unwrap_or(usize::MAX).min(room);
            let start = bytes.len();
            bytes.resize(start + length, 0);
            if let (Some(offset), Some(piece)) = (extent.offset, bytes.get_mut(start..)) {
                let read = image.read_at(offset, piece);
                read.map_err(|error| Fault::Read { offset, error: error.to_string() })?;
            }
        }
        Ok(bytes)
    }

    /// Every path that matches a pattern, sorted, without regard to case. `*` matches any part of a name. A pattern
    /// that ends with a slash finds folders, others find files.
    #[must_use]
    pub fn find(&self, pattern: &str) -> Vec<String> {
        let wants_folder = pattern.ends_with('/');
        let mut paths = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let below = paths.iter().flat_map(|path| self.matching(path, part));
            paths = below.take(MATCHES).collect();
        }
        paths.retain(|path| self.lookup(path).is_ok_and(|found| (found == Found::Folder) == wants_folder));
        paths
    }

    /// The paths below one folder that match one part of a pattern.
    fn matching(&self, folder: &str, part: &str) -> Vec<String> {
        let join = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        if !part.contains('*') {
            let is_there = self.lookup(&join(part)).is_ok();
            // With the name in the image, which can be in another case.
            return is_there.then(|| join(self.name_as_it_is(folder, part).unwrap_or(part))).into_iter().collect();
        }
        let items = self.list(folder).unwrap_or_default();
        items.into_iter().filter(|item| fits(part, item.name)).map(|item| join(item.name)).collect()
    }

    fn name_as_it_is(&self, folder: &str, name: &str) -> Option<&str> {
        match &self.nodes.get(self.resolve(folder).ok()?)?.what {
            NodeWhat::Folder { first, count } => {
                self.nodes.get(first + self.child(*first, *count, name)?).map(|node| &*node.name)
            }
            _ => None,
        }
    }

    /// The entries of a folder, sorted by name.
    ///
    /// # Errors
    /// Those of [`Index::lookup`]; [`Fault::NotFound`] if it is not a folder.
    pub fn list(&self, path: &str) -> Result<Vec<Item<'_>>, Fault> {
        self.lookup(path)?;
        let node = self.node(self.resolve(path)?, path)?;
        match node.what {
            NodeWhat::Folder { first, count } => Ok(self.children(first, count).iter().map(Node::item).collect()),
            _ => Err(Fault::NotFound(shortened(path))),
        }
    }

    /// Everything below the root with its full path. Folders come before their contents.
    pub fn walk(&self) -> impl Iterator<Item = (String, Item<'_>)> {
        self.nodes.iter().skip(1).map(|node| (self.path(node), node.item()))
    }

    fn path(&self, node: &Node) -> String {
        let mut parts = vec![&*node.name];
        let mut parent = node.parent;
        while parent != 0 {
            let Some(node) = self.nodes.get(parent) else { break };
            parts.push(&node.name);
            parent = node.parent;
        }
        parts.reverse();
        parts.join("/")
    }

    fn node(&self, index: usize, path: &str) -> Result<&Node, Fault> {
        self.nodes.get(index).ok_or_else(|| Fault::NotFound(shortened(path)))
    }

    fn children(&self, first: usize, count: usize) -> &[Node] {
        self.nodes.get(first..first + count).unwrap_or_default()
    }

    /// The node of a path, with every link followed.
    fn resolve(&self, path: &str) -> Result<usize, Fault> {
        let not_found = || Fault::NotFound(shortened(path));
        let mut at = 0;
        let mut links = 0;
        let mut rest: VecDeque<&str> = path.split('/').collect();
        while let Some(part) = rest.pop_front() {
            match part {
                "" | "." => continue,
                ".." => {
                    at = self.node(at, path)?.parent;
                    continue;
                }
                _ => {}
            }
            let folder = self.node(at, path)?;
            let (first, count) = match &folder.what {
                NodeWhat::Folder { first, count } => (*first, *count),
                NodeWhat::Unreadable(fault) => return Err((**fault).clone()),
                _ => return Err(not_found()),
            };
            let child = first + self.child(first, count, part).ok_or_else(not_found)?;
            match &self.node(child, path)?.what {
                NodeWhat::Link(target) => {
                    links += 1;
                    if links > LINKS {
                        return Err(Fault::Links(shortened(path)));
                    }
                    for part in target.rsplit('/') {
                        rest.push_front(part);
                    }
                    if target.starts_with('/') {
                        at = 0;
                    }
                }
                _ => at = child,
            }
        }
        Ok(at)
    }

    /// The position of a name among the children: the exact name, or else in another case.
    fn child(&self, first: usize, count: usize, name: &str) -> Option<usize> {
        let children = self.children(first, count);
        let at = children.partition_point(|node| *node.name < *name);
        if children.get(at).is_some_and(|node| *node.name == *name) {
            return Some(at);
        }
        let folded = name.to_lowercase();
        let is_same = |node: &Node| match node.name.is_ascii() && name.is_ascii() {
            true => node.name.eq_ignore_ascii_case(name),
            false => node.name.to_lowercase() == folded,
        };
        children.iter().position(is_same)
    }
}

impl Node {
    fn item(&self) -> Item<'_> {
        let kind = match &self.what {
            NodeWhat::Folder { .. } => Kind::Folder,
            NodeWhat::File { extents, size } => Kind::File(Entry { extents, size: *size, modified: self.modified }),
            NodeWhat::Link(target) => Kind::Link(target),
            NodeWhat::Special => Kind::Special,
            NodeWhat::Unreadable(fault) => Kind::Unreadable(fault),
        };
        Item { name: &self.name, kind, modified: self.modified }
    }
}

fn iso_side(reader: &Reader<'_>, all: Descriptors) -> Result<Index, Fault> {
    let (iso, root) = Iso::new(reader, &all)?;
    let nodes = tree::read(&iso, root)?;
    let side = match iso.names {
        Names::RockRidge(_) => Side::RockRidge,
        Names::Joliet => Side::Joliet,
        Names::Plain => Side::Plain,
    };
    Ok(Index { volume: Volume::of_iso(reader, all, side), nodes })
}

fn udf_side(udf: &Udf<'_>) -> Result<Index, Fault> {
    let nodes = tree::read(udf, udf.root()?)?;
    Ok(Index { volume: Volume::of_udf(udf), nodes })
}

/// The part of a path to show: a client can send a very long one.
fn shortened(path: &str) -> String {
    path.trim_start_matches('/').chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The largest number of paths that one pattern finds.
const MATCHES: usize = 1000;
/// The limit of Linux (MAXSYMLINKS).
const LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iso::made::{Made, Of, iso, udf};

    /// ISO 9660 and UDF in one image, as genisoimage -udf makes it.
    fn bridge(iso: &Made, udf: &[u8]) -> Vec<u8> {
        let mut both = udf.to_vec();
        both[16 * 2048..19 * 2048].fill(0);
        both[16 * 2048..][..iso.bytes.len() - 16 * 2048].copy_from_slice(&iso.bytes[16 * 2048..]);
        both[30 * 2048..][..6].copy_from_slice(b"\0NSR02");
        both
    }

    #[test]
    fn a_file_that_is_cut_in_iso_9660_is_read_from_udf() {
        let made = iso("L", &[("a", "abc".into()), ("b/c", "xyz".into()), ("l", Of::Link("a")), ("sub/d", "d".into())]);
        let both = bridge(&made, &udf("U", &[("a", b"abcdefgh"), ("d", b"d"), ("l", b"")]));
        let index = Index::open(&both).expect("opened");
        assert_eq!(index.volume().side, Side::RockRidge);
        let read = |path: &str| index.read(&both, path, 100).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(read("a").as_deref(), Ok("abcdefgh"));
        // Genisoimage has no links in UDF.
        assert_eq!(read("l").as_deref(), Ok("abcdefgh"));
        assert_eq!((read("b/c").as_deref(), read("sub/d").as_deref()), (Ok("xyz"), Ok("d")));
        assert!(index.file("sub/a").is_err());
    }

    #[test]
    fn where_only_udf_has_the_names_they_are_taken_from_there() {
        let mut made = iso("L", &[("filesystem.squashfs", "abc".into()), ("b", "b".into()), ("c", "c".into())]);
        let files: &[(&str, &[u8])] = &[("filesystem.squashfs", b"abc"), ("b", b"b"), ("c", b"c")];
        let of = |made: &Made| Index::open(&bridge(made, &udf("U", files))).expect("opened");
        assert_eq!(of(&made).volume().side, Side::RockRidge);
        // Without the mark of Rock Ridge, the names are those of 8 and 3 letters.
        let at = made.bytes.windows(6).position(|bytes| bytes == b"SP\x07\x01\xbe\xef").expect("marked");
        made.bytes[at..at + 6].fill(0);
        let index = of(&made);
        assert_eq!((index.volume().side, index.volume().label.as_str()), (Side::Udf, "U"));
        assert!(index.file("filesystem.squashfs").is_ok());
    }

    #[test]
    fn patterns_find_paths_in_either_case_and_as_they_are() {
        let made = iso(
            "L",
            &[
                ("Live/vmlinuz-1", "x".into()),
                ("Live/vmlinuz-2", "x".into()),
                ("a/b/c", "x".into()),
                ("s", Of::Link("a")),
            ],
        );
        let index = Index::open(&made).expect("opened");
        assert_eq!(index.find("live/VMLINUZ*"), ["Live/vmlinuz-1", "Live/vmlinuz-2"]);
        assert_eq!(index.find("*/"), ["Live", "a", "s"]);
        assert_eq!(index.find("*/b/"), ["a/b", "s/b"]);
        assert_eq!(index.find("s/b/c"), ["s/b/c"]);
        assert!(index.find("live/x*").is_empty() && index.find("live").is_empty());
        for (pattern, text, does) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("*b*", "abc", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(fits(pattern, text), does, "{pattern} {text}");
        }
        assert_eq!(index.read(&made, "a/b/c", 10), Ok(b"x".to_vec()));
    }
}
