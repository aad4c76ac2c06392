//! One tree for both file systems, with limits, because the data in an image can be wrong.

use std::collections::{HashSet, VecDeque};

use super::{extent::Extent, fault::Fault};

/// A file system whose folders can be read one by one.
pub(super) trait Format {
    /// The data that is needed to read a folder.
    type Folder;

    /// Identifies a folder. A folder that appears twice means a loop.
    fn key(&self, folder: &Self::Folder) -> u64;

    /// The entries of a folder, without itself and its parent.
    fn entries(&self, folder: &Self::Folder) -> Result<Vec<Raw<Self::Folder>>, Fault>;
}

/// An entry of a folder, as it was read.
#[derive(Debug)]
pub(super) struct Raw<F> {
    pub(super) name: String,
    /// Seconds since 1970.
    pub(super) modified: Option<i64>,
    pub(super) what: What<F>,
}

#[derive(Debug)]
pub(super) enum What<F> {
    Folder(F),
    File {
        extents: Vec<Extent>,
        size: u64,
    },
    Link(String),
    /// A device, a socket or a pipe.
    Special,
    /// An entry that cannot be read.
    Unreadable {
        size: u64,
        fault: Fault,
    },
}

/// A node of the tree. The children of a folder are stored one after the other, sorted by name.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: Box<str>,
    pub(super) parent: usize,
    pub(super) modified: Option<i64>,
    pub(super) what: NodeWhat,
}

#[derive(Debug)]
pub(super) enum NodeWhat {
    /// The index of its first child, and the number of children.
    Folder {
        first: usize,
        count: usize,
    },
    File {
        extents: Box<[Extent]>,
        size: u64,
    },
    Link(Box<str>),
    Special,
    Unreadable(Box<Fault>),
}

/// Reads the whole tree, folder by folder. The root is the first node.
///
/// # Errors
/// The fault of the root folder; [`Fault::TooMuch`]. Faults below it are stored in the tree.
pub(super) fn read<S: Format>(format: &S, root: S::Folder) -> Result<Vec<Node>, Fault> {
    let mut nodes =
        vec![Node { name: "".into(), parent: 0, modified: None, what: NodeWhat::Folder { first: 1, count: 0 } }];
    let mut seen = HashSet::from([format.key(&root)]);
    let (mut names, mut pieces) = (0_u64, 0_usize);
    let mut queue = VecDeque::from([(0, root, 0)]);
    while let Some((index, folder, depth)) = queue.pop_front() {
        let mut entries = match format.entries(&folder) {
            Ok(entries) => entries,
            Err(fault @ Fault::TooMuch { .. }) => return Err(fault),
            Err(fault) if index == 0 => return Err(fault),
            Err(fault) => {
                unreadable(&mut nodes, index, fault);
                continue;
            }
        };
        entries.retain(|entry| is_a_name(&entry.name));
        // A stable sort: of two entries with the same name, the first one on the disc is found.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let (first, count) = (nodes.len(), entries.len());
        if first + count > ENTRIES {
            return Err(Fault::TooMuch { what: "the number of files and folders", limit: ENTRIES as u64 });
        }
        if let Some(node) = nodes.get_mut(index) {
            node.what = NodeWhat::Folder { first, count };
        }
        for Raw { name, modified, what } in entries {
            names += name.len() as u64;
            if names > NAMES {
                return Err(Fault::TooMuch { what: "the length of all names, in bytes,", limit: NAMES });
            }
            if let What::File { extents, .. } = &what {
                pieces += extents.len();
                if pieces > PIECES {
                    return Err(Fault::TooMuch { what: "the number of pieces of all files", limit: PIECES as u64 });
                }
            }
            let what = match what {
                What::Folder(_) if depth + 1 > DEPTH => {
                    let fault = Fault::TooMuch { what: "the depth of this folder", limit: DEPTH };
                    NodeWhat::Unreadable(Box::new(fault))
                }
                What::Folder(below) if seen.insert(format.key(&below)) => {
                    queue.push_back((nodes.len(), below, depth + 1));
                    NodeWhat::Folder { first: 0, count: 0 }
                }
                What::Folder(_) => NodeWhat::Unreadable(Box::new(Fault::Circle)),
                What::File { extents, size } => NodeWhat::File { extents: merged(extents), size },
                What::Link(target) => NodeWhat::Link(target.into()),
                What::Special => NodeWhat::Special,
                What::Unreadable { fault, .. } => NodeWhat::Unreadable(Box::new(fault)),
            };
            nodes.push(Node { name: name.into(), parent: index, modified, what });
        }
    }
    Ok(nodes)
}

/// A name that cannot be part of a path can be neither requested nor shown.
fn is_a_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

fn unreadable(nodes: &mut [Node], index: usize, fault: Fault) {
    if let Some(node) = nodes.get_mut(index) {
        node.what = NodeWhat::Unreadable(Box::new(fault));
    }
}

/// Joins extents that are next to each other on the disc.
fn merged(extents: Vec<Extent>) -> Box<[Extent]> {
    let mut all: Vec<Extent> = Vec::new();
    for extent in extents.into_iter().filter(|extent| extent.length > 0) {
        match all.last_mut() {
            Some(last) if last.is_followed_by(&extent) => last.length += extent.length,
            _ => all.push(extent),
        }
    }
    all.into()
}

/// The largest published media have about 60,000.
const ENTRIES: usize = 500_000;
/// Extents. On a write-once disc, a file has one for each GiB or 4 GiB.
const PIECES: usize = 2_000_000;
/// Bytes.
const NAMES: u64 = 64 << 20;
/// Rock Ridge removes ISO 9660's limit of 8. Writers make paths of at most 255 one-letter folders.
const DEPTH: u64 = 256;
