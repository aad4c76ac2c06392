//! Requests that wait: a one-time profile begins when that outlives a restart of this server. Else the machine could be
//! given it again.

use std::{
    collections::BTreeMap,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use super::{
    packet::ReadRequest,
    requests::{Asked, Begins},
    running::Client,
};
use crate::timeline::kept::{Kept, Waiting};

/// See the module. A request and its text, by the number under which it waits.
pub(super) struct Held {
    waiting: BTreeMap<u64, (Instant, Request)>,
    next: u64,
    told: mpsc::Receiver<Told>,
    tell: mpsc::Sender<Told>,
    /// Wakes the server, which waits for sockets and not for channels.
    wake: PipeReader,
    waker: Arc<PipeWriter>,
}

/// The number of a request, and whether its beginning is kept.
type Told = (u64, bool);

/// A request that waits.
pub(super) struct Request {
    pub(super) client: Client,
    pub(super) request: ReadRequest,
    /// As it came.
    pub(super) datagram: Vec<u8>,
    /// What it gets when the beginning is kept.
    pub(super) asked: Asked,
    /// What it gets else.
    pub(super) begins: Begins,
}

/// Tells that a beginning is kept; when it is dropped, that it is not, if nothing was said before.
#[derive(Debug)]
struct Begun {
    number: u64,
    tell: mpsc::Sender<Told>,
    waker: Arc<PipeWriter>,
}

impl Begun {
    fn tell(&self, is_kept: bool) {
        // If the server has stopped, nobody waits.
        if self.tell.send((self.number, is_kept)).is_ok() {
            let _ = (&*self.waker).write_all(b"!");
        }
    }
}

impl Waiting for Begun {
    fn is_kept(&self) {
        self.tell(true);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.tell(false);
    }
}

impl Held {
    pub(super) fn new() -> io::Result<Self> {
        let ((wake, waker), (tell, told)) = (io::pipe()?, mpsc::channel());
        Ok(Self { waiting: BTreeMap::new(), next: 0, told, tell, wake, waker: Arc::new(waker) })
    }

    /// Whether there is room for one more: a stranger can ask in the name of every machine.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MOST
    }

    /// Keeps a request until the returned value is used or dropped, or until [`Self::overdue`].
    pub(super) fn put(&mut self, request: Request, now: Instant) -> Kept {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, (now + LONGEST_WAIT, request));
        Kept::new(Begun { number, tell: self.tell.clone(), waker: Arc::clone(&self.waker) })
    }

    /// Whether this very request waits already: clients repeat it.
    pub(super) fn is_repetition(&self, client: Client, datagram: &[u8]) -> bool {
        self.waiting.values().any(|(_, waits)| waits.client == client && waits.datagram == datagram)
    }

    /// A client that asks for something else does not wait any more.
    pub(super) fn forget(&mut self, client: Client) {
        self.waiting.retain(|_, (_, waits)| waits.client != client);
    }

    /// The requests that need not wait any more, and whether their beginning is kept.
    pub(super) fn told(&mut self) -> Vec<(Request, bool)> {
        // A byte for each message, which are there already.
        let _ = self.wake.read(&mut [0; MOST]);
        let told: Vec<Told> = self.told.try_iter().collect();
        let ended = |(number, is_kept): Told| Some((self.waiting.remove(&number)?.1, is_kept));
        told.into_iter().filter_map(ended).collect()
    }

    /// When the next one has waited too long. They all wait the same time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, (until, _))| *until)
    }

    /// One that has waited too long.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Request> {
        self.next().filter(|until| *until <= now)?;
        self.waiting.pop_first().map(|(_, (_, waits))| waits)
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Requests at once.
const MOST: usize = 1024;
/// As long as a script waits by HTTP. PXELINUX repeats its request for a minute and longer (core/fs/pxe/tftp.c,
/// `TimeoutTable`), U-Boot ten times every 5 s (net/tftp.c).
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use bytes::Bytes;

    use super::*;
    use crate::{
        boot::{beginning::Beginning, mac::MacAddr, outcome::Outcome, over::Of, roster::Roster, script::Script},
        tftp::{packet::Packet, source::Source},
    };

    const RRQ: &[u8] = b"\0\x01f\0octet\0";

    fn client(port: u16) -> Client {
        (0, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
    }

    fn request(port: u16) -> Request {
        let Ok(Packet::Read(request)) = Packet::parse(RRQ) else { panic!("a request") };
        let source = Source::Memory(Bytes::from_static(b"f"));
        let refusal = Script { text: "why".into(), outcome: Outcome::Bootstrap };
        Request {
            client: client(port),
            request,
            datagram: RRQ.to_vec(),
            asked: Asked { name: "f".into(), source, of: Of::Asset, begins: None },
            begins: Begins {
                machine: MacAddr([2; 6]).into(),
                beginning: Box::new(Beginning::new(refusal, None, &Roster::default())),
            },
        }
    }

    #[test]
    fn a_request_waits_until_it_is_known_whether_its_beginning_is_kept() {
        let (mut held, now) = (Held::new().expect("a pipe"), Instant::now());
        let told = |held: &mut Held| -> Vec<(u16, bool)> {
            held.told().into_iter().map(|(waits, is_kept)| (waits.client.1.port(), is_kept)).collect()
        };
        let kept = held.put(request(1), now);
        assert!(held.is_repetition(client(1), RRQ) && !held.is_repetition(client(2), RRQ));
        kept.tell();
        assert_eq!(told(&mut held), [(1, true)]);
        drop((kept, held.put(request(2), now)));
        assert_eq!(told(&mut held), [(2, false)], "nobody will say it any more");

        let _kept = held.put(request(3), now);
        assert_eq!(held.next(), Some(now + LONGEST_WAIT));
        assert!(held.overdue(now).is_none());
        assert_eq!(held.overdue(now + LONGEST_WAIT).map(|waits| waits.client.1.port()), Some(3));
        let kept = held.put(request(4), now);
        held.forget(client(4));
        kept.tell();
        assert!(told(&mut held).is_empty() && held.next().is_none());
    }
}
