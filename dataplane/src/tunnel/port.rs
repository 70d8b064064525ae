//! N3 with the tunnel beside it, as one port.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use qlink_io::handover::{Bell, Outlet};
use qlink_io::{Burst, Descriptor, IoError, Losses, Outgoing, PacketPort, PacketSource};
use qlink_wire::{LinkType, parse_ip, strip_link};

use crate::ports::Network;

/// Bursts of refused packets that one call looks at.
const EMPTY_BURSTS_MAX: usize = 8;

/// A worker's way into the tunnel.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    pub(super) network: Network,
    pub(super) outlet: Outlet,
    pub(super) bell: Bell,
}

impl Entrance {
    /// Hands packets over up to the first that is not for the tunnel or does not fit.
    fn push(&self, items: &[Outgoing<'_>]) -> usize {
        let accepted = items
            .iter()
            .take_while(|item| {
                self.network.contains(item.to.ip())
                    && self
                        .outlet
                        .push_gathered(&to_descriptor(item.to), item.head, item.body)
            })
            .count();
        if accepted > 0 {
            self.bell.ring();
        }
        accepted
    }
}

/// Where a parcel goes stands where its sender would.
const fn to_descriptor(to: SocketAddr) -> Descriptor {
    Descriptor {
        offset: 0,
        len: 0,
        orig_len: 0,
        timestamp_ns: 0,
        peer: Some(to),
        link: LinkType::RawIp,
    }
}

/// A worker's port towards BaseStations: the port of N3, and the tunnel's entrance where there is
/// one. Received packets of the tunnel come by an inbox of their own.
#[derive(Debug)]
pub(crate) struct N3Port<A> {
    plain: A,
    tunnel: Option<Entrance>,
}

impl<A> N3Port<A> {
    pub(crate) const fn new(plain: A, tunnel: Option<Entrance>) -> Self {
        Self { plain, tunnel }
    }
}

impl<A: PacketPort> PacketSource for N3Port<A> {
    #[inline]
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        let Some(tunnel) = &self.tunnel else {
            return self.plain.recv_burst(burst);
        };
        for _ in 0..EMPTY_BURSTS_MAX {
            if self.plain.recv_burst(burst)? == 0 {
                break;
            }
            let plain = &self.plain;
            burst.retain(|descriptor| {
                source(descriptor, plain.frame(descriptor))
                    .is_none_or(|source| !tunnel.network.contains(source))
            });
            if !burst.is_empty() {
                break;
            }
        }
        Ok(burst.len())
    }

    #[inline]
    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        self.plain.frame(descriptor)
    }
}

/// Who claims to have sent a frame.
fn source(descriptor: &Descriptor, frame: &[u8]) -> Option<IpAddr> {
    match descriptor.peer {
        Some(peer) => Some(peer.ip()),
        None => parse_ip(strip_link(descriptor.link, frame).ok()?)
            .map(|ip| ip.src)
            .ok(),
    }
}

impl<A: PacketPort> PacketPort for N3Port<A> {
    #[inline]
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        let Some(tunnel) = &self.tunnel else {
            return self.plain.send(items);
        };
        let inside = |item: &Outgoing<'_>| tunnel.network.contains(item.to.ip());
        match items.iter().position(inside) {
            None => self.plain.send(items),
            Some(0) => Ok(tunnel.push(items)),
            Some(first) => self.plain.send(items.get(..first).unwrap_or_default()),
        }
    }

    fn more_fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.plain.more_fds()
    }

    fn losses(&mut self) -> Losses {
        self.plain.losses()
    }
}

impl<A: AsFd> AsFd for N3Port<A> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.plain.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use qlink_io::handover::{bell, handover};
    use qlink_io::udp::UdpPort;

    use super::*;

    fn port(network: &str) -> (N3Port<UdpPort>, qlink_io::handover::Inbox) {
        let (outlet, inbox) = handover(32, 100);
        let plain = UdpPort::bind("127.0.0.1:0".parse().unwrap(), LinkType::RawIp).unwrap();
        let entrance = Entrance {
            network: Network::try_from(network.to_owned()).unwrap(),
            outlet,
            bell: bell().unwrap().0,
        };
        (N3Port::new(plain, Some(entrance)), inbox)
    }

    #[test]
    fn what_claims_a_tunnel_address_outside_of_the_tunnel_is_refused() {
        let (mut inside, _inbox) = port("127.0.0.0/8");
        let (mut outside, _other) = port("10.99.0.1/16");
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut burst = Burst::new();
        for (port, expected) in [(&mut inside, 0), (&mut outside, 1)] {
            sender.send_to(b"gtpu", port.plain.local_addr()).unwrap();
            port.plain.poll(Some(Duration::from_secs(10))).unwrap();

            assert_eq!(port.recv_burst(&mut burst).unwrap(), expected);
        }
    }

    #[test]
    fn packets_go_to_the_tunnel_or_past_it_by_their_address_and_in_order() {
        let (port, mut inbox) = port("10.99.0.1/16");
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let plain = other.local_addr().unwrap();
        let tunnel: SocketAddr = "10.99.0.2:2152".parse().unwrap();
        let items = [plain, tunnel, tunnel, plain].map(|to| Outgoing {
            head: b"gt",
            body: b"pu",
            to,
        });

        assert_eq!(port.send(&items).unwrap(), 1);
        assert_eq!(port.send(&items[1..]).unwrap(), 2);
        assert_eq!(port.send(&items[3..]).unwrap(), 1);

        let mut burst = Burst::new();
        assert_eq!(inbox.recv_burst(&mut burst).unwrap(), 2);
        for descriptor in &burst {
            assert_eq!(descriptor.peer, Some(tunnel));
            assert_eq!(inbox.frame(descriptor), b"gtpu");
        }
    }

    #[test]
    fn what_the_inbox_has_no_room_for_is_not_taken() {
        let (port, _inbox) = port("10.99.0.1/16");
        let to = "10.99.0.2:2152".parse().unwrap();
        let items = [Outgoing {
            head: b"",
            body: b"x",
            to,
        }; 40];

        assert_eq!(port.send(&items).unwrap(), 32);
        assert_eq!(port.send(&items).unwrap(), 0);
    }
}
