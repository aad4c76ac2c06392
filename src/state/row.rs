//! A machine's row, on both engines.

use std::collections::BTreeSet;

use sqlx::{Database, Encode, IntoArguments, Type, query::Query};

use crate::boot::{
    identity::Key,
    roster::{Assignment, Begun, Entry, HandedOver, Tried},
};

/// In the order of the columns.
pub(super) type MachineRow = (
    String,
    Option<String>,
    i64,
    Option<String>,
    i64,
    Option<String>,
    i64,
    Option<String>,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
    i64,
);

macro_rules! columns {
    () => {
        "id, profile, once, spent, approved, tried, tries, failed, known_as, begun, begun_by, handed_over, handed_over_at, renewed"
    };
}

pub(super) const COLUMNS: &str = concat!("SELECT ", columns!(), " FROM machines WHERE gone = 0");
/// The rows after a number, those that are gone too: they say nothing.
pub(super) const COLUMNS_AND_GONE: &str = concat!("SELECT ", columns!(), " FROM machines WHERE revision > $1");
pub(super) const REPLACE: &str = concat!(
    "INSERT INTO machines (",
    columns!(),
    ", revision, gone) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
     ON CONFLICT (id) DO UPDATE SET profile = excluded.profile, once = excluded.once, spent = excluded.spent,
         approved = excluded.approved, tried = excluded.tried, tries = excluded.tries, failed = excluded.failed,
         known_as = excluded.known_as, begun = excluded.begun, begun_by = excluded.begun_by,
         handed_over = excluded.handed_over, handed_over_at = excluded.handed_over_at, renewed = excluded.renewed,
         revision = excluded.revision, gone = excluded.gone"
);

/// The statement with the values of an entry.
pub(super) fn values<'q, D: Database>(
    statement: &'static str,
    key: &Key,
    entry: &Entry,
    revision: i64,
) -> Query<'q, D, <D as Database>::Arguments>
where
    <D as Database>::Arguments: IntoArguments<D>,
    String: Encode<'q, D> + Type<D>,
    Option<String>: Encode<'q, D> + Type<D>,
    i64: Encode<'q, D> + Type<D>,
{
    let Entry { assigned, spent, had, approved, tried, begun, handed_over, renewed, known_as, .. } = entry;
    let (assigned, tried, begun, handed_over) =
        (assigned.as_ref(), tried.as_ref(), begun.as_ref(), handed_over.as_ref());
    sqlx::query(statement)
        .bind(key.to_string())
        .bind(assigned.map(|assigned| assigned.profile.clone()))
        .bind(i64::from(assigned.is_some_and(|assigned| assigned.once)))
        .bind(text_of(spent.as_deref(), had))
        .bind(i64::from(*approved))
        .bind(tried.map(|tried| tried.profile.clone()))
        .bind(tried.map_or(0, |tried| i64::from(tried.count)))
        .bind(tried.and_then(|tried| tried.failed.as_deref()).map(without_nul))
        .bind(lines(known_as))
        .bind(begun.map(|begun| begun.profile.clone()))
        .bind(begun.map(|begun| begun.by.clone()))
        .bind(handed_over.map(|last| last.profile.clone()))
        .bind(handed_over.map_or(0, |last| i64::try_from(last.at).unwrap_or(i64::MAX)))
        .bind(i64::try_from(*renewed).unwrap_or(i64::MAX))
        .bind(revision)
        .bind(i64::from(entry.is_empty()))
}

/// The entry of a row; none where another program wrote it.
pub(super) fn entry(row: MachineRow) -> Option<(Key, Entry)> {
    let (id, profile, once, spent, approved, tried, tries, failed, known_as, begun, begun_by, handed_over, at, renewed) =
        row;
    let known_as = names(&known_as);
    // A UUID that is known by now to be on many boards is no key any more; the machine's other names are.
    let key = id.parse().ok().or_else(|| known_as.first().copied())?;
    let assigned = profile.map(|profile| Assignment { profile, once: once != 0 });
    let tried = tried.map(|profile| Tried { profile, count: u32::try_from(tries).unwrap_or(u32::MAX), failed });
    let (spent, had) = had_of(spent);
    let begun = begun.zip(begun_by).map(|(profile, by)| Begun { profile, by });
    let handed_over = handed_over.map(|profile| HandedOver { profile, at: u64::try_from(at).unwrap_or_default() });
    let (approved, renewed) = (approved != 0, u64::try_from(renewed).unwrap_or_default());
    let is_in_doubt = false;
    Some((key, Entry { assigned, spent, had, approved, tried, begun, handed_over, renewed, is_in_doubt, known_as }))
}

/// The names of a machine, one per line.
pub(super) fn lines(known_as: &BTreeSet<Key>) -> String {
    known_as.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

pub(super) fn names(lines: &str) -> BTreeSet<Key> {
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
