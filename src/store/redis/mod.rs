//! Redis as the second tier and as the keeper of the purge index. No type of the client library leaves this folder.

mod connecting;
mod driver;
mod feed;
mod figures;
mod health;
pub mod history;
mod index;
mod journal;
mod keys;
pub mod memory;
mod replicas;
mod scripts;
mod servers;
pub mod sources;
mod wake;

pub use driver::{Failure, Sent};
pub use feed::{Connected, Entry, Feed, Heard, StreamState};
pub use figures::Command;
pub use index::RedisIndex;
pub use keys::Keys;
pub use replicas::Beat;
pub use scripts::REMOVE;
pub use servers::Servers;
pub use wake::listen;
