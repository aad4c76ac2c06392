//! Bytes of a serial console → the lines that a person would have read on it.

/// Firmware writes for a terminal: colours, cursor movements, progress figures that overwrite one another, prompts that are
/// wiped out again. What is left here is the text that would have stood on the screen when the line was finished.
#[derive(Debug, Default)]
pub(crate) struct Console {
    line: Vec<u8>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Text,
    /// After a carriage return: the next character begins the line anew, unless it is a line feed.
    Returned,
    Escape,
    /// Inside `ESC [ …`, until its final byte.
    Sequence,
}

impl Console {
    /// Takes the next bytes and returns the lines that they finished. Blank lines are left out.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut finished = Vec::new();
        for &byte in bytes {
            if self.step(byte) {
                finished.extend(self.take_line());
            }
        }
        finished
    }

    /// The line so far: a prompt, or a line that is still being written.
    pub(crate) fn unfinished(&self) -> String {
        String::from_utf8_lossy(&self.line).trim_end().to_owned()
    }

    pub(crate) fn take_line(&mut self) -> Option<String> {
        let line = self.unfinished();
        self.line.clear();
        (!line.is_empty()).then_some(line)
    }

    /// True where the byte ends the line.
    fn step(&mut self, byte: u8) -> bool {
        match (&self.state, byte) {
            (State::Escape, b'[') => self.state = State::Sequence,
            (State::Escape, _) => {
                self.state = State::Text;
                // ESC c resets the terminal: Linux's early console begins so behind whatever the BIOS left.
                return byte == b'c';
            }
            (State::Sequence, 0x40..=0x7e) => {
                self.state = State::Text;
                return matches!(byte, b'H' | b'J');
            }
            (State::Sequence, _) => {}
            (_, 0x1b) => self.state = State::Escape,
            (_, b'\n') => {
                self.state = State::Text;
                return true;
            }
            (_, b'\r') => self.state = State::Returned,
            (_, 0x08) => drop(self.line.pop()),
            (_, b'\t' | 0x20..) => self.put(byte),
            _ => {}
        }
        false
    }

    fn put(&mut self, byte: u8) {
        if matches!(self.state, State::Returned) {
            self.line.clear();
            self.state = State::Text;
        }
        self.line.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_clears_leave_plain_lines() {
        let seabios =
            b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2)\r\n\r\n\x1b[0;1miPXE 1.0.0\x1b[0m -- Boot\r\n";
        assert_eq!(Console::default().feed(seabios), ["SeaBIOS (version 1.16.2)", "iPXE 1.0.0 -- Boot"]);
    }

    #[test]
    fn a_wiped_prompt_is_not_part_of_the_next_line() {
        let mut console = Console::default();
        assert!(console.feed(b"Press Ctrl-B...").is_empty());
        assert_eq!(console.unfinished(), "Press Ctrl-B...");
        let wiped = "\x08 \x08".repeat("Press Ctrl-B...".len());
        assert!(console.feed(wiped.as_bytes()).is_empty());
        assert_eq!(console.feed(b"net0: open\r\n"), ["net0: open"]);
    }

    #[test]
    fn progress_leaves_its_last_figure() {
        assert_eq!(Console::default().feed(b"  Downloading...1%\r  Downloading...100%\r\n"), ["  Downloading...100%"]);
    }

    #[test]
    fn linux_starts_on_a_line_of_its_own_behind_an_unfinished_one() {
        let handover = b"Probing EDD (edd=off to disable)... o\x1bc\x1b[2J[    0.000000] Linux version 6.1\r\n";
        assert_eq!(
            Console::default().feed(handover),
            ["Probing EDD (edd=off to disable)... o", "[    0.000000] Linux version 6.1"]
        );
    }

    #[test]
    fn a_sequence_may_be_cut_anywhere() {
        let mut console = Console::default();
        let lines: Vec<String> = b"\x1b[0;36mhttp\r\nok\r\n".iter().flat_map(|&byte| console.feed(&[byte])).collect();
        assert_eq!(lines, ["http", "ok"]);
    }
}
