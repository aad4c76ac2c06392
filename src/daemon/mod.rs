//! The running server: everything is bound, told of, served, and let go in this order.

mod bars;
pub mod bind;
pub mod clerk;
mod control;
pub mod explain;
mod faults;
mod footer;
mod keeping;
mod listeners;
pub mod loaders;
pub mod logging;
mod notify;
pub mod plan;
pub mod privileges;
pub mod recorder;
pub mod reload;
pub mod sandbox;
mod tftp;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    rand::GetRandomFlags,
};
use tokio::{
    runtime::{self, Handle},
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
    privileges::PrivilegeError,
    recorder::Recorder,
    reload::{Read, Reload},
    sandbox::{Bounds, Held},
};
use crate::{
    boot::{answer::Key, recent::Recent},
    http,
    net::own_loop::OwnLoop,
    offers::attempts::Attempts,
    state::State,
    status::{self, api::Api, metrics::Metrics, page::Waiting},
};

/// Runs a server until SIGTERM or SIGINT, and for the plan's grace period more where transfers run. A second signal
/// ends it at once. `read` reads the configuration anew, for SIGHUP and when it changes.
///
/// # Errors
/// What could not be bound, or a system call that no server can do without.
pub fn run(plan: Plan, read: Read, confinement: &Confinement) -> Result<(), StartError> {
    raise_descriptor_limit();
    let sockets = bind::bind(&plan)?;
    // Before there are threads: each has rights of its own.
    let bounds = confine(&plan, confinement)?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().map_err(BindError::runtime)?;
    let opened = runtime.block_on(keeping::open(&plan.state));
    if opened.state.is_none() && opened.fault.is_none() && plan.live.rules.load().machines.iter().any(|(_, r)| r.once) {
        warn!(
            "there is no state, so which machines had their one-time profile is forgotten at a restart, and they get it \
             again: name one with state.url"
        );
    }
    plan.live.state_fault.store(opened.fault.map(Arc::new));
    runtime.block_on(serve(Arc::new(plan), read, sockets, opened.state, bounds)).map_err(BindError::runtime)?;
    // What is still on its way after the grace period is not waited for.
    runtime.shutdown_background();
    Ok(())
}

/// What a server gives up once its ports are open.
#[derive(Clone, Debug)]
pub enum Confinement {
    /// Nothing.
    No,
    /// What it needs no more, as this user, where one is named.
    Yes {
        /// The user's name.
        user: Option<String>,
    },
}

/// What it may reach from then on; none: everything.
fn confine(plan: &Plan, confinement: &Confinement) -> Result<Option<Bounds>, StartError> {
    let Confinement::Yes { user } = confinement else { return Ok(None) };
    let user = privileges::whom(user.as_deref())?;
    if let Some(user) = &user {
        keeping::hand_over(&plan.state, user);
    }
    if let Some(folder) = plan.control.socket.parent() {
        privileges::hand_over(folder, user.as_ref());
    }
    let bounds = Bounds::of(plan);
    privileges::give_up(user.as_ref())?;
    let who = user.map(|user| format!(" as {user}")).unwrap_or_default();
    match sandbox::enter(&bounds)? {
        Held::Not => {
            info!(
                "not sandboxed{who}: this kernel has no Landlock, or was started without it (lsm= on its command line)"
            );
            return Ok(None);
        }
        Held::Partly => info!("sandboxed{who} as far as this kernel can: writes only in {}", bounds.writes()),
        Held::Fully => info!("sandboxed{who}: writes only in {}", bounds.writes()),
    }
    Ok(Some(bounds))
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Who it is to be.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// What it may reach.
    #[error("the sandbox: {0}; --no-sandbox goes on without")]
    Sandbox(#[from] landlock::RulesetError),
}

/// A connection and the file that it sends are two descriptors, and the usual limit is 1,024 of them; every process may
/// raise it as far as the hard limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit on open files stays as it is: with many clients, some may be turned away");
    }
}

