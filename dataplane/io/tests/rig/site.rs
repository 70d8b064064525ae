//! A site to measure at: a station, the data plane and an origin, each in its own namespace.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use qlink_io::xdp::frame::{Envelope, Ipv4Checksum, MacAddress};
use qlink_io::xdp::{
    AttachChoice, NeighbourKeeper, Steering, SteeringRule, XdpConfig, XdpError, XdpPort,
};
use qlink_wire::build::{self, LinkFrame};
use qlink_wire::{GTPU_PORT, LinkType};

use super::{Namespace, veth};

pub(crate) const STATION: &str = "10.0.3.7";
pub(crate) const ENDPOINT: &str = "10.0.3.1";
pub(crate) const ENDPOINT_V6: &str = "fd00:3::1";
pub(crate) const ORIGIN: &str = "10.0.6.9";
pub(crate) const SUBSCRIBER: &str = "10.45.0.2";

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(text), port)
}

/// Station -- N3 -- data plane -- N6 -- origin, every neighbour known everywhere.
pub(crate) struct Site {
    pub(crate) station: Namespace,
    pub(crate) plane: Namespace,
    pub(crate) origin: Namespace,
}

impl Site {
    pub(crate) fn new() -> Option<Self> {
        let (station, plane, origin) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        veth((&station, "s3"), (&plane, "n3"), "");
        veth((&origin, "o6"), (&plane, "n6"), "");
        station.up("s3", &["10.0.3.7/24"]);
        plane.up("n3", &["10.0.3.1/24"]);
        plane.up("n6", &["10.0.6.1/24"]);
        origin.up("o6", &["10.0.6.9/24"]);
        let mac = |namespace: &Namespace, name: &str| namespace.interface(name).mac;
        station.neighbour("s3", ip(ENDPOINT), mac(&plane, "n3"));
        plane.neighbour("n3", ip(STATION), mac(&station, "s3"));
        plane.neighbour("n6", ip(ORIGIN), mac(&origin, "o6"));
        origin.neighbour("o6", ip("10.0.6.1"), mac(&plane, "n6"));
        let site = Self {
            station,
            plane,
            origin,
        };
        Some(site)
    }

    pub(crate) fn n3_rule() -> SteeringRule {
        SteeringRule::N3 {
            endpoints: vec![ip(ENDPOINT), ip(ENDPOINT_V6)],
        }
    }

    pub(crate) fn n6_rule() -> SteeringRule {
        SteeringRule::N6 {
            prefixes: vec![(ip("10.45.0.0"), 16)],
        }
    }

    /// A frame as the station sends it.
    pub(crate) fn uplink(&self, number: u32, length: usize) -> Vec<u8> {
        let inner = build::udp_packet(at(SUBSCRIBER, 5000), at(ORIGIN, 80), &vec![7; length]);
        let outer = build::gpdu_packet(
            at(STATION, GTPU_PORT),
            at(ENDPOINT, GTPU_PORT),
            number,
            &inner.unwrap(),
        );
        addressed(&outer.unwrap(), self.plane.interface("n3").mac)
    }

    /// A frame as the origin sends it.
    pub(crate) fn downlink(&self, length: usize) -> Vec<u8> {
        let inner = build::udp_packet(at(ORIGIN, 80), at(SUBSCRIBER, 5000), &vec![9; length]);
        addressed(&inner.unwrap(), self.plane.interface("n6").mac)
    }
}

pub(crate) fn addressed(packet: &[u8], to: MacAddress) -> Vec<u8> {
    let mut frame = LinkFrame::new(LinkType::Ethernet).wrap(packet).unwrap();
    frame[..6].copy_from_slice(&to.octets());
    frame
}

/// A port on the first queue of an interface, with the kernel's neighbours.
pub(crate) fn port(
    namespace: &Namespace,
    interface: &str,
    rule: &SteeringRule,
    envelope: Envelope,
    choice: AttachChoice,
) -> XdpPort {
    namespace.run(|| {
        let steering = Steering::attach(interface, rule, choice).unwrap();
        open(&steering, 0, envelope).unwrap()
    })
}

pub(crate) fn open(
    steering: &Arc<Steering>,
    queue: u32,
    envelope: Envelope,
) -> Result<XdpPort, XdpError> {
    let mut keeper = NeighbourKeeper::new(steering.interface().index, vec![]).unwrap();
    keeper.refresh(&[]).unwrap();
    XdpPort::open(steering, queue, &XdpConfig::new(envelope), keeper.reader())
}

pub(crate) fn tunnel(checksum: Ipv4Checksum) -> Envelope {
    Envelope::Udp {
        local: at(ENDPOINT, GTPU_PORT),
        checksum,
    }
}
