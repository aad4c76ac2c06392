//! A folder of `/assets/` as a small page, or as JSON for programs (`http.listing`).

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::Serialize;

use crate::{
    boot::{text::escaped_for_markup, urls::asset_url},
    files::listing::{Entry, Kind},
};

/// Names as nginx's autoindex has them, so that programs that read its listings read these.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// Whether a program asks: by `?format=json` or by its Accept header.
pub(super) fn wants_json(query: Option<&str>, headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let named = |types: &str| types.split([',', ';']).any(|part| part.trim().eq_ignore_ascii_case("application/json"));
    query.is_some_and(|query| query.split('&').any(|pair| pair == "format=json")) || accept.into_iter().any(named)
}

/// The answer for a folder by its path below the assets folder.
pub(super) fn listing(folder: &str, entries: &[Entry], json: bool) -> Response {
    let (kind, text) = if json {
        ("application/json", serde_json::to_string(&entries.iter().map(row).collect::<Vec<_>>()).unwrap_or_default())
    } else {
        ("text/html; charset=utf-8", page(folder.trim_matches('/'), entries))
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], text).into_response()
}

fn row(entry: &Entry) -> Row<'_> {
    let (kind, size) = match entry.kind {
        Kind::Folder => ("directory", None),
        Kind::File { size } => ("file", Some(size)),
    };
    Row { name: &entry.name, kind, mtime: httpdate::fmt_http_date(entry.modified), size }
}

/// Links are whole paths: relative ones would need a slash at the folder's end, and there are no redirects to add it.
fn page(folder: &str, entries: &[Entry]) -> String {
    let title = escaped_for_markup(&format!("/assets/{folder}"));
    let mut rows = String::new();
    if !folder.is_empty() {
        let above = folder.rsplit_once('/').map_or("", |(above, _)| above);
        rows.push_str(&format!("<tr><td><a href=\"{}\">../</a>\n", asset_url("", above)));
    }
    for entry in entries {
        let Row { name, size, mtime, .. } = row(entry);
        let slash = if size.is_none() { "/" } else { "" };
        let link = asset_url("", format!("{folder}/{name}{slash}").trim_start_matches('/'));
        let size = size.map(|size| size.to_string()).unwrap_or_default();
        rows.push_str(&format!(
            "<tr><td><a href=\"{link}\">{}{slash}</a><td align=right>{size}<td>{mtime}\n",
            escaped_for_markup(name)
        ));
    }
    format!("<!doctype html><meta charset=utf-8><title>{title}</title>\n<h1>{title}</h1>\n<table>\n{rows}</table>\n")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn entries() -> Vec<Entry> {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let entry = |name: &str, kind| Entry { name: name.into(), kind, modified };
        vec![entry("12", Kind::Folder), entry("<b>&\"c'", Kind::File { size: 9 })]
    }

    #[test]
    fn a_page_has_whole_links_and_no_markup_of_names() {
        let expected = "<!doctype html><meta charset=utf-8><title>/assets/debian</title>\n<h1>/assets/debian</h1>\n\
                        <table>\n<tr><td><a href=\"/assets/\">../</a>\n\
                        <tr><td><a href=\"/assets/debian/12/\">12/</a><td align=right><td>Sun, 06 Nov 1994 08:49:37 GMT\n\
                        <tr><td><a href=\"/assets/debian/%3Cb%3E%26%22c%27\">&lt;b&gt;&amp;&quot;c&#39;</a>\
                        <td align=right>9<td>Sun, 06 Nov 1994 08:49:37 GMT\n</table>\n";
        assert_eq!(page("debian", &entries()), expected);
        assert!(page("", &entries()).contains("<a href=\"/assets/12/\">") && !page("", &[]).contains("../"));
    }

    #[test]
    fn json_has_the_names_that_programs_know() {
        let rows = serde_json::to_string(&entries().iter().map(row).collect::<Vec<_>>()).expect("JSON");
        let expected = "[{\"name\":\"12\",\"type\":\"directory\",\"mtime\":\"Sun, 06 Nov 1994 08:49:37 GMT\"},\
                        {\"name\":\"<b>&\\\"c'\",\"type\":\"file\",\"mtime\":\"Sun, 06 Nov 1994 08:49:37 GMT\",\"size\":9}]";
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_program_asks_by_its_query_or_by_what_it_accepts() {
        let accepts = |value: &'static str| HeaderMap::from_iter([(header::ACCEPT, value.parse().expect("a value"))]);
        assert!(
            wants_json(Some("format=json"), &HeaderMap::new()) && wants_json(Some("a=b&format=json"), &accepts("*/*"))
        );
        assert!(wants_json(None, &accepts("text/plain, Application/JSON;q=0.9")));
        assert!(!wants_json(None, &HeaderMap::new()) && !wants_json(Some("format=html"), &accepts("text/html, */*")));
    }
}
