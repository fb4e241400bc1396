//! Floor 6: the kernel's side. Alone names `fuser`; only translates between its requests and the views.

mod attach;
pub mod attributes;
pub mod browse;
pub mod commit;
pub mod control;
pub mod errno;
mod invalidate;
pub mod namespace;
pub mod overlay;
mod pulse;
mod relay;
mod reply;
mod session;
pub mod stage;
mod table;

pub use attach::{check_mountpoint, unmount};
pub use pulse::Pulse;
pub use session::{Cause, Ended, MountError, Session, SessionOptions, Stopper};
pub use table::mounts_below;
