//! What the routes answer, whole where it is short.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use netbootd::{
    boot::{mac::MacAddr, machine::Rules, over::Of, roster::Assignment},
    status::access::Via,
    timeline::event::{self, Report, ReportEvent, What},
};
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::server::{Fake, TOKEN, dead, discover, fetched, mac, page, paused, progress, script};

const LOCAL: Via = Via::Tcp(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
const REMOTE: Via = Via::Tcp(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 50)));
const MACHINE: &str = "/machines/52:54:00:6c:62:01";

struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answered {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

async fn ask(router: &Router, request: Request<Body>) -> Answered {
    let response = router.clone().oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    // The engine escapes more than it has to.
    let text = String::from_utf8(bytes.to_vec()).expect("text").replace("&#x2f;", "/");
    Answered { status: parts.status, headers: parts.headers, text }
}

async fn get(router: &Router, path: &str) -> Answered {
    ask(router, Request::get(path).header("host", "localhost:8080").body(Body::empty()).expect("a request")).await
}

async fn post(router: &Router, path: &str, form: &str, headers: &[(&str, &str)]) -> Answered {
    let mut request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(router, request.body(Body::from(form.to_owned())).expect("a request")).await
}

/// The element from this text to the end of its line's tag of the same name.
fn piece<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(from).unwrap_or_else(|| panic!("no {from} in {text}"));
    let end = text[start..].find(to).unwrap_or_else(|| panic!("no {to} behind {from}"));
    &text[start..start + end + to.len()]
}

