//! The loop: one thread for all transfers, so that a packet costs no hop between threads, and no more than the calls
//! that take it and answer it.

use std::{
    io::{self, Read as _},
    net::SocketAddrV4,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    io::Errno,
};
use tracing::{error, warn};

pub use super::requests::{Doors, Inside, Listener, Ports, Stage, doors};
use super::{
    apart::{Apart, Cancel},
    bounds::{News, Paths, Slots},
    packet::Packet,
    requests::{Asked, Door, is_news},
    run::{Ending, LastHeard, Run, tell},
    running::{Client, Place, Running, Table},
    transfer::{Limits, Transfer},
};
use crate::boot::{event::What, why::Why};

impl Stage {
    /// Serves until the doors are dropped, then lets what runs come to its end.
    ///
    /// What a client does ends nothing but its own transfer.
    ///
    /// # Errors
    /// Those of the system calls that no server can do without.
    pub fn serve(self, doors: Inside) -> io::Result<()> {
        Loop::new(self, doors)?.serve()
    }
}

struct Loop {
    stage: Stage,
    /// In the order in which they came; `None` for one that has gone, whose transfers still bear its number.
    listeners: Vec<Option<Listener>>,
    epoll: OwnedFd,
    transfers: Table,
    paths: Paths,
    news: News,
    apart: Apart,
    /// `None` from the time on when there will be no more requests.
    doors: Option<Inside>,
    /// Room to build packets in.
    packets: Vec<u8>,
}

impl Loop {
    fn new(stage: Stage, doors: Inside) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let apart = Apart::new()?;
        epoll::add(&epoll, &doors.wake, Token::Doors.into(), EventFlags::IN)?;
        epoll::add(&epoll, &apart, Token::Apart.into(), EventFlags::IN)?;
        let transfers = Table::new(Slots::new(stage.max_transfers, stage.max_transfers_per_client));
        let (paths, news, packets) = (Paths::default(), News::default(), Vec::new());
        let listeners = Vec::new();
        Ok(Self { stage, listeners, epoll, transfers, paths, news, apart, doors: Some(doors), packets })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        while self.doors.is_some() || !self.transfers.is_empty() {
            events.clear();
            let wait = self.transfers.next_alarm().map(|at| at.saturating_duration_since(Instant::now()));
            let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
            match epoll::wait(&self.epoll, spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match Token::from(event.data) {
                    Token::Listener(index) => self.listen(index),
                    Token::Transfer(number) => self.receive(number),
                    Token::Apart => {
                        self.apart.ended();
                        self.transfers.ended_apart();
                    }
                    Token::Doors => self.open_and_close()?,
                }
            }
            self.ring();
        }
        Ok(())
    }

    /// What the doors say.
    fn open_and_close(&mut self) -> io::Result<()> {
        let Some(doors) = &mut self.doors else { return Ok(()) };
        let is_over = doors.wake.read(&mut [0; 64])? == 0;
        for door in doors.changes.try_iter() {
            match door {
                Door::Open(listener) => {
                    let token = Token::Listener(self.listeners.len());
                    if let Err(error) = epoll::add(&self.epoll, &listener.port, token.into(), EventFlags::IN) {
                        warn!(%error, address = %listener.address, "an address is served no TFTP");
                    }
                    self.listeners.push(Some(listener));
                }
                Door::Close(address) => {
                    for place in &mut self.listeners {
                        if let Some(listener) = place.take_if(|listener| listener.address == address) {
                            // It fails where the port could not be added, which ends nobody else's transfers.
                            let _ = epoll::delete(&self.epoll, &listener.port);
                        }
                    }
                }
            }
        }
        if is_over && let Some(doors) = self.doors.take() {
            epoll::delete(&self.epoll, &doors.wake)?;
        }
        Ok(())
    }

    /// Requests, but not so many in one go that the transfers would not get their turn: under a flood there is always
    /// another one.
    fn listen(&mut self, index: usize) {
        let mut buffer = [0; LONGEST_REQUEST];
        for _ in 0..REQUESTS_AT_ONCE {
            let Some(Some(listener)) = self.listeners.get(index) else { return };
            match listener.port.clone().try_receive(&mut buffer) {
                Ok(Some((datagram, peer))) => {
                    let taken = catch_unwind(AssertUnwindSafe(|| self.take(datagram, (index, peer))));
                    match taken {
                        Ok(Ok(())) => {}
                        Ok(Err(why)) => self.refuse(&why, (index, peer)),
                        Err(_) => error!(%peer, "a fault in netbootd, which is told above, lost a TFTP request"),
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    warn!(%error, "receiving TFTP requests failed");
                    // Errors of a socket come in streams while an interface is away.
                    thread::sleep(PAUSE_AFTER_ERROR);
                    return;
                }
            }
        }
    }

    /// Takes a datagram in: it belongs to a transfer that runs, begins one, or is refused.
    fn take(&mut self, datagram: &[u8], client: Client) -> Result<(), Why> {
        let request = match Packet::parse(datagram)? {
            Packet::Read(request) => request,
            Packet::Write => return Err(Why::Write),
            // With a port for each transfer, it is meant for one that is no more. To answer could start a quarrel of
            // errors.
            Packet::Ack(_) | Packet::Error { .. } | Packet::Other(_) => {
                if self.stage.ports == Ports::Single
                    && let Some(number) = self.transfers.of_client(client)
                {
                    self.received(number, datagram, client.1);
                }
                return Ok(());
            }
        };
        if self.doors.is_none() || self.transfers.is_repetition(client, datagram) {
            return Ok(());
        }
        // The old transfer of this address and port ends here, and gives its slot to the new one.
        if let Some(number) = self.transfers.of_client(client) {
            // Its client may have said that it is over, just before.
            if self.stage.ports != Ports::Single {
                self.receive(number);
            }
            self.end(number, Ending::Replaced);
        }
        let Some(Some(listener)) = self.listeners.get(client.0) else { return Ok(()) };
        let Asked { name, source, of } = self.stage.asked(listener, &request, client.1)?;
        if let Some(evicted) = self.transfers.make_room(client)? {
            tell_end(evicted, Ending::Evicted);
        }
        let began = Instant::now();
        let of_path = self.paths.block_size(*client.1.ip(), began).unwrap_or(u16::MAX);
        let of_link = listener.link_block_size.load(Ordering::Relaxed);
        let block_size = listener.limits.block_size.min(of_path).min(of_link);
        let limits = Limits { block_size, ..listener.limits };
        let port = self.stage.port(listener, &name).inspect_err(|_| self.transfers.give_back(client))?;
        let (transfer, first) = Transfer::begin(&request, source.size(), limits, began);
        let run = Run {
            port: port.clone(),
            peer: client.1,
            transfer,
            source,
            name,
            of,
            wants_size: request.wants_size,
            heard: Arc::new(LastHeard::default()),
            began,
            told: None,
            events: self.stage.events.clone(),
        };
        let number = self.transfers.add(client, datagram.to_vec(), run);
        let heard = match self.stage.ports {
            Ports::Single => Ok(()),
            _ => epoll::add(&self.epoll, &port, Token::Transfer(number).into(), EventFlags::IN),
        };
        let end = match (heard, self.transfers.run(number)) {
            (Err(error), _) => Some(Ending::Unreadable(error.into())),
            (Ok(()), Some(run)) => run.act(first, &mut self.packets),
            (Ok(()), None) => None,
        };
        end.into_iter().for_each(|end| self.end(number, end));
        Ok(())
    }

    fn refuse(&mut self, why: &Why, (index, peer): Client) {
        if let Some(Some(listener)) = self.listeners.get(index) {
            listener.refuse(why, peer);
        }
        if is_news(why) && self.news.may_tell(Instant::now()) {
            tell(&self.stage.events, peer, What::Refused(why.clone()));
        }
    }

    /// One datagram: lock-step has no second one, and epoll tells of a port until it is empty.
    fn receive(&mut self, number: usize) {
        let mut buffer = [0; LONGEST_REQUEST];
        let Some(run) = self.transfers.run(number) else { return };
        match run.port.clone().try_receive(&mut buffer) {
            Ok(Some((datagram, from))) => self.received(number, datagram, from),
            Ok(None) => {}
            Err(error) => warn!(%error, "receiving for a TFTP transfer failed"),
        }
    }

    fn received(&mut self, number: usize, datagram: &[u8], from: SocketAddrV4) {
        let Some(run) = self.transfers.run(number) else { return };
        if let Some(end) = run.receive(datagram, from, &mut self.packets) {
            return self.end(number, end);
        }
        self.transfers.watch(number);
        self.let_run_apart(number);
    }

    /// The only transfer, once it has shown that it is one, goes to the thread for those.
    fn let_run_apart(&mut self, number: usize) {
        if self.apart.is_busy() || self.stage.ports == Ports::Single || self.transfers.alone() != Some(number) {
            return;
        }
        let Some(run) = self.transfers.run(number).filter(|run| run.transfer.acked_blocks() >= PROVED) else { return };
        if epoll::delete(&self.epoll, &run.port).is_ok() {
            let (cancel, cancelled) = Cancel::new();
            if let Some(run) = self.transfers.hand_over(number, cancel) {
                self.apart.drive(run, cancelled);
            }
        }
    }

    /// Whatever is due by the clock.
    fn ring(&mut self) {
        let now = Instant::now();
        while let Some(number) = self.transfers.due(now) {
            let Some(run) = self.transfers.run(number) else { continue };
            let end = run.ring(now, &mut self.packets);
            if run.transfer.is_stuck_at_start() {
                self.paths.too_large(*run.peer.ip(), run.transfer.block_size(), now);
            }
            match end {
                Some(end) => self.end(number, end),
                None => self.transfers.watch(number),
            }
        }
    }

    fn end(&mut self, number: usize, ending: Ending) {
        if let Some(running) = self.transfers.remove(number) {
            tell_end(running, ending);
        }
    }
}

