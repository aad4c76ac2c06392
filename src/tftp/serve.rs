//! The loop: one thread for all transfers, so that a packet costs no hop between threads, and no more than the calls
//! that take it and answer it.

use std::{
    io::{self, Read as _},
    net::SocketAddrV4,
    os::fd::OwnedFd,
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

pub use super::requests::{Doors, Inside, Listener, Ports, Stage, doors};
use super::{
    apart::{Apart, Cancel},
    asker::Returns,
    bounds::{News, Paths},
    gone::{Ended, Gone},
    requests::Door,
    run::{Ending, Left},
    running::{self, Place, Running, Table},
    token::Token,
    transfer::End,
};

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

pub(super) struct Loop {
    pub(super) stage: Stage,
    /// In the order in which they came; `None` for one that has gone, whose transfers still bear its number.
    pub(super) listeners: Vec<Option<Listener>>,
    pub(super) epoll: OwnedFd,
    pub(super) transfers: Table,
    pub(super) paths: Paths,
    pub(super) news: News,
    pub(super) returns: Returns,
    pub(super) gone: Gone,
    pub(super) ended: Ended,
    pub(super) apart: Apart,
    /// `None` from the time on when there will be no more requests.
    pub(super) doors: Option<Inside>,
    /// Room to build packets in.
    pub(super) packets: Vec<u8>,
}

impl Loop {
    fn new(stage: Stage, doors: Inside) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let apart = Apart::new()?;
        epoll::add(&epoll, &doors.wake, Token::Doors.into(), EventFlags::IN)?;
        epoll::add(&epoll, &apart, Token::Apart.into(), EventFlags::IN)?;
        let limits = running::Limits { total: stage.max_transfers, silent_per_address: stage.max_transfers_per_client };
        let transfers = Table::new(limits);
        let (paths, news, returns, packets) = (Paths::default(), News::default(), Returns::default(), Vec::new());
        let (listeners, gone, ended, doors) = (Vec::new(), Gone::default(), Ended::default(), Some(doors));
        Ok(Self { stage, listeners, epoll, transfers, paths, news, returns, gone, ended, apart, doors, packets })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        while self.doors.is_some() || !self.transfers.is_empty() {
            events.clear();
            let wait = self.transfers.next_alarm().map(|at| at.saturating_duration_since(Instant::now()));
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
                }
            }
            self.ring();
            // Nobody waits minutes for a server to stop because of a client that may be switched off.
            if self.doors.is_none() {
                self.transfers.silent().into_iter().for_each(|number| self.end(number, Ending::Stopping));
            }
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

    /// One datagram: lock-step has no second one, and epoll tells of a port until it is empty.
    pub(super) fn receive(&mut self, number: usize) {
        let mut buffer = [0; LONGEST_REQUEST];
        let Some(run) = self.transfers.run(number) else { return };
        match run.port.clone().try_receive(&mut buffer) {
            Ok(Some((datagram, from))) => self.received(number, datagram, from),
            Ok(None) => {}
            Err(error) => warn!(%error, "receiving for a TFTP transfer failed"),
        }
    }

    pub(super) fn received(&mut self, number: usize, datagram: &[u8], from: SocketAddrV4) {
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

    pub(super) fn end(&mut self, number: usize, ending: Ending) {
        if let Some(running) = self.transfers.remove(number) {
            self.tell_end(running, ending);
        }
    }

    /// Its port is closed with it, which takes it from the epoll as well, where nobody may come back to it.
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
            // Its thread tells.
            Place::Apart { .. } => {}
        }
    }

    fn leave_open(&mut self, left: Option<Left>) {
        if let Some((port, peer)) = left.filter(|_| self.stage.ports != Ports::Single) {
            self.gone.keep(port, peer, Instant::now(), &self.epoll, |number| Token::Gone(number).into());
        }
    }
}

/// Events in one call.
const EVENTS: usize = 128;
/// An ACK has 4 bytes and a request rarely more than 100.
pub(super) const LONGEST_REQUEST: usize = 2048;
/// Until a server that stops looks again whether those that are left are silent.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// Blocks that a client has acknowledged before its transfer is worth a thread: a size probe, a script or a small file
/// never is.
const PROVED: u64 = 16;
