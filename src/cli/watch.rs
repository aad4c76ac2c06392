//! `netbootd watch`: shows every boot as it happens, as a table on a terminal, or as lines.

use std::{
    env,
    io::{IsTerminal as _, stdout},
    time::{Duration, SystemTime},
};

use chrono::Local;
use http::Method;
use http_body_util::BodyExt as _;
use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    layout::{Constraint, Layout},
    style::Modifier,
    text::Line,
    widgets::{Paragraph, Wrap},
};
use serde_json::{Value, json};

use super::{
    client::{At, runtime},
    failure::{EX_OSERR, EX_UNAVAILABLE, Failure, print_if_read},
};
use crate::{
    status::{
        screen::{lines, only_shows_text, summary},
        view::Machine,
    },
    timeline::moment::Moment,
};

/// Show every boot as it happens.
///
/// On a terminal it is a table (press q to quit), otherwise a line for each step.
#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    #[command(flatten)]
    at: At,
    /// Print lines on a terminal too
    #[arg(long)]
    lines: bool,
}

impl Watch {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.at.json || self.lines || !stdout().is_terminal() || only_shows_text(env::var_os("TERM").as_deref()) {
            return runtime()?.block_on(self.follow());
        }
        // Ask the server before the terminal is switched to full screen, so that an error stays visible.
        let machines = self.machines()?;
        let shown = ratatui::run(|terminal| self.show(terminal, machines));
        shown.map_err(|error| Failure::new(EX_OSERR, error))?
    }

    /// Redraws until a key is pressed or the server stops.
    fn show(&self, terminal: &mut DefaultTerminal, mut machines: Vec<Machine>) -> std::io::Result<Result<(), Failure>> {
        let mut scrolled = 0;
        loop {
            terminal.draw(|frame| scrolled = draw(frame, &machines, scrolled, Moment::from(SystemTime::now())))?;
            if event::poll(REFRESH)?
                && let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
            {
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(Ok(())),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(Ok(())),
                    KeyCode::Down | KeyCode::Char('j') => scrolled += 1,
                    KeyCode::Up | KeyCode::Char('k') => scrolled = scrolled.saturating_sub(1),
                    KeyCode::PageDown => scrolled += 10,
                    KeyCode::PageUp => scrolled = scrolled.saturating_sub(10),
                    KeyCode::Home => scrolled = 0,
                    _ => {}
                }
                continue;
            }
            match self.machines() {
                Ok(fresh) => machines = fresh,
                Err(failure) => return Ok(Err(failure)),
            }
        }
    }

    fn machines(&self) -> Result<Vec<Machine>, Failure> {
        let answer = self.at.ask(Method::GET, "/api/v1/machines", None)?;
        serde_json::from_value(answer).map_err(|error| {
            Failure::new(
                EX_UNAVAILABLE,
                format!("cannot read the server's reply; is it another version of netbootd? {error}"),
            )
        })
    }

    /// One line for each step, until the server stops or nobody reads the lines.
    async fn follow(&self) -> Result<(), Failure> {
        let mut answer = self.at.send(Method::GET, "/api/v1/events", None).await?.into_body();
        let (mut waiting, mut event) = (Vec::new(), String::new());
        while let Some(frame) = answer.frame().await {
            let frame = frame
                .map_err(|error| Failure::new(EX_UNAVAILABLE, format!("lost the connection to the server: {error}")))?;
            waiting.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if let Some(name) = line.strip_prefix("event: ") {
                    event = name.trim_end().to_owned();
                } else if let Some(data) = line.strip_prefix("data: ")
                    && !print_if_read(&self.line(&event, data.trim_end()))?
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn line(&self, event: &str, data: &str) -> String {
        let step: Value = match serde_json::from_str(data) {
            Ok(missed) if event == "missed" && self.at.json => return format!("{}\n", json!({ "missed": missed })),
            Ok(step) if !self.at.json => step,
            _ => return format!("{data}\n"),
        };
        if event == "missed" {
            return format!("{step} steps are missing here: they came faster than they were read\n");
        }
        let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
        let time = Local::now().format("%H:%M:%S");
        format!("{time} {:17} {:12} {}\n", text("machine"), text("stage"), text("text"))
    }
}

/// Draws the screen. Returns how far it is scrolled, at most to the end.
fn draw(frame: &mut Frame<'_>, machines: &[Machine], scrolled: u16, now: Moment) -> u16 {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let shown = lines(machines, now, body.width);
    let scrolled = scrolled.min(u16::try_from(shown.len()).unwrap_or(u16::MAX).saturating_sub(body.height));
    let waits = "No machine seen yet. Switch one on that boots from the network.";
    let shown = if machines.is_empty() { vec![Line::from(waits)] } else { shown };
    frame.render_widget(Paragraph::new(summary(machines)).wrap(Wrap { trim: true }), head);
    frame.render_widget(Paragraph::new(shown).scroll((scrolled, 0)), body);
    frame.render_widget(Line::styled("q quit   ↑ ↓ scroll", Modifier::DIM), foot);
    scrolled
}

/// Time between two requests to the server.
const REFRESH: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    fn machine(n: u32) -> Machine {
        let id = format!("52:54:00:00:00:{n:02x}");
        let machine = serde_json::json!({
            "id": id, "mac": id, "address": null, "name": null, "profile": "menu", "by": "default", "once": false,
            "assigned": null, "approved": false, "spent": null, "kept": true, "last": null, "boot": null,
        });
        serde_json::from_value(machine).expect("a machine")
    }

    #[test]
    fn steps_that_were_missed_are_said_to_be_missing() {
        let line = |json, event: &str, data: &str| {
            let at = At { socket: "socket".into(), json };
            Watch { at, lines: true }.line(event, data)
        };
        assert!(line(false, "missed", "4038").starts_with("4038 steps are missing here: "));
        assert_eq!(line(true, "missed", "4038"), "{\"missed\":4038}\n");
        let step = r#"{"machine":"m","stage":"offer","text":"x"}"#;
        assert!(line(false, "step", step).ends_with(" m                 offer        x\n"));
        assert_eq!(line(true, "step", step), format!("{step}\n"));
    }

    #[test]
    fn scrolling_stops_at_the_last_machine() {
        let machines: Vec<Machine> = (1..=9).map(machine).collect();
        let mut terminal = Terminal::new(TestBackend::new(70, 7)).expect("a terminal");
        let now = Moment::from_secs(0);
        let mut scrolled = 99;
        terminal.draw(|frame| scrolled = draw(frame, &machines, scrolled, now)).expect("drawn");
        assert_eq!(scrolled, 5);
        let row = |n: u32| format!("52:54:00:00:00:{n:02x}  -               menu            not seen");
        let rows = ["9 machines".into(), String::new(), row(6), row(7), row(8), row(9), "q quit   ↑ ↓ scroll".into()];
        let shown: Vec<String> = terminal
            .backend()
            .buffer()
            .content()
            .chunks(70)
            .map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect();
        assert_eq!(shown, rows);
        terminal.draw(|frame| scrolled = draw(frame, &[], 3, now)).expect("drawn");
        assert_eq!(scrolled, 0);
    }
}
