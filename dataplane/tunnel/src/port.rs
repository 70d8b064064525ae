//! A tunnel around a packet port: GTP-U in and out, WireGuard on the wire.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use qlink_io::{
    BURST_MAX, Burst, Descriptor, IoError, Losses, Outgoing, PacketPort, PacketSource, clock,
};

use crate::count::Refusal;
use crate::inner::{self, HEADER_MAX};
use crate::table::{Received, Sending, Tunnels};
use crate::{MESSAGE_MIN, MESSAGE_OVERHEAD};

/// How often [`TunnelPort::tick`] is to be called.
pub const TICK: Duration = Duration::from_millis(250);

/// Longest message that passes, bytes: a jumbo frame's worth.
pub const MESSAGE_MAX: usize = 9216;

/// Bursts without a packet for us (handshakes, refused ones) that one call looks at.
const EMPTY_BURSTS_MAX: usize = 16;

/// A port over which GTP-U goes through tunnels: a received datagram's peer is the tunnel address
/// that its key stands for, and what is sent to a tunnel address goes to where its peer is now.
///
/// Received messages may stand in it that do not make it readable: sleep only when
/// [`has_more`](Self::has_more) says that there are none.
///
/// While an end changes its key, two tables share the socket, told apart by their [`Lane`]:
/// [`TunnelPort::begin`].
///
/// [`Lane`]: crate::Lane
#[derive(Debug)]
pub struct TunnelPort<P> {
    port: P,
    gtpu: u16,
    outer: Burst,
    /// A slot for each message of a burst.
    opened: Box<[u8]>,
    /// Whether the last call ended before the port below was empty.
    more: bool,
    state: RefCell<State>,
}

/// What the second table on a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Its keys are awaited; then it takes over.
    Upcoming,
    /// The one that was taken over from: what its peers have sent still comes out.
    Previous,
}

#[derive(Debug)]
struct State {
    tunnels: Tunnels,
    beside: Option<(Beside, Tunnels)>,
    /// A packet before it is sealed.
    packet: Box<[u8]>,
    /// A slot for each message of a burst.
    sealed: Box<[u8]>,
}

impl<P: PacketPort> TunnelPort<P> {
    /// Tunnels over `port`; ours is the datagram port `gtpu` of our tunnel address.
    #[must_use]
    pub fn new(port: P, tunnels: Tunnels, gtpu: u16) -> Self {
        let slots = || vec![0; MESSAGE_MAX.saturating_mul(BURST_MAX)].into_boxed_slice();
        Self {
            port,
            gtpu,
            outer: Burst::new(),
            opened: slots(),
            more: false,
            state: RefCell::new(State {
                tunnels,
                beside: None,
                packet: vec![0; MESSAGE_MAX].into_boxed_slice(),
                sealed: slots(),
            }),
        }
    }

    /// The port below.
    #[must_use]
    pub const fn port(&self) -> &P {
        &self.port
    }

    /// The tunnel address and port at which peers reach us.
    #[must_use]
    pub fn own(&self) -> SocketAddr {
        SocketAddr::new(self.state.borrow().tunnels.address(), self.gtpu)
    }

    /// The table of peers.
    pub fn tunnels(&mut self) -> &mut Tunnels {
        &mut self.state.get_mut().tunnels
    }

    /// Brings up another table on the same socket, of another lane: as soon as one of its peers has
    /// keys it takes over. Until then, and for what comes late also afterwards, both are heard. A
    /// second table that there is already goes.
    pub fn begin(&mut self, upcoming: Tunnels) {
        self.state.get_mut().beside = Some((Beside::Upcoming, upcoming));
    }

    /// Forgets the second table.
    pub fn end_beside(&mut self) {
        self.state.get_mut().beside = None;
    }

    /// What the second table is; `None`: there is none.
    #[must_use]
    pub fn beside(&self) -> Option<Beside> {
        let state = self.state.borrow();
        state.beside.as_ref().map(|(beside, _)| *beside)
    }

    /// Whether messages may wait that do not make the port readable.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        self.more
    }

    /// Does what time asks for; see [`Tunnels::tick`].
    pub fn tick(&mut self) {
        let port = &self.port;
        let State {
            tunnels, beside, ..
        } = self.state.get_mut();
        let ends = std::iter::once(&mut *tunnels);
        for tunnels in ends.chain(beside.iter_mut().map(|(_, tunnels)| tunnels)) {
            tunnels.tick(&mut [0; MESSAGE_MIN], |to, message| {
                send_alone(port, message, to);
            });
        }
        if let Some((stage @ Beside::Upcoming, upcoming)) = beside
            && upcoming.standing().1 > 0
        {
            std::mem::swap(tunnels, upcoming);
            *stage = Beside::Previous;
        }
    }
}

impl State {
    /// The table that a datagram is for: by its lane, and an initiation by whom it was made for.
    fn end_for(&mut self, datagram: &[u8]) -> &mut Tunnels {
        match &mut self.beside {
            Some((_, beside))
                if beside
                    .lane()
                    .is_for(datagram)
                    .unwrap_or_else(|| !self.tunnels.is_called(datagram)) =>
            {
                beside
            }
            _ => &mut self.tunnels,
        }
    }
}

