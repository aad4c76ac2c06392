//! A standby answers a machine that another server has not answered (`dhcp.answer_after`).
//!
//! It waits for a second DISCOVER: a machine that was answered sends none. All later requests of a boot go to the server
//! that was chosen, so they are answered at once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::boot::mac::MacAddr;

/// The machines that ask.
#[derive(Debug, Default)]
pub struct Standby {
    asking: HashMap<MacAddr, Asking>,
}

#[derive(Debug)]
struct Asking {
    first: Instant,
    last: Instant,
    /// Firmware and iPXE are two clients, one after the other.
    is_ipxe: bool,
}

impl Standby {
    /// The largest number of machines that is remembered. The one that was silent the longest is forgotten.
    const MOST: usize = 4096;

    /// How long the answer to a DISCOVER has to wait; none: it is not answered. `secs`: how long the machine has asked by
    /// its own count (RFC 2131 §2), which also counts what did not reach us.
    pub fn wait(&mut self, mac: MacAddr, is_ipxe: bool, secs: u16, after: Duration, now: Instant) -> Option<Duration> {
        if after.is_zero() || Duration::from_secs(secs.into()) >= after.max(Duration::from_secs(1)) {
            return Some(Duration::ZERO);
        }
        let is_same = |asking: &&mut Asking| asking.is_ipxe == is_ipxe && now.duration_since(asking.last) < ONE_TRY;
        if let Some(asking) = self.asking.get_mut(&mac).filter(is_same) {
            asking.last = now;
            return Some(after.saturating_sub(now.duration_since(asking.first)));
        }
        if self.asking.len() >= Self::MOST {
            let oldest = self.asking.iter().min_by_key(|(_, asking)| asking.last).map(|(mac, _)| *mac);
            oldest.map(|mac| self.asking.remove(&mac));
        }
        self.asking.insert(mac, Asking { first: now, last: now, is_ipxe });
        None
    }
}

/// The longest time between two DISCOVERs of one try: PXE 2.1 §2.2.2 doubles it up to 32 seconds.
const ONE_TRY: Duration = Duration::from_secs(40);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2; 6]);

    /// What becomes of DISCOVERs at these tenths of a second.
    fn waits(is_ipxe: bool, after: u64, tenths: &[u64]) -> Vec<Option<u64>> {
        let (mut standby, start) = (Standby::default(), Instant::now());
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let wait =
            |at| standby.wait(MAC, is_ipxe, 0, Duration::from_secs(after), at).map(|wait| wait.as_millis() as u64);
        tenths.iter().map(|tenths| at(*tenths)).map(wait).collect()
    }

    #[test]
    fn a_machine_is_answered_from_its_second_request_on() {
        // Firmware (PXE 2.1 §2.2.2), and iPXE (net/retry.c), which gives up three seconds after its first.
        assert_eq!(waits(false, 2, &[0, 40, 120, 280]), [None, Some(0), Some(0), Some(0)]);
        assert_eq!(waits(true, 2, &[0, 10]), [None, Some(1000)]);
        assert_eq!(waits(false, 0, &[0]), [Some(0)], "no standby");
        // The next boot begins anew.
        assert_eq!(waits(false, 2, &[0, 600, 640]), [None, None, Some(0)]);
    }

    #[test]
    fn ipxe_after_firmware_is_a_first_request_and_a_machine_may_count_itself() {
        let (mut standby, now, after) = (Standby::default(), Instant::now(), Duration::from_secs(2));
        assert_eq!(standby.wait(MAC, false, 0, after, now), None);
        assert_eq!(standby.wait(MAC, true, 0, after, now + Duration::from_secs(5)), None);
        assert_eq!(standby.wait(MAC, true, 4, after, now + Duration::from_secs(5)), Some(Duration::ZERO));
    }

    #[test]
    fn memory_is_limited() {
        let (mut standby, now) = (Standby::default(), Instant::now());
        for number in 0..10_000_u32 {
            let [a, b, c, d] = number.to_be_bytes();
            standby.wait(MacAddr([2, 0, a, b, c, d]), false, 0, Duration::from_secs(2), now);
        }
        assert_eq!(standby.asking.len(), Standby::MOST);
    }
}
