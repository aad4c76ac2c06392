//! Signed loaders on the wire: who is offered which, what is found by both protocols, and what is said where they stop.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use netbootd_lab::{Lab, NETWORK_TOOLS, SECURE_BOOT_TOOLS, Signal, SignedLoaders, required};
use serde_json::Value;

use crate::{
    bench::{Bench, SERVER, START, daemon},
    dhcp::{DISCOVER, REQUEST, UEFI, next, of_machine, request},
    field::until,
};

const IPXE_ON_UEFI: &[(u8, &[u8])] =
    &[(60, b"PXEClient"), (93, &[0, 7]), (77, b"iPXE"), (175, b"\x13\x01\x01\x15\x01\x01\x24\x01\x01")];
const HTTP_BOOT: &[(u8, &[u8])] = &[(60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, &[0, 16])];
const EVERYONE: (Ipv4Addr, u16) = (Ipv4Addr::BROADCAST, 67);
const SHIM: &str = "x86_64-sb/snponly-shimx64.efi";

/// A UEFI machine by hand, with an address of its own on the client's host.
struct Machine<'a> {
    number: u8,
    bench: &'a Bench,
    socket: &'a UdpSocket,
    id: std::cell::Cell<u32>,
}

impl Machine<'_> {
    fn mac(&self) -> String {
        format!("52:54:00:00:00:{:02x}", self.number)
    }

    fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, 100 + self.number)
    }

    /// The boot file that it is offered.
    fn is_offered(&self, client: &[(u8, &[u8])]) -> Result<String> {
        self.id.set(self.id.get() + 1);
        let message = request(DISCOVER, u32::from(self.number) << 16 | self.id.get(), client);
        self.socket.send_to(&of_machine(u32::from(self.number), message), EVERYONE)?;
        let offer = next(self.socket)?.0;
        let name = offer[108..236].split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    fn takes_its_lease(&self) -> Result<()> {
        let lease: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 1]), (50, &self.address().octets())];
        let message = request(REQUEST, u32::from(self.number), &[UEFI, lease].concat());
        Ok(self.socket.send_to(&of_machine(u32::from(self.number), message), EVERYONE).map(drop)?)
    }

    fn curl(&self, agent: &str, url: &str) -> Result<Vec<u8>> {
        let address = self.address().to_string();
        let arguments = ["-sS", "--path-as-is", "--user-agent", agent, "--interface", &address];
        self.bench.run("curl", &[&arguments[..], &[url]].concat())
    }

    /// By TFTP; a file that is missing is no error of the test.
    fn fetches(&self, name: &str) -> Option<Vec<u8>> {
        self.curl("", &format!("tftp://{SERVER}/{name}")).ok()
    }

    fn http(&self, agent: &str, path: &str) -> Result<Vec<u8>> {
        self.curl(agent, &format!("http://{SERVER}:8080{path}"))
    }

    fn status(&self, path: &str) -> Result<String> {
        let url = format!("http://{SERVER}:8080{path}");
        let address = self.address().to_string();
        let arguments = ["-sS", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", "--interface", &address];
        Ok(String::from_utf8(
            self.bench.run("curl", &[&arguments[..], &["--user-agent", "UefiHttpBoot/1.0", &url]].concat())?,
        )?)
    }

    fn seen(&self) -> Result<Value> {
        let answer = self.bench.curl(&[], &format!("/api/v1/machines/{}", self.mac()))?;
        serde_json::from_slice(&answer).context("no JSON")
    }

    /// The cause of its stop, or how it stands.
    fn standing(&self) -> Result<String> {
        let seen = self.seen()?;
        let text = |pointer: &str| seen.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
        Ok(match text("/boot/state").as_str() {
            "stopped" => text("/boot/stop/cause"),
            state => state.to_owned(),
        })
    }

    fn waits_for(&self, expected: &str) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(120);
        loop {
            let standing = self.standing()?;
            if standing == expected {
                return Ok(());
            }
            if Instant::now() > patience {
                bail!(
                    "{standing} instead of {expected}: {:#}\n{}",
                    self.seen()?,
                    self.bench.netbootd.lines().join("\n")
                );
            }
            thread::sleep(Duration::from_millis(500));
        }
    }
}

