//! The readers of ISO 9660 and UDF against four others: the same tree and the same bytes, over what Debian's packages
//! hold and a hundred made images.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{FileExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use netbootd::{
    files::image::ImageFile,
    iso::{
        Fault, Index, Kind, ReadAt as _, Side,
        recognise::recognise,
        recognised::{How, Place},
    },
};
use netbootd_lab::{Tool, required};

const TOOLS: &[Tool] = &[
    Tool::new("7zz", "7zip"),
    Tool::new("bsdtar", "libarchive-tools"),
    Tool::new("genisoimage", "genisoimage"),
    Tool::new("isoinfo", "genisoimage"),
    Tool::new("mkudffs", "udftools"),
    Tool::new("xorriso", "xorriso"),
];

const PACKAGED: &[Tool] = &[
    Tool::new("/usr/lib/memtest86+/memtest86+x64.iso", "memtest86+"),
    Tool::new("/usr/lib/memtest86+/memtest86+ia32.iso", "memtest86+"),
    Tool::new("/usr/lib/grub-rescue/grub-rescue-cdrom.iso", "grub-rescue-pc"),
    Tool::new("/usr/lib/ipxe/ipxe.iso", "ipxe"),
];

/// What a path stands for.
#[derive(Clone, PartialEq, Eq)]
enum What {
    Folder,
    File(Vec<u8>),
    Link(String),
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder => write!(f, "folder"),
            Self::File(bytes) => write!(f, "{} bytes, {:?}", bytes.len(), bytes.get(..16.min(bytes.len()))),
            Self::Link(target) => write!(f, "-> {target}"),
        }
    }
}

type Tree = BTreeMap<String, What>;

fn ours(image: &Path) -> (Side, Tree) {
    let file = ImageFile::open(image).expect("opened");
    let index = Index::open(&file).unwrap_or_else(|fault| panic!("{}: {fault}", image.display()));
    let what = |path: &str, kind| match kind {
        Kind::Folder => What::Folder,
        Kind::Link(target) => What::Link(target.to_owned()),
        Kind::File(entry) => {
            let mut bytes = Vec::new();
            for extent in entry.extents {
                let mut piece = vec![0; extent.length as usize];
                if let Some(offset) = extent.offset {
                    file.read_at(offset, &mut piece).expect("read");
                }
                bytes.extend(piece);
            }
            assert_eq!(index.file(path).expect("found by its path"), entry, "{path}");
            What::File(bytes)
        }
        other => panic!("{path}: {other:?}"),
    };
    let tree = index.walk().map(|(path, item)| (path.clone(), what(&path, item.kind))).collect();
    (index.volume().side, tree)
}

/// What is in a folder of this host.
fn folder(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(root.join(&below)).expect("listed") {
            let path = below.join(entry.expect("an entry").file_name());
            let real = root.join(&path);
            let kind = fs::symlink_metadata(&real).expect("there").file_type();
            let what = if kind.is_symlink() {
                What::Link(fs::read_link(&real).expect("a link").to_str().expect("UTF-8").to_owned())
            } else if kind.is_dir() {
                folders.push(path.clone());
                What::Folder
            } else {
                What::File(fs::read(&real).expect("read"))
            };
            tree.insert(path.to_str().expect("UTF-8").to_owned(), what);
        }
    }
    tree
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An oracle unpacks the image into a folder of its own.
fn unpacked(by: &str, image: &Path, scratch: &Path) -> Tree {
    let into = scratch.join(by);
    fs::create_dir_all(&into).expect("made");
    match by {
        "bsdtar" => run(Command::new("bsdtar").arg("-xf").arg(image).arg("-C").arg(&into)),
        // It fails for links that lead out, and unpacks the rest.
        "7z" => {
            let mut command = Command::new("7zz");
            command.args(["x", "-y"]).arg(format!("-o{}", into.display())).arg(image);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("started").to_string()
        }
        "7z-udf" => run(Command::new("7zz").args(["x", "-y", "-tudf"]).arg(format!("-o{}", into.display())).arg(image)),
        "xorriso" => {
            let mut command = Command::new("xorriso");
            command.args(["-osirrox", "on", "-indev"]).arg(image);
            run(command.args(["-extract", "/"]).arg(&into))
        }
        other => panic!("{other}"),
    };
    let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(&into).status();
    let tree = folder(&into);
    fs::remove_dir_all(&into).expect("removed");
    tree
}

