//! Answer files: who gets them, over HTTP; and what counts as a boot where there is to be one only.

use std::{
    fs,
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Process, Signal};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use crate::{
    bench::{Bench, SERVER, SOON, START, daemon, noise},
    control::{said, tell},
};

const MACHINE: &str = "mac=52:54:00:12:34:56&uuid=00112233-4455-6677-8899-aabbccddeeff&arch=x86_64&platform=efi";

/// By its UUID, which the address has to carry: no installer says it again.
const CONFIGURATION: &str = r#"
templates = "TEMPLATES"
default_profile = "local"
[profiles.cloud]
kernel = "vmlinuz"
cmdline = 'ds=nocloud-net;s={{ answers("cloud") }} url={{ answer("preseed.cfg") }}'
[[machines]]
name = "k8s08"
uuid = "00112233-4455-6677-8899-aabbccddeeff"
profile = "cloud"
vars = { password = "correct: horse" }
"#;

fn write_configuration(bench: &Bench, more: &str) -> Result<()> {
    let folder = bench.lab.directory();
    fs::create_dir_all(folder.join("templates/cloud"))?;
    fs::write(
        folder.join("templates/cloud/user-data"),
        "#cloud-config\nhost: {{ machine.name }}\np: {{ vars.password }}\nprofile: {{ profile }}\n",
    )?;
    fs::write(folder.join("templates/preseed.cfg"), "d-i x string {{ base }}\n")?;
    let text = CONFIGURATION.replace("TEMPLATES", &folder.join("templates").display().to_string());
    fs::write(folder.join("netbootd.toml"), format!("{text}{more}"))?;
    Ok(())
}

/// Status, headers in lower case, and body.
fn get(bench: &Bench, path: &str) -> Result<(String, String, String)> {
    let got = String::from_utf8(bench.curl(&["--include"], path)?)?;
    let (head, body) = got.split_once("\r\n\r\n").context("no head")?;
    let status = head.split_whitespace().nth(1).context("no status")?.to_owned();
    Ok((status, head.to_lowercase(), body.to_owned()))
}

#[test]
fn an_answer_is_given_by_the_address_that_the_machines_script_named() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    write_configuration(&bench, "")?;
    let start = |bench: &Bench| -> Result<Process> {
        let mut command = daemon(&bench.server);
        command.args(["up", "--interface", "eth1", "--config"]).arg(bench.lab.directory().join("netbootd.toml"));
        command.arg("--assets").arg(&bench.assets);
        let state = format!("sqlite://{}", bench.lab.directory().join("state.db").display());
        let netbootd = Process::spawn("netbootd", command.env("NETBOOTD_STATE__URL", state))?;
        netbootd.wait_for_line("waiting on eth1", START)?;
        Ok(netbootd)
    };
    bench.netbootd = start(&bench)?;
    let script = String::from_utf8(bench.curl(&[], &format!("/boot.ipxe?{MACHINE}"))?)?;
    let address = |name: &str| -> Result<String> {
        let rest = script.split_once(&format!("{name}=http://10.77.0.2:8080")).context("no address")?.1;
        Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
    };
    let (folder, file) = (address("s")?, address("url")?);

    let user_data = "#cloud-config\nhost: \"k8s08\"\np: \"correct: horse\"\nprofile: \"cloud\"\n";
    let (status, head, body) = get(&bench, &format!("{folder}user-data"))?;
    ensure!((status.as_str(), body.as_str()) == ("200", user_data), "{status} {body}");
    for header in ["content-type: text/cloud-config; charset=utf-8", "cache-control: no-store"] {
        ensure!(head.contains(header), "{head}");
    }
    ensure!(head.contains(&format!("content-length: {}", user_data.len())) && !head.contains("chunked"), "{head}");
    let (_, head, body) = get(&bench, &file)?;
    ensure!(
        body == "d-i x string http://10.77.0.2:8080\n" && head.contains("content-type: text/plain"),
        "{head} {body}"
    );
    let length = user_data.len();
    let line = format!("52:54:00:12:34:56 answer       cloud/user-data, {length} B to 10.77.0.50");
    bench.netbootd.wait_for_line(&line, SOON)?;

    // No other address is as good, and none tells whether there is such a machine, or such a file.
    let token = file.split('/').nth(3).context("no token")?;
    let mut denied = Vec::new();
    for path in [
        "/answers/preseed.cfg".to_owned(),
        format!("/answers/preseed.cfg?{MACHINE}"),
        "/answers/preseed.cfg?mac=52:54:00:99:99:99".to_owned(),
        "/answers/s/unsigned/preseed.cfg".to_owned(),
        format!("/answers/s/{}/preseed.cfg", &token[..token.len() - 4]),
        file.replace("/s/", "/s/A"),
    ] {
        let (status, _, body) = get(&bench, &path)?;
        ensure!(status == "403", "{path}: {status} {body}");
        denied.push(body);
    }
    ensure!(denied.iter().all(|body| *body == denied[0]), "{denied:?}");
    ensure!(denied[0].starts_with(
        "the answer file preseed.cfg was not sent: it needs the signed address in the machine's own boot"
    ));
    bench.netbootd.wait_for_line("refused      the answer file preseed.cfg was not sent: ", SOON)?;
    for path in [format!("{folder}../preseed.cfg"), format!("/answers/s/{token}/cloud/user-data")] {
        ensure!(get(&bench, &path)?.0 != "200", "{path}");
    }
    // cloud-init asks for this one too, and does without.
    ensure!(get(&bench, &format!("{folder}vendor-data"))?.0 == "404");

    // A machine that is installing comes back after a restart.
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    bench.netbootd = start(&bench)?;
    ensure!(get(&bench, &format!("{folder}user-data"))?.2 == user_data, "its address is void after a restart");

    // Open, whoever tells enough of itself gets it.
    write_configuration(&bench, "[http]\nanswers_open = true\n")?;
    bench.netbootd.wait_for_line("configuration read again", SOON)?;
    let mut tries = 0;
    while get(&bench, &format!("/answers/cloud/user-data?{MACHINE}"))?.2 != user_data {
        tries += 1;
        ensure!(tries < 100, "answers are not open");
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(get(&bench, "/answers/cloud/user-data?mac=52:54:00:99:99:99")?.0 == "500", "it has no password");
    ensure!(
        get(&bench, "/answers/preseed.cfg")?.0 == "400" && get(&bench, "/answers/nothing?mac=525400123456")?.0 == "404"
    );
    Ok(())
}