/// A signed set in the layout of iPXE's release, beside an unsigned iPXE of the package.
fn bench() -> Result<Option<Bench>> {
    let Some(()) = required(&[NETWORK_TOOLS, SECURE_BOOT_TOOLS]) else { return Ok(None) };
    let prepare = |lab: &Lab, _: &_| {
        let loaders = SignedLoaders::prepare()?;
        let folder = lab.directory().join("signed/x86_64-sb");
        fs::create_dir_all(&folder)?;
        fs::copy(loaders.shim(), folder.join("ipxe-shim.efi"))?;
        loaders.sign(&loaders.ipxe(), &folder.join("snponly.efi"))?;
        let configuration = lab.directory().join("netbootd.toml");
        let text = format!(
            "loader_dirs = [{:?}]\nstate.url = \"sqlite://{}\"\n\
             [[machines]]\nmac = \"52:54:00:00:00:01\"\n[machines.override]\nloader = \"snponly.efi\"\n",
            lab.directory().join("signed"),
            lab.directory().join("state.db").display(),
        );
        Ok(fs::write(configuration, text)?)
    };
    let bench = Bench::prepared(&["eth1"], &[], "", prepare)?;
    if let Some(bench) = &bench {
        for n in 1..=9 {
            bench.client.ip(&["address", "add", &format!("10.77.0.{}/24", 100 + n), "dev", "eth1"])?;
        }
    }
    Ok(bench)
}

/// As when the packages of shim and GRUB are upgraded or installed later.
#[test]
fn a_signed_set_that_goes_and_comes_is_noticed_without_a_restart() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let is_offered = |number| Machine { number, bench: &bench, socket: &socket, id: 0.into() }.is_offered(UEFI);
    ensure!(is_offered(2)? == SHIM);
    let second = bench.lab.directory().join("signed/x86_64-sb/snponly.efi");
    let aside = second.with_extension("aside");
    fs::rename(&second, &aside)?;
    bench.netbootd.wait_for_line("configuration read again", START)?;
    ensure!(is_offered(3)? == "snponly.efi");
    fs::rename(&aside, &second)?;
    let is_read = |line: &String| line.contains("configuration read again");
    until("it was read a second time", || Ok(bench.netbootd.lines().into_iter().filter(is_read).count() == 2))?;
    ensure!(is_offered(4)? == SHIM, "{:?}", bench.netbootd.lines());
    Ok(())
}

#[test]
fn a_signed_set_is_offered_and_its_second_stage_is_found_by_both_protocols() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let machine = Machine { number: 2, bench: &bench, socket: &socket, id: 0.into() };
    ensure!(machine.is_offered(UEFI)? == SHIM);
    let by_http = Machine { number: 3, bench: &bench, socket: &socket, id: 0.into() };
    ensure!(by_http.is_offered(HTTP_BOOT)? == format!("http://{SERVER}:8080/loaders/{SHIM}"));

    let signed = fs::read(bench.lab.directory().join("signed/x86_64-sb/snponly.efi"))?;
    let unsigned = fs::read("/usr/lib/ipxe/snponly.efi")?;
    ensure!(signed != unsigned, "the test's own files are the same");
    // iPXE's shim asks for the first, a distribution's for the second, with two slashes by HTTP.
    for name in ["x86_64-sb/snponly.efi", "x86_64-sb/grubx64.efi", "x86_64-sb%5Csnponly.efi", "/x86_64-sb//grubx64.efi"]
    {
        ensure!(machine.fetches(name) == Some(signed.clone()), "{name} by TFTP");
    }
    for name in ["x86_64-sb/snponly.efi", "x86_64-sb//grubx64.efi"] {
        ensure!(machine.http("UefiHttpBoot/1.0", &format!("/loaders/{name}"))? == signed, "{name} by HTTP");
    }
    ensure!(machine.fetches("snponly.efi") == Some(unsigned), "the package's own");
    // What shim looks for: an error at once, and no failure of the boot.
    for name in ["revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_0.efi", "mmx64.efi"] {
        ensure!(machine.fetches(&format!("x86_64-sb/{name}")).is_none(), "{name}");
        ensure!(machine.status(&format!("/loaders/x86_64-sb/{name}"))? == "404", "{name}");
    }
    ensure!(machine.fetches("x86_64-sb/autoexec.ipxe").is_some_and(|text| text.starts_with(b"#!ipxe")));
    machine.waits_for("booting")?;
    ensure!(!bench.netbootd.lines().iter().any(|line| line.contains("there is no file")));
    Ok(())
}

