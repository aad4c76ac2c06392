//! What is kept, on both engines.

use std::{collections::BTreeSet, fs, net::Ipv4Addr};

use netbootd_lab::Postgres;
use sqlx::{migrate::Migrator, sqlite::SqlitePoolOptions};

use super::*;
use crate::{
    boot::{
        chain::Trust,
        happened::{Happened, Note},
        identity::Key,
        learned::Learned,
        mac::MacAddr,
        roster::{Assignment, Begun, Entry, HandedOver, Names},
        shape::Shape,
    },
    lease::{book::Held, kept::Kept},
    state::{
        engine::{Dialect, KNOWN, migrator},
        fault::NOT_OURS,
        shared::Known,
    },
};

/// Where a test keeps its state. Opened anew, it is what a killed server left.
enum Place {
    Folder(tempfile::TempDir),
    Server(Postgres),
}

impl Place {
    fn both() -> [Self; 2] {
        [Self::Folder(tempfile::tempdir().expect("a folder")), Self::Server(Postgres::start(None).expect("PostgreSQL"))]
    }

    async fn open(&self) -> State {
        match self {
            Self::Folder(folder) => State::open(&url(folder)).await.expect("opened"),
            Self::Server(server) => State::on_server(&server.local_url("netbootd"), None, "a").expect("a URL"),
        }
    }
}

async fn run(state: &State, statement: &'static str) {
    let run = async || on!(state.engine, connection => sqlx::query(statement).execute(connection).await.map(drop));
    run().await.expect("run");
}

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

fn change(mac: MacAddr, entry: &Entry) -> Change {
    Roster::default().change(mac.into(), &[], |before| Entry { known_as: before.known_as, ..entry.clone() })
}

#[tokio::test]
async fn each_one_time_profile_that_a_machine_had_is_kept() {
    for place in Place::both() {
        for (spent, had) in [
            (None, vec![]),
            (Some("a"), vec![]),
            (None, vec!["a"]),
            (None, vec!["a", "b"]),
            (Some("c"), vec!["a", "b"]),
        ] {
            let had: BTreeSet<String> = had.into_iter().map(str::to_owned).collect();
            let entry = Entry { spent: spent.map(str::to_owned), had, approved: true, ..Entry::default() };
            let state = place.open().await;
            state.set_entry(&change(MAC, &entry)).await.expect("written");
            let read = state.roster().await.expect("read").of(MAC).expect("there");
            assert_eq!((read.spent, read.had), (entry.spent, entry.had));
        }
    }
}

fn url(folder: &tempfile::TempDir) -> String {
    format!("sqlite://{}", folder.path().join("state.db").display())
}

#[tokio::test]
async fn what_was_learned_is_there_after_a_restart() {
    for place in Place::both() {
        learned_and_restarted(&place).await;
    }
}

async fn known(state: &State) -> Vec<(Key, Learned)> {
    state.learned(State::NOTHING_LEARNED).await.expect("read").0
}

