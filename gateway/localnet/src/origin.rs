//! The simulated content server: one stack, a bounded pool of sockets on one port, HTTP/1.1.
//!
//! All connections together keep at most [`OriginConfig::in_flight_bytes_max`] unacknowledged
//! payload under way. A loopback UDP socket drops what does not fit its buffer, and nothing may be
//! lost there: loss belongs to the lossy link, where it is counted.
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use crate::catalog::{Catalog, foreign_byte};
use crate::http::{BodyDecoder, HEAD_BYTES_MAX, HttpError, RequestHead, head_end};
use crate::stack::{SocketSize, Stack, StackClock};

mod answer;

use answer::{Answer, FakeOrder};

/// Fake segments per poll: they have no acknowledgement clock, so a poll's worth is bounded.
const FAKES_PER_POLL: usize = 8;

/// IPv4 and TCP header of a fake segment.
const FAKE_HEADERS: usize = 40;

/// How the origin is set up.
#[derive(Debug, Clone, Copy)]
pub struct OriginConfig {
    /// Inner address.
    pub address: Ipv4Addr,
    /// TCP port served.
    pub port: u16,
    /// Connections at a time; a further one is refused with RST.
    pub connections_max: usize,
    /// Largest inner packet, in bytes.
    pub mtu: usize,
    /// Unacknowledged payload of all connections together, in bytes.
    pub in_flight_bytes_max: usize,
    /// Decides the initial sequence numbers.
    pub seed: u64,
    /// Stack seconds per second.
    pub speed: u32,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::new(198, 51, 100, 10),
            port: 80,
            connections_max: 256,
            mtu: 1400,
            // Chosen: 94 full segments, half of what a socket buffer of 208 KiB holds.
            in_flight_bytes_max: 128 * 1024,
            seed: 1,
            speed: crate::STACK_SPEED,
        }
    }
}

/// What the origin did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OriginCount {
    /// Requests answered.
    pub requests: u64,
    /// Heads that were no request.
    pub bad_requests: u64,
    /// Fake retransmissions sent.
    pub fake_segments: u64,
    /// Their payload.
    pub fake_bytes: u64,
    /// Packets refused because the receive queue was full.
    pub queue_full: u64,
}

#[derive(Debug)]
enum Stage {
    Head(Vec<u8>),
    Body(RequestHead, BodyDecoder),
    Answer(Answer),
    /// The answer is queued; its foreign copies wait for the last acknowledgement.
    Fake {
        order: FakeOrder,
        stream_start: u64,
        done: u64,
    },
}

#[derive(Debug)]
struct Slot {
    handle: SocketHandle,
    stage: Stage,
    /// Bytes already handed to the socket on this connection.
    stream_bytes: u64,
}

/// What the tap on outgoing packets remembers of a connection, for fakes.
#[derive(Debug, Clone, Copy)]
struct Track {
    first_seq: u32,
    last_ack: u32,
    window: u16,
}

/// A content server.
#[derive(Debug)]
pub struct Origin {
    config: OriginConfig,
    stack: Stack,
    slots: Vec<Slot>,
    catalog: Catalog,
    tracks: HashMap<(Ipv4Addr, u16), Track>,
    fakes: VecDeque<Vec<u8>>,
    count: OriginCount,
}

impl Origin {
    /// A server of `catalog`.
    #[must_use]
    pub fn new(config: OriginConfig, catalog: Catalog) -> Self {
        let clock = StackClock::new(config.speed);
        let mut stack = Stack::new(config.address, config.mtu, config.seed, clock);
        let size = SocketSize {
            receive: 16 * 1024,
            transmit: 64 * 1024,
        };
        let slots = (0..config.connections_max)
            .map(|_| Slot {
                handle: stack.add_socket(size),
                stage: Stage::Head(Vec::new()),
                stream_bytes: 0,
            })
            .collect();
        let (tracks, fakes) = (HashMap::new(), VecDeque::new());
        let count = OriginCount::default();
        let mut origin = Self {
            config,
            stack,
            slots,
            catalog,
            tracks,
            fakes,
            count,
        };
        // Every socket listens before the first packet comes.
        origin.poll();
        origin
    }

    /// The catalogue, to add to.
    pub fn catalog_mut(&mut self) -> &mut Catalog {
        &mut self.catalog
    }

    /// What happened so far.
    #[must_use]
    pub const fn count(&self) -> OriginCount {
        self.count
    }

    /// Takes a packet from the network.
    pub fn push(&mut self, packet: &[u8]) {
        if !self.stack.push(packet) {
            self.count.queue_full = self.count.queue_full.saturating_add(1);
        }
    }

