//! Which client a proxy speaks for: `X-Forwarded-For` and `Forwarded` (RFC 7239), taken from trusted proxies alone.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// The proxies whose word is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

/// IPv4 addresses that share a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: u32,
    mask: u32,
}

impl FromStr for Network {
    type Err = ();

    /// `192.0.2.1`, or `192.0.2.0/24`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, length.parse().map_err(drop)?)
            }
            Some(_) => return Err(()),
            None => (text, 32),
        };
        let address: Ipv4Addr = address.parse().map_err(drop)?;
        let mask = match length {
            0 => 0,
            1..=32 => u32::MAX << (32 - length),
            _ => return Err(()),
        };
        Ok(Self { address: address.to_bits() & mask, mask })
    }
}

impl FromIterator<Network> for TrustedProxies {
    fn from_iter<T: IntoIterator<Item = Network>>(networks: T) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl TrustedProxies {
    /// Whether this address is one of them.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.0.iter().any(|network| address.to_bits() & network.mask == network.address)
    }

    /// The client of a request that came from `peer`, by the values of its `X-Forwarded-For` and `Forwarded` headers, in
    /// their order: the last hop that is no trusted proxy, since everything before it is what that hop says of itself.
    ///
    /// A hop that names no IPv4 address (`unknown`, a made-up name) ends the search: the proxy that reported it counts as
    /// the client. So does `peer` where both headers are there and name different clients: a proxy writes one of them,
    /// and lets through what its client wrote into the other.
    #[must_use]
    pub fn client<'a>(
        &self,
        peer: Ipv4Addr,
        x_forwarded_for: impl IntoIterator<Item = &'a str>,
        forwarded: impl IntoIterator<Item = &'a str>,
    ) -> Ipv4Addr {
        if !self.contains(peer) {
            return peer;
        }
        let simple: Vec<Option<Ipv4Addr>> =
            x_forwarded_for.into_iter().flat_map(|value| value.split(',')).map(node).collect();
        let standard: Vec<Option<Ipv4Addr>> =
            forwarded.into_iter().flat_map(|value| unquoted_parts(value, ',')).map(hop).collect();
        match (simple.is_empty(), standard.is_empty()) {
            (true, _) => self.last_stranger(peer, &standard),
            (false, true) => self.last_stranger(peer, &simple),
            (false, false) => {
                let client = self.last_stranger(peer, &simple);
                if client == self.last_stranger(peer, &standard) { client } else { peer }
            }
        }
    }

    fn last_stranger(&self, peer: Ipv4Addr, hops: &[Option<Ipv4Addr>]) -> Ipv4Addr {
        let mut client = peer;
        for hop in hops.iter().rev() {
            match hop {
                Some(address) => client = *address,
                None => break,
            }
            if !self.contains(client) {
                break;
            }
        }
        client
    }
}

/// The address of `for=` in one element of `Forwarded`.
fn hop(element: &str) -> Option<Ipv4Addr> {
    let mut pairs = unquoted_parts(element, ';').into_iter().filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    node(value)
}

