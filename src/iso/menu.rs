//! The entries of an image's own boot menus: GRUB, isolinux, and the Boot Loader Specification. They are used for
//! images of unknown families, and for the arguments of known ones.

use std::borrow::Cow;

use super::{
    grub_script::{Script, Word},
    index::Index,
    source::ReadAt,
};
use crate::spelling::plain_path;

/// One entry of a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuEntry {
    /// The title.
    pub title: String,
    /// The kernel's path in the image.
    pub kernel: String,
    /// The initial RAM disks' paths in the image.
    pub initrds: Vec<String>,
    /// The kernel's command line, without the parts that a loader adds.
    pub cmdline: String,
}

/// All entries whose files are in the image, in the order of the menus. Of each loader, those that start by themselves are
/// the first: what an image starts only if somebody chooses it may erase a disk.
#[must_use]
pub fn entries(image: &dyn ReadAt, index: &Index) -> Vec<MenuEntry> {
    let mut all: Vec<(Loader, Draft, String)> = Vec::new();
    let mut defaults: Vec<String> = Vec::new();
    let mut paths: Vec<String> = Vec::new();
    for path in PLACES.iter().flat_map(|pattern| index.find(pattern)) {
        if !paths.contains(&path) && paths.len() < FILES {
            paths.push(path);
        }
    }
    for path in paths {
        let Ok(bytes) = index.read(image, &path, LONGEST) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let (loader, found) = match path.rsplit('.').next() {
            Some("conf") => (Loader::Specification, entry_file(&text)),
            _ if path.to_lowercase().contains("grub") => (Loader::Grub, grub(&text)),
            _ => (Loader::Isolinux, isolinux(&text, &mut defaults)),
        };
        all.extend(found.into_iter().take(ENTRIES).map(|draft| (loader, draft, folder.to_owned())));
    }
    // A file of isolinux names labels of those that it includes.
    let is_default = |draft: &Draft| draft.is_default || defaults.iter().any(|name| draft.is_labelled(name));
    all.sort_by_key(|(loader, draft, _)| (*loader, !is_default(draft)));
    all.into_iter().filter_map(|(_, draft, folder)| draft.entry(index, &folder)).collect()
}

/// Whose language a menu is in, in the order of [`PLACES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loader {
    Grub,
    Isolinux,
    Specification,
}

/// An entry as it was read, with the paths of the menu.
#[derive(Default)]
struct Draft {
    title: String,
    kernel: String,
    initrds: Vec<String>,
    cmdline: String,
    /// Its label, in isolinux.
    label: String,
    /// Whether the menu starts it by itself.
    is_default: bool,
}

impl Draft {
    fn is_labelled(&self, name: &str) -> bool {
        !self.label.is_empty() && self.label.eq_ignore_ascii_case(name)
    }

    fn entry(self, index: &Index, folder: &str) -> Option<MenuEntry> {
        let place = |path: &str| {
            // `($root)/boot/x`, `/boot/x`, and paths relative to the menu.
            let plain = path.rsplit_once(')').map_or(path, |(_, path)| path);
            let below = format!("{folder}/{plain}");
            let paths = [plain_path(plain), plain_path(&below)].map(Cow::into_owned);
            paths.into_iter().find(|path| index.file(path).is_ok())
        };
        let initrds = self.initrds.iter().map(|path| place(path)).collect::<Option<_>>()?;
        Some(MenuEntry {
            title: self.title,
            kernel: place(&self.kernel)?,
            initrds,
            cmdline: plain_words(&self.cmdline),
        })
    }
}

