//! The daemon in a private network beside real clients: atftp, tftp-hpa, curl, dnsmasq and ISC's DHCP
//! programs, and sockets that play firmware.

#![expect(clippy::indexing_slicing, reason = "a test that reads past a packet fails, as it should")]

mod answers;
mod appliance_learning;
mod appliance_leases;
mod appliances;
mod attempts;
mod bench;
mod beside;
mod boot_crowd;
mod cloud_init;
mod confined;
mod control;
mod cut;
mod dhcp;
mod dhcp_crowd;
mod doctor;
mod doctor_leases;
mod doctor_links;
mod field;
mod firmware;
mod full_disk;
mod http;
mod identity;
mod images;
mod interfaces;
mod lease;
mod lease_guard;
mod lease_terms;
mod lifecycle;
mod liveness;
mod metrics;
mod page;
mod proxies;
mod relay;
mod reload;
mod report;
mod retry;
mod rivals;
mod secure_boot;
mod snippets;
mod stops;
mod syslog;
mod talk;
mod tftp;
mod tftp_firmware;
mod tftp_weather;
mod wake;
mod ward;
mod watch;
