//! One endpoint of each address family as one port.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::{Burst, Descriptor, IoError, Losses, Outgoing, PacketPort, PacketSource};

/// A port for the address family of an endpoint, and perhaps one for the other family. What is to
/// be sent goes through the port of its receiver's family.
#[derive(Debug)]
pub struct Families<P> {
    first: P,
    /// Whether the first one is of IPv4.
    first_is_v4: bool,
    second: Option<P>,
    /// Whose burst the current one is.
    current: Which,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    First,
    Second,
}

impl<P> Families<P> {
    /// A port at `local`, and one of the other family; one of the same family is never sent
    /// through.
    #[must_use]
    pub const fn new(first: P, local: SocketAddr, second: Option<P>) -> Self {
        Self {
            first,
            first_is_v4: local.is_ipv4(),
            second,
            current: Which::First,
        }
    }
}

impl<P: PacketSource> PacketSource for Families<P> {
    #[inline]
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        let Some(second) = &mut self.second else {
            return self.first.recv_burst(burst);
        };
        // By turns: neither family waits while the other one is busy.
        for _ in 0..2 {
            let received = match self.current {
                Which::First => {
                    self.current = Which::Second;
                    second.recv_burst(burst)
                }
                Which::Second => {
                    self.current = Which::First;
                    self.first.recv_burst(burst)
                }
            };
            if received.as_ref().is_ok_and(|packets| *packets == 0) {
                continue;
            }
            return received;
        }
        Ok(0)
    }

    #[inline]
    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        match (self.current, &self.second) {
            (Which::Second, Some(second)) => second.frame(descriptor),
            _ => self.first.frame(descriptor),
        }
    }
}

impl<P: PacketPort> PacketPort for Families<P> {
    #[inline]
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        let (Some(second), Some(item)) = (&self.second, items.first()) else {
            return self.first.send(items);
        };
        let is_v4 = item.to.is_ipv4();
        let others = items.iter().position(|item| item.to.is_ipv4() != is_v4);
        let alike = items.get(..others.unwrap_or(items.len())).unwrap_or(items);
        if is_v4 == self.first_is_v4 {
            self.first.send(alike)
        } else {
            second.send(alike)
        }
    }

    fn more_fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [self.second.as_ref().map(AsFd::as_fd), None]
    }

    fn losses(&mut self) -> Losses {
        let first = self.first.losses();
        let second = self.second.as_mut().map(P::losses).unwrap_or_default();
        first.and(&second)
    }
}

impl<P: AsFd> AsFd for Families<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.first.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use qlink_wire::LinkType;

    use super::*;
    use crate::udp::UdpPort;

    #[test]
    fn each_family_is_received_and_sent_through_its_own_port() {
        let bind =
            |address: &str| UdpPort::bind(address.parse().unwrap(), LinkType::RawIp).unwrap();
        let (v4, v6) = (bind("127.0.0.1:0"), bind("[::1]:0"));
        let (at4, at6) = (v4.local_addr(), v6.local_addr());
        let mut port = Families::new(v4, at4, Some(v6));
        let peers = ["127.0.0.1:0", "[::1]:0"].map(|address| UdpSocket::bind(address).unwrap());
        peers[0].send_to(b"four", at4).unwrap();
        peers[1].send_to(b"six", at6).unwrap();

        let mut seen = Vec::new();
        let mut burst = Burst::new();
        while seen.len() < 2 {
            port.recv_burst(&mut burst).unwrap();
            seen.extend(burst.iter().map(|found| port.frame(found).to_vec()));
        }
        let items = [&peers[0], &peers[1], &peers[0]].map(|peer| Outgoing {
            head: &[],
            body: b"back",
            to: peer.local_addr().unwrap(),
        });
        let sent = [
            port.send(&items).unwrap(),
            port.send(&items[1..]).unwrap(),
            port.send(&items[2..]).unwrap(),
        ];

        seen.sort();
        assert_eq!(seen, [b"four".to_vec(), b"six".to_vec()]);
        assert_eq!(sent, [1, 1, 1]);
        let mut buffer = [0; 8];
        let (_, from) = peers[1].recv_from(&mut buffer).unwrap();
        assert_eq!(from, at6);
    }
}
