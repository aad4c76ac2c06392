//! Leases of our own in the state.

use std::time::Duration;

use sqlx::Connection as _;

use super::{engine::on, store::State};
use crate::lease::{book::Held, kept::Kept};

/// In the order of the columns: address, network, card, held, ends, start, ends_at, time.
type Row = (String, String, String, String, i64, String, i64, i64);

impl State {
    /// The leases of earlier runs.
    ///
    /// # Errors
    /// Those of the engine. Invalid rows are ignored.
    pub async fn leases(&self) -> Result<Vec<Kept>, sqlx::Error> {
        const QUERY: &str = "SELECT address, network, card, held, ends, start, ends_at, time FROM leases";
        let rows: Vec<Row> = on!(self.engine, connection => sqlx::query_as(QUERY).fetch_all(connection).await)?;
        let millis = |millis: i64| Some(Duration::from_millis(u64::try_from(millis).ok()?));
        let row = |(address, network, card, held, ends, start, ends_at, time): Row| {
            Some(Kept {
                address: address.parse().ok()?,
                network,
                card: card.parse().ok()?,
                held: Held::named(&held)?,
                ends: millis(ends)?,
                start,
                ends_at: millis(ends_at)?,
                time: Duration::from_secs(u64::try_from(time).ok()?),
            })
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// Stores leases, all of them or none. There is one for each address.
    ///
    /// # Errors
    /// As [`Self::learn`].
    pub async fn set_leases(&self, leases: &[Kept]) -> Result<(), sqlx::Error> {
        const WRITE: &str = "INSERT INTO leases (address, network, card, held, ends, start, ends_at, time)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (address) DO UPDATE SET network = excluded.network, card = excluded.card,
                 held = excluded.held, ends = excluded.ends, start = excluded.start, ends_at = excluded.ends_at,
                 time = excluded.time";
        let number = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
        on!(self.engine, connection => {
            let mut change = connection.begin().await?;
            for Kept { address, network, card, held, ends, start, ends_at, time } in leases {
                let query = sqlx::query(WRITE).bind(address.to_string()).bind(network).bind(card.to_string());
                let query = query.bind(held.name()).bind(number(ends.as_millis())).bind(start);
                let query = query.bind(number(ends_at.as_millis())).bind(number(time.as_secs().into()));
                query.execute(&mut *change).await?;
            }
            change.commit().await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::mac::MacAddr;

    #[tokio::test]
    async fn leases_are_there_after_a_kill() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        let lease = |last: u8, held| Kept {
            address: [192, 0, 2, last].into(),
            network: "eth1".into(),
            card: MacAddr([2, 0, 0, 0, 0, last]),
            held,
            ends: Duration::from_millis(4_000_500),
            start: "a-b-c".into(),
            ends_at: Duration::from_secs(1_800_000_000),
            time: Duration::from_secs(3600),
        };
        let state = State::open(&url).await.expect("made");
        let leases = [lease(7, Held::Leased), lease(8, Held::Released)];
        state.set_leases(&leases).await.expect("written");
        let taken = lease(7, Held::Taken);
        state.set_leases(std::slice::from_ref(&taken)).await.expect("written again");
        // Nothing is closed.
        let again = State::open(&url).await.expect("opened");
        let mut read = again.leases().await.expect("read");
        read.sort_by_key(|kept| kept.address);
        assert_eq!(read, [taken, lease(8, Held::Released)]);
    }
}
