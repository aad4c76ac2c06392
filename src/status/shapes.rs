//! What the API answers with and is asked by, as JSON.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    server::Refusal,
    view::{self, WholeBoot},
};
use crate::boot::strangers::Permission;

/// This server.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Version {
    pub(super) version: String,
}

/// A machine with everything that is remembered of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Whole {
    #[serde(flatten)]
    pub(super) machine: view::Machine,
    /// Its boots, the last one first.
    pub(super) boots: Vec<WholeBoot>,
}

/// A boot, and whose.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct OneBoot {
    /// The machine's `id`.
    pub(super) machine: String,
    pub(super) boot: view::Boot,
}

/// Something to boot.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Profile {
    pub(super) name: String,
    /// What people read in the menu.
    pub(super) title: Option<String>,
    /// Of an image: what it is and how it is booted, and the memory that it needs.
    pub(super) about: Vec<String>,
    /// Below the assets folder, where no variant fits.
    pub(super) files: Vec<String>,
    /// The builds of iPXE that it has variants for.
    pub(super) arch: Vec<String>,
    pub(super) built_in: bool,
}

/// An iPXE binary.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Loader {
    /// The firmware that runs it.
    #[serde(rename = "for")]
    pub(super) of: &'static str,
    pub(super) name: String,
    /// Where it was found.
    pub(super) origin: String,
    /// In bytes.
    pub(super) size: usize,
    pub(super) sha256: String,
}

/// What `PUT …/assignment` brings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Its name; `menu`, `local` and `shell` are built in.
    pub(super) profile: String,
    /// For its next boot that comes to its hand-over only.
    #[serde(default)]
    pub(super) once: bool,
}

/// What `PUT …/permission` brings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Permitted {
    /// Whether it may boot.
    pub(super) permission: Permission,
}

/// What was sent to wake a machine.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Woken {
    /// On this interface.
    pub(super) interface: String,
    /// For these MAC addresses.
    pub(super) cards: Vec<String>,
}

/// An error, in words for people in a shape for programs (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// Of the status.
    pub(super) title: &'static str,
    pub(super) status: u16,
    /// What is wrong, and the fix.
    pub(super) detail: String,
}

impl Problem {
    /// Its media type.
    pub(super) const KIND: &str = "application/problem+json";

    pub(super) fn of(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        Self { kind: "about:blank", title, status: status.as_u16(), detail: detail.into() }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Wrong(words) => Self::of(StatusCode::UNPROCESSABLE_ENTITY, words),
            Refusal::Failed(words) => Self::of(StatusCode::INTERNAL_SERVER_ERROR, words),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, Self::KIND)], Json(self)).into_response()
    }
}
