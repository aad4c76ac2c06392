//! Machines behind an HTTP proxy: whose a download is, by the headers of proxies that are trusted and of no others.

use anyhow::{Context, Result, ensure};

use crate::bench::{Bench, CLIENT, SOON};

const A: &str = "52:54:00:00:00:0a";
const B: &str = "52:54:00:00:00:0b";

fn bench(trusted: &str) -> Result<Option<Bench>> {
    let rule = "[[machines]]\noui = \"52:54:00\"\nonce = true\n";
    Bench::with_configuration(&format!("[http]\ntrusted_proxies = [{trusted}]\n{rule}"))
}

/// A path of the HTTP stage as a proxy on the client's host asks for it.
fn through(bench: &Bench, header: &str, path: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&bench.curl(&["--header", header], path)?).into_owned())
}

fn script(bench: &Bench, header: &str, mac: &str) -> Result<String> {
    through(bench, header, &format!("/boot.ipxe?mac={mac}&arch=x86_64&platform=efi"))
}

/// The paths of the files that a script names.
fn files(script: &str) -> Result<Vec<&str>> {
    let lines = script.lines().filter(|line| line.starts_with("kernel ") || line.starts_with("initrd "));
    let urls = lines.filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("http://10.77.0.2:8080")));
    let paths: Vec<&str> = urls.collect();
    ensure!(paths.len() == 2, "{script}");
    Ok(paths)
}

fn fetch(bench: &Bench, header: &str, paths: &[&str]) -> Result<()> {
    for path in paths {
        bench.curl(&["--header", header, "-o", "/dev/null"], path)?;
    }
    Ok(())
}

/// Both get plain addresses, as machines with addresses of their own do. The one that fetches is the one that counts.
#[test]
fn downloads_of_two_machines_behind_a_trusted_proxy_are_told_apart() -> Result<()> {
    for (trusted, first, second) in [
        (format!("\"{CLIENT}\""), "X-Forwarded-For: 10.88.0.99, 10.88.0.1", "X-Forwarded-For: 10.88.0.2:4711"),
        (
            "\"192.0.2.0/24\", \"10.77.0.0/24\"".to_owned(),
            "Forwarded: for=10.88.0.99, for=10.88.0.1;proto=http, for=\"192.0.2.7:80\"",
            "Forwarded: For=\"10.88.0.2:4711\"",
        ),
    ] {
        let Some(bench) = bench(&trusted)? else { return Ok(()) };
        let (of_a, of_b) = (script(&bench, first, A)?, script(&bench, second, B)?);
        for script in [&of_a, &of_b] {
            ensure!(files(script)?.iter().all(|path| path.starts_with("/assets/")), "{first}: {script}");
        }
        fetch(&bench, second, &files(&of_b)?)?;
        bench.netbootd.wait_for_line(&format!("{B} handed_over"), SOON).with_context(|| first.to_owned())?;
        ensure!(files(&script(&bench, first, A)?).is_ok(), "{first}: A fetched nothing and is sent to its disk");
        fetch(&bench, first, &files(&of_a)?)?;
        bench.netbootd.wait_for_line(&format!("{A} handed_over"), SOON).with_context(|| first.to_owned())?;
        let told = bench.netbootd.lines();
        ensure!(told.iter().filter(|line| line.contains(" handed_over ")).count() == 2, "{first}: {told:#?}");
    }
    Ok(())
}

/// Anyone can send such a header. Without trust, both machines come from the one address that is seen.
#[test]
fn headers_of_a_proxy_that_is_not_trusted_are_ignored() -> Result<()> {
    let Some(bench) = bench("\"10.77.0.1\", \"192.0.2.0/24\"")? else { return Ok(()) };
    for name in ["X-Forwarded-For: ", "Forwarded: for="] {
        let answer = through(&bench, &format!("{name}10.88.0.9"), "/report?event=installed")?;
        ensure!(answer.contains(&CLIENT.to_string()) && !answer.contains("10.88.0.9"), "{name}: {answer}");
    }
    let of_a = script(&bench, "X-Forwarded-For: 10.88.0.1", A)?;
    let of_b = script(&bench, "X-Forwarded-For: 10.88.0.2", B)?;
    ensure!(files(&of_a)?.iter().all(|path| path.starts_with("/assets/")), "{of_a}");
    ensure!(files(&of_b)?.iter().all(|path| path.starts_with("/m/")), "its address is taken from the header: {of_b}");
    Ok(())
}

/// What a proxy asks for comes from elsewhere, whatever its headers say.
#[test]
fn a_header_makes_no_request_one_of_this_host() -> Result<()> {
    let Some(bench) = bench(&format!("\"{CLIENT}\", \"127.0.0.0/8\""))? else { return Ok(()) };
    for header in ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1"] {
        let path = format!("/api/v1/machines/{A}/assignment");
        let arguments = ["-X", "DELETE", "--header", header, "--header", "Host: localhost", "-w", "%{http_code}"];
        let answer = String::from_utf8_lossy(&bench.curl(&arguments, &path)?).into_owned();
        ensure!(answer.ends_with("403"), "{header}: {answer}");
    }
    Ok(())
}
