//! The commands of `larder`, a file each.

pub mod check;
pub mod schema;
