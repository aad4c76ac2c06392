//! The servers, each as its users run it, and what they cost.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use netbootd_lab::{Host, Lab, Process};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Netbootd,
    Nginx,
    ServeDir,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Netbootd, Kind::Nginx, Kind::ServeDir];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Netbootd => "netbootd",
            Kind::Nginx => "nginx (sendfile)",
            Kind::ServeDir => "axum + ServeDir",
        }
    }

    /// Of the paths of files.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Kind::Netbootd => "/assets",
            Kind::Nginx | Kind::ServeDir => "",
        }
    }
}

/// Running, and killed when dropped.
pub(crate) struct Server {
    process: Process,
}

impl Server {
    pub(crate) fn start(kind: Kind, lab: &Lab, host: &Host) -> Result<Self> {
        let folder = lab.directory().join("assets");
        let me = std::env::current_exe()?;
        let mut command;
        match kind {
            Kind::Netbootd => {
                command = host.command(me.with_file_name("netbootd"));
                command.args(["up", "--interface", "eth1", "--assets"]).arg(&folder);
                // All clients have one address here.
                command.env("NETBOOTD_HTTP__MAX_CONNECTIONS_PER_CLIENT", "4096").env("NETBOOTD_LOG", "netbootd=warn");
            }
            Kind::Nginx => {
                let config = lab.directory().join("nginx.conf");
                fs::write(&config, nginx_config(&folder, lab.directory()))?;
                command = host.command("/usr/sbin/nginx");
                command.arg("-c").arg(&config);
            }
            Kind::ServeDir => {
                // A connection and its file are two descriptors; unlike the others it does not raise the limit itself.
                command = host.command("sh");
                command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" serve-dir \"$1\""]).arg(me).arg(&folder);
            }
        }
        let server = Self { process: Process::spawn(kind.name(), &mut command)? };
        server.wait_until_it_listens(host)?;
        Ok(server)
    }

    fn wait_until_it_listens(&self, host: &Host) -> Result<()> {
        for _ in 0..200 {
            if host.enter(|| std::net::TcpStream::connect(("10.77.0.2", 8080)))?.is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{} does not listen: {:?}", self.process.label(), self.process.lines())
    }

    /// CPU time of all its threads and processes (`/proc/PID/task/TID/schedstat`, nanoseconds first).
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut total = 0;
        for pid in self.pids()? {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                // A thread may end meanwhile.
                let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
                total += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        Ok(Duration::from_nanos(total))
    }

    /// MB.
    pub(crate) fn rss(&self) -> Result<f64> {
        let mut total = 0.0;
        for pid in self.pids()? {
            let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
            total += line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0 / 1e6;
        }
        Ok(total)
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let pid = self.process.pid();
        let children = Command::new("pgrep").args(["-P", &pid.to_string()]).output()?;
        let children = String::from_utf8(children.stdout)?;
        Ok(children.lines().filter_map(|line| line.parse().ok()).chain([pid]).collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx's workers end with their master only if it is asked.
        let _ = self.process.signal(netbootd_lab::Signal::SIGTERM);
        let _ = self.process.wait_exit(Duration::from_secs(1));
    }
}

fn nginx_config(folder: &Path, scratch: &Path) -> String {
    let (folder, scratch) = (folder.display(), scratch.display());
    format!(
        "daemon off;\nuser root;\nworker_processes auto;\nworker_rlimit_nofile 65536;\npid {scratch}/nginx.pid;\n\
         error_log {scratch}/nginx.log;\nevents {{ worker_connections 8192; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         server {{ listen 8080 backlog=4096; root {folder}; }} }}\n"
    )
}

/// The peer that this very program can be.
pub(crate) fn serve_dir(folder: &str) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(("0.0.0.0", 8080)).await?;
        let router = axum::Router::new().fallback_service(tower_http::services::ServeDir::new(folder));
        Ok(axum::serve(listener, router).await?)
    })
}
