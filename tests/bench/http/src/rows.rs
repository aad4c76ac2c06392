//! What is measured.

use std::{path::PathBuf, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use netbootd_lab::Host;

use crate::{
    client::{self, at_a_rate, beside_a_greedy_one, download, fresh, on_threads, ranges, small, stall, with_a_pause},
    server::Server,
};

/// A row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// With the unit.
    pub(crate) what: &'static str,
    pub(crate) measure: fn(&Run<'_>) -> Result<f64>,
    pub(crate) most_rounds: usize,
    /// One CPU for both ends.
    pub(crate) is_pinned: bool,
    /// Others do not serve this.
    pub(crate) is_only_ours: bool,
}

/// Rows differ from this one.
const ROW: Row = Row {
    name: "",
    what: "",
    measure: |_| Ok(f64::NAN),
    most_rounds: usize::MAX,
    is_pinned: false,
    is_only_ours: false,
};

/// A server that has just been started, seen from the client's host.
pub(crate) struct Run<'a> {
    pub(crate) server: &'a Server,
    pub(crate) host: &'a Host,
    pub(crate) file: PathBuf,
    /// Paths as the server has them.
    pub(crate) big: String,
    pub(crate) small: String,
    /// The same as `big`, in an image; only ours has it.
    pub(crate) in_image: String,
}

pub(crate) const ROWS: &[Row] = &[
    Row { name: "one", what: "1 client, 512 MB, MB per CPU s", measure: one, ..ROW },
    Row {
        name: "one-cpu",
        what: "the same with the client and the server on one CPU",
        measure: one,
        is_pinned: true,
        ..ROW
    },
    Row {
        name: "hundred",
        what: "100 clients, 40 MB each, MB per CPU s",
        measure: |run| run.per_cpu(|| on_threads(100, |_| download(&run.big, 40 << 20))),
        ..ROW
    },
    Row {
        name: "thousand",
        what: "1,000 clients, 4 MB each, MB per CPU s",
        measure: |run| run.per_cpu(|| on_threads(1000, |_| download(&run.big, 4 << 20))),
        ..ROW
    },
    Row {
        name: "thousand-time",
        what: "the same, MB/s in all: the clients share the CPUs with the server",
        measure: |run| {
            run.warm()?;
            let began = std::time::Instant::now();
            Ok(on_threads(1000, |_| download(&run.big, 4 << 20))? / began.elapsed().as_secs_f64())
        },
        ..ROW
    },
    Row {
        name: "ranges",
        what: "10 clients, 40 ranges of 1 MB each on one connection, MB per CPU s",
        measure: |run| run.per_cpu(|| (0..5).map(|_| on_threads(10, |n| ranges(&run.big, BIG, n, 40))).sum()),
        ..ROW
    },
    Row {
        name: "small",
        what: "4 KiB files, 50 clients, thousands per CPU s",
        measure: |run| run.small_files(50),
        ..ROW
    },
    Row {
        name: "small-1",
        what: "4 KiB files, 1 client, thousands per CPU s",
        measure: |run| run.small_files(1),
        ..ROW
    },
    Row {
        name: "cold",
        what: "1 client, nothing of 512 MB in the page cache, MB/s",
        measure: |run| {
            run.forget()?;
            let began = std::time::Instant::now();
            Ok(download(&run.big, BIG)? / began.elapsed().as_secs_f64())
        },
        ..ROW
    },
    Row {
        name: "beside-cold",
        what: "a fresh client's 4 KiB beside that, p99, ms, less is better",
        measure: |run| {
            run.warm()?;
            run.forget()?;
            thread::scope(|scope| {
                let cold = scope.spawn(|| download(&run.big, BIG));
                let times = client::fresh_while(&run.small, || !cold.is_finished());
                cold.join().ok().context("the client panicked")??;
                p99(times?)
            })
        },
        ..ROW
    },
    Row {
        name: "image",
        what: "a 512 MB file in a CD image, MB per CPU s, of those of the same file plain, in turn",
        measure: |run| run.beside(&run.in_image, &run.big),
        is_only_ours: true,
        ..ROW
    },
    Row {
        name: "fresh",
        what: "a fresh client's 4 KiB, alone, p99, ms, less is better",
        measure: |run| p99(fresh(&run.small, 2000)?),
        ..ROW
    },
    Row {
        name: "beside-stalled",
        what: "a fresh client's 4 KiB beside 1,000 stalled, p99, ms, less is better",
        measure: |run| {
            let _stalled = stall(1000, &run.big)?;
            p99(fresh(&run.small, 1000)?)
        },
        ..SLOW
    },
    Row {
        name: "stalled-200",
        what: "200 stalled clients, growth of RSS in MB, less is better",
        measure: |run| growth(run, 200),
        ..SLOW
    },
    Row {
        name: "stalled-1000",
        what: "1,000 stalled clients, growth of RSS in MB, less is better",
        measure: |run| growth(run, 1000),
        ..SLOW
    },
    Row {
        name: "kernel",
        what: "1,000 stalled clients, kB queued in the kernel for each, less is better",
        measure: |run| {
            let _stalled = stall(1000, &run.big)?;
            Ok(run.queued()? / 1e3 / 1e3)
        },
        ..SLOW
    },
    Row {
        name: "stalled-cpu",
        what: "200 stalled clients for 20 s, CPU ms in all, less is better",
        measure: |run| {
            run.warm()?;
            let _stalled = stall(200, &run.big)?;
            run.cpu_ms(|| {
                thread::sleep(Duration::from_secs(20));
                Ok(0.0)
            })
        },
        ..SLOW
    },
    Row {
        name: "slow-pause",
        what: "200 clients that read 1 of 4 MB, and the rest after 5 s, CPU ms in all, less is better",
        measure: |run| {
            run.warm()?;
            run.cpu_ms(|| on_threads(200, |_| with_a_pause(&run.big, 1 << 20, PAUSE, 4 << 20)))
        },
        ..SLOW
    },
    Row {
        name: "slow-rate",
        what: "200 clients at 100 kB/s for 10 s that all get every byte, CPU ms in all, less is better",
        measure: |run| {
            run.warm()?;
            run.cpu_ms(|| on_threads(200, |_| at_a_rate(&run.big, 1_000_000, 100_000)))
        },
        most_rounds: 1,
        ..SLOW
    },
    Row {
        name: "fair",
        what: "the slowest of 100 clients beside one with 64 connections, of an even share",
        measure: |run| beside_a_greedy_one(&run.big, 100, 64, 20 << 20),
        ..SLOW
    },
];

