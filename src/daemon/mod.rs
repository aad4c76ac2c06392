//! The running server: everything is bound, told of, served, and let go in this order.

pub mod bind;
pub mod loaders;
pub mod logging;
pub mod plan;
pub mod recorder;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    bind::{Bound, Sockets},
    plan::Plan,
};
use crate::{
    boot::timeline::Event,
    dhcp, http,
    net::{port::Port, udp::Endpoint},
    tftp,
};

/// Runs a server until SIGTERM or SIGINT, and for the plan's grace period more where transfers run. A second signal ends it at once.
///
/// # Errors
/// What could not be bound, or a system call that no server can do without.
pub fn run(plan: Plan) -> Result<(), bind::BindError> {
    raise_descriptor_limit();
    let sockets = bind::bind(&plan)?;
    plan.announce();
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().map_err(bind::BindError::runtime)?;
    runtime.block_on(serve(Arc::new(plan), sockets)).map_err(bind::BindError::runtime)?;
    // What is still on its way after the grace period is not waited for.
    runtime.shutdown_background();
    Ok(())
}

/// A connection and the file that it sends are two descriptors, and the usual limit is 1,024 of them; every process may
/// raise it as far as the hard limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit on open files stays as it is: with many clients, some may be turned away");
    }
}

async fn serve(plan: Arc<Plan>, sockets: Sockets) -> io::Result<()> {
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let (events, received) = mpsc::channel(EVENTS);
    let app = Arc::new(http::routes::App {
        rules: plan.rules.clone(),
        assets: plan.assets.clone(),
        base_url: plan.base_url.clone(),
        started: SystemTime::now(),
        is_ready: AtomicBool::new(true),
        events: events.clone(),
    });
    let recorder = tokio::spawn(recorder::record(received));
    let mut stages = JoinSet::new();
    for (Bound { socket, interface, .. }, port) in sockets.dhcp {
        let here = dhcp::proxy::Here { address: interface.address(), base_url: plan.base_url(interface.address()) };
        let (endpoint, rules, events) = (Endpoint::new(socket)?, plan.rules.clone(), events.clone());
        stages.spawn(dhcp::serve::Listener { endpoint, port, here, rules, events }.serve(stop.clone()));
    }
    if !sockets.tftp.is_empty() {
        stages.spawn(serve_tftp(tftp_stage(&plan, sockets.tftp, events)?, stop.clone()));
    }
    let http = Arc::new(http::listener::Stage::new(plan.http_limits(), app.events.clone()));
    let downloads = http.running();
    for listener in sockets.http {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        stages.spawn(http.clone().serve(listener, http::routes::router(app.clone()), stop.clone()));
    }
    drop(http);
    let waiting: Vec<String> = plan.interfaces.iter().map(ToString::to_string).collect();
    info!("waiting on {}: {}", waiting.join(", "), plan.clients());

    first_signal(&mut signals).await;
    info!("stopping; running transfers have {} s to come to their end", plan.grace.as_secs());
    app.is_ready.store(false, Ordering::Relaxed);
    drop(app);
    stop.cancel();
    let drained = tokio::time::timeout(plan.grace, async { while stages.join_next().await.is_some() {} });
    tokio::select! {
        drained = drained => match drained {
            Ok(()) => {
                // Every sender of events is gone: the recorder comes to its end by itself.
                let _ = tokio::time::timeout(Duration::from_secs(1), recorder).await;
                info!("stopped");
            }
            Err(_) => warn!("stopped; {} HTTP downloads were cut off", downloads.load(Ordering::Relaxed)),
        },
        () = first_signal(&mut signals) => warn!("stopped at once by a second signal"),
    }
    Ok(())
}

async fn first_signal((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The TFTP stage has a thread of its own, where nothing else delays its packets. Ends with the stage.
async fn serve_tftp(stage: tftp::serve::Stage, stop: CancellationToken) {
    let serve = || -> io::Result<_> {
        let (stopped, stopper) = io::pipe()?;
        let (ended, end) = oneshot::channel();
        let serve = move || {
            let _ = ended.send(stage.serve(stopped));
        };
        thread::Builder::new().name("tftp".to_owned()).spawn(serve)?;
        Ok((stopper, end))
    };
    let failure = match serve() {
        Err(error) => Some(error.to_string()),
        Ok((stopper, mut end)) => {
            let ended = tokio::select! {
                ended = &mut end => ended,
                () = stop.cancelled() => {
                    drop(stopper);
                    end.await
                }
            };
            match ended {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("a fault in netbootd, which is told above".to_owned()),
            }
        }
    };
    if let Some(error) = failure {
        warn!(error, "the TFTP stage failed");
    }
}

fn tftp_stage(plan: &Plan, sockets: Vec<Bound>, events: mpsc::Sender<Event>) -> io::Result<tftp::serve::Stage> {
    let listener = |Bound { socket, interface, address }| {
        let headers = 32;
        let block_size = u16::try_from(interface.mtu.saturating_sub(headers)).unwrap_or(u16::MAX);
        Ok(tftp::serve::Listener {
            port: Arc::new(Port::new(socket)?),
            address,
            base_url: plan.base_url(address),
            limits: tftp::transfer::Limits {
                block_size: block_size.max(512).min(plan.tftp.max_block_size),
                window_size: plan.tftp.max_window_size,
            },
        })
    };
    Ok(tftp::serve::Stage {
        listeners: sockets.into_iter().map(listener).collect::<io::Result<_>>()?,
        rules: plan.rules.clone(),
        assets: plan.assets.clone(),
        ports: match (plan.tftp.single_port, &plan.tftp.transfer_ports) {
            (true, _) => tftp::serve::Ports::Single,
            (false, Some(range)) => tftp::serve::Ports::Range(range.clone()),
            (false, None) => tftp::serve::Ports::Any,
        },
        max_transfers: plan.tftp.max_transfers,
        max_transfers_per_client: plan.tftp.max_transfers_per_client,
        events,
    })
}

/// Events that wait for the recorder; beyond it they are dropped, since no client must wait for a log line.
const EVENTS: usize = 16_384;