/// Without quotes, and without words that a loader would fill in, or add. A control character ends a word, like a space: the line
/// is shown, and becomes a part of scripts.
fn plain_words(cmdline: &str) -> String {
    let words = cmdline.split(|c: char| c.is_whitespace() || c.is_control());
    let is_kept = |word: &&str| {
        !word.contains('$') && !NO_ARGUMENTS.contains(word) && !NO_STARTS.iter().any(|start| word.starts_with(start))
    };
    let words = words.filter(is_kept);
    let unquoted = |word| ['"', '\''].into_iter().find_map(|quote| unwrapped(word, quote)).unwrap_or(word);
    words.map(unquoted).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn unwrapped(word: &str, quote: char) -> Option<&str> {
    word.strip_prefix(quote)?.strip_suffix(quote)
}

/// GRUB: `menuentry`, `linux` and `initrd`.
fn grub(text: &str) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    // Of each entry with a kernel: its numbers, and the words among which are its title and its identifier.
    let mut names: Vec<(String, Vec<String>)> = Vec::new();
    let (mut title, mut own) = (String::new(), (String::new(), Vec::new()));
    let mut numbers: Vec<usize> = Vec::new();
    let mut script = Script::new(text);
    while let Some(words) = script.next() {
        let Some((command, arguments)) = words.split_first() else { continue };
        match (command.text.as_str(), arguments) {
            ("menuentry" | "submenu", arguments) => {
                title = arguments.first().map(|word| word.text.clone()).unwrap_or_default();
                // The brace behind it is read already. An entry of a submenu is counted below the submenu's number.
                let depth = script.depth().max(1);
                if let Some(number) = numbers.get_mut(depth - 1) {
                    *number += 1;
                }
                numbers.resize(depth, 0);
                let path = numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(">");
                let words = arguments.iter().map(|word| word.text.trim_start_matches("--id=").to_owned());
                own = (path, words.collect());
            }
            ("linux" | "linux16" | "linuxefi", [kernel, arguments @ ..]) => {
                let cmdline = arguments.iter().filter(|word| !word.is_partial).map(in_cmdline);
                drafts.push(Draft {
                    title: title.clone(),
                    kernel: kernel.text.clone(),
                    cmdline: cmdline.collect::<Vec<_>>().join(" "),
                    ..Draft::default()
                });
                names.push(own.clone());
            }
            ("initrd" | "initrd16" | "initrdefi", initrds) => {
                if let Some(draft) = drafts.last_mut() {
                    // `${ucode}` is nothing where no branch set it.
                    let is_named = |word: &&Word| !word.text.is_empty();
                    draft.initrds = initrds.iter().filter(is_named).map(|word| word.text.clone()).collect();
                }
            }
            _ => {}
        }
    }
    // Numbers from 0, or a title or an identifier; in front of each those of the submenu (GRUB manual, "default").
    let default = script.value("default").unwrap_or_default();
    let name = default.rsplit('>').next().unwrap_or(default);
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    for (draft, (numbers, words)) in drafts.iter_mut().zip(names) {
        draft.is_default = numbers == default || !is_number(name) && words.iter().any(|word| word == name);
    }
    drafts
}

/// A word as a kernel reads it: quotes keep its spaces together (lib/cmdline.c, `next_arg`).
fn in_cmdline(word: &Word) -> String {
    let text = &word.text;
    match text.split_once('=') {
        _ if !text.contains(char::is_whitespace) => text.clone(),
        Some((name, value)) if !name.contains(char::is_whitespace) => format!("{name}=\"{value}\""),
        _ => format!("\"{text}\""),
    }
}

/// isolinux and syslinux. `defaults` gets the labels that it starts by itself.
fn isolinux(text: &str, defaults: &mut Vec<String>) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match (command.to_ascii_lowercase().as_str(), drafts.last_mut()) {
            ("label", _) => {
                drafts.push(Draft { title: rest.to_owned(), label: rest.to_owned(), ..Draft::default() });
            }
            ("default", _) => defaults.push(rest.to_owned()),
            ("menu", Some(draft)) if rest.eq_ignore_ascii_case("default") => draft.is_default = true,
            ("menu", Some(draft)) if rest.to_ascii_lowercase().starts_with("label") => {
                draft.title = rest.get(5..).unwrap_or_default().trim().replace('^', "");
            }
            ("kernel" | "linux", Some(draft)) => draft.kernel = rest.to_owned(),
            ("initrd", Some(draft)) => draft.initrds = rest.split(',').map(str::to_owned).collect(),
            ("append", Some(draft)) => {
                let is_initrd = |word: &&str| word.starts_with("initrd=");
                if let Some(list) = rest.split_whitespace().find(is_initrd).and_then(|word| word.split_once('=')) {
                    draft.initrds = list.1.split(',').map(str::to_owned).collect();
                }
                let words = rest.split_whitespace().filter(|word| !is_initrd(word));
                draft.cmdline = words.collect::<Vec<_>>().join(" ");
            }
            _ => {}
        }
    }
    drafts.retain(|draft| !draft.kernel.is_empty());
    drafts
}

