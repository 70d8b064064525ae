//! The radio network: what stands between a subscriber's kernel and N3. BaseStations (or, without a
//! PDU session container, an SGW) that put GTP-U around packets and take it off.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use qlink_io::tun::TunPort;
use qlink_io::udp::UdpPort;
use qlink_io::wait::wait;
use qlink_io::{Burst, Outgoing, PacketSource};
use qlink_types::ids::Teid;
use qlink_wire::{
    ErrorIndicated, GTPU_PORT, GtpuPacket, LinkType, PduSessionInfo, gpdu_header,
    gpdu_header_with_container, message_type, parse_error_indication, parse_gtpu,
};

use super::{GATEWAY, GATEWAY_V6, STATIONS, WITHIN};

/// A subscriber's way.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    /// His addresses.
    pub(crate) own: Vec<IpAddr>,
    /// Our end at the gateway.
    pub(crate) uplink: Teid,
    /// The BaseStation's end.
    pub(crate) downlink: Teid,
    /// Which of [`STATIONS`].
    pub(crate) station: usize,
}

/// What goes in front of uplink packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Framing {
    /// The eight bytes that are always there.
    #[default]
    Plain,
    /// A PDU session container, as N3 has it.
    Container {
        /// QoS flow.
        qfi: u8,
    },
    /// An extension header of a type that need not be understood.
    Extension,
    /// As [`Self::Plain`], but each so manieth packet has an extension header of length 0.
    Corrupt {
        /// Which are corrupt.
        every: u64,
    },
}

/// What a BaseStation heard besides packets for its subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing more comes through a tunnel.
    EndMarker {
        /// The BaseStation.
        station: usize,
        /// Its end.
        teid: u32,
    },
    /// The gateway does not know a tunnel.
    ErrorIndication(ErrorIndicated),
    /// The gateway answers.
    Echo {
        /// The BaseStation.
        station: usize,
        /// The number of the request.
        sequence: Option<u16>,
    },
    /// A packet through a tunnel that nobody has.
    Stray {
        /// The BaseStation.
        station: usize,
        /// Its end.
        teid: u32,
    },
}

enum Order {
    Attach(Bearer),
    Detach(Teid),
    Frame(Framing),
    Send(usize, Vec<u8>),
    Mirror(Mirror),
}

/// What another user plane does with datagrams of a tunnel that ends at its station: behind it
/// somebody echoes them, and the echoes come back through another tunnel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mirror {
    /// Which of [`STATIONS`] it is.
    pub(crate) station: usize,
    /// Its end of the tunnel that packets come through.
    pub(crate) from: Teid,
    /// The gateway's end of the tunnel that they leave through.
    pub(crate) to: Teid,
}

#[derive(Debug, Default)]
struct Counters {
    uplink: AtomicU64,
    corrupt: AtomicU64,
    with_container: AtomicU64,
    downlink: [AtomicU64; STATIONS.len()],
}

/// The radio network's end in a test.
pub(crate) struct Radio {
    orders: Sender<(Order, Sender<()>)>,
    heard: Receiver<Heard>,
    counters: Arc<Counters>,
}

impl Radio {
    /// Starts it; its interface for subscribers is here until it is moved.
    pub(super) fn start() -> Self {
        let config = serde_json::json!({"name": "ue0", "mtu": 9000});
        let tun = TunPort::open(&serde_json::from_value(config).unwrap()).unwrap();
        let bind =
            |address| UdpPort::bind(SocketAddr::new(address, GTPU_PORT), LinkType::RawIp).unwrap();
        let stations = STATIONS.map(bind);
        let (orders, ordered) = channel();
        let (tell, heard) = channel();
        let counters = Arc::new(Counters::default());
        let network = Network {
            tun,
            stations,
            bearers: Vec::new(),
            mirrors: Vec::new(),
            framing: Framing::Plain,
            tell,
            counters: Arc::clone(&counters),
        };
        std::thread::spawn(move || network.run(&ordered));
        Self {
            orders,
            heard,
            counters,
        }
    }

    fn order(&self, order: Order) {
        let (done, is_done) = channel();
        self.orders.send((order, done)).unwrap();
        is_done.recv_timeout(WITHIN).unwrap();
    }

