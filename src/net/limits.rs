//! The limits for TCP clients, as they are configured and used.

use std::time::Duration;

/// There is no limit on how slow a client may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections in total.
    pub max_connections: u32,
    /// Connections of one address.
    pub max_connections_per_client: u32,
    /// Bytes per second for one client; 0: no limit.
    pub rate_limit: u64,
    /// Time without traffic before the first keepalive probe.
    pub idle: Duration,
    /// Between keepalive probes.
    pub interval: Duration,
    /// Unanswered keepalive probes that close a connection.
    pub probes: u32,
    /// Time without an acknowledgement while data is outstanding.
    pub dead_after: Duration,
}
