//! Redis as the second tier and as the keeper of the purge index. No type of the client library leaves this folder.

mod cluster;
mod connecting;
mod driver;
mod failure;
mod figures;
mod gathering;
mod health;
pub mod history;
mod index;
mod journal;
mod keys;
mod leases;
pub mod memory;
mod past;
mod reads;
mod replicas;
mod request;
mod scripts;
mod sentinel;
mod servers;
mod slots;
mod waiting;
mod wake;

pub use driver::Sent;
pub use failure::Failure;
pub use figures::Command;
pub use index::RedisIndex;
pub use keys::Keys;
pub use leases::Leases;
pub use replicas::Beat;
pub use scripts::{REMOVE, REPLACE};
pub use servers::Servers;
pub use wake::listen;
