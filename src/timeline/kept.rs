//! Who waits until what was sent to the recorder outlives a restart.

use std::{fmt, sync::Arc};

/// Tells somebody that something outlives a restart. It is dropped where it does not.
#[derive(Clone, Debug)]
pub struct Kept(Arc<dyn Waiting>);

/// Somebody who waits for that.
pub trait Waiting: fmt::Debug + Send + Sync {
    /// It does.
    fn is_kept(&self);
}

impl Kept {
    /// For somebody who waits.
    #[must_use]
    pub fn new(waiting: impl Waiting + 'static) -> Self {
        Self(Arc::new(waiting))
    }

    /// It is kept.
    pub fn tell(&self) {
        self.0.is_kept();
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Kept {}
