//! Addresses of this server in command lines, scripts and answer files.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use minijinja::Value;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The server as a machine reaches it, and what templates have named of it.
#[derive(Clone, Debug, Default)]
pub struct ServerUrls {
    base: String,
    assets: Named,
    reports: Named,
}

/// What templates have named so far.
#[derive(Clone, Debug, Default)]
struct Named(Arc<Mutex<BTreeSet<String>>>);

impl Named {
    fn add(&self, name: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }

    fn all(&self) -> BTreeSet<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerUrls {
    /// For a server as a client reaches it, without a slash at its end.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self { base: base.to_owned(), ..Self::default() }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The paths that templates have given `asset()` so far: they may be missing.
    #[must_use]
    pub fn assets(&self) -> BTreeSet<String> {
        self.assets.all()
    }

    /// The events that templates have given `report()` so far.
    #[must_use]
    pub fn reports(&self) -> BTreeSet<String> {
        self.reports.all()
    }

    /// The function `asset("PATH")` of templates: the whole address of a file below the assets folder.
    pub(super) fn asset(&self) -> Value {
        let urls = self.clone();
        Value::from_function(move |path: String| {
            let url = asset_url(&urls.base, &path);
            urls.assets.add(path);
            url
        })
    }

    /// The function `report("EVENT")`, or `report("EVENT", "MESSAGE")`, of templates: the address that says so of the
    /// machine with this card. With a token of [`super::answer::report_scope`] the address is signed.
    pub(super) fn report(&self, mac: &str, token: Option<String>) -> Value {
        let reports = self.reports.clone();
        let address = match token {
            Some(token) => format!("{}/report/s/{token}?event=", self.base),
            None => format!("{}/report?mac={mac}&event=", self.base),
        };
        Value::from_function(move |event: String, message: Option<String>| {
            let message = message.map_or_else(String::new, |message| format!("&message={}", escaped(&message)));
            let url = format!("{address}{}{message}", escaped(&event));
            reports.add(event);
            url
        })
    }
}

/// A text as a value in a query: all but the unreserved characters of RFC 3986 §2.3 are escaped.
fn escaped(text: &str) -> impl fmt::Display {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, ESCAPED)
}

/// The URL of what a profile names: a path below the assets folder, or a whole URL, which stays as it is.
pub(crate) fn asset_url(base: &str, path: &str) -> String {
    match is_remote(path) {
        true => path.to_owned(),
        false => format!("{base}/assets/{}", escaped_path(path.trim_start_matches('/'))),
    }
}

/// A path as part of a URL.
pub(super) fn escaped_path(path: &str) -> impl fmt::Display {
    /// Unreserved characters of RFC 3986 §2.3, and the slash between segments.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
    utf8_percent_encode(path, ESCAPED)
}

/// A URL for people: a password in it, before the host or as a parameter, is not shown.
#[must_use]
pub fn without_password(url: &str) -> String {
    let (before, query) = url.split_once('?').map_or((url, None), |(before, query)| (before, Some(query)));
    let start = before.find("://").map_or(0, |at| at + "://".len());
    let end = before[start..].find('/').map_or(before.len(), |at| start + at);
    // A password may have an @ that is not escaped.
    let shown = match before[start..end].rfind('@').map(|at| start + at) {
        Some(at) => {
            let user = before[start..at].split(':').next().unwrap_or_default();
            let hidden = if user.len() < at - start { ":***" } else { "" };
            format!("{}{user}{hidden}{}", &before[..start], &before[at..])
        }
        None => before.to_owned(),
    };
    let parameter = |part: &str| match part.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("password") => format!("{name}=***"),
        _ => part.to_owned(),
    };
    match query {
        Some(query) => format!("{shown}?{}", query.split('&').map(parameter).collect::<Vec<_>>().join("&")),
        None => shown,
    }
}

/// A URL of libpq for a library that wants a host: libpq takes `postgres://user@/name?host=/run/postgresql`, with the folder
/// of a socket as a parameter.
#[must_use]
pub fn with_host(url: &str) -> Cow<'_, str> {
    let start = url.find("://").map_or(0, |at| at + "://".len());
    let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    match url[start..end].rfind('@').map(|at| start + at + 1) {
        Some(host) if host == end || url[host..].starts_with(':') => {
            Cow::Owned(format!("{}localhost{}", &url[..host], &url[host..]))
        }
        _ => Cow::Borrowed(url),
    }
}

/// Whether a profile's file is on another server.
#[must_use]
pub fn is_remote(path: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| path.get(..scheme.len()).is_some_and(|own| own.eq_ignore_ascii_case(scheme)))
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    use super::*;

    #[test]
    fn a_url_is_whole_and_percent_encoded() {
        let url = |path| asset_url("http://192.0.2.10:8080", path);
        assert_eq!(url("a dir/ü?.iso"), "http://192.0.2.10:8080/assets/a%20dir/%C3%BC%3F.iso");
        assert_eq!(url("/debian/"), "http://192.0.2.10:8080/assets/debian/");
        assert_eq!(url("https://mirror/x y"), "https://mirror/x y");
        assert!(is_remote("HTTP://mirror/linux") && !is_remote("http/linux") && !is_remote("httpü"));
    }

    #[test]
    fn a_report_is_a_whole_address_and_is_remembered() {
        let server = ServerUrls::new("http://192.0.2.10:8080");
        let context = context! { report => server.report("52:54:00:12:34:56", None) };
        let rendered = |template| Environment::new().render_str(template, &context).expect("rendered");
        let address = "http://192.0.2.10:8080/report?mac=52:54:00:12:34:56&event=";
        assert_eq!(rendered("{{ report('installed') }}"), format!("{address}installed"));
        let said = rendered("{{ report('failed', 'no disk & \"more\"') }}");
        assert_eq!(said, format!("{address}failed&message=no%20disk%20%26%20%22more%22"));
        assert_eq!(server.reports(), ["failed", "installed"].map(String::from).into());
    }

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("postgres://u:secret@db:5432/n?sslmode=require", "postgres://u:***@db:5432/n?sslmode=require"),
            ("postgres://u:se@cret:x@db/n", "postgres://u:***@db/n"),
            (
                "postgres://db/n?user=u&password=secret&sslmode=prefer",
                "postgres://db/n?user=u&password=***&sslmode=prefer",
            ),
            ("postgres://:secret@db", "postgres://:***@db"),
            ("postgres://u@%2Frun%2Fpostgresql/n", "postgres://u@%2Frun%2Fpostgresql/n"),
            ("sqlite:///var/lib/netbootd/state.db?mode=rwc", "sqlite:///var/lib/netbootd/state.db?mode=rwc"),
            ("u:secret@db", "u:***@db"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn a_url_without_a_host_is_one_of_a_socket() {
        for (url, whole) in [
            ("postgres://u@/n?host=/run/postgresql", "postgres://u@localhost/n?host=/run/postgresql"),
            ("postgres://u:p@:5433/n", "postgres://u:p@localhost:5433/n"),
            ("postgres://u@?host=/run/x@y", "postgres://u@localhost?host=/run/x@y"),
            ("postgres://u:se@cret@db/n", "postgres://u:se@cret@db/n"),
            ("postgres:///n?host=/run/postgresql", "postgres:///n?host=/run/postgresql"),
        ] {
            assert_eq!(with_host(url), whole);
        }
    }
}
