//! What the listeners of all addresses share: how many transfers there may be, and which clients' paths carry small
//! packets only.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::boot::why::Why;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    max_transfers: usize,
    max_per_client: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    transfers: usize,
    per_client: HashMap<Ipv4Addr, usize>,
    /// The largest block that is granted to a client, and until when.
    small: HashMap<Ipv4Addr, (u16, Instant)>,
}

/// The right to one transfer, given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    client: Ipv4Addr,
}

impl Shared {
    /// Allows this many transfers at once, in total and for one client's address.
    #[must_use]
    pub fn new(max_transfers: usize, max_per_client: usize) -> Arc<Self> {
        Arc::new(Self { max_transfers, max_per_client, state: Mutex::default() })
    }

    /// One more transfer.
    ///
    /// # Errors
    /// [`Why::Busy`].
    pub fn slot(self: &Arc<Self>, client: Ipv4Addr) -> Result<Slot, Why> {
        let mut state = self.state();
        if state.per_client.get(&client).is_some_and(|count| *count >= self.max_per_client) {
            return Err(Why::Busy("of this client"));
        }
        if state.transfers >= self.max_transfers {
            return Err(Why::Busy("in total"));
        }
        state.transfers += 1;
        *state.per_client.entry(client).or_default() += 1;
        Ok(Slot { shared: self.clone(), client })
    }

    /// Whether no client can begin another transfer.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state().transfers >= self.max_transfers
    }

    /// Remembers that a client never got a block of this many bytes: its next transfer is offered smaller ones.
    pub fn too_large(&self, client: Ipv4Addr, block_size: u16, now: Instant) {
        let Some(smaller) = SMALLER.iter().find(|smaller| **smaller < block_size) else { return };
        let mut state = self.state();
        if state.small.len() >= REMEMBERED {
            state.small.retain(|_, (_, until)| *until > now);
        }
        if state.small.len() < REMEMBERED || state.small.contains_key(&client) {
            state.small.insert(client, (*smaller, now + MEMORY));
        }
    }

    /// The largest block that a client's path is believed to carry, in bytes of data.
    #[must_use]
    pub fn block_size(&self, client: Ipv4Addr, now: Instant) -> Option<u16> {
        self.state().small.get(&client).filter(|(_, until)| *until > now).map(|(size, _)| *size)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.transfers -= 1;
        if let Some(count) = state.per_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                state.per_client.remove(&self.client);
            }
        }
    }
}

/// What is offered next: a VPN's path carries the first, and every path of IPv4 the second (RFC 1350's own size).
const SMALLER: [u16; 2] = [1024, 512];
/// Clients whose path is remembered. More are a flood, and learn it anew.
const REMEMBERED: usize = 1024;
/// A path is mended some day.
const MEMORY: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    #[test]
    fn slots_are_bounded_in_total_and_for_each_client_and_come_back() {
        let shared = Shared::new(3, 2);
        let slots = [shared.slot(A).expect("free"), shared.slot(A).expect("free")];
        assert_eq!(shared.slot(A).map(drop), Err(Why::Busy("of this client")));
        let other = shared.slot(B).expect("free");
        assert_eq!(shared.slot(B).map(drop), Err(Why::Busy("in total")));
        assert!(shared.is_full());
        drop((slots, other));
        assert!(!shared.is_full() && shared.state().per_client.is_empty());
    }

    #[test]
    fn a_path_gets_smaller_blocks_step_by_step_for_a_while_and_memory_is_bounded() {
        let (shared, now) = (Shared::new(1, 1), Instant::now());
        assert_eq!(shared.block_size(A, now), None);
        shared.too_large(A, 1468, now);
        assert_eq!((shared.block_size(A, now), shared.block_size(B, now)), (Some(1024), None));
        shared.too_large(A, 1024, now);
        shared.too_large(A, 512, now);
        assert_eq!(shared.block_size(A, now), Some(512), "there is nothing below it");
        assert_eq!(shared.block_size(A, now + MEMORY), None);
        for client in 0..5000 {
            shared.too_large(Ipv4Addr::from_bits(client), 1468, now);
        }
        assert_eq!(shared.state().small.len(), REMEMBERED);
        shared.too_large(B, 1468, now + MEMORY);
        assert_eq!(shared.state().small.len(), 1, "what is out of date makes room");
    }
}
