//! Resident memory that the server gives back to the kernel.
#![expect(unsafe_code, reason = "madvise and malloc_trim have no safe interface")]

use std::{fs, io, ops::Range, ptr, time::Duration};

use rustix::mm::{Advice, madvise};
use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tracing::debug;

/// Gives back the free pages of the heap, again and again. The allocator has an arena for each thread, and keeps in each
/// of them what the largest page, list of machines or burst of requests took there once.
pub(super) async fn trim_heap() {
    let mut ticks = interval_at(Instant::now() + TRIM, TRIM);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // It takes milliseconds, in which other threads can wait for an arena.
        if let Err(error) = spawn_blocking(trim).await {
            debug!(%error, "the free pages of the heap stay");
        }
    }
}

/// Returns whether something was given back.
fn trim() -> bool {
    // SAFETY: it may be called at any time and by any thread, and touches only free memory (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    return unsafe { libc::malloc_trim(0) } == 1;
    #[cfg(not(target_env = "gnu"))]
    false
}

const TRIM: Duration = Duration::from_secs(60);

/// Gives back the pages of the program that only its start needs: the command line, the configuration, the first look at
/// all files. They are half of the memory that an idle server would be seen to have. What is needed after all is mapped
/// again at its next use, from the page cache.
pub(super) fn let_go_of_start() {
    if let Err(error) = let_go() {
        debug!(%error, "the pages of the start stay");
    }
}

fn let_go() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for Range { start, end } in text(&maps, &program.to_string_lossy()) {
        // SAFETY: the range is mapped from the program's file, private, and without the right to write. So no page of it
        // differs from the file, which nobody can write to while it runs (ETXTBSY), and the kernel reads a page that is
        // used again from there (MADV_DONTNEED, madvise(2)).
        unsafe { madvise(ptr::with_exposed_provenance_mut(start), end - start, Advice::LinuxDontNeed) }?;
    }
    Ok(())
}

/// Where the code of a program stands, by its memory map (proc_pid_maps(5)).
fn text(maps: &str, program: &str) -> Vec<Range<usize>> {
    let range = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let is_text = rest.starts_with("r-xp ") && rest.split_once('/')?.1 == program.strip_prefix('/')?;
        let (start, end) = range.split_once('-').filter(|_| is_text)?;
        Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
    };
    maps.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_the_program_is_meant() {
        let maps = "\
55e3b0000000-55e3b0100000 r--p 00000000 fe:00 7  /usr/bin/netbootd
55e3b0100000-55e3b0d00000 r-xp 00100000 fe:00 7  /usr/bin/netbootd
55e3b0d00000-55e3b0e00000 rw-p 00d00000 fe:00 7  /usr/bin/netbootd
7f0000000000-7f0000100000 r-xp 00000000 fe:00 9  /usr/lib/libc.so.6
7f0000200000-7f0000300000 r-xp 00000000 00:00 0
nonsense r-xp 0 0 0 /usr/bin/netbootd
";
        let found: Vec<(usize, usize)> =
            text(maps, "/usr/bin/netbootd").into_iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(found, [(0x55e3_b010_0000, 0x55e3_b0d0_0000)]);
        assert_eq!(text(maps, "/usr/bin/other"), []);
    }

    /// A line of proc_pid_status(5), in kB.
    fn resident(kind: &str) -> u64 {
        let status = fs::read_to_string("/proc/self/status").expect("read");
        let line = status.lines().find_map(|line| line.strip_prefix(kind)).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[test]
    fn code_runs_on_from_the_file_when_its_pages_are_gone() {
        let before = resident("RssFile:");
        let_go().expect("gone");
        assert!(resident("RssFile:") < before, "{before} kB before");
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn free_memory_below_memory_in_use_is_given_back() {
        // Too small for a mapping of its own, and the last one stays in use, so `free` gives nothing back.
        let mut blocks: Vec<Vec<u8>> = (0..65_536).map(|_| vec![1; 1000]).collect();
        let last = blocks.pop();
        drop(blocks);
        let before = resident("RssAnon:");
        assert!(trim());
        let after = resident("RssAnon:");
        assert!(after + 32_768 < before, "{before} kB, then {after} kB");
        drop(last);
    }
}
