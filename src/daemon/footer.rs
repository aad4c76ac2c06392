//! What stands below all log lines on a terminal: the boots that are under way, with their bars.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::Arc,
    time::{Duration, SystemTime},
};

use ratatui::{
    backend::IntoCrossterm as _,
    crossterm::{
        cursor::MoveUp,
        queue,
        style::{Attribute, PrintStyledContent, SetAttribute, StyledContent},
        terminal::{Clear, ClearType, size},
    },
    text::Line,
};
use tokio::time::{MissedTickBehavior, interval};

use super::logging;
use crate::{
    boot::{machine::Live, moment::Moment},
    status::{
        screen::{is_current, lines, summary},
        server::Server,
        view::Machine,
    },
};

/// The lines that stand there now.
#[derive(Debug)]
pub(super) struct Footer {
    drawn: Vec<u8>,
    height: u16,
}

impl Footer {
    pub(super) const fn none() -> Self {
        Self { drawn: Vec::new(), height: 0 }
    }

    /// Writes whole lines where the footer was, and the footer below them.
    pub(super) fn write_above(&self, out: &mut impl Write, lines: &[u8]) -> io::Result<()> {
        self.erase(out)?;
        out.write_all(lines)?;
        out.write_all(&self.drawn)?;
        out.flush()
    }

    pub(super) fn replace(&mut self, out: &mut impl Write, lines: &[Line<'_>]) -> io::Result<()> {
        let mut drawn = Vec::new();
        lines.iter().try_for_each(|line| draw(&mut drawn, line))?;
        if drawn == self.drawn {
            return Ok(());
        }
        self.erase(out)?;
        (self.drawn, self.height) = (drawn, u16::try_from(lines.len()).unwrap_or(u16::MAX));
        out.write_all(&self.drawn)?;
        out.flush()
    }

    fn erase(&self, out: &mut impl Write) -> io::Result<()> {
        match self.height {
            0 => Ok(()),
            height => queue!(out, MoveUp(height), Clear(ClearType::FromCursorDown)),
        }
    }
}

fn draw(out: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    for span in &line.spans {
        let style = line.style.patch(span.style).into_crossterm();
        queue!(out, PrintStyledContent(StyledContent::new(style, &span.content)), SetAttribute(Attribute::Reset))?;
    }
    out.write_all(b"\n")
}

/// Keeps it as it should be for as long as the server runs. Does nothing where nobody looks: no terminal.
pub(super) async fn follow(server: Arc<dyn Server>, live: Arc<Live>) {
    if !io::stdout().is_terminal() {
        return std::future::pending().await;
    }
    let _erase = Erase;
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (snapshot, now) = (server.snapshot().await, Moment::from(SystemTime::now()));
        let all = snapshot.machines.iter().map(|seen| Machine::new(&live, &*server, seen.who, Some(seen), now));
        let machines: Vec<Machine> = all.collect();
        let current: Vec<Machine> = machines.iter().filter(|machine| is_current(machine, now)).cloned().collect();
        let (width, height) = size().unwrap_or((80, 24));
        logging::stand_below(&shown(&machines, &current, now, (width, height)));
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

/// The shell's prompt comes where the footer was.
struct Erase;

impl Drop for Erase {
    fn drop(&mut self) {
        logging::stand_below(&[]);
    }
}

/// Between two looks.
const REFRESH: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use ratatui::{style::Color, text::Span};

    use super::*;

    #[test]
    fn lines_are_written_above_it_and_it_goes_without_a_trace() {
        let (mut out, mut footer) = (Vec::new(), Footer::none());
        footer.write_above(&mut out, b"one\n").expect("written");
        let lines = [Line::from(vec![Span::raw("a"), Span::styled("b", Color::Red)]), Line::raw("c")];
        footer.replace(&mut out, &lines).expect("drawn");
        assert!(out.starts_with(b"one\n") && !out.contains(&b'J'), "nothing is erased where nothing stood");
        let drawn = out.split_off(4);
        footer.replace(&mut out, &lines).expect("drawn");
        assert_eq!(out, b"one\n", "what is the same is not drawn again");
        footer.write_above(&mut out, b"two\n").expect("written");
        assert_eq!(out, [b"one\n\x1b[2A\x1b[Jtwo\n".as_slice(), &drawn].concat());
        out.clear();
        footer.replace(&mut out, &[]).expect("erased");
        assert_eq!(out, b"\x1b[2A\x1b[J");
    }

    #[test]
    fn a_line_is_never_wider_than_the_terminal() {
        let line = Line::from(vec![Span::raw("12345"), Span::raw("äöü"), Span::raw("x")]);
        assert_eq!(cut(line.clone(), 8).to_string(), "12345äö");
        assert_eq!(cut(line, 80).to_string(), "12345äöüx");
    }
}
