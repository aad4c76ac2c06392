//! Text that may hold what a stranger sent.

/// Whether a character does something to a line instead of being seen in it: controls, what reverses the words around it
/// (Unicode TR 9), and what has no width.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The same text for a terminal: it neither acts there nor adds a line.
#[must_use]
pub fn visible(text: &str) -> String {
    text.replace(is_unseen, "?")
}

/// Words that may hold what a stranger sent, for an iPXE `echo`: one line, nothing that iPXE would expand or execute
/// (`${…}`, `&&`, `||`, `;`, `#`; core/exec.c).
#[must_use]
pub fn on_screen(text: &str) -> String {
    let is_shown = |c: &char| matches!(c, ' '..='~') && !matches!(c, '$' | '&' | '|' | '#' | '{' | '}');
    let plain: String = text.chars().map(|c| if is_shown(&c) { c } else { '?' }).take(400).collect();
    // It ends a command only as a word of its own.
    plain.split(' ').map(|word| if word == ";" { "?" } else { word }).collect::<Vec<_>>().join(" ")
}

/// The same on lines of so many columns at most.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            // A path may be wider than the screen.
            _ => {
                let chars: Vec<char> = word.chars().collect();
                lines.extend(chars.chunks(width).map(|piece| piece.iter().collect()));
            }
        }
    }
    lines
}

/// That a command line holds no variable of iPXE's (`${name}`): other loaders put nothing, or their own, in its place. The
/// words are without its sign, which [`on_screen`] takes out.
pub(super) fn has_no_variable(cmdline: &str) -> Result<(), String> {
    let Some((_, rest)) = ["${", "$("].iter().find_map(|start| cmdline.split_once(start)) else { return Ok(()) };
    let name = rest.split(['}', ')']).next().unwrap_or_default();
    Err(format!("its cmdline holds the variable {name:?}, which only iPXE replaces: use machine.mac and the like"))
}

/// Text as HTML and XML have it: no character of it is markup.
#[must_use]
pub fn escaped_for_markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
