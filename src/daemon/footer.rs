//! The lines that stay below all log lines on a terminal.

use std::io::{self, Write};

use ratatui::{
    backend::IntoCrossterm as _,
    crossterm::{
        cursor::MoveUp,
        queue,
        style::{Attribute, PrintStyledContent, SetAttribute, StyledContent},
        terminal::{Clear, ClearType},
    },
    text::Line,
};

/// The lines that are there now.
#[derive(Debug)]
pub(super) struct Footer {
    drawn: Vec<u8>,
    height: u16,
}

impl Footer {
    pub(super) const fn none() -> Self {
        Self { drawn: Vec::new(), height: 0 }
    }

    /// Writes whole lines where the footer was, and the footer below them.
    pub(super) fn write_above(&self, out: &mut impl Write, lines: &[u8]) -> io::Result<()> {
        self.erase(out)?;
        out.write_all(lines)?;
        out.write_all(&self.drawn)?;
        out.flush()
    }

    pub(super) fn replace(&mut self, out: &mut impl Write, lines: &[Line<'_>]) -> io::Result<()> {
        let mut drawn = Vec::new();
        lines.iter().try_for_each(|line| draw(&mut drawn, line))?;
        if drawn == self.drawn {
            return Ok(());
        }
        self.erase(out)?;
        (self.drawn, self.height) = (drawn, u16::try_from(lines.len()).unwrap_or(u16::MAX));
        out.write_all(&self.drawn)?;
        out.flush()
    }

    fn erase(&self, out: &mut impl Write) -> io::Result<()> {
        match self.height {
            0 => Ok(()),
            height => queue!(out, MoveUp(height), Clear(ClearType::FromCursorDown)),
        }
    }
}

fn draw(out: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    for span in &line.spans {
        let style = line.style.patch(span.style).into_crossterm();
        queue!(out, PrintStyledContent(StyledContent::new(style, &span.content)), SetAttribute(Attribute::Reset))?;
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use ratatui::{style::Color, text::Span};

    use super::*;

    #[test]
    fn lines_are_written_above_it_and_it_goes_without_a_trace() {
        let (mut out, mut footer) = (Vec::new(), Footer::none());
        footer.write_above(&mut out, b"one\n").expect("written");
        let lines = [Line::from(vec![Span::raw("a"), Span::styled("b", Color::Red)]), Line::raw("c")];
        footer.replace(&mut out, &lines).expect("drawn");
        assert!(out.starts_with(b"one\n") && !out.contains(&b'J'), "nothing is erased where nothing stood");
        let drawn = out.split_off(4);
        footer.replace(&mut out, &lines).expect("drawn");
        assert_eq!(out, b"one\n", "what is the same is not drawn again");
        footer.write_above(&mut out, b"two\n").expect("written");
        assert_eq!(out, [b"one\n\x1b[2A\x1b[Jtwo\n".as_slice(), &drawn].concat());
        out.clear();
        footer.replace(&mut out, &[]).expect("erased");
        assert_eq!(out, b"\x1b[2A\x1b[J");
    }
}
