//! Machines as lines for a terminal: `netbootd watch`, and `up` below its own lines.

use std::{ffi::OsStr, time::Duration};

use ratatui::{
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use super::view::{Boot, Machine, Progress};
use crate::timeline::{
    boot::{Download, Going},
    cause::rough,
    moment::Moment,
    transfer::bytes,
};

/// Whether a terminal of this name (`TERM`) only shows text: an editor's, a log of a serial line.
#[must_use]
pub fn only_shows_text(terminal: Option<&OsStr>) -> bool {
    terminal.is_some_and(|name| name == "dumb")
}

/// How many machines stand how, in a line.
#[must_use]
pub fn summary(machines: &[Machine]) -> Line<'static> {
    let count = |state: &str| machines.iter().filter(|machine| is_at(machine, state)).count();
    let all = machines.len();
    let mut spans = vec![Span::styled(format!("{all} machine{}", if all == 1 { "" } else { "s" }), Modifier::BOLD)];
    for (state, words) in SUMMED {
        let count = count(state);
        if count > 0 {
            spans.push(Span::raw(" · "));
            spans.push(Span::styled(format!("{count} {words}"), colour(state)));
        }
    }
    Line::from(spans)
}

/// A line for each machine and for what is worth one about it, those that someone should look at first.
#[must_use]
pub fn lines(machines: &[Machine], now: Moment, width: u16) -> Vec<Line<'static>> {
    let mut sorted: Vec<&Machine> = machines.iter().collect();
    sorted.sort_by_cached_key(|machine| machine.urgency());
    sorted.into_iter().flat_map(|machine| machine_lines(machine, now, usize::from(width))).collect()
}

/// Whether a machine's boot is under way, or stopped a short while ago.
#[must_use]
pub fn is_current(machine: &Machine, now: Moment) -> bool {
    machine.boot.as_ref().is_some_and(|boot| match &*boot.state {
        "booting" | "slow_but_alive" => true,
        "stopped" => now.since(boot.last) < RECENT,
        _ => false,
    })
}

fn machine_lines(machine: &Machine, now: Moment, width: usize) -> Vec<Line<'static>> {
    let profile = machine.profile.as_deref().unwrap_or("-");
    let Some(boot) = &machine.boot else {
        let text = format!("{:<17}  {:<14}  {profile:<14}  not seen", machine.id, name(machine));
        return vec![Line::styled(text, Modifier::DIM)];
    };
    let chosen = boot.chosen.as_ref().map_or(profile, |chosen| &chosen.profile);
    let mut head = Line::from(vec![
        Span::styled(format!("{:<17}  ", machine.id), Modifier::BOLD),
        Span::raw(format!("{:<14}  {chosen:<14}  ", name(machine))),
    ]);
    let mut state = stages(boot);
    state.push(Span::styled(format!("  {}", in_words(boot)), colour(&boot.state)));
    let ago = now.since(boot.last).as_secs();
    if ago > 1 {
        state.push(Span::styled(format!(", {} ago", rough(ago)), Modifier::DIM));
    }
    // What a narrow terminal or a long name leaves no room for gets a line of its own: it is what people look for.
    let mut lines = if head.width() + state.iter().map(Span::width).sum::<usize>() <= width {
        head.spans.extend(state);
        vec![head]
    } else {
        state.insert(0, Span::raw(INDENT));
        vec![head, Line::from(state)]
    };
    let is_on_its_way = |download: &&Download| matches!(download.pace, Going::Progressing | Going::Paused { .. });
    lines.extend(boot.downloads.iter().filter(is_on_its_way).map(|download| bar(download, now, width)));
    if let Some(stop) = &boot.stop {
        lines.extend(wrapped(&stop.text, width).map(|text| Line::styled(text, colour("stopped"))));
        let fix = stop.fix.iter().flat_map(|fix| wrapped(fix, width));
        lines.extend(fix.map(Line::from));
    }
    lines
}

fn name(machine: &Machine) -> &str {
    machine.name.as_deref().or(machine.address.as_deref()).unwrap_or("-")
}

/// A sign for each stage: done, now, stopped, to come.
fn stages(boot: &Boot) -> Vec<Span<'static>> {
    let sign = |progress| match progress {
        Progress::Done => Span::styled("●", Color::Green),
        Progress::Active => Span::styled("◐", Color::Cyan),
        Progress::Paused => Span::styled("‖", Color::Yellow),
        Progress::Failed => Span::styled("✗", Color::Red),
        Progress::Pending => Span::styled("○", Modifier::DIM),
    };
    boot.stages.iter().map(|stage| sign(stage.is)).collect()
}

