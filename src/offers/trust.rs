//! Whether a machine takes signed loaders or unsigned ones.
//!
//! No request says whether Secure Boot is on, and firmware that refuses a loader tells nobody. So one that fetched its
//! loader, started nothing and asks again is offered the other kind, and the kind that started is remembered.

use crate::boot::chain::Trust;

/// Which loader a machine is to be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextTrust {
    /// The kind.
    pub trust: Trust,
    /// It was offered one before, and what came of that is not known.
    pub was_offered: bool,
}

/// What a machine was offered last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trying(Option<Offered>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offered {
    trust: Trust,
    was_fetched: bool,
    /// The other kind would have been another loader.
    is_choice: bool,
}

impl Trying {
    /// What to offer now; `usual`: what is known of the machine.
    pub(super) fn next(self, usual: Trust) -> Trust {
        match self.0 {
            None => usual,
            Some(Offered { trust, was_fetched: true, .. }) => trust.other(),
            Some(Offered { trust, was_fetched: false, .. }) => trust,
        }
    }

    /// Whether it was offered one, and nothing is known to have started since.
    pub(super) fn was_offered(self) -> bool {
        self.0.is_some()
    }

    /// It was offered this: what was available of [`Self::next`]. `is_choice`: the other kind is there too.
    pub(super) fn offered(&mut self, trust: Trust, is_choice: bool) {
        self.0 = Some(Offered { trust, was_fetched: false, is_choice });
    }

    /// It fetched what it was offered.
    pub(super) fn fetched(&mut self) {
        if let Some(offered) = &mut self.0 {
            offered.was_fetched = true;
        }
    }

    /// What it fetched has started: which kind that was, if it is known. A loader beside which there was no other says
    /// nothing about a signed set that comes later.
    pub(super) fn started(&mut self) -> Option<Trust> {
        self.0.take().filter(|offered| offered.was_fetched && offered.is_choice).map(|offered| offered.trust)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_fetches_and_starts_nothing_is_offered_the_other_kind() {
        let mut trying = Trying::default();
        let offer = |trying: &mut Trying| {
            let trust = trying.next(Trust::Signed);
            trying.offered(trust, true);
            trust
        };
        assert_eq!([offer(&mut trying), offer(&mut trying)], [Trust::Signed; 2], "it did not fetch it");
        trying.fetched();
        assert_eq!([offer(&mut trying), offer(&mut trying)], [Trust::Unsigned; 2]);
        trying.fetched();
        assert_eq!(offer(&mut trying), Trust::Signed, "back again");
        trying.fetched();
        assert!(trying.was_offered());
        assert_eq!(trying.started(), Some(Trust::Signed));
        assert!(!trying.was_offered());
        assert_eq!((trying.started(), trying.next(Trust::Unsigned)), (None, Trust::Unsigned));
        trying.offered(Trust::Unsigned, true);
        assert_eq!(trying.started(), None, "it has an iPXE of its own");
        trying.offered(Trust::Unsigned, false);
        trying.fetched();
        assert_eq!(trying.started(), None, "there was no signed one");
    }
}
