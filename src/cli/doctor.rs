//! `netbootd doctor`: says what keeps machines from booting, and how to fix it.

use std::{
    io::{IsTerminal as _, Write as _},
    net::Ipv4Addr,
    path::PathBuf,
    time::Instant,
};

use serde_json::json;

use super::failure::{EX_OSERR, EX_USAGE, Failure, not_as, print};
use crate::{
    boot::text::visible,
    doctor::{
        finding::{Finding, Fix, Verdict, worst},
        run::{Failed, Wanted, examine},
    },
};

/// Find out why machines do not boot from the network.
///
/// It looks at this host, asks the network as boot clients do, and fetches the boot files. It works beside a running
/// netbootd and without one, on any machine of the network. It changes nothing and takes no lease. It needs root. Exits
/// with 0 if all is well, with 1 if there is a warning, and with 2 if there is a fault.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// Interface to examine, repeatable [default: the ones that are served, and every other suitable one]
    #[arg(short, long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
    /// Configuration file [default: that of the running server, or /etc/netbootd/netbootd.toml, if it exists]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check file permissions as this user [default: the user of the running server, or netbootd, if that user exists]
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// Address of the boot server, if netbootd runs on another host
    #[arg(long, value_name = "ADDRESS")]
    server: Option<Ipv4Addr>,
    /// Show what is well too
    #[arg(short, long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { interfaces, config, user, server, .. } = &self;
        let wanted =
            Wanted { interfaces: interfaces.clone(), config: config.clone(), user: user.clone(), server: *server };
        let (began, is_terminal) = (Instant::now(), std::io::stderr().is_terminal());
        // On a terminal, each step replaces the one before it.
        let mut progress = |step: &str| {
            let (mut error, step) = (std::io::stderr(), visible(step));
            let _ = match is_terminal {
                true => write!(error, "\r\x1b[K{:>2} s  {step} …", began.elapsed().as_secs()),
                false => writeln!(error, "{step}"),
            };
        };
        let findings = examine(&wanted, &mut progress);
        if is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        let findings = findings.map_err(|failed| match failed {
            Failed::Unclear(unclear) => Failure::new(EX_USAGE, unclear),
            Failed::User(error) => not_as(error),
            Failed::System(_) => Failure::new(EX_OSERR, failed),
        })?;
        print(&if self.json { as_json(&findings) } else { as_text(&findings, self.all) })?;
        match worst(&findings).exit_code() {
            0 => Ok(()),
            code => Err(Failure::new(code, count(&findings))),
        }
    }
}

/// `2 faults, 1 warning`
fn count(findings: &[Finding]) -> String {
    let count = |verdict, one: &str| {
        let count = findings.iter().filter(|finding| finding.verdict == verdict).count();
        let s = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {one}{s}"))
    };
    let counts = [count(Verdict::Fault, "fault"), count(Verdict::Warning, "warning")];
    counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Below a heading for each area. Without `all`, what is well is only counted.
fn as_text(findings: &[Finding], all: bool) -> String {
    let mut text = String::new();
    let mut areas: Vec<_> = findings.iter().map(|finding| finding.area).collect();
    areas.sort_unstable();
    areas.dedup();
    for area in areas {
        text += &format!("{}\n", area.title());
        let here = || findings.iter().filter(|finding| finding.area == area);
        let well = here().filter(|finding| finding.verdict == Verdict::Ok).count();
        for finding in here().filter(|finding| all || finding.verdict != Verdict::Ok) {
            text += &lines(finding, all);
        }
        if !all && well > 0 {
            text += &format!("  {:<8} {well} checks (--all shows them)\n", Verdict::Ok.word());
        }
    }
    text
}

fn lines(Finding { verdict, text, evidence, fix, .. }: &Finding, all: bool) -> String {
    let mut lines = format!("  {:<8} {text}\n", verdict.word());
    if *verdict != Verdict::Ok || all {
        lines.extend(evidence.iter().map(|seen| format!("             seen: {seen}\n")));
    }
    lines.extend(fix.iter().map(|fix| match fix {
        Fix::Run(command) => format!("             run:  {command}\n"),
        Fix::Configure(line) => format!("             set:  {line}     (in the configuration of netbootd)\n"),
        Fix::Paste(line) => format!("                   {line}\n"),
        Fix::Do(words) => format!("             do:   {words}\n"),
    }));
    lines
}

fn as_json(findings: &[Finding]) -> String {
    format!("{:#}\n", json!({ "verdict": worst(findings), "findings": findings }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Area;

    #[test]
    fn what_is_well_is_counted_and_the_rest_is_shown_with_its_fix() {
        let findings = [
            Finding::new("port", Area::Host, Verdict::Ok, "UDP port 67 (DHCP) is free"),
            Finding::new("port_held", Area::Host, Verdict::Fault, "UDP port 69 (TFTP) is held by atftpd (pid 7)")
                .seen("0.0.0.0:69")
                .fixed_by(Fix::Run("sudo kill 7".into())),
        ];
        assert_eq!(
            as_text(&findings, false),
            "this host\n  FAULT    UDP port 69 (TFTP) is held by atftpd (pid 7)\n             seen: 0.0.0.0:69\n             \
             run:  sudo kill 7\n  ok       1 checks (--all shows them)\n"
        );
        assert!(as_text(&findings, true).starts_with("this host\n  ok       UDP port 67 (DHCP) is free\n  FAULT"));
        assert_eq!(count(&findings), "1 fault");
        let json: serde_json::Value = serde_json::from_str(&as_json(&findings)).expect("JSON");
        assert_eq!(json["findings"][1]["fix"][0], json!({ "kind": "run", "text": "sudo kill 7" }));
        assert_eq!(json["verdict"], "fault");
    }
}