/// Its port is closed with it, which takes it from the epoll as well.
fn tell_end(running: Running, ending: Ending) {
    match running.place {
        Place::Here(run) => run.tell_end(ending),
        // Its thread tells.
        Place::Apart { .. } => {}
    }
}

/// What an event is about.
enum Token {
    Listener(usize),
    Transfer(usize),
    Apart,
    Doors,
}

impl From<Token> for EventData {
    fn from(token: Token) -> Self {
        let (kind, number) = match token {
            Token::Transfer(number) => (0, number),
            Token::Listener(index) => (1, index),
            Token::Apart => (2, 0),
            Token::Doors => (3, 0),
        };
        Self::new_u64((number as u64) << 2 | kind)
    }
}

impl From<EventData> for Token {
    fn from(data: EventData) -> Self {
        let number = usize::try_from(data.u64() >> 2).unwrap_or(usize::MAX);
        match data.u64() & 3 {
            0 => Self::Transfer(number),
            1 => Self::Listener(number),
            2 => Self::Apart,
            _ => Self::Doors,
        }
    }
}

/// Events in one call.
const EVENTS: usize = 128;
/// An ACK has 4 bytes and a request rarely more than 100.
const LONGEST_REQUEST: usize = 2048;
/// A fraction of a millisecond, which is what a flood adds to every round trip.
const REQUESTS_AT_ONCE: usize = 8;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// Blocks that a client has acknowledged before its transfer is worth a thread: a size probe, a script or a small file
/// never is.
const PROVED: u64 = 16;
