//! The servers, each as its users run it, and what they cost.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};
use netbootd_lab::{Host, Lab, Meter, Process, unread};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Netbootd,
    NginxAccessLog,
    NginxNoLog,
    ServeDir,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Netbootd => "netbootd",
            Kind::NginxAccessLog => "nginx, access_log",
            Kind::NginxNoLog => "nginx, no log",
            Kind::ServeDir => "axum + ServeDir",
        }
    }

    /// Of the paths of files.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Kind::Netbootd => "/assets",
            Kind::NginxAccessLog | Kind::NginxNoLog | Kind::ServeDir => "",
        }
    }
}

/// Running.
pub(crate) struct Server {
    process: Process,
    meter: Meter,
    /// What it prints.
    log: PathBuf,
}

impl Server {
    /// On the first CPU alone, or on all.
    pub(crate) fn start(kind: Kind, lab: &Lab, host: &Host, is_pinned: bool) -> Result<Self> {
        let folder = lab.directory().join("assets");
        let me = std::env::current_exe()?;
        let log = lab.directory().join("printed.log");
        let mut command = unread(host, &log);
        if is_pinned {
            command.args(["taskset", "-c", "0"]);
        }
        match kind {
            Kind::Netbootd => {
                command.arg(me.with_file_name("netbootd"));
                command.args(["up", "--interface", "eth1", "--assets"]).arg(&folder);
                // All clients have one address here.
                command.env("NETBOOTD_HTTP__MAX_CONNECTIONS_PER_CLIENT", "4096").env_remove("NETBOOTD_LOG");
            }
            Kind::NginxAccessLog | Kind::NginxNoLog => {
                // What the server before it wrote.
                let _ = fs::remove_file(lab.directory().join("access.log"));
                let config = lab.directory().join("nginx.conf");
                fs::write(&config, nginx_config(&folder, lab.directory(), kind == Kind::NginxAccessLog))?;
                command.args(["/usr/sbin/nginx", "-c"]).arg(&config);
            }
            Kind::ServeDir => {
                // A connection and its file are two descriptors; unlike the others it does not raise the limit itself.
                command
                    .args(["sh", "-c", "ulimit -n $(ulimit -Hn); exec \"$0\" serve-dir \"$1\""])
                    .arg(me)
                    .arg(&folder);
            }
        }
        let (process, meter) = Meter::spawn(kind.name(), &mut command)?;
        let server = Self { process, meter, log };
        match server.wait_until_it_listens(host) {
            Ok(()) => Ok(server),
            Err(error) => server.stop().and(Err(error)),
        }
    }

    fn wait_until_it_listens(&self, host: &Host) -> Result<()> {
        for _ in 0..400 {
            if host.enter(|| std::net::TcpStream::connect(("10.77.0.2", 8080)))?.is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        bail!("{} does not listen: {}", self.process.label(), fs::read_to_string(&self.log)?)
    }

    /// CPU time of all its threads and processes, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        self.meter.seconds()
    }

    /// The memory that all its processes have now, in MB.
    pub(crate) fn rss(&self) -> Result<f64> {
        self.meter.resident_megabytes()
    }

    pub(crate) fn stop(self) -> Result<()> {
        drop(self.process);
        // nginx's workers live on without their master.
        self.meter.end()
    }
}

/// The log, where there is one, has nginx's default format, and each line is written at once.
fn nginx_config(folder: &Path, scratch: &Path, has_log: bool) -> String {
    let (folder, scratch) = (folder.display(), scratch.display());
    let access_log = if has_log { format!("{scratch}/access.log") } else { "off".to_owned() };
    format!(
        "daemon off;\nuser root;\nworker_processes auto;\nworker_rlimit_nofile 65536;\npid {scratch}/nginx.pid;\n\
         error_log {scratch}/nginx.log;\nevents {{ worker_connections 8192; }}\n\
         http {{ access_log {access_log}; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         server {{ listen 8080 backlog=4096; root {folder}; }} }}\n"
    )
}

/// The peer that this very program can be.
pub(crate) fn serve_dir(folder: PathBuf) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(("0.0.0.0", 8080)).await?;
        let router = axum::Router::new().fallback_service(tower_http::services::ServeDir::new(folder));
        Ok(axum::serve(listener, router).await?)
    })
}
