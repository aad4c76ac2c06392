//! Which machine this is: what is kept of a machine is kept for a [`MachineId`], not for a card.
//!
//! The strongest name decides: the `name` of a rule that names one machine, then the SMBIOS UUID, then the MAC address.
//! A machine with two cards is one machine, and two laptops that boot by one USB adapter are two.

use std::{
    collections::HashSet,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::{Mutex, OnceLock, PoisonError},
};

use uuid::Uuid;

use super::mac::MacAddr;

/// A machine, by all names that are known of it. Two are equal where their strongest names ([`Key`]) are.
#[derive(Clone, Copy)]
pub struct MachineId {
    name: Option<&'static str>,
    uuid: Option<Uuid>,
    /// The same in the byte order in which it was heard first: that is on the label, and is what people are shown.
    said: Option<Uuid>,
    /// The card that it was heard by. It is also what people are shown.
    pub card: MacAddr,
}

/// One name of a machine. The state keeps it as text: `name:k8s08`, `uuid:…` or `mac:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A card.
    Card(MacAddr),
    /// An SMBIOS UUID, as [`own_uuid`] writes it.
    Uuid(Uuid),
    /// The `name` of a rule, in lower case.
    Name(&'static str),
}

impl MachineId {
    /// From what a stage knows. `name`: that of its rule, where the rule names one machine.
    #[must_use]
    pub fn new(name: Option<&str>, uuid: Option<Uuid>, card: MacAddr) -> Self {
        let own = uuid.and_then(own_uuid);
        Self { name: name.map(kept_name), uuid: own, said: uuid.filter(|_| own.is_some()), card }
    }

    /// Its strongest name.
    #[must_use]
    pub fn key(&self) -> Key {
        let by_uuid = self.uuid.map(Key::Uuid);
        self.name.map(Key::Name).or(by_uuid).unwrap_or(Key::Card(self.card))
    }

    /// All its names, the strongest first.
    pub fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        let strong = [self.name.map(Key::Name), self.uuid.map(Key::Uuid)];
        let card = Some(Key::Card(self.card)).filter(|_| self.has_card());
        strong.into_iter().flatten().chain(card)
    }

    /// Its UUID, where it has one of its own.
    #[must_use]
    pub fn uuid(&self) -> Option<Uuid> {
        self.uuid
    }

    /// Its UUID in the byte order in which it was heard.
    #[must_use]
    pub fn uuid_as_said(&self) -> Option<Uuid> {
        self.said.or(self.uuid)
    }

    /// The same machine, with its UUID in this byte order.
    #[must_use]
    pub fn said_as(self, said: Option<Uuid>) -> Self {
        let said = said.filter(|said| own_uuid(*said) == self.uuid);
        Self { said: said.or(self.said), ..self }
    }

    /// The name of its rule, in lower case.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        self.name
    }

    /// The same machine with what `other` knows of it beside.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let both = Self { name: self.name.or(other.name), uuid: self.uuid.or(other.uuid), ..self };
        both.said_as(self.said.or(other.said))
    }

    /// The machine of a name. `known_as`: its other names.
    #[must_use]
    pub fn of_key(key: Key, known_as: impl IntoIterator<Item = Key>) -> Self {
        let mut id = Self { name: None, uuid: None, said: None, card: NO_CARD };
        for key in [key].into_iter().chain(known_as) {
            match key {
                Key::Name(name) => id.name = id.name.or(Some(name)),
                Key::Uuid(uuid) => id.uuid = id.uuid.or(Some(uuid)),
                Key::Card(card) if id.card == NO_CARD => id.card = card,
                Key::Card(_) => {}
            }
        }
        id
    }

    /// The same machine by another of its cards.
    #[must_use]
    pub fn by(self, card: MacAddr) -> Self {
        Self { card, ..self }
    }

    /// With other names of it.
    #[must_use]
    pub fn with_names(self, names: impl IntoIterator<Item = Key>) -> Self {
        let names: Vec<Key> = self.keys().chain(names).collect();
        Self::of_key(self.key(), names).said_as(self.said)
    }

    /// Whether a card of it is known.
    #[must_use]
    pub fn has_card(&self) -> bool {
        self.card != NO_CARD
    }
}

impl From<MacAddr> for MachineId {
    fn from(card: MacAddr) -> Self {
        Self { name: None, uuid: None, said: None, card }
    }
}

impl PartialEq for MachineId {
    /// As their [`Key`]s are, which are not made for it: a machine is compared with all others at its address.
    fn eq(&self, other: &Self) -> bool {
        match ((self.name, self.uuid), (other.name, other.uuid)) {
            ((None, None), (None, None)) => self.card == other.card,
            ((None, mine), (None, theirs)) => mine == theirs,
            ((mine, _), (theirs, _)) => mine == theirs,
        }
    }
}

impl Eq for MachineId {}

