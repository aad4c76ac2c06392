//! What is kept over a restart: in one SQLite file, or on a PostgreSQL server that several appliances share.
//!
//! A call that returned has reached the disk. A boot never waits for it: errors are logged, and boots continue without
//! it.

mod engine;
mod fault;
mod leases;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sqlx::{
    Connection as _,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteLockingMode},
};

use self::engine::{Engine, on};
pub use self::fault::StateError;
use crate::{
    boot::{
        identity::{Key, MachineId},
        roster::{Assignment, Change, Entry, Roster, Tried},
        shape::Shape,
        urls::without_password,
    },
    timeline::{
        boot::Timeline,
        machines::{Machine, Timelines},
        moment::Moment,
    },
};

/// The open file, or the server.
#[derive(Clone, Debug)]
pub struct State {
    engine: Engine,
}

impl State {
    /// Opens the file at a URL such as `sqlite:///var/lib/netbootd/state.db`. Creates it if it is missing (but not its
    /// folder), and migrates it to the current schema. On a full disk, an existing file can still be opened.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn open(url: &str) -> Result<Self, StateError> {
        match Engine::file(url, SqliteLockingMode::Normal).await {
            // With other readers, the log's index needs its own file (SQLite, "Write-Ahead Logging" §8). Without space
            // for it, the index is in memory. Then no other process can read the file until the next start, but
            // machines still boot what was assigned.
            Err(StateError::Full { .. }) => Engine::file(url, SqliteLockingMode::Exclusive).await,
            opened => opened,
        }
        .map(|engine| Self { engine })
    }

    /// Uses the server at a URL of libpq such as `postgres://netbootd@db.lab/netbootd?sslmode=verify-full`. It need not
    /// answer yet: each call connects again where that is needed, and fails within seconds where it cannot.
    ///
    /// # Errors
    /// [`StateError::Unusable`]: the URL.
    pub fn on_server(url: &str, password: Option<&str>, appliance: &str) -> Result<Self, StateError> {
        let shown = without_password(url);
        let options = PgConnectOptions::from_str(url).map_err(|error| StateError::of(&shown, error))?;
        let options = options.application_name(&format!("netbootd {appliance}"));
        let options = password.iter().fold(options, |options, password| options.password(password));
        Ok(Self { engine: Engine::server(options, shown) })
    }

    /// The folder of the file, if the URL is of a file. SQLite creates more files beside it.
    #[must_use]
    pub fn folder(url: &str) -> Option<PathBuf> {
        let options = SqliteConnectOptions::from_str(url).ok()?;
        let is_file = !url.contains(":memory:");
        let folder = is_file.then(|| options.get_filename().parent())??;
        // A path without a folder is relative to the working folder.
        Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
    }

    /// Opens a file for reading only. It can be that of a running server, or of an older version.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn peek(url: &str) -> Result<Self, StateError> {
        Ok(Self { engine: Engine::file_as_it_is(url).await? })
    }

    /// The offer formats that machines accepted.
    ///
    /// # Errors
    /// Those of the engine. Invalid rows are ignored.
    pub async fn offer_shapes(&self) -> Result<Vec<(Key, Shape)>, sqlx::Error> {
        const QUERY: &str = "SELECT id, shape FROM offer_shapes ORDER BY learned_at DESC";
        let rows: Vec<(String, String)> =
            on!(self.engine, connection => sqlx::query_as(QUERY).fetch_all(connection).await)?;
        Ok(rows.into_iter().filter_map(|(id, shape)| Some((id.parse().ok()?, Shape::named(&shape)?))).collect())
    }

    /// Remembers the offer format that a machine accepts.
    ///
    /// # Errors
    /// Those of the engine: a full disk, a file that became read-only, a server that cannot be reached.
    pub async fn set_offer_shape(&self, key: Key, shape: Shape) -> Result<(), sqlx::Error> {
        const QUERY: &str = "INSERT INTO offer_shapes (id, shape, learned_at) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET shape = excluded.shape, learned_at = excluded.learned_at";
        let (key, now) = (key.to_string(), now());
        on!(self.engine, connection => {
            sqlx::query(QUERY).bind(&key).bind(shape.name()).bind(now).execute(connection).await.map(drop)
        })
    }

    /// Assignments, approvals and one-time profiles of machines.
    ///
    /// # Errors
    /// Those of the engine. Invalid rows are ignored.
    pub async fn roster(&self) -> Result<Roster, sqlx::Error> {
        const QUERY: &str = "SELECT id, profile, once, spent, approved, tried, tries, failed, known_as FROM machines";
        let rows: Vec<MachineRow> = on!(self.engine, connection => sqlx::query_as(QUERY).fetch_all(connection).await)?;
        Ok(Roster::of_entries(rows.into_iter().filter_map(entry).collect()))
    }

    /// Stores the new entry of a machine.
    ///
    /// # Errors
    /// As [`Self::set_offer_shape`].
    pub async fn set_entry(&self, change: &Change) -> Result<(), sqlx::Error> {
        const WRITE: &str = "INSERT INTO machines (id, profile, once, spent, approved, tried, tries, failed, known_as)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (id) DO UPDATE SET profile = excluded.profile, once = excluded.once, spent = excluded.spent,
                 approved = excluded.approved, tried = excluded.tried, tries = excluded.tries, failed = excluded.failed,
                 known_as = excluded.known_as";
        let Change { key, entry, replaced } = change;
        let gone: Vec<String> =
            replaced.iter().chain([key].into_iter().filter(|_| entry.is_empty())).map(ToString::to_string).collect();
        let (id, known_as) = (key.to_string(), lines(&entry.known_as));
        let (assigned, tried) = (entry.assigned.as_ref(), entry.tried.as_ref());
        let spent = text_of(entry.spent.as_deref(), &entry.had);
        on!(self.engine, connection => {
            let mut change = connection.begin().await?;
            if !entry.is_empty() {
                let query = sqlx::query(WRITE).bind(&id).bind(assigned.map(|assigned| &assigned.profile));
                let query = query.bind(i64::from(assigned.is_some_and(|assigned| assigned.once))).bind(&spent);
                let query = query.bind(i64::from(entry.approved)).bind(tried.map(|tried| &tried.profile));
                let query = query.bind(tried.map_or(0, |tried| i64::from(tried.count)));
                let query = query.bind(tried.and_then(|tried| tried.failed.as_deref()).map(without_nul)).bind(&known_as);
                query.execute(&mut *change).await?;
            }
            for key in &gone {
                sqlx::query("DELETE FROM machines WHERE id = $1").bind(key).execute(&mut *change).await?;
            }
            change.commit().await
        })
    }

    /// The boots that were seen, the oldest of each machine first.
    ///
    /// # Errors
    /// Those of the engine. Invalid rows are ignored.
    pub async fn boots(&self) -> Result<Vec<(MachineId, Vec<Timeline>)>, sqlx::Error> {
        const QUERY: &str = "SELECT id, timeline, known_as FROM boots ORDER BY id, began";
        let rows: Vec<(String, String, String)> =
            on!(self.engine, connection => sqlx::query_as(QUERY).fetch_all(connection).await)?;
        let row = |(id, timeline, known_as): (String, String, String)| {
            let id = MachineId::of_key(id.parse().ok()?, names(&known_as));
            Some((id, serde_json::from_str(&timeline).ok()?))
        };
        let mut boots: Vec<(MachineId, Vec<Timeline>)> = Vec::new();
        for (id, boot) in rows.into_iter().filter_map(row) {
            match boots.last_mut() {
                Some((last, boots)) if *last == id => boots.push(boot),
                _ => boots.push((id, vec![boot])),
            }
        }
        Ok(boots)
    }

    /// Stores boots in their current state: the last ones of each machine, and the machines that were seen last.
    ///
    /// # Errors
    /// As [`Self::set_offer_shape`].
    pub async fn set_boots(&self, boots: &[(MachineId, Arc<Timeline>)]) -> Result<(), sqlx::Error> {
        const WRITE: &str = "INSERT INTO boots (id, began, last, timeline, known_as) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id, began) DO UPDATE
                 SET last = excluded.last, timeline = excluded.timeline, known_as = excluded.known_as";
        const LAST_OF_MACHINE: &str = "DELETE FROM boots WHERE id = $1
             AND began NOT IN (SELECT began FROM boots WHERE id = $1 ORDER BY began DESC LIMIT $2)";
        // Unknown clients can invent any number of addresses, so the number is limited.
        const LAST_MACHINES: &str = "DELETE FROM boots
             WHERE id NOT IN (SELECT id FROM boots GROUP BY id ORDER BY max(last) DESC LIMIT $1)";
        let seconds = |moment: Moment| moment.since(Moment::default()).as_secs_f64();
        let row = |(id, boot): &(MachineId, Arc<Timeline>)| {
            let json = serde_json::to_string(&**boot).map_err(|error| sqlx::Error::Encode(error.into()))?;
            let known_as = lines(&id.keys().collect());
            Ok((id.key().to_string(), seconds(boot.began), seconds(boot.last), json, known_as))
        };
        let rows: Vec<_> = boots.iter().map(row).collect::<Result<_, sqlx::Error>>()?;
        on!(self.engine, connection => {
            let mut change = connection.begin().await?;
            for (key, began, last, json, known_as) in &rows {
                let query = sqlx::query(WRITE).bind(key).bind(began).bind(last).bind(json).bind(known_as);
                query.execute(&mut *change).await?;
                sqlx::query(LAST_OF_MACHINE).bind(key).bind(Machine::BOOTS as i64).execute(&mut *change).await?;
            }
            sqlx::query(LAST_MACHINES).bind(Timelines::MACHINES as i64).execute(&mut *change).await?;
            change.commit().await
        })
    }

    /// Returns the secret that was stored before. If there is none, this one is stored.
    ///
    /// # Errors
    /// As [`Self::set_offer_shape`].
    pub async fn secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, sqlx::Error> {
        // Read back after the insert, so that the result is the stored secret, whichever process was first.
        const WRITE: &str = "INSERT INTO secrets (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = secrets.value RETURNING value";
        const READ: &str = "SELECT value FROM secrets WHERE name = $1";
        on!(self.engine, connection => {
            // Read first: this works on a full disk too.
            let kept: Option<(Vec<u8>,)> = sqlx::query_as(READ).bind(name).fetch_optional(&mut *connection).await?;
            match kept {
                Some((kept,)) => Ok(kept),
                None => {
                    let written = sqlx::query_as(WRITE).bind(name).bind(fresh).fetch_one(connection).await;
                    written.map(|(kept,): (Vec<u8>,)| kept)
                }
            }
        })
    }

    /// Writes everything and closes it.
    pub async fn close(self) {
        self.engine.close().await;
    }
}

