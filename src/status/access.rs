//! Who may change something: the host's own users by the control socket or the loopback, others with the token.

use std::net::IpAddr;

use http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq as _;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The control socket, whose user has been looked at.
    ControlSocket,
    /// TCP, from this address.
    Tcp(IpAddr),
}

/// Whether a request that changes something is let through; else the answer to it.
///
/// # Errors
/// 401 where a token would help, 403 where the one that it brings is wrong.
pub fn may_change(via: Via, headers: &HeaderMap, token: Option<&str>) -> Result<(), (StatusCode, &'static str)> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if via == Via::ControlSocket {
        return Ok(());
    }
    // The name of a scheme is in any case (RFC 9110 §11.1).
    let of_scheme = |(scheme, given): (&str, _)| scheme.eq_ignore_ascii_case("bearer").then_some(given);
    if let Some(given) = text(header::AUTHORIZATION).and_then(|value| value.split_once(' ').and_then(of_scheme)) {
        let is_right = token.is_some_and(|token| bool::from(token.as_bytes().ct_eq(given.as_bytes())));
        return if is_right { Ok(()) } else { Err((StatusCode::FORBIDDEN, "the token is wrong")) };
    }
    let is_local = matches!(via, Via::Tcp(address) if address.is_loopback());
    // What a proxy on this host passes on comes from elsewhere, and a page from elsewhere may have given this host's
    // address a name of its own (DNS rebinding): the browser then sends that name.
    let is_passed_on = ["x-forwarded-for", "forwarded", "via"].iter().any(|name| headers.contains_key(*name));
    if is_local && !is_passed_on && text(header::HOST).is_some_and(names_loopback) {
        return Ok(());
    }
    let words = match token {
        Some(_) => "changes need the token (Authorization: Bearer …), or to come from this host",
        None => "changes are taken from this host only: no control.token is set",
    };
    Err((if token.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN }, words))
}

/// Whether a change may come from where it was made. Every browser says which page that was: by `Sec-Fetch-Site` where it
/// trusts the connection (TLS), else by `Origin` (RFC 6454 §7). The first holds also behind a proxy that sends another
/// `Host` than the browser did. What says neither is no browser, and has no cookie either that it would be made to send.
pub(super) fn is_of_own_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let is_own_origin = |origin: &str| {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        host.is_some() && host == text("host")
    };
    match text("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => text("origin").is_none_or(is_own_origin),
    }
}

fn names_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(via: &str, headers: &[(&'static str, &str)], token: Option<&str>) -> Result<(), u16> {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().expect("a header's value")));
        let via = via.parse().map_or(Via::ControlSocket, Via::Tcp);
        may_change(via, &headers.collect(), token).map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_this_host_and_those_with_the_token_change_anything() {
        let local: &[(&'static str, &str)] = &[("host", "127.0.0.1:8080")];
        assert_eq!(asked("socket", &[], None), Ok(()));
        for host in ["127.0.0.1:8080", "localhost", "[::1]:8080", "LOCALHOST:80"] {
            assert_eq!(asked("127.0.0.1", &[("host", host)], None), Ok(()), "{host}");
        }
        for host in ["evil.example:8080", "10.77.0.2:8080", "127.0.0.1.evil.example", ""] {
            assert_eq!(asked("127.0.0.1", &[("host", host)], None), Err(403), "{host}");
        }
        assert_eq!(asked("127.0.0.1", &[local, &[("x-forwarded-for", "10.0.0.1")]].concat(), None), Err(403));
        assert_eq!(asked("10.77.0.50", local, None), Err(403));
        assert_eq!(asked("10.77.0.50", local, Some("secret")), Err(401));
        for right in ["Bearer secret", "bearer secret"] {
            assert_eq!(asked("10.77.0.50", &[("authorization", right)], Some("secret")), Ok(()), "{right}");
        }
        for wrong in ["Bearer secre", "Bearer ", "Bearer secret2"] {
            assert_eq!(asked("127.0.0.1", &[("authorization", wrong)], Some("secret")), Err(403), "{wrong}");
        }
        assert_eq!(asked("10.77.0.50", &[("authorization", "Bearer ")], None), Err(403), "no token is no empty token");
    }
}
