//! The loop: one thread for all transfers. So a packet needs no change of threads, and only the system calls to receive
//! it and to answer it.

use std::{
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventFlags},
    },
    io::Errno,
};
use tracing::warn;

pub use super::requests::{Client, Doors, Inside, Listener, Ports, Stage, doors, look_up};
use super::{
    apart::Apart,
    asker::Returns,
    bounds::{News, Paths},
    gone::{Ended, Gone},
    held::Held,
    requests::Door,
    run::{Ending, Left},
    running::{self, Place, Running, Table},
    token::Token,
    transfer::End,
};

impl Stage {
    /// Serves until [`Doors`] is dropped, then finishes the running transfers.
    ///
    /// An error of a client ends only its own transfer.
    ///
    /// # Errors
    /// Those of system calls that the server needs.
    pub fn serve(self, doors: Inside) -> io::Result<()> {
        Loop::new(self, doors)?.serve()
    }
}

pub(super) struct Loop {
    pub(super) stage: Stage,
    /// In the order in which they were added. `None` for a removed one, because transfers still use its number.
    pub(super) listeners: Vec<Option<Listener>>,
    pub(super) epoll: OwnedFd,
    pub(super) transfers: Table,
    pub(super) paths: Paths,
    pub(super) news: News,
    /// The same for files that are not there.
    pub(super) in_vain: News,
    pub(super) returns: Returns,
    pub(super) gone: Gone,
    pub(super) ended: Ended,
    pub(super) apart: Apart,
    pub(super) held: Held,
    /// `None` when there will be no more requests.
    pub(super) doors: Option<Inside>,
    /// A buffer for packets.
    pub(super) packets: Vec<u8>,
}

