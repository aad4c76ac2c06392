//! One state of several appliances: each change is made where all of them look, one after the other, and has a number.

use std::{net::Ipv4Addr, sync::Arc, time::SystemTime};

use sqlx::{
    Connection as _, Error,
    postgres::{PgListener, PgPoolOptions},
};

use super::{
    engine::{Engine, on},
    row::{COLUMNS_AND_GONE, MachineRow, REPLACE, entry, values},
    store::State,
};
use crate::boot::{
    happened::Note,
    identity::Key,
    roster::{Entry, Roster},
};

/// What an appliance knows of the machines, up to a number.
#[derive(Clone, Debug)]
pub struct Known {
    /// Of the last change in it.
    pub revision: i64,
    /// What is said of machines.
    pub roster: Arc<Roster>,
}

/// An appliance that shares the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appliance {
    /// Its name, which no other one has.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Milliseconds since it was last heard, by the clock of the state.
    pub silent_ms: u64,
}

/// Why something that happened was not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// Nothing was changed.
    #[error(transparent)]
    Not(#[from] Error),
    /// The server was asked to keep it, and did not answer.
    #[error("it is not known whether the change was kept, since the server did not answer: {0}")]
    Perhaps(Error),
}

/// What changed, for a copy.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// An entry that says nothing was taken out.
    pub entries: Vec<(Key, Entry)>,
    /// They are all that there is.
    pub is_whole: bool,
    /// What was said of the machine of the last note before that.
    pub before: Option<Entry>,
}

impl Default for Known {
    fn default() -> Self {
        Self { revision: NOTHING, roster: Arc::default() }
    }
}

