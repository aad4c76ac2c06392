//! What is kept over a restart, in one SQLite file.
//!
//! A call that returned has reached the disk. A boot never waits for the file: errors are logged, and boots continue
//! without it.

use std::{borrow::Cow, collections::BTreeSet, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    Row, SqlitePool,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use crate::{
    boot::{
        identity::{Key, MachineId},
        roster::{Assignment, Change, Entry, Roster, Tried},
        shape::Shape,
    },
    timeline::{
        boot::Timeline,
        machines::{Machine, Timelines},
        moment::Moment,
    },
};

/// The open file.
#[derive(Clone, Debug)]
pub struct State {
    pool: SqlitePool,
}

/// An error of the file, with its fix.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file is of a newer version.
    #[error(
        "the state file {url} is of a newer netbootd (schema {found}, this version knows {known}): install that version, or move the file away"
    )]
    Newer {
        /// The URL of the file.
        url: String,
        /// The number of its last migration.
        found: i64,
        /// The number of our last migration.
        known: i64,
    },
    /// The file is not a database, or it is damaged.
    #[error("the state file {url} is damaged: {error}; move the file away (assignments and approvals in it are lost)")]
    Broken {
        /// The URL of the file.
        url: String,
        /// The error of SQLite.
        error: sqlx::Error,
    },
    /// There is no space to open it, or to migrate it to the new schema.
    #[error("cannot open the state file {url}: the disk is full ({error}). Free some space")]
    Full {
        /// The URL of the file.
        url: String,
        /// The error of SQLite.
        error: sqlx::Error,
    },
    /// Another error of SQLite: a missing folder, a missing permission.
    #[error("cannot use the state file {url}: {error}{fix}")]
    Unusable {
        /// The URL of the file.
        url: String,
        /// The error of SQLite.
        error: sqlx::Error,
        /// The fix, if it is known.
        fix: &'static str,
    },
}