fn same(what: &str, ours: &Tree, theirs: &Tree) {
    let missing: Vec<_> = theirs.iter().filter(|(path, what)| ours.get(*path) != Some(what)).take(5).collect();
    let extra: Vec<_> = ours.iter().filter(|(path, what)| theirs.get(*path) != Some(what)).take(5).collect();
    assert!(missing.is_empty() && extra.is_empty(), "{what}\ntheirs: {missing:#?}\nours: {extra:#?}");
}

/// Numbers from a seed (Numerical Recipes' generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

const TARGETS: &[&str] = &["../x", "/a/b", ".", "../../some/where/else"];

/// A random tree: deep, wide, with long names, empty files and links.
fn random_tree(root: &Path, seed: u64, is_plain: bool) {
    let mut numbers = Numbers(seed);
    fs::create_dir_all(root).expect("made");
    let mut folders = vec![root.to_owned()];
    let longest = if is_plain { 8 } else { 60 };
    for number in 0..20 + numbers.below(60) {
        let at = numbers.below(folders.len() as u64) as usize;
        let within = folders.get(at).expect("one of them").clone();
        let length = 1 + numbers.below(longest) as usize;
        let mut name: String = (0..length).map(|_| char::from(b'a' + numbers.below(26) as u8)).collect();
        name.truncate(longest as usize - 4);
        let path = within.join(format!("{name}{number}"));
        let depth = path.components().count() - root.components().count();
        match numbers.below(8) {
            0..3 if depth < if is_plain { 7 } else { 14 } => {
                fs::create_dir(&path).expect("made");
                folders.push(path);
            }
            3 if !is_plain => {
                symlink(TARGETS.get(numbers.below(4) as usize).expect("one of them"), &path).expect("made")
            }
            4 => fs::write(&path, "").expect("written"),
            _ => {
                let size = numbers.below(9000) as usize;
                let bytes: Vec<u8> = (0..size).map(|_| numbers.below(256) as u8).collect();
                fs::write(&path, bytes).expect("written");
            }
        }
    }
}

/// The name as plain ISO 9660 says it.
fn upper(tree: &Tree) -> Tree {
    tree.iter().map(|(path, what)| (path.to_uppercase(), what.clone())).collect()
}

fn without_links(tree: &Tree) -> Tree {
    let keep = |(_, what): &(&String, &What)| !matches!(what, What::Link(_));
    tree.iter().filter(keep).map(|(path, what)| (path.clone(), what.clone())).collect()
}

#[test]
fn the_images_of_packages_are_read_as_four_others_read_them() {
    let Some(()) = required(&[TOOLS, PACKAGED]) else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    for Tool { file, .. } in PACKAGED {
        let image = Path::new(file);
        let (side, tree) = ours(image);
        assert_eq!(side, Side::RockRidge, "{file}");
        assert!(tree.len() > 3, "{file}: {tree:?}");
        for oracle in ["bsdtar", "xorriso", "7z"] {
            let mut theirs = unpacked(oracle, image, scratch.path());
            theirs.retain(|path, _| !path.starts_with("[BOOT]"));
            same(&format!("{file} by {oracle}"), &tree, &theirs);
        }
        let listed = run(Command::new("isoinfo").arg("-i").arg(image).args(["-R", "-f"]));
        let listed: Vec<&str> = listed.lines().map(|line| line.trim_start_matches('/')).collect();
        let mut own: Vec<&str> = tree.keys().map(String::as_str).collect();
        let mut theirs = listed.clone();
        theirs.sort_unstable();
        own.sort_unstable();
        assert_eq!(own, theirs, "{file} by isoinfo");
    }
}

#[test]
fn the_images_of_packages_are_recognised() {
    let Some(()) = required(&[TOOLS, PACKAGED]) else { return };
    let known = |path: &str| {
        let image = ImageFile::open(Path::new(path)).expect("opened");
        let found = recognise(&image, &Index::open(&image).expect("read"));
        let kernel = found.variants.first().map(|variant| (variant.arch, variant.kernel.clone()));
        (found.family, found.how, kernel)
    };
    let place = |path: &str| Place::Image(path.to_owned());
    let [x64, ia32, rescue, ipxe] = PACKAGED else { panic!("four") };
    assert_eq!(known(x64.file), ("memtest86+", How::Linux, Some((Some("x86_64"), place("EFI/BOOT/bootx64.efi")))));
    assert_eq!(known(ia32.file), ("memtest86+", How::Linux, Some((Some("i386"), place("EFI/BOOT/bootia32.efi")))));
    assert_eq!(known(rescue.file), ("unknown", How::San, None));
    assert_eq!(known(ipxe.file), ("menu", How::Linux, Some((Some("i386"), place("ipxe.krn")))));
}

