//! The control socket, and what the API asks of the server: the host's own way in, by file permissions.

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    clerk::{self, Clerk},
    recorder::Question,
    sharing::Sharing,
};
use crate::{
    boot::{identity::MachineId, mac::MacAddr, roster::Assignment, strangers::Permission},
    dhcp::office::Office,
    lease::view::Leases,
    net::wake::wake,
    offers::attempts::Attempts,
    status::{
        access::Via,
        api,
        server::{Answer, Refusal, Server, Steps},
    },
    timeline::machines::{Snapshot, Timelines},
};

/// The server as the API sees it.
pub(super) struct Running {
    pub(super) clerk: Arc<Clerk>,
    pub(super) sharing: Option<Arc<Sharing>>,
    pub(super) recorder: mpsc::Sender<Question>,
    pub(super) attempts: Arc<Mutex<Attempts>>,
    /// Where addresses are leased.
    pub(super) office: Option<Arc<Office>>,
    /// That are served.
    pub(super) interfaces: Vec<String>,
}

impl Server for Running {
    fn assign(&self, machine: MachineId, Assignment { profile, once }: Assignment) -> Answer<'_, Result<(), Refusal>> {
        Box::pin(async move { self.clerk.assign(machine, &profile, once).await.map_err(refusal) })
    }

    fn unassign(&self, machine: MachineId) -> Answer<'_, Result<bool, Refusal>> {
        Box::pin(async move { self.clerk.unassign(machine).await.map_err(refusal) })
    }

    fn renew(&self, machine: MachineId) -> Answer<'_, Result<bool, Refusal>> {
        Box::pin(async move { self.clerk.renew(machine).await.map_err(refusal) })
    }

    fn forget(&self, machine: MachineId) -> Answer<'_, Result<bool, Refusal>> {
        Box::pin(async move {
            let was_kept = self.clerk.forget_firmware(machine).await.map_err(refusal)?;
            Ok(self.attempts.lock().unwrap_or_else(PoisonError::into_inner).forget(machine) || was_kept)
        })
    }

    fn approve(&self, machine: MachineId, approved: bool) -> Answer<'_, Result<bool, Refusal>> {
        Box::pin(async move { self.clerk.approve(machine, approved).await.map_err(refusal) })
    }

    fn permit(&self, machine: MachineId, permission: Permission) -> Answer<'_, Result<(), Refusal>> {
        Box::pin(async move { self.clerk.permit(machine, permission).await.map_err(refusal) })
    }

    fn permitted(&self) -> Answer<'_, ()> {
        Box::pin(self.clerk.permitted())
    }

    fn wake(
        &self,
        machine: MachineId,
        cards: Vec<MacAddr>,
        known: Option<String>,
    ) -> Answer<'_, Result<String, Refusal>> {
        Box::pin(async move {
            let heard = cards.iter().find_map(|card| self.heard_on((*card).into())).map(|name| name.to_string());
            let only = || match self.interfaces.as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            };
            let interface = heard.or(known).or_else(only).ok_or_else(|| {
                let served = self.interfaces.join(", ");
                Refusal::Wrong(format!(
                    "{machine} was not seen on any interface yet, and {served} are possible: boot it from the network once"
                ))
            })?;
            let cards: Vec<_> = cards.into_iter().map(|MacAddr(card)| card).collect();
            wake(&interface, &cards).map_err(|error| Refusal::Failed(error.to_string()))?;
            Ok(interface)
        })
    }

    fn leases(&self) -> Leases {
        self.office.as_ref().map(|office| office.view()).unwrap_or_default()
    }

    fn keeps(&self) -> bool {
        self.clerk.keeps()
    }

    fn heard_on(&self, machine: MachineId) -> Option<Arc<str>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).heard_on(machine)
    }

    fn snapshot(&self) -> Answer<'_, Arc<Snapshot>> {
        Box::pin(async move {
            let own = self.own_snapshot().await;
            match &self.sharing {
                Some(sharing) => Arc::new(own.merged(&sharing.others(Timelines::MACHINES).await)),
                None => own,
            }
        })
    }

    fn whole_snapshot(&self) -> Answer<'_, Arc<Snapshot>> {
        Box::pin(async move {
            let own = self.own_snapshot().await;
            match &self.sharing {
                Some(sharing) => Arc::new(own.merged(&sharing.others(usize::MAX).await)),
                None => own,
            }
        })
    }

    fn appliance(&self) -> Option<&str> {
        self.sharing.as_ref().map(|sharing| sharing.name())
    }

    fn steps(&self, after: Option<u64>) -> Answer<'_, Option<Steps>> {
        Box::pin(self.ask(move |answer| Question::Steps { after, answer }))
    }
}