impl State {
    /// Opens the file at a URL such as `sqlite:///var/lib/netbootd/state.db`. Creates it if it is missing (but not its
    /// folder), and migrates it to the current schema. On a full disk, an existing file can still be opened.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn open(url: &str) -> Result<Self, StateError> {
        match Self::open_as(url, SqliteLockingMode::Normal).await {
            // With other readers, the log's index needs its own file (SQLite, "Write-Ahead Logging" §8). Without space
            // for it, the index is in memory. Then no other process can read the file until the next start, but
            // machines still boot what was assigned.
            Err(StateError::Full { .. }) => Self::open_as(url, SqliteLockingMode::Exclusive).await,
            opened => opened,
        }
    }

    async fn open_as(url: &str, locking: SqliteLockingMode) -> Result<Self, StateError> {
        let fault = |error| StateError::of(url, error);
        let options = SqliteConnectOptions::from_str(url)
            .map_err(fault)?
            .create_if_missing(true)
            // A reader in another process (a backup) delays nothing. What is acknowledged is on the disk.
            .locking_mode(locking)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        // SQLite allows one writer at a time. A second connection would only wait for the first.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(fault)?;
        match migrator().run(&pool).await {
            Ok(()) => Ok(Self { pool }),
            Err(MigrateError::VersionMissing(found)) => Err(StateError::Newer { url: url.into(), found, known: KNOWN }),
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(fault(error)),
            Err(error) => Err(fault(sqlx::Error::Migrate(Box::new(error)))),
        }
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
        let fault = |error| StateError::of(url, error);
        let options = SqliteConnectOptions::from_str(url).map_err(fault)?.read_only(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(fault)?;
        Ok(Self { pool })
    }

    /// The offer formats that machines accepted.
    ///
    /// # Errors
    /// Those of SQLite. Invalid rows are ignored.
    pub async fn offer_shapes(&self) -> Result<Vec<(Key, Shape)>, sqlx::Error> {
        let rows =
            sqlx::query("SELECT id, shape FROM offer_shapes ORDER BY learned_at DESC").fetch_all(&self.pool).await?;
        let row = |row: SqliteRow| {
            let key = row.try_get::<String, _>(0).ok()?.parse().ok()?;
            Some((key, Shape::named(&row.try_get::<String, _>(1).ok()?)?))
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// Remembers the offer format that a machine accepts.
    ///
    /// # Errors
    /// Those of SQLite: a full disk, a file that became read-only.
    pub async fn set_offer_shape(&self, key: Key, shape: Shape) -> Result<(), sqlx::Error> {
        let query = sqlx::query(
            "INSERT INTO offer_shapes (id, shape) VALUES (?, ?)
             ON CONFLICT (id) DO UPDATE SET shape = excluded.shape, learned_at = unixepoch()",
        );
        query.bind(key.to_string()).bind(shape.name()).execute(&self.pool).await?;
        Ok(())
    }

    /// Assignments, approvals and one-time profiles of machines.
    ///
    /// # Errors
    /// Those of SQLite. Invalid rows are ignored.
    pub async fn roster(&self) -> Result<Roster, sqlx::Error> {
        let rows =
            sqlx::query("SELECT id, profile, once, spent, approved, tried, tries, failed, known_as FROM machines");
        let row = |row: SqliteRow| {
            let known_as = names(&row.try_get::<String, _>(8).ok()?);
            // A UUID that is known by now to be on many boards is no key any more; the machine's other names are.
            let key = row.try_get::<String, _>(0).ok()?.parse().ok().or_else(|| known_as.first().copied())?;
            let profile: Option<String> = row.try_get(1).ok()?;
            let once = row.try_get(2).ok()?;
            let assigned = profile.map(|profile| Assignment { profile, once });
            let (count, failed) = (row.try_get(6).ok()?, row.try_get(7).ok()?);
            let tried: Option<String> = row.try_get(5).ok()?;
            let tried = tried.map(|profile| Tried { profile, count, failed });
            let (spent, had) = had_of(row.try_get(3).ok()?);
            let entry = Entry { assigned, spent, had, approved: row.try_get(4).ok()?, tried, known_as };
            Some((key, entry))
        };
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(Roster::of_entries(rows.into_iter().filter_map(row).collect()))
    }

    /// Stores the new entry of a machine.
    ///
    /// # Errors
    /// As [`Self::set_offer_shape`].
    pub async fn set_entry(&self, Change { key, entry, replaced }: &Change) -> Result<(), sqlx::Error> {
        // The new entry is written first. Between the two statements a machine has two entries; the stronger one
        // applies.
        let gone = replaced.iter().chain([key].into_iter().filter(|_| entry.is_empty()));
        if !entry.is_empty() {
            let query = sqlx::query(
                "INSERT OR REPLACE INTO machines (id, profile, once, spent, approved, tried, tries, failed, known_as)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            );
            let Entry { assigned, spent, had, approved, tried, known_as } = entry;
            let spent = text_of(spent.as_deref(), had);
            let (assigned, tried) = (assigned.as_ref(), tried.as_ref());
            let query = query.bind(key.to_string()).bind(assigned.map(|assigned| &assigned.profile));
            let query = query.bind(assigned.is_some_and(|assigned| assigned.once)).bind(spent).bind(approved);
            let query = query.bind(tried.map(|tried| &tried.profile)).bind(tried.map_or(0, |tried| tried.count));
            let query = query.bind(tried.and_then(|tried| tried.failed.as_ref())).bind(lines(known_as));
            query.execute(&self.pool).await?;
        }
        for key in gone {
            sqlx::query("DELETE FROM machines WHERE id = ?").bind(key.to_string()).execute(&self.pool).await?;
        }
        Ok(())
    }

    /// The boots that were seen, the oldest of each machine first.
    ///
    /// # Errors
    /// Those of SQLite. Invalid rows are ignored.
    pub async fn boots(&self) -> Result<Vec<(MachineId, Vec<Timeline>)>, sqlx::Error> {
        let rows =
            sqlx::query("SELECT id, timeline, known_as FROM boots ORDER BY id, began").fetch_all(&self.pool).await?;
        let row = |row: SqliteRow| {
            let key = row.try_get::<String, _>(0).ok()?.parse().ok()?;
            let id = MachineId::of_key(key, names(&row.try_get::<String, _>(2).ok()?));
            Some((id, serde_json::from_str(&row.try_get::<String, _>(1).ok()?).ok()?))
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
        let mut change = self.pool.begin().await?;
        for (id, boot) in boots {
            let key = id.key().to_string();
            let json = serde_json::to_string(boot).map_err(|error| sqlx::Error::Encode(error.into()))?;
            let seconds = |moment: Moment| moment.since(Moment::default()).as_secs_f64();
            let query = sqlx::query(
                "INSERT OR REPLACE INTO boots (id, began, last, timeline, known_as) VALUES (?, ?, ?, ?, ?)",
            );
            let query = query.bind(&key).bind(seconds(boot.began)).bind(seconds(boot.last)).bind(json);
            let query = query.bind(lines(&id.keys().collect()));
            query.execute(&mut *change).await?;
            let query = sqlx::query(
                "DELETE FROM boots WHERE id = ?1
                 AND began NOT IN (SELECT began FROM boots WHERE id = ?1 ORDER BY began DESC LIMIT ?2)",
            );
            query.bind(&key).bind(Machine::BOOTS as i64).execute(&mut *change).await?;
        }
        // Unknown clients can invent any number of addresses, so the number is limited.
        let query = sqlx::query(
            "DELETE FROM boots
             WHERE id IN (SELECT id FROM boots GROUP BY id ORDER BY max(last) DESC LIMIT -1 OFFSET ?)",
        );
        query.bind(Timelines::MACHINES as i64).execute(&mut *change).await?;
        change.commit().await
    }

    /// Returns the secret that was stored before. If there is none, this one is stored.
    ///
    /// # Errors
    /// As [`Self::set_offer_shape`].
    pub async fn secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, sqlx::Error> {
        // Read first: this works on a full disk too.
        let kept =
            sqlx::query("SELECT value FROM secrets WHERE name = ?").bind(name).fetch_optional(&self.pool).await?;
        if let Some(kept) = kept {
            return kept.try_get(0);
        }
        // Read back after the insert, so that the result is the stored secret, whichever process was first.
        let query = sqlx::query(
            "INSERT INTO secrets (name, value) VALUES (?, ?)
             ON CONFLICT (name) DO UPDATE SET value = value RETURNING value",
        );
        query.bind(name).bind(fresh).fetch_one(&self.pool).await?.try_get(0)
    }

    /// Writes everything to the file and closes it.
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
            Some("8" | "14" | "1544") => Self::Unusable { url, error, fix: NOT_OURS },
            _ => Self::Unusable { url, error, fix: "" },
        }
    }
}

const NOT_OURS: &str =
    "; its folder must exist, and the folder and the file must belong to the user that netbootd runs as";

/// The names of a machine, one per line.
fn lines(known_as: &BTreeSet<Key>) -> String {
    known_as.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn names(lines: &str) -> BTreeSet<Key> {
    lines.lines().filter_map(|line| line.parse().ok()).collect()
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, sql)| {
        Migration::new(*version, Cow::Borrowed("netbootd"), MigrationType::Simple, Cow::Borrowed(*sql), false)
    });
    Migrator { migrations: Cow::Owned(migrations.collect()), ..Migrator::DEFAULT }
}

/// The steps from an empty file to the current schema. A released step never changes.
const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("1_offer_shapes.sql")),
    (2, include_str!("2_roster.sql")),
    (3, include_str!("3_secrets.sql")),
    (4, include_str!("4_approvals.sql")),
    (5, include_str!("5_boots.sql")),
    (6, include_str!("6_machines.sql")),
];
const KNOWN: i64 = MIGRATIONS.len() as i64;

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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::boot::mac::MacAddr;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn change(mac: MacAddr, entry: &Entry) -> Change {
        Roster::default().change(mac.into(), &[], |before| Entry { known_as: before.known_as, ..entry.clone() })
    }

    #[tokio::test]
    async fn each_one_time_profile_that_a_machine_had_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        for (spent, had) in [
            (None, vec![]),
            (Some("a"), vec![]),
            (None, vec!["a"]),
            (None, vec!["a", "b"]),
            (Some("c"), vec!["a", "b"]),
        ] {
            let had: BTreeSet<String> = had.into_iter().map(str::to_owned).collect();
            let entry = Entry { spent: spent.map(str::to_owned), had, approved: true, ..Entry::default() };
            let state = State::open(&url(&folder)).await.expect("opened");
            state.set_entry(&change(MAC, &entry)).await.expect("written");
            let read = state.roster().await.expect("read").of(MAC).expect("there");
            assert_eq!((read.spent, read.had), (entry.spent, entry.had));
        }
    }

    fn url(folder: &tempfile::TempDir) -> String {
        format!("sqlite://{}", folder.path().join("state.db").display())
    }

    #[tokio::test]
    async fn what_was_learned_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(&url(&folder)).await.expect("made");
        assert_eq!(state.offer_shapes().await.expect("read"), []);
        state.set_offer_shape(Key::Card(MAC), Shape::Option67).await.expect("written");
        state.set_offer_shape(Key::Card(MAC), Shape::BootServer).await.expect("written again");
        let entry = |profile: Option<&str>, once, spent: Option<&str>| Entry {
            assigned: profile.map(|profile| Assignment { profile: profile.into(), once }),
            spent: spent.map(str::to_owned),
            ..Entry::default()
        };
        let other = MacAddr([2; 6]);
        state.set_entry(&change(MAC, &entry(Some("debian"), true, None))).await.expect("written");
        state.set_entry(&change(MAC, &entry(Some("debian"), true, Some("debian")))).await.expect("written");
        state.set_entry(&change(other, &entry(None, false, Some("rescue")))).await.expect("written");
        state.set_entry(&change(MacAddr([4; 6]), &entry(Some("rescue"), false, None))).await.expect("written");
        state.set_entry(&change(MacAddr([4; 6]), &Entry::default())).await.expect("taken out");
        let (approved, guest) = (Entry { approved: true, ..Entry::default() }, MacAddr([6; 6]));
        state.set_entry(&change(guest, &approved)).await.expect("written");
        // Simulates a kill: nothing is closed.
        let again = State::open(&url(&folder)).await.expect("opened");
        assert_eq!(again.offer_shapes().await.expect("read"), [(Key::Card(MAC), Shape::BootServer)]);
        let debian = entry(Some("debian"), true, Some("debian"));
        let said = [(MAC, debian), (other, entry(None, false, Some("rescue"))), (guest, approved)];
        let said: Roster = said.into_iter().collect();
        assert_eq!(again.roster().await.expect("read"), said);
        let peeking = State::peek(&url(&folder)).await.expect("opened beside the other");
        assert_eq!(peeking.roster().await.expect("read"), said);
        assert!(peeking.set_entry(&change(MAC, &Entry::default())).await.is_err(), "it is read only");
        peeking.close().await;
        assert_eq!(again.secret("answers", b"one").await.expect("made"), b"one");
        assert_eq!(again.secret("answers", b"two").await.expect("read"), b"one", "made once");
        // Rows that another program wrote are ignored.
        sqlx::query("INSERT INTO offer_shapes (id, shape) VALUES ('nonsense', 'direct')")
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
            state
                .set_boots(&[(MAC.into(), boot(number, 7500)), (MAC.into(), boot(number, 8000))])
                .await
                .expect("written");
        }
        let kept: Vec<Timeline> = (3..=7).map(|number| Timeline::clone(&boot(number, 8000))).collect();
        assert_eq!(state.boots().await.expect("read"), [(MAC.into(), kept)]);
        // The number of machines is limited; the last ones are kept.
        let others =
            (0..3000u32).map(|n| (MacAddr([2, 0, 0, 0, (n >> 8) as u8, n as u8]).into(), boot(1, 9000 + u64::from(n))));
        state.set_boots(&others.collect::<Vec<_>>()).await.expect("written");
        let kept = state.boots().await.expect("read");
        assert_eq!(kept.len(), Timelines::MACHINES);
        assert!(kept.iter().all(|(id, _)| id.card != MAC), "it was silent the longest");
    }

    #[tokio::test]
    async fn a_damaged_or_newer_file_is_reported_with_the_fix() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = |error: StateError| error.to_string().replace(&folder.path().display().to_string(), "");
        fs::write(folder.path().join("state.db"), "this is no database, however long it may be".repeat(40))
            .expect("written");
        let broken = State::open(&url(&folder)).await.map(|_| ()).expect_err("broken");
        assert_eq!(
            said(broken),
            "the state file sqlite:///state.db is damaged: error returned from database: (code: 26) file is not a database; \
             move the file away (assignments and approvals in it are lost)"
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

    #[tokio::test]
    async fn what_was_kept_of_cards_is_kept_of_their_machines() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = SqliteConnectOptions::from_str(&url(&folder)).expect("a URL").create_if_missing(true);
        let pool = SqlitePoolOptions::new().connect_with(options).await.expect("made");
        let whole = migrator();
        let before = whole.iter().filter(|migration| migration.version < 6).cloned().collect();
        Migrator { migrations: Cow::Owned(before), ..Migrator::DEFAULT }.run(&pool).await.expect("an old state");
        for old in [
            "INSERT INTO roster (mac, profile, once, spent, approved) VALUES ('52:54:00:12:34:56', 'debian', 1, 'debian', 1)",
            "INSERT INTO roster (mac, spent) VALUES ('02:02:02:02:02:02', 'rescue')",
            "INSERT INTO offer_shapes (mac, shape) VALUES ('52:54:00:12:34:56', 'option_67')",
            "INSERT INTO boots (mac, began, last, timeline) VALUES ('52:54:00:12:34:56', 1, 2, '{\"number\": 3}')",
        ] {
            sqlx::query(old).execute(&pool).await.expect("written");
        }
        pool.close().await;
        let state = State::open(&url(&folder)).await.expect("brought up to date");
        let roster = state.roster().await.expect("read");
        let machine =
            MachineId::new(Some("n"), Some(uuid::Uuid::from_u128(0x4c4c4544_0042_3510_8052_b4c04f564e31)), MAC);
        let said = roster.of(machine).expect("it is known by its card");
        let assigned = Some(Assignment { profile: "debian".into(), once: true });
        assert_eq!((said.assigned, said.spent, said.approved), (assigned, Some("debian".into()), true));
        assert!(roster.of(MacAddr([2; 6])).is_some_and(|said| said.spent.as_deref() == Some("rescue")));
        assert_eq!(state.offer_shapes().await.expect("read"), [(Key::Card(MAC), Shape::Option67)]);
        let boots = state.boots().await.expect("read");
        assert!(matches!(boots.as_slice(), [(id, boots)] if *id == MAC.into() && boots[0].number == 3), "{boots:?}");
        // It is now stored under its name, and nothing is left under its MAC address.
        state.set_entry(&roster.change(machine, &[], |before| before)).await.expect("written");
        let joined = state.roster().await.expect("read");
        assert_eq!(joined.iter().count(), 2);
        assert_eq!(joined.of(machine.by(MacAddr([4; 6]))).and_then(|said| said.spent), Some("debian".into()));
    }
}