fn in_words(boot: &Boot) -> String {
    match &*boot.state {
        "booting" => boot.stage.name().to_owned(),
        "slow_but_alive" => format!("{}, slow but alive", boot.stage.name()),
        "stopped" => format!("stopped at {}", boot.stage.name()),
        "local" => "sent to its disk".into(),
        "menu" => "at the menu".into(),
        "shell" => "at iPXE's shell".into(),
        "handed_over" => "handed over".into(),
        "reported" => "reported done".into(),
        other => other.to_owned(),
    }
}

/// `  vmlinuz        █████████░░░░░░░░░  52 %  6.1 MB of 12.0 MB, 24.0 MB/s`
fn bar(download: &Download, now: Moment, width: usize) -> Line<'static> {
    let share = if download.size == 0 { 0.0 } else { download.acked as f64 / download.size as f64 };
    let share = share.clamp(0.0, 1.0);
    let (pace, colour) = match download.pace {
        Going::Paused { since, window_closed } => {
            // Who closes its window asked for the pause.
            let what = if window_closed { "paused" } else { "stalled" };
            (format!("{what} {}", rough(now.since(since).as_secs())), Color::Yellow)
        }
        _ => (format!("{}/s", bytes(download.rate)), Color::Cyan),
    };
    let (acked, size) = (bytes(download.acked), bytes(download.size));
    let numbers = format!(" {:>3.0} %  {acked} of {size}, {pace}", (share * 100.0).floor());
    // First the numbers, then the end of the name, and a bar in what room is left.
    let room = width.saturating_sub(4 + numbers.chars().count());
    let letters = room.saturating_sub(SHORTEST_BAR).clamp(8, 24);
    let cells = room.saturating_sub(letters).min(40);
    let full = (share * cells as f64).round() as usize;
    let end = |name: &str| name.chars().rev().take(letters).collect::<Vec<_>>().into_iter().rev().collect::<String>();
    Line::from(vec![
        Span::raw(format!("  {:<letters$}  ", end(&download.name))),
        Span::styled("█".repeat(full), colour),
        Span::styled("░".repeat(cells.saturating_sub(full)), Modifier::DIM),
        Span::raw(numbers),
    ])
}

