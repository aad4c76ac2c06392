//! What the views ask of the running server, and have it change.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::sync::broadcast;

use crate::{
    boot::{identity::MachineId, mac::MacAddr, roster::Assignment, strangers::Permission},
    lease::view::Leases,
    timeline::machines::{Line, Snapshot},
};

/// The running server.
pub trait Server: Send + Sync + 'static {
    /// Gives a machine a profile; returns when that is on the disk.
    fn assign(&self, machine: MachineId, assignment: Assignment) -> Answer<'_, Result<(), Refusal>>;
    /// Takes back what was said of a machine; whether there was something.
    fn unassign(&self, machine: MachineId) -> Answer<'_, Result<bool, Refusal>>;
    /// Gives a machine its one-time profile again; whether it had used it up, or tried it.
    fn renew(&self, machine: MachineId) -> Answer<'_, Result<bool, Refusal>>;
    /// Forgets what was learned of a machine's firmware: the shape of its offers, and the kind of its loader; whether there
    /// was something.
    fn forget(&self, machine: MachineId) -> Answer<'_, Result<bool, Refusal>>;
    /// Lets a machine in that no rule names, or no more; whether it was in. Returns when that is on the disk.
    fn approve(&self, machine: MachineId, approved: bool) -> Answer<'_, Result<bool, Refusal>>;
    /// Does what a person says about a machine that no rule names: on a terminal, the page or the API. Returns when what
    /// outlives the server is on the disk.
    fn permit(&self, machine: MachineId, permission: Permission) -> Answer<'_, Result<(), Refusal>>;
    /// Waits until something was said or approved. For one who waits.
    fn permitted(&self) -> Answer<'_, ()> {
        Box::pin(std::future::pending())
    }
    /// Sends the magic packet for each of these cards on the interface that the machine was heard on; `known` is that of
    /// an earlier run. The interface's name.
    fn wake(
        &self,
        machine: MachineId,
        cards: Vec<MacAddr>,
        known: Option<String>,
    ) -> Answer<'_, Result<String, Refusal>>;
    /// The leases, and how they stand.
    fn leases(&self) -> Leases;
    /// Whether there is a disk to keep what is said.
    fn keeps(&self) -> bool;
    /// The interface that a machine was heard on last.
    fn heard_on(&self, machine: MachineId) -> Option<Arc<str>>;
    /// What was seen of all machines.
    fn snapshot(&self) -> Answer<'_, Arc<Snapshot>>;
    /// The same with everything that is kept of machines, also of those that were seen long ago by other appliances.
    fn whole_snapshot(&self) -> Answer<'_, Arc<Snapshot>> {
        self.snapshot()
    }
    /// The name of this appliance, where several share one state.
    fn appliance(&self) -> Option<&str> {
        None
    }
    /// The steps after the one of this number, as far as they are remembered, and those to come; without a number,
    /// those to come. `None` when the server stops.
    fn steps(&self, after: Option<u64>) -> Answer<'_, Option<Steps>>;
}

/// An answer that takes its time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A step of some machine's boot, as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Counts the steps since the server started.
    pub number: u64,
    /// The step.
    pub line: Line,
}

/// Steps, and those to come. Who is too slow to take them misses some.
#[derive(Debug)]
pub struct Steps {
    /// In order.
    pub before: Vec<Arc<Told>>,
    /// In order.
    pub coming: broadcast::Receiver<Arc<Told>>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is at fault.
    #[error("{0}")]
    Wrong(String),
    /// The server is: a full disk.
    #[error("{0}")]
    Failed(String),
}
