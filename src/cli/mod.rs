//! What users type: one command a file. Exit codes are those of sysexits(3).

mod check;
mod client;
mod control;
mod dhcp_snippet;
mod explain;
mod failure;
mod iso;
mod loaders;
mod up;
mod watch;
mod what;
mod what_is;

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};

use failure::{EX_USAGE, Failure};

/// All-in-one network boot server: ProxyDHCP, TFTP and HTTP in one process.
///
/// It works beside the network's own DHCP server, which goes on leasing addresses and needs no change.
#[derive(Debug, Parser)]
#[command(name = "netbootd", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve network boot until stopped.
    Up(up::Up),
    /// Show every fault of the configuration, its assets and loaders at once.
    Check(check::Check),
    /// Show what a machine would get, at each stage of its boot.
    Explain(explain::Explain),
    /// Show the lines that make the main DHCP server name this boot server.
    DhcpSnippet(dhcp_snippet::DhcpSnippet),
    /// Show the iPXE loaders of this host.
    Loaders(loaders::Show),
    /// Show what a CD or DVD image is, and how a machine boots it.
    Iso(iso::Iso),
    /// Give a machine a profile while the server runs.
    Assign(control::Assign),
    Wake(control::Wake),
    /// Leave a machine to its rule again.
    Unassign(control::Unassign),
    /// Give a machine its one-time profile again.
    Once(control::Once),
    /// Let a machine in that no rule names, where only known ones are answered.
    Approve(control::Approve),
    /// Take an approval back.
    Unapprove(control::Unapprove),
    /// Show the machines that a running server knows.
    Machines(control::Machines),
    /// Write what a question about a machine's boot needs, without its secrets.
    Report(control::Report),
    /// Show every boot as it happens.
    Watch(watch::Watch),
    /// Show the cause and the fix of a text on a machine's screen.
    What(what::What),
}

/// Parses, dispatches, and turns the result into an exit code.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; they go to standard output and end with 0.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let result = match arguments.command {
        Command::Up(up) => up.run(),
        Command::Check(check) => check.run(),
        Command::Explain(explain) => explain.run(),
        Command::DhcpSnippet(snippet) => snippet.run(),
        Command::Loaders(show) => show.run(),
        Command::Iso(iso) => iso.run(),
        Command::Assign(assign) => assign.run(),
        Command::Wake(wake) => wake.run(),
        Command::Unassign(unassign) => unassign.run(),
        Command::Once(once) => once.run(),
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
