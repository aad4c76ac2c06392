//! Kernel command lines as they come out of their templates: a value stays one argument, or a part of one.

use super::{names::Names, value::is_place};

/// Around a value, so that [`finished`] finds it; neither is in a text that people write.
const BEGIN: char = '\u{100000}';
const END: char = '\u{100001}';

/// A value in the text that [`finished`] is given.
pub(in crate::boot) fn marked(value: &str) -> String {
    // One that holds these characters is refused for them.
    format!("{BEGIN}{value}{END}")
}

/// The command line, without the marks.
///
/// # Errors
/// Why a value would be something else than a part of its argument.
pub(in crate::boot) fn finished(text: &str, names: &Names) -> Result<String, String> {
    let mut line = String::with_capacity(text.len());
    let mut is_quoted = false;
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(BEGIN) {
        // The kernel knows double quotes, and no character that would take their meaning (lib/cmdline.c, `next_arg`).
        is_quoted ^= before.matches('"').count() % 2 == 1;
        line.push_str(before);
        let (value, behind) = behind.split_once(END).ok_or("a filter changed a value that was already inserted")?;
        stands(value, is_quoted).map_err(|fault| format!("{} {fault}", names.subject(&value.into())))?;
        line.push_str(value);
        rest = behind;
    }
    line.push_str(rest);
    match line.contains(is_place) {
        true => Err("it holds characters from U+100000 on, which are for private use; remove them".into()),
        false => Ok(line),
    }
}

/// What is wrong with a value that cannot stand where it is put.
fn stands(value: &str, is_quoted: bool) -> Result<(), String> {
    let refuse = |what: &str| Err(format!("holds {what}"));
    let as_meant = "if that is intended, write {{ … | safe }}";
    if value.contains(|c: char| c.is_control()) {
        return refuse("a line break or another control character");
    }
    if value.contains('"') {
        return refuse(&format!("a double quote, which begins or ends a quoted argument; {as_meant}"));
    }
    if value.contains("${") {
        return refuse(&format!("${{, which iPXE would replace with a setting; {as_meant}"));
    }
    if !is_quoted && value.contains(char::is_whitespace) {
        return refuse(&format!(
            "a space, so it would be several arguments; {as_meant}, or put double quotes around the argument"
        ));
    }
    // iPXE splits a line at white space, and joins its words by one space each (core/exec.c).
    if value.split_whitespace().collect::<Vec<_>>().join(" ") != value {
        return refuse("several spaces in a row, but iPXE keeps only one");
    }
    Ok(())
}
