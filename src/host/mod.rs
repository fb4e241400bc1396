//! nothing of how repositories are opened: whoever runs steps is told what to start.

pub mod hooks;
pub mod profile;
pub mod value;
