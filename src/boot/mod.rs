//! The decisions of a boot, as values: no socket, file or clock is in here, so every question about what a machine
//! gets ("which loader?", "which script?", "why nothing?") has one answer, and a test can ask it.

pub mod answer;
pub mod attempts;
pub mod cause;
pub mod client;
pub mod clock;
pub mod event;
pub mod faults;
pub mod hardware;
pub mod heard;
pub mod identity;
pub mod image;
pub mod installer;
pub mod loader;
mod mac_filters;
pub mod machine;
pub mod moment;
pub mod next;
pub mod own;
pub mod peer;
pub mod profile;
pub mod pxelinux;
pub mod recent;
mod rendered;
pub mod report;
pub mod rival;
pub mod roster;
pub mod script;
pub mod selector;
pub mod shadow;
pub mod source;
pub mod stage;
pub mod template;
pub mod timeline;
pub mod timelines;
pub mod urls;
pub mod why;
