//! What serves one socket, begun with what all of them share.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    daemon::plan::Plan,
    dhcp::{
        answer::Answer,
        lessor::Lessor,
        office::{Desk, Office},
        proxy::{Here, Port},
        serve::{Listener, Place},
        standby::Standby,
        transport::Transport,
        watch::Watch,
    },
    http,
    net::{
        echo::Echo,
        interface::Interface,
        own_loop::OwnLoop,
        raw::{OpenTap, Tap},
    },
    status::access::Via,
    tftp::serve::Doors,
    timeline::event::Event,
};

/// What every listener gets.
pub(in crate::daemon) struct Shared {
    pub(in crate::daemon) plan: Arc<Plan>,
    pub(in crate::daemon) events: mpsc::Sender<Event>,
    pub(in crate::daemon) http: Arc<http::listener::Stage>,
    pub(in crate::daemon) app: Arc<http::app::App>,
    pub(in crate::daemon) api: Router,
    /// To the thread that serves TFTP.
    pub(in crate::daemon) tftp: Doors,
    pub(in crate::daemon) tasks: TaskTracker,
    pub(in crate::daemon) stop: CancellationToken,
    /// Machines that are left to another server for a moment.
    pub(in crate::daemon) standby: Arc<Mutex<Standby>>,
    pub(in crate::daemon) ours: watch::Sender<Vec<Ipv4Addr>>,
    /// Where addresses are leased.
    pub(in crate::daemon) office: Option<Arc<Office>>,
    /// What serves DHCP.
    pub(in crate::daemon) dhcp: OwnLoop,
}

impl Shared {
    pub(super) fn place(&self, interface: &Interface) -> Place {
        let address = interface.address();
        let name = interface.name.as_str().into();
        let http = &self.plan.fixed.http;
        let (base_url, firmware_url) = (http.base(address), http.firmware_base(address));
        let here = Here { address, base_url, firmware_url, interface: name };
        Place { here, on: interface.clone() }
    }

    /// Serves port 67, with leases where there is a desk.
    pub(super) fn serve_requests(&self, dhcp: &Dhcp, transport: Transport, arp: Option<OpenTap>) -> JoinHandle<()> {
        let lessor = self.office.clone().zip(dhcp.desk.clone()).map(|(office, desk)| {
            let arp = arp.and_then(|tap| Tap::new(tap).ok());
            Lessor::new(office, desk, (arp, Echo::open().ok()))
        });
        self.spawn(dhcp, transport, Port::Dhcp, dhcp.exchange.clone(), lessor)
    }

    pub(super) fn serve_port(
        &self,
        dhcp: &Dhcp,
        transport: Transport,
        port: Port,
        stop: CancellationToken,
    ) -> JoinHandle<()> {
        self.spawn(dhcp, transport, port, stop, None)
    }

    fn spawn(
        &self,
        dhcp: &Dhcp,
        transport: Transport,
        port: Port,
        stop: CancellationToken,
        lessor: Option<(Lessor, mpsc::UnboundedReceiver<Answer>)>,
    ) -> JoinHandle<()> {
        let (live, events, place) = (self.app.live.clone(), self.events.clone(), dhcp.place.subscribe());
        let attempts = self.app.attempts.clone();
        self.tasks.spawn_on(
            Listener { transport, port, place, live, attempts, events, lessor, standby: self.standby.clone() }
                .serve(stop),
            self.dhcp.handle(),
        )
    }

    pub(super) fn watch(&self, dhcp: &Dhcp, replies: Option<OpenTap>, stop: CancellationToken) {
        if let Some(tap) = replies.and_then(|tap| Tap::new(tap).ok()) {
            let (ours, attempts, events) = (self.ours.subscribe(), self.app.attempts.clone(), self.events.clone());
            let desk = self.office.clone().zip(dhcp.desk.clone());
            let live = self.app.live.clone();
            self.tasks.spawn_on(Watch { tap, ours, attempts, live, events, desk }.serve(stop), self.dhcp.handle());
        }
    }

    pub(super) fn serve_http(&self, listener: std::net::TcpListener, stop: CancellationToken) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        // The API asks where a request came from, and does not know the stage that it came by.
        let came_by = async |mut request: Request, next: Next| {
            let ends = request.extensions().get::<http::ends::Ends>().copied();
            if let Some(ends) = ends {
                request.extensions_mut().insert(Via::Tcp(ends.peer.ip()));
            }
            next.run(request).await
        };
        let routes = http::routes::Routes::new(self.app.clone(), self.api.clone().layer(from_fn(came_by)));
        self.tasks.spawn(self.http.clone().serve(listener, routes, stop));
        Ok(())
    }
}

/// An interface's listeners.
pub(super) struct Dhcp {
    pub(super) index: u32,
    pub(super) place: watch::Sender<Place>,
    /// Ends them all.
    pub(super) stop: CancellationToken,
    /// Ends those that change when another server comes to this host.
    pub(super) exchange: CancellationToken,
    /// Port 67's, where it is bound and would make way.
    pub(super) bound: Option<JoinHandle<()>>,
    /// Where addresses are leased on the interface.
    pub(super) desk: Option<Arc<Desk>>,
    /// Who had the port at the last look: to find out whose they are is more work than to see that nothing has changed.
    pub(super) holders: Vec<u64>,
}
