//! `netbootd-lab demo`: three machines boot through netbootd, before your eyes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::{env, io, thread};

use anyhow::Result;
use clap::{Parser, Subcommand};
use netbootd_lab::{demo, remove_labs_of_this_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[derive(Parser)]
#[command(name = "netbootd-lab", about = "A private network with virtual machines that boot through netbootd")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot a BIOS, a UEFI PXE and a UEFI HTTP machine to a Linux, and show each step
    Demo {
        /// The netbootd program to boot through [default: the one that was built beside this program]
        #[arg(long, value_name = "PATH")]
        netbootd: Option<PathBuf>,
        /// Boot the remaining machines where one has failed
        #[arg(long)]
        keep_going: bool,
    },
}

fn main() -> ExitCode {
    let Command::Demo { netbootd, keep_going } = Arguments::parse().command;
    // The demo has a thread of its own: a signal finds this one free, whatever the demo waits for.
    let (ends, ended) = mpsc::channel();
    if let Err(error) = on_signals(ends.clone()) {
        return failure(&error.into());
    }
    thread::spawn(move || ends.send(End::Demo(run(netbootd, keep_going))));
    match ended.recv() {
        Ok(End::Demo(Ok(true))) => ExitCode::SUCCESS,
        Ok(End::Demo(Ok(false))) => ExitCode::FAILURE,
        Ok(End::Demo(Err(error))) => failure(&error),
        Ok(End::Signal(signal)) => stopped(signal),
        Err(gone) => failure(&gone.into()),
    }
}

enum End {
    Demo(Result<bool>),
    Signal(i32),
}

fn on_signals(ends: mpsc::Sender<End>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || signals.forever().try_for_each(|signal| ends.send(End::Signal(signal))));
    Ok(())
}

fn run(netbootd: Option<PathBuf>, keep_going: bool) -> Result<bool> {
    let netbootd = match netbootd {
        Some(netbootd) => netbootd,
        None => env::current_exe()?.with_file_name("netbootd"),
    };
    demo::run(&netbootd, keep_going)
}

fn stopped(signal: i32) -> ExitCode {
    // Held to the end: the demo's thread, whose machines die now, comes no further than its next line.
    let _silence = io::stdout().lock();
    eprintln!("netbootd-lab: stopped; removing the lab");
    if let Err(error) = remove_labs_of_this_process() {
        return failure(&error);
    }
    // As a shell reports a program that a signal ended.
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
}

fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("netbootd-lab: {error:#}");
    ExitCode::FAILURE
}