impl Hash for MachineId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for MachineId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MachineId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The card, as people know machines; the strongest name where no card is known.
impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.has_card(), self.key()) {
            (true, _) | (_, Key::Card(_)) => fmt::Display::fmt(&self.card, f),
            (_, Key::Uuid(uuid)) => fmt::Display::fmt(&self.said.unwrap_or(uuid), f),
            (_, Key::Name(name)) => f.write_str(name),
        }
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.key(), self.card)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "name:{name}"),
            Self::Uuid(uuid) => write!(f, "uuid:{uuid}"),
            Self::Card(mac) => write!(f, "mac:{mac}"),
        }
    }
}

/// The text is no [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not identify a machine: use name:…, uuid:… or mac:…")]
pub struct NotAKey;

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        match text.split_once(':') {
            Some(("name", name)) if !name.is_empty() => Ok(Self::Name(kept_name(name))),
            Some(("uuid", uuid)) => uuid.parse().ok().and_then(own_uuid).map(Self::Uuid).ok_or(NotAKey),
            Some(("mac", mac)) => mac.parse().map(Self::Card).map_err(|_| NotAKey),
            _ => Err(NotAKey),
        }
    }
}

/// A name that stays for as long as the program runs, so that a [`MachineId`] is a plain value. Only names of rules come
/// here, and each is kept once.
fn kept_name(name: &str) -> &'static str {
    static NAMES: OnceLock<Mutex<HashSet<&'static str>>> = OnceLock::new();
    let name = name.to_lowercase();
    let mut names = NAMES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = names.get(name.as_str()) {
        return kept;
    }
    let kept: &'static str = Box::leak(name.into_boxed_str());
    names.insert(kept);
    kept
}

/// A UUID in the one form that both byte orders lead to; `None` where many boards share it. SMBIOS 2.6 turned the first
/// three fields round, and firmware (option 97), iPXE and labels do not agree.
#[must_use]
pub fn own_uuid(uuid: Uuid) -> Option<Uuid> {
    let turned = Uuid::from_bytes(uuid.to_bytes_le());
    let is_shared = |uuid: &Uuid| SHARED_UUIDS.contains(&uuid.as_u128());
    // All zeros, all FF: never set.
    let first = uuid.as_bytes().first().copied().unwrap_or_default();
    let is_one_byte = uuid.as_bytes().iter().all(|byte| *byte == first);
    (!is_one_byte && !is_shared(&uuid) && !is_shared(&turned)).then(|| uuid.min(turned))
}

/// Whether a serial number is a machine's own, and not what boards say that were given none.
#[must_use]
pub fn is_own_serial(serial: &str) -> bool {
    let plain: String = serial.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let first = plain.chars().next();
    // "0", "00000000", "xxxxxxxx", "……".
    let is_one_character = plain.chars().all(|c| Some(c) == first);
    let is_counted = plain.len() < 21 && "12345678901234567890".starts_with(&plain)
        || plain.len() < 21 && "01234567890123456789".starts_with(&plain);
    !is_one_character && !is_counted && !SHARED_SERIALS.contains(&plain.as_str())
}

/// No card has it: the address of nobody.
const NO_CARD: MacAddr = MacAddr([0; 6]);

/// UUIDs that many boards were shipped with, beside those of one byte repeated (all zeros, all FF).
const SHARED_UUIDS: [u128; 9] = [
    // AMI's sample, in both byte orders: boards whose maker set none.
    0x03000200_0400_0500_0006_000700080009,
    0x00020003_0004_0005_0006_000700080009,
    // Phoenix's and Award's.
    0x12345678_1234_5678_90ab_cddeefaabbcc,
    0x12345678_1234_1234_1234_123456789abc,
    0x12345678_1234_5678_1234_567812345678,
    0x00112233_4455_6677_8899_aabbccddeeff,
    0x01234567_89ab_cdef_0123_456789abcdef,
    // Supermicro's and Gigabyte's boards before they are given one.
    0x00000000_0000_0000_0000_000000000001,
    0xfefefefe_fefe_fefe_fefe_fefefefefefe,
];

