//! What two appliances with one state know of each other's machines, at once and after a start without the state's server.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::Signal;

use crate::{
    appliances::{Appliance, HEARD, LOST, MACHINE, Site, eventually},
    bench::SOON,
    dhcp::{DISCOVER, IPXE, UEFI, next, request},
    lease::option,
};

/// Firmware that repeats its DISCOVER waits longer than this.
const REPEATED: Duration = Duration::from_millis(3200);

fn socket(site: &Site) -> Result<UdpSocket> {
    let socket = site.client.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)))??;
    site.client.enter(|| socket2::SockRef::from(&socket).bind_device(Some(b"eth1")))??;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

/// The offer of one of the two: the other does not hear of the machine.
fn offer(socket: &UdpSocket, at: &Appliance, xid: u32, client: &[(u8, &[u8])]) -> Result<Vec<u8>> {
    socket.send_to(&request(DISCOVER, xid, client), (at.address, 67))?;
    loop {
        let (offer, from) = next(socket)?;
        if from.ip() == at.address && offer[4..8] == xid.to_be_bytes() {
            return Ok(offer);
        }
    }
}

/// Until an appliance has heard of everything that the state has now.
fn hears(site: &Site, name: &str) -> Result<()> {
    for _ in 0..2 {
        let seen = || site.postgres.sql("netbootd", &format!("SELECT seen FROM appliances WHERE name = '{name}'"));
        let before = seen()?;
        eventually(&format!("{name} exchanges"), || {
            ensure!(seen()? != before);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn what_firmware_takes_from_one_it_is_offered_by_the_other_until_either_forgets_it() -> Result<()> {
    let Some(mut site) = Site::start("")? else { return Ok(()) };
    let (folder, socket) = (site.lab.directory().to_owned(), socket(&site)?);
    let has_a_name = |offer: &[u8]| option(offer, 67).is_some();
    ensure!(!has_a_name(&offer(&socket, &site.a, 1, UEFI)?), "the usual offer");
    let began = Instant::now();
    while began.elapsed() < REPEATED {
        thread::sleep(REPEATED.saturating_sub(began.elapsed()));
    }
    ensure!(has_a_name(&offer(&socket, &site.a, 2, UEFI)?), "it took none, so it is offered the next");
    offer(&socket, &site.a, 3, IPXE)?;
    eventually("a has told what it learned", || {
        let learned = site.postgres.sql("netbootd", "SELECT shape FROM firmware")?;
        ensure!(learned == "option_67", "{learned:?}");
        Ok(())
    })?;
    hears(&site, "b")?;
    ensure!(has_a_name(&offer(&socket, &site.b, 4, UEFI)?), "b did not learn of it");
    // Also without the server.
    site.postgres.kill()?;
    site.b.kill()?;
    site.b.start_again(&folder)?;
    site.b.netbootd.wait_for_line(LOST, HEARD)?;
    ensure!(has_a_name(&offer(&socket, &site.b, 5, UEFI)?), "b has forgotten it");
    let (code, words) = site.b.tell(&folder, &["forget", MACHINE])?;
    ensure!(code == Some(69) && words.contains("nothing was changed"), "{code:?} {words}");
    site.postgres.start_again()?;
    eventually("it can be forgotten", || {
        let (code, words) = site.b.tell(&folder, &["forget", MACHINE])?;
        ensure!(code == Some(0), "{code:?} {words}");
        Ok(())
    })?;
    hears(&site, "a")?;
    ensure!(!has_a_name(&offer(&socket, &site.a, 6, UEFI)?), "a did not hear that it is forgotten");
    ensure!(!has_a_name(&offer(&socket, &site.b, 7, UEFI)?), "b offers it all the same");
    let (code, words) = site.a.tell(&folder, &["forget", MACHINE])?;
    ensure!(code != Some(0) && words.contains("nothing was learned of"), "{code:?} {words}");
    Ok(())
}

/// What one was told a moment ago, the other takes back, though it has not heard of it: the server decides.
#[test]
fn what_was_said_on_one_a_moment_ago_is_taken_back_on_the_other() -> Result<()> {
    let Some(site) = Site::start("[dhcp]\nanswer = \"known\"\n")? else { return Ok(()) };
    let folder = site.lab.directory().to_owned();
    for (number, (says, takes_back)) in
        [(["assign", "shell"].as_slice(), "unassign"), (&["approve"], "unapprove")].into_iter().enumerate()
    {
        let machine = format!("52:54:00:00:00:{number:02x}");
        // A sleeps until the command waits at its socket, so that it hears of both at the same moment.
        site.a.netbootd.signal(Signal::SIGSTOP)?;
        let (verb, rest) = (says[0], &says[1..]);
        let said = site.b.tell(&folder, &[&[verb, machine.as_str()], rest].concat());
        let (code, words) = thread::scope(|scope| -> Result<_> {
            let taking = scope.spawn(|| site.a.tell(&folder, &[takes_back, &machine]));
            thread::sleep(Duration::from_millis(500));
            site.a.netbootd.signal(Signal::SIGCONT)?;
            taking.join().map_err(|_| anyhow::anyhow!("a panic"))?
        })?;
        ensure!(said?.0 == Some(0) && code == Some(0), "{takes_back}: {code:?} {words}");
        let (code, words) = site.b.tell(&folder, &[takes_back, &machine])?;
        ensure!(code != Some(0), "{takes_back} again: {words}");
    }
    Ok(())
}

#[test]
fn two_that_start_without_the_server_sign_with_one_key_as_soon_as_it_answers() -> Result<()> {
    let Some(mut site) = Site::start("")? else { return Ok(()) };
    let folder = site.lab.directory().to_owned();
    site.postgres.sql("netbootd", "DELETE FROM secrets")?;
    site.postgres.kill()?;
    for (at, name) in [(&mut site.a, "a"), (&mut site.b, "b")] {
        at.kill()?;
        for file in fs::read_dir(folder.join(name))?.flatten().filter(|file| file.file_name() != "netbootd.toml") {
            fs::remove_file(file.path())?;
        }
        at.start_again(&folder)?;
    }
    let signed = |site: &Site, at: &Appliance| -> Result<String> {
        let script = site.script(at, MACHINE)?;
        let word = script.split("url=").nth(1).and_then(|rest| rest.split_whitespace().next());
        Ok(word.context(script.clone())?.to_owned())
    };
    let opens = |site: &Site, at: &Appliance, of: &Appliance, url: &str| -> Result<bool> {
        let url = url.replace(&of.address.to_string(), &at.address.to_string());
        Ok(site.curl(&[], &url)? == format!("d-i for {MACHINE}\n").into_bytes())
    };
    let before = [signed(&site, &site.a)?, signed(&site, &site.b)?];
    ensure!(opens(&site, &site.a, &site.a, &before[0])? && opens(&site, &site.b, &site.b, &before[1])?);
    ensure!(!opens(&site, &site.b, &site.a, &before[0])?, "two keys are one");
    site.postgres.start_again()?;
    eventually("both sign with one key", || {
        let now = [signed(&site, &site.a)?, signed(&site, &site.b)?];
        ensure!(opens(&site, &site.b, &site.a, &now[0])? && opens(&site, &site.a, &site.b, &now[1])?, "two keys");
        Ok(())
    })?;
    // A machine that installs goes on.
    ensure!(opens(&site, &site.a, &site.a, &before[0])? && opens(&site, &site.b, &site.b, &before[1])?);
    // The copy has the key of all.
    site.postgres.kill()?;
    for at in [&mut site.a, &mut site.b] {
        at.kill()?;
        at.start_again(&folder)?;
    }
    let again = signed(&site, &site.a)?;
    ensure!(opens(&site, &site.b, &site.a, &again)?, "the copies have two keys");
    Ok(())
}
