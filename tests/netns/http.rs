//! HTTP against curl, and against a client that stops reading.

use std::{
    io::{Read, Write},
    net::Shutdown,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::uninterrupted;

use crate::bench::{Bench, SERVER, SMALL, SOON, file, noise};

/// Status and headers of a HEAD, in lower case.
fn head(bench: &Bench, arguments: &[&str], path: &str) -> Result<(String, Vec<String>)> {
    let text = String::from_utf8(bench.curl(&[&["--head"], arguments].concat(), path)?)?.to_lowercase();
    let mut lines = text.lines().map(str::to_owned);
    let status = lines.next().context("no status")?;
    Ok((status, lines.filter(|line| !line.is_empty()).collect()))
}

fn value(headers: &[String], name: &str) -> Option<String> {
    headers.iter().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
}

#[test]
fn curl_gets_files_whole_and_in_parts() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let initrd = noise(24_000_001, 2);
    let path = "/assets/debian/initrd.img";
    ensure!(bench.curl(&[], path)? == initrd, "other bytes");
    ensure!(bench.curl(&[], "//assets//debian//initrd.img")? == initrd, "double slashes");
    ensure!(bench.curl(&[], "/assets/debian/initrd%2eimg")? == initrd, "an escaped dot");
    ensure!(bench.curl(&["--range", "1000000-1999999"], path)? == initrd[1_000_000..2_000_000], "a range");
    ensure!(bench.curl(&["--range", "-5"], path)? == initrd[24_000_001 - 5..], "the last bytes");
    ensure!(bench.curl(&[], "/loaders/snponly.efi")? == file("/usr/lib/ipxe/snponly.efi")?, "the loader");

    let (status, headers) = head(&bench, &[], path)?;
    ensure!(status.starts_with("http/1.1 200"), "{status}");
    ensure!(value(&headers, "content-length").as_deref() == Some("24000001"), "{headers:?}");
    ensure!(value(&headers, "accept-ranges").as_deref() == Some("bytes"), "{headers:?}");
    ensure!(value(&headers, "content-encoding").is_none() && value(&headers, "transfer-encoding").is_none());
    ensure!(value(&headers, "last-modified").is_some(), "{headers:?}");
    let etag = value(&headers, "etag").context("no etag")?;
    let (_, headers) = head(&bench, &[], "/loaders/snponly.efi")?;
    ensure!(value(&headers, "content-type").as_deref() == Some("application/efi"), "{headers:?}");
    ensure!(value(&headers, "content-length").as_deref() == Some("173792"), "{headers:?}");

    let (status, headers) = head(&bench, &["--range", "5-9"], path)?;
    ensure!(status.starts_with("http/1.1 206"), "{status}");
    ensure!(value(&headers, "content-range").as_deref() == Some("bytes 5-9/24000001"), "{headers:?}");
    let (status, headers) = head(&bench, &["--range", "24000001-"], path)?;
    ensure!(status.starts_with("http/1.1 416"), "{status}");
    ensure!(value(&headers, "content-range").as_deref() == Some("bytes */24000001"), "{headers:?}");
    let same = format!("If-None-Match: {etag}");
    ensure!(head(&bench, &["--header", &same], path)?.0.starts_with("http/1.1 304"));
    let stale = ["--header", "If-Range: \"other\"", "--range", "5-9"];
    ensure!(head(&bench, &stale, path)?.0.starts_with("http/1.1 200"), "a stale If-Range");
    ensure!(head(&bench, &["--header", "If-Match: \"other\""], path)?.0.starts_with("http/1.1 412"));
    // RFC 9110 §9.3.7: of the server as a whole.
    let options = ["--request", "OPTIONS", "--request-target", "*", "--include"];
    let options = String::from_utf8(bench.curl(&options, "/")?)?.to_lowercase();
    ensure!(options.starts_with("http/1.1 204") && options.contains("allow: get,head"), "{options}");
    // §8.8.2.1: never later than Date.
    let ahead = SystemTime::now() + Duration::from_secs(86_400);
    std::fs::File::options().write(true).open(bench.assets.join("debian/initrd.img"))?.set_modified(ahead)?;
    let shown = String::from_utf8(bench.curl(&["--head"], path)?)?;
    let date = |name: &str| {
        let text = shown.lines().find_map(|line| line.strip_prefix(name)).context("no date")?;
        anyhow::Ok(httpdate::parse_http_date(text)?)
    };
    ensure!(date("Last-Modified: ")? <= date("Date: ")?, "{shown}");
    ensure!(bench.curl(&[], "/healthz")? == b"ok\n" && bench.curl(&[], "/readyz")? == b"ready\n");
    Ok(())
}

