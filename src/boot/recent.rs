//! A bounded memory that forgets what was silent the longest.

use std::{borrow::Borrow, hash::Hash, num::NonZeroUsize};

use foldhash::fast::RandomState;
use lru::LruCache;

/// The entries that were touched last, at most so many. A flood of strangers' addresses costs a fixed amount of memory, and
/// the same small time for each.
///
/// Each packet looks up half a dozen entries, and hashing is most of that. The keys come from the network: the hash is seeded
/// at random.
#[derive(Debug)]
pub struct Recent<K: Eq + Hash, V>(LruCache<K, V, RandomState>);

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Remembers the last `capacity` entries; one at least.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        Self(LruCache::with_hasher(capacity, RandomState::default()))
    }

    /// The entry without touching it.
    #[must_use]
    pub fn peek<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.peek(key)
    }

    /// The entry, touched where it is there.
    pub fn get<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// The entry, made where it is missing.
    pub fn touch(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.touch_or(key, V::default)
    }

    /// The entry, made so where it is missing.
    pub fn touch_or(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        self.0.get_or_insert_mut(key, new)
    }

    /// Makes room for a new entry: of those that do not `stay`, the one that was silent the longest goes first.
    pub fn make_room(&mut self, stays: impl Fn(&V) -> bool) {
        for _ in 0..self.0.len() {
            let is_full = self.0.len() >= self.0.cap().get();
            if !is_full || self.0.peek_lru().is_none_or(|(_, value)| !stays(value)) {
                return;
            }
            // The next one is looked at, and this one not again for a while.
            if let Some((key, value)) = self.0.pop_lru() {
                self.0.put(key, value);
            }
        }
    }

    /// Puts an entry in, instead of the one that may be there.
    pub fn insert(&mut self, key: K, value: V) {
        self.0.put(key, value);
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter()
    }

    /// All entries, to be changed; they are not touched.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut()
    }

    /// Forgets an entry.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.0.pop(key)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_last_ones_are_there_and_no_others(
            capacity in 1usize..20,
            keys in prop::collection::vec(0u8..60, 0..300),
        ) {
            let mut recent: Recent<u8, u32> = Recent::new(capacity);
            let mut counts = [0u32; 60];
            for (i, key) in keys.iter().enumerate() {
                let mut last: Vec<u8> = keys[..i].iter().rev().copied().collect();
                let mut seen = std::collections::HashSet::new();
                last.retain(|key| seen.insert(*key));
                for remembered in last.iter().take(capacity) {
                    prop_assert_eq!(recent.peek(remembered), Some(&counts[usize::from(*remembered)]));
                }
                let count = recent.touch(*key);
                *count += 1;
                counts[usize::from(*key)] = *count;
                prop_assert!(recent.len() <= capacity);
            }
            prop_assert_eq!(recent.is_empty(), keys.is_empty());
        }
    }
}
