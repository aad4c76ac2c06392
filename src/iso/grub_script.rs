//! The scripts of GRUB, divided into commands and words as its own lexer does it (grub-core/script/yylex.l).

use std::{collections::BTreeMap, iter::Peekable, str::Chars};

/// A word of a command, without quotes and with the values of its variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Whether it has a variable without a known value.
    pub(super) is_partial: bool,
}

/// A script that is being read. Conditions are not evaluated: the commands of every branch are returned.
pub(super) struct Script<'a> {
    rest: Peekable<Chars<'a>>,
    variables: BTreeMap<String, String>,
    /// Braces that are open.
    depth: usize,
}

/// A command that is being read.
#[derive(Default)]
struct Command {
    words: Vec<Word>,
    /// The word that is being read, if one was begun.
    word: Option<Word>,
    /// Bytes of all its words.
    length: usize,
}

impl<'a> Script<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), variables: BTreeMap::new(), depth: 0 }
    }

    /// How many blocks are open.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The value of a variable so far.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The words from here to the end of a command: the end of a line, `;`, `&`, `|`, or a brace.
    fn command(&mut self) -> Command {
        let mut command = Command::default();
        while let Some(c) = self.rest.next() {
            match c {
                '{' => {
                    self.depth += 1;
                    break;
                }
                '}' => {
                    self.depth = self.depth.saturating_sub(1);
                    break;
                }
                '\n' | ';' | '&' | '|' => break,
                ' ' | '\t' | '\r' => command.end_word(),
                // Within a word it is a letter like others.
                '#' if command.word.is_none() => while self.rest.next_if(|c| *c != '\n').is_some() {},
                '\'' => {
                    command.push("");
                    while let Some(c) = self.rest.next().filter(|c| *c != '\'') {
                        command.push_char(c);
                    }
                }
                '"' => self.quoted(&mut command),
                '\\' => match self.rest.next() {
                    // The command goes on in the next line.
                    Some('\n') | None => {}
                    Some('\r') if self.rest.next_if_eq(&'\n').is_some() => {}
                    Some(c) => command.push_char(c),
                },
                // A text to translate.
                '$' if self.rest.peek() == Some(&'"') => {}
                '$' => match self.variable() {
                    // Outside of quotes, the spaces in a value divide words.
                    Some(name) => match self.variables.get(&name) {
                        Some(value) => command.push_divided(value),
                        None => command.push_unknown(),
                    },
                    None => command.push_char('$'),
                },
                c => command.push_char(c),
            }
        }
        command.end_word();
        command
    }

    /// The rest of a text in double quotes.
    fn quoted(&mut self, command: &mut Command) {
        command.push("");
        while let Some(c) = self.rest.next().filter(|c| *c != '"') {
            match c {
                '\\' => match self.rest.next_if(|c| matches!(c, '$' | '\\' | '"' | '\n')) {
                    Some('\n') => {}
                    Some(c) => command.push_char(c),
                    None => command.push_char('\\'),
                },
                '$' => match self.variable() {
                    Some(name) => match self.variables.get(&name) {
                        Some(value) => command.push(value),
                        None => command.push_unknown(),
                    },
                    None => command.push_char('$'),
                },
                c => command.push_char(c),
            }
        }
    }

    /// The name of a variable behind its `$`.
    fn variable(&mut self) -> Option<String> {
        let mut name = String::new();
        let is_in_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        if self.rest.next_if_eq(&'{').is_some() {
            while let Some(c) = self.rest.next_if(|c| !matches!(c, '}' | '\n')) {
                name.push(c);
            }
            let _ = self.rest.next_if_eq(&'}');
        } else if let Some(special) = self.rest.next_if(|c| matches!(c, '?' | '#' | '*' | '@')) {
            name.push(special);
        } else {
            while let Some(c) = self.rest.next_if(is_in_name) {
                name.push(c);
            }
        }
        (!name.is_empty()).then_some(name)
    }

    /// `name=value`.
    fn set(&mut self, word: &Word) {
        let Some((name, value)) = word.text.split_once('=') else { return };
        if word.is_partial || value.len() > LONGEST_VALUE {
            self.variables.remove(name);
        } else {
            self.variables.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// The commands, without those that set variables.
impl Iterator for Script<'_> {
    type Item = Vec<Word>;

    fn next(&mut self) -> Option<Vec<Word>> {
        while self.rest.peek().is_some() {
            let mut words = self.command().words;
            let reserved = words.iter().take_while(|word| RESERVED.contains(&word.text.as_str())).count();
            words.drain(..reserved);
            match words.as_slice() {
                [] => {}
                [set, word, ..] if set.text == "set" => self.set(word),
                [word] if word.text.contains('=') => self.set(word),
                _ => return Some(words),
            }
        }
        None
    }
}

impl Command {
    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn push(&mut self, text: &str) {
        // An empty word counts as well.
        let length = text.len().max(1);
        if self.length + length <= LONGEST_COMMAND {
            self.length += length;
            self.word.get_or_insert_default().text += text;
        }
    }

    fn push_char(&mut self, c: char) {
        self.push(c.encode_utf8(&mut [0; 4]));
    }

    fn push_unknown(&mut self) {
        self.push("");
        if let Some(word) = &mut self.word {
            word.is_partial = true;
        }
    }

    fn push_divided(&mut self, value: &str) {
        for (number, part) in value.split(' ').enumerate() {
            if number > 0 {
                self.end_word();
            }
            if !part.is_empty() {
                self.push(part);
            }
        }
    }
}

/// Words before a command.
const RESERVED: &[&str] = &["if", "then", "elif", "else", "while", "until", "do"];
/// Bytes of the value of a variable.
const LONGEST_VALUE: usize = 511;
/// Bytes of the words of a command: Linux takes 2048 on a PC.
const LONGEST_COMMAND: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Vec<Vec<String>> {
        let shown = |word: Word| if word.is_partial { format!("{}?", word.text) } else { word.text };
        Script::new(text).map(|words| words.into_iter().map(shown).collect()).collect()
    }

    #[test]
    fn commands_are_divided_as_grub_does_it() {
        for (text, expected) in [
            ("a b # c\n#d\ne#f", &[&["a", "b"][..], &["e#f"]][..]),
            ("a 1;b 2&&c||d", &[&["a", "1"], &["b", "2"], &["c"], &["d"]]),
            ("m \"x y\" { l /k q; i /r; }", &[&["m", "x y"], &["l", "/k", "q"], &["i", "/r"]]),
            ("l \"/k\" 'a $b;#' \"\\$c \\\"\" d\\ e \"\"", &[&["l", "/k", "a $b;#", "$c \"", "d e", ""]]),
            ("a \\\n b \\\r\n c\r\nd", &[&["a", "b", "c"], &["d"]]),
            (
                "set x=\"1 2\"; a $x \"$x\" ${x}3 $y $\"t\" $ ${",
                &[&["a", "1", "2", "1 2", "1", "23", "?", "t", "$", "$"]],
            ),
            ("set x=$y/z\nl ${x}/k $y/k", &[&["l", "/k?", "/k?"]]),
            ("if [ $a ]; then set x=1; else b; fi\nl $x", &[&["[", "?", "]"], &["b"], &["fi"], &["l", "1"]]),
            ("a 'b", &[&["a", "b"]]),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn values_that_grow_have_a_limit() {
        let mut text = "set a=xxxxxxxxxxxxxxxx\n".to_owned();
        text += &"set a=\"$a$a\"\n".repeat(100);
        text += "l b";
        text += &"$a".repeat(1000);
        assert!(of(&text).iter().flatten().map(String::len).sum::<usize>() <= LONGEST_COMMAND + 100);
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "[a-c =\\\\\"'${}#;&|\\n\\r\u{e4}]{0,200}") {
            let _ = of(&text);
        }
    }
}