/// In the order of the columns: id, profile, once, spent, approved, tried, tries, failed, known_as.
type MachineRow = (String, Option<String>, i64, Option<String>, i64, Option<String>, i64, Option<String>, String);

fn entry((id, profile, once, spent, approved, tried, tries, failed, known_as): MachineRow) -> Option<(Key, Entry)> {
    let known_as = names(&known_as);
    // A UUID that is known by now to be on many boards is no key any more; the machine's other names are.
    let key = id.parse().ok().or_else(|| known_as.first().copied())?;
    let assigned = profile.map(|profile| Assignment { profile, once: once != 0 });
    let tried = tried.map(|profile| Tried { profile, count: u32::try_from(tries).unwrap_or(u32::MAX), failed });
    let (spent, had) = had_of(spent);
    Some((key, Entry { assigned, spent, had, approved: approved != 0, tried, known_as }))
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The names of a machine, one per line.
fn lines(known_as: &BTreeSet<Key>) -> String {
    known_as.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn names(lines: &str) -> BTreeSet<Key> {
    lines.lines().filter_map(|line| line.parse().ok()).collect()
}

/// PostgreSQL takes no NUL in a text, and machines report any.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

/// The one-time profiles that a machine has booted, a line each: first the one that counts for an assignment, which may be
/// none, then the others.
fn text_of(spent: Option<&str>, had: &BTreeSet<String>) -> Option<String> {
    let others: Vec<&str> = had.iter().map(String::as_str).filter(|had| Some(*had) != spent).collect();
    match (spent, others.as_slice()) {
        (spent, []) => spent.map(str::to_owned),
        (spent, others) => Some(format!("{}\n{}", spent.unwrap_or_default(), others.join("\n"))),
    }
}

fn had_of(text: Option<String>) -> (Option<String>, BTreeSet<String>) {
    let mut lines = text.as_deref().unwrap_or_default().split('\n').map(str::to_owned);
    let spent = lines.next().filter(|name| !name.is_empty());
    (spent, lines.collect())
}
