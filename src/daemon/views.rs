//! What people and programs ask of a running server: the API, the status page and the metrics.

use std::sync::Arc;

use axum::Router;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    control::{ControlSocket, Running},
    memory::Memory,
    plan::Plan,
};
use crate::status::{self, api::Api, page::Waiting};

/// See the module.
pub(super) struct Views {
    /// All of them. HTTP and the control socket serve it.
    pub(super) router: Router,
    /// What the server waits for, in words.
    pub(super) waiting: Waiting,
}

impl Views {
    /// A view that is left out here is not served; nothing else knows of it.
    pub(super) fn new(plan: &Plan, server: &Arc<Running>, memory: &Memory, stop: &CancellationToken) -> Self {
        let on: Vec<String> = plan.interfaces.iter().map(ToString::to_string).collect();
        let waiting = Waiting { on: on.join(", "), clients: plan.clients() };
        let token = plan.fixed.control.token.clone();
        let api = Arc::new(Api { live: plan.live.clone(), server: server.clone(), token, stop: stop.clone() });
        let page = status::page::Page::new(api.clone(), waiting.clone());
        let router = status::api::router(api).merge(status::page::router(page)).merge(status::metrics::router(
            memory.metrics.clone(),
            server.clone(),
            plan.live.clone(),
        ));
        Self { router, waiting }
    }

    /// Serves them on the control socket. Boots do not need it.
    pub(super) async fn serve_on_this_host(&self, plan: &Plan, tasks: &TaskTracker, stop: &CancellationToken) {
        match ControlSocket::open(&plan.fixed.control.socket).await {
            Ok(socket) => drop(tasks.spawn(socket.serve(self.router.clone(), stop.clone()))),
            Err(error) => warn!(
                "no control socket at {}: {error}; netbootd machines, assign and the like do not reach this server: set \
                 control.socket to another path, in a folder that it may write in",
                plan.fixed.control.socket.display()
            ),
        }
    }
}