async fn learned_and_restarted(place: &Place) {
    let state = place.open().await;
    assert_eq!(known(&state).await, []);
    state.learn(&[(Key::Card(MAC), Learned::shape(Shape::Option67))]).await.expect("written");
    state.learn(&[(Key::Card(MAC), Learned::shape(Shape::BootServer))]).await.expect("written again");
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
    let (approved, guest) = (Entry { approved: true, renewed: 2, ..Entry::default() }, MacAddr([6; 6]));
    // A change that waited had moved it to another name.
    let back = Change { replaced: vec![Key::Card(guest)], ..change(guest, &approved) };
    state.set_entry(&back).await.expect("written");
    // Simulates a kill: nothing is closed.
    let again = place.open().await;
    assert_eq!(known(&again).await, [(Key::Card(MAC), Learned::shape(Shape::BootServer))]);
    let debian = entry(Some("debian"), true, Some("debian"));
    let said = [(MAC, debian), (other, entry(None, false, Some("rescue"))), (guest, approved)];
    let said: Roster = said.into_iter().collect();
    assert_eq!(again.roster().await.expect("read"), said);
    if let Place::Folder(folder) = place {
        let peeking = State::peek(&url(folder)).await.expect("opened beside the other");
        assert_eq!(peeking.roster().await.expect("read"), said);
        assert!(peeking.set_entry(&change(MAC, &Entry::default())).await.is_err(), "it is read only");
        peeking.close().await;
    }
    assert_eq!(again.secret("answers", b"one").await.expect("made"), b"one");
    assert_eq!(again.secret("answers", b"two").await.expect("read"), b"one", "made once");
    // Rows that another program wrote are ignored.
    run(&again, "INSERT INTO firmware (id, shape, learned_at) VALUES ('nonsense', 'direct', 0)").await;
    assert_eq!(known(&again).await.len(), 1);
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
async fn a_state_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().expect("a folder");
    let modes = || {
        let entries = fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mode = |path: std::path::PathBuf| (fs::metadata(&path).expect("there").permissions().mode() & 0o777, path);
        entries.map(mode).collect::<Vec<_>>()
    };
    let file = folder.path().join("state.db");
    // Whatever the umask leaves: a file of before is as open as one that an administrator has copied.
    for before in [None, Some(0o644), Some(0o640), Some(0o400)] {
        if let Some(mode) = before {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
        }
        let state = State::open(&url(&folder)).await.expect("opened");
        state.secret("answers", b"one").await.expect("kept");
        let modes = modes();
        assert!(modes.len() >= 3, "the log and its index are there: {modes:?}");
        for (mode, path) in modes {
            assert!(mode & 0o177 == 0, "{mode:o} {}", path.display());
        }
        if before.is_some() {
            // A killed server leaves its log.
            fs::set_permissions(folder.path().join("state.db-wal"), fs::Permissions::from_mode(0o644)).expect("set");
        }
        state.close().await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.db");
    fs::write(&file, "somebody else's notes").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
    let refused = State::open_alone(&url(&folder)).await.map(|_| ()).expect_err("no database");
    assert!(matches!(refused, StateError::Broken { .. }), "{refused:?}");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read(&file).expect("read"), b"somebody else's notes");
}

#[tokio::test]
async fn of_each_machine_the_last_boots_are_kept_as_they_were_last() {
    for place in Place::both() {
        let state = place.open().await;
        last_boots(&state).await;
        // The number of machines is limited in a file; the last ones are kept. A server keeps those of many appliances.
        let kept = state.boots("", usize::MAX).await.expect("read");
        let is_file = matches!(place, Place::Folder(_));
        assert_eq!(kept.len(), if is_file { Timelines::MACHINES } else { 3001 });
        assert_eq!(kept.iter().all(|(id, _)| id.card != MAC), is_file, "it was silent the longest");
        assert_eq!(state.boots("", 10).await.expect("read").len(), 10);
    }
}

async fn last_boots(state: &State) {
    let boot = |number: u32, last: u64| {
        let mut boot = Timeline::begin(number, Moment::from_secs(u64::from(number) * 1000));
        boot.last = Moment::from_secs(last);
        Arc::new(boot)
    };
    for number in 1..=7 {
        state
            .set_boots(&[(MAC.into(), boot(number, 7500)), (MAC.into(), boot(number, 8000))], "")
            .await
            .expect("written");
    }
    let kept: Vec<Timeline> = (3..=7).map(|number| Timeline::clone(&boot(number, 8000))).collect();
    assert_eq!(state.boots("", usize::MAX).await.expect("read"), [(MAC.into(), kept)]);
    let others =
        (0..3000u32).map(|n| (MacAddr([2, 0, 0, 0, (n >> 8) as u8, n as u8]).into(), boot(1, 9000 + u64::from(n))));
    for some in others.collect::<Vec<_>>().chunks(100) {
        state.set_boots(some, "").await.expect("written");
    }
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
         bring back a copy of it, or move the file away: what it holds is lost, so machines are given their one-time profiles \
         again, and their disks are installed again; set profile = \"local\" in rules with once before you start netbootd"
    );
    let nowhere = State::open("sqlite:///nowhere/at/all/state.db").await.map(|_| ()).expect_err("no folder");
    assert!(matches!(nowhere, StateError::Unusable { .. }), "{nowhere:?}");
    assert!(nowhere.to_string().ends_with(NOT_OURS), "{nowhere}");

    fs::remove_file(folder.path().join("state.db")).expect("removed");
    let state = State::open(&url(&folder)).await.expect("made");
    run(&state, "INSERT INTO _sqlx_migrations VALUES (99, 'later', 0, 1, x'00', 0)").await;
    let newer = State::open(&url(&folder)).await.map(|_| ()).expect_err("newer");
    assert!(matches!(newer, StateError::Newer { found: 99, known: KNOWN, .. }), "{newer:?}");
}

