//! What was learned of machines' firmware. Each change has a number, by which other appliances hear of it.

use sqlx::{Connection as _, Error};

use super::{
    engine::on,
    shared::{NEXT_NUMBER, NOTIFY, NUMBER, start},
    store::{State, now},
};
use crate::boot::{
    chain::Trust,
    identity::{Key, MachineId},
    learned::Learned,
    shape::Shape,
};

type Row = (String, Option<String>, Option<String>);

impl State {
    /// What was learned since a number, and the number up to which that is. A machine of which nothing is said was
    /// forgotten. Begin with [`State::NOTHING_LEARNED`].
    ///
    /// # Errors
    /// Those of the engine. Invalid rows are ignored.
    pub async fn learned(&self, since: i64) -> Result<(Vec<(Key, Learned)>, i64), Error> {
        const QUERY: &str = "SELECT id, shape, trust FROM firmware WHERE revision > $1 ORDER BY learned_at DESC";
        let (number, rows): (i64, Vec<Row>) = on!(self.engine, connection => {
            let (number,): (i64,) = sqlx::query_as(NUMBER).fetch_one(&mut *connection).await?;
            let rows = sqlx::query_as(QUERY).bind(start(since, number)).fetch_all(&mut *connection).await?;
            Ok((number, rows))
        })?;
        let row = |(id, shape, trust): Row| {
            let learned = Learned {
                shape: shape.as_deref().and_then(Shape::named),
                trust: trust.as_deref().and_then(Trust::named),
            };
            Some((id.parse().ok()?, learned))
        };
        Ok((rows.into_iter().filter_map(row).collect(), number))
    }

    /// Remembers what was learned of machines, beside what is known of them. All or nothing is kept.
    ///
    /// # Errors
    /// Those of the engine: a full disk, a file that became read-only, a server that cannot be reached.
    pub async fn learn(&self, learned: &[(Key, Learned)]) -> Result<(), Error> {
        const JOIN: &str = "INSERT INTO firmware (id, shape, trust, learned_at, revision) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO UPDATE SET shape = COALESCE(excluded.shape, firmware.shape),
                 trust = COALESCE(excluded.trust, firmware.trust), learned_at = excluded.learned_at,
                 revision = excluded.revision";
        self.write(JOIN, learned).await
    }

    /// Copies what is known elsewhere into this file.
    ///
    /// # Errors
    /// As [`State::learn`].
    pub async fn copy_learned(&self, learned: &[(Key, Learned)]) -> Result<(), Error> {
        const REPLACE: &str =
            "INSERT INTO firmware (id, shape, trust, learned_at, revision) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO UPDATE SET shape = excluded.shape, trust = excluded.trust,
                 learned_at = excluded.learned_at, revision = excluded.revision";
        self.write(REPLACE, learned).await
    }

    async fn write(&self, statement: &'static str, learned: &[(Key, Learned)]) -> Result<(), Error> {
        let (now, notifies) = (now(), self.is_on_server());
        on!(self.engine, connection => {
            let mut change = connection.begin().await?;
            let (number,): (i64,) = sqlx::query_as(NEXT_NUMBER).fetch_one(&mut *change).await?;
            for (key, Learned { shape, trust }) in learned {
                let query = sqlx::query(statement).bind(key.to_string()).bind(shape.map(Shape::name));
                query.bind(trust.map(Trust::name)).bind(now).bind(number).execute(&mut *change).await?;
            }
            if notifies {
                sqlx::query(NOTIFY).execute(&mut *change).await?;
            }
            change.commit().await
        })
    }

    /// Forgets what was learned of a machine's firmware, under all of its names; whether there was something.
    ///
    /// # Errors
    /// As [`State::learn`].
    pub async fn forget_firmware(&self, machine: MachineId) -> Result<bool, Error> {
        const FORGET: &str = "UPDATE firmware SET shape = NULL, trust = NULL, revision = $2
             WHERE id = $1 AND (shape IS NOT NULL OR trust IS NOT NULL)";
        let keys: Vec<String> = machine.keys().map(|key| key.to_string()).collect();
        let notifies = self.is_on_server();
        on!(self.engine, connection => {
            let mut change = connection.begin().await?;
            let (number,): (i64,) = sqlx::query_as(NEXT_NUMBER).fetch_one(&mut *change).await?;
            let mut count = 0;
            for key in &keys {
                count += sqlx::query(FORGET).bind(key).bind(number).execute(&mut *change).await?.rows_affected();
            }
            if notifies {
                sqlx::query(NOTIFY).execute(&mut *change).await?;
            }
            change.commit().await?;
            Ok(count > 0)
        })
    }

    /// Before the first change.
    pub const NOTHING_LEARNED: i64 = super::shared::NOTHING;
}