    /// Works off what came in, answers, queues what goes out.
    pub fn poll(&mut self) {
        self.stack.poll();
        let active = self
            .slots
            .iter()
            .filter(|slot| matches!(slot.stage, Stage::Answer(_)))
            .count();
        let floor = self.config.mtu.saturating_mul(2);
        let share = self
            .config
            .in_flight_bytes_max
            .checked_div(active.max(1))
            .unwrap_or(floor)
            .max(floor);
        let mut slots = std::mem::take(&mut self.slots);
        for slot in &mut slots {
            self.step(slot, share);
        }
        self.slots = slots;
        self.stack.poll();
    }

    /// The next packet for the network.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        if let Some(packet) = self.stack.pop() {
            self.track(&packet);
            return Some(packet);
        }
        self.fakes.pop_front()
    }

    /// Wall time until [`Self::poll`] has something to do without a new packet.
    pub fn poll_delay(&mut self) -> Option<Duration> {
        if self
            .slots
            .iter()
            .any(|slot| matches!(slot.stage, Stage::Fake { .. }))
        {
            return Some(Duration::from_millis(1));
        }
        self.stack.poll_delay()
    }

    fn step(&mut self, slot: &mut Slot, share: usize) {
        let socket = self.stack.socket(slot.handle);
        match socket.state() {
            State::Closed => {
                slot.stage = Stage::Head(Vec::new());
                slot.stream_bytes = 0;
                // Cannot fail: the socket is closed and the port is not 0.
                let _ = socket.listen(self.config.port);
                return;
            }
            State::Listen | State::SynReceived | State::SynSent => return,
            _ => {}
        }
        self.read(slot);
        self.write(slot, share);
        self.fake(slot);
        let idle = matches!(&slot.stage, Stage::Head(_) | Stage::Body(..));
        let socket = self.stack.socket(slot.handle);
        if idle && !socket.may_recv() && socket.may_send() {
            socket.close();
        }
    }

    fn read(&mut self, slot: &mut Slot) {
        while matches!(slot.stage, Stage::Head(_) | Stage::Body(..)) {
            let socket = self.stack.socket(slot.handle);
            if !socket.can_recv() {
                return;
            }
            let stage = &mut slot.stage;
            let next = socket.recv(|bytes| match absorb(stage, bytes) {
                Ok((used, next)) => (used, Ok(next)),
                Err(error) => (bytes.len(), Err(error)),
            });
            match next {
                Ok(Ok(Some(request))) => {
                    self.count.requests = self.count.requests.saturating_add(1);
                    slot.stage = Stage::Answer(Answer::to(&request, &self.catalog));
                }
                Ok(Ok(None)) => {}
                Ok(Err(_)) => {
                    self.count.bad_requests = self.count.bad_requests.saturating_add(1);
                    slot.stage = Stage::Answer(Answer::bad_request());
                }
                Err(_) => return,
            }
        }
    }

    fn write(&mut self, slot: &mut Slot, share: usize) {
        let Stage::Answer(answer) = &mut slot.stage else {
            return;
        };
        let socket = self.stack.socket(slot.handle);
        loop {
            let pending = answer.pending();
            if pending.is_empty() {
                break;
            }
            let room = share.saturating_sub(socket.send_queue()).min(pending.len());
            let sent = socket
                .send_slice(pending.get(..room).unwrap_or_default())
                .unwrap_or(0);
            if sent == 0 {
                return;
            }
            answer.consume(sent);
            slot.stream_bytes = slot.stream_bytes.saturating_add(sent as u64);
        }
        if answer.closes() {
            socket.close();
        }
        slot.stage = match answer.take_fake() {
            Some(order) => {
                let sent = order.head_bytes.saturating_add(order.len);
                let stream_start = slot.stream_bytes.saturating_sub(sent);
                Stage::Fake {
                    order,
                    stream_start,
                    done: 0,
                }
            }
            None => Stage::Head(Vec::new()),
        };
    }

    fn fake(&mut self, slot: &mut Slot) {
        let Stage::Fake {
            order,
            stream_start,
            done,
        } = &mut slot.stage
        else {
            return;
        };
        let socket = self.stack.socket(slot.handle);
        let peer = socket
            .remote_endpoint()
            .map(|endpoint| (endpoint.addr, endpoint.port));
        let Some((IpAddress::Ipv4(viewer), port)) = peer else {
            return;
        };
        if socket.send_queue() > 0 || !self.fakes.is_empty() {
            return;
        }
        let Some(track) = self.tracks.get(&(viewer, port)).copied() else {
            return;
        };
        let body_seq = stream_start.saturating_add(order.head_bytes);
        for _ in 0..FAKES_PER_POLL {
            let at = done.checked_rem(order.len).unwrap_or(0);
            let left = order
                .bytes
                .saturating_sub(*done)
                .min(order.len.saturating_sub(at));
            let len = self.config.mtu.saturating_sub(FAKE_HEADERS);
            let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
            if len == 0 {
                slot.stage = Stage::Head(Vec::new());
                return;
            }
            let position = order.start.saturating_add(at);
            let genuine = order.film.slice(position, len);
            let payload: Vec<u8> = (position..)
                .zip(genuine)
                .map(|(at, byte)| foreign_byte(*byte, at))
                .collect();
            let [.., a, b, c, d] = body_seq.saturating_add(at).to_be_bytes();
            let seq = track
                .first_seq
                .wrapping_add(u32::from_be_bytes([a, b, c, d]));
            let from = (self.config.address, self.config.port);
            self.fakes
                .push_back(raw_segment(from, (viewer, port), seq, track, &payload));
            self.count.fake_segments = self.count.fake_segments.saturating_add(1);
            self.count.fake_bytes = self.count.fake_bytes.saturating_add(len as u64);
            *done = done.saturating_add(len as u64);
        }
    }

    fn track(&mut self, packet: &[u8]) {
        let Ok(ip) = Ipv4Packet::new_checked(packet) else {
            return;
        };
        let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else {
            return;
        };
        let key = (ip.dst_addr(), tcp.dst_port());
        if tcp.rst() {
            self.tracks.remove(&key);
            return;
        }
        let [a, b, c, d] = tcp.ack_number().0.to_be_bytes();
        let last_ack = u32::from_be_bytes([a, b, c, d]);
        if tcp.syn() {
            let [a, b, c, d] = tcp.seq_number().0.to_be_bytes();
            let first_seq = u32::from_be_bytes([a, b, c, d]).wrapping_add(1);
            self.tracks.insert(
                key,
                Track {
                    first_seq,
                    last_ack,
                    window: tcp.window_len(),
                },
            );
        } else if let Some(track) = self.tracks.get_mut(&key) {
            track.last_ack = last_ack;
            track.window = tcp.window_len();
        }
        if tcp.fin() {
            self.tracks.remove(&key);
        }
    }
}

