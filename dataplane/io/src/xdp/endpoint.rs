//! A GTP-U endpoint on an XDP port, with the kernel's own socket beside it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::port::XdpPort;
use crate::udp::UdpPort;
use crate::{Burst, Descriptor, Families, IoError, Losses, Outgoing, PacketPort, PacketSource};

/// Bursts of the XDP port between two looks at the socket beside it while packets keep coming
/// (chosen: one system call for 2048 packets, and fragments wait less than a millisecond).
const LOOK_EVERY: u8 = 64;

/// An [`XdpPort`] and [`UdpPort`]s on the same addresses.
///
/// The socket takes what the steering program leaves to the kernel: packets that came in
/// fragments, and those of queues that no port serves. It sends what a frame cannot carry: packets
/// above the link's MTU, which the kernel cuts, those whose next hop is not known yet, which the
/// kernel resolves meanwhile, and those of the other address family than the port's endpoint.
#[derive(Debug)]
pub struct XdpEndpoint {
    xdp: XdpPort,
    beside: Families<UdpPort>,
    /// Whose burst the current one is.
    current: Current,
    /// Bursts of the XDP port until the socket is looked at.
    until_look: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Current {
    Xdp,
    Beside,
}

impl XdpEndpoint {
    /// Joins both; they should have the same address.
    #[must_use]
    pub const fn new(xdp: XdpPort, beside: Families<UdpPort>) -> Self {
        Self {
            xdp,
            beside,
            current: Current::Xdp,
            until_look: LOOK_EVERY,
        }
    }

    /// The XDP port.
    #[must_use]
    pub const fn xdp(&self) -> &XdpPort {
        &self.xdp
    }

    fn receive_beside(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        self.current = Current::Beside;
        self.until_look = LOOK_EVERY;
        self.beside.recv_burst(burst)
    }
}

impl PacketSource for XdpEndpoint {
    #[inline]
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        self.until_look = self.until_look.saturating_sub(1);
        if self.until_look == 0 && self.receive_beside(burst)? > 0 {
            return Ok(burst.len());
        }
        self.current = Current::Xdp;
        match self.xdp.recv_burst(burst)? {
            0 => self.receive_beside(burst),
            packets => Ok(packets),
        }
    }

    #[inline]
    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        match self.current {
            Current::Xdp => self.xdp.frame(descriptor),
            Current::Beside => self.beside.frame(descriptor),
        }
    }
}

impl PacketPort for XdpEndpoint {
    #[inline]
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        match (self.xdp.send(items), items.first()) {
            (Err(IoError::Refused { source, .. }), Some(first)) if kernel_may_send(&source) => {
                self.beside.send(&[*first])
            }
            (sent, _) => sent,
        }
    }

    fn more_fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        let [other_family, _] = self.beside.more_fds();
        [Some(self.beside.as_fd()), other_family]
    }

    fn losses(&mut self) -> Losses {
        self.xdp.losses()
    }
}

impl AsFd for XdpEndpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.xdp.as_fd()
    }
}

/// Whether the kernel can do what a frame cannot: cut the packet, find the next hop, or send in the
/// other address family.
fn kernel_may_send(refusal: &io::Error) -> bool {
    matches!(
        refusal.raw_os_error(),
        Some(libc::EMSGSIZE | libc::EHOSTUNREACH | libc::EAFNOSUPPORT)
    )
}