#[test]
fn nothing_outside_of_the_folder_is_served() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    std::os::unix::fs::symlink("../secret", bench.assets.join("link"))?;
    for path in [
        "/assets/../secret",
        "/assets/%2e%2e/secret",
        "/assets/..%2fsecret",
        "/assets/link",
        "/assets//etc/passwd",
        "/assets/%00",
        "/assets/%ff",
        "/assets/debian",
        "/assets/",
        "/loaders/../../etc/passwd",
        "/loaders/nothing.efi",
        "/nothing",
    ] {
        let status = bench.curl(&["--output", "/dev/null", "--write-out", "%{http_code}"], path)?;
        let status = String::from_utf8(status)?;
        ensure!(status == "404" || status == "400", "{path} got {status}");
    }
    Ok(())
}

#[test]
fn folders_are_shown_where_that_is_wanted_and_nothing_outside_of_them() -> Result<()> {
    let Some(bench) = Bench::with_configuration("[http]\nlisting = true\n")? else { return Ok(()) };
    std::os::unix::fs::symlink("../secret", bench.assets.join("link"))?;
    std::fs::write(bench.assets.join(".hidden"), "hidden")?;
    let names = |arguments: &[&str], path: &str| -> Result<Vec<String>> {
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&bench.curl(arguments, path)?)?;
        Ok(rows.iter().map(|row| row["name"].as_str().unwrap_or_default().to_owned()).collect())
    };
    ensure!(names(&[], "/assets/?format=json")? == ["debian", "vmlinuz"]);
    ensure!(names(&[], "/assets?format=json")? == ["debian", "vmlinuz"], "without the slash, as of other folders");
    ensure!(names(&["--header", "Accept: application/json"], "/assets/debian")? == ["initrd.img"]);
    let page = String::from_utf8(bench.curl(&[], "/assets/debian/")?)?;
    ensure!(
        page.contains("<a href=\"/assets/debian/initrd.img\">initrd.img</a><td align=right>24000001<td>"),
        "{page}"
    );
    ensure!(head(&bench, &[], "/assets/")?.0.starts_with("http/1.1 200"));
    for path in ["/assets/nothing", "/assets/link", "/assets/../", "/assets/%2e%2e/", "/assets/.hidden/", "/loaders/"] {
        ensure!(head(&bench, &[], path)?.0.starts_with("http/1.1 404"), "{path}");
    }
    ensure!(bench.curl(&[], "/assets/vmlinuz")? == noise(3_000_000, 1), "other bytes");
    Ok(())
}

#[test]
fn a_script_comes_whatever_is_asked() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let script = |query: &str| -> Result<String> {
        let got = bench.curl(&["--write-out", "%{http_code}"], &format!("/boot.ipxe{query}"))?;
        let got = String::from_utf8(got)?;
        ensure!(got.starts_with("#!ipxe\n") && got.ends_with("200"), "{got}");
        Ok(got)
    };
    let boot = script("?mac=52:54:00:12:34:56&uuid=&serial=&arch=x86_64&platform=efi")?;
    let kernel = "\nkernel http://10.77.0.2:8080/assets/vmlinuz initrd=initrd.img console=ttyS0 \
                  hostname=52-54-00-12-34-56 || goto failed\n\
                  initrd --name initrd.img http://10.77.0.2:8080/assets/debian/initrd.img || goto failed\n";
    ensure!(boot.contains(kernel), "{boot}");
    ensure!(script("")?.contains("/boot.ipxe?mac=${netX/mac}&"));
    ensure!(script("?mac=nobody")?.contains("netbootd has no boot for this machine:\necho the request's mac is wrong"));
    ensure!(script("?mac=%ff%fe")?.contains("netbootd has no boot for this machine"));
    ensure!(script("?mac=52:54:00:12:34:56&mac=1")?.contains("netbootd has no boot for this machine"));
    ensure!(script("?mac=52:54:00:12:34:56&profile=other")?.contains("there is no profile \"other\""));
    Ok(())
}

/// The fault that this project was begun for: a BIOS client that stops reading for longer than some timer.
fn pauses(pause: Duration) -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let initrd = noise(24_000_001, 2);
    let mut stream = bench.get("/assets/debian/initrd.img", Some(SMALL))?;
    let mut got = vec![0; 5_000_000];
    stream.read_exact(&mut got)?;
    // The pause is what is tested, not a wait for something.
    thread::sleep(pause);
    let mut rest = vec![0; initrd.len() - got.len()];
    stream.read_exact(&mut rest).with_context(|| format!("after a pause of {pause:?}"))?;
    got.extend(rest);
    ensure!(got == initrd, "other bytes after a pause of {pause:?}");
    // The connection goes on as well.
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")?;
    ensure!(uninterrupted(|| stream.read(&mut [0; 64]))? > 0);
    Ok(())
}

