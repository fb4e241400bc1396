//! Floor 6: the kernel's side. Alone names `fuser`; only translates between its requests and the views.

mod attach;
mod attributes;
mod errno;
mod session;

pub use session::{Cause, Ended, MountError, Session, SessionOptions, Stopper};
