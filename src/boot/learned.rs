//! What was learned of a machine's firmware, by what it took.

use super::{chain::Trust, shape::Shape};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The shape of the offer that it took.
    pub shape: Option<Shape>,
    /// The kind of loader that started.
    pub trust: Option<Trust>,
}

impl Learned {
    /// A machine took an offer of this shape.
    #[must_use]
    pub fn shape(shape: Shape) -> Self {
        Self { shape: Some(shape), ..Self::default() }
    }

    /// A loader of this kind started on a machine.
    #[must_use]
    pub fn trust(trust: Trust) -> Self {
        Self { trust: Some(trust), ..Self::default() }
    }

    /// With what was known before, where this says nothing.
    #[must_use]
    pub fn or(self, before: Self) -> Self {
        Self { shape: self.shape.or(before.shape), trust: self.trust.or(before.trust) }
    }

    /// Whether nothing is known, or it was forgotten.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}
