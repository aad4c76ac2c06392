//! The daemon in a private network beside real clients: atftp, tftp-hpa, curl, and sockets that play firmware.

#![expect(clippy::indexing_slicing, reason = "a test that reads past a packet fails, as it should")]

mod answers;
mod attempts;
mod bench;
mod dhcp;
mod http;
mod lifecycle;
mod liveness;
mod reload;
mod tftp;
mod tftp_weather;
mod weather;