/// How a made image is written, and by whom it is read again.
struct Kinds {
    title: &'static str,
    side: Side,
    make: &'static [&'static str],
    oracles: &'static [&'static str],
}

const KINDS: &[Kinds] = &[
    Kinds {
        title: "rock ridge",
        side: Side::RockRidge,
        make: &["xorriso", "-as", "mkisofs", "-quiet", "-R"],
        oracles: &["bsdtar", "xorriso", "7z"],
    },
    Kinds {
        title: "rock ridge and joliet",
        side: Side::RockRidge,
        make: &["xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-joliet-long"],
        oracles: &["xorriso"],
    },
    // Folders deeper than eight are moved, as old writers do (CL, PL, RE).
    Kinds {
        title: "moved folders",
        side: Side::RockRidge,
        make: &["genisoimage", "-quiet", "-R", "-hide-rr-moved"],
        oracles: &["bsdtar", "xorriso"],
    },
    Kinds {
        title: "joliet",
        side: Side::Joliet,
        make: &["genisoimage", "-quiet", "-J", "-joliet-long", "-l", "-D"],
        oracles: &["7z"],
    },
    Kinds {
        title: "plain",
        side: Side::Plain,
        make: &["genisoimage", "-quiet", "-l", "-D", "-iso-level", "3", "-d", "-N"],
        oracles: &["7z", "bsdtar"],
    },
    Kinds {
        title: "udf",
        side: Side::Udf,
        make: &["genisoimage", "-quiet", "-udf", "-D", "-hide", "*"],
        oracles: &["7z-udf"],
    },
];

#[test]
fn a_hundred_made_images_are_read_as_they_were_made_and_as_others_read_them() {
    let Some(()) = required(&[TOOLS]) else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    for seed in 0..102 {
        let kind = &KINDS[seed as usize % KINDS.len()];
        let what = format!("{} of seed {seed}", kind.title);
        let (root, image) = (scratch.path().join("source"), scratch.path().join("image.iso"));
        let has_links = kind.side == Side::RockRidge;
        random_tree(&root, seed, !has_links);
        let (program, arguments) = kind.make.split_first().expect("a program");
        run(Command::new(program).args(arguments).arg("-o").arg(&image).arg(&root));
        if kind.side == Side::Udf {
            hide_joliet(&image);
        }
        let (side, mut tree) = ours(&image);
        // What is left of the folder that moved ones were in: some show it, and some do not.
        tree.remove(".rr_moved");
        assert_eq!(side, kind.side, "{what}");
        let source = folder(&root);
        let source = if kind.side == Side::Plain { upper(&source) } else { source };
        same(&what, &tree, &source);
        for oracle in kind.oracles {
            let mut theirs = unpacked(oracle, &image, scratch.path());
            theirs.remove(".rr_moved");
            let by = format!("{what} by {oracle}");
            match *oracle {
                // It makes empty files of some links, and links of others.
                "7z" | "7z-udf" => {
                    let plain = without_links(&tree);
                    let is_link = |path: &String| tree.contains_key(path) && !plain.contains_key(path);
                    same(&by, &plain, &theirs.into_iter().filter(|(path, _)| !is_link(path)).collect());
                }
                _ => same(&by, &tree, &theirs),
            }
        }
        fs::remove_dir_all(&root).expect("removed");
        fs::remove_file(&image).expect("removed");
    }
}

/// genisoimage takes UDF's tree from Joliet's, and cannot leave Joliet out: its descriptor is made one of nothing.
fn hide_joliet(image: &Path) {
    let file = File::options().read(true).write(true).open(image).expect("opened");
    for sector in 17..24 {
        let mut head = [0; 6];
        file.read_exact_at(&mut head, sector * 2048).expect("read");
        if head == *b"\x02CD001" {
            file.write_all_at(&[0; 3], sector * 2048 + 88).expect("written");
        }
    }
}

#[test]
fn udf_of_every_revision_and_block_size_is_opened() {
    let Some(()) = required(&[TOOLS]) else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    for revision in ["1.02", "1.50", "2.00", "2.01"] {
        for block in ["512", "1024", "2048", "4096", "8192", "32768"] {
            let image = scratch.path().join(format!("{revision}-{block}.udf"));
            let mut command = Command::new("mkudffs");
            command.args(["--new-file", "-m", "hd", "-l", "ÜBER", "-r", revision, "-b", block]).arg(&image);
            run(command.arg("4096"));
            let index = Index::open(&ImageFile::open(&image).expect("opened"));
            let index = index.unwrap_or_else(|fault| panic!("{revision}, {block}: {fault}"));
            assert_eq!((index.volume().side, index.volume().label.as_str(), index.missing()), (Side::Udf, "ÜBER", 0));
            // mkudffs makes lost+found for media that are written again.
            assert!(index.walk().all(|(path, _)| path == "lost+found"), "{revision}, {block}");
        }
    }
}

