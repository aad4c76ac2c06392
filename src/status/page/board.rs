//! All machines as rows, in the order in which they are looked at. One board is shared by all viewers: a row is made
//! once for each change of its machine, and rendered once, when somebody is shown it.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{render, words::Row};
use crate::{
    boot::{
        machine::Rules,
        roster::{Entry, Roster},
    },
    status::{api::Api, known, view},
    timeline::{cause::State, event::Who, machines, moment::Moment},
};

/// See the module.
pub(super) struct Board {
    api: Arc<Api>,
    /// Changes with each start, so that nobody goes on with the numbers of a server that has gone.
    era: String,
    last: Mutex<Option<(Instant, Arc<Picture>)>>,
}

/// All rows at one moment.
pub(super) struct Picture {
    pub(super) at: Moment,
    /// Counts the pictures.
    pub(super) number: u64,
    pub(super) rows: Vec<Arc<Line>>,
    rules: Arc<Rules>,
    roster: Arc<Roster>,
}

/// A row, and what it was made of.
pub(super) struct Line {
    pub(super) row: Row,
    /// The [`Picture::number`] that it was new in.
    pub(super) since: u64,
    key: Key,
    rank: Rank,
    html: OnceLock<String>,
}

/// What has to differ for a machine to be shown differently, beside the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// It changes when another machine uses the card.
    id: String,
    version: u64,
    state: Option<&'static str>,
    cause: Option<Cow<'static, str>>,
    said: Option<Entry>,
}

/// What stopped is first, then what is under way, then the rest as it was last heard.
type Rank = (u8, Reverse<Moment>, Who);

/// Which rows are asked for.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// Words that a row has to have.
    #[serde(default)]
    pub(super) q: String,
    /// A state that it has to be in; see [`Counts`].
    #[serde(default)]
    pub(super) state: String,
    /// More than [`SHOWN`] of them.
    #[serde(default)]
    pub(super) all: String,
}

/// How many machines are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) stopped: usize,
    pub(super) slow: usize,
    pub(super) booting: usize,
    /// What was reported counts too.
    pub(super) handed_over: usize,
    pub(super) all: usize,
}

impl Board {
    pub(super) fn new(api: Arc<Api>) -> Self {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { api, era: format!("{:x}", started.as_nanos()), last: Mutex::default() }
    }

    /// The rows as they are now, or were half a second ago.
    pub(super) async fn look(&self) -> Arc<Picture> {
        let mut last = self.last.lock().await;
        let (rules, roster) = (self.api.live.rules.load_full(), self.api.live.roster.load_full());
        if let Some((at, picture)) = &*last
            && at.elapsed() < FRESH
            && Arc::ptr_eq(&picture.rules, &rules)
            && Arc::ptr_eq(&picture.roster, &roster)
        {
            return picture.clone();
        }
        let (api, snapshot) = (self.api.clone(), self.api.server.snapshot().await);
        let before = last.as_ref().map(|(_, picture)| picture.clone());
        // The threads that serve downloads do not wait for a thousand rows.
        let made = tokio::task::spawn_blocking(move || {
            Picture::new(&api, &snapshot.machines, before.as_deref(), (rules, roster), Moment::from(SystemTime::now()))
        });
        let Ok(picture) = made.await else { return Picture::empty() };
        let picture = Arc::new(picture);
        *last = Some((Instant::now(), picture.clone()));
        picture
    }

    /// A picture's name, by which a viewer knows which one it has.
    pub(super) fn name(&self, picture: &Picture) -> String {
        format!("{}-{}", self.era, picture.number)
    }

    /// The number of the picture that a viewer has, if it is of this server.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let (era, number) = name.split_once('-')?;
        number.parse().ok().filter(|_| era == self.era)
    }
}

impl Picture {
    fn empty() -> Arc<Self> {
        let (rules, roster) = (Arc::default(), Arc::default());
        Arc::new(Self { at: Moment::default(), number: 0, rows: Vec::new(), rules, roster })
    }