#[test]
fn a_client_that_pauses_12_s_gets_the_rest() -> Result<()> {
    pauses(Duration::from_secs(12))
}

#[test]
fn a_client_that_pauses_65_s_gets_the_rest() -> Result<()> {
    pauses(Duration::from_secs(65))
}

#[test]
fn one_client_that_stalls_holds_up_nobody() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let stalled = (0..50).map(|_| bench.get("/assets/debian/initrd.img", Some(SMALL))).collect::<Result<Vec<_>>>()?;
    ensure!(bench.curl(&[], "/assets/debian/initrd.img")? == noise(24_000_001, 2), "other bytes");
    drop(stalled);
    // Fifty clients have gone away in the middle: that is told, and nothing more happens.
    bench.netbootd.wait_for_line("the client closed the connection", SOON)?;
    ensure!(bench.curl(&[], "/healthz")? == b"ok\n");
    Ok(())
}

#[test]
fn a_header_that_never_ends_is_closed_and_a_half_one_is_no_harm() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let mut stream = bench.connect(None)?;
    write!(stream, "GET /assets/vmlinuz HTTP/1.1\r\nX-Slow: ")?;
    let began = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let end = uninterrupted(|| stream.read(&mut [0; 512]));
    // Closed, with or without words, and not before a slow client could have finished.
    ensure!(end.is_ok(), "still open after {:?}: {end:?}", began.elapsed());
    ensure!((20..50).contains(&began.elapsed().as_secs()), "closed after {:?}", began.elapsed());
    Ok(())
}

#[test]
fn clients_that_speak_an_older_or_an_odder_http_get_the_same() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let (kernel, path) = (noise(3_000_000, 1), "/assets/vmlinuz");
    ensure!(bench.curl(&["--http1.0"], path)? == kernel, "HTTP/1.0");
    // It offers HTTP/2, which is declined by silence.
    ensure!(bench.curl(&["--http2"], path)? == kernel, "an offer of HTTP/2");
    let twice = format!("http://{SERVER}:8080{path}");
    ensure!(bench.curl(&["--next", "-sS", &twice], path)? == [kernel.clone(), kernel.clone()].concat(), "kept alive");
    let report = "event=installed&mac=52:54:00:12:34:56";
    for how in [&["--header", "Transfer-Encoding: chunked"][..], &["--header", "Expect: 100-continue"], &[]] {
        let noted = bench.curl(&[&["--data", report], how].concat(), "/report")?;
        ensure!(noted.ends_with(b": installed\n"), "{how:?}: {}", String::from_utf8_lossy(&noted));
    }
    // It closes its side with the request, as `nc -N` does.
    let mut stream = bench.connect(None)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.ends_with(&kernel), "half closed: {} bytes", answer.len());
    // It does not wait for the answers.
    let mut stream = bench.connect(None)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.ends_with(b"\r\n\r\nok\n") && answer.windows(64).any(|part| kernel.ends_with(part)), "in a row");
    // It is no HTTP at all.
    let mut stream = bench.connect(None)?;
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    Ok(())
}

/// Descriptors that the daemon has of files of this name, those that were replaced too.
fn descriptors(bench: &Bench, name: &str) -> Result<usize> {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", bench.netbootd.pid()))?;
    // One may be closed while it is looked at.
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    Ok(targets.filter(|target| target.to_string_lossy().contains(name)).count())
}

#[test]
fn a_replaced_file_is_whole_for_those_who_began_with_it_and_each_version_is_open_once() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let (old, new) = (noise(24_000_001, 2), noise(24_000_001, 3));
    let path = "/assets/debian/initrd.img";
    let begin = || (0..20).map(|_| bench.get(path, Some(SMALL))).collect::<Result<Vec<_>>>();
    let began_with_old = begin()?;
    ensure!(descriptors(&bench, "initrd.img")? == 1, "{} of one version", descriptors(&bench, "initrd.img")?);
    std::fs::write(bench.assets.join("new"), &new)?;
    std::fs::rename(bench.assets.join("new"), bench.assets.join("debian/initrd.img"))?;
    let began_with_new = begin()?;
    ensure!(descriptors(&bench, "initrd.img")? == 2, "{} of two versions", descriptors(&bench, "initrd.img")?);
    for (streams, version) in [(began_with_old, &old), (began_with_new, &new)] {
        for mut stream in streams {
            let mut got = vec![0; version.len()];
            stream.read_exact(&mut got)?;
            ensure!(got == *version, "two versions in one file");
        }
    }
    let began = Instant::now();
    while descriptors(&bench, "initrd.img")? > 0 {
        ensure!(began.elapsed() < SOON, "a file is open though nobody fetches it");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
