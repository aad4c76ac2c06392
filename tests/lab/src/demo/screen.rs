//! What the demo prints: the time since its start, who speaks, and the line; and which lines of a console are worth it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::Lines;

#[derive(Clone)]
pub(super) struct Screen(Arc<Inner>);

struct Inner {
    started: Instant,
    colours: bool,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen(Arc::new(Inner { started: Instant::now(), colours: io::stdout().is_terminal() }))
    }

    pub(super) fn line(&self, who: &str, line: &str) {
        let seconds = self.0.started.elapsed().as_secs_f32();
        let who = format!("{who:<9}");
        let who = if self.0.colours { format!("\x1b[{}m{who}\x1b[0m", colour(who.trim())) } else { who };
        self.text(&format!("{seconds:6.1} s  {who}  {line}\n"));
    }

    pub(super) fn blank(&self) {
        self.text("\n");
    }

    pub(super) fn text(&self, text: &str) {
        // One write, so that two threads do not mix their lines. Nobody is left to hear that standard output is gone.
        let _ = io::stdout().lock().write_all(text.as_bytes());
    }

    /// Shows lines as they come, each as `pick` has it, until they end.
    pub(super) fn show(&self, who: &'static str, lines: Lines, pick: fn(&str) -> Option<String>) -> JoinHandle<()> {
        let screen = self.clone();
        thread::spawn(move || lines.filter_map(|line| pick(&line)).for_each(|line| screen.line(who, &line)))
    }
}

/// A console's line without what is noise in a demo: most of the kernel's lines, and their time stamps.
pub(super) fn of_interest(line: &str) -> Option<String> {
    let text = match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((_, text)) => KERNEL.iter().any(|start| text.starts_with(start)).then_some(text)?,
        None => FIRMWARE.iter().any(|words| line.contains(words)).then_some(line)?,
    };
    let text = text.trim();
    // The kernel's version goes on with its compiler and linker, iPXE's with its motto.
    let end = match text {
        _ if text.starts_with("Linux version ") => " (",
        _ if text.starts_with("iPXE ") => " -- ",
        _ => return Some(text.to_owned()),
    };
    Some(text.split(end).next().unwrap_or(text).to_owned())
}

fn colour(who: &str) -> &'static str {
    match who {
        "lab" => "2",
        "netbootd" => "1;32",
        "bios" => "33",
        "uefi" => "36",
        _ => "35",
    }
}

/// Of SeaBIOS, OVMF, iPXE and the lab's `init`.
const FIRMWARE: &[&str] = &[
    "SeaBIOS (version",
    ">>Start",
    "Station IP address",
    "NBP filename",
    "NBP file downloaded",
    "URI:",
    "PXE-E",
    "Error: ",
    "BdsDxe: failed to ",
    "Nothing to boot",
    "No bootable device",
    "iPXE 1.",
    "iPXE 2.",
    "iPXE/",
    "/255.",
    "... ok",
    "http://ipxe.org/",
    "EFI stub:",
    "LAB-",
];
const KERNEL: &[&str] = &["Linux version", "Kernel panic", "Run /init"];

#[cfg(test)]
mod tests {
    use super::of_interest;

    #[test]
    fn the_kernel_is_cut_to_its_version() {
        let line = "[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12) #1 SMP";
        assert_eq!(of_interest(line).as_deref(), Some("Linux version 6.1.0-56-cloud-amd64"));
        assert_eq!(of_interest("[    0.004000] tsc: Detected 2300.000 MHz processor"), None);
    }

    #[test]
    fn firmware_is_shown_where_it_boots() {
        assert_eq!(
            of_interest("  Station IP address is 10.77.0.113").as_deref(),
            Some("Station IP address is 10.77.0.113")
        );
        assert_eq!(
            of_interest("iPXE 1.0.0 -- Open Source Network Boot Firmware -- http").as_deref(),
            Some("iPXE 1.0.0")
        );
        assert_eq!(of_interest("BdsDxe: loading Boot0001"), None);
    }
}
