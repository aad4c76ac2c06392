//! Errors of the state when it is opened, with their fixes.

use std::{borrow::Cow, path::Path};

use rustix::{
    fs::{Access, access},
    io::Errno,
};

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
    #[error("cannot use the state {url}: {}{fix}", message(.error))]
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
    /// Another process has the file.
    pub(super) fn in_use(url: &str) -> Self {
        let error = std::io::Error::new(std::io::ErrorKind::ResourceBusy, "another netbootd uses this file");
        Self::Unusable { url: url.to_owned(), error: sqlx::Error::Io(error), fix: IN_USE }
    }

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
            Some("8" | "14" | "1544") => {
                let fix = if is_read_only(&url) { READ_ONLY_FOLDER } else { NOT_OURS };
                Self::Unusable { url, error, fix }
            }
            code => Self::Unusable { url, fix: fix_of(code.unwrap_or_default()), error },
        }
    }
}

/// An error of the engine, in its words, with its fix where that is known.
#[must_use]
pub fn words(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    format!("{}{}", message(error), fix_of(code.as_deref().unwrap_or_default()))
}

/// The words of a server without the line of its source, which follows them.
fn message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) if error.code().is_some_and(|code| code.len() == SQLSTATE) => {
            error.message().to_owned()
        }
        sqlx::Error::Configuration(error) => error.to_string(),
        sqlx::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// By the codes of PostgreSQL (its documentation, appendix A).
fn fix_of(code: &str) -> &'static str {
    match code {
        // invalid_password and invalid_authorization_specification.
        "28P01" | "28000" => NOT_LET_IN,
        // invalid_catalog_name.
        "3D000" => NO_DATABASE,
        // insufficient_privilege and invalid_schema_name.
        "42501" | "3F000" => NO_RIGHT,
        // read_only_sql_transaction.
        "25006" => READ_ONLY,
        // too_many_connections.
        "53300" => TOO_MANY,
        // undefined_table and undefined_column. Who restores a backup makes the tables, and ours would be in the way.
        "42P01" | "42703" => NO_TABLES,
        // untranslatable_character and character_not_in_repertoire.
        "22P05" | "22021" => NOT_UTF8,
        // protocol_violation: pgbouncer says so of parameters that it does not know.
        "08P01" => POOLED,
        // disk_full.
        "53100" => "; free some space on the host of the database",
        _ => "",
    }
}

/// Whether a state file would be in a file system that nobody can write to.
fn is_read_only(url: &str) -> bool {
    let folder = url.strip_prefix("sqlite://").map(Path::new).and_then(Path::parent);
    folder.is_some_and(|folder| access(folder, Access::WRITE_OK) == Err(Errno::ROFS))
}

/// Characters of its codes; SQLite's have fewer.
const SQLSTATE: usize = 5;
const READ_ONLY: &str =
    "; the server is a standby, or its database is read-only: name the primary server with state.url";
const TOO_MANY: &str = "; raise max_connections of the server: each appliance uses three connections";
const NO_TABLES: &str =
    "; the database is another one than before: restore its backup, or start netbootd again, which makes its tables";
const NOT_UTF8: &str = "; the database must have the encoding UTF8: \
                        createdb --owner=netbootd --encoding=UTF8 --template=template0 netbootd";
const POOLED: &str = "; name PostgreSQL itself with state.url, and no pgbouncer before it";
const IN_USE: &str = "; give each netbootd on this host a file of its own with state.url, or stop the other one and start this one again";
const READ_ONLY_FOLDER: &str = "; its folder is read-only: for the service, allow it with ReadWritePaths=FOLDER below [Service] (systemctl edit \
                         netbootd); or keep the state in /var/lib/netbootd";
pub(super) const NOT_OURS: &str =
    "; its folder must exist, and the folder and the file must belong to the user that netbootd runs as";
const NOT_LET_IN: &str = "; set state.password_file, and allow this host in pg_hba.conf of the server";
const NO_DATABASE: &str = "; make it on the server: createdb --owner=netbootd netbootd";
const NO_RIGHT: &str = "; its user must own the database: ALTER DATABASE netbootd OWNER TO netbootd";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_server_have_fixes() {
        for code in ["28P01", "3D000", "42501", "3F000", "25006", "53300", "53100", "22P05", "08P01", "42P01"] {
            assert!(fix_of(code).starts_with("; "), "{code}");
        }
        assert_eq!(fix_of("40001"), "");
        let newer = StateError::Newer { url: "postgres://db/netbootd".into(), found: 99, known: 10 };
        let said = words(&sqlx::Error::Configuration(Box::new(newer)));
        assert!(said.starts_with("the state postgres://db/netbootd is of a newer netbootd"), "{said}");
    }
}