impl Running {
    async fn own_snapshot(&self) -> Arc<Snapshot> {
        let told = self.ask(Question::Snapshot).await;
        // A recorder that has gone, as the server stops, has seen nothing.
        told.unwrap_or_default()
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (answer, told) = oneshot::channel();
        self.recorder.send(question(answer)).await.ok()?;
        told.await.ok()
    }
}

fn refusal(refusal: clerk::Refusal) -> Refusal {
    match refusal {
        clerk::Refusal::NoProfile { .. } => Refusal::Wrong(refusal.to_string()),
        clerk::Refusal::NotKept(_) | clerk::Refusal::Perhaps(_) => Refusal::Failed(refusal.to_string()),
    }
}

/// The socket; it is removed with this.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Opens it, in the place of one that a killed server left behind. Needs a runtime.
    ///
    /// # Errors
    /// Those of the system calls; `AddrInUse` where another server answers there.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            // A package makes it; the first start on a laptop has none.
            let _ = std::fs::create_dir_all(folder);
        }
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another netbootd answers there"));
        }
        match std::fs::symlink_metadata(path) {
            Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path)?,
            // The path may be a mistake, and the file may be needed.
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file, which is no socket")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves root and the server's own user until `stop`. Others who may open it, such as its group, are refused with the reason.
    pub(super) async fn serve(self, router: Router, stop: CancellationToken) {
        let router = router.layer(Extension(Via::ControlSocket));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: those that are open will close.
                    warn!(%error, "accepting a connection on the control socket failed; it is tried again");
                    sleep(PAUSE_AFTER_ERROR).await;
                    continue;
                }
            };
            let own = rustix::process::geteuid().as_raw();
            let service = match stream.peer_cred() {
                Ok(peer) if peer.uid() == 0 || peer.uid() == own => router.clone(),
                peer => {
                    debug!(?peer, "a user may not use the control socket");
                    api::stranger()
                }
            };
            let service = TowerToHyperService::new(service);
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut http = http1::Builder::new();
                http.title_case_headers(true);
                let conversation = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    ended = conversation => drop(ended.inspect_err(|error| debug!(%error, "the control socket's client"))),
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Errors of accept come in streams. A command waits for longer than this.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener as Listener};

    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_nothing_else_is() {
        let scratch = tempfile::tempdir().expect("a folder");
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("state.db"), "a state").expect("written");
        std::os::unix::fs::symlink("state.db", at("link")).expect("made");
        for name in ["state.db", "link"] {
            let refused = ControlSocket::open(&at(name)).await.expect_err("a file").to_string();
            assert_eq!(refused, "there is a file, which is no socket");
        }
        assert_eq!(fs::read(at("state.db")).expect("still there"), b"a state");
        assert!(at("link").is_symlink());

        drop(Listener::bind(at("left")).expect("bound"));
        let socket = ControlSocket::open(&at("left")).await.expect("opened");
        assert!(ControlSocket::open(&at("left")).await.is_err(), "it is in use");
        drop(socket);
        assert!(!at("left").exists());
    }
}
