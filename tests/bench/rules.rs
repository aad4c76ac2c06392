//! Ten thousand rules about machines: how long a reload takes, and how long the choice of the rule for one machine.
//!
//! `cargo bench --bench rules`; the median of nine rounds.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    hint::black_box,
    time::{Duration, Instant},
};

use netbootd::{
    boot::{
        live::Live,
        loader::Loader,
        mac::MacAddr,
        machine::Rules,
        roster::Roster,
        selector::{Facts, RuleBook},
    },
    config::{load::load, resolve::resolve},
};
use uuid::Uuid;

const RULES: u32 = 10_000;
const ROUNDS: usize = 9;
const MATCHES: u32 = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let path = scratch.path().join("netbootd.toml");
    fs::write(&path, configuration(scratch.path())?)?;
    let live = Live::new(Rules::default(), Roster::default());
    let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let loaded = load(Some(&path), [], &[])?;
        let read = start.elapsed();
        let settings = resolve(&loaded)?;
        let resolved = start.elapsed();
        if !settings.findings.is_empty() {
            return Err("the configuration was to be good".into());
        }
        let machines = RuleBook::new(settings.machines);
        live.rules.store(Rules { machines, profiles: settings.profiles, ..Rules::default() }.into());
        let swapped = start.elapsed();
        for (round, time) in rounds.iter_mut().zip([read, resolved - read, swapped - resolved]) {
            round.push(time);
        }
    }
    let [read, resolved, swapped] = rounds.map(median);
    println!(
        "{RULES} rules: reload {:.0?} (read {read:.0?}, resolve {resolved:.0?}, swap {swapped:.0?})",
        read + resolved + swapped
    );

    let rules = live.rules.load();
    let facts = Facts {
        mac: MacAddr([0; 6]),
        uuid: None,
        serial: None,
        hardware: None,
        arch: Some(Loader::EfiX86_64),
        interface: None,
    };
    let by_mac = |number| Facts { mac: mac(number), ..facts };
    let by_uuid = |number| Facts { mac: mac(RULES + number), uuid: Some(uuid(number)), ..facts };
    let by_none = |number| Facts { mac: mac(RULES + number), uuid: Some(uuid(RULES + number)), ..facts };
    let kinds: [(&str, &dyn Fn(u32) -> Facts<'static>); 3] =
        [("by its MAC address", &by_mac), ("by its UUID", &by_uuid), ("a stranger", &by_none)];
    for (name, facts) in kinds {
        let start = Instant::now();
        for number in 0..MATCHES {
            black_box(
                rules
                    .machines
                    .of(&facts(number.wrapping_mul(7919) % (RULES / 2) * 2 + u32::from(name.contains("UUID")))),
            );
        }
        println!("{RULES} rules: a machine {name}: {:.2?}", start.elapsed() / MATCHES);
    }
    Ok(())
}

/// Half of the rules by MAC address, half by UUID, and each with what templates make use of.
fn configuration(folder: &std::path::Path) -> Result<String, Box<dyn Error>> {
    fs::create_dir(folder.join("assets"))?;
    let mut kernel = vec![0; 0x300];
    kernel.splice(0x202..0x206, *b"HdrS");
    fs::write(folder.join("assets/vmlinuz"), kernel)?;
    let mut text = format!("assets = {:?}\n", folder.join("assets").display().to_string());
    text += "[profiles.debian]\nkernel = \"vmlinuz\"\ncmdline = \"hostname={{ machine.name }} rack={{ vars.rack }}\"\n";
    for number in 0..RULES {
        let selector = match number % 2 {
            0 => format!("mac = \"{}\"", mac(number)),
            _ => format!("uuid = \"{}\"", uuid(number)),
        };
        writeln!(
            text,
            "[[machines]]\nname = \"m{number}\"\n{selector}\nprofile = \"debian\"\nvars = {{ rack = {} }}",
            number / 40
        )?;
    }
    // The rules that every machine is compared with beside its own.
    text +=
        "[[machines]]\noui = \"b8:ca:3a\"\nprofile = \"local\"\n[[machines]]\narch = \"arm64\"\nprofile = \"local\"\n";
    Ok(text)
}

fn mac(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr([0x52, 0x54, a, b, c, d])
}

fn uuid(number: u32) -> Uuid {
    Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_0000_0000 + u128::from(number))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