/// An answer that fails is the machine's whose signed address it is, although another machine has its IP address; and it
/// says nothing of what is secret.
#[test]
fn a_failed_answer_is_told_of_its_machine_and_quotes_no_value() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    write_configuration(&bench, "")?;
    let folder = bench.lab.directory().to_owned();
    let configuration = fs::read_to_string(folder.join("netbootd.toml"))?.replace("correct: horse", "Tr0ub4dor\\\"&3");
    let remote = "[profiles.remote]\nkernel = \"http://user:Tr0ub4dor@192.0.2.9/linux\"\n";
    fs::write(folder.join("netbootd.toml"), configuration + remote)?;
    fs::write(folder.join("templates/cloud/user-data"), "#cloud-config\np: \"{{ vars.password }}\"\n")?;
    let mut command = Command::new("sh");
    // The umask of a shell, as one that starts it by hand has it.
    command.args(["-c", "umask 022; exec \"$0\" \"$@\""]).arg(daemon(&bench.server).get_program());
    command.args(daemon(&bench.server).get_args()).args(["up", "--interface", "eth1", "--config"]);
    command.arg(folder.join("netbootd.toml")).arg("--assets").arg(&bench.assets);
    command.env("NETBOOTD_STATE__URL", format!("sqlite://{}", folder.join("state.db").display()));
    bench.netbootd = Process::spawn("netbootd", &mut command)?;
    bench.netbootd.wait_for_line("waiting on eth1", START)?;

    let script = String::from_utf8(bench.curl(&[], &format!("/boot.ipxe?{MACHINE}"))?)?;
    let (_, rest) = script.split_once("s=http://10.77.0.2:8080").context("no address")?;
    let seed = rest.split_whitespace().next().unwrap_or_default().to_owned();
    // Now this address is another machine's.
    bench.curl(&[], "/boot.ipxe?mac=52:54:00:99:99:01&arch=x86_64&platform=efi")?;
    let (status, _, body) = get(&bench, &format!("{seed}user-data"))?;
    let words = "the profile's template fails: the value of vars.password cannot be used where the template puts it";
    ensure!(status == "500" && body.starts_with(words), "{status} {body}");
    bench.netbootd.wait_for_line(&format!("52:54:00:12:34:56 refused      {words}"), SOON)?;

    // cloud-init asks for these at every boot, and needs neither; a file that is missing belongs elsewhere.
    for optional in ["vendor-data", "network-config"] {
        ensure!(get(&bench, &format!("{seed}{optional}"))?.0 == "404");
    }
    ensure!(get(&bench, &format!("{seed}meta-data"))?.0 == "404");
    bench.netbootd.wait_for_line("52:54:00:12:34:56 refused      there is no answer file cloud/meta-data", SOON)?;
    let boots = String::from_utf8(bench.curl(&[], "/api/v1/machines/52:54:00:12:34:56")?)?;
    ensure!(boots.contains("put the file into the templates folder"), "{boots}");
    ensure!(!boots.contains("vendor-data") && !boots.contains("network-config"), "{boots}");

    let ready = String::from_utf8(bench.curl(&[], "/readyz?verbose")?)?;
    ensure!(ready.contains(&format!("profile cloud cannot boot: {words}")), "{ready}");
    let metrics = String::from_utf8(bench.curl(&[], "/metrics")?)?;
    ensure!(metrics.contains("netbootd_faulty_profiles 1\n"), "{metrics}");
    let profiles = String::from_utf8(bench.curl(&[], "/api/v1/profiles")?)?;
    ensure!(profiles.contains("http://user:***@192.0.2.9/linux"), "{profiles}");
    for path in
        ["/", "/api/v1/profiles", "/api/v1/machines", "/api/v1/boots", "/machines/52:54:00:12:34:56", "/readyz?verbose"]
    {
        let shown = String::from_utf8_lossy(&bench.curl(&[], path)?).into_owned();
        ensure!(!shown.contains("Tr0ub4dor"), "{path}: {shown}");
    }
    ensure!(bench.netbootd.lines().iter().all(|line| !line.contains("Tr0ub4dor")), "{:#?}", bench.netbootd.lines());
    let open = || -> Result<Vec<String>> {
        let files = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        let states = files.into_iter().filter(|path| path.display().to_string().contains("state.db"));
        let mode = |path: &Path| Ok::<_, io::Error>(fs::metadata(path)?.permissions().mode() & 0o777);
        states.map(|path| Ok(format!("{} {:o}", path.display(), mode(&path)?))).collect()
    };
    let modes = open()?;
    ensure!(modes.len() >= 3 && modes.iter().all(|file| file.ends_with(" 600")), "{modes:?}");
    // An older version, or an administrator, left it open.
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    ensure!(!String::from_utf8_lossy(&fs::read(folder.join("state.db"))?).contains("Tr0ub4dor"), "it is in the state");
    fs::set_permissions(folder.join("state.db"), fs::Permissions::from_mode(0o644))?;
    bench.netbootd = Process::spawn("netbootd", &mut command)?;
    bench.netbootd.wait_for_line("state.db had the mode 644", START)?;
    ensure!(open()?.iter().all(|file| file.ends_with(" 600")), "{:?}", open()?);
    Ok(())
}