/// Texts that boards say instead of a serial number, by their letters and digits alone, in lower case.
const SHARED_SERIALS: [&str; 30] = [
    "",
    "tobefilledbyoem",
    "tobefilledbyoemtobefilledbyoem",
    "filledbyoem",
    "oem",
    "systemserialnumber",
    "serialnumber",
    "chassisserialnumber",
    "baseboardserialnumber",
    "boardserialnumber",
    "defaultstring",
    "default",
    "notspecified",
    "notavailable",
    "notapplicable",
    "notprovided",
    "notset",
    "none",
    "na",
    "null",
    "unknown",
    "invalid",
    "empty",
    "undefined",
    "nosystemserialnumber",
    "sysserialnumber",
    "ssn",
    "sernum",
    "abcdefgh",
    "oemdefault",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{
        machine::{MachineRule, Rules},
        selector::{Facts, RuleBook, Selector},
    };

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
    const U: &str = "4c4c4544-0042-3510-8052-b4c04f564e31";

    fn uuid(text: &str) -> Uuid {
        text.parse().expect("a UUID")
    }

    #[test]
    fn machines_are_equal_where_their_keys_are() {
        let (names, uuids) =
            ([None, Some("k8s08"), Some("k8s09")], [None, Some(U), Some("4c4c4544-0042-3510-8052-b4c04f564e32")]);
        let uuids = uuids.map(|text| text.and_then(|text| Uuid::try_parse(text).ok()));
        let machines = names.map(|name| uuids.map(|uuid| [A, B].map(|card| MachineId::new(name, uuid, card))));
        let machines = machines.as_flattened().as_flattened();
        for (one, other) in machines.iter().flat_map(|one| machines.iter().map(move |other| (one, other))) {
            assert_eq!(one == other, one.key() == other.key(), "{one:?}, {other:?}");
        }
    }

    #[test]
    fn the_rules_name_goes_before_the_uuid_and_that_before_the_card() {
        let rule = |name: &str| MachineRule { name: Some(name.into()), ..MachineRule::default() };
        let by_mac = Selector { macs: vec![A, B], ..Selector::default() };
        let by_maker = Selector { ouis: vec!["0e:00:00".parse().expect("an OUI")], ..Selector::default() };
        let by_filler = Selector { serials: vec!["Default string".into()], ..Selector::default() };
        let by_both = Selector { serials: vec!["CZ99".into(), "System Serial Number".into()], ..Selector::default() };
        let book =
            vec![(by_mac, rule("N1")), (by_maker, rule("all")), (by_filler, rule("boards")), (by_both, rule("r5"))];
        let rules = Rules { machines: RuleBook::new(book), ..Rules::default() };
        let of = |mac, said: Option<&str>, serial| {
            rules
                .identity(&Facts { mac, uuid: said.map(uuid), serial, hardware: None, arch: None, interface: None })
                .key()
        };
        assert_eq!((of(A, Some(U), None), of(B, None, None)), (Key::Name("n1"), Key::Name("n1")));
        let other = MacAddr([0x0e, 0, 0, 0, 0, 1]);
        assert_eq!(of(other, Some(U), None), Key::Uuid(own_uuid(uuid(U)).expect("its own")), "a rule about many");
        assert_eq!(of(other, None, None), Key::Card(other));
        assert_eq!(of(other, None, Some("Default string")), Key::Card(other), "a serial number that many have");
        assert_eq!(of(other, None, Some("CZ99")), Key::Name("r5"));
        assert_eq!(of(other, None, Some("System Serial Number")), Key::Card(other), "the one of a list that many have");
        assert_eq!(of(other, Some("03000200-0400-0500-0006-000700080009"), None), Key::Card(other));
    }

    #[test]
    fn both_byte_orders_of_a_uuid_lead_to_one_machine() {
        let turned = Uuid::from_bytes(uuid(U).to_bytes_le());
        assert_ne!(turned, uuid(U));
        let both = [uuid(U), turned].map(|uuid| MachineId::new(None, Some(uuid), A));
        assert_eq!(both[0], both[1]);
        // People read the one that the machine says.
        assert_eq!(both.map(|machine| machine.uuid_as_said()), [Some(uuid(U)), Some(turned)]);
        assert_eq!(both[0].said_as(Some(turned)).with_names([]).uuid_as_said(), Some(turned));
        assert_eq!(MachineId::of_key(both[0].key(), []).with(both[1]).uuid_as_said(), Some(turned));
    }

    #[test]
    fn what_many_boards_say_names_no_machine() {
        let shared = ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"];
        let sample = ["03000200-0400-0500-0006-000700080009", "00020003-0004-0005-0006-000700080009"];
        assert!(shared.iter().chain(&sample).all(|text| own_uuid(uuid(text)).is_none()));
        let fillers = ["To be filled by O.E.M.", "To Be Filled By O.E.M", "System Serial Number", "Default string"];
        let more = ["Not Specified", "None", "0", "123456789", "0123456789", "........", "XXXXXXXX", " ", "N/A"];
        for serial in fillers.iter().chain(&more) {
            assert!(!is_own_serial(serial), "{serial}");
        }
        assert!(["CZ1234567", "PF2ABCDE", "7", "VMware-42 1d 2c"].iter().skip(3).all(|serial| is_own_serial(serial)));
        assert!(["CZ1234567", "PF2ABCDE", "5CD1234XYZ"].iter().all(|serial| is_own_serial(serial)));
    }

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for key in [Key::Name("k8s08"), Key::Uuid(own_uuid(uuid(U)).expect("its own")), Key::Card(A)] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        assert!(["", "name:", "uuid:x", "mac:x", "k8s08"].iter().all(|text| text.parse::<Key>().is_err()));
    }
}