async fn serve(
    plan: Arc<Plan>,
    read: Read,
    sockets: Sockets,
    state: Option<State>,
    bounds: Option<Bounds>,
) -> io::Result<()> {
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let (events, received) = mpsc::channel(EVENTS);
    let signs_answers = {
        let rules = plan.live.rules.load();
        !rules.answers.open && !rules.templates.answers().is_empty()
    };
    let answer_key = answer_key(state.as_ref(), signs_answers).await?;
    let (clerk, shapes, timelines) = Clerk::new(state, plan.live.clone()).await;
    let attempts = Arc::new(Mutex::new(Attempts::new(plan.dhcp.rates, shapes)));
    let app = Arc::new(http::app::App {
        scripts: Mutex::new(Recent::new(http::app::ADDRESSES)),
        live: plan.live.clone(),
        assets: plan.assets.clone(),
        listing: plan.listing,
        base_url: plan.base_url.clone(),
        interfaces: ArcSwap::default(),
        started: SystemTime::now(),
        began: Instant::now(),
        clock: Mutex::default(),
        attempts: attempts.clone(),
        answer_key: answer_key.clone(),
        is_ready: AtomicBool::new(true),
        events: events.clone(),
    });
    let (to_keep, kept) = mpsc::channel(EVENTS);
    let (ask, questions) = mpsc::channel(16);
    let metrics = Arc::new(Metrics::default());
    let recorder = Recorder::new(attempts.clone(), to_keep, timelines, metrics.clone());
    let recorder = tokio::spawn(recorder.record(received, questions));
    let clerk = Arc::new(clerk);
    let keeper = tokio::spawn(clerk.clone().keep(kept));
    let tasks = TaskTracker::new();
    let server = Arc::new(Running {
        clerk,
        recorder: ask,
        attempts: attempts.clone(),
        interfaces: plan.interfaces.iter().map(|interface| interface.name.clone()).collect(),
    });
    let bars = bars::follow(server.clone(), plan.live.clone());
    let metrics = status::metrics::router(metrics, server.clone(), plan.live.clone());
    let token = plan.control.token.clone();
    let api = Arc::new(Api { live: plan.live.clone(), server, token, stop: stop.clone() });
    let waiting: Vec<String> = plan.interfaces.iter().map(ToString::to_string).collect();
    let waiting = Waiting { on: waiting.join(", "), clients: plan.clients() };
    let page = status::page::Page::new(api.clone(), waiting.clone());
    let api = status::api::router(api).merge(status::page::router(page)).merge(metrics);
    match ControlSocket::open(&plan.control.socket).await {
        Ok(socket) => drop(tasks.spawn(socket.serve(api.clone(), stop.clone()))),
        // Nothing that a boot needs.
        Err(error) => info!("no control socket at {}: {error}", plan.control.socket.display()),
    }
    let tftp = tftp::start(&plan, attempts, answer_key, events.clone(), &tasks)?;
    let workers = http::workers::Workers::start()?;
    let mut loops: Vec<Handle> = workers.handles().chain([Handle::current()]).collect();
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
    loops.push(shared.dhcp.handle().clone());
    let mut listeners = Listeners::start(shared, sockets)?;
    let is_sandboxed = bounds.is_some();
    let mut reload = Reload::new(read, &plan, bounds)?;
    plan.live.faults.store(Arc::new(faults::look(&plan.live, plan.assets.as_deref())));
    let files = faults::follow(plan.live.clone(), plan.assets.clone(), is_sandboxed);
    plan.announce();
    let waiting = format!("waiting on {}: {}", waiting.on, waiting.clients);
    info!("{waiting}");
    notify::ready(&waiting);
    notify::keep_alive(loops);

    tokio::select! {
        () = first_signal(&mut signals) => {}
        () = listeners.follow() => {}
        () = reload.follow() => {}
        () = files => {}
        () = bars => {}
    }
    notify::stopping(plan.grace);
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
async fn answer_key(state: Option<&State>, signs_answers: bool) -> io::Result<Key> {
    let mut fresh = [0; Key::LENGTH];
    // Bytes of the kernel's generator, which are all there when it has been seeded (getrandom(2), up to 256 bytes).
    rustix::rand::getrandom(&mut fresh, GetRandomFlags::empty())?;
    let Some(state) = state else {
        if signs_answers {
            warn!(
                "there is no state, so the addresses of answer files will not outlive a restart: name one with state.url"
            );
        }
        return Ok(Key::new(fresh));
    };
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