/// Without a state the key is in memory, and a restart in the middle of an installation would end it.
#[test]
fn what_will_not_outlive_a_restart_is_told() -> Result<()> {
    if Path::new("/var/lib/netbootd").is_dir() {
        eprintln!("skipped: an installed netbootd has its state here, which is the default");
        return Ok(());
    }
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    for (is_signed, more) in [(true, ""), (false, "[http]\nanswers_open = true\n")] {
        bench.netbootd.signal(Signal::SIGTERM)?;
        bench.netbootd.wait_exit(START)?;
        write_configuration(&bench, more)?;
        let mut command = daemon(&bench.server);
        command.args(["up", "--interface", "eth1", "--config"]).arg(bench.lab.directory().join("netbootd.toml"));
        command.arg("--assets").arg(&bench.assets).env_remove("NETBOOTD_STATE__URL");
        bench.netbootd = Process::spawn("netbootd", &mut command)?;
        bench.netbootd.wait_for_line("waiting on eth1", START)?;
        let words = "warning: there is no state, so the addresses of answer files will not outlive a restart";
        let told = bench.netbootd.lines().iter().filter(|line| line.contains(words)).count();
        ensure!(told == usize::from(is_signed), "it is told {told} times");
        let assigned = tell(&bench.server, &["assign", "52:54:00:12:34:56", "local"])?;
        let forgets =
            "netbootd: warning: the server has no state file and loses this change when it stops: set state.url";
        ensure!(assigned.status.success() && said(&assigned).contains(forgets), "{}", said(&assigned));
    }
    Ok(())
}

