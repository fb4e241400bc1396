//! A clock of this machine that goes on while the process is stopped and while the machine sleeps. For differences.

use std::time::Duration;

/// The time since some moment in the past.
pub fn awake() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into `now` alone. With a clock that every kernel has since 2.6.39 it cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