/// Words in lines that are not wider than the terminal, indented.
fn wrapped(text: &str, width: usize) -> impl Iterator<Item = String> + use<> {
    let room = width.saturating_sub(INDENT.len()).max(20);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > room {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines.into_iter().map(|line| format!("{INDENT}{line}"))
}

fn is_at(machine: &Machine, state: &str) -> bool {
    machine.boot.as_ref().is_some_and(|boot| boot.state == state)
}

fn colour(state: &str) -> Style {
    match state {
        "booting" => Color::Cyan.into(),
        "slow_but_alive" => Color::Yellow.into(),
        "stopped" => Color::Red.into(),
        "handed_over" | "reported" => Color::Green.into(),
        _ => Style::default(),
    }
}

/// What is worth counting, in words.
const SUMMED: [(&str, &str); 6] = [
    ("booting", "booting"),
    ("slow_but_alive", "slow but alive"),
    ("stopped", "stopped"),
    ("menu", "at the menu"),
    ("handed_over", "handed over"),
    ("reported", "reported"),
];
const INDENT: &str = "    ";
const SHORTEST_BAR: usize = 10;
/// A stop that people want to see below the lines of `up`.
const RECENT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::hardware::Hardware;
    use crate::{
        status::view::{StageView, StopView},
        timeline::stage::Stage,
    };

    const NOW: Moment = Moment::from_secs(1_000_000);

    fn machine(id: &str, state: &'static str, stage: Stage, signs: &[Progress]) -> Machine {
        let stages = signs.iter().map(|is| StageView { stage, is: *is }).collect();
        let last = Moment::from_secs(999_970);
        let boot = Boot {
            appliance: None,
            number: 1,
            began: last,
            last,
            client: None,
            state: state.into(),
            stage,
            chosen: None,
            stages,
            downloads: Vec::new(),
            stop: None,
        };
        Machine {
            depends_on: None,
            serial: None,
            interface: None,
            appliance: None,
            uuid: None,
            until_installed: false,
            tried: None,
            cards: Vec::new(),
            id: id.into(),
            mac: Some(id.into()),
            address: None,
            name: None,
            profile: Some("debian".into()),
            by: None,
            lacks_memory: None,
            once: false,
            assigned: None,
            approved: false,
            permission: None,
            spent: None,
            kept: true,
            hardware: Hardware::default(),
            last: None,
            boot: Some(boot),
        }
    }

    fn shown(machines: &[Machine], width: u16) -> Vec<String> {
        lines(machines, NOW, width).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_terminal_that_cannot_move_its_cursor_only_shows_text() {
        let only_shows = |name: &str| only_shows_text(Some(OsStr::new(name)));
        assert!(only_shows("dumb") && !only_shows("xterm-256color") && !only_shows("linux"));
    }

    #[test]
    fn a_narrow_terminal_shows_the_state_and_the_numbers_first() {
        let mut booting = machine("52:54:00:00:00:01", "booting", Stage::Kernel, &[Progress::Done, Progress::Active]);
        booting.name = Some("a-name-that-is-longer-than-its-column".into());
        let boot = booting.boot.as_mut().expect("a boot");
        let (stage, name, pace) = (Stage::Kernel, "debian/a/very/long/path/to/vmlinuz".into(), Going::Progressing);
        let (acked, size, rate) = (123_400_000, 168_000_000, 101_000_000);
        boot.downloads = vec![Download { stage, name, acked, size, rate, pace, ..Download::default() }];
        for (width, expected) in [
            (80, ["    ●◐  kernel, 30 s ago", "  ery/long/path/to/vmlinuz  "]),
            (56, ["    ●◐  kernel, 30 s ago", "  /vmlinuz  "]),
        ] {
            let shown = shown(&[booting.clone()], width);
            assert!(shown[1] == expected[0] && shown[2].starts_with(expected[1]), "{shown:#?}");
            assert!(shown[2].ends_with("  73 %  123.4 MB of 168.0 MB, 101.0 MB/s"), "{shown:#?}");
            assert!(shown[2].chars().count() <= usize::from(width), "{shown:#?}");
        }
    }

    #[test]
    fn what_is_under_way_comes_first_with_its_bars_then_what_stopped_with_its_mend() {
        let mut booting = machine("52:54:00:00:00:01", "booting", Stage::Kernel, &[Progress::Done, Progress::Active]);
        let boot = booting.boot.as_mut().expect("a boot");
        boot.last = NOW;
        let download = |name: &str, pace| Download {
            stage: Stage::Kernel,
            name: name.into(),
            acked: 6_000_000,
            size: 12_000_000,
            rate: 2_500_000,
            pace,
            ..Download::default()
        };
        let since = Moment::from_secs(999_900);
        boot.downloads = vec![
            download("debian/a/very/long/path/to/vmlinuz", Going::Progressing),
            download("initrd", Going::Paused { since, window_closed: true }),
            download("done", Going::Done),
        ];
        let mut stopped = machine("52:54:00:00:00:02", "stopped", Stage::Offer, &[Progress::Done, Progress::Failed]);
        stopped.name = Some("k8s08".into());
        stopped.boot.as_mut().expect("a boot").stop = Some(StopView {
            stage: Stage::Offer,
            since: NOW,
            cause: "not_leased".into(),
            text: "it keeps asking and takes no address from any DHCP server".into(),
            fix: Some("look whether a DHCP server leases addresses".into()),
        });
        let over = machine("52:54:00:00:00:03", "handed_over", Stage::HandedOver, &[Progress::Done]);
        let never = Machine { boot: None, ..machine("52:54:00:00:00:04", "", Stage::Discover, &[]) };
        let machines = [never, over, stopped, booting];
        assert_eq!(
            shown(&machines, 50),
            [
                "52:54:00:00:00:01  -               debian          ",
                "    ●◐  kernel",
                "  /vmlinuz  ██░  50 %  6.0 MB of 12.0 MB, 2.5 MB/s",
                "  initrd      50 %  6.0 MB of 12.0 MB, paused 100 s",
                "52:54:00:00:00:02  k8s08           debian          ",
                "    ●✗  stopped at offer, 30 s ago",
                "    it keeps asking and takes no address from any",
                "    DHCP server",
                "    look whether a DHCP server leases addresses",
                "52:54:00:00:00:03  -               debian          ",
                "    ●  handed over, 30 s ago",
                "52:54:00:00:00:04  -               debian          not seen",
            ]
        );
        assert_eq!(summary(&machines).to_string(), "4 machines · 1 booting · 1 stopped · 1 handed over");
        assert!(machines.iter().map(|machine| is_current(machine, NOW)).eq([false, false, true, true]));
    }
}