#[tokio::test]
async fn what_was_kept_of_cards_is_kept_of_their_machines() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SqliteConnectOptions::from_str(&url(&folder)).expect("a URL").create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await.expect("made");
    let whole = migrator(Dialect::Sqlite);
    let before = whole.iter().filter(|migration| migration.version < 6).cloned().collect::<Vec<_>>().into();
    Migrator { migrations: before, ..Migrator::DEFAULT }.run(&pool).await.expect("an old state");
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
    let machine = MachineId::new(Some("n"), Some(uuid::Uuid::from_u128(0x4c4c4544_0042_3510_8052_b4c04f564e31)), MAC);
    let said = roster.of(machine).expect("it is known by its card");
    let assigned = Some(Assignment { profile: "debian".into(), once: true });
    assert_eq!((said.assigned, said.spent, said.approved), (assigned, Some("debian".into()), true));
    assert!(roster.of(MacAddr([2; 6])).is_some_and(|said| said.spent.as_deref() == Some("rescue")));
    assert_eq!(known(&state).await, [(Key::Card(MAC), Learned::shape(Shape::Option67))]);
    let boots = state.boots("", usize::MAX).await.expect("read");
    assert!(matches!(boots.as_slice(), [(id, boots)] if *id == MAC.into() && boots[0].number == 3), "{boots:?}");
    // It is now stored under its name, and nothing is left under its MAC address.
    state.set_entry(&roster.change(machine, &[], |before| before)).await.expect("written");
    let joined = state.roster().await.expect("read");
    assert_eq!(joined.iter().count(), 2);
    assert_eq!(joined.of(machine.by(MacAddr([4; 6]))).and_then(|said| said.spent), Some("debian".into()));
}

#[tokio::test]
async fn a_server_says_what_is_wrong_and_the_state_comes_back_with_it() {
    let mut server = Postgres::start(None).expect("PostgreSQL");
    let open = |database: &str| State::on_server(&server.local_url(database), None, "a").expect("a URL");
    let nowhere = open("nowhere").roster().await.expect_err("there is no such database");
    assert!(nowhere.to_string().contains("\"nowhere\" does not exist"), "{nowhere}");
    let state = open("netbootd");
    let entry = Entry { approved: true, ..Entry::default() };
    state.set_entry(&change(MAC, &entry)).await.expect("written");
    server.kill().expect("killed");
    assert!(state.roster().await.is_err(), "it has gone");
    server.start_again().expect("back");
    assert!(state.roster().await.expect("by a new connection").of(MAC).is_some(), "what was acknowledged is there");
    // Silent, with its connections open.
    server.signal_all(netbootd_lab::Signal::SIGSTOP).expect("stopped");
    let began = std::time::Instant::now();
    assert!(state.roster().await.is_err() && state.roster().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(20), "it is not waited for: {:?}", began.elapsed());
    server.signal_all(netbootd_lab::Signal::SIGCONT).expect("continued");
    assert!(state.roster().await.is_ok());

    run(&state, "INSERT INTO _sqlx_migrations VALUES (99, 'later', now(), true, '', 0)").await;
    let url = server.local_url("netbootd");
    let newer = State::on_server(&url, None, "b").expect("a URL").roster().await.expect_err("newer");
    let words = format!("is of a newer netbootd (schema 99, this version knows {KNOWN}): install that version");
    assert!(newer.to_string().contains(&words), "{newer}");
}

#[test]
fn a_word_of_sqlite_that_the_other_engine_does_not_know_is_left_in_no_migration() {
    for migration in migrator(Dialect::Postgres).iter() {
        let sql = migration.sql.as_str();
        for word in ["STRICT;", "ROWID", "INTEGER", "unixepoch", "BLOB", "AUTOINCREMENT", "OR REPLACE"] {
            assert!(!sql.contains(word), "{word} in migration {}: {sql}", migration.version);
        }
    }
}

fn note(what: Happened) -> Note {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    Note { machine: MAC.into(), beside: Vec::new(), what, at }
}