    /// Gives a subscriber his way, in place of the one that he had.
    pub(crate) fn attach(&self, bearer: Bearer) {
        self.order(Order::Attach(bearer));
    }

    /// Forgets the subscriber with this downlink tunnel.
    pub(crate) fn detach(&self, downlink: Teid) {
        self.order(Order::Detach(downlink));
    }

    /// What goes in front of packets from now on.
    pub(crate) fn frame(&self, framing: Framing) {
        self.order(Order::Frame(framing));
    }

    /// Sends a message of a BaseStation as it is.
    pub(crate) fn send(&self, station: usize, message: Vec<u8>) {
        self.order(Order::Send(station, message));
    }

    /// Datagrams that come through a tunnel come back through another.
    pub(crate) fn mirror(&self, mirror: Mirror) {
        self.order(Order::Mirror(mirror));
    }

    /// Waits for a message that `wanted` takes.
    pub(crate) fn until(&self, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let deadline = Instant::now() + WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = self.heard.recv_timeout(left).unwrap();
            if wanted(&heard) {
                return heard;
            }
        }
    }

    /// Everything that was heard and not asked for.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.try_iter().collect()
    }

    /// Packets sent uplink.
    pub(crate) fn uplink(&self) -> u64 {
        self.counters.uplink.load(Ordering::Relaxed)
    }

    /// Packets sent with a broken header.
    pub(crate) fn corrupt(&self) -> u64 {
        self.counters.corrupt.load(Ordering::Relaxed)
    }

    /// Packets for subscribers that a BaseStation got.
    pub(crate) fn downlink(&self, station: usize) -> u64 {
        self.counters.downlink[station].load(Ordering::Relaxed)
    }

    /// Packets for subscribers that came with a PDU session container.
    pub(crate) fn with_container(&self) -> u64 {
        self.counters.with_container.load(Ordering::Relaxed)
    }
}

struct Network {
    tun: TunPort,
    stations: [UdpPort; STATIONS.len()],
    bearers: Vec<Bearer>,
    mirrors: Vec<Mirror>,
    framing: Framing,
    tell: Sender<Heard>,
    counters: Arc<Counters>,
}

