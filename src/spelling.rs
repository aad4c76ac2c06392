//! Several spellings of one thing.

use std::borrow::Cow;

/// A path in the one spelling that all spellings of it lead to: `/debian//vmlinuz` and `./debian/vmlinuz` are
/// `debian/vmlinuz`.
#[must_use]
pub fn plain_path(path: &str) -> Cow<'_, str> {
    if path.split('/').all(|part| !matches!(part, "" | "." | "..")) {
        return Cow::Borrowed(path);
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Cow::Owned(parts.join("/"))
}

/// Whether a text matches a pattern. `*` matches anything; case is ignored.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for path in ["a/b", "/a/b", "a//b", "./a/b/", "a/c/../b", "../a/b"] {
            assert_eq!(plain_path(path), "a/b", "{path}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters_or_none() {
        assert!(fits("Dell Inc.", "dell inc.") && !fits("Dell", "Dell Inc."));
        assert!(fits("PowerEdge R6*", "PowerEdge R640") && !fits("PowerEdge R6*", "PowerEdge R740"));
        assert!(fits("*server*", "ProLiant MicroServer Gen10") && fits("*", "") && fits("a*", "A"));
        assert!(fits("a*b*c", "a--b--b-c") && !fits("a*b*c", "a--c") && !fits("ab*ba", "aba"));
        assert!(fits("a**b", "axb") && !fits("", "a"));
        // A dotted capital I is another number of bytes in lower case.
        assert!(fits("İ*", "İx"));
    }
}