fn once() -> Happened {
    Happened::Assigned(Assignment { profile: "demo".into(), once: true })
}

#[tokio::test]
async fn what_one_appliance_changes_the_others_learn() {
    for place in Place::both() {
        let (a, b) = (place.open().await, place.open().await);
        let (mut of_a, mut of_b) = (Known::default(), Known::default());
        assert!(a.refresh(&mut of_a).await.expect("read").is_whole, "the first time it is everything");
        b.refresh(&mut of_b).await.expect("read");
        a.happened(&mut of_a, &[note(once())]).await.expect("kept");
        assert!(of_b.roster.of(MAC).is_none());
        let changes = b.refresh(&mut of_b).await.expect("read");
        assert!(changes.entries.len() == 1 && !changes.is_whole, "{changes:?}");
        assert_eq!(of_b.roster, of_a.roster);
        // B tells something without having heard what A did.
        let (mut late, other) = (of_b.clone(), MacAddr([4; 6]));
        a.happened(&mut of_a, &[Note { machine: other.into(), ..note(Happened::Approved(true)) }]).await.expect("kept");
        b.happened(&mut late, &[note(Happened::Spent("demo".into()))]).await.expect("kept");
        assert!(late.roster.of(other).is_some() && late.roster.of(MAC).is_some_and(|said| said.has_had("demo", true)));
        // Both saw one hand-over; what is given between the two stays.
        a.happened(&mut of_a, &[note(once()), note(Happened::Spent("demo".into()))]).await.expect("kept");
        assert!(of_a.roster.of(MAC).is_some_and(|said| !said.has_had("demo", true)), "{of_a:?}");
        // What is taken out is heard of too.
        a.happened(&mut of_a, &[Note { machine: other.into(), ..note(Happened::Approved(false)) }])
            .await
            .expect("kept");
        b.refresh(&mut of_b).await.expect("read");
        assert_eq!((&of_b.roster, of_b.revision), (&of_a.roster, of_a.revision));
        assert!(of_b.roster.of(other).is_none());
        // A copy in a file is the same.
        let folder = tempfile::tempdir().expect("a folder");
        let copy = State::open(&url(&folder)).await.expect("opened");
        let mut everything = Known::default();
        copy.copy(&a.refresh(&mut everything).await.expect("read")).await.expect("written");
        assert_eq!((copy.roster().await.expect("read"), everything.roster), ((*of_a.roster).clone(), of_a.roster));
    }
}

/// As an appliance does that starts again while some of what it saw waits, and after a backup was restored.
#[tokio::test]
async fn who_reads_everything_anew_keeps_machines_apart_that_have_one_uuid() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = State::open(&url(&folder)).await.expect("opened");
    let uuid = "4c4c4544-0042-3510-8052-b4c04f564e31".parse().ok();
    let [one, two] = [("c1", 1), ("c2", 2)].map(|(name, card)| MachineId::new(Some(name), uuid, MacAddr([card; 6])));
    let names = Arc::new(Names::from(["c1", "c2"].map(|name| (name, BTreeSet::new()))));
    let nothing = || Known { roster: Arc::new(Roster::default()).among(&names), ..Known::default() };
    let of_two = Note { machine: two, ..note(once()) };
    state.happened(&mut nothing(), &[of_two]).await.expect("kept");
    let mut known = nothing();
    let waited = Note { machine: one, ..note(Happened::Spent("demo".into())) };
    state.happened(&mut known, &[waited]).await.expect("kept");
    let said = |machine| known.roster.of(machine).map(|entry| (entry.assigned.is_some(), entry.spent.is_some()));
    assert_eq!((said(one), said(two)), (Some((false, true)), Some((true, false))), "{known:?}");
}

#[tokio::test]
async fn changes_of_two_appliances_at_once_are_all_kept() {
    for place in Place::both() {
        let both = [place.open().await, place.open().await];
        tokio::join!(assign_fifty(&both[0], 0), assign_fifty(&both[1], 1));
        let mut known = Known::default();
        both[0].refresh(&mut known).await.expect("read");
        assert_eq!((known.roster.iter().count(), known.revision), (100, 100));
    }
}