/// Sends a message that is sent again by its timer if it is lost.
fn send_alone(port: &impl PacketPort, message: &[u8], to: SocketAddr) {
    let _ = port.send(&[Outgoing {
        head: &[],
        body: message,
        to,
    }]);
}

impl<P: PacketPort> PacketSource for TunnelPort<P> {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        let Self {
            port,
            gtpu,
            outer,
            opened,
            more,
            state,
        } = self;
        let state = state.get_mut();
        for _ in 0..EMPTY_BURSTS_MAX {
            *more = port.recv_burst(outer)? > 0;
            if !*more {
                break;
            }
            let now_ns = clock::now_ns();
            let slots = opened.chunks_exact_mut(MESSAGE_MAX).zip(0_usize..);
            for (descriptor, (slot, number)) in outer.iter().zip(slots) {
                let Some(from) = descriptor.peer else {
                    continue;
                };
                let start = slot.as_ptr().addr();
                let datagram = port.frame(descriptor);
                let tunnels = state.end_for(datagram);
                let own = SocketAddr::new(tunnels.address(), *gtpu);
                let packet = match tunnels.receive(now_ns, from, datagram, slot) {
                    Ok(Received::Packet(packet)) => packet,
                    Ok(Received::Reply(message)) => {
                        send_alone(port, message, from);
                        continue;
                    }
                    Ok(Received::Nothing) | Err(_) => continue,
                };
                match inner::open(packet, own) {
                    Ok(datagram) => {
                        let inside = datagram.payload.as_ptr().addr().saturating_sub(start);
                        let len = u32::try_from(datagram.payload.len()).unwrap_or(0);
                        burst.push(Descriptor {
                            offset: number.saturating_mul(MESSAGE_MAX).saturating_add(inside),
                            len,
                            orig_len: len,
                            peer: Some(datagram.from),
                            ..*descriptor
                        });
                    }
                    Err(reason) => tunnels.note_refused(reason),
                }
            }
            if !burst.is_empty() {
                break;
            }
        }
        Ok(burst.len())
    }

    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        let end = descriptor.offset.saturating_add(descriptor.len as usize);
        self.opened.get(descriptor.offset..end).unwrap_or_default()
    }
}

impl<P: PacketPort> PacketPort for TunnelPort<P> {
    /// A packet for a peer without keys, or for nobody's address, is refused.
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        let State {
            tunnels,
            packet,
            sealed,
            ..
        } = &mut *self.state.borrow_mut();
        let own = SocketAddr::new(tunnels.address(), self.gtpu);
        let mut messages = [Outgoing::EMPTY; BURST_MAX];
        let (mut count, mut carried, mut refused) = (0_usize, 0_usize, None);
        let slots = sealed.chunks_exact_mut(MESSAGE_MAX);
        for (item, (slot, message)) in items.iter().zip(slots.zip(messages.iter_mut())) {
            match seal(tunnels, own, item, packet, slot) {
                Ok(sending) => {
                    *message = Outgoing {
                        head: &[],
                        body: sending.message,
                        to: sending.to,
                    };
                    count = count.saturating_add(1);
                    if !sending.carries {
                        refused = Some(Refusal::NoSession);
                        break;
                    }
                    carried = carried.saturating_add(1);
                }
                Err(reason) => {
                    refused = Some(reason);
                    break;
                }
            }
        }
        let messages = messages.get(..count).unwrap_or_default();
        let taken = if messages.is_empty() {
            0
        } else {
            self.port.send(messages)?
        };
        match (carried, refused, items.first()) {
            (0, Some(reason), Some(item)) => Err(IoError::Refused {
                len: item.len(),
                to: item.to,
                source: kind_of(reason).into(),
            }),
            _ => Ok(taken.min(carried)),
        }
    }

    fn more_fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.port.more_fds()
    }

    fn losses(&mut self) -> Losses {
        self.port.losses()
    }
}

/// The message for a datagram, built in `packet` and sealed into `slot`.
fn seal<'a>(
    tunnels: &mut Tunnels,
    own: SocketAddr,
    item: &Outgoing<'_>,
    packet: &mut [u8],
    slot: &'a mut [u8],
) -> Result<Sending<'a>, Refusal> {
    let room = packet.len().saturating_sub(HEADER_MAX + MESSAGE_OVERHEAD);
    let header = inner::write_header((own, item.to), item.head, item.body, packet)
        .filter(|_| item.len() <= room);
    let Some(header) = header else {
        tunnels.note_refused(Refusal::TooLong);
        return Err(Refusal::TooLong);
    };
    let mut end = header;
    for piece in [item.head, item.body] {
        let start = end;
        end = end.saturating_add(piece.len());
        if let Some(place) = packet.get_mut(start..end) {
            place.copy_from_slice(piece);
        }
    }
    tunnels.send(item.to.ip(), packet.get(..end).unwrap_or_default(), slot)
}

/// What the reason is to a caller who knows system errors only.
const fn kind_of(reason: Refusal) -> ErrorKind {
    match reason {
        Refusal::TooLong => ErrorKind::InvalidInput,
        Refusal::NoSession => ErrorKind::NotConnected,
        _ => ErrorKind::HostUnreachable,
    }
}

impl<P: AsFd> AsFd for TunnelPort<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.port.as_fd()
    }
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
