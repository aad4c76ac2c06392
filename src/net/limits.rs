//! What TCP clients are held to, as it is configured and as it is served by.

use std::time::Duration;

/// There is no limit on how slow a client may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections in all.
    pub max_connections: u32,
    /// Connections of one address.
    pub max_connections_per_client: u32,
    /// Bytes per second for one client; 0: no limit.
    pub rate_limit: u64,
    /// Until the first keepalive probe on a connection without traffic.
    pub idle: Duration,
    /// Between keepalive probes.
    pub interval: Duration,
    /// Unanswered keepalive probes that end a connection.
    pub probes: u32,
    /// Without any acknowledgement while data is outstanding.
    pub dead_after: Duration,
}
