//! Where the tables are: a SQLite file, or a PostgreSQL server that several appliances share.
//!
//! Both have the same tables, by the same migrations, and take the same statements: [`on`] runs one text on either.
//! A new table joins with one file `N_name.sql`, written for SQLite, and one line in [`MIGRATIONS`]. In statements,
//! parameters are `$1`, yes and no are the numbers 1 and 0, a row is replaced by `INSERT … ON CONFLICT (…) DO UPDATE`,
//! and the clock is a parameter.

use std::{
    borrow::Cow,
    ops::{Deref, DerefMut},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection, Error, PgConnection, SqlSafeStr, SqlitePool,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

use super::{fault::StateError, private};

/// Runs the same code on either engine: `on!(engine, connection => Ok(sqlx::query("…").execute(&mut *connection).await?))`.
macro_rules! on {
    ($engine:expr, $connection:ident => $run:expr) => {
        match &$engine {
            $crate::state::engine::Engine::Sqlite(pool) => {
                let mut held = pool.acquire().await?;
                let result: Result<_, sqlx::Error> = {
                    let $connection = &mut *held;
                    async { $run }.await
                };
                if result.is_err() {
                    // SQLite ends a transaction by itself where a disk is full, of which the library knows nothing: later
                    // transactions would then be parts of one that is never committed, and be lost.
                    let _ = held.close().await;
                }
                result
            }
            $crate::state::engine::Engine::Postgres(server) => {
                let mut held = server.hold().await?;
                let $connection = &mut *held;
                let run = async { $run };
                let result: Result<_, sqlx::Error> = $crate::state::engine::in_time(run).await;
                held.keep_if(result.is_ok());
                result
            }
        }
    };
}
pub(super) use on;

/// Where the tables are.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    Sqlite(SqlitePool),
    Postgres(Arc<Server>),
}

/// A PostgreSQL server. One connection at a time, as with SQLite: each change waits for the one before it anyway.
#[derive(Debug)]
pub(super) struct Server {
    options: PgConnectOptions,
    /// Its URL, for messages.
    shown: String,
    connection: Mutex<Option<PgConnection>>,
    is_migrated: AtomicBool,
}

/// The connection for one use. It is closed with this, except where it is kept: what was interrupted in the middle, or
/// is of a server that does not answer, is not used again.
pub(super) struct Held<'a> {
    place: MutexGuard<'a, Option<PgConnection>>,
    connection: Option<PgConnection>,
    is_good: bool,
}

impl Engine {
    /// A file, made where it is missing, with the current tables.
    pub(super) async fn file(url: &str, locking: SqliteLockingMode) -> Result<Self, StateError> {
        let fault = |error| StateError::of(url, error);
        let options = SqliteConnectOptions::from_str(url)
            .map_err(fault)?
            .create_if_missing(true)
            // A reader in another process (a backup) delays nothing. What is acknowledged is on the disk.
            .locking_mode(locking)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        if !url.contains(IN_MEMORY) {
            private::keep(options.get_filename());
        }
        // SQLite allows one writer at a time. A second connection would only wait for the first.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(fault)?;
        migrator(Dialect::Sqlite).run(&pool).await.map_err(|error| of_migration(url, error))?;
        Ok(Self::Sqlite(pool))
    }

    /// A file for reading only, as it is.
    pub(super) async fn file_as_it_is(url: &str) -> Result<Self, StateError> {
        let fault = |error| StateError::of(url, error);
        let options = SqliteConnectOptions::from_str(url).map_err(fault)?.read_only(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(fault)?;
        Ok(Self::Sqlite(pool))
    }

    /// A server, which need not answer yet.
    pub(super) fn server(options: PgConnectOptions, shown: String) -> Self {
        let (connection, is_migrated) = (Mutex::default(), AtomicBool::new(false));
        Self::Postgres(Arc::new(Server { options, shown, connection, is_migrated }))
    }

    pub(super) async fn close(self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(server) => {
                if let Some(connection) = server.connection.lock().await.take() {
                    // The server sees the end of the connection in any case.
                    let _ = timeout(CONNECT, connection.close()).await;
                }
            }
        }
    }
}

