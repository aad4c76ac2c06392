//! What is kept of machines, on either engine.

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sqlx::{
    ConnectOptions as _, Connection as _,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteLockingMode},
};

use super::{
    engine::{Engine, IN_MEMORY, on},
    fault::StateError,
    private::{OwnFile, with_beside},
    row::{COLUMNS, MachineRow, REPLACE, entry, lines, names, values},
};
use crate::{
    boot::{
        identity::MachineId,
        roster::{Change, Roster},
        urls::{with_host, without_password},
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
    pub(super) engine: Engine,
    /// Where this process has the file for itself.
    own: Option<Arc<OwnFile>>,
}

impl State {
    /// Opens the file at a URL such as `sqlite:///var/lib/netbootd/state.db`. Creates it if it is missing (but not its
    /// folder), for its owner alone, and migrates it to the current schema. On a full disk, an existing file can still be opened.
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
        .map(|engine| Self { engine, own: None })
    }

    /// As [`Self::open`], for the one server that uses the file: two would not know of each other which machines booted
    /// their one-time profiles.
    ///
    /// # Errors
    /// [`StateError`]; also where another process has the file.
    pub async fn open_alone(url: &str) -> Result<Self, StateError> {
        let file = SqliteConnectOptions::from_str(url).map_err(|error| StateError::of(url, error))?;
        let in_file = !url.contains(IN_MEMORY);
        let own = if in_file { OwnFile::take(file.get_filename(), url).await? } else { None };
        Ok(Self { own: own.map(Arc::new), ..Self::open(url).await? })
    }

    /// Whether the file that is written is the one at its place. What is written to one that was removed is lost.
    ///
    /// # Errors
    /// It was removed, or another one was put in its place.
    pub fn is_in_place(&self) -> Result<(), sqlx::Error> {
        self.own.as_ref().map_or(Ok(()), |own| own.is_in_place().map_err(sqlx::Error::Io))
    }

    /// Uses the server at a URL of libpq such as `postgres://netbootd@db.lab/netbootd?sslmode=verify-full`. It need not
    /// answer yet: each call connects again where that is needed, and fails within seconds where it cannot.
    ///
    /// # Errors
    /// [`StateError::Unusable`]: the URL.
    pub fn on_server(url: &str, password: Option<&str>, appliance: &str) -> Result<Self, StateError> {
        let shown = without_password(url);
        let options = PgConnectOptions::from_str(&with_host(url)).map_err(|error| StateError::of(&shown, error))?;
        // What is slow, or there already, is no news for whoever reads our log.
        let options = options.disable_statement_logging().options([("client_min_messages", "warning")]);
        let options = options.application_name(&format!("netbootd {appliance}"));
        let options = password.iter().fold(options, |options, password| options.password(password));
        Ok(Self { engine: Engine::server(options, shown), own: None })
    }

    /// The TCP port of a server, and the files that are read to connect to it: certificates, and what names are looked
    /// up in. None for a socket.
    #[must_use]
    pub fn reach(url: &str) -> (Option<u16>, Vec<PathBuf>) {
        let Ok(options) = PgConnectOptions::from_str(&with_host(url)) else { return (None, Vec::new()) };
        if options.get_socket().is_some() || options.get_host().starts_with('/') {
            return (None, Vec::new());
        }
        let (_, query) = url.split_once('?').unwrap_or_default();
        let named = query.split('&').filter_map(|part| part.split_once('='));
        let named = named.filter(|(name, _)| name.starts_with("ssl")).map(|(_, value)| value.replace("%2F", "/"));
        let named = named.map(PathBuf::from).filter(|path| path.is_absolute());
        let passwords = std::env::var_os("PGPASSFILE").map(PathBuf::from);
        let passwords = passwords.or_else(|| Some(std::env::home_dir()?.join(".pgpass")));
        (Some(options.get_port()), named.chain(passwords).chain(LOOKED_UP_IN.map(PathBuf::from)).collect())
    }

    pub(super) fn is_on_server(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }

    /// The folder of the file, if the URL is of a file. SQLite creates more files beside it.
    #[must_use]
    pub fn folder(url: &str) -> Option<PathBuf> {
        let options = SqliteConnectOptions::from_str(url).ok()?;
        let is_file = !url.contains(IN_MEMORY);
        let folder = is_file.then(|| options.get_filename().parent())??;
        // A path without a folder is relative to the working folder.
        Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
    }

    /// A file, and those that SQLite has beside it.
    #[must_use]
    pub fn files(path: &Path) -> [PathBuf; 4] {
        with_beside(path)
    }

    /// Opens a file for reading only. It can be that of a running server, or of an older version.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn peek(url: &str) -> Result<Self, StateError> {
        Ok(Self { engine: Engine::file_as_it_is(url).await?, own: None })
    }

    /// Assignments, approvals and one-time profiles of machines.
    ///
    /// # Errors
    /// Those of the engine. Invalid rows are ignored.
    pub async fn roster(&self) -> Result<Roster, sqlx::Error> {
        let rows: Vec<MachineRow> =
            on!(self.engine, connection => sqlx::query_as(COLUMNS).fetch_all(connection).await)?;
        Ok(Roster::of_entries(rows.into_iter().filter_map(entry).collect()))
    }

    /// Stores the new entry of a machine. What it takes the place of may have its own name among it: a change that waited
    /// had moved the machine to another name.
    ///
    /// # Errors
    /// As [`Self::learn`].
    pub async fn set_entry(&self, change: &Change) -> Result<(), sqlx::Error> {
        let Change { key, entry, replaced, also } = change;
        let others = replaced.iter().filter(|other| *other != key);
        let gone: Vec<String> =
            others.chain([key].into_iter().filter(|_| entry.is_empty())).map(ToString::to_string).collect();
        on!(self.engine, connection => {
            let mut change = connection.begin().await?;
            if !entry.is_empty() {
                values(REPLACE, key, entry, 0).execute(&mut *change).await?;
            }
            for key in &gone {
                sqlx::query("DELETE FROM machines WHERE id = $1").bind(key).execute(&mut *change).await?;
            }
            for (key, entry) in also {
                values(REPLACE, key, entry, 0).execute(&mut *change).await?;
            }
            change.commit().await
        })
    }

    /// The boots that were seen, the oldest of each machine first; of a server, those that other appliances than this
    /// one saw, of at most so many machines, the last ones.
    ///
    /// # Errors
    /// Those of the engine. Invalid rows are ignored.
    pub async fn boots(&self, but_of: &str, machines: usize) -> Result<Vec<(MachineId, Vec<Timeline>)>, sqlx::Error> {
        const QUERY: &str =
            "SELECT id, timeline, known_as, appliance FROM boots WHERE (appliance <> $1 OR appliance = '')
             AND id IN (SELECT id FROM boots GROUP BY id ORDER BY max(last) DESC LIMIT $2) ORDER BY id, began";
        let machines = i64::try_from(machines).unwrap_or(i64::MAX);
        let rows: Vec<(String, String, String, String)> = on!(self.engine, connection => {
            sqlx::query_as(QUERY).bind(but_of).bind(machines).fetch_all(connection).await
        })?;
        let row = |(id, timeline, known_as, appliance): (String, String, String, String)| {
            let id = MachineId::of_key(id.parse().ok()?, names(&known_as));
            let mut boot: Timeline = serde_json::from_str(&timeline).ok()?;
            boot.appliance = Some(appliance).filter(|name| !name.is_empty());
            Some((id, boot))
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

    /// Stores boots that this appliance saw in their current state: the last ones of each machine, and in a file the
    /// machines that were seen last.
    ///
    /// # Errors
    /// As [`Self::learn`].
    pub async fn set_boots(&self, boots: &[(MachineId, Arc<Timeline>)], by: &str) -> Result<(), sqlx::Error> {
        const WRITE: &str = "INSERT INTO boots (id, began, last, timeline, known_as, appliance)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id, began) DO UPDATE
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
        let is_file = !self.is_on_server();
        on!(self.engine, connection => {
            let mut change = connection.begin().await?;
            for (key, began, last, json, known_as) in &rows {
                let query = sqlx::query(WRITE).bind(key).bind(began).bind(last).bind(json).bind(known_as);
                query.bind(by).execute(&mut *change).await?;
                sqlx::query(LAST_OF_MACHINE).bind(key).bind(Machine::BOOTS as i64).execute(&mut *change).await?;
            }
            if is_file {
                sqlx::query(LAST_MACHINES).bind(Timelines::MACHINES as i64).execute(&mut *change).await?;
            }
            change.commit().await
        })
    }

    /// Returns the secret that was stored before. If there is none, this one is stored.
    ///
    /// # Errors
    /// As [`Self::learn`].
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

    /// Puts a secret in the place of another one: the copy of the one that all appliances share.
    ///
    /// # Errors
    /// As [`Self::learn`].
    pub async fn set_secret(&self, name: &str, value: &[u8]) -> Result<(), sqlx::Error> {
        const WRITE: &str = "INSERT INTO secrets (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        on!(self.engine, connection => sqlx::query(WRITE).bind(name).bind(value).execute(connection).await.map(drop))
    }

    /// Writes everything and closes it.
    pub async fn close(self) {
        self.engine.close().await;
    }
}

/// Names of hosts, and certificates of authorities.
const LOOKED_UP_IN: [&str; 7] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/run/systemd/resolve",
    "/etc/ssl",
];

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
