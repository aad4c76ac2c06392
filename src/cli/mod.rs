//! The command line: one file for each command. Exit codes are those of sysexits(3).

mod check;
mod client;
mod control;
mod dhcp_snippet;
mod doctor;
mod explain;
mod failure;
mod images;
mod iso;
mod lease_flags;
mod leases;
mod loaders;
mod named_files;
mod up;
mod watch;
mod what;
mod what_is;

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};

use failure::{EX_USAGE, Failure};

/// All-in-one network boot server: ProxyDHCP, TFTP and HTTP in one process.
///
/// It runs beside your existing DHCP server. That server keeps assigning addresses and needs no change.
#[derive(Debug, Parser)]
#[command(name = "netbootd", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Check(check::Check),
    Doctor(doctor::Doctor),
    Explain(explain::Explain),
    DhcpSnippet(dhcp_snippet::DhcpSnippet),
    Loaders(loaders::Show),
    Leases(leases::Show),
    Iso(iso::Iso),
    Assign(control::Assign),
    Wake(control::Wake),
    Unassign(control::Unassign),
    Once(control::Once),
    Forget(control::Forget),
    Approve(control::Approve),
    Unapprove(control::Unapprove),
    Machines(control::Machines),
    Report(control::Report),
    Watch(watch::Watch),
    What(what::What),
}

/// Parses the arguments, runs the command, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(lease_flags::joined(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors: they go to standard output and exit with 0.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let result = match arguments.command {
        Command::Up(up) => up.run(),
        Command::Check(check) => check.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Explain(explain) => explain.run(),
        Command::DhcpSnippet(snippet) => snippet.run(),
        Command::Loaders(show) => show.run(),
        Command::Leases(show) => show.run(),
        Command::Iso(iso) => iso.run(),
        Command::Assign(assign) => assign.run(),
        Command::Wake(wake) => wake.run(),
        Command::Unassign(unassign) => unassign.run(),
        Command::Once(once) => once.run(),
        Command::Forget(forget) => forget.run(),
        Command::Approve(approve) => approve.run(),
        Command::Unapprove(unapprove) => unapprove.run(),
        Command::Machines(machines) => machines.run(),
        Command::Report(report) => report.run(),
        Command::Watch(watch) => watch.run(),
        Command::What(what) => what.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            let _ = writeln!(std::io::stderr(), "netbootd: {message}");
            ExitCode::from(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_has_a_line_in_the_list_and_all_words_with_the_command() {
        let all = Arguments::command();
        for command in all.get_subcommands() {
            let line = command.get_about().expect("a line").to_string();
            assert!(line.len() <= 100, "{}: {line}", command.get_name());
        }
        let long = |name: &str| {
            let command = all.find_subcommand(name).expect(name);
            command.get_long_about().expect(name).to_string()
        };
        assert!(long("once").contains("an installer erases the disk again"));
        assert!(long("up").contains("several make a menu") && long("check").contains("Exits with 1"));
    }
}
