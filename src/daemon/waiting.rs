//! What waits for the server of the state, as the last known copy keeps it.

use serde::{Deserialize, Serialize};

use crate::boot::{
    happened::{Happened, Note},
    identity::{Key, MachineId},
};

/// A note as the copy keeps it.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    machine: Vec<String>,
    beside: Vec<String>,
    what: Happened,
    at: u64,
}

impl Stored {
    pub(super) fn written(Note { machine, beside, what, at }: &Note) -> Option<String> {
        let names = |keys: &mut dyn Iterator<Item = Key>| keys.map(|key| key.to_string()).collect();
        let machine = names(&mut machine.keys());
        let stored = Self { machine, beside: names(&mut beside.iter().copied()), what: what.clone(), at: *at };
        serde_json::to_string(&stored).ok()
    }

    /// None where another version wrote it.
    pub(super) fn read(text: &str) -> Option<Note> {
        let Self { machine, beside, what, at } = serde_json::from_str(text).ok()?;
        let keys = |names: Vec<String>| names.iter().filter_map(|name| name.parse().ok()).collect::<Vec<Key>>();
        let machine = keys(machine);
        let (first, rest) = machine.split_first()?;
        Some(Note { machine: MachineId::of_key(*first, rest.iter().copied()), beside: keys(beside), what, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::mac::MacAddr;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let machine = MachineId::new(
            Some("n"),
            Some(uuid::Uuid::from_u128(0x4c4c4544_0042_3510_8052_b4c04f564e31)),
            MacAddr([2; 6]),
        );
        let beside = vec![Key::Card(MacAddr([4; 6]))];
        let note = Note { machine, beside, what: Happened::Failed("demo".into(), "no disk".into()), at: 7 };
        let read = Stored::read(&Stored::written(&note).expect("written")).expect("read");
        assert_eq!((read.machine.keys().collect::<Vec<_>>(), &read), (machine.keys().collect(), &note));
        assert_eq!(Stored::read("{}"), None);
    }
}
