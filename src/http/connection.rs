//! One accepted connection, shared by what is sent on it and the watch.

use std::{
    io,
    net::{IpAddr, Shutdown},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::mpsc::{self, error::TrySendError},
};
use tracing::debug;

use super::{account::Account, ends::Ends, queue::Queue};
use crate::{
    boot::over::Of,
    net::tcp_info::{TcpInfo, tcp_info},
    timeline::{
        event::{Event, What, Who, count_lost},
        peer::Sample,
        transfer::{Failure, Part, Pause},
    },
};

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) ends: Ends,
    /// Of `TCP_INFO` before the first byte was sent.
    acked_before: u64,
    /// Something began or is all in the kernel's hands: the watch looks soon.
    has_changed: AtomicBool,
    account: Mutex<Account>,
    pub(super) queue: Queue,
    /// See [`Connection::cork`].
    is_corked: AtomicBool,
    /// The transfer on its way has paused, as far as was looked.
    is_paused: AtomicBool,
    events: mpsc::Sender<Event>,
    /// Transfers of all connections that are not at their end.
    running: Arc<AtomicUsize>,
    /// Whose the transfers on it are.
    whose: Mutex<Option<Who>>,
}

/// Who a request is from that says nothing of it.
fn by_address(ends: Ends) -> Option<Who> {
    match ends.peer.ip() {
        IpAddr::V4(address) => Some(Who::Address(address)),
        IpAddr::V6(_) => None,
    }
}

impl Connection {
    /// # Errors
    /// Those of the socket.
    pub(super) fn new(
        stream: TcpStream,
        ends: Ends,
        queue: Queue,
        events: mpsc::Sender<Event>,
        running: Arc<AtomicUsize>,
    ) -> io::Result<Self> {
        let acked_before = tcp_info(&stream)?.bytes_acked;
        queue.begin(&stream)?;
        Ok(Self {
            stream,
            ends,
            acked_before,
            has_changed: AtomicBool::new(false),
            account: Mutex::default(),
            queue,
            is_corked: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            events,
            running,
            whose: Mutex::default(),
        })
    }

    /// A body is about to be sent.
    pub(super) fn begin(&self, of: Of, name: String, length: u64, part: Option<Part>, who: Option<Who>) {
        // Its request came behind the acknowledgement of what was sent before: the old transfer's end is reported first.
        if self.account().is_busy() {
            let _ = self.look();
        }
        let mut part = part;
        let mut whose = self.whose.lock().unwrap_or_else(PoisonError::into_inner);
        let who = who.or_else(|| by_address(self.ends));
        if self.account().is_busy() && *whose != who {
            // A proxy sends the request of one machine behind that of another, and which of them an acknowledgement is of
            // is not known: it counts for neither.
            *whose = None;
            let size = length;
            part = Some(Part { is_look: true, ..part.unwrap_or(Part { start: 0, whole: size, is_look: true }) });
        } else {
            *whose = who;
        }
        drop(whose);
        self.running.fetch_add(1, Ordering::Relaxed);
        self.account().begin_part(of, name, length, part, Instant::now());
        self.has_changed.store(true, Ordering::Relaxed);
    }

    /// Whether there is something to look after that was not there before. It is set while requests are served, in
    /// the task that asks.
    pub(super) fn has_changed(&self) -> bool {
        self.has_changed.swap(false, Ordering::Relaxed)
    }

    /// Bytes that are no part of a body went out.
    pub(super) fn wrote(&self, count: usize) {
        if self.account().wrote(count) {
            self.has_changed.store(true, Ordering::Relaxed);
        }
    }

    /// Bytes of a body went out. Whether they were the last ones of it.
    pub(super) fn wrote_of_body(&self, count: usize) -> bool {
        let mut account = self.account();
        let is_end = account.wrote_of_body(count);
        let on_its_way = account.on_its_way();
        drop(account);
        if let Some((written, began)) = on_its_way {
            self.queue.wrote(&self.stream, written, || began.elapsed());
        }
        if is_end | self.is_paused.swap(false, Ordering::Relaxed) {
            self.has_changed.store(true, Ordering::Relaxed);
        }
        is_end
    }