impl Server {
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// The connection; a new one where there is none, on which the tables are brought up to date first.
    pub(super) async fn hold(&self) -> Result<Held<'_>, Error> {
        let mut place = self.connection.lock().await;
        let connection = match place.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Held { place, connection: Some(connection), is_good: false })
    }

    /// Another connection, for what takes long and must not delay changes.
    pub(super) async fn connect(&self) -> Result<PgConnection, Error> {
        let connecting = PgConnection::connect_with(&self.options);
        let mut connection = timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(silent()))?;
        if !self.is_migrated.load(Ordering::Relaxed) {
            let migrator = migrator(Dialect::Postgres);
            // As `run`, which no task can wait for that may change its thread.
            let migrating = migrator.run_direct(None, &mut connection, false);
            let migrated = timeout(MIGRATE, migrating).await.map_err(|_| silent())?;
            migrated.map_err(|error| Error::Configuration(Box::new(of_migration(&self.shown, error))))?;
            self.is_migrated.store(true, Ordering::Relaxed);
        }
        Ok(connection)
    }
}

impl Held<'_> {
    pub(super) fn keep_if(&mut self, is_good: bool) {
        self.is_good = is_good;
    }
}

impl Deref for Held<'_> {
    type Target = PgConnection;

    #[expect(clippy::expect_used, reason = "it is there until this is dropped")]
    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("a connection")
    }
}

impl DerefMut for Held<'_> {
    #[expect(clippy::expect_used, reason = "it is there until this is dropped")]
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("a connection")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.is_good {
            *self.place = self.connection.take();
        }
    }
}

/// A server that does not answer within this time is one that cannot be reached.
pub(super) async fn in_time<T>(run: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER, run).await.unwrap_or_else(|_| Err(silent()))
}

fn silent() -> Error {
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer"))
}

fn of_migration(url: &str, error: MigrateError) -> StateError {
    match error {
        MigrateError::VersionMissing(found) => StateError::Newer { url: url.into(), found, known: KNOWN },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => StateError::of(url, error),
        error => StateError::of(url, Error::Migrate(Box::new(error))),
    }
}

/// How an engine writes what SQL has no common words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// A migration, which is written for SQLite, for this engine.
    fn of_sqlite(self, sql: &'static str) -> Cow<'static, str> {
        match self {
            Self::Sqlite => Cow::Borrowed(sql),
            Self::Postgres => {
                WORDS.iter().fold(sql.to_owned(), |sql, (sqlite, postgres)| sql.replace(sqlite, postgres)).into()
            }
        }
    }
}

/// The words of SQLite in migrations, and PostgreSQL's.
const WORDS: &[(&str, &str)] = &[
    (" STRICT;", ";"),
    (" WITHOUT ROWID;", ";"),
    (" INTEGER", " BIGINT"),
    (" REAL", " DOUBLE PRECISION"),
    (" BLOB", " BYTEA"),
    ("(unixepoch())", "(CAST(extract(epoch FROM now()) AS BIGINT))"),
];

pub(super) fn migrator(dialect: Dialect) -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, sql)| {
        let sql = match dialect.of_sqlite(sql) {
            Cow::Borrowed(sql) => sql.into_sql_str(),
            Cow::Owned(sql) => AssertSqlSafe(sql).into_sql_str(),
        };
        Migration::new(*version, Cow::Borrowed("netbootd"), MigrationType::Simple, sql, false)
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
    (7, include_str!("7_leases.sql")),
    (8, include_str!("8_loader_trust.sql")),
    (9, include_str!("9_appliances.sql")),
    (10, include_str!("10_firmware.sql")),
    (11, include_str!("11_renewed.sql")),
];
#[expect(clippy::indexing_slicing, reason = "at compile time")]
pub(super) const KNOWN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// In the URL of a state that is in no file.
pub(super) const IN_MEMORY: &str = ":memory:";

/// Until a server counts as one that cannot be reached.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(5);
/// Another appliance may be at it.
const MIGRATE: Duration = Duration::from_secs(60);