impl State {
    /// Learns what others changed.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn refresh(&self, known: &mut Known) -> Result<Changes, Error> {
        let after = known.revision;
        let (number, rows) = on!(self.engine, connection => {
            let (number,): (i64,) = sqlx::query_as(NUMBER).fetch_one(&mut *connection).await?;
            // Of what is taken out nothing is left after a while: who was away for longer reads everything.
            let after = start(after, number);
            let rows = match number == after {
                true => Vec::new(),
                false => sqlx::query_as(COLUMNS_AND_GONE).bind(after).fetch_all(&mut *connection).await?,
            };
            Ok((number, rows))
        })?;
        Ok(known.learn(rows, number))
    }

    /// Keeps what happened, in this order, and learns what others changed before it. All or nothing is kept.
    ///
    /// # Errors
    /// [`NotKept`].
    pub async fn happened(&self, known: &mut Known, notes: &[Note]) -> Result<Changes, NotKept> {
        let (clock, notifies) = (self.clock(), self.is_on_server());
        let mut is_asked = false;
        let mut next = known.clone();
        let host_now = u64::try_from(unix_now().as_millis()).unwrap_or(u64::MAX);
        let run = async {
            on!(self.engine, connection => {
                let mut change = connection.begin().await?;
                // The transaction that has this row is alone until the end of the change, so numbers come in the order of changes.
                let (number,): (i64,) = sqlx::query_as(NEXT_NUMBER).fetch_one(&mut *change).await?;
                let (now,): (i64,) = sqlx::query_as(clock).fetch_one(&mut *change).await?;
                let now = u64::try_from(now).unwrap_or_default();
                let after = start(next.revision, number);
                let rows = sqlx::query_as(COLUMNS_AND_GONE).bind(after).fetch_all(&mut *change).await?;
                let mut changes = next.learn(rows, number);
                for (left, note) in (0..notes.len()).rev().zip(notes) {
                    if left == 0 {
                        changes.before = next.roster.of(note.machine);
                    }
                    let ago = host_now.saturating_sub(note.at) / 1000;
                    let change_of = next.roster.after(note, now.saturating_sub(ago));
                    let gone = change_of.replaced.iter().map(|key| (*key, Entry::default()));
                    let also = change_of.also.iter().cloned();
                    for (key, entry) in gone.chain(also).chain([(change_of.key, change_of.entry.clone())]) {
                        values(REPLACE, &key, &entry, number).execute(&mut *change).await?;
                        Arc::make_mut(&mut next.roster).set(key, entry.clone());
                        changes.entries.push((key, entry));
                    }
                }
                if notifies {
                    sqlx::query(NOTIFY).execute(&mut *change).await?;
                }
                is_asked = true;
                change.commit().await?;
                Ok(changes)
            })
        };
        let result: Result<Changes, Error> = run.await;
        match result {
            Ok(changes) => {
                *known = next;
                Ok(changes)
            }
            Err(error) if is_asked && self.is_on_server() => Err(NotKept::Perhaps(error)),
            Err(error) => Err(NotKept::Not(error)),
        }
    }

    /// Says that this appliance is there; all appliances that were heard lately.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn is_there(&self, name: &str, addresses: &[Ipv4Addr]) -> Result<Vec<Appliance>, Error> {
        let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let seen = if self.is_on_server() { SEEN } else { SEEN_IN_FILE };
        on!(self.engine, connection => {
            sqlx::query(seen).bind(name).bind(&addresses).execute(connection).await.map(drop)
        })?;
        self.appliances().await
    }

    /// The appliances that were heard lately.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn appliances(&self) -> Result<Vec<Appliance>, Error> {
        let others = if self.is_on_server() { OTHERS } else { OTHERS_IN_FILE };
        let rows: Vec<(String, String, f64)> =
            on!(self.engine, connection => sqlx::query_as(others).fetch_all(connection).await)?;
        let appliance = |(name, addresses, silent): (String, String, f64)| {
            let addresses = addresses.split(' ').filter_map(|address| address.parse().ok()).collect();
            // One that was heard in the future was heard before the clock went back, and not since.
            Appliance { name, addresses, silent_ms: (silent.abs() * 1000.0) as u64 }
        };
        Ok(rows.into_iter().map(appliance).collect())
    }

    /// Says that this appliance has reported everything and goes.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn leaves(&self, name: &str) -> Result<(), Error> {
        on!(self.engine, connection => {
            // What it began did not come to a hand-over, or that was reported before.
            let mut change = connection.begin().await?;
            let (number,): (i64,) = sqlx::query_as(NEXT_NUMBER).fetch_one(&mut *change).await?;
            sqlx::query(BEGAN_NOTHING).bind(name).bind(number).execute(&mut *change).await?;
            sqlx::query("DELETE FROM appliances WHERE name = $1").bind(name).execute(&mut *change).await?;
            change.commit().await
        })
    }

    /// Forgets what nobody asks for any more: boots that ended before this moment, in seconds, or are of more machines
    /// than anyone has, and what was said of machines long ago and taken back.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn forget(&self, before: f64) -> Result<(), Error> {
        on!(self.engine, connection => {
            sqlx::query("DELETE FROM boots WHERE last < $1").bind(before).execute(&mut *connection).await?;
            sqlx::query(TOO_MANY).bind(MOST_MACHINES).execute(&mut *connection).await?;
            for gone in [GONE_LONG_AGO, FORGOTTEN_LONG_AGO] {
                sqlx::query(gone).bind(REMEMBERED).execute(&mut *connection).await?;
            }
            sqlx::query(SILENT_LONG_AGO).execute(&mut *connection).await.map(drop)
        })
    }

    /// Calls `tell` for each change that another appliance makes, until the connection breaks.
    ///
    /// # Errors
    /// Those of the server; at once where there is none.
    pub async fn listen(&self, tell: impl Fn()) -> Result<(), Error> {
        let Engine::Postgres(server) = &self.engine else { return Err(Error::PoolClosed) };
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(server.options().clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        tell();
        while listener.try_recv().await?.is_some() {
            tell();
        }
        Ok(())
    }

    /// Copies what changed elsewhere into this file.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn copy(&self, Changes { entries, is_whole, .. }: &Changes) -> Result<(), Error> {
        on!(self.engine, connection => {
            let mut change = connection.begin().await?;
            if *is_whole {
                sqlx::query("DELETE FROM machines").execute(&mut *change).await?;
            }
            for (key, entry) in entries {
                if entry.is_empty() {
                    sqlx::query("DELETE FROM machines WHERE id = $1").bind(key.to_string()).execute(&mut *change).await?;
                } else {
                    values(REPLACE, key, entry, 0).execute(&mut *change).await?;
                }
            }
            change.commit().await
        })
    }

    /// Replaces what waits for the server.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn set_waiting(&self, notes: &[String]) -> Result<(), Error> {
        on!(self.engine, connection => {
            let mut change = connection.begin().await?;
            sqlx::query("DELETE FROM waiting").execute(&mut *change).await?;
            for (number, note) in notes.iter().enumerate() {
                let query = sqlx::query("INSERT INTO waiting (number, note) VALUES ($1, $2)");
                query.bind(i64::try_from(number).unwrap_or(i64::MAX)).bind(note).execute(&mut *change).await?;
            }
            change.commit().await
        })
    }

    /// What waits for the server, in its order.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn waiting(&self) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = on!(self.engine, connection => {
            sqlx::query_as("SELECT note FROM waiting ORDER BY number").fetch_all(connection).await
        })?;
        Ok(rows.into_iter().map(|(note,)| note).collect())
    }

    fn clock(&self) -> &'static str {
        match self.is_on_server() {
            true => "SELECT CAST(floor(extract(epoch FROM clock_timestamp())) AS BIGINT)",
            false => "SELECT unixepoch()",
        }
    }
}

