//! Who a machine is and what it gets, as values: no socket, file or clock is in here, so every question about what a machine
//! gets ("which loader?", "which script?", "why nothing?") has one answer, and a test can ask it.
//!
//! From the bottom up:
//!
//! | subject | files |
//! |---|---|
//! | addresses, texts, reasons | [`mac`], [`text`], [`why`], [`over`], [`recent`] |
//! | who a machine is | [`client`], [`identity`], [`hardware`], [`selector`], [`roster`], [`happened`], [`strangers`] |
//! | what can be booted | [`loader`], [`loaders`], [`program`], [`chain`], [`profile`], [`image`], [`length`], [`template`], [`source`] |
//! | the decision | [`live`], [`machine`], [`next`], [`shape`], [`learned`], [`faults`], [`shadow`], [`again`], [`beginning`] |
//! | what the machine is sent | [`query`], [`script`], [`outcome`], [`pxelinux`], [`grub`], [`answer`], [`urls`] |

pub mod again;
pub mod answer;
pub mod beginning;
pub mod chain;
pub mod client;
pub mod clock;
pub mod faults;
pub mod grub;
pub mod happened;
pub mod hardware;
pub mod heard;
pub mod identity;
pub mod image;
pub mod installer;
pub mod learned;
pub mod length;
pub mod live;
pub mod loader;
pub mod loaders;
pub mod mac;
mod mac_filters;
pub mod machine;
pub mod next;
pub mod outcome;
pub mod over;
pub mod own;
pub mod policy;
pub mod probe;
pub mod profile;
pub mod program;
pub mod pxelinux;
pub mod query;
pub mod reason;
pub mod recent;
mod rendered;
pub mod roster;
pub mod script;
pub mod selector;
pub mod shadow;
pub mod shape;
pub mod signed;
pub mod source;
pub mod strangers;
pub mod template;
pub mod text;
pub mod urls;
