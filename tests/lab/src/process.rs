//! A child process whose output is kept line by line, and which never outlives its owner.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::console::Console;

/// Killed and waited for when dropped. Standard output and error are read together, in the order in which they arrive.
#[derive(Debug)]
pub struct Process {
    label: String,
    child: Child,
    output: Arc<Output>,
}

impl Process {
    /// `label` names it in errors. Standard input, output and error become pipes to this process.
    pub fn spawn(label: &str, command: &mut Command) -> Result<Process> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {label}: {command:?}"))?;
        let output = Arc::new(Output::default());
        output.lock().open = 2;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = (stdout.context("no standard output")?, stderr.context("no standard error")?);
        let (of_stdout, of_stderr) = (Arc::clone(&output), Arc::clone(&output));
        thread::spawn(move || of_stdout.read(stdout, Source::Output));
        thread::spawn(move || of_stderr.read(stderr, Source::Error));
        Ok(Process { label: label.to_owned(), child, output })
    }

    /// What errors call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Of the program itself, also where it runs on a [`Host`](crate::Host).
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// Everything printed so far, for the end of an error message.
    pub(crate) fn printed(&self) -> String {
        self.output.lock().report()
    }

    /// Every line from the first one on, waiting for the next; ends when the process closes its output.
    pub fn follow(&self) -> Lines {
        Lines { output: Arc::clone(&self.output), next: 0 }
    }

    /// The first line, of all that were or will be printed, that contains `needle`.
    pub fn wait_for_line(&self, needle: &str, timeout: Duration) -> Result<String> {
        self.wait_for(&format!("`{needle}`"), timeout, |line| line.contains(needle))
    }

    /// The first line, of all that were or will be printed, that is `wanted`. `what` describes it in the error.
    pub fn wait_for(&self, what: &str, timeout: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let mut seen = 0;
        self.wait(what, timeout, |state| {
            let found = state.lines.iter().skip(seen).find(|line| wanted(line)).cloned();
            seen = state.lines.len();
            found
        })
    }

    /// Waits for a prompt: the end of a line that no line feed has finished.
    pub fn wait_for_prompt(&self, prompt: &str, timeout: Duration) -> Result<()> {
        self.wait(&format!("the prompt `{prompt}`"), timeout, |state| state.unfinished.ends_with(prompt).then_some(()))
    }

    /// Writes to its standard input.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("standard input is closed")?;
        stdin.write_all(bytes).and_then(|()| stdin.flush()).with_context(|| format!("writing to {}", self.label))
    }

    /// Sends it `signal`.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("sending {signal} to {}", self.label))
    }

    /// Waits until it has ended.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        // Its output closes when it ends, which saves polling; only the moment between the two is polled.
        let mut state = self.output.lock();
        while state.open > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            state = self.output.wait(state, left);
        }
        drop(state);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} was still running after {timeout:?}{}", self.label, self.printed());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait<T>(&self, what: &str, timeout: Duration, mut found: impl FnMut(&State) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.output.lock();
        loop {
            if let Some(value) = found(&state) {
                return Ok(value);
            }
            if state.open == 0 {
                return Err(anyhow!("{} ended before it printed {what}{}", self.label, state.report()));
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(anyhow!("{} did not print {what} within {timeout:?}{}", self.label, state.report()));
            };
            state = self.output.wait(state, left);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended and was waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// See [`Process::follow`].
#[derive(Debug)]
pub struct Lines {
    output: Arc<Output>,
    next: usize,
}

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut state = self.output.lock();
        loop {
            if let Some(line) = state.lines.get(self.next) {
                self.next += 1;
                return Some(line.clone());
            }
            if state.open == 0 {
                return None;
            }
            state = self.output.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    /// The line of standard output that is still being written.
    unfinished: String,
    /// How many of the two streams are not at their end.
    open: usize,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Source {
    Output,
    Error,
}

impl Output {
    fn read(&self, stream: impl Read, source: Source) {
        let mut console = Console::default();
        let mut stream = BufReader::new(stream);
        // A read error is the end as well: there is nobody to tell, and who waits learns that the output ended.
        while let Some(bytes) = stream.fill_buf().ok().filter(|bytes| !bytes.is_empty()) {
            let length = bytes.len();
            let finished = console.feed(bytes);
            stream.consume(length);
            self.update(|state| {
                state.lines.extend(finished);
                if source == Source::Output {
                    state.unfinished = console.unfinished();
                }
            });
        }
        self.update(|state| {
            state.lines.extend(console.take_line());
            state.open -= 1;
            if source == Source::Output {
                state.unfinished.clear();
            }
        });
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    /// What was printed, for the end of an error message: all of a server's output, the tail of a long console.
    fn report(&self) -> String {
        if self.lines.is_empty() && self.unfinished.is_empty() {
            return String::from("; it printed nothing");
        }
        let skipped = self.lines.len().saturating_sub(MAX_REPORTED);
        let mut report = String::from("; it printed:");
        if skipped > 0 {
            let _ = write!(report, "\n  … {skipped} lines …");
        }
        let unfinished = Some(&self.unfinished).filter(|line| !line.is_empty());
        for line in self.lines.iter().skip(skipped).chain(unfinished) {
            let _ = write!(report, "\n  {line}");
        }
        report
    }
}

const MAX_REPORTED: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Result<Process> {
        Process::spawn("sh", Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_line_is_found_whether_it_was_printed_before_or_after_the_call() -> Result<()> {
        let mut process = sh("echo one; echo two >&2; read answer; echo got $answer")?;
        assert_eq!(process.wait_for_line("two", SOON)?, "two");
        assert_eq!(process.wait_for_line("one", SOON)?, "one");
        process.send(b"three\n")?;
        assert_eq!(process.wait_for_line("got", SOON)?, "got three");
        assert!(process.wait_exit(SOON)?.success());
        Ok(())
    }

    #[test]
    fn an_early_end_is_told_at_once_with_all_that_was_printed() -> Result<()> {
        let error = sh("echo bind: in use; exit 69")?.wait_for_line("ready", SOON).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("sh ended before it printed `ready`; it printed:\n  bind: in use"));
        Ok(())
    }

    #[test]
    fn a_prompt_is_seen_without_a_line_feed() -> Result<()> {
        let process = sh("printf 'iPXE> '; read wait")?;
        process.wait_for_prompt("iPXE>", SOON)?;
        assert!(process.lines().is_empty());
        Ok(())
    }

    #[test]
    fn a_signal_ends_it_and_the_status_says_so() -> Result<()> {
        let mut process = sh("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done")?;
        process.wait_for_line("ready", SOON)?;
        process.signal(Signal::SIGTERM)?;
        assert_eq!(process.wait_exit(SOON)?.code(), Some(0));
        assert_eq!(process.follow().collect::<Vec<_>>(), ["ready", "bye"]);
        Ok(())
    }
}
