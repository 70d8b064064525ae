//! Traffic for the tests of every UDP back end.

use std::net::SocketAddr;
use std::time::Duration;

use super::port::{Port, Transport};
use crate::{Burst, Outgoing, PacketSource};

pub(crate) const SECOND: Option<Duration> = Some(Duration::from_secs(5));

/// Bursts until `count` packets have come.
pub(crate) fn receive<T: Transport>(
    port: &mut Port<T>,
    count: usize,
) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut burst = Burst::new();
    let mut packets = Vec::new();
    while packets.len() < count {
        assert!(
            port.poll(SECOND).unwrap(),
            "{} of {count} packets came",
            packets.len()
        );
        port.recv_burst(&mut burst).unwrap();
        packets.extend(
            burst
                .iter()
                .map(|d| (d.peer.unwrap(), port.frame(d).to_vec())),
        );
    }
    packets
}

/// Bodies that differ, of the given lengths.
pub(crate) fn bodies(lengths: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    (0..251_u8)
        .cycle()
        .zip(lengths)
        .map(|(number, length)| (number..=250).cycle().take(length).collect())
        .collect()
}

pub(crate) fn items<'a>(
    head: &'a [u8],
    bodies: &'a [Vec<u8>],
    to: &[SocketAddr],
) -> Vec<Outgoing<'a>> {
    let peers = to.iter().cycle();
    let item = |(body, to): (&'a Vec<u8>, &SocketAddr)| Outgoing {
        head,
        body,
        to: *to,
    };
    bodies.iter().zip(peers).map(item).collect()
}

/// Sends everything, in as many calls as it takes.
pub(crate) fn send_all<T: Transport>(from: &Port<T>, items: &[Outgoing<'_>]) {
    let mut sent = 0;
    while sent < items.len() {
        let accepted = from.send(&items[sent..]).unwrap();
        assert!(accepted > 0, "{sent} of {} packets sent", items.len());
        sent += accepted;
    }
}

/// What the receiver of `items` sees.
pub(crate) fn joined(items: &[Outgoing<'_>], from: SocketAddr) -> Vec<(SocketAddr, Vec<u8>)> {
    let packet = |item: &Outgoing<'_>| (from, [item.head, item.body].concat());
    items.iter().map(packet).collect()
}