    fn new(
        api: &Api,
        seen: &[machines::Machine],
        before: Option<&Self>,
        (rules, roster): (Arc<Rules>, Arc<Roster>),
        at: Moment,
    ) -> Self {
        let number = before.map_or(1, |before| before.number + 1);
        let reusable = before.filter(|before| Arc::ptr_eq(&before.rules, &rules));
        let known: HashMap<Who, &Arc<Line>> =
            reusable.iter().flat_map(|before| &before.rows).map(|line| (line.rank.2, line)).collect();
        let all = known::Known::new(&rules, &roster, seen);
        let line = |(who, machine): &known::Row<'_>| {
            let (who, machine) = (*who, *machine);
            let key = Key { id: all.id(who), ..Key::new(machine, who, (&rules, &roster), at) };
            match known.get(&who) {
                Some(line) if line.key == key => Arc::clone(line),
                _ => Arc::new(Line::new(
                    &view::Machine::new(&api.live, &*api.server, &all, (who, machine), at),
                    who,
                    key,
                    number,
                )),
            }
        };
        let mut rows: Vec<Arc<Line>> = all.rows.iter().map(line).collect();
        rows.sort_by_key(|line| line.rank);
        Self { at, number, rows, rules, roster }
    }

    /// The rows that are asked for, and how many more there would be.
    pub(super) fn select(&self, asked: &Asked) -> (Vec<Arc<Line>>, usize) {
        let words = asked.q.split_whitespace().take(WORDS).collect::<Vec<_>>().join(" ");
        let is_asked = |line: &&Arc<Line>| line.is_in(&asked.state) && view::has_words(&line.row.find, &words);
        let mut rows: Vec<Arc<Line>> = self.rows.iter().filter(is_asked).cloned().collect();
        let more = if asked.all.is_empty() { rows.len().saturating_sub(SHOWN) } else { 0 };
        rows.truncate(rows.len() - more);
        (rows, more)
    }

    pub(super) fn counts(&self) -> Counts {
        let count = |state| self.rows.iter().filter(|line| line.is_in(state)).count();
        Counts {
            stopped: count("stopped"),
            slow: count("slow_but_alive"),
            booting: count("booting"),
            handed_over: count("handed_over"),
            all: self.rows.len(),
        }
    }
}

impl Key {
    pub(super) fn new(
        machine: Option<&machines::Machine>,
        who: Who,
        (rules, roster): (&Rules, &Roster),
        at: Moment,
    ) -> Self {
        let state = machine.and_then(machines::Machine::boot).map(|boot| boot.state(at));
        let said = match who {
            Who::Machine(machine) => roster.of(known::of_rules(rules, machine)),
            Who::Address(_) => None,
        };
        Self {
            id: String::new(),
            version: machine.map_or(0, |machine| machine.version),
            state: state.as_ref().map(State::name),
            cause: match &state {
                Some(State::Stopped(stop)) => Some(stop.cause.label()),
                _ => None,
            },
            said,
        }
    }
}

impl Line {
    fn new(machine: &view::Machine, who: Who, key: Key, since: u64) -> Self {
        let row = Row::new(machine);
        let (began, last) = machine.boot.as_ref().map(|boot| (boot.began, boot.last)).unwrap_or_default();
        let rank = match &*row.state {
            "stopped" => (0, last),
            // By its beginning: what is under way is heard all the time, and would change places as often.
            "slow_but_alive" => (1, began),
            "booting" => (2, began),
            "menu" | "shell" => (3, began),
            "unseen" => (5, last),
            _ => (4, last),
        };
        Self { rank: (rank.0, Reverse(rank.1), who), row, since, key, html: OnceLock::new() }
    }

    fn is_in(&self, state: &str) -> bool {
        match state {
            "" => true,
            "handed_over" => matches!(&*self.row.state, "handed_over" | "reported"),
            state => self.row.state == state,
        }
    }

    pub(super) fn html(&self) -> &str {
        self.html.get_or_init(|| render::row(&self.row))
    }
}

/// For so long a picture is reused: nobody sees a difference.
const FRESH: Duration = Duration::from_millis(450);
/// Words that are looked for, at most.
const WORDS: usize = 8;
/// Rows of a page that was not asked for all: what needs somebody is among the first.
pub(super) const SHOWN: usize = 200;