async fn assign_fifty(state: &State, number: u8) {
    let mut known = Known::default();
    for count in 0..50_u8 {
        let machine = MacAddr([2, 0, 0, 0, number, count]).into();
        state.happened(&mut known, &[Note { machine, ..note(once()) }]).await.expect("kept");
    }
}

#[tokio::test]
async fn appliances_know_each_other_and_what_one_began_that_left() {
    for place in Place::both() {
        let state = place.open().await;
        let (one, two) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        state.is_there("a", &[one, two]).await.expect("written");
        let there = state.is_there("b", &[]).await.expect("written");
        let addresses: Vec<_> =
            there.iter().map(|appliance| (appliance.name.as_str(), &*appliance.addresses)).collect();
        assert_eq!(addresses, [("a", [one, two].as_slice()), ("b", &[])]);
        assert!(there.iter().all(|appliance| appliance.silent_ms < 60_000), "{there:?}");
        // The clock of the state was put back by an hour, and A was not heard since.
        run(&state, "UPDATE appliances SET seen = seen + 3600 WHERE name = 'a'").await;
        let silent = |name| move |one: &crate::state::Appliance| one.name == name && one.silent_ms > 60_000;
        let there = state.appliances().await.expect("read");
        assert!(there.iter().any(silent("a")) && !there.iter().any(silent("b")), "{there:?}");
        let mut known = Known::default();
        let begun = Begun { profile: "demo".into(), by: "a".into() };
        state.happened(&mut known, &[note(Happened::Begun(begun.clone()))]).await.expect("kept");
        let doubtful = |known: &Known| known.roster.in_doubt(&BTreeSet::from(["b".to_owned()])).of(MAC);
        assert!(doubtful(&known).is_some_and(|said| said.begun == Some(begun) && said.is_in_doubt));
        state.leaves("a").await.expect("written");
        state.refresh(&mut known).await.expect("read");
        assert!(doubtful(&known).is_none_or(|said| !said.is_in_doubt), "it reported everything before it left");
        assert_eq!(state.appliances().await.expect("read").len(), 1);
        // Of a hand-over its time is kept.
        state.happened(&mut known, &[note(Happened::Spent("demo".into()))]).await.expect("kept");
        let mut again = Known::default();
        state.refresh(&mut again).await.expect("read");
        let handed_over = again.roster.of(MAC).and_then(|said| said.handed_over);
        assert!(
            matches!(handed_over, Some(HandedOver { at, .. }) if at.abs_diff(now() as u64) < 60),
            "{handed_over:?}"
        );
        state
            .set_boots(&[(MAC.into(), Arc::new(Timeline::begin(1, Moment::from_secs(1000))))], "a")
            .await
            .expect("written");
        assert_eq!(state.boots("a", 10).await.expect("read"), [], "its own are not another's");
        let seen = state.boots("b", 10).await.expect("read");
        assert_eq!(seen[0].1[0].appliance.as_deref(), Some("a"));
        state.forget(2000.0).await.expect("written");
        assert_eq!(state.boots("b", 10).await.expect("read"), []);
        state.set_waiting(&["one".into(), "two".into()]).await.expect("written");
        assert_eq!(state.waiting().await.expect("read"), ["one", "two"]);
    }
}

/// The tables of other parts are on both engines too.
#[tokio::test]
async fn leases_are_kept() {
    for place in Place::both() {
        let (state, hour) = (place.open().await, Duration::from_secs(3600));
        let (address, network) = (Ipv4Addr::new(192, 0, 2, 7), "eth1".to_owned());
        let lease = |held| Kept {
            address,
            network: network.clone(),
            card: MAC,
            held,
            ends: hour,
            start: "a-b-c".into(),
            ends_at: 2 * hour,
            time: hour,
        };
        state.set_leases(&[lease(Held::Leased)]).await.expect("written");
        state.set_leases(&[lease(Held::Released)]).await.expect("written again");
        assert_eq!(place.open().await.leases().await.expect("read"), [lease(Held::Released)]);
    }
}

