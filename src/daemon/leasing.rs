//! The leases of the server: read at the start, and stored before their replies are sent.

use std::{sync::Arc, time::Duration};

use rustix::rand::GetRandomFlags;
use tokio::sync::mpsc;
use tracing::warn;

use super::plan::Plan;
use crate::{
    dhcp::office::{Office, ToKeep},
    state::State,
};

/// Starts what the configuration says about leases; none if no address is leased.
pub(super) async fn start(plan: &Plan, state: Option<&State>) -> Option<Arc<Office>> {
    let terms = plan.fixed.lease.clone()?;
    let kept = match state {
        Some(state) => state.leases().await.unwrap_or_else(|error| {
            warn!("the leases of the last run cannot be read: {error}; each address is tried before it is offered");
            Vec::new()
        }),
        None => Vec::new(),
    };
    let keep = state.map(|state| {
        let (keep, to_keep) = mpsc::unbounded_channel();
        tokio::spawn(store(state.clone(), to_keep));
        keep
    });
    if keep.is_none() {
        // They are each appliance's own, and are not on the server that several share.
        let key = if plan.fixed.state_server.is_some() { "state.copy" } else { "state.url" };
        warn!(
            "there is no state, so leases are forgotten when netbootd stops: name a file with {key}; until then, each \
             address is tried before it is offered"
        );
    }
    let mut nonce = [0; 4];
    // Two servers with the same number would only not stop for each other at the same moment.
    let _ = rustix::rand::getrandom(&mut nonce, GetRandomFlags::empty());
    Some(Arc::new(Office::new(terms, plan.live.clone(), &kept, keep, u32::from_ne_bytes(nonce))))
}

/// Stores leases until the office has gone: what came while the disk was busy goes to it together. A lease that cannot be
/// stored is given all the same: a boot does not wait for a disk.
async fn store(state: State, mut to_keep: mpsc::UnboundedReceiver<ToKeep>) {
    let (mut batch, mut is_told) = (Vec::new(), false);
    while to_keep.recv_many(&mut batch, BATCH).await > 0 {
        let (kept, then): (Vec<_>, Vec<_>) = batch.drain(..).map(|keep| (keep.kept, keep.then)).unzip();
        let stored = tokio::time::timeout(PATIENCE, state.set_leases(&kept)).await;
        let stored = stored.map_err(|_| "the disk is too slow".to_owned()).and_then(|s| s.map_err(|e| e.to_string()));
        match stored {
            Ok(()) => is_told = false,
            Err(error) if !std::mem::replace(&mut is_told, true) => {
                warn!("leases cannot be stored, and are forgotten at a restart: {error}");
            }
            Err(_) => {}
        }
        then.into_iter().flatten().for_each(|then| then());
    }
}

/// Leases in one write.
const BATCH: usize = 1024;
/// A machine asks again after a few seconds.
const PATIENCE: Duration = Duration::from_secs(3);
