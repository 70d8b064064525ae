//! A descriptor to wait on, for devices that raise no event.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What a worker does while nothing arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// It sleeps so long after an empty burst, at most a second, then looks again. The receive
    /// queue has to hold what arrives meanwhile.
    Sleep(Duration),
    /// It looks again at once and keeps a processor to itself.
    Spin,
}

impl Default for Idle {
    /// 50 µs: at 10 million packets per second 500 arrive meanwhile, of the 1024 that a receive
    /// queue holds (chosen).
    fn default() -> Self {
        Self::Sleep(Duration::from_micros(50))
    }
}

/// A timer that an empty burst sets.
#[derive(Debug)]
pub(super) struct IdleTimer {
    descriptor: OwnedFd,
    idle: Idle,
}

impl IdleTimer {
    /// A timer whose descriptor is readable.
    pub(super) fn new(idle: Idle) -> io::Result<Self> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: takes no pointer.
        let raw = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the system made the descriptor just now, for us alone.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        let timer = Self { descriptor, idle };
        timer.set(Duration::from_nanos(1))?;
        Ok(timer)
    }

    /// After an empty burst: makes the descriptor unreadable until the time has passed.
    pub(super) fn nothing_received(&self) -> io::Result<()> {
        match self.idle {
            Idle::Sleep(time) => self.set(time),
            Idle::Spin => Ok(()),
        }
    }

    fn set(&self, time: Duration) -> io::Result<()> {
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let once = libc::itimerspec {
            it_interval: zero,
            it_value: libc::timespec {
                tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(1),
                tv_nsec: time.subsec_nanos().into(),
            },
        };
        // SAFETY: the descriptor is an open timer; `once` lives during the call; the old setting is
        // not asked for.
        let status = unsafe {
            libc::timerfd_settime(
                self.descriptor.as_raw_fd(),
                0,
                &raw const once,
                std::ptr::null_mut(),
            )
        };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl AsFd for IdleTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait;

    fn is_ready(timer: &IdleTimer, timeout: Duration) -> bool {
        wait(&[timer.as_fd()], Some(timeout)).unwrap().any()
    }

    #[test]
    fn nothing_received_makes_it_unreadable_until_the_time_has_passed() {
        let long = IdleTimer::new(Idle::Sleep(Duration::from_secs(600))).unwrap();
        let short = IdleTimer::new(Idle::Sleep(Duration::from_micros(50))).unwrap();
        assert!(is_ready(&long, Duration::from_secs(5)));

        long.nothing_received().unwrap();
        short.nothing_received().unwrap();

        assert!(is_ready(&short, Duration::from_secs(5)));
        assert!(!is_ready(&long, Duration::ZERO));
    }

    #[test]
    fn spinning_is_always_ready() {
        let timer = IdleTimer::new(Idle::Spin).unwrap();
        assert!(is_ready(&timer, Duration::from_secs(5)));

        timer.nothing_received().unwrap();

        assert!(is_ready(&timer, Duration::ZERO));
    }
}
