//! Blocking until one of several descriptors is readable.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::sys;

/// Most descriptors per [`wait()`]: a worker has two ports and a control socket.
pub const WAIT_MAX: usize = 64;

/// Which descriptors of a [`wait()`] have something to read, or are closed or broken, which a read
/// will then tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready(u64);

impl Ready {
    /// Whether any descriptor is ready; `false` after a timeout.
    #[must_use]
    pub const fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether the descriptor at `index` of the list given to [`wait()`] is ready.
    #[must_use]
    pub const fn is_ready(self, index: usize) -> bool {
        index < WAIT_MAX && (self.0 >> index) & 1 == 1
    }
}

/// Sleeps until one of `descriptors` is readable or `timeout` has passed (`None` = for ever).
///
/// A signal ends the wait early with nothing ready, so a caller that checks a stop flag sees it.
///
/// # Errors
///
/// `InvalidInput` for more than [`WAIT_MAX`] descriptors, otherwise the system's reason.
pub fn wait(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Ready> {
    if descriptors.len() > WAIT_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut polled = [libc::pollfd {
        fd: -1,
        events: libc::POLLIN,
        revents: 0,
    }; WAIT_MAX];
    for (place, descriptor) in polled.iter_mut().zip(descriptors) {
        place.fd = descriptor.as_raw_fd();
    }
    let polled = polled.get_mut(..descriptors.len()).unwrap_or_default();
    sys::poll(polled, timeout)?;
    let ready = polled
        .iter()
        .enumerate()
        .filter(|(_, place)| place.revents != 0);
    Ok(Ready(ready.fold(0, |bits, (index, _)| bits | (1 << index))))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn only_the_descriptor_with_data_is_ready() {
        let quiet = UdpSocket::bind("127.0.0.1:0").unwrap();
        let spoken_to = UdpSocket::bind("127.0.0.1:0").unwrap();
        quiet
            .send_to(b"x", spoken_to.local_addr().unwrap())
            .unwrap();

        let ready = wait(
            &[quiet.as_fd(), spoken_to.as_fd()],
            Some(Duration::from_secs(5)),
        )
        .unwrap();

        assert!(ready.any() && !ready.is_ready(0) && ready.is_ready(1) && !ready.is_ready(64));
    }

    #[test]
    fn a_timeout_leaves_nothing_ready() {
        let quiet = UdpSocket::bind("127.0.0.1:0").unwrap();

        let ready = wait(&[quiet.as_fd()], Some(Duration::from_millis(1))).unwrap();

        assert!(!ready.any());
    }

    #[test]
    fn more_descriptors_than_the_limit_are_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let many = vec![socket.as_fd(); WAIT_MAX + 1];

        let error = wait(&many, Some(Duration::ZERO)).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