/// Each on a machine of its own: which file was fetched last, and what did not follow.
#[test]
fn what_stops_a_signed_boot_is_named() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let machine = |number| Machine { number, bench: &bench, socket: &socket, id: 0.into() };
    let begin = |machine: &Machine<'_>| -> Result<String> {
        let name = machine.is_offered(UEFI)?;
        machine.takes_its_lease()?;
        ensure!(machine.fetches(&name).is_some(), "{name}");
        Ok(name)
    };
    let unsigned = machine(1);
    ensure!(begin(&unsigned)? == "snponly.efi");

    let distrusts = machine(2);
    ensure!(begin(&distrusts)? == SHIM);

    let refused = machine(3);
    ensure!(begin(&refused)? == SHIM);
    ensure!(refused.fetches("x86_64-sb/revocations_sku.efi").is_none());
    ensure!(refused.fetches("x86_64-sb/snponly.efi").is_some() && refused.fetches("x86_64-sb/mmx64.efi").is_none());

    let kernel = machine(4);
    ensure!(begin(&kernel)? == SHIM);
    let ask = |retry: &str| {
        let query = format!("mac={}&arch=x86_64&platform=efi&sb=01{retry}", kernel.mac());
        kernel.http("iPXE/1.21.1", &format!("/boot.ipxe?{query}"))
    };
    ask("")?;
    kernel.http("iPXE/1.21.1", "/assets/vmlinuz")?;
    kernel.http("iPXE/1.21.1", "/assets/debian/initrd.img")?;
    ask("&retry=1")?;

    let no_http = machine(5);
    ensure!(begin(&no_http)? == SHIM);
    let configuration = no_http.fetches("grub/grub.cfg").context("no grub.cfg")?;
    ensure!(configuration.windows(9).any(|part| part == b"boot.grub"), "{}", String::from_utf8_lossy(&configuration));
    ensure!(no_http.fetches("grub/x86_64-efi/command.lst").is_none());

    for (machine, expected, words) in [
        (&unsigned, "unsigned_not_started", "put iPXE's signed set"),
        (&distrusts, "shim_not_started", "Microsoft 3rd Party UEFI CA"),
        (&refused, "second_stage_not_started", "not signed for this shim"),
        (&kernel, "kernel_refused", "shim = \"debian/shimx64.efi\""),
        (&no_http, "grub_script_not_fetched", "http module"),
    ] {
        machine.waits_for(expected)?;
        bench.netbootd.wait_for_line(words, START).with_context(|| expected)?;
    }
    ensure!(kernel.seen()?.pointer("/hardware/secure_boot") == Some(&Value::Bool(true)), "{:#}", kernel.seen()?);
    let told = daemon(&bench.server).args(["machines", &kernel.mac()]).output()?;
    let told = String::from_utf8(told.stdout)?;
    ensure!(told.contains("Secure Boot    on"), "{told}");
    let page = String::from_utf8(bench.curl(&[], &format!("/machines/{}", kernel.mac()))?)?;
    ensure!(page.contains("<dt>Secure boot</dt><dd>on</dd>"), "{page}");
    Ok(())
}

