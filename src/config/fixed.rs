//! The settings that a reload cannot change.

use std::{path::PathBuf, time::Duration};

use super::{
    schema,
    settings::{Settings, StateServer, StateUrl, Syslog, Tftp},
};
use crate::{
    lease::terms::Leasing,
    net::{limits::ClientLimits, proxies::TrustedProxies},
    offers::attempts::Rates,
};

/// Settings that are used at the start. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    interfaces: Vec<String>,
    assets: Option<PathBuf>,
    dhcp: (bool, schema::DhcpSocket, Rates),
    lease: Option<Leasing>,
    tftp: Tftp,
    syslog: Option<Syslog>,
    http: (u16, Option<String>, bool, ClientLimits, Duration, TrustedProxies),
    state: (StateUrl, Option<StateServer>),
    control: schema::Control,
}

impl Settings {
    /// The settings that a reload cannot change.
    #[must_use]
    pub fn fixed(&self) -> Fixed {
        Fixed {
            interfaces: self.interfaces.clone(),
            assets: self.assets.as_ref().map(|assets| assets.named().to_owned()),
            dhcp: (self.dhcp.enabled, self.dhcp.socket, self.dhcp.rates),
            lease: self.lease.clone(),
            tftp: self.tftp.clone(),
            syslog: self.syslog,
            http: (
                self.http_port,
                self.base_url.clone(),
                self.listing,
                self.http_limits,
                self.grace,
                self.trusted_proxies.clone(),
            ),
            state: (self.state.clone(), self.state_server.clone()),
            control: self.control.clone(),
        }
    }
}

impl Fixed {
    /// The sections that differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let sections = [
            ("interfaces", self.interfaces == other.interfaces),
            ("assets", self.assets == other.assets),
            ("[dhcp] enabled, socket or rates", self.dhcp == other.dhcp),
            ("[lease]", self.lease == other.lease),
            ("[tftp]", self.tftp == other.tftp),
            ("[syslog]", self.syslog == other.syslog),
            ("[http]", self.http == other.http),
            ("[state]", self.state == other.state),
            ("[control]", self.control == other.control),
        ];
        sections.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
    }
}
