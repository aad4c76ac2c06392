//! Texts on a machine's screen → the cause and the fix. `netbootd what` searches this table, and
//! `packaging/docs/troubleshooting.md` is made of it.

mod table;

use table::TROUBLES;
pub use table::Trouble;

/// The rows that fit a text, the best one first.
#[must_use]
pub fn search(text: &str) -> Vec<&'static Trouble> {
    let text = plain(text);
    let fit = |trouble: &'static Trouble| {
        let best = trouble.shown.iter().map(|part| fits(&text, &plain(part))).max();
        best.filter(|fit| *fit > 0).map(|fit| (fit, trouble))
    };
    let mut fitting: Vec<_> = TROUBLES.iter().filter_map(fit).collect();
    fitting.sort_by_key(|(fit, _)| std::cmp::Reverse(*fit));
    fitting.into_iter().map(|(_, trouble)| trouble).collect()
}

/// How well a row's part fits; 0 where it does not. A whole part within the text is worth more than a part that the text
/// is a piece of, and a longer one more than a short one.
fn fits(text: &str, part: &str) -> usize {
    match (has(text, part), text.len() >= SHORTEST && has(part, text)) {
        (true, _) => 2 * part.len(),
        (false, true) => text.len(),
        (false, false) => 0,
    }
}

/// Letters and digits in lower case, with one space between words: screens wrap lines, and people leave out hyphens. A number
/// may be written with 0x before it or without.
fn plain(text: &str) -> String {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word.strip_prefix("0x").unwrap_or(word)).collect::<Vec<_>>().join(" ")
}

/// The error number of iPXE in a text: it prints `https://ipxe.org/NUMBER`, older ones `(0xNUMBER)` (core/errno.c).
#[must_use]
pub fn ipxe_number(text: &str) -> Option<String> {
    let text = text.to_lowercase();
    let mut words = text.split(|c: char| !c.is_alphanumeric());
    words.find_map(|word| {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let is_number = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        // Letters alone are rather a word.
        (is_number && digits.bytes().any(|byte| byte.is_ascii_digit())).then(|| digits.to_owned())
    })
}

/// Whether whole words stand in a text: `pxe e5` is no part of `pxe e51`.
fn has(text: &str, words: &str) -> bool {
    format!(" {text} ").contains(&format!(" {words} "))
}

/// A shorter text is part of too many.
const SHORTEST: usize = 6;

/// The page of the documents.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# What does the text on the screen mean?\n\n\
         `netbootd what \"PXE-E18\"` searches this table. The status page shows the cause of each boot that stopped by itself.\n\n\
         | on the screen | shown by | cause | fix |\n|---|---|---|---|\n",
    );
    for Trouble { shown, by, cause, fix } in TROUBLES {
        let shown: Vec<String> = shown.iter().map(|part| format!("`{part}`")).collect();
        page += &format!("| {} | {by} | {cause} | {fix} |\n", shown.join(", "));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(text: &str) -> &'static str {
        search(text).first().map_or("nothing", |trouble| trouble.shown.first().copied().unwrap_or_default())
    }

    #[test]
    fn a_text_is_found_by_its_code_or_by_its_words_however_it_is_typed() {
        assert_eq!(best("PXE-E18"), "PXE-E18");
        assert_eq!(best("pxe e18: server response timeout."), "PXE-E18");
        assert_eq!(best(">>Start PXE over IPv4.\n  PXE-E16: No valid\noffer received."), "PXE-E16");
        assert_eq!(
            best("http://10.77.0.2:8080/vmlinuz... Exec format error (https://ipxe.org/2e008081)"),
            "Exec format error"
        );
        assert_eq!(best(">>Start PXE over IPv6."), "Start PXE over IPv6");
        assert_eq!(best("Loading: T T T T \nRetry count exceeded; starting again"), "Retry count exceeded");
        assert_eq!(
            best("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"),
            "Unable to mount root fs"
        );
        assert_eq!(best("media test"), "PXE-E61", "a part of the words");
        assert_eq!(best("Could not boot: Exec format error (0x2e008081)"), "Exec format error");
        assert_eq!(best("Error 0X2E008081"), "Exec format error", "an older iPXE");
        assert_eq!(best("The boot configuration data is missing. Status: 0xc0000098"), "0xc000000f");
        assert_eq!(best("PXE-E5"), "nothing");
        assert_eq!((best(""), best("?!"), best("it does not boot")), ("nothing", "nothing", "nothing"));
    }

    #[test]
    fn an_error_number_of_ipxe_is_found_in_what_it_prints() {
        let number = |text| ipxe_number(text);
        assert_eq!(number("Error (https://ipxe.org/3d126001)").as_deref(), Some("3d126001"));
        assert_eq!(number("Could not boot: Error 0x3D126001 (0x3d126001)").as_deref(), Some("3d126001"));
        assert_eq!(number("effaced: acceeded 3d126001").as_deref(), Some("3d126001"), "behind words of such letters");
        assert_eq!((number("deadbeef"), number("PXE-E18"), number("0x1"), number("")), (None, None, None, None));
    }

    #[test]
    fn every_text_leads_to_its_own_row_first() {
        for trouble in TROUBLES {
            for part in trouble.shown {
                assert_eq!(search(part).first(), Some(&trouble), "{part}");
            }
            assert!(!trouble.cause.ends_with('.') && !trouble.fix.ends_with('.'), "{trouble:?}");
        }
    }
}
