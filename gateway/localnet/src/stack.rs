//! A user-space TCP/IP stack between two queues of raw IPv4 packets.
//!
//! The stack (smoltcp) lives in its own time: RFC 6298 forbids it a retransmission timeout below
//! one second, which a demonstration with a lossy link of microseconds cannot wait for, so its clock
//! runs [`StackClock::speed`] times faster than the wall's. The stack itself stays unmodified.
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Cidr};

/// Packets that may wait in a stack's transmit queue before the stack has to stop. Chosen: more
/// than one congestion window.
const TRANSMIT_QUEUE_MAX: usize = 256;

/// Packets that may wait in a stack's receive queue; more are refused.
const RECEIVE_QUEUE_MAX: usize = 4096;

/// Wall time translated into stack time.
#[derive(Debug, Clone, Copy)]
pub struct StackClock {
    start: Instant,
    speed: u32,
}

impl StackClock {
    /// A clock that starts now; `speed` stack seconds per second (at least 1).
    #[must_use]
    pub fn new(speed: u32) -> Self {
        Self {
            start: Instant::now(),
            speed: speed.max(1),
        }
    }

    /// Stack time now.
    #[must_use]
    pub fn now(&self) -> smoltcp::time::Instant {
        let micros = self.start.elapsed().saturating_mul(self.speed).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// A span of stack time in wall time.
    #[must_use]
    pub fn wall(&self, span: smoltcp::time::Duration) -> Duration {
        Duration::from_micros(span.total_micros())
            .checked_div(self.speed)
            .unwrap_or_default()
    }

    /// Stack seconds per second.
    #[must_use]
    pub const fn speed(&self) -> u32 {
        self.speed
    }
}

/// The two queues that a stack sees as its network card.
#[derive(Debug)]
struct QueueDevice {
    receive: VecDeque<Vec<u8>>,
    transmit: VecDeque<Vec<u8>>,
    mtu: usize,
}

/// A packet that the stack is about to read.
#[derive(Debug)]
struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// The place for a packet that the stack is about to write.
#[derive(Debug)]
struct Transmit<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for QueueDevice {
    type RxToken<'a> = Received;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Transmit<'_>)> {
        if self.transmit.len() >= TRANSMIT_QUEUE_MAX {
            return None;
        }
        self.receive
            .pop_front()
            .map(|packet| (Received(packet), Transmit(&mut self.transmit)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Transmit<'_>> {
        (self.transmit.len() < TRANSMIT_QUEUE_MAX).then_some(Transmit(&mut self.transmit))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// Buffer sizes of a TCP socket, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketSize {
    /// Receive buffer, hence the largest window offered.
    pub receive: usize,
    /// Transmit buffer.
    pub transmit: usize,
}

/// One host: an interface with one IPv4 address, its sockets and its queues.
pub(crate) struct Stack {
    address: Ipv4Addr,
    clock: StackClock,
    device: QueueDevice,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// A host at `address` with packets of up to `mtu` bytes; `seed` decides its initial sequence
    /// numbers.
    #[must_use]
    pub(crate) fn new(address: Ipv4Addr, mtu: usize, seed: u64, clock: StackClock) -> Self {
        let mut device = QueueDevice {
            receive: VecDeque::new(),
            transmit: VecDeque::new(),
            mtu,
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, clock.now());
        interface.update_ip_addrs(|list| {
            // The list is empty here, so it has room.
            let _ = list.push(IpCidr::Ipv4(Ipv4Cidr::new(address, 32)));
        });
        let _ = interface.routes_mut().add_default_ipv4_route(address);
        Self {
            address,
            clock,
            device,
            interface,
            sockets: SocketSet::new(Vec::new()),
        }
    }

    /// Adds a closed TCP socket.
    pub(crate) fn add_socket(&mut self, size: SocketSize) -> SocketHandle {
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; size.receive]),
            SocketBuffer::new(vec![0; size.transmit]),
        );
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(CongestionControl::Cubic);
        self.sockets.add(socket)
    }

    /// Removes a socket; its peer is told nothing.
    pub(crate) fn remove_socket(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// A socket by handle, which must come from [`Self::add_socket`].
    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket<'static>>(handle)
    }

    /// Opens a connection from `local_port`.
    ///
    /// # Errors
    ///
    /// When the socket is in use or an address is unusable.
    pub(crate) fn connect(
        &mut self,
        handle: SocketHandle,
        remote: (Ipv4Addr, u16),
        local_port: u16,
    ) -> Result<(), smoltcp::socket::tcp::ConnectError> {
        let socket = self.sockets.get_mut::<Socket<'static>>(handle);
        socket.connect(self.interface.context(), remote, (self.address, local_port))
    }

    /// Hands the host a packet from the network. `false` when its queue is full.
    pub(crate) fn push(&mut self, packet: &[u8]) -> bool {
        let room = self.device.receive.len() < RECEIVE_QUEUE_MAX;
        if room {
            self.device.receive.push_back(packet.to_vec());
        }
        room
    }

    /// Takes the next packet that the host sends.
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        self.device.transmit.pop_front()
    }

    /// Lets the stack work off its receive queue and send what its sockets want.
    /// `true` when a socket may have changed.
    pub(crate) fn poll(&mut self) -> bool {
        let now = self.clock.now();
        self.interface
            .poll(now, &mut self.device, &mut self.sockets)
            == PollResult::SocketStateChanged
    }

    /// Wall time until the stack wants to be polled again without a new packet.
    pub(crate) fn poll_delay(&mut self) -> Option<Duration> {
        let delay = self.interface.poll_delay(self.clock.now(), &self.sockets)?;
        Some(self.clock.wall(delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SocketSize = SocketSize {
        receive: 65_536,
        transmit: 65_536,
    };

    fn exchange(a: &mut Stack, b: &mut Stack, mut keep: impl FnMut() -> bool) {
        a.poll();
        while let Some(packet) = a.pop() {
            if keep() {
                b.push(&packet);
            }
        }
        b.poll();
        while let Some(packet) = b.pop() {
            if keep() {
                a.push(&packet);
            }
        }
    }

    #[test]
    fn lost_segments_are_repaired_in_scaled_time() {
        let clock = StackClock::new(50);
        let address = Ipv4Addr::new(10, 0, 0, 2);
        let mut client = Stack::new(Ipv4Addr::new(10, 0, 0, 1), 1400, 1, clock);
        let mut server = Stack::new(address, 1400, 2, clock);
        let (c, s) = (client.add_socket(SIZE), server.add_socket(SIZE));
        server.socket(s).listen(80).unwrap();
        client.connect(c, (address, 80), 50_000).unwrap();
        let (mut sent, mut received, mut count) = (0_usize, 0_usize, 0_u32);

        let started = Instant::now();
        while received < 300_000 && started.elapsed() < Duration::from_secs(20) {
            exchange(&mut client, &mut server, || {
                count += 1;
                count % 33 != 0
            });
            if server.socket(s).can_send() {
                sent += server
                    .socket(s)
                    .send_slice(&vec![7; 300_000 - sent])
                    .unwrap();
            }
            received += client
                .socket(c)
                .recv(|bytes| (bytes.len(), bytes.len()))
                .unwrap_or(0);
        }

        assert_eq!(received, 300_000);
    }

    #[test]
    fn full_receive_queue_refuses_the_packet() {
        let mut host = Stack::new(Ipv4Addr::LOCALHOST, 1400, 1, StackClock::new(1));

        for _ in 0..RECEIVE_QUEUE_MAX {
            assert!(host.push(&[0; 20]));
        }

        assert!(!host.push(&[0; 20]));
    }
}
