//! LISTENS.

pub mod listener;

pub use listener::{Listener, Listeners};
