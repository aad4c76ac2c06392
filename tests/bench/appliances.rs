//! What several appliances cost the server of their state: `cargo bench --bench appliances [machines appliances seconds]`.
//! It needs Debian's PostgreSQL. The appliances are simulated: ten tasks that tell and hear as `daemon/sharing.rs` does.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on stops")]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use netbootd::{
    boot::{
        happened::{Happened, Note},
        identity::MachineId,
        mac::MacAddr,
        roster::{Assignment, Begun},
    },
    state::{Known, State},
    timeline::{boot::Timeline, moment::Moment},
};
use netbootd_lab::{Postgres, quantile};
use tokio::{runtime::Runtime, sync::watch, time::sleep};

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let (machines, appliances, seconds) =
        (numbers.next().unwrap_or(20_000), numbers.next().unwrap_or(10), numbers.next().unwrap_or(20));
    let server = Postgres::start(None).expect("PostgreSQL");
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let took = fill(&server, machines).await;
        println!("{machines} machines known, after {:.1} s", took.as_secs_f64());
        println!("a start reads them in {:.0} ms", start(&server).await.as_secs_f64() * 1000.0);
        boots(&server, machines, appliances, seconds).await;
        delays(&server, appliances, 100).await;
    });
}

fn open(server: &Postgres, name: &str) -> State {
    State::on_server(&server.local_url("netbootd"), None, name).expect("a URL")
}

fn machine(number: u64) -> MachineId {
    let [.., a, b, c] = number.to_be_bytes();
    MacAddr([2, 0, 0, a, b, c]).into()
}

fn note(machine: MachineId, what: Happened) -> Note {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Note { machine, beside: Vec::new(), what, at: u64::try_from(at.as_millis()).unwrap_or_default() }
}

async fn fill(server: &Postgres, machines: u64) -> Duration {
    let (state, mut known, began) = (open(server, "fill"), Known::default(), Instant::now());
    let assigned = || Happened::Assigned(Assignment { profile: "installer".into(), once: true });
    let notes: Vec<Note> = (0..machines).map(|number| note(machine(number), assigned())).collect();
    for notes in notes.chunks(500) {
        state.happened(&mut known, notes).await.expect("kept");
    }
    began.elapsed()
}

async fn start(server: &Postgres) -> Duration {
    let (state, began) = (open(server, "start"), Instant::now());
    state.refresh(&mut Known::default()).await.expect("read");
    began.elapsed()
}