impl Network {
    fn run(mut self, orders: &Receiver<(Order, Sender<()>)>) {
        let mut burst = Burst::new();
        loop {
            while let Ok((order, done)) = orders.try_recv() {
                self.obey(order);
                let _ = done.send(());
            }
            let mut idle = true;
            if self.tun.recv_burst(&mut burst).is_ok_and(|count| count > 0) {
                idle = false;
                for packet in &burst {
                    self.up(self.tun.frame(packet));
                }
            }
            for station in 0..self.stations.len() {
                let received = self.stations[station].recv_burst(&mut burst);
                if received.is_ok_and(|count| count > 0) {
                    idle = false;
                    for message in &burst {
                        let frame = self.stations[station].frame(message);
                        self.down(station, frame);
                    }
                }
            }
            if idle {
                let stations = self.stations.iter().map(AsFd::as_fd);
                let ends: Vec<_> = stations.chain([self.tun.as_fd()]).collect();
                let _ = wait(&ends, Some(Duration::from_millis(2)));
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Attach(bearer) => {
                self.bearers.retain(|known| known.own != bearer.own);
                self.bearers.push(bearer);
            }
            Order::Detach(downlink) => self.bearers.retain(|known| known.downlink != downlink),
            Order::Frame(framing) => self.framing = framing,
            Order::Send(station, message) => self.leave(station, &[], &message),
            Order::Mirror(mirror) => self.mirrors.push(mirror),
        }
    }

    fn up(&self, packet: &[u8]) {
        let source = source(packet);
        let known = self
            .bearers
            .iter()
            .find(|known| known.own.contains(&source));
        let Some(bearer) = known else { return };
        let number = self.counters.uplink.fetch_add(1, Ordering::Relaxed) + 1;
        let (teid, length) = (bearer.uplink.get(), u16::try_from(packet.len()).unwrap());
        let head = match self.framing {
            Framing::Container { qfi } => {
                let downlink = false;
                let container = PduSessionInfo { qfi, downlink };
                gpdu_header_with_container(teid, length, container).to_vec()
            }
            Framing::Extension => extended(teid, length, [1, 0xaa, 0xbb, 0]),
            Framing::Corrupt { every } if number.is_multiple_of(every) => {
                self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
                extended(teid, length, [0, 0xaa, 0xbb, 0])
            }
            Framing::Plain | Framing::Corrupt { .. } => gpdu_header(teid, length).to_vec(),
        };
        self.leave(bearer.station, &head, packet);
    }

    fn down(&self, station: usize, message: &[u8]) {
        let Ok(gtpu) = parse_gtpu(message) else {
            return;
        };
        let teid = gtpu.teid;
        let told = match gtpu.message_type {
            message_type::G_PDU => match self.packet_down(station, &gtpu) {
                Ok(()) => return,
                Err(stray) => stray,
            },
            message_type::ECHO_RESPONSE => Heard::Echo {
                station,
                sequence: gtpu.sequence,
            },
            message_type::END_MARKER => Heard::EndMarker { station, teid },
            message_type::ERROR_INDICATION => match parse_error_indication(gtpu.payload) {
                Ok(indicated) => Heard::ErrorIndication(indicated),
                Err(_) => return,
            },
            _ => return,
        };
        let _ = self.tell.send(told);
    }

    /// A packet to a subscriber or to another user plane.
    fn packet_down(&self, station: usize, gtpu: &GtpuPacket<'_>) -> Result<(), Heard> {
        let (teid, body) = (gtpu.teid, gtpu.payload);
        let mut mirrors = self.mirrors.iter();
        let mirror = mirrors.find(|mirror| mirror.from.get() == teid && mirror.station == station);
        if let Some(mirror) = mirror {
            let head = gpdu_header(mirror.to.get(), u16::try_from(body.len()).unwrap());
            self.leave(station, &head, &turned_around(body));
            return Ok(());
        }
        self.counters.downlink[station].fetch_add(1, Ordering::Relaxed);
        if gtpu.pdu_session.is_some() {
            self.counters.with_container.fetch_add(1, Ordering::Relaxed);
        }
        let to_us = |known: &&Bearer| known.downlink.get() == teid && known.station == station;
        if !self.bearers.iter().any(|known| to_us(&known)) {
            return Err(Heard::Stray { station, teid });
        }
        let packet = Outgoing {
            body,
            ..Outgoing::EMPTY
        };
        while matches!(self.tun.send(&[packet]), Ok(0)) {}
        Ok(())
    }

    fn leave(&self, station: usize, head: &[u8], body: &[u8]) {
        let gateway = match STATIONS[station] {
            IpAddr::V4(_) => GATEWAY,
            IpAddr::V6(_) => GATEWAY_V6.into(),
        };
        let to = SocketAddr::new(gateway, GTPU_PORT);
        let message = [Outgoing { head, body, to }];
        // While the gateway is down the network says so.
        let deadline = Instant::now() + Duration::from_secs(1);
        while !matches!(self.stations[station].send(&message), Ok(1)) {
            if Instant::now() > deadline {
                return;
            }
        }
    }
}

/// A header with an extension of a type that need not be understood, these four bytes long.
fn extended(teid: u32, length: u16, extension: [u8; 4]) -> Vec<u8> {
    let mut head = gpdu_header(teid, length + 8).to_vec();
    head[0] |= 0x04;
    // Sequence and N-PDU number, both unused, and the extension's type.
    head.extend([0, 0, 0, 0x32]);
    head.extend(extension);
    head
}

fn source(packet: &[u8]) -> IpAddr {
    match packet[0] >> 4 {
        4 => <[u8; 4]>::try_from(&packet[12..16]).unwrap().into(),
        _ => <[u8; 16]>::try_from(&packet[8..24]).unwrap().into(),
    }
}

/// A datagram's echo: addresses and ports change places, which leaves every checksum as it was.
fn turned_around(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let (addresses, length, ports) = match packet[0] >> 4 {
        4 => (12, 4, 20),
        _ => (8, 16, 40),
    };
    for (start, length) in [(addresses, length), (ports, 2)] {
        let (one, other) = packet[start..start + 2 * length].split_at_mut(length);
        one.swap_with_slice(other);
    }
    packet
}
