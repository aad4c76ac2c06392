//! A bounded memory that forgets what was silent the longest, at the same small cost for each entry however full it is.

use std::{collections::HashMap, hash::Hash, mem};

use foldhash::fast::RandomState;

/// Two generations of entries. What is touched moves into the young one; when that is full, the old one is forgotten
/// as a whole and the young one grows old. So between `capacity` and twice as many entries that were touched last are
/// there, and a flood of strangers' addresses costs a fixed amount of memory and no search for a victim.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: Map<K, V>,
    old: Map<K, V>,
    capacity: usize,
}

/// Each packet looks up half a dozen entries, and hashing is most of that. The keys come from the network: the hash is
/// seeded at random, and the number of entries is bounded.
type Map<K, V> = HashMap<K, V, RandomState>;

impl<K: Eq + Hash + Copy, V> Recent<K, V> {
    /// Remembers at least the last `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { young: Map::default(), old: Map::default(), capacity: capacity.max(1) }
    }

    /// The entry without touching it.
    #[must_use]
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// The entry, made where it is missing.
    pub fn touch(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.touch_or(key, V::default)
    }

    /// The entry, made so where it is missing.
    pub fn touch_or(&mut self, key: K, new: impl Fn() -> V) -> &mut V {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_else(&new);
            self.insert(key, value);
        }
        self.young.entry(key).or_insert_with(new)
    }

    /// Puts an entry in, instead of the one that may be there.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity && !self.young.contains_key(&key) {
            // The table of the forgotten ones is used again: under a flood it would grow anew each time.
            self.old.clear();
            mem::swap(&mut self.young, &mut self.old);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }

    /// All entries, to be changed; they are not touched.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.young.iter_mut().chain(&mut self.old)
    }

    /// Forgets an entry.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let old = self.old.remove(key);
        self.young.remove(key).or(old)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_last_ones_are_there_and_never_more_than_twice_as_many(
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
                prop_assert!(recent.len() <= 2 * capacity);
            }
            prop_assert_eq!(recent.is_empty(), keys.is_empty());
        }
    }
}