    /// Whether the kernel keeps back what does not fill a segment (`TCP_CORK`, tcp(7)).
    pub(super) fn cork(&self, is_corked: bool) {
        if self.is_corked.swap(is_corked, Ordering::Relaxed) != is_corked
            && let Err(error) = SockRef::from(&self.stream).set_tcp_cork(is_corked)
        {
            debug!(%error, "could not set TCP_CORK");
        }
    }

    /// Why the body on its way cannot be sent to its end.
    pub(super) fn fail(&self, failure: &str) {
        self.account().fail(failure);
    }

    /// Whether the client has everything that was sent, as far as was looked.
    pub(super) fn is_settled(&self) -> bool {
        self.account().is_settled()
    }

    /// Whether all that was promised to the client is in the kernel's hands.
    pub(super) fn is_given(&self) -> bool {
        self.account().is_given()
    }

    /// Asks the kernel how far the client is, and reports transfers that it has whole.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) fn look(&self) -> io::Result<Look> {
        let info = tcp_info(&self.stream)?;
        let at = Instant::now().checked_sub(info.last_ack_recv).unwrap_or_else(Instant::now);
        let told = self.account().acknowledged(info.bytes_acked.saturating_sub(self.acked_before), at);
        self.tell(told);
        Ok(Look { sample: sample(&info), is_closed: info.is_closed })
    }

    /// Tells that the transfer on its way pauses, or that it goes on.
    pub(super) fn tell_pace(&self, pause: Option<Pause>) {
        self.is_paused.store(pause.is_some(), Ordering::Relaxed);
        let told = self.account().pace(pause);
        self.tell(told);
    }

    /// Reports a client that fell silent at the very end, as one does that has started what it loaded; whether it has.
    pub(super) fn tell_silent(&self, sample: &Sample) -> bool {
        let told = self.account().silent(sample);
        let is_silent = told.is_some();
        self.tell(told);
        is_silent
    }

    /// Tells the end of everything on its way: the connection is over.
    pub(super) fn give_up(&self, why: Failure) {
        let told = self.account().give_up(why, Instant::now());
        self.tell(told);
    }

    /// Lets the kernel forget what it still holds for the client when the connection is closed. For one that is dead it
    /// would go on sending for a quarter of an hour.
    pub(super) fn abandon(&self) {
        if let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) {
            debug!(%error, "could not set a dead connection to be reset");
        }
    }

    pub(super) fn shut_down_writing(&self) -> io::Result<()> {
        match SockRef::from(&self.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, told: impl IntoIterator<Item = What>) {
        for what in told {
            if matches!(what, What::Transfer(_) | What::Part(..)) {
                self.running.fetch_sub(1, Ordering::Relaxed);
            }
            let Some(who) = *self.whose.lock().unwrap_or_else(PoisonError::into_inner) else { continue };
            let is_end = matches!(what, What::Transfer(_) | What::Part(..) | What::Silent(_));
            match self.events.try_send(Event { who, what }) {
                // The end of a file may be what uses a one-time profile up: that waits for its turn.
                Err(TrySendError::Full(event)) if is_end && Handle::try_current().is_ok() => {
                    let events = self.events.clone();
                    tokio::spawn(async move { events.send(event).await });
                }
                Err(_) => {
                    count_lost();
                    debug!("an event was dropped: the event queue is full");
                }
                Ok(()) => {}
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.give_up(Failure::Ours("the server stopped".into()));
    }
}

/// What the kernel said of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) sample: Sample,
    pub(super) is_closed: bool,
}

fn sample(info: &TcpInfo) -> Sample {
    Sample {
        unacked: info.unacked,
        notsent: info.notsent,
        since_ack: info.last_ack_recv,
        retransmits: info.retransmits,
        probes: info.probes,
        acked: info.bytes_acked,
        // Nothing in flight although something waits: an old kernel shows a closed window so.
        window_closed: info.window.map_or(info.unacked == 0 && info.notsent > 0, |window| window == 0),
    }
}