/// A connection whose client never learns of what is sent to it: segments with data are dropped before TCP sees them.
fn deaf(bench: &Bench, path: &str) -> Result<TcpStream> {
    let step = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
    let drop_long = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, 1, 100),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    connection(bench, path, |socket| socket.attach_filter(&drop_long))
}

/// A GET whose answer nobody reads.
fn connection(bench: &Bench, path: &str, set: impl FnOnce(&Socket) -> io::Result<()> + Send) -> Result<TcpStream> {
    let mut stream: TcpStream = bench.client.enter(|| -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        set(&socket)?;
        socket.connect(&SocketAddr::from((SERVER, 8080)).into())?;
        Ok(socket.into())
    })??;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: iPXE/1.21.1\r\n\r\n")?;
    Ok(stream)
}

fn reset(stream: TcpStream) -> io::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// iPXE on UEFI may start its kernel without acknowledging the end of the last file. That is its one boot all the same:
/// the second time an installer would wipe what the first time made.
#[test]
fn who_falls_silent_at_the_very_end_has_had_its_one_boot() -> Result<()> {
    let rules =
        ["01", "02", "03"].map(|n| format!("[[machines]]\nmac = \"52:54:00:00:00:{n}\"\nonce = true\n")).concat();
    let Some(bench) = Bench::with_configuration(&rules)? else { return Ok(()) };
    // All of it fits into the first flight (RFC 6928: 10 segments), so that no acknowledgement is needed to send it.
    fs::write(bench.assets.join("debian/initrd.img"), noise(8_000, 2))?;
    // Where its script says that its files are: several machines boot from this address.
    let folder = |mac: &str| -> Result<String> {
        let script = bench.curl(&[], &format!("/boot.ipxe?mac={mac}&arch=x86_64&platform=efi"))?;
        let script = String::from_utf8(script)?;
        let kernel = script.split("\nkernel http://10.77.0.2:8080").nth(1).and_then(|rest| rest.split_once("/vmlinuz"));
        Ok(kernel.with_context(|| format!("{mac} boots nothing: {script}"))?.0.to_owned())
    };
    let boot = |mac: &str| -> Result<TcpStream> {
        let folder = folder(mac)?;
        bench.curl(&["--output", "/dev/null"], &format!("{folder}/vmlinuz"))?;
        deaf(&bench, &format!("{folder}/debian/initrd.img"))
    };
    let is_spent = |mac: &str| {
        let script = bench.curl(&[], &format!("/boot.ipxe?mac={mac}&arch=x86_64&platform=efi"))?;
        Ok::<_, anyhow::Error>(!String::from_utf8(script)?.contains("\nkernel http://"))
    };
    let handed_over = |mac: &str| format!("{mac} handed_over  probably: it was sent all of debian/initrd.img, ");

    // For good.
    let first = "52:54:00:00:00:01";
    let silent = boot(first)?;
    bench.netbootd.wait_for_line(&handed_over(first), 3 * SOON)?;
    reset(silent)?;
    // The end of the connection is no failure then.
    let end = format!("{first} initrd       debian/initrd.img: acknowledged 0 B of 8000 B: the client closed");
    bench.netbootd.wait_for_line(&end, SOON)?;
    ensure!(is_spent(first)?, "it would be installed again");

    // Until what was started says that it knows nothing of such a connection.
    let second = "52:54:00:00:00:02";
    let silent = boot(second)?;
    bench.netbootd.wait_for(&format!("{second} pauses"), SOON, |line| {
        line.contains(&format!("{second} initrd       debian/initrd.img: no progress for "))
    })?;
    reset(silent)?;
    bench.netbootd.wait_for_line(&handed_over(second), SOON)?;
    ensure!(is_spent(second)?, "it would be installed again");

    // One that was reset in the middle has started nothing.
    let third = "52:54:00:00:00:03";
    fs::write(bench.assets.join("debian/initrd.img"), noise(24_000_000, 2))?;
    let folder = folder(third)?;
    bench.curl(&["--output", "/dev/null"], &format!("{folder}/vmlinuz"))?;
    let stalled =
        connection(&bench, &format!("{folder}/debian/initrd.img"), |socket| socket.set_recv_buffer_size(64 << 10))?;
    let paused = format!("{third} initrd       debian/initrd.img: alive, paused ");
    bench.netbootd.wait_for_line(&paused, SOON)?;
    reset(stalled)?;
    bench.netbootd.wait_for_line(&format!("{third} initrd       debian/initrd.img: stopped at "), SOON)?;
    ensure!(!is_spent(third)?, "it was sent to its disk, and has not booted");
    Ok(())
}
