//! What the doctor found: a verdict with its evidence and its fix.

use serde::Serialize;

use crate::boot::text::visible;

/// How bad it is, the worst last. The number is the exit code of `netbootd doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works.
    Ok,
    /// It is good to know, and keeps no machine from booting.
    Note,
    /// Some machines may not boot.
    Warning,
    /// No machine, or every machine of a kind, can boot.
    Fault,
}

impl Verdict {
    /// As people read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "WARNING",
            Self::Fault => "FAULT",
        }
    }

    /// As monitoring programs read it: 0 is good, 1 a warning, 2 a fault.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok | Self::Note => 0,
            Self::Warning => 1,
            Self::Fault => 2,
        }
    }
}

/// Where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// This host.
    Host,
    /// The DHCP servers of a network.
    Network,
    /// The way from the boot server to here.
    Path,
}

impl Area {
    /// A heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Host => "this host",
            Self::Network => "the network",
            Self::Path => "the path of the boot files",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A short fixed name, for programs.
    pub id: &'static str,
    /// Where.
    pub area: Area,
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is, in a sentence.
    pub text: String,
    /// What was seen.
    pub evidence: Vec<String>,
    /// What to do about it; each is enough by itself, except for commands, which belong together.
    pub fix: Vec<Fix>,
}

/// What to do about a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "text", rename_all = "snake_case")]
pub enum Fix {
    /// A command to run on this host.
    Run(String),
    /// A line for the configuration of netbootd.
    Configure(String),
    /// A line for the configuration of another program; its name stands in the sentence before it.
    Paste(String),
    /// Something that is done by hand.
    Do(String),
}

impl Finding {
    /// Without evidence and fix. In all of its texts may be what a stranger sent: names, classes, errors.
    #[must_use]
    pub fn new(id: &'static str, area: Area, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { id, area, verdict, text: visible(&text.into()), evidence: Vec::new(), fix: Vec::new() }
    }

    /// About the host.
    #[must_use]
    pub fn of_host(id: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self::new(id, Area::Host, verdict, text)
    }

    /// With one more thing that was seen.
    #[must_use]
    pub fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(visible(&evidence.into()));
        self
    }

    /// With one more thing to do.
    #[must_use]
    pub fn fixed_by(mut self, fix: Fix) -> Self {
        self.fix.push(match fix {
            Fix::Run(text) => Fix::Run(visible(&text)),
            Fix::Configure(text) => Fix::Configure(visible(&text)),
            Fix::Paste(text) => Fix::Paste(visible(&text)),
            Fix::Do(text) => Fix::Do(visible(&text)),
        });
        self
    }
}

/// The worst of all verdicts.
#[must_use]
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
}

/// The finding that keeps most machines from booting; none where all is well. Of equals the first one, since what comes
/// later may follow from it.
#[must_use]
pub fn what_matters(findings: &[Finding]) -> Option<&Finding> {
    let bad = findings.iter().filter(|finding| finding.verdict >= Verdict::Warning);
    bad.rev().max_by_key(|finding| finding.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_sent_adds_no_line() {
        let sent = "x\x1b[2J\n             run:  sudo reboot\u{202e}";
        let finding = Finding::of_host("a", Verdict::Fault, sent).seen(sent);
        let fixes = [Fix::Run, Fix::Configure, Fix::Paste, Fix::Do].map(|fix| fix(sent.to_owned()));
        let finding = fixes.into_iter().fold(finding, Finding::fixed_by);
        let shown = serde_json::to_string(&finding).expect("JSON");
        assert_eq!(shown.matches("x?[2J?             run:  sudo reboot?").count(), 6, "{shown}");
    }

    #[test]
    fn the_worst_decides_and_of_equals_the_first_matters() {
        let found = |id, verdict| Finding::of_host(id, verdict, "words");
        let all = [
            found("a", Verdict::Ok),
            found("b", Verdict::Warning),
            found("c", Verdict::Fault),
            found("d", Verdict::Fault),
        ];
        assert_eq!((worst(&all), worst(&all).exit_code()), (Verdict::Fault, 2));
        assert_eq!(what_matters(&all).map(|finding| finding.id), Some("c"));
        assert_eq!(what_matters(&all[..2]).map(|finding| finding.id), Some("b"));
        assert_eq!((what_matters(&all[..1]), worst(&[])), (None, Verdict::Ok));
        assert_eq!([Verdict::Note, Verdict::Warning].map(Verdict::exit_code), [0, 1]);
    }
}
