//! What the kernel counts of this process, under the names that Prometheus' own clients use (proc(5)).

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Looks when it is asked. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |name, help, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        if let Some(Stat { cpu_seconds, started, virtual_bytes, resident_bytes }) = Stat::read() {
            let cpu = ConstCounter::new(cpu_seconds);
            put("process_cpu_seconds", "CPU time, of user and system together", &cpu)?;
            let started = ConstGauge::new(started);
            put("process_start_time_seconds", "When the process started, since 1970", &started)?;
            let resident = ConstGauge::new(resident_bytes);
            put("process_resident_memory_bytes", "Memory that is not swapped out", &resident)?;
            put("process_virtual_memory_bytes", "Address space", &ConstGauge::new(virtual_bytes))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The one that counts them is among them.
            let open = ConstGauge::new(open.count().saturating_sub(1) as i64);
            put("process_open_fds", "File descriptors that are open", &open)?;
        }
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = ConstGauge::new(most.and_then(|most| i64::try_from(most).ok()).unwrap_or(i64::MAX));
        put("process_max_fds", "File descriptors that may be open", &most)
    }
}

struct Stat {
    cpu_seconds: f64,
    started: f64,
    virtual_bytes: i64,
    resident_bytes: i64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        Self::parse(&stat, &system)
    }

    /// The fields behind the name, which may hold anything; the first of them is the third of proc_pid_stat(5).
    fn parse(stat: &str, system: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<i64>().ok();
        let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = i64::try_from(rustix::param::page_size()).ok()?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
            started: booted + field(22)? as f64 / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "812 (net) boot (d) S 1 812 812 0 -1 4194560 9 0 0 0 1234 766 0 0 20 0 3 0 5000 104857600 2560 1 1";
        let Stat { cpu_seconds, started, virtual_bytes, resident_bytes } =
            Stat::parse(stat, "cpu 1 2\nbtime 1800000000\n").expect("read");
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!((cpu_seconds, started), (2000.0 / ticks, 1_800_000_000.0 + 5000.0 / ticks));
        assert_eq!((virtual_bytes, resident_bytes), (104_857_600, 2560 * rustix::param::page_size() as i64));
        assert!(Stat::parse("812 (x", "").is_none());
        assert!(Stat::read().is_some_and(|own| own.resident_bytes > 0 && own.started > 1.0e9));
    }
}
