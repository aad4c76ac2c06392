//! What a running server is told: assignments and approvals, by the control socket, on the loopback,
//! and from the network with a token.

use std::{net::Ipv4Addr, process::Output, time::Duration};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Host, Process, Signal};

use crate::{
    bench::{Bench, SERVER, SOON, daemon},
    dhcp::{DISCOVER, OFFER, PXE_REPLY, UEFI, next, reply, request},
    field::until,
};

const MACHINE: &str = "52:54:00:12:34:56";
const RULE: &str = "[[machines]]\nname = \"k8s08\"\nmac = \"52:54:00:12:34:56\"\nprofile = \"shell\"\n";

/// `netbootd ARGUMENTS` on the server's host.
pub(crate) fn tell(host: &Host, arguments: &[&str]) -> Result<Output> {
    Ok(daemon(host).args(arguments).output()?)
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn script(bench: &Bench) -> Result<String> {
    Ok(String::from_utf8(bench.curl(&[], &format!("/boot.ipxe?mac={MACHINE}&arch=x86_64&platform=efi"))?)?)
}

#[test]
fn a_machine_is_assigned_a_profile_and_left_to_its_rule_again() -> Result<()> {
    let Some(bench) = Bench::with_configuration(RULE)? else { return Ok(()) };
    ensure!(script(&bench)?.contains("\nshell\n"), "its rule is not heard");
    let assigned = tell(&bench.server, &["assign", "k8s08", "command-line"])?;
    ensure!(assigned.status.code() == Some(0), "{}", said(&assigned));
    ensure!(script(&bench)?.contains("boots profile command-line"), "the assignment is not heard");
    let machines = said(&tell(&bench.server, &["machines"])?);
    ensure!(machines.contains("52:54:00:12:34:56  k8s08             command-line (assigned)   "), "{machines}");
    ensure!(machines.contains("script: profile command-line, assigned"), "{machines}");

    let refused = tell(&bench.server, &["assign", "k8s08", "debain"])?;
    let words = "netbootd: there is no profile \"debain\"; there are: command-line, menu, local, shell\n";
    ensure!((refused.status.code(), said(&refused)) == (Some(64), words.into()), "{}", said(&refused));
    let refused = tell(&bench.server, &["assign", "k8s09", "local"])?;
    ensure!(
        said(&refused).contains("\"k8s09\" is neither a MAC address, nor a UUID, nor the name of a machine"),
        "{}",
        said(&refused)
    );

    let left = tell(&bench.server, &["unassign", MACHINE])?;
    ensure!(left.status.code() == Some(0) && script(&bench)?.contains("\nshell\n"), "{}", said(&left));
    let refused = tell(&bench.server, &["unassign", MACHINE])?;
    ensure!(refused.status.code() == Some(64) && said(&refused).contains("nothing was assigned"), "{}", said(&refused));
    let nobody = tell(&bench.server, &["machines", "--socket", "/nowhere/control.sock"])?;
    ensure!(nobody.status.code() == Some(69) && said(&nobody).contains("is netbootd running?"), "{}", said(&nobody));
    Ok(())
}

/// The socket's mode lets its group connect.
#[test]
fn a_user_of_the_sockets_group_is_told_who_may_use_it() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let mut command = bench.server.command("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", env!("CARGO_BIN_EXE_netbootd"), "assign", MACHINE, "local"]);
    let refused = command.output()?;
    let words = "netbootd: only root and the server's user may use the control socket: run this with sudo\n";
    ensure!((refused.status.code(), said(&refused)) == (Some(77), words.into()), "{}", said(&refused));
    ensure!(!said(&tell(&bench.server, &["machines"])?).contains(MACHINE), "it was assigned");
    Ok(())
}

#[test]
fn commands_reach_a_server_again_that_had_no_descriptor_left() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let limit = bench.limit_descriptors()?;
    let mut machines = Process::spawn("machines", daemon(&bench.server).arg("machines"))?;
    bench.netbootd.wait_for_line("accepting a connection on the control socket failed", SOON)?;
    drop(limit);
    let status = machines.wait_exit(SOON)?;
    ensure!(status.success(), "{status}: {:?}", machines.lines());
    Ok(())
}

