//! A site whose machines are all switched on at once, simulated: how many appliances have all of them at their files' end
//! within a quarter of an hour, and what is busy meanwhile. `cargo bench --bench site`
//!
//! One appliance of them is simulated, since each has an equal part of the machines. Its network card and its CPUs are shared
//! out evenly among the machines that fetch at a moment; what a megabyte costs is taken from packaging/docs/measured.md.

/// What a machine fetches.
#[derive(Clone, Copy)]
struct Machine {
    /// Seconds after the switch: firmware starts at its own pace.
    starts: f64,
    /// Bytes of its loader that it lacks.
    loader: f64,
    /// Bytes of its files that it lacks.
    files: f64,
    /// When it had all.
    done: Option<f64>,
}

/// How it went.
struct Outcome {
    median: f64,
    last: f64,
    /// Parts of what there was, until the last machine had its files.
    network: f64,
    cpu: f64,
}

fn main() {
    println!(
        "| machines | each fetches | network card | appliances | median machine, s | last machine, s | network card busy | {CPUS} CPUs busy |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (machines, megabytes, gigabits) in [
        (1_000, 100, 1),
        (1_000, 500, 10),
        (10_000, 100, 10),
        (10_000, 500, 25),
        (100_000, 100, 25),
        (100_000, 500, 100),
    ] {
        let run = |appliances: u32| simulate(machines / appliances, f64::from(megabytes) * 1e6, f64::from(gigabits));
        let enough = |outcome: &Outcome| outcome.last <= WITHIN;
        let found = (1..=machines).map(|appliances| (appliances, run(appliances))).find(|(_, outcome)| enough(outcome));
        let Some((appliances, Outcome { median, last, network, cpu })) = found else { continue };
        println!(
            "| {machines} | {megabytes} MB | {gigabits} Gb/s | {appliances} | {median:.0} | {last:.0} | {:.0} % | {:.0} % |",
            network * 100.0,
            cpu * 100.0
        );
    }
}

fn simulate(machines: u32, files: f64, gigabits: f64) -> Outcome {
    // The same firmware everywhere, but not the same disks and memory to test: spread evenly, so that every run is the same.
    let starts = |number: u32| SPREAD * f64::from(number) / f64::from(machines.max(1));
    let new = |number| Machine { starts: starts(number), loader: LOADER, files, done: None };
    let mut crowd: Vec<Machine> = (0..machines).map(new).collect();
    let card = gigabits * BYTES_PER_GIGABIT;
    let (mut now, mut sent, mut worked) = (0.0, 0.0, 0.0);
    while crowd.iter().any(|machine| machine.done.is_none()) && now < 100.0 * WITHIN {
        let asking = |machine: &&Machine| machine.done.is_none() && machine.starts <= now;
        let (mut by_tftp, mut by_http) = (0.0, 0.0);
        crowd
            .iter()
            .filter(asking)
            .for_each(|machine| *if machine.loader > 0.0 { &mut by_tftp } else { &mut by_http } += 1.0);
        // What they would take, then what the card and the CPUs let them.
        let tftp = by_tftp * LOCK_STEP;
        let http = (by_http * CLIENT).min((card - tftp).max(card / 2.0));
        let wanted = tftp * (1.0 / TFTP_PER_CPU + ASKING / LOADER) + http / HTTP_PER_CPU;
        let share = (card / (tftp + http).max(1.0)).min(CPUS / wanted.max(1e-9)).min(1.0);
        let each = share * STEP;
        now += STEP;
        for machine in crowd.iter_mut().filter(|machine| machine.done.is_none() && machine.starts < now) {
            if machine.loader > 0.0 {
                machine.loader -= LOCK_STEP * each;
            } else {
                machine.files -= http / by_http.max(1.0) * each;
                machine.done = (machine.files <= 0.0).then_some(now);
            }
        }
        sent += (tftp + http) * each;
        worked += wanted * each;
    }
    let mut times: Vec<f64> = crowd.iter().map(|machine| machine.done.unwrap_or(f64::INFINITY)).collect();
    times.sort_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    let (network, cpu) = (sent / (card * now).max(1.0), worked / (CPUS * now).max(1.0));
    Outcome { median: at(times.len() / 2), last: times.last().copied().unwrap_or_default(), network, cpu }
}

/// Seconds: the whole site is to be up in that time.
const WITHIN: f64 = 900.0;
/// Seconds of the simulation.
const STEP: f64 = 0.25;
/// Seconds from the first machine that asks to the last one.
const SPREAD: f64 = 60.0;
const CPUS: f64 = 2.0;
/// Bytes a second: 1448 of every 1538 on the wire.
const BYTES_PER_GIGABIT: f64 = 1e9 / 8.0 * 1448.0 / 1538.0;
/// Bytes a second: a card of 1 Gb/s in each machine.
const CLIENT: f64 = BYTES_PER_GIGABIT;
/// Bytes of an iPXE.
const LOADER: f64 = 1e6;
/// Bytes a second of a PXE ROM that takes 0.5 ms to answer a block of 1468 bytes.
const LOCK_STEP: f64 = 1468.0 / 0.0005;
/// Bytes for each second of a CPU, with many clients.
const TFTP_PER_CPU: f64 = 203e6;
/// The same.
const HTTP_PER_CPU: f64 = 7.3e9;
/// Seconds of a CPU for what a machine asks, and for its timeline.
const ASKING: f64 = 0.002;
