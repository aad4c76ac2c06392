//! Log lines: for people, or as JSON for programs.

use std::fmt::{self, Write as _};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{ChronoLocal, FormatTime},
    },
    registry::LookupSpan,
};

/// How to write log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging to standard output. `NETBOOTD_LOG` sets the filter (`debug`, or tracing's own syntax); the rest of
/// the world's lines are `info`.
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_env("NETBOOTD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    // The journal has clocks of its own.
    let clock = std::env::var_os("JOURNAL_STREAM").is_none().then(|| ChronoLocal::new("%H:%M:%S ".into()));
    match format {
        Format::Text => builder.event_format(Text { clock }).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
}

/// `12:30:01 52:54:00:12:34:56 kernel       vmlinuz, 12.0 MB in 0.50 s`
struct Text {
    clock: Option<ChronoLocal>,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = TextLine::default();
        event.record(&mut line);
        if let Some(clock) = &self.clock {
            clock.format_time(&mut writer)?;
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
    }
}

#[derive(Default)]
struct TextLine {
    machine: String,
    stage: String,
    message: String,
    rest: String,
}

impl TextLine {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // A line is a line, whatever a client put into its names.
        let value = value.to_string().replace(|c: char| c.is_control(), "?");
        match field.name() {
            "machine" => self.machine = value,
            "stage" => self.stage = value,
            "message" => self.message = value,
            name => {
                let _ = write!(self.rest, " {name}={value}");
            }
        }
    }
}

impl Visit for TextLine {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}
