//! Log lines: for people, or as JSON for programs.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use ratatui::text::Line;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    warn,
};
use tracing_subscriber::{
    Layer as _,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::Writer,
        time::{ChronoLocal, FormatTime},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use super::{footer::Footer, log_writer};
use crate::boot::text::is_unseen;

/// How to write log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging to standard output. `NETBOOTD_LOG` sets the filter ([`filter`]).
pub fn start(format: Format) {
    let asked = std::env::var("NETBOOTD_LOG").unwrap_or_default();
    let (filter, wrong) = match filter(&asked) {
        Ok(filter) => (filter, None),
        Err(wrong) => (usual(), Some(wrong)),
    };
    let to_journal = is_journal();
    let layer = tracing_subscriber::fmt::layer().with_writer(Outs { to_journal });
    lines().are_for_people = format == Format::Text;
    // The journal has clocks of its own.
    let clock = (!to_journal).then(Clock::default);
    let layer = match format {
        Format::Text => layer.event_format(Text { clock }).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
    if let Some(wrong) = wrong {
        warn!("NETBOOTD_LOG: {wrong}; it is ignored");
    }
}

/// A level for all lines (`debug`), or levels for parts of the program (`netbootd::dhcp=debug`), separated by commas. What
/// is not named stays at `info`.
///
/// # Errors
/// What is no level: taken for a part of the program, as [`Targets`] reads it, it would silence all others.
fn filter(asked: &str) -> Result<Targets, String> {
    let level = |word: &str| {
        let level = word.trim().parse::<LevelFilter>();
        level.map_err(|_| {
            format!(
                "{word:?} is not a level (off, error, warn, info, debug, trace); examples: debug, netbootd::dhcp=debug"
            )
        })
    };
    let parts = asked.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.into_iter().try_fold(usual(), |filter, part| {
        Ok(match part.split_once('=') {
            Some((target, word)) => filter.with_target(target.trim(), level(word)?),
            None => with_default(filter, level(part)?),
        })
    })
}

/// A watched folder that is removed is an error to `notify`, and none to us.
fn usual() -> Targets {
    with_default(Targets::new().with_target("notify", LevelFilter::OFF), LevelFilter::INFO)
}

/// A level for all lines, except the statements to the state's database: they would hide the lines about machines.
/// `debug,sqlx=debug` shows them.
fn with_default(filter: Targets, level: LevelFilter) -> Targets {
    filter.with_default(level).with_target("sqlx", level.min(LevelFilter::INFO))
}

/// Whether standard output is the journal: the variable may be inherited from a service by what is no part of it, so it
/// names the stream's device and inode (systemd.exec(5), `$JOURNAL_STREAM`).
fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let named = named.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    rustix::fs::fstat(io::stdout()).is_ok_and(|stat| named == Some((stat.st_dev, stat.st_ino)))
}

/// Lines that come while this is held are written together, when it is dropped: a thousand machines that start at once
/// are thousands of lines, and a system call for each was what they cost most.
#[must_use]
pub(super) struct Together;

impl Together {
    pub(super) fn hold() -> Self {
        lines().held += 1;
        Self
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        let mut lines = lines();
        lines.held -= 1;
        lines.write_unless_held();
    }
}

/// What lines are written to, each by its level.
struct Outs {
    to_journal: bool,
}

impl MakeWriter<'_> for Outs {
    type Writer = Out;

    fn make_writer(&self) -> Out {
        Out { prefix: "" }
    }

    /// The journal takes a line's priority from its beginning (sd-daemon(3)), for `journalctl -p warning`.
    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Out {
        let prefix = match *metadata.level() {
            _ if !self.to_journal => "",
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        };
        Out { prefix }
    }
}

/// Standard output, line by line or several together.
struct Out {
    prefix: &'static str,
}

struct Lines {
    waiting: Vec<u8>,
    held: usize,
    footer: Footer,
    /// Programs read line after line: there is nothing that could stand below.
    are_for_people: bool,
}

static LINES: Mutex<Lines> =
    Mutex::new(Lines { waiting: Vec::new(), held: 0, footer: Footer::none(), are_for_people: false });

fn lines() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    fn write_unless_held(&mut self) {
        if self.held == 0 || self.waiting.len() > LONGEST_WAIT {
            let lines = self.waiting.iter().filter(|byte| **byte == b'\n').count();
            log_writer::put(lines, |mut out| self.footer.write_above(&mut out, &self.waiting));
            self.waiting.clear();
        }
    }
}

