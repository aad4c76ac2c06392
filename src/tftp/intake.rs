//! Receives the packets of the listeners: new requests, and packets of transfers that run or have ended.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::event::epoll::{self, EventFlags};
use tracing::{error, warn};

use super::{
    gone::tell_it_is_over,
    held,
    packet::{Packet, ReadRequest},
    requests::{Asked, Begins, Ports, news},
    run::{Ending, LastHeard, Run, tell, tell_of},
    running::Client,
    serve::{LONGEST_REQUEST, Loop},
    source::Source,
    token::Token,
    transfer::{Limits, Transfer},
};
use crate::{
    boot::reason::Reason,
    timeline::event::{What, Who},
};

impl Loop {
    /// Receives requests. The number per call is limited, so that a flood of requests does not stop the running
    /// transfers.
    pub(super) fn listen(&mut self, index: usize) {
        let mut buffer = [0; LONGEST_REQUEST];
        for _ in 0..REQUESTS_AT_ONCE {
            let Some(Some(listener)) = self.listeners.get(index) else { return };
            match listener.port.clone().try_receive(&mut buffer) {
                Ok(Some((datagram, peer))) => {
                    let taken = catch_unwind(AssertUnwindSafe(|| self.take(datagram, (index, peer))));
                    match taken {
                        Ok(Ok(())) => {}
                        Ok(Err(why)) => self.refuse(&why, (index, peer)),
                        Err(_) => {
                            error!(%peer, "a TFTP request was lost because of a bug in netbootd; see the log line above")
                        }
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    warn!(%error, "cannot receive TFTP requests");
                    // The same error can repeat very fast, for example while an interface is away. Wait before the next
                    // try.
                    thread::sleep(PAUSE_AFTER_ERROR);
                    return;
                }
            }
        }
    }

    /// Handles a datagram: it belongs to a running transfer, starts a new one, or is refused.
    fn take(&mut self, datagram: &[u8], client: Client) -> Result<(), Reason> {
        let packet = match Packet::parse(datagram) {
            // A transfer with a port of its own ignores such a packet, too: an ERROR would end it at the client.
            Err(_) if self.stage.ports == Ports::Single && self.transfers.of_client(client).is_some() => return Ok(()),
            parsed => parsed?,
        };
        let request = match packet {
            Packet::Read(request) => request,
            Packet::Write => return Err(Reason::Write),
            Packet::Ack(_) | Packet::Error { .. } | Packet::Other(_) => {
                self.continued(datagram, client);
                return Ok(());
            }
        };
        let is_repetition = self.transfers.is_repetition(client, datagram) || self.held.is_repetition(client, datagram);
        if self.doors.is_none() || is_repetition {
            return Ok(());
        }
        self.begin(request, datagram, client)
    }

    /// Handles a packet of a transfer, if all share one port. With a port for each transfer, or if the transfer has
    /// ended, the client did not receive the end of its own.
    fn continued(&mut self, datagram: &[u8], client: Client) {
        if self.stage.ports == Ports::Single {
            if let Some(number) = self.transfers.of_client(client) {
                return self.received(number, datagram, client.1);
            }
            if self.ended.is_recent(client, Instant::now()) {
                return;
            }
        }
        if let Some(Some(listener)) = self.listeners.get(client.0) {
            tell_it_is_over(&listener.port, client.1, datagram);
        }
    }

    fn begin(&mut self, request: ReadRequest, datagram: &[u8], client: Client) -> Result<(), Reason> {
        // The old transfer of this address and port ends here, and the new one uses its slot.
        if let Some(number) = self.transfers.of_client(client) {
            // Its client may just have reported the end.
            if self.stage.ports != Ports::Single {
                self.receive(number);
            }
            self.end(number, Ending::Replaced);
        }
        self.held.forget(client);
        let Some(Some(listener)) = self.listeners.get(client.0) else { return Ok(()) };
        let now = Instant::now();
        let mut asked = self.stage.asked(listener, &request, client.1, (&mut self.returns, now))?;
        let Some(begins) = asked.begins.take() else { return self.start(&request, datagram, client, asked) };
        if !self.held.has_room() {
            return Err(Reason::Busy("in total"));
        }
        let who = Who::Machine(begins.machine);
        let waits = held::Request { client, request, datagram: datagram.to_vec(), asked, begins };
        let kept = self.held.put(waits, now);
        tell_of(&self.stage.events, who, What::Kept(kept));
        Ok(())
    }

    /// It is kept that a machine begins its one-time profile, or it is known that it cannot be.
    pub(super) fn let_go_on(&mut self) {
        for (waits, is_kept) in self.held.told() {
            if !is_kept {
                self.say_why_not(waits);
                continue;
            }
            let held::Request { client, request, datagram, asked, begins: Begins { machine, beginning } } = waits;
            // Its client repeats a request that is not answered, and then gets the script as it is now.
            if !beginning.fits(machine, &self.stage.live.roster.load()) {
                continue;
            }
            self.start(&request, &datagram, client, asked).unwrap_or_else(|why| self.refuse(&why, client));
        }
    }

    /// It is not kept, or not in time.
    pub(super) fn say_why_not(&mut self, waits: held::Request) {
        let held::Request { client, request, datagram, asked, begins: Begins { machine, beginning } } = waits;
        let refusal = beginning.refusal;
        tell_of(&self.stage.events, Who::Machine(machine), What::Script(refusal.outcome));
        let asked = Asked { source: Source::Memory(refusal.text.into()), ..asked };
        self.start(&request, &datagram, client, asked).unwrap_or_else(|why| self.refuse(&why, client));
    }

    fn start(
        &mut self,
        request: &ReadRequest,
        datagram: &[u8],
        client: Client,
        Asked { name, source, of, .. }: Asked,
    ) -> Result<(), Reason> {
        let began = Instant::now();
        for left in self.transfers.left_behind(client) {
            tell(&self.stage.events, client.1, What::Transfer(left));
        }
        let evicted = self.transfers.make_room(client, began)?;
        evicted.into_iter().for_each(|running| self.tell_end(running, Ending::Evicted));
        let Some(Some(listener)) = self.listeners.get(client.0) else { return Ok(()) };
        let of_path = self.paths.block_size(*client.1.ip(), began).unwrap_or(u16::MAX);
        let of_link = listener.link_block_size.load(Ordering::Relaxed);
        let block_size = listener.limits.block_size.min(of_path).min(of_link);
        let limits = Limits { block_size, ..listener.limits };
        let port = self.stage.port(listener, &name).or_else(|_| {
            self.gone.forget();
            self.stage.port(listener, &name)
        })?;
        let (transfer, first) = Transfer::begin(request, source.size(), limits, began);
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
            reported: None,
            is_paused: false,
            is_told_silent: false,
            events: self.stage.events.clone(),
            is_look: request.is_look,
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

    fn refuse(&mut self, why: &Reason, (index, peer): Client) {
        if let Some(Some(listener)) = self.listeners.get(index) {
            listener.refuse(why, peer);
        }
        let Some(news) = news(why) else { return };
        // Loaders look for many files in vain: these must not use up the limit of the refusals.
        let limit = if matches!(news, What::NotHere(_)) { &mut self.in_vain } else { &mut self.news };
        if limit.may_tell(Instant::now()) {
            tell(&self.stage.events, peer, news);
        }
    }
}

/// A fraction of a millisecond. During a flood, this is added to every round trip.
const REQUESTS_AT_ONCE: usize = 8;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
