//! `netbootd what`: shows the cause and the fix for a text on a machine's screen.

use super::failure::{EX_UNAVAILABLE, EX_USAGE, Failure, print};
use crate::trouble::{Trouble, ipxe_number, search};

/// Show the cause and the fix for a text on a machine's screen.
#[derive(Debug, clap::Args)]
pub(super) struct What {
    /// The text, or a part of it: "PXE-E18", "Exec format error"
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl What {
    pub(super) fn run(self) -> Result<(), Failure> {
        let text = self.text.join(" ");
        if !text.contains(char::is_alphanumeric) {
            return Err(Failure::new(EX_USAGE, "the text has no letter or digit: copy the text from the screen"));
        }
        let found = search(&text);
        if self.json {
            return print(&format!("{:#}\n", serde_json::json!(found)));
        }
        if found.is_empty() {
            let number = ipxe_number(&text);
            let there =
                number.map(|number| format!(", but if iPXE printed it, https://ipxe.org/{number} describes it"));
            let there = there.unwrap_or_default();
            let words =
                format!("{text:?} is unknown{there}; the status page and `netbootd machines` show why a boot stopped");
            return Err(Failure::new(EX_UNAVAILABLE, words));
        }
        print(&found.into_iter().take(MOST).map(as_text).collect::<Vec<_>>().join("\n"))
    }
}

fn as_text(Trouble { shown, by, cause, fix }: &Trouble) -> String {
    format!("{} ({by})\n    cause: {cause}\n    fix:   {fix}\n", shown.join(", "))
}

/// The largest number of results that are shown.
const MOST: usize = 3;