#[tokio::test]
async fn what_one_appliance_learns_of_firmware_and_forgets_the_others_hear() {
    for place in Place::both() {
        let (a, b) = (place.open().await, place.open().await);
        let (card, other) = (Key::Card(MAC), Key::Card(MacAddr([4; 6])));
        let (_, of_b) = b.learned(State::NOTHING_LEARNED).await.expect("read");
        a.learn(&[(card, Learned::trust(Trust::Unsigned)), (other, Learned::shape(Shape::Menu))]).await.expect("kept");
        a.learn(&[(card, Learned::shape(Shape::Option67))]).await.expect("kept");
        let both = Learned { shape: Some(Shape::Option67), trust: Some(Trust::Unsigned) };
        let (mut heard, of_b) = b.learned(of_b).await.expect("read");
        heard.sort_by_key(|(key, _)| key.to_string());
        assert_eq!(heard, [(other, Learned::shape(Shape::Menu)), (card, both)]);
        assert_eq!(b.learned(of_b).await.expect("read").0, [], "once");
        // The one that forgets it says whether there was something, also where another one learned it.
        assert!(b.forget_firmware(MAC.into()).await.expect("kept"));
        assert!(!a.forget_firmware(MAC.into()).await.expect("kept"));
        assert_eq!(a.learned(of_b).await.expect("read").0, [(card, Learned::default())]);
        // A copy in a file is the same.
        let folder = tempfile::tempdir().expect("a folder");
        let copy = State::open(&url(&folder)).await.expect("opened");
        copy.learn(&[(card, both)]).await.expect("written");
        copy.copy_learned(&known(&a).await).await.expect("written");
        let kept: Vec<_> = known(&copy).await.into_iter().filter(|(_, learned)| !learned.is_empty()).collect();
        assert_eq!(kept, [(other, Learned::shape(Shape::Menu))]);
    }
}

#[tokio::test]
async fn the_engine_says_what_was_said_before_a_change_and_not_who_asks() {
    for place in Place::both() {
        let (a, b) = (place.open().await, place.open().await);
        let (mut of_a, mut of_b) = (Known::default(), Known::default());
        a.happened(&mut of_a, &[note(once())]).await.expect("kept");
        // B has heard of nothing.
        let before = b.happened(&mut of_b, &[note(Happened::Unassigned)]).await.expect("kept").before;
        assert_eq!(before.and_then(|entry| entry.assigned).map(|assigned| assigned.profile).as_deref(), Some("demo"));
        let before = a.happened(&mut of_a, &[note(Happened::Unassigned)]).await.expect("kept").before;
        assert!(before.is_none_or(|entry| entry.assigned.is_none()), "B took it back");
    }
}

#[tokio::test]
async fn what_was_learned_in_two_tables_is_in_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SqliteConnectOptions::from_str(&url(&folder)).expect("a URL").create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await.expect("made");
    let whole = migrator(Dialect::Sqlite);
    let before = whole.iter().filter(|migration| migration.version < 10).cloned().collect::<Vec<_>>().into();
    Migrator { migrations: before, ..Migrator::DEFAULT }.run(&pool).await.expect("an old state");
    for old in [
        "INSERT INTO offer_shapes (id, shape) VALUES ('mac:52:54:00:12:34:56', 'option_67')",
        "INSERT INTO loader_trust (id, trust) VALUES ('mac:52:54:00:12:34:56', 'unsigned')",
    ] {
        sqlx::query(old).execute(&pool).await.expect("written");
    }
    pool.close().await;
    let state = State::open(&url(&folder)).await.expect("brought up to date");
    let both = Learned { shape: Some(Shape::Option67), trust: Some(Trust::Unsigned) };
    assert_eq!(known(&state).await, [(Key::Card(MAC), both)]);
}

/// Two that write one file would not know of each other whom they gave what.
#[tokio::test]
async fn a_file_is_one_servers_alone_and_is_missed_when_it_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = State::open_alone(&url(&folder)).await.expect("opened");
    assert!(first.is_in_place().is_ok());
    let second = State::open_alone(&url(&folder)).await.map(|_| ()).expect_err("it is in use");
    let words = "another netbootd uses this file; give each netbootd on this host a file of its own with state.url";
    assert!(second.to_string().contains(words), "{second}");
    assert!(State::peek(&url(&folder)).await.is_ok(), "to look at it is allowed");
    drop(first);
    let again = State::open_alone(&url(&folder)).await.expect("it is free again");
    std::fs::remove_file(folder.path().join("state.db")).expect("removed");
    let missed = again.is_in_place().expect_err("it has gone");
    assert!(missed.to_string().contains("was removed or replaced while netbootd uses it"), "{missed}");
}
