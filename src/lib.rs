//! netbootd: ProxyDHCP, TFTP and HTTP in one process.
//!
//! # The walk of one boot
//!
//! | step | file |
//! |---|---|
//! | A datagram comes in on port 67 or 4011, and it is known to which of our addresses | [`net::udp`], [`dhcp::serve`] |
//! | … or as a frame, beside another DHCP server that has the port | [`net::raw`], [`net::frame`], [`dhcp::transport`] |
//! | Its bytes become a [`dhcp::request::Request`], and that a [`boot::client::Client`] | [`dhcp::wire`], [`dhcp::request`] |
//! | ★ What this client does next | [`boot::next`], by the table in [`boot::loader`] and the rules in [`boot::selector`] |
//! | … in which shape, and whether it is in a boot loop | [`offers::attempts`], kept by [`state`] |
//! | The answer, and where it goes | [`dhcp::proxy`], [`dhcp::offer`], [`dhcp::destination`] |
//! | Firmware fetches the loader, by TFTP | [`tftp::serve`], [`tftp::transfer`] |
//! | … or by UEFI HTTP Boot | [`http::routes`], [`http::assets`] |
//! | iPXE asks again, is sent to `/boot.ipxe`, and gets its script | [`boot::script`], [`boot::machine`] |
//! | It fetches kernel and initial RAM disks at its own pace | [`http::assets`], [`http::range`], [`files`] |
//! | … on one thread, from the page cache to the socket | [`http::workers`], `http::io`, `http::account` |
//! | … however slow it is; only one that is dead is closed | [`timeline::peer`], `http::watch`, [`net::tcp_info`] |
//! | What it booted fetches its answer files, by addresses signed for it | [`boot::answer`], `http::answers` |
//! | … and says how it went | [`timeline::report`], `http::report` |
//! | Every stage sends what it saw; one recorder makes a timeline of it | [`timeline::event`], [`timeline::machines`], [`daemon::recorder`] |
//! | … which says how the boot stands, and why it stopped | [`timeline::boot`], ★ the table in [`timeline::cause`] |
//! | … and counts them | [`status::tally`], [`status::metrics`] |
//! | … which people and programs look at | [`status::page`], [`status::api`] |
//!
//! Also: syslog messages of iPXE and installers are shown in the machines' timelines ([`syslog::line`],
//! [`syslog::serve`]). Interfaces can appear and disappear ([`net::changes`], `daemon::listeners`), other programs can
//! have our ports ([`net::holder`]), and other servers can stop machines from booting ([`dhcp::rival`],
//! [`dhcp::watch`]). After its ports are open, the server drops rights that it does not need ([`daemon::privileges`],
//! [`daemon::sandbox`]) and reports its state to systemd (`daemon::notify`).
//!
//! What keeps machines from booting is found by [`doctor`]: it collects evidence, and judges it without a socket.
//!
//! [`boot`] decides and does nothing else: no socket, file or clock. The three protocols do not know each other: they
//! share the rules and a queue of events. [`daemon`] puts them together, [`cli`] is what users type. `tests/layers`
//! holds this against the code.

pub mod boot;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dhcp;
pub mod doctor;
pub mod files;
pub mod http;
pub mod iso;
pub mod lease;
pub mod net;
pub mod offers;
pub mod snippet;
pub mod spelling;
pub mod state;
pub mod status;
pub mod syslog;
pub mod tftp;
pub mod timeline;
pub mod trouble;
