//! The running server: everything is bound, logged, served, and closed in this order.

mod bars;
pub mod bind;
mod changes;
pub mod clerk;
mod control;
pub mod explain;
pub mod explain_capture;
mod faults;
mod footer;
mod keeping;
mod lease_terms;
mod leasing;
mod listeners;
pub mod loaders;
mod log_writer;
pub mod logging;
mod memory;
mod notify;
pub mod plan;
pub mod privileges;
pub mod recorder;
pub mod reload;
mod resident;
pub mod sandbox;
mod sharing;
mod signals;
pub mod talk;
mod tftp;
mod unkept;
mod views;
mod waiting;

use std::{
    io,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::{self, Handle},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::{
    bind::{BindError, Sockets},
    listeners::{Listeners, Shared},
    log_writer::Apart,
    memory::Memory,
    plan::Plan,
    privileges::PrivilegeError,
    reload::{Read, Reload},
    sandbox::{Bounds, Held},
    signals::Signals,
    views::Views,
};
use crate::{boot::again, http, net::own_loop::OwnLoop, offers::attempts::Attempts, state::State};

/// Runs a server until SIGTERM or SIGINT, or until its terminal is closed, and for the plan's grace period more where
/// transfers run. A second signal ends it at once. `read` reads the configuration anew, for SIGHUP and when it changes.
///
/// # Errors
/// What could not be bound, or a system call that no server can do without.
pub fn run(plan: Plan, read: Read, confinement: &Confinement) -> Result<(), StartError> {
    raise_descriptor_limit();
    let sockets = bind::bind(&plan)?;
    // Before there are threads: each has rights of its own.
    let bounds = confine(&plan, confinement)?;
    let _apart = Apart::start().map_err(BindError::runtime)?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().map_err(BindError::runtime)?;
    runtime.block_on(async { signals::outlive_file_limit() }).map_err(BindError::runtime)?;
    let opened = runtime.block_on(keeping::open(&plan.fixed.state));
    let is_kept = opened.state.is_some() || opened.fault.is_some() || plan.fixed.state_server.is_some();
    if !is_kept && plan.live.rules.load().machines.iter().any(|(_, r)| r.once) {
        warn!(
            "there is no state, so a restart forgets which machines booted their one-time profile, and they get it \
             again: name one with state.url"
        );
    }
    // Where a server keeps the state, the file is a copy.
    plan.live.state_fault.store(opened.fault.filter(|_| plan.fixed.state_server.is_none()).map(Arc::new));
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
        keeping::hand_over(&plan.fixed.state, user);
    }
    if let Some(folder) = plan.fixed.control.socket.parent() {
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
    /// The user that it runs as.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// What it may reach.
    #[error("the sandbox: {0}; --no-sandbox starts without it")]
    Sandbox(#[from] landlock::RulesetError),
}

/// A connection and the file that it sends are two descriptors, and the usual limit is 1,024 of them; every process may
/// raise it as far as the hard limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit on open files could not be raised: with many clients, some may be refused");
    }
}

/// The parts of a running server, in the order in which they are made: each is made, watched and let go by its own file.
async fn serve(
    plan: Arc<Plan>,
    read: Read,
    sockets: Sockets,
    state: Option<State>,
    bounds: Option<Bounds>,
) -> io::Result<()> {
    let mut signals = Signals::listen()?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let office = leasing::start(&plan, state.as_ref()).await;
    // Our addresses; more come when they are served.
    let ours = watch::Sender::new(plan.interfaces.iter().flat_map(|interface| interface.addresses.clone()).collect());
    let attempts = Arc::new(Mutex::new(Attempts::new(plan.fixed.dhcp.rates, [])));
    let sharing = keeping::share(&plan, state.clone(), &ours, attempts.clone()).await;
    let memory = Memory::start(&plan, state, sharing, attempts).await?;
    let server = memory.server(&plan, office.clone());
    let views = Views::new(&plan, &server, &memory, &stop);
    views.serve_on_this_host(&plan, &tasks, &stop).await;
    let tftp = tftp::start(&plan, &memory, &tasks)?;
    let workers = http::workers::Workers::start()?;
    let mut loops: Vec<Handle> = workers.handles().chain([Handle::current()]).collect();
    let http = Arc::new(http::listener::Stage::new(
        plan.fixed.http.limits,
        plan.fixed.http.trusted_proxies.clone(),
        workers,
        memory.events.clone(),
        stop.clone(),
    ));
    let (downloads, app) = (http.running(), memory.http_app(&plan));
    let shared = Shared {
        plan: plan.clone(),
        events: memory.events.clone(),
        http,
        app: app.clone(),
        api: views.router,
        tftp,
        tasks: tasks.clone(),
        stop: stop.clone(),
        standby: Arc::default(),
        ours,
        dhcp: OwnLoop::start("dhcp".into())?,
        office,
    };
    loops.push(shared.dhcp.handle().clone());
    let mut listeners = Listeners::start(shared, sockets)?;
    let is_sandboxed = bounds.is_some();
    let mut reload = Reload::new(read, &plan, bounds)?;
    plan.live.faults.store(Arc::new(faults::look(&plan.live, plan.fixed.assets.as_deref())));
    let files = faults::follow(plan.live.clone(), plan.fixed.assets.clone(), is_sandboxed);
    let bars = bars::follow(server.clone(), plan.live.clone());
    let talk = talk::follow(server, plan.live.clone(), plan.talk.clone(), views.waiting.on.clone());
    plan.announce();
    again::lines(None, &plan.live.rules.load(), &plan.live.roster.load()).iter().for_each(|line| warn!("{line}"));
    let waiting = format!("waiting on {}: {}", views.waiting.on, views.waiting.clients);
    info!("{waiting}");
    notify::ready(&waiting);
    notify::keep_alive(loops);
    let writers = memory.into_writers();
    resident::let_go_of_start();

    tokio::select! {
        () = signals.first() => {}
        () = over(plan.ends_after) => {}
        () = listeners.follow() => {}
        () = reload.follow() => {}
        () = files => {}
        () = bars => {}
        () = talk => {}
        () = resident::trim_heap() => {}
    }
    notify::stopping(plan.fixed.http.grace);
    // With it go the ways to open more.
    drop(listeners);
    info!("stopping; running transfers have {} s to finish", plan.fixed.http.grace.as_secs());
    app.is_ready.store(false, Ordering::Relaxed);
    drop(app);
    stop.cancel();
    tasks.close();
    let drained = tokio::time::timeout(plan.fixed.http.grace, tasks.wait());
    tokio::select! {
        drained = drained => match drained {
            Ok(()) => {
                writers.end().await;
                info!("stopped");
            }
            Err(_) => warn!("stopped; {} HTTP downloads were cut off", downloads.load(Ordering::Relaxed)),
        },
        () = signals.second() => warn!("stopped at once by a second signal"),
    }
    Ok(())
}

/// Waits until the server is to end by itself (`up --for`), or without end.
async fn over(after: Option<Duration>) {
    match after {
        Some(after) => {
            tokio::time::sleep(after).await;
            info!("the time that --for gives is over");
        }
        None => std::future::pending().await,
    }
}
