//! What people and programs ask of a running server, and tell it: views of what the stages saw and of what decides.

pub mod access;
pub mod api;
pub mod events;
pub mod page;
pub mod screen;
pub mod server;
pub mod view;
