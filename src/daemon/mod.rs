//! The running server: everything is bound, told of, served, and let go in this order.

pub mod bind;
pub mod clerk;
mod control;
pub mod explain;
mod listeners;
pub mod loaders;
pub mod logging;
pub mod plan;
pub mod recorder;
pub mod reload;
mod tftp;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    rand::GetRandomFlags,
};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::{
    bind::{BindError, Sockets},
    clerk::Clerk,
    control::{ControlSocket, Running},
    listeners::{Listeners, Shared},
    plan::Plan,
    recorder::Recorder,
    reload::{Read, Reload},
};
use crate::{
    boot::{answer::Key, attempts::Attempts},
    config::resolve::StateUrl,
    http,
    net::own_loop::OwnLoop,
    state::{State, StateError},
    status::{self, api::Api, metrics::Metrics},
};

/// Runs a server until SIGTERM or SIGINT, and for the plan's grace period more where transfers run. A second signal
/// ends it at once. `read` reads the configuration anew, for SIGHUP and when it changes.
///
/// # Errors
/// What could not be bound, or a system call that no server can do without.
pub fn run(plan: Plan, read: Read) -> Result<(), StartError> {
    raise_descriptor_limit();
    let sockets = bind::bind(&plan)?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().map_err(BindError::runtime)?;
    let state = runtime.block_on(open_state(&plan.state))?;
    runtime.block_on(serve(Arc::new(plan), read, sockets, state)).map_err(BindError::runtime)?;
    // What is still on its way after the grace period is not waited for.
    runtime.shutdown_background();
    Ok(())
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// What is to outlive a restart.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Where the configuration names no state, none is needed: a laptop has no folder for it, and boots go on without.
async fn open_state(url: &StateUrl) -> Result<Option<State>, StartError> {
    match url {
        StateUrl::Set(url) => Ok(Some(State::open(url).await?)),
        StateUrl::Default(url) => {
            let folder = Path::new(url.trim_start_matches("sqlite://")).parent();
            if !folder.is_some_and(Path::is_dir) {
                return Ok(None);
            }
            let opened = State::open(url).await.inspect_err(|error| warn!("{error}; boots go on without it"));
            Ok(opened.ok())
        }
    }
}

/// A connection and the file that it sends are two descriptors, and the usual limit is 1,024 of them; every process may
/// raise it as far as the hard limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit on open files stays as it is: with many clients, some may be turned away");
    }
}

async fn serve(plan: Arc<Plan>, read: Read, sockets: Sockets, state: Option<State>) -> io::Result<()> {
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let (events, received) = mpsc::channel(EVENTS);
    let answer_key = answer_key(state.as_ref()).await?;
    let (clerk, shapes, timelines) = Clerk::new(state, plan.live.clone()).await;
    let attempts = Arc::new(Mutex::new(Attempts::new(plan.dhcp.rates, shapes)));
    let app = Arc::new(http::routes::App {
        live: plan.live.clone(),
        assets: plan.assets.clone(),
        listing: plan.listing,
        base_url: plan.base_url.clone(),
        started: SystemTime::now(),
        attempts: attempts.clone(),
        answer_key,
        is_ready: AtomicBool::new(true),
        events: events.clone(),
    });
    let (to_keep, kept) = mpsc::channel(EVENTS);
    let (ask, questions) = mpsc::channel(16);
    let metrics = Arc::new(Metrics::default());
    let recorder = Recorder::new(attempts, to_keep, timelines, metrics.clone());
    let recorder = tokio::spawn(recorder.record(received, questions));
    let clerk = Arc::new(clerk);
    let keeper = tokio::spawn(clerk.clone().keep(kept));
    let tasks = TaskTracker::new();
    let server = Arc::new(Running { clerk, recorder: ask });
    let metrics = status::metrics::router(metrics, server.clone());
    let api = Api { live: plan.live.clone(), server, token: plan.control.token.clone() };
    let api = status::api::router(Arc::new(api)).merge(metrics);
    match ControlSocket::open(&plan.control.socket).await {
        Ok(socket) => drop(tasks.spawn(socket.serve(api.clone(), stop.clone()))),
        // Nothing that a boot needs.
        Err(error) => info!("no control socket at {}: {error}", plan.control.socket.display()),
    }
    let tftp = tftp::start(&plan, events.clone(), &tasks)?;
    let workers = http::workers::Workers::start()?;
    let http = Arc::new(http::listener::Stage::new(plan.http_limits, workers, events.clone()));
    let downloads = http.running();
    let shared = Shared {
        plan: plan.clone(),
        events,
        http,
        app: app.clone(),
        api,
        tftp,
        tasks: tasks.clone(),
        stop: stop.clone(),
        ours: watch::Sender::default(),
        dhcp: OwnLoop::start("dhcp".into())?,
    };
    let mut listeners = Listeners::start(shared, sockets)?;
    let mut reload = Reload::new(read, plan.live.clone(), plan.fixed.clone(), plan.watched.clone())?;
    plan.announce();
    let waiting: Vec<String> = plan.interfaces.iter().map(ToString::to_string).collect();
    info!("waiting on {}: {}", waiting.join(", "), plan.clients());

    tokio::select! {
        () = first_signal(&mut signals) => {}
        () = listeners.follow() => {}
        () = reload.follow() => {}
    }
    // With it go the ways to open more.
    drop(listeners);
    info!("stopping; running transfers have {} s to come to their end", plan.grace.as_secs());
    app.is_ready.store(false, Ordering::Relaxed);
    drop(app);
    stop.cancel();
    tasks.close();
    let drained = tokio::time::timeout(plan.grace, tasks.wait());
    tokio::select! {
        drained = drained => match drained {
            Ok(()) => {
                // Every sender of events is gone: the recorder comes to its end by itself.
                let _ = tokio::time::timeout(Duration::from_secs(1), async { tokio::join!(recorder, keeper) }).await;
                info!("stopped");
            }
            Err(_) => warn!("stopped; {} HTTP downloads were cut off", downloads.load(Ordering::Relaxed)),
        },
        () = first_signal(&mut signals) => warn!("stopped at once by a second signal"),
    }
    Ok(())
}

/// Made once and kept: machines that are installing come back for their answers also after a restart.
async fn answer_key(state: Option<&State>) -> io::Result<Key> {
    let mut fresh = [0; Key::LENGTH];
    // Bytes of the kernel's generator, which are all there when it has been seeded (getrandom(2), up to 256 bytes).
    rustix::rand::getrandom(&mut fresh, GetRandomFlags::empty())?;
    let Some(state) = state else { return Ok(Key::new(fresh)) };
    let kept = state.secret("answers", &fresh).await;
    let kept = kept
        .map_err(|error| error.to_string())
        .and_then(|kept| <[u8; Key::LENGTH]>::try_from(kept).map_err(|kept| format!("it has {} bytes", kept.len())));
    Ok(Key::new(kept.unwrap_or_else(|error| {
        warn!("the key of answer files could not be kept, and their addresses will not outlive a restart: {error}");
        fresh
    })))
}

async fn first_signal((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Events that wait for the recorder; beyond it they are dropped, since no client must wait for a log line.
const EVENTS: usize = 16_384;