/// An address with or without a port, quotes and brackets (RFC 7239 section 6). An IPv4 address may be written as IPv6.
fn node(text: &str) -> Option<Ipv4Addr> {
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address: IpAddr = match bare.parse() {
        Ok(address) => address,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// The parts of a header's value between separators that are in no quoted string (RFC 9110 section 5.6.4).
fn unquoted_parts(value: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    value
        .split(|c: char| {
            if is_escaped {
                is_escaped = false;
                return false;
            }
            match c {
                '"' => is_quoted = !is_quoted,
                '\\' if is_quoted => is_escaped = true,
                _ => {}
            }
            c == separator && !is_quoted
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(texts: &[&str]) -> TrustedProxies {
        texts.iter().map(|text| text.parse::<Network>().expect("a network")).collect()
    }

    fn address(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    const PEER: &str = "10.0.0.1";

    fn client(simple: &[&str], standard: &[&str]) -> String {
        let trusted = proxies(&[PEER, "192.0.2.0/24"]);
        trusted.client(address(PEER), simple.iter().copied(), standard.iter().copied()).to_string()
    }

    #[test]
    fn networks_are_addresses_or_prefixes() {
        let net = proxies(&["192.0.2.77/24", "198.51.100.9"]);
        for (text, is_in) in
            [("192.0.2.1", true), ("192.0.3.1", false), ("198.51.100.9", true), ("198.51.100.8", false)]
        {
            assert_eq!(net.contains(address(text)), is_in, "{text}");
        }
        assert!(proxies(&["0.0.0.0/0"]).contains(address("203.0.113.5")));
        for wrong in ["", "proxy.lab", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "::1", "10.0.0.1:80"] {
            assert_eq!(wrong.parse::<Network>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn the_last_hop_that_is_no_trusted_proxy_is_the_client() {
        for (values, expected) in [
            (&["10.1.0.5"][..], "10.1.0.5"),
            (&["10.1.0.5:4711"], "10.1.0.5"),
            (&["10.9.9.9, 10.1.0.5"], "10.1.0.5"),
            (&["10.9.9.9,10.1.0.5 , 192.0.2.8"], "10.1.0.5"),
            (&["10.9.9.9", "10.1.0.5", "192.0.2.8"], "10.1.0.5"),
            (&["192.0.2.7, 192.0.2.8"], "192.0.2.7"),
            (&["10.9.9.9, unknown"], PEER),
            (&["10.9.9.9, nonsense, 192.0.2.8"], "192.0.2.8"),
            (&["::ffff:10.1.0.5"], "10.1.0.5"),
            (&["2001:db8::1"], PEER),
            (&[""], PEER),
            (&[], PEER),
        ] {
            assert_eq!(client(values, &[]), expected, "{values:?}");
        }
    }

    #[test]
    fn the_standard_header_says_the_same_with_quotes_and_ports() {
        for (values, expected) in [
            (&["for=10.1.0.5"][..], "10.1.0.5"),
            (&["For=\"10.1.0.5:4711\";proto=http;by=192.0.2.1"], "10.1.0.5"),
            (&["proto=http; for=10.1.0.5"], "10.1.0.5"),
            (&["for=10.9.9.9, for=10.1.0.5, for=\"192.0.2.8:80\""], "10.1.0.5"),
            (&["for=\"[::ffff:10.1.0.5]:80\""], "10.1.0.5"),
            (&["for=10.9.9.9, for=\"[2001:db8::1]:80\""], PEER),
            (&["for=10.9.9.9, for=_hidden"], PEER),
            (&["for=10.9.9.9, proto=http"], PEER),
            (&["host=\"a, for=10.9.9.9\";for=10.1.0.5"], "10.1.0.5"),
            (&["host=\"a\\\", for=10.9.9.9\";for=10.1.0.5"], "10.1.0.5"),
        ] {
            assert_eq!(client(&[], values), expected, "{values:?}");
        }
    }

    #[test]
    fn two_headers_that_disagree_are_not_taken() {
        assert_eq!(client(&["10.1.0.5"], &["for=10.1.0.5"]), "10.1.0.5");
        assert_eq!(client(&["10.1.0.5"], &["for=10.1.0.6"]), PEER);
    }

    proptest! {
        #[test]
        fn from_a_stranger_nothing_is_taken(
            peer in any::<u32>(), simple in ".{0,60}", standard in ".{0,60}"
        ) {
            let peer = Ipv4Addr::from_bits(peer | 1);
            let trusted = proxies(&["10.0.0.2"]);
            prop_assert_eq!(trusted.client(peer, [simple.as_str()], [standard.as_str()]), peer);
        }

        #[test]
        fn no_header_is_too_odd(
            simple in "[0-9a-f.:,;=\"\\\\\\[\\] for]{0,80}", standard in "[0-9a-f.:,;=\"\\\\\\[\\] for]{0,80}"
        ) {
            let _ = proxies(&["0.0.0.0/0"]).client(address(PEER), [simple.as_str()], [standard.as_str()]);
        }

        /// Whatever a client wrote before its own address, and however many trusted proxies are behind it.
        #[test]
        fn what_a_client_claims_changes_nothing(
            claims in "[0-9a-z.:, =_]{0,40}", client in any::<u32>(), proxies_behind in 0_u8..5, port in any::<u16>()
        ) {
            let client = Ipv4Addr::from_bits(client & !(1 << 31) | 1);
            let trusted = proxies(&["192.0.2.0/24"]);
            let peer = address("192.0.2.1");
            let behind = |one: &dyn Fn(u8) -> String| (0..proxies_behind).map(one).collect::<String>();
            let simple = format!("{claims},{client}{}", behind(&|n| format!(", 192.0.2.{n}")));
            prop_assert_eq!(trusted.client(peer, [simple.as_str()], []), client);
            let standard = format!("for={claims},for=\"{client}:{port}\"{}", behind(&|n| format!(", for=192.0.2.{n}")));
            prop_assert_eq!(trusted.client(peer, [], [standard.as_str()]), client);
        }
    }
}