/// These take long.
const SLOW: Row = Row { most_rounds: 2, ..ROW };

fn one(run: &Run<'_>) -> Result<f64> {
    run.per_cpu(|| (0..4).map(|_| download(&run.big, BIG)).sum())
}

impl Run<'_> {
    /// What `work` counts for each second of the server's CPU time, from a warm page cache.
    fn per_cpu(&self, work: impl Fn() -> Result<f64>) -> Result<f64> {
        self.warm()?;
        let before = self.server.cpu()?;
        let done = work()?;
        Ok(done / (self.server.cpu()? - before))
    }

    /// Thousands for each second of the server's CPU time.
    fn small_files(&self, clients: usize) -> Result<f64> {
        Ok(self.per_cpu(|| on_threads(clients, |_| small(&self.small, Duration::from_secs(2))))? / 1e3)
    }

    /// Milliseconds of the server's CPU time that all of `work` takes.
    fn cpu_ms(&self, work: impl Fn() -> Result<f64>) -> Result<f64> {
        let before = self.server.cpu()?;
        work()?;
        Ok((self.server.cpu()? - before) * 1e3)
    }

    /// What a download of one file costs, of what that of another one does: five of each, one after the other.
    fn beside(&self, path: &str, other: &str) -> Result<f64> {
        let cost = |path: &str| -> Result<f64> {
            let before = self.server.cpu()?;
            download(path, BIG)?;
            Ok(self.server.cpu()? - before)
        };
        // Both from a warm page cache.
        download(path, BIG)?;
        download(other, BIG)?;
        let (mut own, mut others) = (0.0, 0.0);
        for _ in 0..5 {
            own += cost(path)?;
            others += cost(other)?;
        }
        Ok(others / own)
    }

    fn warm(&self) -> Result<()> {
        download(&self.big, BIG)?;
        small(&self.small, Duration::from_millis(100)).map(drop)
    }

    /// Has the kernel drop the big file from the page cache.
    fn forget(&self) -> Result<()> {
        let of = format!("of={}", self.file.display());
        let dd = Command::new("dd").args([&of, "oflag=nocache", "conv=notrunc,fdatasync", "count=0"]).output()?;
        ensure!(dd.status.success(), "dd: {}", String::from_utf8_lossy(&dd.stderr));
        let fincore = Command::new("fincore").args(["-bnr", "-o", "RES"]).arg(&self.file).output()?;
        let left: usize = String::from_utf8(fincore.stdout)?.trim().parse().context("fincore")?;
        ensure!(left < BIG / 10, "{left} bytes of it are in the page cache all the same");
        Ok(())
    }

    /// Bytes that the kernel has queued for clients, counted as the memory that it holds for them.
    fn queued(&self) -> Result<f64> {
        let output = self.host.command("ss").args(["-tmnH", "sport", "=", "8080"]).output()?;
        let text = String::from_utf8(output.stdout)?;
        // skmem:(r0,rb131072,t0,tb2626560,f2816,w1096960,…): `w` is what is queued to be sent (ss(8)).
        let queued = text.split(',').filter_map(|field| field.strip_prefix('w')?.parse::<f64>().ok());
        Ok(queued.sum())
    }
}

fn growth(run: &Run<'_>, clients: usize) -> Result<f64> {
    run.warm()?;
    let before = run.server.rss()?;
    let _stalled = stall(clients, &run.big)?;
    Ok(run.server.rss()? - before)
}

/// Milliseconds.
fn p99(mut times: Vec<Duration>) -> Result<f64> {
    times.sort_unstable();
    let time = times.get(times.len() * 99 / 100).context("no times")?;
    Ok(time.as_secs_f64() * 1e3)
}

const PAUSE: Duration = Duration::from_secs(5);
const BIG: usize = 512 << 20;
