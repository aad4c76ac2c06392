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
    /// Serve network boot until stopped.
    Up(up::Up),
    /// Show every fault of the configuration, its assets and its loaders.
    Check(check::Check),
    Doctor(doctor::Doctor),
    /// Show the replies that a machine would get at each stage of its boot.
    Explain(explain::Explain),
    /// Show the lines for your main DHCP server that make it name netbootd as the boot server.
    DhcpSnippet(dhcp_snippet::DhcpSnippet),
    /// Show the iPXE loaders that were found on this host.
    Loaders(loaders::Show),
    /// Show the addresses that netbootd leases itself.
    Leases(leases::Show),
    /// Show what a CD or DVD image contains, and how machines boot it.
    Iso(iso::Iso),
    /// Assign a profile to a machine while the server runs.
    Assign(control::Assign),
    Wake(control::Wake),
    /// Remove a machine's assignment.
    Unassign(control::Unassign),
    /// Allow a machine's one-time profile again.
    Once(control::Once),
    /// Forget what was learned of a machine's firmware.
    Forget(control::Forget),
    /// Approve a machine that no rule names.
    Approve(control::Approve),
    /// Remove a machine's approval.
    Unapprove(control::Unapprove),
    /// Show the machines that a running server knows.
    Machines(control::Machines),
    /// Write a report about a machine's boots, without secrets.
    Report(control::Report),
    /// Show every boot as it happens.
    Watch(watch::Watch),
    /// Show the cause and the fix for a text on a machine's screen.
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
