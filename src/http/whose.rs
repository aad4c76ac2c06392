//! Whose a request is, as far as it says.
//!
//! Where several machines boot from one address (NAT, a relay that routes), the files that a script names begin with
//! `/m/TOKEN`, which is signed for the machine. A script for a machine that is alone at its address names them plainly, so
//! that a cache in between has one copy for all machines.

use http::{HeaderMap, Uri, header, uri::PathAndQuery};

use crate::timeline::event::Who;

/// What a request's path began with.
#[derive(Clone, Debug)]
pub(super) struct Claim(pub(super) String);

/// Whose a file is that is about to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Whose {
    /// The machine that says so, or the address that the request came from.
    pub(super) who: Option<Who>,
    /// Nobody boots by it.
    pub(super) is_look: bool,
}

/// Takes `/m/TOKEN` from the beginning of a path.
pub(super) fn take_claim(uri: &mut Uri) -> Option<Claim> {
    let whole = uri.path_and_query()?.as_str();
    let (token, rest) = whole.strip_prefix("/m/")?.split_once('/')?;
    let claim = Claim(token.to_owned());
    let rest = PathAndQuery::try_from(format!("/{rest}")).ok()?;
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(rest);
    *uri = Uri::from_parts(parts).unwrap_or_default();
    Some(claim)
}

/// Whether a program that boots machines asks. Others look: a browser, curl, a health check.
pub(super) fn is_boot_client(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    BOOT_CLIENTS.iter().any(|client| agent.starts_with(client))
}

/// Whether `netbootd doctor` asks.
pub(super) fn is_doctor(headers: &HeaderMap) -> bool {
    headers.get(header::USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"netbootd-doctor/"))
}

/// iPXE (net/tcp/httpcore.c), EDK2 (HttpBootClient.c), GRUB (grub-core/net/http.c), PXELINUX (core/fs/pxe/http.c) and
/// U-Boot's wget, of which some say that they are lwIP (src/apps/http/http_client.c) and the older ones nothing.
const BOOT_CLIENTS: [&str; 6] = ["iPXE/", "UefiHttpBoot/", "GRUB ", "Syslinux/", "U-Boot", "lwIP/"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_taken_from_the_path() {
        let taken = |path: &str| {
            let mut uri: Uri = path.parse().expect("a path");
            let claim = take_claim(&mut uri).map(|Claim(token)| token);
            (claim, uri.to_string())
        };
        assert_eq!(taken("/m/abc/assets/k?x=1"), (Some("abc".into()), "/assets/k?x=1".into()));
        for path in ["/assets/m/abc/k", "/m/abc", "/m", "/"] {
            assert_eq!(taken(path), (None, path.to_owned()));
        }
    }

    #[test]
    fn who_boots_says_so() {
        let is = |agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, agent.parse().expect("a header"));
            is_boot_client(&headers)
        };
        assert!(["iPXE/1.21.1+git", "UefiHttpBoot/1.0", "GRUB 2.06-13"].into_iter().all(is));
        assert!(["curl/7.88.1", "Mozilla/5.0 (iPXE/1.0)", ""].into_iter().all(|agent| !is(agent)));
        assert!(!is_boot_client(&HeaderMap::new()));
    }
}
