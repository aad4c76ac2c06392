//! The assets folder: what is opened by its path is beneath it.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use arc_swap::ArcSwapOption;
use rustix::fs::{FileType, OFlags, fstat};

use super::{
    asset::{Asset, State, unreadable},
    folder::{FILE, Folder},
    images::Images,
};
use crate::boot::{
    faults::Wanted,
    image::{HEAD, for_another_processor, other_than_linux},
    length,
    reason::Reason,
    recent::Recent,
};

/// The assets folder by its name. All paths are resolved below the folder that the name leads to. The folder can appear
/// later, and can be replaced by another one.
#[derive(Debug)]
pub struct AssetRoot {
    /// The path in the configuration.
    pub(super) named: PathBuf,
    pub(super) folder: ArcSwapOption<Folder>,
    /// If only some files of the folder are served: their paths below it.
    pub(super) only: Option<BTreeSet<String>>,
    /// The open files that [`AssetRoot::shared`] has returned, as long as they are used.
    pub(super) open: Mutex<HashMap<(State, String), Weak<Asset>>>,
    /// The small files that were used last: they stay in memory.
    pub(super) small: Mutex<Recent<State, Arc<Asset>>>,
    /// By which paths they were found, and what the paths led to then.
    pub(super) small_by_path: Mutex<Recent<Vec<u8>, State>>,
    /// The indexes of the images that were used.
    pub(super) images: Images,
}

/// The result of [`AssetRoot::follow`].
#[derive(Debug)]
pub enum Followed {
    /// The same folder as before.
    Same,
    /// Another folder, which is served from now on: its path.
    Other(PathBuf),
    /// No folder that can be served. If there was one before, it is still served.
    Lost(io::Error),
}

