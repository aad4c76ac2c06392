//! What outlives a restart, in one SQLite file.
//!
//! A call that returned has reached the disk. Nothing of a boot waits for it: what cannot be read or written is told,
//! and boots go on without.

use std::{borrow::Cow, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    Row, SqlitePool,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use crate::boot::{
    attempts::Shape,
    client::MacAddr,
    moment::Moment,
    roster::{Assignment, Entry, Roster},
    timeline::Timeline,
    timelines::{Machine, Timelines},
};

/// The file, open.
#[derive(Clone, Debug)]
pub struct State {
    pool: SqlitePool,
}

/// What went wrong with the file, and the mend.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is not ours to read.
    #[error(
        "the state {url} was written by a newer netbootd (its schema is {found}, this one knows {known}): install that version, or move the file away"
    )]
    Newer {
        /// Where.
        url: String,
        /// Number of its last migration.
        found: i64,
        /// Number of our last one.
        known: i64,
    },
    /// It is no database, or broken.
    #[error("the state {url} is broken: {error}; move the file away, and what it held is learned anew")]
    Broken {
        /// Where.
        url: String,
        /// SQLite's words.
        error: sqlx::Error,
    },
    /// There is no space to open it, or to bring its schema up to date.
    #[error("the state {url} cannot be opened on a full disk ({error}): free some space")]
    Full {
        /// Where.
        url: String,
        /// SQLite's words.
        error: sqlx::Error,
    },
    /// Whatever else SQLite says: a folder that is missing, no permission.
    #[error("the state {url} cannot be used: {error}{mend}")]
    Unusable {
        /// Where.
        url: String,
        /// SQLite's words.
        error: sqlx::Error,
        /// What is to be done, where that is known.
        mend: &'static str,
    },
}

