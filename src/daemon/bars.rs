//! The boots that are under way, with their bars, below the log lines of a terminal.

use std::{
    env,
    io::{self, IsTerminal as _},
    sync::Arc,
    time::{Duration, SystemTime},
};

use ratatui::{crossterm::terminal::size, text::Line};
use tokio::time::{MissedTickBehavior, interval};

use super::logging::set_footer;
use crate::{
    boot::live::Live,
    status::{
        screen::{is_current, lines, only_shows_text, summary},
        server::Server,
        view::Machine,
    },
    timeline::moment::Moment,
};

/// Draws them anew for as long as the server runs. Does nothing where standard output is no terminal, or one that only
/// shows text (an editor's, a log of a serial line).
pub(super) async fn follow(server: Arc<dyn Server>, live: Arc<Live>) {
    if !io::stdout().is_terminal() || only_shows_text(env::var_os("TERM").as_deref()) {
        return std::future::pending().await;
    }
    let _erase = Erase;
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (snapshot, now) = (server.snapshot().await, Moment::from(SystemTime::now()));
        let machines = Machine::all(&live, &*server, &snapshot, now);
        let current: Vec<Machine> = machines.iter().filter(|machine| is_current(machine, now)).cloned().collect();
        let (width, height) = size().unwrap_or((80, 24));
        set_footer(&shown(&machines, &current, now, (width, height)));
    }
}

/// As many lines as fit into half of the terminal, none of them broken: a broken one would be two to the cursor.
fn shown(machines: &[Machine], current: &[Machine], now: Moment, (width, height): (u16, u16)) -> Vec<Line<'static>> {
    if current.is_empty() {
        return Vec::new();
    }
    let all = [summary(machines)].into_iter().chain(lines(current, now, width));
    all.take(usize::from(height / 2)).map(|line| cut(line, usize::from(width))).collect()
}

fn cut(mut line: Line<'static>, width: usize) -> Line<'static> {
    let mut room = width.saturating_sub(1);
    for span in &mut line.spans {
        if span.content.chars().count() > room {
            span.content = span.content.chars().take(room).collect::<String>().into();
        }
        room -= span.content.chars().count();
    }
    line
}

/// Removes the footer, so that the shell's prompt comes in its place.
struct Erase;

impl Drop for Erase {
    fn drop(&mut self) {
        set_footer(&[]);
    }
}

/// Between two updates.
const REFRESH: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use ratatui::text::Span;

    use super::*;

    #[test]
    fn a_line_is_never_wider_than_the_terminal() {
        let line = Line::from(vec![Span::raw("12345"), Span::raw("äöü"), Span::raw("x")]);
        assert_eq!(cut(line.clone(), 8).to_string(), "12345äö");
        assert_eq!(cut(line, 80).to_string(), "12345äöüx");
    }
}
