//! Whether we may lease on a network: only if nobody else does.
//!
//! Before the first lease, and again and again, the guard asks as a client. If any other server offers or confirms an
//! address, ever, leasing on this network stops, until netbootd is started again.

use std::{fmt, net::Ipv4Addr, time::Duration};

use super::At;
use crate::boot::mac::MacAddr;

/// The guard of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    state: State,
    /// How long after the last question of a round the network is quiet.
    every: Duration,
    /// When to ask next.
    next: At,
    /// How many questions of the first round were asked.
    asked: usize,
    last: Option<At>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was leased yet: it asks first.
    Asking,
    /// Nobody else leases.
    Clear,
    /// Leasing has stopped.
    Stopped(Stop),
}

/// Why leasing on a network stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Another server leases there. What it was seen to do.
    Foreign(Ipv4Addr, Sign),
    /// Another server leases there. It has an address of ours, and this card.
    SameAddress(Ipv4Addr, MacAddr, Sign),
    /// Another netbootd begins to lease at the same moment. The one with the lower address goes on.
    Twin(Ipv4Addr),
    /// A DHCP server on this host.
    OnThisHost(String),
    /// The interface has the default route.
    DefaultRoute,
    /// We cannot listen to other servers.
    Deaf(String),
    /// The ranges do not fit the network. It goes on when they fit again.
    Unfit(String),
}

/// What another leasing server was seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It offered this address.
    Offer(Ipv4Addr),
    /// It confirmed this address.
    Ack(Ipv4Addr),
    /// It refused an address.
    Nak,
    /// A machine accepted its offer.
    Accepted,
}

impl Stop {
    /// A short fixed name, for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Foreign(..) => "foreign_server",
            Self::SameAddress(..) => "same_address",
            Self::Twin(_) => "twin",
            Self::OnThisHost(_) => "on_this_host",
            Self::DefaultRoute => "default_route",
            Self::Deaf(_) => "cannot_listen",
            Self::Unfit(_) => "range",
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GOES_ON: &str = "netbootd answers network boots beside it, and leases again only after a restart";
        match self {
            Self::Foreign(server, sign) => {
                write!(f, "the DHCP server {server} leases addresses on this network ({sign}): {GOES_ON}")
            }
            Self::SameAddress(server, card, sign) => write!(
                f,
                "the DHCP server {server} leases addresses on this network ({sign}), from another host ({card}) with an \
                 address of this one. Give one of the two another address: {GOES_ON}"
            ),
            Self::Twin(server) => {
                write!(f, "another netbootd ({server}) starts to lease on this network at the same time: {GOES_ON}")
            }
            Self::OnThisHost(who) => write!(f, "{who} on this host has UDP port 67: {GOES_ON}"),
            Self::DefaultRoute => f.write_str(
                "this host's default route is there, so it is probably a network with a DHCP server: \
                 --lease-anyway (lease.on_default_route = true) leases there if no other server answers",
            ),
            Self::Deaf(why) => write!(f, "netbootd cannot listen to other DHCP servers there: {why}"),
            Self::Unfit(why) => write!(f, "{why}; netbootd leases again when the range fits"),
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer(address) => write!(f, "it offered {address}"),
            Self::Ack(address) => write!(f, "it confirmed {address}"),
            Self::Nak => f.write_str("it refused an address"),
            Self::Accepted => f.write_str("a machine accepted its offer"),
        }
    }
}

impl Guard {
    /// Begins to ask. `every` is the time between two rounds.
    #[must_use]
    pub fn new(now: At, every: Duration) -> Self {
        Self { state: State::Asking, every, next: now, asked: 0, last: None }
    }

    /// A network that is not leased on.
    #[must_use]
    pub fn stopped(why: Stop) -> Self {
        Self { state: State::Stopped(why), every: Duration::MAX, next: At::MAX, asked: 0, last: None }
    }

    /// Whether leases may be given.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.state == State::Clear
    }

    /// Whether it asks before the first lease.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.state == State::Asking
    }

    /// Why leasing stopped.
    #[must_use]
    pub fn stop(&self) -> Option<&Stop> {
        match &self.state {
            State::Stopped(stop) => Some(stop),
            State::Asking | State::Clear => None,
        }
    }

    /// When [`Self::tick`] is due; none: never.
    #[must_use]
    pub fn next(&self) -> Option<At> {
        (self.next < At::MAX).then_some(self.next)
    }

    /// The time has come: whether to ask now.
    pub fn tick(&mut self, now: At) -> bool {
        if now < self.next || self.stop().is_some() {
            return false;
        }
        if self.state == State::Asking {
            if let Some(pause) = FIRST.get(self.asked) {
                self.asked += 1;
                self.next = now + *pause;
                self.last = Some(now);
                return true;
            }
            self.state = State::Clear;
            self.asked = 0;
            self.next = now + AGAIN.first().copied().unwrap_or_default().min(self.every);
            return false;
        }
        self.asked += 1;
        self.next = now + AGAIN.get(self.asked).copied().unwrap_or(self.every).min(self.every);
        self.last = Some(now);
        true
    }

    /// A machine asks for an address. A server that came since the last round would answer it now, so ask with it.
    pub fn machine_asks(&mut self, now: At) {
        let is_old = self.last.is_none_or(|last| now.saturating_sub(last) >= WITH_A_MACHINE.min(self.every));
        if self.is_clear() && is_old {
            self.next = now;
        }
    }

    /// The cable, the address or the interface changed: what is on the other side now is not known.
    pub fn changed(&mut self, now: At) {
        if self.stop().is_none() {
            *self = Self::new(now, self.every);
        }
    }

    /// Stops, until the next start if it is not for [`Stop::Unfit`]. Whether this is news.
    pub fn halt(&mut self, why: Stop) -> bool {
        let is_news = self.stop().is_none();
        if is_news {
            *self = Self { every: self.every, ..Self::stopped(why) };
        }
        is_news
    }

    /// The ranges fit the network. Where they did not, it begins to ask. Whether this is news.
    pub fn fits_again(&mut self, now: At) -> bool {
        let is_news = matches!(self.stop(), Some(Stop::Unfit(_)));
        if is_news {
            *self = Self::new(now, self.every);
        }
        is_news
    }

    /// Another netbootd asks before its first lease, from this address, with the number that it chose at its start. Whether
    /// it is to be answered: it hears then that we lease. If neither leases yet, the lower address begins; of two with the
    /// same address, the lower number.
    pub fn twin(&mut self, theirs: (Ipv4Addr, &str), ours: (Ipv4Addr, &str)) -> Twin {
        match self.state {
            State::Clear => Twin::Answer,
            State::Asking if theirs < ours => {
                self.halt(Stop::Twin(theirs.0));
                Twin::Stopped
            }
            State::Asking | State::Stopped(_) => Twin::Ignore,
        }
    }
}