#[test]
fn changes_come_from_this_host_or_with_the_token() -> Result<()> {
    let Some(bench) = Bench::with_configuration("[control]\ntoken = \"0123456789abcdef\"\n")? else { return Ok(()) };
    let path = format!("/api/v1/machines/{MACHINE}/assignment");
    let put = |host: &Host, server: &str, more: &[&str]| -> Result<(String, String)> {
        let url = format!("http://{server}:8080{path}");
        let mut curl = host.command("curl");
        curl.args(["-sS", "-X", "PUT", "-H", "Content-Type: application/json", "-w", "\n%{http_code}"]);
        let output = curl.args(["-d", "{\"profile\":\"local\"}"]).args(more).arg(url).output()?;
        let text = said(&output);
        let (body, status) = text.rsplit_once('\n').with_context(|| text.clone())?;
        Ok((status.to_owned(), body.to_owned()))
    };
    let server = SERVER.to_string();
    let (status, body) = put(&bench.client, &server, &[])?;
    ensure!(status == "401" && body.contains("changes need the token"), "{status} {body}");
    let (status, body) = put(&bench.client, &server, &["-H", "Authorization: Bearer 0123456789abcdee"])?;
    ensure!(status == "403" && body.contains("\"detail\":\"the token is wrong\""), "{status} {body}");
    let (status, body) = put(&bench.client, &server, &["-H", "Authorization: Bearer 0123456789abcdef"])?;
    ensure!(status == "200" && body.contains("\"by\":\"assignment\""), "{status} {body}");
    ensure!(put(&bench.server, "127.0.0.1", &[])?.0 == "200", "the host's own users are refused");
    // A page of somebody else's that calls this host by its own name.
    let (status, _) = put(&bench.server, "127.0.0.1", &["-H", "Host: evil.example"])?;
    ensure!(status == "401", "{status}");
    // Whoever asks is answered, in one shape also where there is nothing.
    let listed = String::from_utf8(bench.curl(&[], "/api/v1/machines")?)?;
    ensure!(listed.contains("\"profile\":\"local\""), "{listed}");
    let nothing = String::from_utf8(bench.curl(&[], "/api/v1/nothing")?)?;
    ensure!(nothing.contains("\"status\":404"), "{nothing}");
    Ok(())
}

/// The installer that must not run twice: what was to be had once is followed by the local disk, also by a server that
/// was killed in between; a boot that failed did not count.
#[test]
fn once_is_once_and_outlives_a_kill() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let assigned = tell(&bench.server, &["assign", MACHINE, "command-line", "--once"])?;
    ensure!(assigned.status.success(), "{}", said(&assigned));
    for _ in 0..2 {
        // Not handed over: only the kernel is fetched, and the machine starts again.
        ensure!(script(&bench)?.contains("boots profile command-line"), "it did not get its boot");
        bench.curl(&["-o", "/dev/null"], "/assets/vmlinuz")?;
        bench.netbootd.wait_for_line("kernel       vmlinuz, 3.0 MB", SOON)?;
    }
    bench.curl(&["-o", "/dev/null"], "/assets/debian/initrd.img")?;
    bench.netbootd.wait_for_line("handed_over", SOON)?;
    let mut tries = 0;
    while !script(&bench)?.contains("boots from its local disk") {
        tries += 1;
        ensure!(tries < 100, "it is served again");
        std::thread::sleep(Duration::from_millis(50));
    }
    bench.netbootd.wait_for_line("script       local disk: already booted its one-time profile", SOON)?;
    bench.netbootd.signal(Signal::SIGKILL)?;
    bench.netbootd.wait_exit(SOON)?;
    bench.netbootd = bench.again()?;
    ensure!(script(&bench)?.contains("boots from its local disk"), "it was forgotten");
    tell(&bench.server, &["unassign", MACHINE])?;
    ensure!(script(&bench)?.contains("boots profile command-line"), "it is not left to its rule");
    Ok(())
}

