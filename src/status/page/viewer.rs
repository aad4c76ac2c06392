//! Who looks at the page: whether they may change something, and how a browser shows that it has the token.

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use sha2::Sha256;

use crate::status::access::{Via, is_of_own_page, may_change};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Viewer {
    pub(super) may_change: bool,
    /// By its cookie: it can sign out.
    signed_in: bool,
    /// There is a token that it could sign in with.
    can_sign_in: bool,
}

impl Viewer {
    pub(super) fn new(via: Via, headers: &HeaderMap, token: Option<&str>) -> Self {
        let signed_in = token.is_some_and(|token| has_cookie(headers, token, SystemTime::now()));
        let may_change = signed_in || may_change(via, headers, token).is_ok();
        Self { may_change, signed_in, can_sign_in: token.is_some() && !may_change }
    }
}

/// Whether a form of ours may be acted on; else the answer to its sender.
///
/// # Errors
/// For one of another site's page, and for viewers who may change nothing.
pub(super) fn may_post(via: Via, headers: &HeaderMap, token: Option<&str>) -> Result<(), (StatusCode, &'static str)> {
    if !is_of_own_page(headers) {
        return Err((StatusCode::FORBIDDEN, "this form was sent by a page of another site"));
    }
    if token.is_some_and(|token| has_cookie(headers, token, SystemTime::now())) {
        return Ok(());
    }
    may_change(via, headers, token)
}

/// What signs a browser in. It is no token: it ends, and who finds it cannot use the API with it. Other pages cannot have
/// it sent (`SameSite=Strict`), and no script can read it.
pub(super) fn cookie(token: &str, now: SystemTime) -> Option<HeaderValue> {
    let until = seconds(now) + LASTS.as_secs();
    let value = format!("{COOKIE}={until}.{}", signature(token, until));
    format!("{value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict", LASTS.as_secs()).parse().ok()
}

/// What signs it out.
pub(super) const NO_COOKIE: HeaderValue =
    HeaderValue::from_static("netbootd=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");

fn has_cookie(headers: &HeaderMap, token: &str, now: SystemTime) -> bool {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut ours = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().strip_prefix(COOKIE));
    ours.any(|value| is_right(value.trim_start_matches('='), token, now))
}

fn is_right(value: &str, token: &str, now: SystemTime) -> bool {
    let Some((until, signed)) = value.split_once('.') else { return false };
    let Ok(until) = until.parse::<u64>() else { return false };
    let is_signed = bool::from(subtle::ConstantTimeEq::ct_eq(signed.as_bytes(), signature(token, until).as_bytes()));
    is_signed && seconds(now) < until
}

fn signature(token: &str, until: u64) -> String {
    // A key of any length is one (RFC 2104 §2).
    #[expect(clippy::expect_used, reason = "it takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).expect("any length");
    mac.update(format!("netbootd: signed in to the status page until {until}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

const COOKIE: &str = "netbootd";
/// A working day.
const LASTS: Duration = Duration::from_secs(12 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn signed_in(now: SystemTime) -> HeaderMap {
        let cookie = cookie(TOKEN, now).expect("a cookie");
        let cookie = cookie.to_str().expect("text").split(';').next().expect("a pair").to_owned();
        headers(&[("cookie", &format!("other=1; {cookie}")), ("host", "10.77.0.2:8080")])
    }

    #[test]
    fn a_browser_is_signed_in_by_its_cookie_until_it_ends_or_the_token_is_another() {
        let now = SystemTime::now();
        let headers = signed_in(now);
        assert!(has_cookie(&headers, TOKEN, now) && has_cookie(&headers, TOKEN, now + LASTS / 2));
        assert!(!has_cookie(&headers, TOKEN, now + LASTS) && !has_cookie(&headers, "another token here", now));
        let until = seconds(now) + 2 * LASTS.as_secs();
        for forged in [format!("{until}.{}", signature(TOKEN, until - 1)), format!("{until}."), until.to_string()] {
            assert!(!is_right(&forged, TOKEN, now), "{forged}");
        }
        assert_eq!(cookie(TOKEN, now).map(|c| c.to_str().expect("text").contains(TOKEN)), Some(false));
    }

    #[test]
    fn forms_of_other_sites_are_refused_also_to_who_is_signed_in_or_on_this_host() {
        let stranger = Via::Tcp([10, 77, 0, 50].into());
        let post = |via, more: &[(&'static str, &str)]| {
            let mut all = signed_in(SystemTime::now());
            all.extend(headers(more));
            may_post(via, &all, Some(TOKEN)).map_err(|(status, _)| status.as_u16())
        };
        assert_eq!(post(stranger, &[]), Ok(()));
        assert_eq!(post(stranger, &[("origin", "http://10.77.0.2:8080"), ("sec-fetch-site", "same-origin")]), Ok(()));
        for origin in ["http://evil.example", "null", "http://10.77.0.2:9090", "http://10.77.0.2", "file://", ""] {
            assert_eq!(post(stranger, &[("origin", origin)]), Err(403), "{origin}");
        }
        assert_eq!(post(stranger, &[("sec-fetch-site", "same-site")]), Err(403));
        let local = headers(&[("host", "localhost:8080"), ("origin", "http://evil.example")]);
        assert!(may_post(Via::Tcp([127, 0, 0, 1].into()), &local, None).is_err());
        let local = headers(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]);
        assert_eq!(may_post(Via::Tcp([127, 0, 0, 1].into()), &local, None), Ok(()));
        assert!(may_post(stranger, &headers(&[("host", "10.77.0.2:8080")]), Some(TOKEN)).is_err());
    }
}