/// A machine that does not start the shim is offered the loader without one; what starts is its first from then on, over
/// a restart too, until it is forgotten.
#[test]
fn a_shim_that_does_not_start_is_followed_by_the_loader_without_one() -> Result<()> {
    let Some(mut bench) = bench()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    {
        let machine = Machine { number: 2, bench: &bench, socket: &socket, id: 0.into() };
        for expected in [SHIM, "snponly.efi", SHIM, "snponly.efi"] {
            let offered = machine.is_offered(UEFI)?;
            ensure!(offered == expected, "{offered} instead of {expected}\n{}", bench.netbootd.lines().join("\n"));
            machine.takes_its_lease()?;
            ensure!(machine.fetches(expected).is_some());
            wait_for_loads(&machine, expected)?;
        }
        ensure!(machine.is_offered(IPXE_ON_UEFI)?.ends_with("/boot.ipxe"));
        bench.netbootd.wait_for_line("the unsigned loader started: offered first from now on", START)?;
        ensure!(machine.is_offered(UEFI)? == "snponly.efi");
    }
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    bench.netbootd = bench.again()?;
    let machine = Machine { number: 2, bench: &bench, socket: &socket, id: 100.into() };
    ensure!(machine.is_offered(UEFI)? == "snponly.efi", "it was forgotten over a restart");
    let other = Machine { number: 3, bench: &bench, socket: &socket, id: 0.into() };
    ensure!(other.is_offered(UEFI)? == SHIM, "what one machine did is another's");
    let forget = daemon(&bench.server).args(["forget", &machine.mac()]).output()?;
    ensure!(forget.status.success(), "{}", String::from_utf8_lossy(&forget.stderr));
    ensure!(machine.is_offered(UEFI)? == SHIM);
    let again = daemon(&bench.server).args(["forget", &machine.mac()]).output()?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(!again.status.success() && said.contains("nothing was learned of"), "{said}");
    Ok(())
}

/// The transfer's end is known to the next offer.
fn wait_for_loads(machine: &Machine<'_>, name: &str) -> Result<()> {
    let patience = Instant::now() + START;
    let is_there = |seen: &Value| {
        let steps = seen.pointer("/boots/0/steps").and_then(Value::as_array).cloned().unwrap_or_default();
        let step = steps.last().and_then(|step| step.get("text")?.as_str().map(str::to_owned)).unwrap_or_default();
        step.starts_with(&format!("{name}, "))
    };
    while !is_there(&machine.seen()?) {
        ensure!(Instant::now() < patience, "{name}: {:#}", machine.seen()?);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A shim of the user's own below the assets: its second stage is the file beside it, and never the package's.
#[test]
fn beside_a_shim_of_the_users_own_no_package_file_is_given() -> Result<()> {
    let rule = "[[machines]]\narch = \"x86_64\"\n[machines.override]\nloader = \"boot/snponly-shimx64.efi\"\n";
    let prepare = |lab: &Lab, _: &_| {
        let folder = lab.directory().join("assets/boot");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("snponly-shimx64.efi"), "a shim")?)
    };
    let Some(bench) = Bench::prepared(&["eth1"], &[], rule, prepare)? else { return Ok(()) };
    let fetch = |name: &str| bench.run("curl", &["-sS", &format!("tftp://{SERVER}/{name}")]);
    ensure!(fetch("boot/snponly-shimx64.efi")? == b"a shim");
    ensure!(fetch("boot/snponly.efi").is_err(), "an unsigned file of the package was given");
    ensure!(bench.curl(&["--fail"], "/assets/boot//snponly.efi").is_err());
    fs::write(bench.assets.join("boot/snponly.efi"), "signed")?;
    ensure!(fetch("boot/snponly.efi")? == b"signed" && bench.curl(&[], "/assets/boot//snponly.efi")? == b"signed");
    ensure!(fetch("elsewhere/snponly.efi")? == fs::read(Path::new("/usr/lib/ipxe/snponly.efi"))?);
    Ok(())
}