/// The Boot Loader Specification: one entry per file.
fn entry_file(text: &str) -> Vec<Draft> {
    let mut draft = Draft::default();
    for line in text.lines() {
        let (key, value) = line.trim().split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim();
        match key {
            "title" => draft.title = value.to_owned(),
            "linux" => draft.kernel = value.replace('\\', "/"),
            "initrd" => draft.initrds.push(value.replace('\\', "/")),
            "options" => draft.cmdline = format!("{} {value}", draft.cmdline),
            _ => {}
        }
    }
    // A kernel that is an EFI program reads those that its command line names (Documentation/admin-guide/efi-stub.rst).
    for path in draft.cmdline.split_whitespace().filter_map(|word| word.strip_prefix("initrd=")) {
        let path = path.replace('\\', "/");
        if !draft.initrds.contains(&path) {
            draft.initrds.push(path);
        }
    }
    if draft.kernel.is_empty() { Vec::new() } else { vec![draft] }
}

/// Words that are for an installer, or that say nothing to a kernel and end a command of iPXE.
const NO_ARGUMENTS: &[&str] = &["---", "--", ";", "&&", "||"];
/// How other such words begin: iPXE takes a word with `#` for a comment, and the files are arguments that a loader adds.
const NO_STARTS: &[&str] = &["#", "initrd=", "BOOT_IMAGE="];
/// The paths of menus, the smaller ones first.
const PLACES: &[&str] = &[
    "boot/grub/loopback.cfg",
    "boot/grub/grub.cfg",
    "boot/grub/kernels.cfg",
    "boot/grub2/grub.cfg",
    "grub/grub.cfg",
    "EFI/BOOT/grub.cfg",
    "EFI/*/grub.cfg",
    "boot/grub/*.cfg",
    "isolinux.cfg",
    "syslinux.cfg",
    "isolinux/isolinux.cfg",
    "isolinux/*.cfg",
    "boot/isolinux/*.cfg",
    "boot/x86_64/loader/isolinux.cfg",
    "syslinux/*.cfg",
    "boot/syslinux/*.cfg",
    "*/boot/syslinux/*.cfg",
    "loader/entries/*.conf",
];
/// The largest number of menus.
const FILES: usize = 64;
/// The largest size of a menu in bytes.
const LONGEST: usize = 256 << 10;
/// The largest number of entries of one menu.
const ENTRIES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iso::made::iso;

    fn of(files: &[(&str, &str)]) -> Vec<MenuEntry> {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, (*text).into())).collect();
        let made = iso("MENU", &files);
        entries(&made, &Index::open(&made).expect("opened"))
    }

    fn entry(title: &str, kernel: &str, initrds: &[&str], cmdline: &str) -> MenuEntry {
        let initrds = initrds.iter().map(|path| (*path).to_owned()).collect();
        MenuEntry { title: title.into(), kernel: kernel.into(), initrds, cmdline: cmdline.into() }
    }

    #[test]
    fn the_menus_of_grub_are_read() {
        let menu = r#"
set timeout=5
set flags="quiet splash"
menuentry "Try it $really" --class x {
    set gfxpayload=keep
    linux ${loopback}/live/vmlinuz boot=it $flags persistent="yes" \
        --- $vt_handoff
    initrd /live/ucode.img ($root)/live/initrd
}
menuentry 'Gone' { linux /nothing
}
"#;
        let found =
            of(&[("boot/grub/grub.cfg", menu), ("live/vmlinuz", "k"), ("live/initrd", "i"), ("live/ucode.img", "u")]);
        let cmdline = "boot=it quiet splash persistent=yes";
        let initrds = ["live/ucode.img", "live/initrd"];
        assert_eq!(found, [entry("Try it ", "live/vmlinuz", &initrds, cmdline)]);
    }

    #[test]
    fn the_menus_of_grub_have_comments_quotes_and_several_commands_in_a_line() {
        for (menu, cmdline) in [
            ("linux /boot/vmlinuz quiet splash # the default\ninitrd /boot/initrd", "quiet splash"),
            ("linux /boot/vmlinuz quiet; initrd /boot/initrd", "quiet"),
            ("linux /boot/vmlinuz a && initrd /boot/initrd || echo no", "a"),
            ("linux \"/boot/vmlinuz\" 'b' \"c d=e\" f=\"g h\" i#j\ninitrd '/boot/initrd'", "b \"c d=e\" f=\"g h\" i#j"),
            ("linux /boot//vmlinuz ${iso}\ninitrd ./boot/x/..///initrd", ""),
        ] {
            for menu in [format!("menuentry 'x' {{\n{menu}\n}}\n"), format!("menuentry x --class y {{ {menu}\n }}")] {
                let found =
                    of(&[("EFI/BOOT/grub.cfg", &menu), ("boot/vmlinuz", "k"), ("boot/initrd", "i"), ("boot/x/y", "")]);
                assert_eq!(found, [entry("x", "boot/vmlinuz", &["boot/initrd"], cmdline)], "{menu}");
            }
        }
    }

    #[test]
    fn what_a_menu_starts_by_itself_is_its_first_entry() {
        let entries = "menuentry Wipe --id=wipe { linux /k wipe\n}\nsubmenu More --id more {\n menuentry 'A b' --id x { linux /k a\n}\n \
                       menuentry B { linux /k b\n}\n}\nmenuentry Look --id look { linux /k look\n}\n";
        let first = |files: &[(&str, &str)]| of(files)[0].cmdline.clone();
        for (default, started) in [
            ("", "wipe"),
            ("set default=2\n", "look"),
            ("set default=\"look\"\n", "look"),
            ("default=Look\n", "look"),
            ("set default='1>1'\n", "b"),
            ("set default='more>A b'\n", "a"),
            ("set default=x\n", "a"),
            ("if [ \"$saved\" ]; then set default=\"$saved\"; else set default=\"2\"; fi\n", "look"),
            // A submenu, an entry that is not there, and one that nobody knows here.
            ("set default=1\n", "wipe"),
            ("set default=9\n", "wipe"),
            ("set default=\"${saved_entry}\"\n", "wipe"),
        ] {
            let menu = format!("function f {{\n echo\n}}\n{default}{entries}");
            assert_eq!(first(&[("boot/grub/grub.cfg", &menu), ("k", "k")]), started, "{default}");
        }
        let labels = "label wipe\n kernel /k\n append wipe\nlabel Look\n kernel /k\n append look\n";
        for (default, started) in [("", "wipe"), ("DEFAULT look\n", "look"), ("default vesamenu.c32\n", "wipe")] {
            let menu = format!("{default}include entries.cfg\n");
            let files = [("isolinux/isolinux.cfg", &*menu), ("isolinux/entries.cfg", labels), ("k", "k")];
            assert_eq!(first(&files), started, "{default}");
        }
        let menu = format!("{labels} MENU DEFAULT\n");
        assert_eq!(first(&[("syslinux/syslinux.cfg", &menu), ("k", "k")]), "look");
        // What is in another loader's menu is behind.
        let grub = "menuentry x { linux /k grub\n}\n";
        let files = [("syslinux/syslinux.cfg", &*menu), ("boot/grub/grub.cfg", grub), ("k", "k")];
        assert_eq!(first(&files), "grub");
    }

    #[test]
    fn what_a_loader_adds_and_what_ends_a_command_is_no_argument() {
        assert_eq!(plain_words("a # b ; initrd=/x && BOOT_IMAGE=y || c#d #f --- e"), "a b c#d e");
        let conf = "title T\nlinux \\k\\linux\noptions initrd=\\k\\a.img quiet\n";
        let found = of(&[("loader/entries/a.conf", conf), ("k/linux", "k"), ("k/a.img", "a")]);
        assert_eq!(found, [entry("T", "k/linux", &["k/a.img"], "quiet")]);
    }

    #[test]
    fn a_command_line_has_no_control_characters() {
        assert_eq!(plain_words("a\u{1f}b \"c\"\t$d \u{7}\n"), "a b c");
    }

    #[test]
    fn the_menus_of_isolinux_and_the_loader_entries_are_read() {
        let menu = "default x\nLABEL one\n MENU LABEL ^Install it\n KERNEL /k/linux\n APPEND initrd=/k/a.img,b.img quiet --- \nlabel disk\n localboot 0x80\n";
        let conf = "title  Some OS\nlinux /k/linux\ninitrd /k/a.img\noptions root=here\noptions quiet\n";
        let found = of(&[
            ("isolinux/isolinux.cfg", menu),
            ("isolinux/b.img", "b"),
            ("k/linux", "k"),
            ("k/a.img", "a"),
            ("loader/entries/a.conf", conf),
        ]);
        let first = entry("Install it", "k/linux", &["k/a.img", "isolinux/b.img"], "quiet");
        assert_eq!(found, [first, entry("Some OS", "k/linux", &["k/a.img"], "root=here quiet")]);
    }
}