/// What to do about another netbootd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// Offer it an address, so that it stops.
    Answer,
    /// We have stopped.
    Stopped,
    /// Nothing.
    Ignore,
}

/// The pauses after the questions before the first lease. A server that tries an address before it offers it needs up to
/// 3 s (dnsmasq's ping).
const FIRST: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(1), Duration::from_millis(4500)];
/// The pauses before the first rounds after that: a switch port can be closed for 30 to 50 s after the link came up (IEEE
/// 802.1D, listening and learning), and until then no other server hears us.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(20), Duration::from_secs(20)];
/// A machine that asks makes us ask too, if the last question is older than this.
const WITH_A_MACHINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(300);
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

    /// Milliseconds of the questions up to `until`.
    fn questions(guard: &mut Guard, from: u64, until: u64) -> Vec<u64> {
        let ms = Duration::from_millis;
        (from / 100..until / 100).map(|tenth| tenth * 100).filter(|at| guard.tick(ms(*at))).collect()
    }

    #[test]
    fn it_asks_before_the_first_lease_then_soon_then_every_five_minutes() {
        let mut guard = Guard::new(At::ZERO, EVERY);
        assert_eq!(questions(&mut guard, 0, 6500), [0, 1000, 2000]);
        assert!(guard.is_asking() && !guard.is_clear());
        assert_eq!(questions(&mut guard, 6500, 70_000), [11_500, 26_500, 46_500, 66_500]);
        assert!(guard.is_clear());
        assert_eq!(questions(&mut guard, 70_000, 700_000), [366_500, 666_500]);
    }

    #[test]
    fn a_machine_that_asks_makes_it_ask_but_not_more_often_than_every_ten_seconds() {
        let mut guard = Guard::new(At::ZERO, EVERY);
        questions(&mut guard, 0, 100_000);
        let at = Duration::from_secs;
        let last = at(66) + Duration::from_millis(500);
        guard.machine_asks(last + at(9));
        assert!(!guard.tick(last + at(9)));
        guard.machine_asks(at(100));
        assert!(guard.tick(at(100)));
        guard.machine_asks(at(101));
        assert!(!guard.tick(at(101)));
    }

    #[test]
    fn a_foreign_server_stops_it_for_good_and_a_change_of_the_link_makes_it_ask_anew() {
        let mut guard = Guard::new(At::ZERO, EVERY);
        questions(&mut guard, 0, 10_000);
        guard.changed(Duration::from_secs(10));
        assert!(!guard.is_clear(), "what is at the other end of the new cable?");
        assert_eq!(questions(&mut guard, 10_000, 16_500), [10_000, 11_000, 12_000]);
        assert!(guard.halt(Stop::Foreign(OTHER, Sign::Nak)));
        assert!(!guard.halt(Stop::DefaultRoute), "the first reason stays");
        guard.changed(Duration::from_secs(20));
        guard.machine_asks(Duration::from_secs(400));
        assert_eq!(questions(&mut guard, 20_000, 900_000), [0; 0]);
        assert_eq!(guard.stop(), Some(&Stop::Foreign(OTHER, Sign::Nak)));
        assert_eq!(guard.next(), None);
    }

    #[test]
    fn of_two_that_start_at_the_same_moment_one_leases() {
        let (first, second) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        for (low, high) in [((first, "0000000b"), (second, "0000000a")), ((first, "0000000a"), (first, "0000000b"))] {
            let (mut of_low, mut of_high) = (Guard::new(At::ZERO, EVERY), Guard::new(At::ZERO, EVERY));
            assert_eq!(of_low.twin(high, low), Twin::Ignore);
            assert_eq!(of_high.twin(low, high), Twin::Stopped);
            questions(&mut of_low, 0, 10_000);
            assert_eq!(of_low.twin(high, low), Twin::Answer, "a third one that comes later hears of us");
            assert_eq!(of_high.twin(low, high), Twin::Ignore);
        }
    }
}
