//! Time in nanoseconds.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds of the machine's monotonic clock, the same in every process since boot.
///
/// About 20 ns per call; workers read it once per burst, never per packet.
#[must_use]
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of processor time that this thread has used, for benches: what others do on the
/// machine hardly shows in it.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// A clock that exists on every Linux.
#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid, writable timespec for the whole call.
    let status = unsafe { libc::clock_gettime(clock, &raw mut now) };
    // The call fails only for an unknown clock or a bad pointer.
    debug_assert_eq!(status, 0, "clock {clock} exists on every Linux");
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// Nanoseconds since the Unix epoch, for the time stamps of captures; 0 before 1970, the largest
/// value after 2554. Not monotonic.
#[must_use]
pub fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let mut last = now_ns();
        for _ in 0..10_000 {
            let now = now_ns();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn the_wall_clock_is_past_2025() {
        assert!(unix_ns() > 1_735_689_600_000_000_000);
    }
}