/// Where only known machines are answered, one that no rule names is let in while the server runs, and for good.
#[test]
fn a_stranger_is_approved_and_gets_its_offer() -> Result<()> {
    let Some(mut bench) = Bench::with_configuration("[dhcp]\nanswer = \"known\"\n")? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let ask = |xid| -> Result<()> {
        socket.send_to(&request(DISCOVER, xid, UEFI), (Ipv4Addr::BROADCAST, 67))?;
        Ok(())
    };
    let is_offered = |xid| -> Result<bool> {
        ask(xid)?;
        Ok(next(&socket)?.0 == reply(OFFER, xid, "snponly.efi", PXE_REPLY))
    };
    ask(1)?;
    let refused = "52:54:00:12:34:56 refused      no rule names this machine and it is not approved";
    bench.netbootd.wait_for_line(refused, SOON)?;
    ensure!(
        script(&bench)?.replace("\necho ", " ").contains("netbootd approve with its MAC address"),
        "its screen does not say what to do"
    );
    let unknown = said(&tell(&bench.server, &["machines"])?);
    ensure!(unknown.contains("52:54:00:12:34:56  -                 -                         "), "{unknown}");

    let approved = tell(&bench.server, &["approve", MACHINE])?;
    ensure!(approved.status.code() == Some(0), "{}", said(&approved));
    // The first offer that comes is that to this request: the one before it had no answer.
    ensure!(is_offered(2)?, "it was approved and gets no offer, or one too many");
    ensure!(script(&bench)?.contains("boots profile command-line"), "it was approved and gets no script");
    let machines = said(&tell(&bench.server, &["machines"])?);
    ensure!(machines.contains("command-line (approved)"), "{machines}");
    tell(&bench.server, &["assign", MACHINE, "shell"])?;
    tell(&bench.server, &["unassign", MACHINE])?;

    bench.netbootd.signal(Signal::SIGKILL)?;
    bench.netbootd.wait_exit(SOON)?;
    bench.netbootd = bench.again()?;
    ensure!(is_offered(3)?, "its approval is forgotten");
    let path = format!("/api/v1/machines/{MACHINE}/approval");
    let forbidden = String::from_utf8(bench.curl(&["-X", "DELETE"], &path)?)?;
    ensure!(forbidden.contains("\"status\":40"), "anyone may take it back: {forbidden}");

    let taken_back = tell(&bench.server, &["unapprove", MACHINE])?;
    ensure!(taken_back.status.code() == Some(0), "{}", said(&taken_back));
    ensure!(
        script(&bench)?.contains("has no boot for 52:54:00:12:34:56:\necho no rule names this machine"),
        "it is still in"
    );
    let again = tell(&bench.server, &["unapprove", MACHINE])?;
    let words = format!("netbootd: {MACHINE} was not approved\n");
    ensure!((again.status.code(), said(&again)) == (Some(64), words), "{}", said(&again));
    Ok(())
}

/// Killed at any moment, what was acknowledged is there. [`ROUNDS`] here; a thousand with
/// `cargo test --test netns -- --ignored a_thousand_kills`.
#[test]
fn what_was_acknowledged_outlives_any_kill() -> Result<()> {
    kills(ROUNDS)
}

#[test]
#[ignore = "takes ten minutes"]
fn a_thousand_kills() -> Result<()> {
    kills(1000)
}

const ROUNDS: u32 = 20;

