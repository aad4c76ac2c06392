//! `/report`: what a machine that was booted says of itself, and the address that templates name for it.
//!
//! Anyone on the network can say anything of any machine at `/report?mac=…`. It changes what people are shown of a boot, and
//! nothing of what a machine boots. An address that was signed for a machine (`/report/s/TOKEN`) says it of that machine,
//! and decides where that is served a profile until it is installed.

use super::event::{Report, ReportEvent};
use crate::boot::{mac::MacAddr, text::is_unseen};

/// Why a report cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// There is no such machine.
    #[error("mac is wrong: {0}")]
    Mac(String),
    /// Nothing is said.
    #[error("event is missing: /report?mac=…&event=installed, or failed with a message, or any other word")]
    NoEvent,
    /// More than a word.
    #[error("event is one word of at most {LONGEST_WORD} bytes, without spaces: put the rest into message")]
    NoWord,
}

/// Reads a report's fields, of which the first of a name counts: `mac`, `event` and `message`; or a webhook of
/// cloud-init, which the installers of Ubuntu have too (cloudinit/reporting/events.py, `as_dict`): `name`,
/// `description`, `event_type` and `result`. Others mean nothing here.
///
/// # Errors
/// [`Wrong`].
pub fn read(fields: &[(String, String)]) -> Result<(Option<MacAddr>, Report), Wrong> {
    let field = |name: &str| {
        let said = fields.iter().find(|(of, value)| of == name && !value.trim().is_empty());
        said.map(|(_, value)| value.trim())
    };
    let mac = field("mac").map(str::parse::<MacAddr>).transpose().map_err(|error| Wrong::Mac(error.to_string()))?;
    let word = field("event").or_else(|| field("name")).ok_or(Wrong::NoEvent)?;
    if word.len() > LONGEST_WORD || word.contains(|c: char| is_unseen(c) || c.is_whitespace()) {
        return Err(Wrong::NoWord);
    }
    let event = match word.to_ascii_lowercase().as_str() {
        "installed" => ReportEvent::Installed,
        "failed" => ReportEvent::Failed,
        _ => ReportEvent::Other(word.to_owned()),
    };
    let words = [field("message").or_else(|| field("description")), field("event_type"), field("result")];
    let text = words.into_iter().flatten().map(on_one_line).collect::<Vec<_>>().join(", ");
    Ok((mac, Report { event, text }))
}

/// A log's end, as people like to send it, on one line.
fn on_one_line(text: &str) -> String {
    let plain: String = text.chars().take(LONGEST).map(|c| if is_unseen(c) { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Bytes: cloud-init's longest are `modules-final/config-package-update-upgrade-install` and its like.
const LONGEST_WORD: usize = 96;
/// Characters of a message that are kept.
const LONGEST: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_reverse_the_line_around_them_are_not_kept() {
        let fields = [("event", "failed"), ("message", "no \u{202e}cba\u{200b} disk\u{2066}")]
            .map(|(k, v)| (k.into(), v.into()));
        let read = read(&fields).map(|(_, report)| report.text);
        assert_eq!(read.as_deref().ok(), Some("no cba disk"));
        assert!(super::read(&[("event".into(), "a\u{202e}b".into())]).is_err());
    }

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn told(fields: &[(&str, &str)]) -> Result<(Option<MacAddr>, Report), Wrong> {
        let own: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read(&own)
    }

    fn report(event: ReportEvent, text: &str) -> Report {
        Report { event, text: text.to_owned() }
    }

    #[test]
    fn a_report_is_a_word_and_what_the_machine_adds_to_it() {
        type Fields = &'static [(&'static str, &'static str)];
        let rows: [(Fields, Option<MacAddr>, Report); 5] = [
            (&[("event", "installed")], None, report(ReportEvent::Installed, "")),
            (
                &[("mac", "52-54-00-12-34-56"), ("event", "FAILED"), ("message", "no disk:\n  /dev/sda\x1b[0m")],
                Some(MAC),
                report(ReportEvent::Failed, "no disk: /dev/sda [0m"),
            ),
            (&[("mac", ""), ("event", " partitioned ")], None, report(ReportEvent::Other("partitioned".into()), "")),
            (
                &[("name", "modules-final"), ("description", "running"), ("event_type", "finish"), ("result", "FAIL")],
                None,
                report(ReportEvent::Other("modules-final".into()), "running, finish, FAIL"),
            ),
            (&[("event", "a"), ("event", "b"), ("x", "y")], None, report(ReportEvent::Other("a".into()), "")),
        ];
        for (fields, mac, report) in rows {
            assert_eq!(told(fields), Ok((mac, report)), "{fields:?}");
        }
        let long = told(&[("event", "failed"), ("message", &"ä".repeat(5000))]).expect("taken").1;
        assert_eq!(long.text.chars().count(), LONGEST);
    }

    #[test]
    fn what_is_no_report_is_told_so() {
        assert_eq!(told(&[]), Err(Wrong::NoEvent));
        assert_eq!(told(&[("event", " ")]), Err(Wrong::NoEvent));
        assert_eq!(told(&[("event", "it is done")]), Err(Wrong::NoWord));
        assert_eq!(told(&[("event", &"x".repeat(LONGEST_WORD + 1))]), Err(Wrong::NoWord));
        assert!(matches!(told(&[("event", "installed"), ("mac", "52:54")]), Err(Wrong::Mac(_))));
    }
}