impl Loop {
    fn new(stage: Stage, doors: Inside) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let (apart, held) = (Apart::new()?, Held::new()?);
        epoll::add(&epoll, &doors.wake, Token::Doors.into(), EventFlags::IN)?;
        epoll::add(&epoll, &apart, Token::Apart.into(), EventFlags::IN)?;
        epoll::add(&epoll, &held, Token::Held.into(), EventFlags::IN)?;
        let limits = running::Limits { total: stage.max_transfers, silent_per_address: stage.max_transfers_per_client };
        let transfers = Table::new(limits);
        let (paths, news, in_vain) = (Paths::default(), News::default(), News::default());
        let (returns, packets) = (Returns::default(), Vec::new());
        let (listeners, gone, ended, doors) = (Vec::new(), Gone::default(), Ended::default(), Some(doors));
        Ok(Self {
            stage,
            listeners,
            epoll,
            transfers,
            paths,
            news,
            in_vain,
            returns,
            gone,
            ended,
            apart,
            held,
            doors,
            packets,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        while self.doors.is_some() || !self.transfers.is_empty() {
            events.clear();
            let alarm = self.transfers.next_alarm().into_iter().chain(self.held.next()).min();
            let wait = alarm.map(|at| at.saturating_duration_since(Instant::now()));
            let wait = if self.doors.is_some() { wait } else { Some(wait.unwrap_or(LOOK_AROUND).min(LOOK_AROUND)) };
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
                        let left = self.apart.ended();
                        self.transfers.ended_apart();
                        self.leave_open(left);
                    }
                    Token::Gone(number) => self.gone.answer(number),
                    Token::Doors => self.open_and_close()?,
                    Token::Held => self.let_go_on(),
                }
            }
            self.ring();
            // A server that stops does not wait minutes for a client that may be switched off.
            if self.doors.is_none() {
                self.transfers.silent().into_iter().for_each(|number| self.end(number, Ending::Stopping));
            }
        }
        if self.apart.is_busy() {
            // It says how its transfer ended.
            self.apart.ended();
        }
        Ok(())
    }

    /// Handles messages from [`Doors`].
    fn open_and_close(&mut self) -> io::Result<()> {
        let Some(doors) = &mut self.doors else { return Ok(()) };
        let is_over = doors.wake.read(&mut [0; 64])? == 0;
        let changes: Vec<Door> = doors.changes.try_iter().collect();
        for door in changes {
            match door {
                Door::Open(listener) => {
                    let token = Token::Listener(self.listeners.len());
                    if let Err(error) = epoll::add(&self.epoll, &listener.port, token.into(), EventFlags::IN) {
                        warn!(%error, address = %listener.address, "cannot serve TFTP on an address");
                    }
                    self.listeners.push(Some(listener));
                }
                Door::Close(address) => self.close(address),
            }
        }
        if is_over && let Some(doors) = self.doors.take() {
            epoll::delete(&self.epoll, &doors.wake)?;
        }
        Ok(())
    }

    fn close(&mut self, address: Ipv4Addr) {
        for index in 0..self.listeners.len() {
            let place = self.listeners.get_mut(index);
            let Some(listener) = place.and_then(|place| place.take_if(|listener| listener.address == address)) else {
                continue;
            };
            // This fails if the port could not be added. It affects no other transfer.
            let _ = epoll::delete(&self.epoll, &listener.port);
            // Nothing is heard of them any more, and they would keep the port from the address when it comes back.
            if self.stage.ports == Ports::Single {
                self.transfers.of_listener(index).into_iter().for_each(|number| self.end(number, Ending::AddressGone));
            }
        }
    }

    /// Receives one datagram. In lock-step there is no second one, and epoll reports a port until it is empty.
    pub(super) fn receive(&mut self, number: usize) {
        let mut buffer = [0; LONGEST_REQUEST];
        let Some(run) = self.transfers.run(number) else { return };
        match run.port.clone().try_receive(&mut buffer) {
            Ok(Some((datagram, from))) => self.received(number, datagram, from),
            Ok(None) => {}
            Err(error) => warn!(%error, "cannot receive packets of a TFTP transfer"),
        }
    }

    pub(super) fn received(&mut self, number: usize, datagram: &[u8], from: SocketAddrV4) {
        let Some(run) = self.transfers.run(number) else { return };
        let is_at_start = run.transfer.acked_blocks() == 0;
        let end = run.receive(datagram, from, &mut self.packets);
        if is_at_start && run.transfer.acked_blocks() > 0 {
            self.paths.fits(*run.peer.ip(), run.transfer.first_block());
        }
        if let Some(end) = end {
            return self.end(number, end);
        }
        self.transfers.watch(number);
        self.let_run_apart(number);
    }

    /// If there is only one transfer, and its client answers, it moves to the thread for single transfers.
    fn let_run_apart(&mut self, number: usize) {
        if self.apart.is_busy() || self.stage.ports == Ports::Single || self.transfers.alone() != Some(number) {
            return;
        }
        let Some(run) = self.transfers.run(number).filter(|run| run.transfer.acked_blocks() >= PROVED) else { return };
        if epoll::delete(&self.epoll, &run.port).is_ok() {
            let (cancel, cancelled) = mpsc::channel();
            if let Some(run) = self.transfers.hand_over(number, cancel) {
                self.apart.drive(run, cancelled);
            }
        }
    }

    /// Does everything that is due by the clock.
    fn ring(&mut self) {
        let now = Instant::now();
        while let Some(number) = self.transfers.due(now) {
            let Some(run) = self.transfers.run(number) else { continue };
            let end = run.ring(now, &mut self.packets);
            if run.transfer.is_stuck_at_start() {
                self.paths.too_large(*run.peer.ip(), run.transfer.first_block(), now);
            }
            match end {
                Some(end) => self.end(number, end),
                None => self.transfers.watch(number),
            }
        }
        while let Some(waits) = self.held.overdue(now) {
            self.say_why_not(waits);
        }
    }

    pub(super) fn end(&mut self, number: usize, ending: Ending) {
        if let Some(running) = self.transfers.remove(number) {
            self.tell_end(running, ending);
        }
    }

    /// Closing the port also removes it from the epoll, except if the client may come back.
    pub(super) fn tell_end(&mut self, running: Running, ending: Ending) {
        match running.place {
            Place::Here(run) => {
                let is_known_to_client = matches!(ending, Ending::Protocol(End::Complete | End::Aborted(..)));
                if self.stage.ports == Ports::Single && is_known_to_client {
                    self.ended.remember(running.client, Instant::now());
                }
                self.leave_open(run.left_open(&ending));
                run.tell_end(ending);
            }
            // Its own thread reports it, except if it has just ended there.
            Place::Apart(cancel) => drop(cancel.send(ending)),
        }
    }

    fn leave_open(&mut self, left: Option<Left>) {
        if let Some((port, peer)) = left.filter(|_| self.stage.ports != Ports::Single) {
            self.gone.keep(port, peer, Instant::now(), &self.epoll, |number| Token::Gone(number).into());
        }
    }
}

/// Events per call.
const EVENTS: usize = 128;
/// An ACK has 4 bytes, and a request rarely more than 100.
pub(super) const LONGEST_REQUEST: usize = 2048;
/// How often a server that stops checks whether the remaining transfers are silent.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// The number of acknowledged blocks before a transfer gets its own thread. Size probes, scripts and small files stay
/// below it.
const PROVED: u64 = 16;
