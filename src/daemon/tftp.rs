//! The TFTP stage has a thread of its own, where nothing else delays its packets.

use std::{
    io,
    sync::{Arc, Mutex},
    thread,
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::plan::Plan;
use crate::{
    boot::answer::Key,
    offers::attempts::Attempts,
    tftp::serve::{Doors, Ports, Stage, doors},
    timeline::event::Event,
};

/// Starts it; it ends when the doors are dropped and its last transfer is over, which `tasks` wait for.
pub(super) fn start(
    plan: &Plan,
    attempts: Arc<Mutex<Attempts>>,
    answer_key: Key,
    events: mpsc::Sender<Event>,
    tasks: &TaskTracker,
) -> io::Result<Doors> {
    let stage = Stage {
        live: plan.live.clone(),
        assets: plan.assets.clone(),
        attempts,
        answer_key,
        ports: match (plan.tftp.single_port, &plan.tftp.transfer_ports) {
            (true, _) => Ports::Single,
            (false, Some(range)) => Ports::Range(range.clone()),
            (false, None) => Ports::Any,
        },
        max_transfers: plan.tftp.max_transfers,
        max_transfers_per_client: plan.tftp.max_transfers_per_client,
        events,
    };
    let (outside, inside) = doors()?;
    let (ended, end) = oneshot::channel();
    let serve = move || drop(ended.send(stage.serve(inside)));
    thread::Builder::new().name("tftp".to_owned()).spawn(serve)?;
    tasks.spawn(async move {
        let failure = match end.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a fault in netbootd, logged above".to_owned(),
        };
        warn!("the TFTP stage failed: {failure}");
    });
    Ok(outside)
}
