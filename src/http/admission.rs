//! How many connections there may be, in all and from one client.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts connections. It holds as many addresses as there are connections.
#[derive(Debug)]
pub(super) struct Admission {
    most: u32,
    most_of_one: u32,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    of: HashMap<IpAddr, u32>,
}

/// A connection's place; dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    client: Option<IpAddr>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The server has all the connections that it may have.
    Server,
    /// This client has.
    Client,
}

impl Admission {
    pub(super) fn new(most: u32, most_of_one: u32) -> Self {
        Self { most, most_of_one, counts: Mutex::default() }
    }

    /// A place for a connection. One of no client in particular counts among all connections only.
    pub(super) fn admit(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Place, Full> {
        let mut counts = self.counts();
        if counts.total >= self.most {
            return Err(Full::Server);
        }
        if client.and_then(|client| counts.of.get(&client)).is_some_and(|count| *count >= self.most_of_one) {
            return Err(Full::Client);
        }
        counts.total += 1;
        if let Some(client) = client {
            *counts.of.entry(client).or_default() += 1;
        }
        Ok(Place { admission: Arc::clone(self), client })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// How many connections there are; at least this one.
    pub(super) fn of_all(&self) -> u32 {
        self.admission.counts().total.max(1)
    }

    /// How many connections this client has; at least this one.
    pub(super) fn of_client(&self) -> u32 {
        self.client.and_then(|client| self.admission.counts().of.get(&client).copied()).unwrap_or(1)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.total = counts.total.saturating_sub(1);
        let Some(client) = self.client else { return };
        if let Some(count) = counts.of.get_mut(&client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.of.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_for_each_client_and_come_back() {
        let admission = Arc::new(Admission::new(3, 2));
        let [a, b, c] = [1, 2, 3].map(|n| Some(IpAddr::from([192, 0, 2, n])));
        let first = admission.admit(a).expect("a place");
        let _second = admission.admit(a).expect("a place");
        assert_eq!((first.of_client(), first.of_all()), (2, 2));
        assert_eq!(admission.admit(a).map(|_| ()), Err(Full::Client));
        let third = admission.admit(b).expect("a place");
        assert_eq!(admission.admit(c).map(|_| ()), Err(Full::Server));
        drop(first);
        let _fourth = admission.admit(a).expect("the place that came back");
        drop(third);
        assert_eq!(admission.counts().of.len(), 1, "who has none is not remembered");
    }
}
