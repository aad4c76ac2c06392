//! The status page: its routes beside machines that were never there, and the same in a real browser.

#![expect(clippy::indexing_slicing, reason = "a test that reads past an answer fails, as it should")]

mod browser;
mod routes;
mod server;