/// Keeps these lines below all others from now on, on a terminal.
pub(super) fn set_footer(lines: &[Line<'_>]) {
    let mut all = self::lines();
    if !all.are_for_people {
        return;
    }
    log_writer::put_if_read(|mut out| all.footer.replace(&mut out, lines));
}

impl io::Write for Out {
    /// A whole line, as the formatters hand them over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = lines();
        lines.waiting.extend_from_slice(self.prefix.as_bytes());
        lines.waiting.extend_from_slice(line);
        lines.write_unless_held();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes.
const LONGEST_WAIT: usize = 64 << 10;

/// `12:30:01 `, made once a second.
#[derive(Default)]
struct Clock(Mutex<(u64, String)>);

impl Clock {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != now {
            made.1.clear();
            ChronoLocal::new("%H:%M:%S ".into()).format_time(&mut Writer::new(&mut made.1))?;
            made.0 = now;
        }
        writer.write_str(&made.1)
    }
}

/// `12:30:01 52:54:00:12:34:56 kernel       vmlinuz, 12.0 MB in 0.50 s`
struct Text {
    clock: Option<Clock>,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        LINE.with_borrow_mut(|line| {
            line.clear();
            event.record(line);
            if let Some(clock) = &self.clock {
                clock.write(&mut writer)?;
            }
            // A failed stage of a boot stands out by its words; other warnings by the level.
            match *event.metadata().level() {
                Level::ERROR => writer.write_str("error: ")?,
                Level::WARN if line.machine.is_empty() => writer.write_str("warning: ")?,
                Level::DEBUG | Level::TRACE => writer.write_str("debug: ")?,
                _ => {}
            }
            if !line.machine.is_empty() {
                write!(writer, "{:17} {:12} ", line.machine, line.stage)?;
            }
            writeln!(writer, "{}{}", line.message, line.rest)
        })
    }
}

thread_local! {
    /// The parts of the line that this thread writes: they come in another order. Its memory is used again for the next.
    static LINE: RefCell<TextLine> = RefCell::default();
}

#[derive(Default)]
struct TextLine {
    machine: String,
    stage: String,
    message: String,
    rest: String,
}

impl TextLine {
    fn clear(&mut self) {
        for part in [&mut self.machine, &mut self.stage, &mut self.message, &mut self.rest] {
            part.clear();
        }
    }

    /// Where the value of a field goes.
    fn part(&mut self, field: &Field) -> Option<OneLine<'_>> {
        Some(OneLine(match field.name() {
            "machine" => &mut self.machine,
            "stage" => &mut self.stage,
            "message" => &mut self.message,
            // For programs: people see one boot after the other.
            "boot" => return None,
            name => {
                let _ = write!(self.rest, " {name}=");
                &mut self.rest
            }
        }))
    }
}

/// Control characters become question marks: a line is a line, whatever a client put into its names.
struct OneLine<'a>(&'a mut String);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Most texts are ASCII, which is looked at faster.
        let is_plain = || text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_plain() && text.contains(is_unseen) {
            self.0.extend(text.chars().map(|character| if is_unseen(character) { '?' } else { character }));
        } else {
            self.0.push_str(text);
        }
        Ok(())
    }
}

impl Visit for TextLine {
    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = self.part(field).map(|mut part| part.write_str(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = self.part(field).map(|mut part| write!(part, "{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_levels_and_a_word_that_is_none_silences_nothing() {
        let shows = |asked, target: &str, level| filter(asked).expect("a filter").would_enable(target, &level);
        assert!(shows("", "netbootd::http", Level::INFO) && !shows("", "netbootd::http", Level::DEBUG));
        assert!(!shows("", "notify", Level::ERROR));
        assert!(shows("debug", "netbootd::http", Level::DEBUG));
        assert!(shows("debug", "sqlx::query", Level::INFO) && !shows("debug", "sqlx::query", Level::DEBUG));
        assert!(shows("debug,sqlx=debug", "sqlx::query", Level::DEBUG) && !shows("error", "sqlx::query", Level::INFO));
        let part = "netbootd::dhcp=debug";
        assert!(shows(part, "netbootd::dhcp::serve", Level::DEBUG));
        assert!(shows(part, "netbootd::http", Level::INFO) && !shows(part, "netbootd::http", Level::DEBUG));
        let two = "warn, netbootd::daemon::recorder = error";
        assert!(shows(two, "netbootd::http", Level::WARN) && !shows(two, "netbootd::http", Level::INFO));
        assert!(!shows(two, "netbootd::daemon::recorder", Level::WARN));
        for wrong in ["verbose", "netbootd::dhcp=loud", "info,x", "netbootd=debug=info"] {
            let words = filter(wrong).expect_err(wrong);
            assert!(words.contains("is not a level (off, error, warn, info, debug, trace)"), "{words}");
        }
    }
}