fn kills(rounds: u32) -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let mut random = crate::bench::noise(rounds as usize * 2, 6).into_iter().map(u64::from);
    let mut dice = move || random.next().unwrap_or_default();
    for round in 0..rounds {
        let profile = ["local", "shell", "menu", "command-line"][dice() as usize % 4];
        let mac = |number: u32| {
            let [_, high, low, last] = number.to_be_bytes();
            format!("02:00:00:{high:02x}:{low:02x}:{last:02x}")
        };
        let url = |number| format!("http://127.0.0.1:8080/api/v1/machines/{}/assignment", mac(number));
        // One call after the other, until the server is gone; those that were answered count.
        let mut calls = bench.server.command("sh");
        let body = format!("'{{\"profile\":\"{profile}\"}}'");
        let header = "Content-Type: application/json";
        let calls = calls.args(["-c", &format!(
            "n=0; while curl -sf -o /dev/null -X PUT -H '{header}' -d {body} {}$(printf %02x $n)/assignment; do echo $n; n=$((n+1)); [ $n -lt 250 ] || exit 0; done",
            url(round << 8).trim_end_matches("00/assignment"),
        )]);
        let mut calls = Process::spawn("calls", calls)?;
        calls.wait_for_line("0", SOON)?;
        std::thread::sleep(Duration::from_millis(dice()));
        bench.netbootd.signal(Signal::SIGKILL)?;
        bench.netbootd.wait_exit(SOON)?;
        calls.wait_exit(SOON)?;
        let acknowledged: Vec<String> = calls.lines();
        bench.netbootd = bench.again()?;
        let listed = String::from_utf8(bench.curl(&[], "/api/v1/machines")?)?;
        for number in &acknowledged {
            let mac = mac(round << 8 | number.parse::<u32>()?);
            let kept = format!("\"assigned\":{{\"profile\":\"{profile}\",\"once\":false}}");
            let entry = listed.split("{\"mac\":").find(|entry| entry.contains(&mac)).unwrap_or_default();
            ensure!(entry.contains(&kept), "round {round}: {mac} was acknowledged and is lost: {entry}");
        }
    }
    Ok(())
}

#[test]
fn what_a_machine_boots_next_is_told_by_what_was_seen_of_it() -> Result<()> {
    let rules = "default_profile = \"local\"\n[[machines]]\nname = \"x64\"\narch = \"x86_64\"\nprofile = \"command-line\"\n\
                 [[machines]]\nname = \"serial\"\nserial = \"CZ1234\"\nprofile = \"shell\"\n";
    let Some(bench) = Bench::with_configuration(rules)? else { return Ok(()) };
    let row = || -> Result<String> { Ok(said(&tell(&bench.server, &["machines", MACHINE])?)) };
    ensure!(row()?.contains("depends on its architecture"), "{}", row()?);
    bench.curl(&[], &format!("/boot.ipxe?mac={MACHINE}&serial=cz1234&arch=x86_64&platform=efi"))?;
    until("the rule by serial number is not known", || Ok(row()?.contains("  shell ")))?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(&file, rules)?;
    let file = file.path().display().to_string();
    let explained = said(&tell(&bench.server, &["explain", MACHINE, "-c", &file])?);
    ensure!(explained.contains("rule 2 serial"), "what the server knows is left out: {explained}");
    Ok(())
}

#[test]
fn a_page_of_another_site_changes_nothing_and_every_error_is_problem_details() -> Result<()> {
    let Some(bench) = Bench::with_configuration(RULE)? else { return Ok(()) };
    let ask = |arguments: &[&str], path: &str| -> Result<String> {
        let url = format!("http://127.0.0.1:8080{path}");
        Ok(said(&bench.server.command("curl").args(["-s", "-i"]).args(arguments).arg(url).output()?))
    };
    let wake = format!("/api/v1/machines/{MACHINE}/wake");
    for header in ["Origin: http://evil.example:9000", "Sec-Fetch-Site: cross-site"] {
        let refused = ask(&["-X", "POST", "-H", header], &wake)?;
        ensure!(refused.starts_with("HTTP/1.1 403") && refused.contains("another site"), "{header}: {refused}");
    }
    for (arguments, path) in [
        (&[] as &[&str], "/api/v1/machines?all=1"),
        (&[], "/api/v1/machines/%ff"),
        (&[], "/api/v1"),
        (&["-X", "POST"], "/api/v1/machines"),
    ] {
        let problem = ask(arguments, path)?;
        ensure!(problem.contains("application/problem+json") && problem.contains("\"detail\":\""), "{path}: {problem}");
    }
    Ok(())
}
