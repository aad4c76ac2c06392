//! The status page: its routes beside machines that were never there, and the same in a real browser.

mod api;
mod browser;
mod routes;
mod server;