#[test]
fn zisofs_is_told_and_refused() {
    let Some(()) = required(&[TOOLS]) else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let (root, image) = (scratch.path().join("source"), scratch.path().join("image.iso"));
    fs::create_dir(&root).expect("made");
    fs::write(root.join("text"), "the same again and again\n".repeat(9000)).expect("written");
    let mut command = Command::new("xorriso");
    command.args(["-outdev"]).arg(&image).args(["-map"]).arg(&root).args(["/", "-set_filter_r", "--zisofs", "/", "--"]);
    run(command.args(["-commit"]));
    let index = Index::open(&ImageFile::open(&image).expect("opened")).expect("read");
    assert!(
        matches!(index.lookup("text"), Err(Fault::NotRead(why)) if why.contains("zisofs")),
        "{:?}",
        index.lookup("text")
    );
}

#[test]
fn a_file_over_4_gib_has_its_extents_and_bytes() {
    let Some(()) = required(&[TOOLS]) else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let (root, path) = (scratch.path().join("source"), scratch.path().join("image.iso"));
    fs::create_dir(&root).expect("made");
    let size = (4 << 30) + 123_456_789;
    let file = File::create(root.join("root.squashfs")).expect("made");
    file.set_len(size).expect("long");
    let marks = [0, 1_000_000, (4 << 30) - 7, (4 << 30) + 11, size - 16];
    for mark in marks {
        file.write_all_at(format!("at {mark:13}").as_bytes(), mark).expect("written");
    }
    fs::write(root.join("after"), "after it").expect("written");
    // Not to the disk at once: what is zeros is to stay a hole.
    let mut writer = Command::new("xorriso");
    writer.args(["-as", "mkisofs", "-quiet", "-R", "-iso-level", "3", "-o", "-"]).arg(&root).stdout(Stdio::piped());
    let mut writer = writer.stderr(Stdio::null()).spawn().expect("started");
    let mut copy = Command::new("dd");
    copy.args(["bs=1M", "iflag=fullblock", "conv=sparse", "status=none"]).arg(format!("of={}", path.display()));
    let copied = copy.stdin(writer.stdout.take().expect("a pipe")).status().expect("started");
    assert!(copied.success() && writer.wait().expect("ended").success());
    let image = ImageFile::open(&path).expect("opened");
    let index = Index::open(&image).expect("read");
    let entry = index.file("root.squashfs").expect("there");
    assert_eq!((entry.size, index.missing()), (size, 0));
    let at = |place: u64, length: usize| {
        let mut before = 0;
        let extent = entry.extents.iter().find(|extent| {
            let is_it = place < before + extent.length;
            before += if is_it { 0 } else { extent.length };
            is_it
        });
        let mut bytes = vec![0; length];
        image.read_at(extent.expect("inside").offset.expect("data") + place - before, &mut bytes).expect("read");
        String::from_utf8(bytes).expect("text")
    };
    for mark in marks {
        assert_eq!(at(mark, 16), format!("at {mark:13}"));
    }
    assert_eq!(index.file("after").expect("there").size, 8);
}

#[test]
fn an_image_of_40_gb_is_opened_in_milliseconds_and_one_that_is_cut_says_so() {
    let Some(()) = required(&[TOOLS]) else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let (root, path) = (scratch.path().join("source"), scratch.path().join("image.iso"));
    random_tree(&root, 4711, false);
    run(Command::new("xorriso").args(["-as", "mkisofs", "-quiet", "-R", "-J", "-o"]).arg(&path).arg(&root));
    let whole = fs::metadata(&path).expect("there").len();
    File::options().write(true).open(&path).and_then(|file| file.set_len(40_000_000_000)).expect("long");
    let quickest = (0..5).map(|_| {
        let before = Instant::now();
        Index::open(&ImageFile::open(&path).expect("opened")).expect("read");
        before.elapsed()
    });
    let quickest = quickest.min().expect("five");
    let _ = writeln!(std::io::stderr(), "40 GB are opened in {quickest:?}");
    assert!(quickest < Duration::from_millis(100), "{quickest:?}");
    File::options().write(true).open(&path).and_then(|file| file.set_len(whole - 307_200 - 4096)).expect("cut");
    let index = Index::open(&ImageFile::open(&path).expect("opened")).expect("the folders are at its beginning");
    assert_eq!(index.missing(), 307_200 + 4096);
}