impl Known {
    /// The rows after [`start`] of this, up to a number.
    fn learn(&mut self, rows: Vec<MachineRow>, number: i64) -> Changes {
        let is_whole = start(self.revision, number) == NOTHING;
        let entries: Vec<_> = rows.into_iter().filter_map(entry).collect();
        if is_whole {
            self.roster = Arc::new(self.roster.emptied());
        }
        if !entries.is_empty() {
            let roster = Arc::make_mut(&mut self.roster);
            entries.iter().for_each(|(key, entry)| roster.set(*key, entry.clone()));
        }
        self.revision = number;
        Changes { entries, is_whole, before: None }
    }
}

/// After which number the rows are read. Of what is taken out nothing is left after a while: who was away for longer reads
/// everything.
pub(super) fn start(known: i64, number: i64) -> i64 {
    if number < known || number - known > REMEMBERED / 2 { NOTHING } else { known }
}

fn unix_now() -> std::time::Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Before the first change.
pub(super) const NOTHING: i64 = -1;
/// So many changes later, nothing is left of what was taken out.
const REMEMBERED: i64 = 100_000;
const CHANNEL: &str = "netbootd";

pub(super) const NUMBER: &str = "SELECT number FROM revision WHERE one = 1";
pub(super) const NEXT_NUMBER: &str = "UPDATE revision SET number = number + 1 WHERE one = 1 RETURNING number";
pub(super) const NOTIFY: &str = "SELECT pg_notify('netbootd', '')";
const SEEN: &str =
    "INSERT INTO appliances (name, addresses, seen) VALUES ($1, $2, extract(epoch FROM clock_timestamp()))
    ON CONFLICT (name) DO UPDATE SET addresses = excluded.addresses, seen = excluded.seen";
const OTHERS: &str =
    "SELECT name, addresses, CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION) - seen FROM appliances";
const SEEN_IN_FILE: &str = "INSERT INTO appliances (name, addresses, seen) VALUES ($1, $2, unixepoch('subsec'))
    ON CONFLICT (name) DO UPDATE SET addresses = excluded.addresses, seen = excluded.seen";
const OTHERS_IN_FILE: &str = "SELECT name, addresses, unixepoch('subsec') - seen FROM appliances";
const BEGAN_NOTHING: &str =
    "UPDATE machines SET begun = NULL, begun_by = NULL, revision = $2 WHERE begun_by = $1 AND gone = 0";
/// Unknown clients can invent any number of addresses.
const MOST_MACHINES: i64 = 100_000;
const TOO_MANY: &str =
    "DELETE FROM boots WHERE id NOT IN (SELECT id FROM boots GROUP BY id ORDER BY max(last) DESC LIMIT $1)";
const GONE_LONG_AGO: &str =
    "DELETE FROM machines WHERE gone = 1 AND revision < (SELECT number FROM revision WHERE one = 1) - $1";
const FORGOTTEN_LONG_AGO: &str = "DELETE FROM firmware WHERE shape IS NULL AND trust IS NULL
    AND revision < (SELECT number FROM revision WHERE one = 1) - $1";
/// One that began something stays, so that this is not given again by others.
const SILENT_LONG_AGO: &str = "DELETE FROM appliances WHERE seen < (SELECT max(seen) FROM appliances) - 2592000
    AND name NOT IN (SELECT begun_by FROM machines WHERE begun_by IS NOT NULL)";
