//! The indexes of images: each is read once for each version of its image.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{
    asset::{Asset, State},
    image::ImageFile,
};
use crate::{
    boot::reason::Reason,
    iso::{Fault, Index, recognise::recognise, recognised::Recognised, segments::Segments, unpacked::unpacked},
};

/// The indexes of recently used images, the newest last.
#[derive(Debug, Default)]
pub(super) struct Images(Mutex<Vec<(State, Slot)>>);

/// The first request reads the index. Others that need the same image wait for it.
pub(super) type Slot = Arc<OnceLock<Result<Opened, Fault>>>;

/// What is known of one version of an image.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) index: Index,
    recognised: OnceLock<Recognised>,
    /// Its kernel, where that is served unpacked.
    unpacked: OnceLock<Result<Segments, Fault>>,
}

impl Opened {
    pub(super) fn new(index: Index) -> Self {
        Self { index, recognised: OnceLock::new(), unpacked: OnceLock::new() }
    }

    /// What the image is.
    pub(super) fn recognised(&self, image: &Asset, path: &str) -> Result<&Recognised, Reason> {
        if let Some(found) = self.recognised.get() {
            return Ok(found);
        }
        let file = image.file.try_clone().and_then(ImageFile::new).map_err(|error| unreadable(path, &error))?;
        let found = file.sound(Ok(recognise(&file, &self.index))).map_err(|fault| told(path, &fault))?;
        Ok(self.recognised.get_or_init(|| found))
    }

    /// The content of its kernel, `packed` in the image. `path` is what was asked for.
    pub(super) fn unpacked(&self, image: &Asset, packed: &str, path: &str) -> Result<Segments, Reason> {
        if let Some(made) = self.unpacked.get() {
            return made.clone().map_err(|fault| told(path, &fault));
        }
        let file = image.file.try_clone().and_then(ImageFile::new).map_err(|error| unreadable(path, &error))?;
        let made = file.sound(unpacked(&file, &self.index, packed));
        if !matches!(made, Err(Fault::Read { .. })) {
            self.unpacked.get_or_init(|| made.clone());
        }
        made.map_err(|fault| told(path, &fault))
    }
}

/// What was read of an image.
pub(super) fn opened<'a>(slot: &'a Slot, path: &str) -> Result<&'a Opened, Reason> {
    match slot.get() {
        Some(Ok(opened)) => Ok(opened),
        Some(Err(fault)) => Err(told(path, fault)),
        None => Err(Reason::not_found(path)),
    }
}

/// A fault of an image, as the reason for a request.
pub(super) fn told(path: &str, fault: &Fault) -> Reason {
    match fault {
        Fault::NotFound(_) => Reason::not_found(path),
        fault => unreadable(path, fault),
    }
}

pub(super) fn unreadable(path: &str, error: &dyn std::fmt::Display) -> Reason {
    Reason::Unreadable { name: path.chars().take(200).collect(), error: error.to_string() }
}

impl Images {
    /// Another request reads the index again.
    pub(super) fn forget(&self, slot: &Slot) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, known)| !Arc::ptr_eq(known, slot));
    }

    pub(super) fn slot(&self, state: State) -> Slot {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().position(|(known, _)| *known == state).map(|at| all.remove(at));
        let entry = known.unwrap_or_else(|| (state, Slot::default()));
        if all.len() >= IMAGES {
            all.remove(0);
        }
        let slot = Arc::clone(&entry.1);
        all.push(entry);
        slot
    }
}

/// The largest number of indexes that are kept. The index of a large medium needs a few megabytes.
const IMAGES: usize = 32;