/// Without tags, a space for each run of white space.
fn words(html: &str) -> String {
    let mut text = String::new();
    let mut is_tag = false;
    for c in html.chars() {
        match c {
            '<' => is_tag = true,
            '>' => (is_tag, text) = (false, text + " "),
            c if !is_tag => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace("&#x2f;", "/")
}

#[tokio::test]
async fn a_row_says_everything_in_words_too() {
    let (router, fake, _) = page(REMOTE);
    fake.starts(3, 200, "UEFI HTTP x86_64", "ubuntu");
    fake.sees(3, 30, paused("debian/vmlinuz", 9_000_000, 14_200_000, 12));
    let text = get(&router, "/").await.text;
    let row = piece(&text, "<li id=\"m-52:54:00:6c:62:03\"", "</div>\n</li>");
    let clock = |kind: &str| {
        let time = piece(row, &format!("data-as=\"{kind}\""), "</time>");
        time.split_once('>').expect("a tag").1.trim_end_matches("</time>").to_owned()
    };
    let expected = format!(
        "gpu-workstation 52:54:00:6c:62:03 10.77.0.103 UEFI HTTP x86_64 Slow but alive Boots next: ubuntu by its rule \
         Discover : done Offer : done Loader : done Script : done Kernel : paused Initrd : to come Handed over : to come \
         debian/vmlinuz 9.0 MB of 14.2 MB Paused {} : the client is alive and asked the server to wait. \
         Last heard {} Change what gpu-workstation boots",
        clock("for"),
        clock("ago")
    );
    assert_eq!(words(row), expected);
    let bar = "<progress max=\"14200000\" value=\"9000000\" aria-label=\"debian/vmlinuz, Kernel\"></progress>";
    assert!(row.contains(bar), "{row}");
    // The clock's time is the server's, and who looks may be in another time zone.
    assert!(text.contains(" · times in UTC"), "{text}");
}

#[tokio::test]
async fn what_needs_somebody_is_first_and_is_counted() {
    let (router, fake, _) = page(REMOTE);
    fake.starts(4, 900, "BIOS", "debian");
    fake.sees(4, 880, fetched(Of::Asset, "debian/vmlinuz", 14_200_000));
    fake.sees(4, 870, fetched(Of::Asset, "debian/initrd.img", 168_000_000));
    fake.starts(1, 25, "UEFI x86_64", "debian");
    fake.starts(3, 200, "UEFI x86_64", "debian");
    fake.sees(3, 30, paused("debian/vmlinuz", 9_000_000, 14_200_000, 12));
    fake.starts(2, 240, "UEFI x86_64", "debian");
    fake.sees(2, 40, dead("debian/vmlinuz", 61_000, 168_000));
    let answered = get(&router, "/").await;
    let order: Vec<&str> =
        answered.text.split("data-name=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(order, ["rack1-node02", "gpu-workstation", "rack1-node01", "52:54:00:6c:62:04", "spare"]);
    let summary = words(piece(&answered.text, "<div id=\"summary\"", "</div>"));
    assert_eq!(summary, "1 stopped 1 slow but alive 1 booting 1 handed over 5 machines in all");
    let stopped = get(&router, "/?state=stopped").await.text;
    assert_eq!(stopped.matches("data-name=").count(), 1);
    assert!(words(&stopped).contains("Stopped at Kernel: Dead: no acknowledgement of any kind for 151 s, 9 retransmissions unanswered. To fix it: Check its power"), "{}", words(&stopped));
    let found = get(&router, "/?q=RACK1+deb").await.text;
    assert_eq!(found.matches("data-name=").count(), 2);
    for spelling in ["52-54-00-6C-62-02", "5254.006c.6202", "5254006c6202"] {
        let found = get(&router, &format!("/?q={spelling}")).await.text;
        assert_eq!(found.matches("data-name=").count(), 1, "{spelling}");
        assert!(found.contains("data-name=\"rack1-node02\""), "{spelling}");
    }
    let nothing = words(&get(&router, "/?q=nowhere").await.text);
    assert!(nothing.contains("No machine matches."), "{nothing}");
}

/// Names of files, firmware, refusals, what machines say of themselves, and addresses.
#[tokio::test]
async fn what_comes_from_the_wire_is_text_and_no_markup() {
    const EVIL: &str = "</b><script>alert(1)</script>\"' onclick=x &amp;";
    let (router, fake, _) = page(REMOTE);
    fake.sees(1, 9, discover(EVIL));
    fake.sees(1, 9, What::Offer(EVIL.into()));
    fake.sees(1, 9, script(1, EVIL));
    fake.sees(1, 8, progress(EVIL, 5, 9, 3));
    fake.sees(1, 8, What::Said(EVIL.into()));
    fake.sees(1, 8, What::Report(Report { event: ReportEvent::Other(EVIL.into()), text: EVIL.into() }));
    fake.sees(1, 8, What::Request(Box::new(event::Request::new(67, EVIL.as_bytes()))));
    fake.sees(2, 9, discover(EVIL));
    fake.sees(2, 8, What::Report(Report { event: ReportEvent::Failed, text: EVIL.into() }));
    fake.sees(3, 9, script(1, EVIL));
    fake.sees(3, 8, dead(EVIL, 5, 9));
    let evil = "%3C%2Fb%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27";
    for path in [
        "/",
        &format!("/?q={evil}"),
        &format!("/?state={evil}"),
        MACHINE,
        "/machines/52:54:00:6c:62:02",
        "/machines/52:54:00:6c:62:03",
        &format!("/machines/{evil}"),
        &format!("{MACHINE}?done={evil}"),
    ] {
        let text = get(&router, path).await.text;
        assert!(!text.contains("<script>") && !text.contains("</b><script"), "{path}: {text}");
        assert_eq!(text.matches("<script").count(), 1, "{path}");
        assert!(!text.contains("onclick=x &amp;&"), "{path}");
    }
    assert!(get(&router, MACHINE).await.text.contains("&lt;script&gt;alert(1)"), "it is shown as it came");
}

#[tokio::test]
async fn every_page_is_protected_and_takes_nothing_from_elsewhere() {
    let (router, fake, _) = page(LOCAL);
    fake.starts(1, 25, "UEFI x86_64", "debian");
    for path in ["/", MACHINE, "/leases", "/sign-in", "/machines/nobody", "/static/nothing.css"] {
        let answered = get(&router, path).await;
        assert_eq!(
            answered.header("content-security-policy"),
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        );
        assert_eq!(answered.header("x-content-type-options"), "nosniff");
        assert_eq!((answered.header("x-frame-options"), answered.header("referrer-policy")), ("DENY", "same-origin"));
        assert_eq!(answered.header("cache-control"), "no-store", "{path}");
        for from_elsewhere in [" style=", "<style", "=\"http", "=\"//", "<script>", " onclick", " onload"] {
            assert!(!answered.text.contains(from_elsewhere), "{path} has {from_elsewhere}");
        }
    }
    assert_eq!(get(&router, "/machines/nobody").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn leases_are_shown_with_their_networks_and_machines() {
    let (router, ..) = page(REMOTE);
    let text = get(&router, "/leases").await.text;
    for words in [
        "<b>eth1</b>:\n192.0.2.100-192.0.2.109; 1 of 10 addresses are in use",
        "192.0.2.100-192.0.2.109; asking whether another DHCP server is there",
        "no leases: the DHCP server &lt;b&gt;192.0.2.254&lt;/b&gt; leases here",
        "<td>192.0.2.101</td><td><a href=\"/machines/52:54:00:6c:62:01\">",
        "<td>released, ended</td>",
    ] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
}

#[tokio::test]
async fn files_are_kept_by_browsers_until_they_are_others() {
    let (router, ..) = page(REMOTE);
    let text = get(&router, "/").await.text;
    for (name, kind) in [("status.", "text/css; charset=utf-8"), ("status.", "text/javascript; charset=utf-8")] {
        let suffix = if kind.contains("css") { ".css" } else { ".js" };
        let path = text.split('"').find(|part| {
            part.strip_prefix("/static/").is_some_and(|file| file.starts_with(name) && file.ends_with(suffix))
        });
        let path = path.expect("an address");
        let file = get(&router, path).await;
        assert_eq!((file.status, file.header("content-type")), (StatusCode::OK, kind));
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable");
        let known = Request::get(path).header("if-none-match", file.header("etag")).body(Body::empty());
        let again = ask(&router, known.expect("a request")).await;
        assert_eq!((again.status, again.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    }
}

fn assigned(fake: &Fake) -> Option<Assignment> {
    fake.live.roster.load().of(mac(1)).and_then(|entry| entry.assigned.clone())
}

const OWN: &[(&str, &str)] = &[("host", "localhost:8080"), ("origin", "http://localhost:8080")];

#[tokio::test]
async fn a_form_on_this_host_assigns_and_takes_back() {
    let (router, fake, _) = page(LOCAL);
    assert!(get(&router, "/").await.text.contains("class=\"may-change\""));
    let done = post(&router, &format!("{MACHINE}/assign"), "profile=ubuntu&when=once", OWN).await;
    assert_eq!(
        (done.status, done.header("location")),
        (StatusCode::SEE_OTHER, "/machines/52:54:00:6c:62:01?done=once")
    );
    assert_eq!(assigned(&fake), Some(Assignment { profile: "ubuntu".into(), once: true }));
    let shown = words(&get(&router, done.header("location")).await.text);
    assert!(
        shown.contains("Assigned for the next boot") && shown.contains("Boots next ubuntu assigned, once"),
        "{shown}"
    );
    let done = post(&router, "/machines/rack1-node01/assign", "profile=debian&when=always", OWN).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert_eq!(assigned(&fake), Some(Assignment { profile: "debian".into(), once: false }));
    let refused = post(&router, &format!("{MACHINE}/assign"), "profile=%3Cdebain%3E", OWN).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        words(&refused.text).contains("Nothing was changed: there is no profile &quot;&lt;debain&gt;&quot;."),
        "{}",
        words(&refused.text)
    );
    let done = post(&router, &format!("{MACHINE}/unassign"), "", OWN).await;
    assert_eq!((done.status, assigned(&fake)), (StatusCode::SEE_OTHER, None));
}

async fn post_as(router: &Router, permission: &str, headers: &[(&str, &str)]) -> Answered {
    let path = "/machines/52:54:00:6c:62:77/permit";
    post(router, path, &format!("permission={permission}"), headers).await
}

/// The answers that a machine's page offers.
fn offered(text: &str) -> Vec<&str> {
    let parts = text.split("name=\"permission\" value=\"").skip(1);
    parts.filter_map(|part| part.split('"').next()).collect()
}

#[tokio::test]
async fn a_machine_that_nobody_knows_is_allowed_once_or_always_or_not_where_only_known_ones_are_answered() {
    let (router, fake, _) = page(LOCAL);
    let stranger = "/machines/52:54:00:6c:62:77";
    let shown = async || get(&router, stranger).await.text;
    let none: [&str; 0] = [];
    assert_eq!(offered(&shown().await), none, "all machines are answered");
    fake.live.rules.store(Arc::new(Rules { known_only: true, default_profile: "menu".into(), ..Rules::default() }));
    assert_eq!(offered(&shown().await), ["once", "always", "no"]);
    let said = |permission: &'static str| post_as(&router, permission, OWN);
    for (answer, done, words_of_it, is_answered, left) in [
        ("no", "denied", "not answered while this server runs", false, &["once", "always"][..]),
        ("once", "allowed_once", "It may boot this time", true, &["always", "no"]),
        ("always", "allowed", "Remove the approval", true, &[]),
    ] {
        let answered = said(answer).await;
        assert_eq!(
            (answered.status, answered.header("location")),
            (StatusCode::SEE_OTHER, format!("{stranger}?done={done}").as_str())
        );
        let text = get(&router, answered.header("location")).await.text;
        assert!(words(&text).contains(words_of_it), "{answer}: {text}");
        assert_eq!(words(&text).contains("Boots next menu the default"), is_answered, "{answer}: {text}");
        assert_eq!(offered(&text), left, "{answer}");
    }
    post(&router, &format!("{stranger}/unapprove"), "", OWN).await;
    fake.live.rules.load().strangers.forget(mac(0x77).into());
    assert_eq!(offered(&shown().await), ["once", "always", "no"]);
    assert_eq!(said("perhaps").await.status, StatusCode::BAD_REQUEST);
    let evil = [("host", "localhost:8080"), ("origin", "http://evil.example")];
    assert_eq!(post_as(&router, "always", &evil).await.status, StatusCode::FORBIDDEN);
    assert_eq!(offered(&shown().await), ["once", "always", "no"]);
}

#[tokio::test]
async fn another_proxy_is_on_the_page_while_only_known_machines_are_answered_because_of_it() {
    let (router, fake, _) = page(LOCAL);
    let strangers = fake.live.rules.load().strangers.clone();
    strangers.other_proxy_answers([192, 0, 2, 9].into());
    assert!(!get(&router, "/").await.text.contains("only known machines are answered"), "nobody asked for it");
    strangers.be_careful();
    strangers.other_proxy_answers([192, 0, 2, 9].into());
    let text = get(&router, "/").await.text;
    assert!(text.contains("another ProxyDHCP server answers here: 192.0.2.9"), "{text}");
    assert_eq!(offered(&get(&router, "/machines/52:54:00:6c:62:77").await.text), ["once", "always", "no"]);
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let (router, fake, _) = page(LOCAL);
    for origin in ["http://evil.example", "http://localhost:9090", "null"] {
        let headers = [("host", "localhost:8080"), ("origin", origin)];
        let refused = post(&router, &format!("{MACHINE}/assign"), "profile=ubuntu", &headers).await;
        assert_eq!((refused.status, assigned(&fake)), (StatusCode::FORBIDDEN, None), "{origin}");
    }
    // This host's address under a name of the attacker's: the page is then its own, and the name tells.
    let rebound = [("host", "evil.example:8080"), ("origin", "http://evil.example:8080")];
    let refused = post(&router, &format!("{MACHINE}/assign"), "profile=ubuntu", &rebound).await;
    assert_eq!((refused.status, assigned(&fake)), (StatusCode::UNAUTHORIZED, None));
}

#[tokio::test]
async fn who_comes_from_elsewhere_signs_in_with_the_token() {
    let (router, fake, _) = page(REMOTE);
    let shown = get(&router, MACHINE).await.text;
    assert!(!shown.contains("<select") && !shown.contains("may-change") && shown.contains("href=\"/sign-in\""));
    let host = ("host", "10.77.0.2:8080");
    let own = ("origin", "http://10.77.0.2:8080");
    let refused = post(&router, &format!("{MACHINE}/assign"), "profile=ubuntu", &[host, own]).await;
    assert_eq!((refused.status, assigned(&fake)), (StatusCode::UNAUTHORIZED, None));
    let shown = words(&refused.text);
    assert!(
        shown.contains("Nothing was changed: you are not signed in any more.") && shown.contains("Token"),
        "{shown}"
    );
    let refused = post(&router, "/sign-in", "token=0123456789abcdee", &[host, own]).await;
    assert_eq!((refused.status, refused.header("set-cookie")), (StatusCode::FORBIDDEN, ""));
    assert!(words(&refused.text).contains("This is not the token."));
    // A proxy that sends a Host of its own: over TLS the browser says that it is its own page, else nobody does.
    let form = format!("token={TOKEN}");
    let proxied = [("host", "127.0.0.1:8080"), ("origin", "https://boot.lab"), ("sec-fetch-site", "same-origin")];
    let signed_in = post(&router, "/sign-in", &form, &proxied).await;
    assert_eq!((signed_in.status, signed_in.header("location")), (StatusCode::SEE_OTHER, "/"));
    let refused = post(&router, "/sign-in", &form, &proxied[..2]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(words(&refused.text).contains("proxy_set_header Host $http_host"), "{}", words(&refused.text));
    let signed_in = post(&router, "/sign-in", &form, &[host, own]).await;
    assert_eq!((signed_in.status, signed_in.header("location")), (StatusCode::SEE_OTHER, "/"));
    let cookie = signed_in.header("set-cookie");
    assert!(
        cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict") && !cookie.contains(TOKEN),
        "{cookie}"
    );
    let cookie = ("cookie", cookie.split(';').next().expect("a pair"));
    let seen = Request::get(MACHINE).header(cookie.0, cookie.1).body(Body::empty());
    let seen = ask(&router, seen.expect("a request")).await.text;
    assert!(seen.contains("<select") && seen.contains("Sign out"), "{seen}");
    let done = post(&router, &format!("{MACHINE}/assign"), "profile=ubuntu", &[host, own, cookie]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert_eq!(assigned(&fake), Some(Assignment { profile: "ubuntu".into(), once: false }));
    let out = post(&router, "/sign-out", "", &[host, own, cookie]).await;
    assert!(out.header("set-cookie").starts_with("netbootd=; Path=/; Max-Age=0"), "{}", out.header("set-cookie"));
}

/// The event stream of an address, as far as it goes.
async fn live(router: &Router, path: &str) -> (StatusCode, Body) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("an answer");
    (response.status(), response.into_body())
}

/// The next event; `None` at the stream's end.
async fn next(body: &mut Body) -> Option<serde_json::Value> {
    loop {
        let frame = timeout(Duration::from_secs(20), body.frame()).await.expect("no event in 20 s")?;
        let bytes = frame.expect("a frame").into_data().expect("data");
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        if let Some(data) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
            return Some(serde_json::from_str(data).expect("JSON"));
        }
    }
}

fn ids(event: &serde_json::Value) -> Vec<&str> {
    event["html"].as_object().expect("pieces").keys().map(String::as_str).collect()
}

#[tokio::test]
async fn changes_come_by_themselves_and_only_they() {
    let (router, fake, stop) = page(REMOTE);
    fake.starts(1, 25, "UEFI x86_64", "debian");
    let text = get(&router, "/").await.text;
    let address = text.split("data-live=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an address");
    let address = address.replace("&amp;", "&");
    let (_, mut body) = live(&router, &address).await;
    let first = next(&mut body).await.expect("an event");
    assert_eq!(ids(&first), ["faults", "summary"], "the page has its rows");
    assert_eq!(first["order"][0], "m-52:54:00:6c:62:01");
    fake.sees(1, 0, progress("debian/vmlinuz", 7_000_000, 14_000_000, 3_000_000));
    let event = next(&mut body).await.expect("an event");
    assert_eq!(ids(&event), ["m-52:54:00:6c:62:01"]);
    assert!(
        event["html"]["m-52:54:00:6c:62:01"]
            .as_str()
            .is_some_and(|row| words(row).contains("7.0 MB of 14.0 MB 3.0 MB/s"))
    );
    assert!(event["order"].is_null());
    fake.sees(1, 0, dead("debian/vmlinuz", 7_000_000, 14_000_000));
    fake.sees(7, 0, discover("BIOS"));
    let event = next(&mut body).await.expect("an event");
    assert_eq!(ids(&event), ["m-52:54:00:6c:62:01", "m-52:54:00:6c:62:07", "summary"]);
    let (_, mut machine) = live(&router, "/live?machine=52:54:00:6c:62:07").await;
    assert_eq!(ids(&next(&mut machine).await.expect("an event")), ["machine"]);
    // A page that was made by another server is told everything.
    let (_, mut other) = live(&router, "/live?after=1-5&q=rack1").await;
    assert_eq!(
        ids(&next(&mut other).await.expect("an event")),
        ["faults", "m-52:54:00:6c:62:01", "m-52:54:00:6c:62:02", "summary"]
    );
    // What is wrong with the server is no row.
    fake.live.lease_faults.store(Arc::new(vec!["another DHCP server leases on eth1".into()]));
    let event = next(&mut other).await.expect("an event");
    assert_eq!(ids(&event), ["faults"]);
    let faults = words(event["html"]["faults"].as_str().expect("faults"));
    assert_eq!(faults, "1 fault: everything else is served another DHCP server leases on eth1");
    assert!(words(&get(&router, "/").await.text).contains(&faults));
    stop.cancel();
    for body in [&mut body, &mut machine] {
        while next(body).await.is_some() {}
    }
    assert_eq!(next(&mut other).await, None, "it goes on though the server stops");
}

/// Its script and its styles are of another version than the pieces that it would be sent.
#[tokio::test]
async fn a_page_of_another_version_is_loaded_anew() {
    let (router, ..) = page(REMOTE);
    for path in ["/live?made=0123456789ab&q=", "/live?made=0123456789ab&machine=52:54:00:6c:62:07"] {
        let (_, body) = live(&router, path).await;
        let text = body.collect().await.expect("a body").to_bytes();
        assert_eq!(&text[..], b"event: reload\ndata: -\n\n", "{path}");
    }
}

/// What stopped because nothing followed is shown so without an event of its own.
#[tokio::test]
async fn a_boot_that_time_has_stopped_is_told_too() {
    let (router, fake, _) = page(REMOTE);
    fake.sees(7, 38, discover("BIOS"));
    let (_, mut body) = live(&router, "/live?q=07").await;
    assert!(
        words(next(&mut body).await.expect("an event")["html"]["m-52:54:00:6c:62:07"].as_str().expect("a row"))
            .contains("Booting")
    );
    let event = next(&mut body).await.expect("an event");
    assert!(
        words(event["html"]["m-52:54:00:6c:62:07"].as_str().expect("a row"))
            .contains("Stopped at Discover: It keeps asking"),
        "{event}"
    );
}

#[tokio::test]
async fn viewers_are_bounded_and_their_places_come_back() {
    let (router, ..) = page(REMOTE);
    let mut viewers = Vec::new();
    for _ in 0..64 {
        let (status, body) = live(&router, "/live").await;
        assert_eq!(status, StatusCode::OK);
        viewers.push(body);
    }
    assert_eq!(live(&router, "/live").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&router, "/").await.status, StatusCode::OK, "the page itself is there");
    viewers.pop();
    assert_eq!(live(&router, "/live").await.0, StatusCode::OK);
}

/// The first look renders the rows, the next ones find them. Times are for an idle machine and a debug build.
#[tokio::test]
async fn a_thousand_machines_make_no_page_of_a_thousand_rows() {
    let (router, fake, _) = page(REMOTE);
    crowd(&fake, 1000);
    for (path, rows) in [("/", 200), ("/", 200), ("/?all=1", 1004), ("/?all=1", 1004)] {
        let began = std::time::Instant::now();
        let text = get(&router, path).await.text;
        println!("{path}: {rows} rows in {:?}, {} kB", began.elapsed(), text.len() / 1000);
        assert_eq!(text.matches("data-name=").count(), rows);
        assert!(text.len() < rows * 4000);
    }
    assert!(words(&get(&router, "/").await.text).contains("804 more are not shown. Show all"));
}

/// Downloads go before: what one viewer gets is bounded, however many machines get on.
#[tokio::test]
async fn a_viewer_of_a_thousand_rows_is_sent_no_more_than_its_share() {
    let (router, fake, _) = page(REMOTE);
    crowd(&fake, 1000);
    // Before the first one is made, since its share counts from then.
    let (began, cpu) = (std::time::Instant::now(), cpu_ticks());
    let (_, mut body) = live(&router, "/live?all=1").await;
    let (mut bytes, mut last) = (0, 0);
    for _ in 0..4 {
        last = next(&mut body).await.expect("an event").to_string().len();
        bytes += last;
        crowd(&fake, 1000);
    }
    let (took, cpu) = (began.elapsed(), cpu_ticks() - cpu);
    println!("4 events of {} kB in {took:?}, {cpu} hundredths of a second of CPU time", bytes / 4000);
    assert!((bytes - last) as f64 / took.as_secs_f64() < 510e3, "{bytes} bytes in {took:?}");
}

/// Of this process, in hundredths of a second (proc(5), utime and stime).
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let fields = stat.rsplit(") ").next().expect("fields").split(' ');
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

pub(crate) fn crowd(fake: &Arc<Fake>, count: u16) {
    for number in 0..count {
        let [high, low] = number.to_be_bytes();
        let mac = MacAddr([0x52, 0x54, 0x01, 0, high, low]);
        fake.sees_of(mac, 20, discover("UEFI x86_64"));
        fake.sees_of(mac, 20, What::Offer("snponly.efi by TFTP from 10.77.0.2".into()));
        fake.sees_of(mac, 19, fetched(Of::Loader, "snponly.efi", 173_792));
        fake.sees_of(mac, 18, discover("iPXE on UEFI x86_64"));
        fake.sees_of(mac, 17, script(1, "debian"));
        fake.sees_of(mac, 5, fetched(Of::Asset, "debian/vmlinuz", 14_200_000));
        fake.sees_of(mac, 1, progress("debian/initrd.img", 1_000_000 + u64::from(number), 168_000_000, 9_400_000));
    }
}
