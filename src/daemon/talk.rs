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
    boot::{identity::MachineId, live::Live, reason::Reason, strangers::Permission},
    dhcp::request::Request,
    net::makers::Makers,
    status::server::Server,
    timeline::{
        event::Who,
        machines::{Line, Machine},
        stage::Stage,
    },
};

/// How to talk.
#[derive(Clone, Debug, Default)]
pub struct Talk {
    /// Ask about machines that no rule names, where only known machines are answered: standard input is a terminal.
    pub asks: bool,
    /// Makers of network cards, for the questions.
    pub makers: Arc<Makers>,
}

/// Talks for as long as the server runs. `on` are the interfaces in words.
pub(super) async fn follow(server: Arc<dyn Server>, live: Arc<Live>, talk: Talk, on: String) {
    tokio::join!(
        async {
            if let Some(words) = hint(QUIET, async || server.snapshot().await.machines.is_empty(), &on).await {
                info!("{words}");
            }
        },
        Questions { server: server.clone(), live: live.clone(), talk, asked: HashSet::new(), waiting: VecDeque::new() }
            .follow()
    );
}

/// What to check, if no machine was heard for this long. It waits as long.
async fn hint(quiet: Duration, nobody_was_heard: impl AsyncFnOnce() -> bool, on: &str) -> Option<String> {
    sleep(quiet).await;
    nobody_was_heard().await.then(|| {
        format!(
            "no machine has asked for a boot within {} s on {on}: switch one on, choose the network (PXE) first in its \
             boot order, and check that its cable is in this network; netbootd doctor looks for other causes",
            quiet.as_secs()
        )
    })
}

/// What a person typed; `None` where it is no answer.
fn permission(line: &str) -> Option<Permission> {
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(Permission::Once),
        "n" | "no" => Some(Permission::No),
        "a" | "always" => Some(Permission::Always),
        _ => None,
    }
}

struct Questions {
    server: Arc<dyn Server>,
    live: Arc<Live>,
    talk: Talk,
    /// Machines that were asked about, or are to be, in their boot.
    asked: HashSet<MachineId>,
    /// The first one was asked about.
    waiting: VecDeque<(MachineId, String)>,
}

impl Questions {
    async fn follow(mut self) {
        // From the first step on: a machine may have asked before this listens, and is not reported again in that boot.
        let steps = if self.talk.asks { self.server.steps(Some(0)).await } else { None };
        let Some(mut steps) = steps else { return std::future::pending().await };
        for told in std::mem::take(&mut steps.before) {
            self.told(&told.line).await;
        }
        let (mut lines, server) = (typed(), self.server.clone());
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
                // Somebody may have answered on the page.
                () = server.permitted() => self.drop_answered(),
            }
        }
    }

    async fn told(&mut self, Line { who, step }: &Line) {
        let Who::Machine(machine) = *who else { return };
        match step.stage {
            Stage::Refused if !self.asked.contains(&machine) && self.asked.len() < MOST => {
                let snapshot = self.server.snapshot().await;
                let Some(seen) = snapshot.find(*who) else { return };
                // After a hand-over, a refusal is no ending of the boot that is remembered.
                if is_unknown(&step.text) && !self.is_answered(machine) {
                    self.asked.insert(machine);
                    let question = question(&client(seen), machine, &self.talk.makers);
                    self.waiting.push_back((machine, question));
                    self.ask_if(self.waiting.len() == 1);
                }
            }
            // It was allowed for one boot, and is asked about again in its next one.
            Stage::HandedOver => drop(self.asked.remove(&machine)),
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
        let Some(permission) = permission(line) else { return self.ask_if(true) };
        if let Err(refusal) = self.server.permit(machine, permission).await {
            warn!("the answer about {machine} was not kept: {refusal}");
        }
        self.drop_answered();
    }

    /// Asks about the first machine that nobody has answered about yet, if that is another one than before.
    fn drop_answered(&mut self) {
        let before = self.waiting.front().map(|(machine, _)| *machine);
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = waiting.into_iter().filter(|(machine, _)| !self.is_answered(*machine)).collect();
        self.ask_if(self.waiting.front().map(|(machine, _)| *machine) != before);
    }

    /// Whether somebody has said whether it may boot: here, on the page, or by a command.
    fn is_answered(&self, machine: MachineId) -> bool {
        let is_known = || self.live.roster.load().of(machine).is_some_and(|entry| entry.makes_known());
        self.live.rules.load().strangers.said(machine).is_some() || is_known()
    }
}

/// Whether a refusal's text says that no rule names the machine. A fix may follow in it.
fn is_unknown(text: &str) -> bool {
    let reason = Reason::Unknown.to_string();
    text.split(';').next() == reason.split(';').next()
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

    #[tokio::test]
    async fn what_to_check_is_said_once_nobody_was_heard_for_a_while() {
        let (second, began) = (Duration::from_secs(1), std::time::Instant::now());
        let words = hint(second, async || true, "eth1 (192.0.2.10)").await.expect("a hint");
        assert!(began.elapsed() >= second, "it is too early");
        let start = "no machine has asked for a boot within 1 s on eth1 (192.0.2.10): switch one on";
        assert!(words.starts_with(start) && words.contains("netbootd doctor looks for other causes"), "{words}");
        // Whether one was heard counts at the end: it may come in that time.
        let is_early = async || began.elapsed() < second * 2;
        assert_eq!(hint(second, is_early, "eth1").await, None, "somebody was heard");
        assert_eq!(QUIET, Duration::from_secs(60));
    }

    #[test]
    fn questions_name_the_maker_and_replies_are_words() {
        let makers = Makers::parse("9C-8E-CD   (hex)\t\tDell Inc.\n");
        let asked = |mac: [u8; 6]| question("UEFI x86_64", MacAddr(mac).into(), &makers);
        let dell = "UEFI x86_64 machine 9c:8e:cd:00:00:01 (Dell Inc.) wants to boot. Allow? [y/n/always]";
        assert_eq!(asked([0x9c, 0x8e, 0xcd, 0, 0, 1]), dell);
        assert!(asked([0x52, 0x54, 0, 0, 0, 1]).contains("52:54:00:00:00:01 (a locally administered address) wants"));
        assert!(asked([0, 0, 0, 0, 0, 1]).contains("00:00:00:00:00:01 wants to boot"));
        let replies = ["y", " YES\n", "n", "always", "a", "perhaps", ""].map(permission);
        let (once, always) = (Some(Permission::Once), Some(Permission::Always));
        assert_eq!(replies, [once, once, Some(Permission::No), always, always, None, None]);
    }
}