impl State {
    /// Opens the file at a URL such as `sqlite:///var/lib/netbootd/state.db`, makes it where it is missing (but not its
    /// folder), and brings its schema up to date. On a full disk, a file that is there is opened all the same.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn open(url: &str) -> Result<Self, StateError> {
        match Self::open_as(url, SqliteLockingMode::Normal).await {
            // Beside others the log's index needs a file of its own (SQLite, "Write-Ahead Logging" §8); alone, memory.
            // Until the next start nobody else can read it then, and the machines boot what they were told to boot.
            Err(StateError::Full { .. }) => Self::open_as(url, SqliteLockingMode::Exclusive).await,
            opened => opened,
        }
    }

    async fn open_as(url: &str, locking: SqliteLockingMode) -> Result<Self, StateError> {
        let fault = |error| StateError::of(url, error);
        let options = SqliteConnectOptions::from_str(url)
            .map_err(fault)?
            .create_if_missing(true)
            // A reader in another process (a backup) delays nobody; what is acknowledged is on the disk.
            .locking_mode(locking)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        // SQLite has one writer at a time; a second connection would only wait for the first.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(fault)?;
        match migrator().run(&pool).await {
            Ok(()) => Ok(Self { pool }),
            Err(MigrateError::VersionMissing(found)) => Err(StateError::Newer { url: url.into(), found, known: KNOWN }),
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(fault(error)),
            Err(error) => Err(fault(sqlx::Error::Migrate(Box::new(error)))),
        }
    }

    /// The folder that a file at this URL is in, where it is one: SQLite makes files beside it.
    #[must_use]
    pub fn folder(url: &str) -> Option<PathBuf> {
        let options = SqliteConnectOptions::from_str(url).ok()?;
        let is_file = !url.contains(":memory:");
        let folder = is_file.then(|| options.get_filename().parent())??;
        // A file without a folder is in the working one.
        Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
    }

    /// Opens a file to read what is in it, and changes nothing: it may be a running server's, or an older one's.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn peek(url: &str) -> Result<Self, StateError> {
        let fault = |error| StateError::of(url, error);
        let options = SqliteConnectOptions::from_str(url).map_err(fault)?.read_only(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(fault)?;
        Ok(Self { pool })
    }

    /// The shapes of offers that machines were seen to take.
    ///
    /// # Errors
    /// SQLite's. Rows that make no sense are left out.
    pub async fn offer_shapes(&self) -> Result<Vec<(MacAddr, Shape)>, sqlx::Error> {
        let rows =
            sqlx::query("SELECT mac, shape FROM offer_shapes ORDER BY learned_at DESC").fetch_all(&self.pool).await?;
        let row = |row: SqliteRow| {
            let mac = row.try_get::<String, _>(0).ok()?.parse().ok()?;
            Some((mac, Shape::named(&row.try_get::<String, _>(1).ok()?)?))
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// Remembers the shape of offers that a machine takes.
    ///
    /// # Errors
    /// SQLite's: a full disk, a file that became read-only.
    pub async fn set_offer_shape(&self, mac: MacAddr, shape: Shape) -> Result<(), sqlx::Error> {
        let query = sqlx::query(
            "INSERT INTO offer_shapes (mac, shape) VALUES (?, ?)
             ON CONFLICT (mac) DO UPDATE SET shape = excluded.shape, learned_at = unixepoch()",
        );
        query.bind(mac.to_string()).bind(shape.name()).execute(&self.pool).await?;
        Ok(())
    }

    /// What was said of machines.
    ///
    /// # Errors
    /// SQLite's. Rows that make no sense are left out.
    pub async fn roster(&self) -> Result<Roster, sqlx::Error> {
        let rows = sqlx::query("SELECT mac, profile, once, spent, approved FROM roster").fetch_all(&self.pool).await?;
        let row = |row: SqliteRow| {
            let mac = row.try_get::<String, _>(0).ok()?.parse().ok()?;
            let profile: Option<String> = row.try_get(1).ok()?;
            let once = row.try_get(2).ok()?;
            let assigned = profile.map(|profile| Assignment { profile, once });
            Some((mac, Entry { assigned, spent: row.try_get(3).ok()?, approved: row.try_get(4).ok()? }))
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// Says something else of a machine.
    ///
    /// # Errors
    /// As [`Self::set_offer_shape`].
    pub async fn set_entry(&self, mac: MacAddr, entry: &Entry) -> Result<(), sqlx::Error> {
        if *entry == Entry::default() {
            sqlx::query("DELETE FROM roster WHERE mac = ?").bind(mac.to_string()).execute(&self.pool).await?;
            return Ok(());
        }
        let query = sqlx::query(
            "INSERT INTO roster (mac, profile, once, spent, approved) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (mac) DO UPDATE SET profile = excluded.profile, once = excluded.once, spent = excluded.spent,
             approved = excluded.approved",
        );
        let Entry { assigned, spent, approved } = entry;
        let assigned = assigned.as_ref();
        let query = query.bind(mac.to_string()).bind(assigned.map(|assigned| &assigned.profile));
        let query = query.bind(assigned.is_some_and(|assigned| assigned.once)).bind(spent).bind(approved);
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// The boots that were seen, each machine's oldest first.
    ///
    /// # Errors
    /// SQLite's. Rows that make no sense are left out.
    pub async fn boots(&self) -> Result<Vec<(MacAddr, Vec<Timeline>)>, sqlx::Error> {
        let rows = sqlx::query("SELECT mac, timeline FROM boots ORDER BY mac, began").fetch_all(&self.pool).await?;
        let row = |row: SqliteRow| {
            let mac = row.try_get::<String, _>(0).ok()?.parse().ok()?;
            Some((mac, serde_json::from_str(&row.try_get::<String, _>(1).ok()?).ok()?))
        };
        let mut boots: Vec<(MacAddr, Vec<Timeline>)> = Vec::new();
        for (mac, boot) in rows.into_iter().filter_map(row) {
            match boots.last_mut() {
                Some((last, boots)) if *last == mac => boots.push(boot),
                _ => boots.push((mac, vec![boot])),
            }
        }
        Ok(boots)
    }

    /// Remembers boots as they are now: of each machine the last ones, and of all machines those that were seen last.
    ///
    /// # Errors
    /// As [`Self::set_offer_shape`].
    pub async fn set_boots(&self, boots: &[(MacAddr, Arc<Timeline>)]) -> Result<(), sqlx::Error> {
        let mut change = self.pool.begin().await?;
        for (mac, boot) in boots {
            let json = serde_json::to_string(boot).map_err(|error| sqlx::Error::Encode(error.into()))?;
            let seconds = |moment: Moment| moment.since(Moment::default()).as_secs_f64();
            let query = sqlx::query("INSERT OR REPLACE INTO boots (mac, began, last, timeline) VALUES (?, ?, ?, ?)");
            let query = query.bind(mac.to_string()).bind(seconds(boot.began)).bind(seconds(boot.last)).bind(json);
            query.execute(&mut *change).await?;
            let query = sqlx::query(
                "DELETE FROM boots WHERE mac = ?1
                 AND began NOT IN (SELECT began FROM boots WHERE mac = ?1 ORDER BY began DESC LIMIT ?2)",
            );
            query.bind(mac.to_string()).bind(Machine::BOOTS as i64).execute(&mut *change).await?;
        }
        // Strangers can make up addresses without end.
        let query = sqlx::query(
            "DELETE FROM boots
             WHERE mac IN (SELECT mac FROM boots GROUP BY mac ORDER BY max(last) DESC LIMIT -1 OFFSET ?)",
        );
        query.bind(Timelines::MACHINES as i64).execute(&mut *change).await?;
        change.commit().await
    }

    /// A secret that was made before, or else this one, which is kept.
    ///
    /// # Errors
    /// As [`Self::set_offer_shape`].
    pub async fn secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, sqlx::Error> {
        // Read first, which a full disk does not keep from.
        let kept =
            sqlx::query("SELECT value FROM secrets WHERE name = ?").bind(name).fetch_optional(&self.pool).await?;
        if let Some(kept) = kept {
            return kept.try_get(0);
        }
        // A row in its place, so that what is returned is what was kept, whoever was first.
        let query = sqlx::query(
            "INSERT INTO secrets (name, value) VALUES (?, ?)
             ON CONFLICT (name) DO UPDATE SET value = value RETURNING value",
        );
        query.bind(name).bind(fresh).fetch_one(&self.pool).await?.try_get(0)
    }

    /// Puts what is written in its place, and lets go of the file.
    pub async fn close(self) {
        self.pool.close().await;
    }
}

impl StateError {
    fn of(url: &str, error: sqlx::Error) -> Self {
        let url = url.to_owned();
        let code = error.as_database_error().and_then(|error| error.code().map(Cow::into_owned));
        match code.as_deref() {
            // SQLITE_CORRUPT and SQLITE_NOTADB.
            Some("11" | "26") => Self::Broken { url, error },
            // SQLITE_FULL, SQLITE_IOERR_WRITE and SQLITE_IOERR_SHMSIZE.
            Some("13" | "778" | "4874") => Self::Full { url, error },
            // SQLITE_READONLY, SQLITE_CANTOPEN and SQLITE_READONLY_DIRECTORY.
            Some("8" | "14" | "1544") => Self::Unusable { url, error, mend: NOT_OURS },
            _ => Self::Unusable { url, error, mend: "" },
        }
    }
}

const NOT_OURS: &str =
    "; its folder has to be there, and that and the file have to belong to the user that netbootd runs as";

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, sql)| {
        Migration::new(*version, Cow::Borrowed("netbootd"), MigrationType::Simple, Cow::Borrowed(*sql), false)
    });
    Migrator { migrations: Cow::Owned(migrations.collect()), ..Migrator::DEFAULT }
}

/// Steps from an empty file to the present schema. One that has been released never changes.
const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("1_offer_shapes.sql")),
    (2, include_str!("2_roster.sql")),
    (3, include_str!("3_secrets.sql")),
    (4, include_str!("4_approvals.sql")),
    (5, include_str!("5_boots.sql")),
];
const KNOWN: i64 = MIGRATIONS.len() as i64;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn url(folder: &tempfile::TempDir) -> String {
        format!("sqlite://{}", folder.path().join("state.db").display())
    }

    #[tokio::test]
    async fn what_was_learned_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(&url(&folder)).await.expect("made");
        assert_eq!(state.offer_shapes().await.expect("read"), []);
        state.set_offer_shape(MAC, Shape::Option67).await.expect("written");
        state.set_offer_shape(MAC, Shape::BootServer).await.expect("written again");
        let entry = |profile: Option<&str>, once, spent: Option<&str>| Entry {
            assigned: profile.map(|profile| Assignment { profile: profile.into(), once }),
            spent: spent.map(str::to_owned),
            ..Entry::default()
        };
        let other = MacAddr([2; 6]);
        state.set_entry(MAC, &entry(Some("debian"), true, None)).await.expect("written");
        state.set_entry(MAC, &entry(Some("debian"), true, Some("debian"))).await.expect("written");
        state.set_entry(other, &entry(None, false, Some("rescue"))).await.expect("written");
        state.set_entry(MacAddr([4; 6]), &entry(Some("rescue"), false, None)).await.expect("written");
        state.set_entry(MacAddr([4; 6]), &Entry::default()).await.expect("taken out");
        let (approved, guest) = (Entry { approved: true, ..Entry::default() }, MacAddr([6; 6]));
        state.set_entry(guest, &approved).await.expect("written");
        // Killed: nothing is closed.
        let again = State::open(&url(&folder)).await.expect("opened");
        assert_eq!(again.offer_shapes().await.expect("read"), [(MAC, Shape::BootServer)]);
        let debian = entry(Some("debian"), true, Some("debian"));
        let said = [(MAC, debian), (other, entry(None, false, Some("rescue"))), (guest, approved)];
        let said: Roster = said.into_iter().collect();
        assert_eq!(again.roster().await.expect("read"), said);
        let peeking = State::peek(&url(&folder)).await.expect("opened beside the other");
        assert_eq!(peeking.roster().await.expect("read"), said);
        assert!(peeking.set_entry(MAC, &Entry::default()).await.is_err(), "it is read only");
        peeking.close().await;
        assert_eq!(again.secret("answers", b"one").await.expect("made"), b"one");
        assert_eq!(again.secret("answers", b"two").await.expect("read"), b"one", "made once");
        // What another hand wrote into it is passed over.
        sqlx::query("INSERT INTO offer_shapes (mac, shape) VALUES ('nonsense', 'direct')")
            .execute(&again.pool)
            .await
            .expect("written");
        assert_eq!(again.offer_shapes().await.expect("read").len(), 1);
        again.close().await;
    }

    #[test]
    fn the_folder_of_a_url_is_known() {
        let folder = |url| State::folder(url).map(|folder| folder.display().to_string());
        assert_eq!(folder("sqlite:///var/lib/netbootd/state.db").as_deref(), Some("/var/lib/netbootd"));
        assert_eq!(folder("sqlite:///srv/state.db?mode=rwc").as_deref(), Some("/srv"));
        assert_eq!(folder("sqlite://state.db").as_deref(), Some("."));
        assert_eq!(folder("sqlite://:memory:"), None);
    }

    #[tokio::test]
    async fn of_each_machine_the_last_boots_are_kept_as_they_were_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(&url(&folder)).await.expect("made");
        let boot = |number: u32, last: u64| {
            let mut boot = Timeline::begin(number, Moment::from_secs(u64::from(number) * 1000));
            boot.last = Moment::from_secs(last);
            Arc::new(boot)
        };
        for number in 1..=7 {
            state.set_boots(&[(MAC, boot(number, 7500)), (MAC, boot(number, 8000))]).await.expect("written");
        }
        let kept: Vec<Timeline> = (3..=7).map(|number| Timeline::clone(&boot(number, 8000))).collect();
        assert_eq!(state.boots().await.expect("read"), [(MAC, kept)]);
        // A flood of machines is bounded; those that were seen last are there.
        let others =
            (0..3000u32).map(|n| (MacAddr([2, 0, 0, 0, (n >> 8) as u8, n as u8]), boot(1, 9000 + u64::from(n))));
        state.set_boots(&others.collect::<Vec<_>>()).await.expect("written");
        let kept = state.boots().await.expect("read");
        assert_eq!(kept.len(), Timelines::MACHINES);
        assert!(kept.iter().all(|(mac, _)| *mac != MAC), "it was silent the longest");
    }

    #[tokio::test]
    async fn a_file_that_is_none_of_ours_is_told_with_the_mend() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = |error: StateError| error.to_string().replace(&folder.path().display().to_string(), "");
        fs::write(folder.path().join("state.db"), "this is no database, however long it may be".repeat(40))
            .expect("written");
        let broken = State::open(&url(&folder)).await.map(|_| ()).expect_err("broken");
        assert_eq!(
            said(broken),
            "the state sqlite:///state.db is broken: error returned from database: (code: 26) file is not a database; \
             move the file away, and what it held is learned anew"
        );
        let nowhere = State::open("sqlite:///nowhere/at/all/state.db").await.map(|_| ()).expect_err("no folder");
        assert!(matches!(nowhere, StateError::Unusable { .. }), "{nowhere:?}");
        assert!(nowhere.to_string().ends_with(NOT_OURS), "{nowhere}");

        fs::remove_file(folder.path().join("state.db")).expect("removed");
        let state = State::open(&url(&folder)).await.expect("made");
        sqlx::query("INSERT INTO _sqlx_migrations VALUES (99, 'later', 0, 1, x'00', 0)")
            .execute(&state.pool)
            .await
            .expect("written");
        let newer = State::open(&url(&folder)).await.map(|_| ()).expect_err("newer");
        assert!(matches!(newer, StateError::Newer { found: 99, known: KNOWN, .. }), "{newer:?}");
    }
}
