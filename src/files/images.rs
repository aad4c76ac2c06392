//! The indexes of images: each is read once for each version of its image.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::asset::Version;
use crate::iso::{Fault, Index};

/// The indexes of recently used images, the newest last.
#[derive(Debug, Default)]
pub(super) struct Images(Mutex<Vec<(Version, Slot)>>);

/// The first request reads the index. Others that need the same image wait for it.
pub(super) type Slot = Arc<OnceLock<Result<Index, Fault>>>;

impl Images {
    pub(super) fn slot(&self, version: Version) -> Slot {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().position(|(known, _)| *known == version).map(|at| all.remove(at));
        let entry = known.unwrap_or_else(|| (version, Slot::default()));
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
