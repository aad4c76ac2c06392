//! `[dhcp]`, `[http]` and other sections → the settings of their servers.

use std::{io, ops::RangeInclusive, path::Path, str::FromStr, time::Duration};

use sqlx::postgres::PgConnectOptions;

use super::{
    Level,
    check::{BAD_PORT, Check, LONGEST, has_good_port},
    fixed::{Dhcp, Http, StateServer, StateUrl, Syslog},
    meant, schema,
    settings::Offers,
    units,
};
use crate::{
    boot::{
        machine::{MachineRule, OfferShape},
        selector::Selector,
        shape::Shape,
        urls::{with_host, without_password},
    },
    files::{AssetRoot, permission},
    net::{
        limits::ClientLimits,
        proxies::{Network, TrustedProxies},
    },
    offers::attempts::Rates,
};

/// The text of a file. Opening a pipe would wait for its writer, and a device may have no end.
fn regular(path: &Path) -> std::io::Result<String> {
    match std::fs::metadata(path)?.is_file() {
        true => std::fs::read_to_string(path),
        false => Err(std::io::Error::other("it is not a regular file: put the password into a file")),
    }
}

fn is_server(url: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
}

impl Check<'_> {
    pub(super) fn dhcp(&mut self) -> Dhcp {
        let schema::Dhcp { enabled, socket, max_rate, max_rate_per_client, .. } = self.loaded.config.dhcp;
        for (key, rate) in [("max_rate", max_rate), ("max_rate_per_client", max_rate_per_client)] {
            if rate == 0 {
                self.fault(&["dhcp", key], format!("{key} is 0, so no client could be answered: use 1 or more"));
            }
        }
        Dhcp { enabled, socket, rates: Rates { total: max_rate, per_client: max_rate_per_client } }
    }

    pub(super) fn offers(&mut self) -> Offers {
        let schema::Dhcp { offer, reply_delay, answer_after, answer, .. } = self.loaded.config.dhcp.clone();
        let shape = match (offer.as_str(), Shape::named(&offer)) {
            ("auto", _) => OfferShape::Auto,
            (_, Some(shape)) => OfferShape::Always(shape),
            (_, None) => {
                let there = Shape::LADDER.map(Shape::name);
                let (meant, there) = (meant(&offer, there), there.join(", "));
                self.fault(&["dhcp", "offer"], format!("unknown offer {offer:?}{meant}; known are: auto, {there}"));
                OfferShape::Auto
            }
        };
        Offers {
            shape,
            reply_delay: self.duration(&["dhcp", "reply_delay"], &reply_delay, REPLY_DELAY),
            answer_after: self.duration(&["dhcp", "answer_after"], &answer_after, ANSWER_AFTER),
            known_only: answer == schema::Answer::Known,
        }
    }

    pub(super) fn syslog(&mut self) -> Option<Syslog> {
        let schema::Syslog { enabled, port, max_rate, max_rate_per_client } = self.loaded.config.syslog.clone();
        if port == 0 {
            self.fault(&["syslog", "port"], "port is 0: use a UDP port from 1 to 65535".into());
        }
        for (key, rate) in [("max_rate", max_rate), ("max_rate_per_client", max_rate_per_client)] {
            if rate == 0 {
                self.fault(&["syslog", key], format!("{key} is 0, so no message could be received: use 1 or more"));
            }
        }
        enabled.then_some(Syslog { port, rates: Rates { total: max_rate, per_client: max_rate_per_client } })
    }

    pub(super) fn control(&mut self) {
        if let Some(token) = self.loaded.config.control.token.as_deref().filter(|token| token.len() < 16) {
            let message = format!(
                "the token has {} characters, which is too easy to guess: use 16 or more (openssl rand -hex 16)",
                token.len()
            );
            self.fault(&["control", "token"], message);
        }
    }

    pub(super) fn state(&mut self) -> StateUrl {
        let Some(url) = self.loaded.config.state.url.clone() else {
            return StateUrl::Default(DEFAULT_STATE.into());
        };
        if is_server(&url) {
            return match &self.loaded.config.state.copy {
                Some(copy) => StateUrl::Set(format!("sqlite://{}", copy.display())),
                None => StateUrl::Default(DEFAULT_COPY.into()),
            };
        }
        if !url.starts_with("sqlite://") || url.len() == "sqlite://".len() {
            let shown = without_password(&url);
            self.fault(&["state", "url"], format!("{shown:?} is not a valid URL; example: {DEFAULT_STATE:?}"));
        }
        StateUrl::Set(url)
    }

    /// The server that several appliances share, where one is named.
    pub(super) fn state_server(&mut self) -> Option<StateServer> {
        let schema::State { url, password_file, appliance, keep_boots, .. } = self.loaded.config.state.clone();
        let keep_boots = self.duration(&["state", "keep_boots"], &keep_boots, KEEP_BOOTS);
        let url = url.filter(|url| is_server(url))?;
        if let Err(error) = PgConnectOptions::from_str(&with_host(&url)) {
            let shown = without_password(&url);
            self.fault(&["state", "url"], format!("{shown:?} is not a valid URL: {error}; example: {EXAMPLE:?}"));
        }
        let credential = || {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY")?;
            Some(Path::new(&folder).join("state-password")).filter(|path| path.exists())
        };
        let password_file = password_file.or_else(credential);
        let password = password_file.as_ref().and_then(|path| match regular(path) {
            Ok(password) => Some(password.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                let message =
                    format!("{} cannot be read: {error}; it holds the password of the server", path.display());
                self.fault(&["state", "password_file"], message);
                None
            }
        });
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
        let appliance = appliance.or_else(|| host().ok()).unwrap_or_default();
        if appliance.is_empty() || appliance.len() > 64 || appliance.contains(char::is_control) {
            let message = format!("{appliance:?} is no name for an appliance: use 1 to 64 characters");
            self.fault(&["state", "appliance"], message);
        }
        Some(StateServer { url, password, password_file, appliance, keep_boots })
    }

    pub(super) fn assets(&mut self) -> Option<AssetRoot> {
        let named = self.loaded.config.assets.as_deref();
        let path = named.or_else(|| Some(Path::new(DEFAULT_ASSETS)).filter(|path| path.is_dir()))?;
        let root = AssetRoot::open(path).unwrap_or_else(|error| {
            let reason = permission::denied(path).unwrap_or_else(|| error.to_string());
            let elsewhere = match error.kind() {
                io::ErrorKind::NotFound if path.is_relative() => NOT_WHOLE,
                io::ErrorKind::NotFound => hidden_from_services(path),
                _ => "",
            };
            let message = format!("the assets folder {} cannot be used: {reason}{elsewhere}", path.display());
            match error.kind() {
                io::ErrorKind::InvalidInput => self.fault(&["assets"], message),
                _ => self.part(&["assets"], message),
            }
            AssetRoot::waiting_for(path)
        });
        Some(match &self.loaded.only {
            Some(only) => root.only(only.clone()),
            None => root,
        })
    }

    pub(super) fn http(&mut self) -> Http {
        let schema::Http { listing, grace, .. } = self.loaded.config.http.clone();
        Http {
            port: self.http_port(),
            base_url: self.base_url(),
            listing,
            limits: self.http_limits(),
            trusted_proxies: self.trusted_proxies(),
            grace: self.duration(&["http", "grace"], &grace, Duration::ZERO..=LONGEST),
        }
    }

    fn http_limits(&mut self) -> ClientLimits {
        let schema::Http { max_connections, max_connections_per_client, rate_limit, keepalive, .. } =
            &self.loaded.config.http;
        for (key, value) in
            [("max_connections", max_connections), ("max_connections_per_client", max_connections_per_client)]
        {
            if *value == 0 {
                self.fault(&["http", key], format!("{key} is 0, so no client could be served: use 1 or more"));
            }
        }
        let rate = units::bytes(rate_limit).and_then(|rate| match rate {
            // A slower rate would need seconds for the largest segment: UEFI HTTP Boot gives up after 5 s without
            // progress.
            1..SLOWEST => Err(format!("{rate_limit:?} is too slow for firmware: use 64kB or more, or 0 for no limit")),
            rate => Ok(rate),
        });
        let rate_limit = rate.unwrap_or_else(|message| {
            self.fault(&["http", "rate_limit"], message);
            0
        });
        let schema::Keepalive { idle, interval, probes, dead_after } = keepalive;
        let second = Duration::from_secs(1);
        let key = |key| ["http", "keepalive", key];
        if !(1..=127).contains(probes) {
            self.fault(&key("probes"), format!("probes is {probes}: use 1 to 127 (tcp(7), TCP_KEEPCNT)"));
        }
        ClientLimits {
            max_connections: *max_connections,
            max_connections_per_client: *max_connections_per_client,
            rate_limit,
            idle: self.duration(&key("idle"), idle, second..=LONGEST),
            interval: self.duration(&key("interval"), interval, second..=LONGEST),
            probes: *probes,
            dead_after: self.duration(&key("dead_after"), dead_after, 2 * second..=LONGEST),
        }
    }

    fn trusted_proxies(&mut self) -> TrustedProxies {
        let texts = self.loaded.config.http.trusted_proxies.clone();
        let networks = texts.iter().filter_map(|text| {
            let network = text.parse::<Network>().ok();
            if network.is_none() {
                let message = format!(
                    "{text:?} is neither an IPv4 address nor a prefix; examples: \"192.0.2.1\", \"192.0.2.0/24\""
                );
                self.fault(&["http", "trusted_proxies"], message);
            }
            network
        });
        networks.collect()
    }

    fn http_port(&mut self) -> u16 {
        let port = self.loaded.config.http.port;
        if port == 0 {
            self.fault(&["http", "port"], "port is 0: use 1 to 65535 (a TCP port)".into());
        }
        port
    }

    fn base_url(&mut self) -> Option<String> {
        let url = self.loaded.config.http.base_url.as_deref()?.trim_end_matches('/');
        if let Err(fault) = check_base_url(url) {
            self.fault(&["http", "base_url"], format!("{:?} {fault}", without_password(url)));
        }
        Some(url.to_owned())
    }

    /// Appliances that share a state have the same configuration, so machines reach them all by this address, and a script
    /// of the one may lead to files of the other. Then no appliance sees the whole hand-over.
    pub(super) fn one_address(&mut self, machines: &[(Selector, MachineRule)]) {
        let config = &self.loaded.config;
        let is_shared = config.state.url.as_deref().is_some_and(is_server) && config.http.base_url.is_some();
        if is_shared && machines.iter().any(|(_, rule)| rule.once && rule.until_installed.is_none()) {
            let message = "all appliances have this address, and once = true ends only where the appliance that gave a machine its \
                           script sends it all files too: let the load balancer lead each machine to one appliance, or use \
                           once = \"installed\", whose report counts on any of them";
            self.finding(Level::Warning, &["http", "base_url"], message.into());
        }
    }
}