/// Takes request bytes; a complete request comes back with the count of bytes used.
fn absorb(stage: &mut Stage, bytes: &[u8]) -> Result<(usize, Option<RequestHead>), HttpError> {
    match stage {
        Stage::Head(buffer) => {
            let before = buffer.len();
            buffer.extend_from_slice(bytes);
            let Some(end) = head_end(buffer) else {
                return if buffer.len() > HEAD_BYTES_MAX {
                    Err(HttpError::HeadTooLong)
                } else {
                    Ok((bytes.len(), None))
                };
            };
            let request = RequestHead::parse(buffer.get(..end).unwrap_or_default())?;
            let decoder = BodyDecoder::new(request.body_length()?);
            let used = end.saturating_sub(before);
            if decoder.is_done() {
                return Ok((used, Some(request)));
            }
            *stage = Stage::Body(request, decoder);
            Ok((used, None))
        }
        Stage::Body(request, decoder) => {
            let mut used = 0_usize;
            while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
                match decoder.next_piece(rest)? {
                    Some(
                        crate::http::BodyPiece::Data(len) | crate::http::BodyPiece::Framing(len),
                    ) => used = used.saturating_add(len),
                    None => break,
                }
            }
            Ok((used, decoder.is_done().then(|| request.clone())))
        }
        Stage::Answer(_) | Stage::Fake { .. } => Ok((0, None)),
    }
}

/// A TCP segment beside the stack, with right checksums.
fn raw_segment(
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    seq: u32,
    track: Track,
    payload: &[u8],
) -> Vec<u8> {
    let number = |value: u32| TcpSeqNumber(i32::from_be_bytes(value.to_be_bytes()));
    let tcp = TcpRepr {
        src_port: from.1,
        dst_port: to.1,
        control: TcpControl::Psh,
        seq_number: number(seq),
        ack_number: Some(number(track.last_ack)),
        window_len: track.window,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None, None, None],
        timestamp: None,
        payload,
    };
    let ip = Ipv4Repr {
        src_addr: from.0,
        dst_addr: to.0,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let checksums = smoltcp::phy::ChecksumCapabilities::default();
    let mut bytes = vec![0; ip.buffer_len().saturating_add(tcp.buffer_len())];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &checksums);
    let mut segment = Ipv4Packet::new_unchecked(&mut bytes[..]);
    tcp.emit(
        &mut TcpPacket::new_unchecked(segment.payload_mut()),
        &IpAddress::Ipv4(from.0),
        &IpAddress::Ipv4(to.0),
        &checksums,
    );
    bytes
}
