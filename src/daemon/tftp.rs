//! The TFTP stage has a thread of its own, where nothing else delays its packets.

use std::{io, thread};

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{memory::Memory, plan::Plan};
use crate::tftp::serve::{Doors, Ports, Stage, doors};

/// Starts it; it ends when the doors are dropped and its last transfer is over, which `tasks` wait for.
pub(super) fn start(plan: &Plan, memory: &Memory, tasks: &TaskTracker) -> io::Result<Doors> {
    let stage = Stage {
        live: plan.live.clone(),
        assets: plan.fixed.assets.clone(),
        attempts: memory.attempts.clone(),
        answer_key: memory.answer_key.clone(),
        ports: match (plan.fixed.tftp.single_port, &plan.fixed.tftp.transfer_ports) {
            (true, _) => Ports::Single,
            (false, Some(range)) => Ports::Range(range.clone()),
            (false, None) => Ports::Any,
        },
        max_transfers: plan.fixed.tftp.max_transfers,
        max_transfers_per_client: plan.fixed.tftp.max_transfers_per_client,
        events: memory.events.clone(),
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
