//! A UDP port of the simulators: drains what came, sends all that is queued, counts what is lost.
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use qlink_io::udp::UdpPort;
use qlink_io::{Burst, IoError, Outgoing, PacketSource};
use qlink_wire::LinkType;
use serde::{Deserialize, Serialize};

/// Bursts taken per turn, so that a flood cannot keep a loop from its other work.
const BURSTS_PER_TURN: usize = 64;

/// How often a full transmit queue is asked again, every 50 us, before the packet is given up.
const SEND_ATTEMPTS: u32 = 2_000;

/// What a port did since it was bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCount {
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that the system would not send.
    pub unsent: u64,
    /// Packets that the kernel dropped because this port's queue was full.
    pub socket_drops: u64,
}

/// A bound port.
#[derive(Debug)]
pub(crate) struct Port {
    udp: UdpPort,
    burst: Burst,
    queue: Vec<Vec<u8>>,
    count: PortCount,
}

impl Port {
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, IoError> {
        let udp = UdpPort::bind(address, LinkType::RawIp)?;
        Ok(Self {
            udp,
            burst: Burst::new(),
            queue: Vec::new(),
            count: PortCount::default(),
        })
    }

    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.udp.local_addr()
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.udp.as_fd()
    }

    /// Hands every waiting packet to `take`, with its sender.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(&[u8], SocketAddr)) -> Result<(), IoError> {
        for _ in 0..BURSTS_PER_TURN {
            let received = self.udp.recv_burst(&mut self.burst)?;
            if received == 0 {
                break;
            }
            self.count.received = self.count.received.saturating_add(received as u64);
            for descriptor in &self.burst {
                if let Some(peer) = descriptor.peer {
                    take(self.udp.frame(descriptor), peer);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn queue(&mut self, packet: Vec<u8>) {
        self.queue.push(packet);
    }

    /// Sends the queue to `to`; waits for room rather than lose a packet.
    pub(crate) fn flush(&mut self, to: SocketAddr) {
        let items: Vec<_> = self
            .queue
            .iter()
            .map(|packet| Outgoing {
                head: &[],
                body: packet,
                to,
            })
            .collect();
        let (mut rest, mut attempts) = (&items[..], 0_u32);
        while !rest.is_empty() && attempts < SEND_ATTEMPTS {
            // An error is the pending one of an earlier packet or concerns this packet alone;
            // either way the next call goes on.
            let sent = self.udp.send(rest).unwrap_or(0);
            rest = rest.get(sent..).unwrap_or_default();
            if sent == 0 {
                attempts = attempts.saturating_add(1);
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        let (queued, unsent) = (items.len() as u64, rest.len() as u64);
        self.count.sent = self
            .count
            .sent
            .saturating_add(queued.saturating_sub(unsent));
        self.count.unsent = self.count.unsent.saturating_add(unsent);
        self.queue.clear();
    }

    pub(crate) fn count(&self) -> PortCount {
        let socket_drops = socket_drops(self.local_addr()).unwrap_or(0);
        PortCount {
            socket_drops,
            ..self.count
        }
    }
}

/// Packets that the kernel dropped at a bound IPv4 UDP port of this network namespace because its
/// queue was full, as `/proc/net/udp` tells.
///
/// # Errors
///
/// When the table cannot be read or does not list the port.
pub fn socket_drops(local: SocketAddr) -> io::Result<u64> {
    let SocketAddr::V4(local) = local else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let name = format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(local.ip().octets()),
        local.port()
    );
    let table = std::fs::read_to_string("/proc/net/udp")?;
    table
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.get(1).is_some_and(|field| *field == name))
        .and_then(|fields| fields.last()?.parse().ok())
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn kernel_drops_are_seen() {
        let port = Port::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(port.count().socket_drops, 0);

        // More than the largest queue holds: SO_RCVBUF is 8 MiB at most.
        for _ in 0..30_000 {
            sender.send_to(&[0; 1400], port.local_addr()).unwrap();
        }

        assert!(port.count().socket_drops > 0);
    }

    #[test]
    fn everything_queued_arrives() {
        let mut receiver = Port::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut sender = Port::bind("127.0.0.1:0".parse().unwrap()).unwrap();

        (0..70_u8).for_each(|at| sender.queue(vec![at; 100]));
        sender.flush(receiver.local_addr());
        let mut seen = Vec::new();
        receiver.drain(|packet, _| seen.push(packet[0])).unwrap();

        assert_eq!(seen, (0..70).collect::<Vec<_>>());
        assert_eq!((sender.count().sent, sender.count().unsent), (70, 0));
    }
}