impl AssetRoot {
    /// Opens the folder.
    ///
    /// # Errors
    /// Those of the system call; `InvalidInput` for `/`, which would make every file of the host public; `Unsupported`
    /// for a kernel that cannot keep a path below a folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = Self::waiting_for(path);
        root.folder.store(Some(Arc::new(Folder::open(path)?)));
        Ok(root)
    }

    /// A folder that does not exist yet, or that cannot be used now. [`AssetRoot::follow`] opens it when that is
    /// possible.
    #[must_use]
    pub fn waiting_for(path: &Path) -> Self {
        Self {
            named: path.to_owned(),
            folder: ArcSwapOption::empty(),
            only: None,
            open: Mutex::default(),
            small: Mutex::new(Recent::new(SMALL_FILES)),
            small_by_path: Mutex::new(Recent::new(SMALL_FILES)),
            images: Images::default(),
        }
    }

    /// The same folder, but only these files of it are served (by their paths below it).
    #[must_use]
    pub fn only(self, files: BTreeSet<String>) -> Self {
        Self { only: Some(files), ..self }
    }

    /// The files that are served, if it is not the whole folder.
    #[must_use]
    pub fn served_only(&self) -> Option<&BTreeSet<String>> {
        self.only.as_ref()
    }

    /// The path of the open folder, or its name if it does not exist.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.load().as_ref().map_or_else(|| self.named.clone(), |folder| folder.path.clone())
    }

    /// The path in the configuration.
    #[must_use]
    pub fn named(&self) -> &Path {
        &self.named
    }

    /// Opens the folder again: a link may have changed, or a file system may have been mounted.
    pub fn follow(&self) -> Followed {
        let now = match Folder::open(&self.named) {
            Ok(now) => now,
            Err(error) => return Followed::Lost(error),
        };
        if self.folder.load().as_ref().is_some_and(|served| served.is(&now)) {
            return Followed::Same;
        }
        let path = now.path.clone();
        self.folder.store(Some(Arc::new(now)));
        Followed::Other(path)
    }

    /// [`AssetRoot::file`], shared by all users of the same version. A thousand downloads of one image need only one
    /// descriptor.
    ///
    /// # Errors
    /// As there.
    pub fn shared(&self, name: &str) -> Result<Arc<Asset>, Reason> {
        self.shared_of_bytes(name.as_bytes())
    }

    /// [`AssetRoot::shared`] for a name of any bytes, as file systems allow.
    ///
    /// # Errors
    /// As [`AssetRoot::file`].
    pub fn shared_of_bytes(&self, name: &[u8]) -> Result<Arc<Asset>, Reason> {
        let path = below(name);
        if let Some(asset) = self.unchanged(path) {
            return Ok(asset);
        }
        Ok(self.kept(path, self.file_of_bytes(path)?))
    }

    /// The same for a file that is on the disk of the folder itself, so that to open it waits for no other host. `None`:
    /// it may have to, or there is no such file.
    #[must_use]
    pub fn at_hand(&self, name: &[u8]) -> Option<Arc<Asset>> {
        let path = below(name);
        let folder = self.folder.load();
        let folder = folder.as_ref()?;
        let known = self.small_by_path.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        if let Some(asset) = known.filter(|known| folder.is_at_hand(known.device())).and_then(|_| self.unchanged(path))
        {
            return Some(asset);
        }
        let name = Path::new(OsStr::from_bytes(path));
        let opened = self.is_served(name).then(|| folder.on_its_disk(name))??;
        Some(self.kept(path, opened_asset(opened, name).ok()?))
    }

    /// The file that a path leads to, shared, and in memory if it is small.
    fn kept(&self, path: &[u8], asset: Asset) -> Arc<Asset> {
        let asset = self.share(asset);
        if asset.is_small() && asset.state.is_settled() {
            let mut by_path = self.small_by_path.lock().unwrap_or_else(PoisonError::into_inner);
            by_path.insert(path.to_owned(), asset.state);
        }
        asset
    }

    fn is_served(&self, name: &Path) -> bool {
        let is_named = |only: &BTreeSet<String>| name.to_str().is_some_and(|name| only.contains(name));
        self.only.as_ref().is_none_or(is_named)
    }

    /// A small file that is in memory, if its path still leads to it, and nothing was changed about it: its content, or who
    /// may read it. To look costs less than to open it.
    fn unchanged(&self, path: &[u8]) -> Option<Arc<Asset>> {
        let known = *self.small_by_path.lock().unwrap_or_else(PoisonError::into_inner).get(path)?;
        let now = self.folder.load().as_ref()?.look(Path::new(OsStr::from_bytes(path)))?;
        if State::of(&now) != known {
            return None;
        }
        self.small.lock().unwrap_or_else(PoisonError::into_inner).get(&known).cloned()
    }

    /// Returns the file that is already open, if it is the same version.
    pub(super) fn share(&self, asset: Asset) -> Arc<Asset> {
        if asset.is_small() {
            let mut small = self.small.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(asset) = small.get(&asset.state) {
                return Arc::clone(asset);
            }
            let asset = Arc::new(asset);
            small.insert(asset.state, Arc::clone(&asset));
            return asset;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Files inside one image have the image's state, but their own entity tags.
        let key = (asset.state, asset.etag.clone());
        if let Some(asset) = open.get(&key).and_then(Weak::upgrade) {
            return asset;
        }
        open.retain(|_, asset| asset.strong_count() > 0);
        let asset = Arc::new(asset);
        open.insert(key, Arc::downgrade(&asset));
        asset
    }

    /// Opens a file by its path below the folder; slashes at the start are ignored. The path cannot leave the folder.
    /// An image is a folder too: the path can continue inside it.
    ///
    /// # Errors
    /// [`Reason::NotFound`], also if it is not a regular file; [`Reason::NoFolder`]; [`Reason::Escape`]; [`Reason::Unreadable`].
    pub fn file(&self, name: &str) -> Result<Asset, Reason> {
        self.file_of_bytes(name.as_bytes())
    }

    /// [`AssetRoot::file`] for a name of any bytes, as file systems allow.
    ///
    /// # Errors
    /// As there.
    pub fn file_of_bytes(&self, name: &[u8]) -> Result<Asset, Reason> {
        let name = Path::new(OsStr::from_bytes(below(name)));
        let found = match self.is_served(name) {
            true => self.whole_file(name),
            false => Err(Reason::not_found(&name.to_string_lossy())),
        };
        match (found, name.to_str()) {
            (Err(why @ Reason::NotFound(_)), Some(path)) => match self.inside(path) {
                Some(found) => found,
                None => self.behind_alias(path).map_or(Err(why), |path| self.file(&path)),
            },
            (found, _) => found,
        }
    }

    /// A file that is directly in the folder, not in an image.
    pub(super) fn whole_file(&self, name: &Path) -> Result<Asset, Reason> {
        opened_asset(self.beneath(name, FILE)?, name)
    }

    /// Whether a machine can fetch this file.
    ///
    /// # Errors
    /// As [`AssetRoot::file`]; [`Reason::Empty`]; [`Reason::Unfit`].
    pub fn look(&self, name: &str, wanted: Wanted) -> Result<(), Reason> {
        match (self.file(name), wanted) {
            (Ok(asset), Wanted::File | Wanted::Start(..)) if asset.size == 0 => {
                Err(Reason::Empty(name.chars().take(200).collect()))
            }
            (Ok(asset), Wanted::Start(role, on)) => {
                let unreadable = |error: io::Error| Reason::Unreadable { name: name.into(), error: error.to_string() };
                let head = asset.head(HEAD).map_err(unreadable)?;
                let fault = length::check(&head, asset.size).and_then(|()| role.starts(&head, on));
                fault.map_err(|fault| Reason::Unfit { name: name.to_owned(), fault })
            }
            (Ok(asset), Wanted::Linux) => match asset.head(HEAD).ok().as_deref().and_then(other_than_linux) {
                Some(what) => Err(Reason::Unfit { name: name.to_owned(), fault: format!("is {what}") }),
                None => Ok(()),
            },
            (Ok(asset), Wanted::For(on)) => {
                match asset.head(HEAD).ok().and_then(|head| for_another_processor(&head, on)) {
                    Some(fault) => Err(Reason::Unfit { name: name.to_owned(), fault }),
                    None => Ok(()),
                }
            }
            (Ok(asset), Wanted::HardDisk) if is_floppy(asset.size) => {
                Err(Reason::Unfit { name: name.to_owned(), fault: "is an image of a floppy disk".into() })
            }
            (Ok(_), _) => Ok(()),
            (Err(why @ Reason::NotFound(_)), Wanted::File | Wanted::Start(..)) => match self.no_file(name) {
                Some(fault) => Err(Reason::Unfit { name: name.to_owned(), fault: fault.to_owned() }),
                None => Err(why),
            },
            (Err(why), Wanted::File | Wanted::Start(..) | Wanted::Linux | Wanted::For(_) | Wanted::HardDisk) => {
                Err(why)
            }
            (Err(why), Wanted::FileOrFolder) => self.list(name).map(drop).map_err(|_| why),
        }
    }

    /// What is there instead of a file.
    fn no_file(&self, name: &str) -> Option<&'static str> {
        let found = self.beneath(name.trim_start_matches('/'), OFlags::PATH | OFlags::CLOEXEC);
        let kind = match found.and_then(|found| fstat(&found).map_err(|errno| unreadable(name, errno))) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            // Perhaps it is in an image.
            Err(_) => self.list(name).map(|_| FileType::Directory).ok()?,
        };
        match kind {
            FileType::RegularFile => None,
            FileType::Directory => Some("is a folder: name a file"),
            _ => Some("is not a regular file"),
        }
    }

    pub(super) fn beneath(&self, name: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, Reason> {
        match self.folder.load().as_ref() {
            Some(folder) => folder.beneath(name.as_ref(), flags),
            None => Err(Reason::NoFolder(self.named.display().to_string())),
        }
    }
}

