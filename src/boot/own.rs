//! What a machine is offered that is no iPXE of ours, and goes on without our script.

/// See the module. What becomes of it is not seen here: who has it whole has most likely booted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Own {
    /// A rule's own loader: its path below the assets folder.
    Loader(String),
    /// A Raspberry Pi's boot ROM fetches its firmware's files.
    RaspberryPi,
}