/// `netbootd iso`: its exit code, and what it says on both outputs.
fn iso(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_netbootd")).arg("iso").args(arguments).output().expect("started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const ISOMD5SUM: &[Tool] = &[Tool::new("implantisomd5", "isomd5sum"), Tool::new("checkisomd5", "isomd5sum")];

#[test]
fn the_command_says_what_an_image_is_whole() {
    let Some(()) = required(&[TOOLS, PACKAGED]) else { return };
    let said = iso(&["/usr/lib/memtest86+/memtest86+x64.iso"]);
    let expected = r#"memtest86+x64.iso: MT86PLUS_64
  family       memtest86+ (memtest86+)
  version      unknown
  volume       "MT86PLUS_64", ISO 9660 with Rock Ridge, 3 files
  size         5.9 MiB, complete
  firmware     BIOS and UEFI boot it from a drive
  memory       64 MiB: this is the whole program
  for          x86_64
    kernel     EFI/BOOT/bootx64.efi
  warning      its name has special characters, which some clients pass to a shell: machines get it as memtest86-x64.iso
"#;
    assert_eq!(said, (Some(0), expected.to_owned(), String::new()));
    let (code, json, _) = iso(&["--json", "/usr/lib/ipxe/ipxe.iso"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &json["recognised"]["family"], &json["missing"]), (Some(0), &"menu".into(), &0.into()));
    assert_eq!(json["recognised"]["variants"][0]["kernel"]["image"], "ipxe.krn");
}

#[test]
fn an_image_that_is_cut_damaged_or_none_ends_with_1_and_says_so() {
    let Some(()) = required(&[TOOLS, ISOMD5SUM]) else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let (root, image) = (scratch.path().join("source"), scratch.path().join("fedora.iso"));
    fs::create_dir_all(root.join("live")).expect("made");
    fs::write(root.join("live/filesystem.squashfs"), "the system ".repeat(30_000)).expect("written");
    let sums = run(Command::new("md5sum").arg("./live/filesystem.squashfs").current_dir(&root));
    fs::write(root.join("md5sum.txt"), sums).expect("written");
    run(Command::new("xorriso").args(["-as", "mkisofs", "-quiet", "-R", "-o"]).arg(&image).arg(&root));
    run(Command::new("implantisomd5").arg(&image));
    let path = image.to_str().expect("UTF-8");
    let (code, said, error) = iso(&["--verify", path]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("checksums    the checksum inside it matches; 1 file matches md5sum.txt\n"), "{said}");

    let index = Index::open(&ImageFile::open(&image).expect("opened")).expect("read");
    let place =
        index.file("live/filesystem.squashfs").expect("there").extents.first().expect("one").offset.expect("data")
            + 77_777;
    let file = File::options().write(true).open(&image).expect("opened");
    file.write_all_at(b"?", place).expect("written");
    let (code, said, error) = iso(&["--verify", path]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("damaged      live/filesystem.squashfs: its checksum does not match\n"), "{said}");
    let words = "it is damaged: 1 file does not match its checksum; download it again";
    assert_eq!(error, format!("netbootd: {path}: {words}\n"));
    // isomd5sum's own program has the same opinion.
    let theirs = Command::new("checkisomd5").arg(&image).output().expect("started");
    assert_eq!(theirs.status.code(), Some(1), "{theirs:?}");

    let length = fs::metadata(&image).expect("there").len();
    file.set_len(length - (100 << 10)).expect("cut");
    let (code, _, error) = iso(&[path]);
    let words = format!("it is incomplete: 100.0 KiB of {} are missing; download it again", tenths(length));
    assert_eq!((code, error), (Some(1), format!("netbootd: {path}: {words}\n")));
    let (code, said, error) = iso(&["--verify", path]);
    assert_eq!((code, error), (Some(1), format!("netbootd: {path}: {words}\n")));
    for line in [
        "  cannot boot  it is not whole: it is still copied, or was cut short\n",
        "  instead      copy or download all of it\n",
        "  checksums    not compared: the image is incomplete\n",
    ] {
        assert!(said.contains(line), "{said}");
    }

    file.set_len(0).expect("cut");
    let (code, said, error) = iso(&["--json", path]);
    let words = "it is not a CD or DVD image: the file is empty";
    assert_eq!((code, error), (Some(1), format!("netbootd: {path}: {words}\n")));
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said, serde_json::json!({ "file": path, "fault": words }));
    assert_eq!(iso(&["/nothing.iso"]).0, Some(69));
}

fn tenths(bytes: u64) -> String {
    format!("{}.{} KiB", bytes >> 10, ((bytes & 0x3ff) * 10) >> 10)
}