/// Whether an image of so many bytes is one of a floppy disk. iPXE knows their geometries by their sizes, of which these are
/// those of disks that were sold, or formatted to more (arch/x86/interface/pcbios/int13.c).
fn is_floppy(size: u64) -> bool {
    const KIB: [u64; 10] = [160, 180, 320, 360, 640, 720, 1200, 1440, 1680, 2880];
    size.is_multiple_of(1024) && KIB.contains(&(size / 1024))
}

fn opened_asset(descriptor: OwnedFd, name: &Path) -> Result<Asset, Reason> {
    let stat = fstat(&descriptor).map_err(|errno| unreadable(&name.to_string_lossy(), errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Reason::not_found(&name.to_string_lossy()));
    }
    Ok(Asset::new(File::from(descriptor), &stat))
}

/// Without the slashes at the start.
fn below(name: &[u8]) -> &[u8] {
    let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
    name.get(start..).unwrap_or_default()
}

/// Of at most 64 KiB.
const SMALL_FILES: usize = 32;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
        time::{Duration, UNIX_EPOCH},
    };

    use rustix::fs::stat;

    use super::*;
    use crate::files::asset::{SETTLED, SMALL};

    #[test]
    fn only_regular_files_beneath_the_folder_are_opened() {
        let scratch = tempfile::tempdir().expect("a folder");
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("debian")).expect("made");
        fs::write(scratch.path().join("secret"), "secret").expect("made");
        fs::write(root.join("debian/vmlinuz"), "kernel").expect("made");
        symlink("debian/vmlinuz", root.join("inside")).expect("made");
        symlink("../secret", root.join("outside")).expect("made");
        symlink("/etc/passwd", root.join("absolute")).expect("made");
        symlink("loop", root.join("loop")).expect("made");
        let assets = AssetRoot::open(&root).expect("opened");
        let size = |name: &str| assets.file(name).map(|asset| asset.size);
        for name in ["debian/vmlinuz", "/debian/vmlinuz", "//debian//vmlinuz", "./debian/./vmlinuz", "inside"] {
            assert_eq!(size(name), Ok(6), "{name}");
        }
        // `..` that stays inside is harmless.
        assert_eq!(size("debian/../inside"), Ok(6));
        let with_itself = format!("../{}/debian/vmlinuz", root.file_name().expect("a name").display());
        for name in ["../secret", "outside", "absolute", "debian/../../secret", &with_itself] {
            assert_eq!(size(name), Err(Reason::Escape(name.into())), "{name}");
        }
        let look = |name: &str| assets.look(name, Wanted::File).expect_err(name).to_string();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::RUSR).expect("made");
        assert_eq!(look("debian"), "debian is a folder: name a file");
        assert_eq!(look("/pipe"), "/pipe is not a regular file");
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("made");
        assert_eq!(look("socket"), "socket is not a regular file");
        assert_eq!(look("gone"), "there is no file gone");
        let circle = size("loop").expect_err("no file").to_string();
        assert!(circle.starts_with("loop cannot be read: its symbolic links lead in a circle: "), "{circle}");
        for name in ["", "nothing", "debian", "socket", "inside/x", "nul\0byte", &"x".repeat(300)] {
            assert!(matches!(size(name), Err(Reason::NotFound(_))), "{name}");
        }
    }

    #[test]
    fn the_tag_tells_versions_apart_and_an_open_file_keeps_its_own() {
        let scratch = tempfile::tempdir().expect("a folder");
        fs::write(scratch.path().join("k"), "old").expect("made");
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        let old = assets.file("k").expect("there");
        assert_eq!(old.etag, assets.file("k").expect("there").etag);
        fs::write(scratch.path().join("k.new"), "new!").expect("made");
        fs::rename(scratch.path().join("k.new"), scratch.path().join("k")).expect("replaced");
        let new = assets.file("k").expect("there");
        assert_ne!(old.etag, new.etag);
        assert_eq!(io::read_to_string(&old.file).expect("read"), "old");
        assert_eq!(io::read_to_string(&new.file).expect("read"), "new!");
    }

    #[test]
    fn copies_have_one_tag_wherever_they_are_and_another_content_has_another() {
        let scratch = tempfile::tempdir().expect("a folder");
        let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let tag = |folder: &Path, content: &[u8], modified| {
            fs::create_dir_all(folder).expect("made");
            // Another file of that name: another inode.
            let _ =
                fs::rename(folder.join("k"), folder.join(format!("{}", fs::read_dir(folder).expect("read").count())));
            fs::write(folder.join("k"), content).expect("written");
            fs::File::options()
                .write(true)
                .open(folder.join("k"))
                .and_then(|file| file.set_modified(modified))
                .expect("set");
            AssetRoot::open(folder).expect("opened").file("k").expect("there").etag
        };
        // rsync keeps fractions of a second, other ways of copying do not.
        let whole_second = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for size in [0, 10, 200_000, 3_000_000] {
            let content: Vec<u8> = (0..size).map(|at: u32| (at / 7) as u8).collect();
            let tagged = tag(&one, &content, at);
            assert_eq!(tagged, tag(&two, &content, whole_second), "{size} bytes");
            assert_ne!(tagged, tag(&two, &content, at + Duration::from_secs(1)));
            let places = [0, 32_768 + 813, size / 2, size.saturating_sub(1)];
            for changed in places.into_iter().filter(|at| *at < size).map(|at| at as usize) {
                let mut other = content.clone();
                other[changed] ^= 1;
                assert_ne!(tagged, tag(&two, &other, whole_second), "byte {changed} of {size}");
            }
        }
    }

    #[test]
    fn another_content_with_the_same_size_and_time_is_another_version() {
        let scratch = tempfile::tempdir().expect("a folder");
        let time = UNIX_EPOCH + Duration::from_secs(1);
        for size in [10, 3_000_000] {
            let (path, assets) = (scratch.path().join("k"), AssetRoot::open(scratch.path()).expect("opened"));
            let write = |byte: u8| {
                fs::write(&path, vec![byte; size]).expect("written");
                fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(time)).expect("dated");
            };
            let first_bytes =
                |asset: &Asset| asset.small().map_or_else(|| asset.head(1).expect("read")[0], |all| all[0]);
            write(1);
            let old = assets.shared("k").expect("there");
            assert_eq!(first_bytes(&old), 1);
            write(2);
            let new = assets.shared("k").expect("there");
            assert_eq!(first_bytes(&new), 2, "{size}");
            assert_ne!(old.etag, new.etag);
            assert!(!old.is_as_it_was().expect("read") && new.is_as_it_was().expect("read"));
            fs::remove_file(&path).expect("removed");
            assert!(new.is_as_it_was().expect("read"), "it has no name, and its content");
        }
    }

    #[test]
    fn a_version_is_open_once_as_long_as_anyone_has_it() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("k");
        let large = |byte: u8| vec![byte; 1 + usize::try_from(SMALL).expect("small")];
        fs::write(&path, large(1)).expect("made");
        symlink("k", scratch.path().join("link")).expect("made");
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        let [first, again, linked] = ["k", "/k", "link"].map(|name| assets.shared(name).expect("there"));
        assert!(Arc::ptr_eq(&first, &again) && Arc::ptr_eq(&first, &linked));
        fs::write(&path, large(2)).expect("changed");
        let other = assets.shared("k").expect("there");
        assert!(!Arc::ptr_eq(&first, &other) && !first.is_as_it_was().expect("read"));
        assert_eq!(assets.open.lock().expect("unharmed").len(), 2);
        drop((first, again, linked, other));
        for n in 0..100 {
            fs::write(&path, large(n)).expect("changed");
            assets.shared("k").expect("there");
        }
        assert_eq!(assets.open.lock().expect("unharmed").len(), 1, "what nobody has is forgotten");
    }

    #[test]
    fn a_small_file_stays_in_memory_by_its_version_once_its_time_can_be_trusted() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("k");
        let write = |text: &str, age: u64| {
            fs::write(&path, text).expect("written");
            let time = std::time::SystemTime::now() - Duration::from_secs(age);
            fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(time)).expect("dated");
        };
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        let small = || assets.shared("k").expect("there").small();
        write("old", 0);
        assert_eq!(small(), None, "it may be written into again within the same tick of the clock");
        write("old", 60);
        assert_eq!(small().as_deref(), Some(b"old".as_slice()));
        assert!(Arc::ptr_eq(&assets.shared("k").expect("there"), &assets.shared("/k").expect("there")));
        write("new", 30);
        assert_eq!(small().as_deref(), Some(b"new".as_slice()), "another version");
        let used = scratch.path().join("used");
        fs::write(&used, "again and again").expect("written");
        let used = || assets.shared("used").expect("there");
        let first = used();
        for n in 0..100 {
            write(&n.to_string(), 100 + n);
            small();
            assert!(Arc::ptr_eq(&used(), &first), "what is used stays");
        }
        assert!(assets.small.lock().expect("unharmed").iter().count() <= SMALL_FILES);
    }

    #[test]
    fn a_path_to_a_small_file_is_followed_anew_after_every_change() {
        let scratch = tempfile::tempdir().expect("a folder");
        let (root, outside) = (scratch.path().join("root"), scratch.path().join("outside"));
        fs::create_dir(&root).expect("made");
        fs::write(&outside, "secret").expect("made");
        let assets = AssetRoot::open(&root).expect("opened");
        let (path, is_known) = (root.join("k"), || assets.unchanged(b"k").is_some());
        let put = |text: &str| {
            fs::write(root.join("new"), text).expect("written");
            fs::rename(root.join("new"), &path).expect("replaced");
        };
        let read = || {
            assets.shared("k").map(|asset| {
                let mut bytes = vec![0; usize::try_from(asset.size).expect("small")];
                asset.read_exact_at(&mut bytes, 0).expect("read");
                String::from_utf8(bytes).expect("text")
            })
        };
        put("old");
        assert_eq!(read(), Ok("old".into()));
        assert!(!is_known(), "who may read it can change within the same tick of the clock");
        // Nobody can set this time of a file.
        std::thread::sleep(SETTLED + Duration::from_millis(100));
        assert_eq!(read(), Ok("old".into()));
        assert!(is_known() && Arc::ptr_eq(&assets.shared("k").expect("there"), &assets.shared("//k").expect("there")));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).expect("set");
        assert!(!is_known(), "who may read it has changed");
        let learn = || {
            assets
                .small_by_path
                .lock()
                .expect("unharmed")
                .insert(b"k".to_vec(), State::of(&stat(&path).expect("there")))
        };
        assert_eq!(read(), Ok("old".into()));
        learn();
        assert!(is_known());
        put("new");
        assert_eq!(read(), Ok("new".into()));
        learn();
        fs::remove_file(&path).expect("removed");
        assert!(!is_known() && matches!(read(), Err(Reason::NotFound(_))));
        symlink("../outside", &path).expect("made");
        assert_eq!(read(), Err(Reason::Escape("k".into())));
    }

    #[test]
    fn a_time_that_no_clock_shows_is_one_that_http_can_say() {
        let scratch = tempfile::tempdir().expect("a folder");
        let file = fs::File::create(scratch.path().join("k")).expect("made");
        let far = UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        // Some file systems have a smaller range of years. That is enough too.
        let _ = file.set_modified(far);
        let modified = AssetRoot::open(scratch.path()).expect("opened").file("k").expect("there").modified;
        assert!(httpdate::fmt_http_date(modified).ends_with(" GMT"));
    }

    #[test]
    fn an_absolute_link_that_stays_inside_is_followed() {
        let scratch = tempfile::tempdir().expect("a folder");
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("v2/debian")).expect("made");
        fs::create_dir(scratch.path().join("beside")).expect("made");
        fs::write(root.join("v2/debian/vmlinuz"), "kernel").expect("made");
        fs::write(scratch.path().join("beside/secret"), "secret").expect("made");
        symlink(&root, scratch.path().join("served")).expect("made");
        // By the folder's own path, by another name of it, out of it and back, and one after the other.
        symlink(root.join("v2"), root.join("current")).expect("made");
        symlink(scratch.path().join("served/v2"), root.join("by-name")).expect("made");
        symlink("../root/v2", root.join("round")).expect("made");
        symlink(root.join("current/debian"), root.join("behind")).expect("made");
        symlink(scratch.path().join("beside"), root.join("beside")).expect("made");
        symlink(scratch.path().join("nowhere"), root.join("nowhere")).expect("made");
        for opened in [root.clone(), scratch.path().join("served")] {
            let assets = AssetRoot::open(&opened).expect("opened");
            let size = |name: &str| assets.file(name).map(|asset| asset.size);
            for name in ["current/debian/vmlinuz", "by-name/debian/vmlinuz", "round/debian/vmlinuz", "behind/vmlinuz"] {
                assert_eq!(size(name), Ok(6), "{name}");
            }
            assert_eq!(assets.list("current").map(|entries| entries.len()), Ok(1));
            assert!(assets.list("").expect("listed").iter().any(|entry| entry.name == "current"));
            for name in ["beside/secret", "beside/nothing", "nowhere", "nowhere/x"] {
                assert_eq!(size(name), Err(Reason::Escape(name.into())), "{name}");
            }
            assert!(matches!(size("current/nothing"), Err(Reason::NotFound(_))));
        }
    }

    #[test]
    fn the_folder_is_followed_when_its_link_is_switched_and_when_it_comes() {
        let scratch = tempfile::tempdir().expect("a folder");
        let (link, fresh) = (scratch.path().join("link"), scratch.path().join("link.new"));
        let assets = AssetRoot::waiting_for(&link);
        assert!(matches!(assets.follow(), Followed::Lost(_)));
        assert_eq!(assets.file("k").map(|_| ()), Err(Reason::NoFolder(link.display().to_string())));
        for version in ["v1", "v2"] {
            fs::create_dir(scratch.path().join(version)).expect("made");
            fs::write(scratch.path().join(version).join("k"), version).expect("made");
            symlink(version, &fresh).expect("made");
            fs::rename(&fresh, &link).expect("switched");
            let there = scratch.path().join(version).canonicalize().expect("there");
            assert!(matches!(assets.follow(), Followed::Other(path) if path == there), "{version}");
            assert!(matches!(assets.follow(), Followed::Same));
            assert_eq!(io::read_to_string(assets.file("k").expect("there").file).expect("read"), version);
        }
        fs::remove_file(&link).expect("removed");
        assert!(matches!(assets.follow(), Followed::Lost(_)));
        assert!(assets.file("k").is_ok(), "the folder that is still open is served");
    }

    #[test]
    fn of_named_files_the_folder_shows_nothing_else() {
        let scratch = tempfile::tempdir().expect("a folder");
        fs::create_dir(scratch.path().join("more")).expect("made");
        for name in ["vmlinuz", "more/initrd", "diary.txt"] {
            fs::write(scratch.path().join(name), "x").expect("made");
        }
        let only = ["vmlinuz", "more/initrd"].map(String::from).into();
        let assets = AssetRoot::open(scratch.path()).expect("opened").only(only);
        let is_served = |name: &str| assets.file(name).is_ok();
        assert!(is_served("vmlinuz") && is_served("/vmlinuz") && is_served("more/initrd"));
        for name in ["diary.txt", "./diary.txt", "more/../diary.txt", "more/../vmlinuz", "more", ""] {
            assert!(matches!(assets.file(name), Err(Reason::NotFound(_))), "{name}");
        }
        let listed = |name: &str| {
            let names = assets.list(name).map(|entries| entries.into_iter().map(|entry| entry.name).collect());
            names.unwrap_or_else(|_| vec!["nothing".to_owned()])
        };
        assert_eq!((listed(""), listed("more")), (vec!["more".into(), "vmlinuz".into()], vec!["initrd".into()]));
    }

    #[test]
    fn the_whole_file_system_is_no_assets_folder() {
        assert_eq!(AssetRoot::open(Path::new("/")).map(|_| ()).map_err(|e| e.kind()), Err(io::ErrorKind::InvalidInput));
    }
}