/// What follows it has to be a path.
fn check_base_url(url: &str) -> Result<(), &'static str> {
    let uri = url.parse::<http::Uri>().ok();
    if uri.as_ref().is_some_and(|uri| uri.scheme_str() == Some("https")) {
        return Err("begins with https, and GRUB and most firmware cannot fetch from it: write http");
    }
    let uri = uri.filter(|uri| {
        uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none()
    });
    let uri = uri.filter(|_| !url.contains('#')).ok_or("is not a valid URL; example: http://boot.lab:8080")?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(
            "names a user, which every boot script would show, and netbootd asks for none: remove it with its @",
        );
    }
    if has_good_port(&uri) { Ok(()) } else { Err(BAD_PORT) }
}

/// Firmware waits 4, 8, 16 and 32 s for offers (PXE 2.1 §2.2.1). For most firmware, an offer after the first of these
/// is too late.
pub(super) const REPLY_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
/// Bytes per second.
const SLOWEST: u64 = 64_000;

/// Why a folder that is there may be none to a service: this one was started by systemd (systemd.exec(5), `PrivateTmp` and
/// `$INVOCATION_ID`).
fn hidden_from_services(folder: &Path) -> &'static str {
    let is_temporary = ["/tmp", "/var/tmp"].iter().any(|temporary| folder.starts_with(temporary));
    match is_temporary && std::env::var_os("INVOCATION_ID").is_some() {
        true => "; a systemd service has a /tmp and a /var/tmp of its own: use another folder, for example in /srv",
        false => "",
    }
}

/// `~` and variables of a shell are relative paths too.
const NOT_WHOLE: &str =
    ": it is searched in the folder that netbootd is started in. Write the whole path, such as /srv/netboot";
/// The path of the packages.
const DEFAULT_ASSETS: &str = "/var/lib/netbootd/assets";
/// In the same folder.
const DEFAULT_COPY: &str = "sqlite:///var/lib/netbootd/copy.db";
const EXAMPLE: &str = "postgres://netbootd@db.lab/netbootd?sslmode=verify-full";
const KEEP_BOOTS: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(10 * 365 * 86_400);
/// iPXE asks for about three seconds.
const ANSWER_AFTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30);
pub(super) const DEFAULT_STATE: &str = "sqlite:///var/lib/netbootd/state.db";
