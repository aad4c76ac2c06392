//! The page's own files. Their names hold a hash of what is in them: a browser that has one never asks again, and has
//! another after an update.

use std::{collections::BTreeMap, fmt::Write as _, sync::LazyLock};

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

struct File {
    kind: &'static str,
    etag: String,
    text: &'static str,
}

/// By the name in the address.
static FILES: LazyLock<BTreeMap<String, File>> = LazyLock::new(|| {
    let file = |(name, kind, text): (&str, &'static str, &'static str)| {
        let address = hashed(name, text);
        let etag = format!("\"{address}\"");
        (address, File { kind, etag, text })
    };
    SOURCES.into_iter().map(file).collect()
});

const SOURCES: [(&str, &str, &str); 3] = [
    ("status.css", "text/css; charset=utf-8", include_str!("../../../assets/status.css")),
    ("status.js", "text/javascript; charset=utf-8", include_str!("../../../assets/status.js")),
    ("icon.svg", "image/svg+xml", include_str!("../../../assets/icon.svg")),
];

/// Where a page finds a file.
pub(super) fn address(name: &str) -> Option<String> {
    let (name, _, text) = SOURCES.into_iter().find(|(known, ..)| *known == name)?;
    Some(format!("/static/{}", hashed(name, text)))
}

/// Of all files together: what a page was made with.
pub(super) fn made() -> &'static str {
    static MADE: LazyLock<String> = LazyLock::new(|| {
        let texts = SOURCES.map(|(.., text)| text).concat();
        hash(&(texts + env!("CARGO_PKG_VERSION")))
    });
    &MADE
}

fn hashed(name: &str, text: &str) -> String {
    let (stem, suffix) = name.split_once('.').unwrap_or((name, ""));
    format!("{stem}.{}.{suffix}", hash(text))
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(6).fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

/// `GET /static/NAME`.
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(File { kind, etag, text }) = FILES.get(&name) else {
        return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
    };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    let about = [(header::ETAG, etag.as_str()), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    if known.is_some_and(|known| known.contains(etag.as_str())) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(header::CONTENT_TYPE, *kind)], *text).into_response()
}
