//! Talks with the person who started the server: what to check where no machine comes, and whether machines that no rule
//! names may boot.

use std::{
    collections::{HashSet, VecDeque},
    io::{self, BufRead as _},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::sleep,
};
use tracing::{info, warn};

use crate::{
    boot::{identity::MachineId, reason::Reason},
    dhcp::request::Request,
    net::makers::Makers,
    status::server::Server,
    timeline::{
        boot::Ending,
        event::Who,
        machines::{Line, Machine},
        stage::Stage,
    },
};

/// How to talk.
#[derive(Clone, Debug, Default)]
pub struct Talk {
    /// Ask about machines that no rule names: standard input is a terminal, and only known machines are answered.
    pub asks: bool,
    /// Makers of network cards, for the questions.
    pub makers: Arc<Makers>,
}

/// Talks for as long as the server runs. `on` are the interfaces in words.
pub(super) async fn follow(server: Arc<dyn Server>, talk: Talk, on: String) {
    tokio::join!(hint(&*server, &on), Questions::new(server.clone(), talk).follow());
}

/// Says once what to check, if no machine was heard for a while.
async fn hint(server: &dyn Server, on: &str) {
    sleep(QUIET).await;
    if server.snapshot().await.machines.is_empty() {
        info!(
            "no machine has asked for a boot within {} s on {on}: switch one on, choose the network (PXE) first in its \
             boot order, and check that its cable is in this network; netbootd doctor looks for other causes",
            QUIET.as_secs()
        );
    }
    std::future::pending().await
}

/// An answer of the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    /// This boot.
    Yes,
    /// Not in this run.
    No,
    /// From now on.
    Always,
}

impl Reply {
    fn of(line: &str) -> Option<Self> {
        match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Some(Self::Yes),
            "n" | "no" => Some(Self::No),
            "a" | "always" => Some(Self::Always),
            _ => None,
        }
    }
}

struct Questions {
    server: Arc<dyn Server>,
    talk: Talk,
    /// Machines that were asked about, or are to be.
    known: HashSet<MachineId>,
    /// The first one was asked about.
    waiting: VecDeque<(MachineId, String)>,
    /// Machines that may boot once.
    once: HashSet<MachineId>,
}

impl Questions {
    fn new(server: Arc<dyn Server>, talk: Talk) -> Self {
        Self { server, talk, known: HashSet::new(), waiting: VecDeque::new(), once: HashSet::new() }
    }

    async fn follow(mut self) {
        // From the first step on: a machine may have asked before this listens, and is not reported again in that boot.
        let steps = if self.talk.asks { self.server.steps(Some(0)).await } else { None };
        let Some(mut steps) = steps else { return std::future::pending().await };
        for told in std::mem::take(&mut steps.before) {
            self.told(&told.line).await;
        }
        let mut lines = typed();
        loop {
            tokio::select! {
                told = steps.coming.recv() => match told {
                    Ok(told) => self.told(&told.line).await,
                    // What was missed comes again: firmware repeats its requests.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return std::future::pending().await,
                },
                line = lines.recv() => match line {
                    Some(line) => self.replied(&line).await,
                    // The terminal is gone, and the server is not.
                    None => return std::future::pending().await,
                },
            }
        }
    }

    async fn told(&mut self, Line { who, step }: &Line) {
        let Who::Machine(machine) = *who else { return };
        match step.stage {
            Stage::Refused if !self.known.contains(&machine) && self.known.len() < MOST => {
                let snapshot = self.server.snapshot().await;
                let Some(seen) = snapshot.find(*who) else { return };
                let Some(boot) = seen.boot() else { return };
                let is_unknown = |ending: &Ending| matches!(ending, Ending::Refused { label, .. } if label == Reason::Unknown.label());
                if boot.ending.as_ref().is_some_and(is_unknown) {
                    self.known.insert(machine);
                    let question = question(&client(seen), machine, &self.talk.makers);
                    self.waiting.push_back((machine, question));
                    self.ask_if(self.waiting.len() == 1);
                }
            }
            Stage::HandedOver if self.once.remove(&machine) => self.approve(machine, false).await,
            _ => {}
        }
    }

    /// Asks about the first machine that waits.
    fn ask_if(&self, is_its_turn: bool) {
        if let Some((_, question)) = self.waiting.front().filter(|_| is_its_turn) {
            info!("{question}");
        }
    }

    async fn replied(&mut self, line: &str) {
        let Some((machine, _)) = self.waiting.front().cloned() else { return };
        match Reply::of(line) {
            None => return self.ask_if(true),
            Some(Reply::No) => info!("{machine} is not answered in this run"),
            Some(Reply::Yes) => {
                self.once.insert(machine);
                self.approve(machine, true).await;
                info!("{machine} may boot this time; its firmware asks again within some seconds");
            }
            Some(Reply::Always) => {
                self.approve(machine, true).await;
                info!("{machine} may boot from now on; its firmware asks again within some seconds");
            }
        }
        self.waiting.pop_front();
        self.ask_if(true);
    }

    async fn approve(&self, machine: MachineId, approved: bool) {
        if let Err(refusal) = self.server.approve(machine, approved).await {
            warn!("the approval of {machine} could not be changed: {refusal}");
        }
    }
}

/// The firmware that asked, in words: a request that is refused is kept as it came.
fn client(seen: &Machine) -> String {
    let request = seen.packets.back().and_then(|packet| Request::parse(&packet.bytes).ok());
    request.and_then(|request| request.client().ok()).map_or("network boot".into(), |client| client.to_string())
}

/// `UEFI x86_64 machine 9c:8e:cd:00:00:01 (Dell Inc.) wants to boot. Allow? [y/n/always]`
fn question(client: &str, machine: MachineId, makers: &Makers) -> String {
    let maker = makers.of(machine.card.0).map(|maker| format!(" ({maker})")).unwrap_or_default();
    format!("{client} machine {}{maker} wants to boot. Allow? [y/n/always]", machine.card)
}

/// The lines that are typed. They are read by a thread of their own, which no end of the server waits for.
fn typed() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// After this time a person wonders.
const QUIET: Duration = Duration::from_secs(60);
/// The number of machines that are asked about: made-up addresses must not ask without end.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::mac::MacAddr;

    #[test]
    fn questions_name_the_maker_and_replies_are_words() {
        let makers = Makers::parse("9C-8E-CD   (hex)\t\tDell Inc.\n");
        let asked = |mac: [u8; 6]| question("UEFI x86_64", MacAddr(mac).into(), &makers);
        let dell = "UEFI x86_64 machine 9c:8e:cd:00:00:01 (Dell Inc.) wants to boot. Allow? [y/n/always]";
        assert_eq!(asked([0x9c, 0x8e, 0xcd, 0, 0, 1]), dell);
        assert!(asked([0x52, 0x54, 0, 0, 0, 1]).contains("52:54:00:00:00:01 (a locally administered address) wants"));
        assert!(asked([0, 0, 0, 0, 0, 1]).contains("00:00:00:00:00:01 wants to boot"));
        let replies = ["y", " YES\n", "n", "always", "a", "perhaps", ""].map(Reply::of);
        let (yes, always) = (Some(Reply::Yes), Some(Reply::Always));
        assert_eq!(replies, [yes, yes, Some(Reply::No), always, always, None, None]);
    }
}
