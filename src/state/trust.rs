//! Which machines start unsigned loaders, and what is forgotten of a machine's firmware.

use super::{State, engine::on, store::now};
use crate::boot::{
    chain::Trust,
    identity::{Key, MachineId},
};

impl State {
    /// The kinds of loaders that started on machines.
    ///
    /// # Errors
    /// Those of the engine. Invalid rows are ignored.
    pub async fn loader_trust(&self) -> Result<Vec<(Key, Trust)>, sqlx::Error> {
        const QUERY: &str = "SELECT id, trust FROM loader_trust ORDER BY learned_at DESC";
        let rows: Vec<(String, String)> =
            on!(self.engine, connection => sqlx::query_as(QUERY).fetch_all(connection).await)?;
        Ok(rows.into_iter().filter_map(|(id, trust)| Some((id.parse().ok()?, Trust::named(&trust)?))).collect())
    }

    /// Remembers the kind of loader that starts on a machine.
    ///
    /// # Errors
    /// As [`State::set_offer_shape`].
    pub async fn set_loader_trust(&self, key: Key, trust: Trust) -> Result<(), sqlx::Error> {
        const QUERY: &str = "INSERT INTO loader_trust (id, trust, learned_at) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET trust = excluded.trust, learned_at = excluded.learned_at";
        let (key, now) = (key.to_string(), now());
        on!(self.engine, connection => {
            sqlx::query(QUERY).bind(&key).bind(trust.name()).bind(now).execute(connection).await.map(drop)
        })
    }

    /// Forgets what was learned of a machine's firmware, under all of its names.
    ///
    /// # Errors
    /// As [`State::set_offer_shape`].
    pub async fn forget_firmware(&self, machine: MachineId) -> Result<(), sqlx::Error> {
        for key in machine.keys().map(|key| key.to_string()) {
            for query in ["DELETE FROM loader_trust WHERE id = $1", "DELETE FROM offer_shapes WHERE id = $1"] {
                on!(self.engine, connection => sqlx::query(query).bind(&key).execute(connection).await.map(drop))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{mac::MacAddr, shape::Shape};

    #[tokio::test]
    async fn the_kind_of_a_machines_loader_is_kept_and_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("state.db").display());
        let mac = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        let state = State::open(&url).await.expect("made");
        state.set_loader_trust(Key::Card(mac), Trust::Unsigned).await.expect("written");
        state.set_offer_shape(Key::Card(mac), Shape::Option67).await.expect("written");
        state.close().await;
        let state = State::open(&url).await.expect("opened");
        assert_eq!(state.loader_trust().await.expect("read"), [(Key::Card(mac), Trust::Unsigned)]);
        state.set_loader_trust(Key::Card(mac), Trust::Signed).await.expect("written");
        assert_eq!(state.loader_trust().await.expect("read"), [(Key::Card(mac), Trust::Signed)]);
        state.forget_firmware(mac.into()).await.expect("written");
        assert_eq!(state.loader_trust().await.expect("read"), []);
        assert_eq!(state.offer_shapes().await.expect("read"), []);
    }
}
