//! `[tftp]` → the settings of the TFTP server.

use std::ops::RangeInclusive;

use super::{check::Check, fixed::Tftp};

impl Check<'_> {
    pub(super) fn tftp(&mut self) -> Tftp {
        let tftp = self.loaded.config.tftp.clone();
        let mut within = |key: &str, value: usize, least: usize, most: usize, what: &str| {
            if !(least..=most).contains(&value) {
                self.fault(&["tftp", key], format!("{key} is {value}: use {least} to {most} ({what})"));
            }
        };
        within("port", tftp.port.into(), 1, 65_535, "a UDP port");
        within("max_block_size", tftp.max_block_size.into(), 512, 65_464, "bytes of data in a block, RFC 2348");
        // There are 65,536 block numbers. Half of them are needed to distinguish old blocks from new ones.
        within("max_window_size", tftp.max_window_size.into(), 1, 1024, "blocks in flight");
        within("max_transfers", tftp.max_transfers, 1, 65_536, "transfers at the same time");
        within(
            "max_transfers_per_client",
            tftp.max_transfers_per_client,
            1,
            65_536,
            "transfers of one address at the same time",
        );
        let range = tftp.transfer_ports.as_deref().map(port_range);
        if range == Some(None) {
            let message = format!(
                "{:?} is not a range of ports; example: \"50000-50999\"",
                tftp.transfer_ports.unwrap_or_default()
            );
            self.fault(&["tftp", "transfer_ports"], message);
        } else if range.is_some() && tftp.single_port {
            let message = "single_port and transfer_ports cannot be used together: remove one of them".to_owned();
            self.fault(&["tftp", "transfer_ports"], message);
        }
        Tftp {
            enabled: tftp.enabled,
            port: tftp.port,
            single_port: tftp.single_port,
            transfer_ports: range.flatten(),
            max_block_size: tftp.max_block_size,
            max_window_size: tftp.max_window_size,
            max_transfers: tftp.max_transfers,
            max_transfers_per_client: tftp.max_transfers_per_client,
        }
    }
}

/// `"50000-50999"`.
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}
