//! Errors of the state when it is opened, with their fixes.

use std::borrow::Cow;

const MOVE: &str = "move the file away: what it holds is lost, so machines are given their one-time profiles again, and \
                    their disks are installed again; set profile = \"local\" in rules with once before you start netbootd";

/// An error of the state, with its fix.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is of a newer version.
    #[error(
        "the state {url} is of a newer netbootd (schema {found}, this version knows {known}): install that version, or {}",
        if .url.starts_with("sqlite:") { MOVE } else { "name another database with state.url" }
    )]
    Newer {
        /// Its URL, without the password.
        url: String,
        /// The number of its last migration.
        found: i64,
        /// The number of our last migration.
        known: i64,
    },
    /// The file is not a database, or it is damaged.
    #[error("the state file {url} is damaged: {error}; bring back a copy of it, or {MOVE}")]
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
    /// Another error: a missing folder, a missing permission, a server that cannot be reached.
    #[error("cannot use the state {url}: {error}{fix}")]
    Unusable {
        /// The URL.
        url: String,
        /// The engine's error.
        error: sqlx::Error,
        /// The fix, if it is known.
        fix: &'static str,
    },
}

impl StateError {
    /// `url` without the password.
    pub(super) fn of(url: &str, error: sqlx::Error) -> Self {
        let url = url.to_owned();
        let code = error.as_database_error().and_then(|error| error.code().map(Cow::into_owned));
        match code.as_deref() {
            // SQLITE_CORRUPT and SQLITE_NOTADB.
            Some("11" | "26") => Self::Broken { url, error },
            // SQLITE_FULL, SQLITE_IOERR_WRITE and SQLITE_IOERR_SHMSIZE.
            Some("13" | "778" | "4874") => Self::Full { url, error },
            // SQLITE_READONLY, SQLITE_CANTOPEN and SQLITE_READONLY_DIRECTORY.
            Some("8" | "14" | "1544") => Self::Unusable { url, error, fix: NOT_OURS },
            // PostgreSQL, appendix A: invalid_password and invalid_authorization_specification.
            Some("28P01" | "28000") => Self::Unusable { url, error, fix: NOT_LET_IN },
            // invalid_catalog_name.
            Some("3D000") => Self::Unusable { url, error, fix: NO_DATABASE },
            // insufficient_privilege.
            Some("42501") => Self::Unusable { url, error, fix: NO_RIGHT },
            _ => Self::Unusable { url, error, fix: "" },
        }
    }
}

pub(super) const NOT_OURS: &str =
    "; its folder must exist, and the folder and the file must belong to the user that netbootd runs as";
const NOT_LET_IN: &str = "; set state.password_file, and allow this host in pg_hba.conf of the server";
const NO_DATABASE: &str = "; make it on the server: createdb --owner=netbootd netbootd";
const NO_RIGHT: &str = "; its user must own the database: ALTER DATABASE netbootd OWNER TO netbootd";