/// Each appliance hands over one machine after the other, as fast as the server keeps what it tells: the script, the
/// hand-over, and the boot three times, as a boot of three seconds is told. It tells ten boots together.
async fn boots(server: &Postgres, machines: u64, appliances: u64, seconds: u64) {
    let (done, worst, again) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let wal = || {
        server.sql("netbootd", "SELECT pg_current_wal_lsn() - '0/0'").expect("read").parse::<f64>().expect("a number")
    };
    let (written, used, began) = (wal(), cpu(), Instant::now());
    let tasks = (0..appliances).map(|appliance| {
        let state = open(server, &format!("appliance {appliance}"));
        let (done, worst, again) = (done.clone(), worst.clone(), again.clone());
        tokio::spawn(async move {
            let (mut known, share) = (Known::default(), machines / appliances);
            let mut next = 0;
            while began.elapsed() < Duration::from_secs(seconds) {
                let some: Vec<MachineId> =
                    (0..TOGETHER).map(|more| machine(appliance * share + (next + more) % share)).collect();
                next += TOGETHER;
                let begun = Begun { profile: "installer".into(), by: appliance.to_string() };
                let happened = [Happened::Begun(begun), Happened::Spent("installer".into())];
                let mut boot = Timeline::begin(1, Moment::from(SystemTime::now()));
                boot.client = Some("UEFI x86_64, 4 KB of steps as a boot has them".repeat(80));
                let boots: Vec<_> = some.iter().map(|machine| (*machine, Arc::new(boot.clone()))).collect();
                for happened in happened {
                    let notes: Vec<Note> = some.iter().map(|machine| note(*machine, happened.clone())).collect();
                    let asked = Instant::now();
                    // As the daemon does where the server is too slow: what was not kept is tried again.
                    while state.happened(&mut known, &notes).await.is_err() {
                        again.fetch_add(1, Ordering::Relaxed);
                    }
                    worst.fetch_max(u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
                for _ in 0..3 {
                    while state.set_boots(&boots, &appliance.to_string()).await.is_err() {
                        again.fetch_add(1, Ordering::Relaxed);
                    }
                }
                done.fetch_add(TOGETHER, Ordering::Relaxed);
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let (took, count) = (began.elapsed().as_secs_f64(), done.load(Ordering::Relaxed) as f64);
    let used = cpu() - used;
    println!(
        "{appliances} appliances: {:.0} boots per second, {:.0} events per second kept",
        count / took,
        5.0 * count / took
    );
    let (worst, again) = (worst.load(Ordering::Relaxed), again.load(Ordering::Relaxed));
    println!("the slowest of the changes took {worst} ms; {again} were not kept in time, and tried again");
    println!(
        "one boot costs the database {:.2} ms of CPU time and {:.1} kB of its log",
        used * 1000.0 / count,
        (wal() - written) / count / 1000.0
    );
}

/// From the acknowledgement of an assignment until all others know it.
async fn delays(server: &Postgres, appliances: u64, rounds: u32) {
    let (known_to, mut heard) =
        (watch::Sender::new(vec![0_i64; usize::try_from(appliances).unwrap_or_default()]), Vec::new());
    for appliance in 0..appliances {
        let (state, known_to) = (open(server, &format!("hears {appliance}")), known_to.clone());
        let wake = Arc::new(tokio::sync::Notify::new());
        let (listening, woken) = (state.clone(), wake.clone());
        heard.push(tokio::spawn(async move {
            let _ = listening.listen(|| woken.notify_one()).await;
        }));
        heard.push(tokio::spawn(async move {
            let mut known = Known::default();
            loop {
                tokio::select! {
                    () = wake.notified() => {}
                    () = sleep(Duration::from_secs(1)) => {}
                }
                state.refresh(&mut known).await.expect("read");
                known_to.send_modify(|known_to| {
                    if let Some(place) = known_to.get_mut(usize::try_from(appliance).unwrap_or_default()) {
                        *place = known.revision;
                    }
                });
                // As the daemon does.
                sleep(Duration::from_millis(50)).await;
            }
        }));
    }
    let (state, mut known, mut all) = (open(server, "assigns"), Known::default(), known_to.subscribe());
    sleep(Duration::from_secs(3)).await;
    let mut delays = Vec::new();
    for round in 0..rounds {
        let assigned = Happened::Assigned(Assignment { profile: format!("p{round}"), once: false });
        state.happened(&mut known, &[note(machine(1), assigned)]).await.expect("kept");
        let acknowledged = Instant::now();
        all.wait_for(|known_to| known_to.iter().all(|revision| *revision >= known.revision)).await.expect("there");
        delays.push(acknowledged.elapsed());
    }
    heard.iter().for_each(tokio::task::JoinHandle::abort);
    delays.sort();
    println!(
        "from an assignment until all {appliances} know it: median {:.0} ms, p99 {:.0} ms, worst {:.0} ms",
        1000.0 * quantile(&delays, 0.5),
        1000.0 * quantile(&delays, 0.99),
        1000.0 * quantile(&delays, 1.0)
    );
}

/// Seconds of CPU time of all processes of PostgreSQL on this host.
fn cpu() -> f64 {
    let ticks = |process: fs::DirEntry| -> Option<f64> {
        let stat = fs::read_to_string(process.path().join("stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field).and_then(|field| field.parse::<f64>().ok());
        name.ends_with("(postgres").then_some(number(11)? + number(12)? + number(13)? + number(14)?)
    };
    // USER_HZ is 100 on all architectures (proc_pid_stat(5)).
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(ticks).sum::<f64>() / 100.0
}

const TOGETHER: u64 = 10;
