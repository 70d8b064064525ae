//! Captures between a gateway and BaseStations, made of a seed.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;

use qlink_content::Direction;
use qlink_wire::build::{
    GtpuExtension, GtpuMessage, TcpFields, fragment_packet, tcp_packet, udp_packet,
};
use qlink_wire::{PduSessionInfo, TcpFlags};

use crate::seed::Seed;

/// What a seed makes.
pub(crate) struct Traffic {
    pub(crate) packets: Vec<Vec<u8>>,
    films: Vec<Vec<u8>>,
    /// Fragments that contradict others.
    pub(crate) contradictions: u64,
}

impl Traffic {
    /// Writes the contents into a folder.
    pub(crate) fn write_films(&self, folder: &Path) {
        std::fs::create_dir(folder).unwrap();
        for (number, film) in self.films.iter().enumerate() {
            std::fs::write(folder.join(format!("film-{number}")), film).unwrap();
        }
    }
}

/// An inner packet on its way.
type Inner = (Direction, Vec<u8>);

/// What surrounds the inner packets of a session.
struct Tunnel {
    basestation: IpAddr,
    gateway: IpAddr,
    uplink: u32,
    downlink: u32,
    /// Which headers stand between GTP-U and the inner packet.
    chain: usize,
    /// Bytes of an outer fragment, where packets are cut.
    piece: Option<usize>,
    /// Identification of the datagram that was cut last; one that comes again while another one is
    /// still incomplete would be the same to both ends.
    cut: Cell<u32>,
}

impl Tunnel {
    fn next_id(&self) -> u32 {
        self.cut.set(self.cut.get().wrapping_add(1));
        self.cut.get()
    }
}

const UPLINK: Direction = Direction::Uplink;
const DOWNLINK: Direction = Direction::Downlink;
const SYN_ACK: TcpFlags = TcpFlags::SYN.union(TcpFlags::ACK);
const FIN_ACK: TcpFlags = TcpFlags::FIN.union(TcpFlags::ACK);

/// The capture of a seed: several sessions at once.
pub(crate) fn make(seed: &mut Seed) -> Traffic {
    let size = seed.within(20_000, 70_000);
    // Two of one size: bytes must decide between them.
    let sizes = [size, size, seed.within(5_000, 90_000)];
    let films: Vec<Vec<u8>> = sizes.iter().map(|size| seed.bytes(*size)).collect();
    let (mut lines, mut contradictions) = (Vec::new(), 0);
    for number in 0..seed.within(3, 6) {
        let tunnel = tunnel(seed, number);
        let mut line = Vec::new();
        for (direction, inner) in session(seed, number, &films) {
            line.extend(encapsulate(seed, &tunnel, direction, &inner));
            if seed.once_in(60) {
                line.extend(contradiction(&tunnel));
                contradictions += 1;
            }
        }
        line.reverse();
        lines.push(line);
    }
    let mut packets = Vec::new();
    while !lines.is_empty() {
        let at = seed.within(0, lines.len());
        match lines[at].pop() {
            Some(packet) => packets.push(packet),
            None => drop(lines.swap_remove(at)),
        }
    }
    Traffic {
        packets,
        films,
        contradictions,
    }
}

fn tunnel(seed: &mut Seed, number: usize) -> Tunnel {
    let host = number as u8 + 2;
    let (basestation, gateway) = if seed.once_in(2) {
        let address = |host: u8| IpAddr::from([192, 168, 3, host]);
        (address(host), address(1))
    } else {
        let address = |host: u16| Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 0, host).into();
        (address(host.into()), address(1))
    };
    Tunnel {
        basestation,
        gateway,
        uplink: seed.next() as u32 | 1,
        downlink: seed.next() as u32 | 1,
        chain: seed.within(0, 5),
        piece: seed.once_in(2).then(|| seed.within(200, 1_200)),
        cut: Cell::new(seed.next() as u32),
    }
}

/// Everything of one session, in the order in which it passes.
pub(crate) fn session(seed: &mut Seed, number: usize, films: &[Vec<u8>]) -> Vec<Inner> {
    let six = seed.once_in(2);
    let host = number as u8 + 2;
    let ue = if six {
        Ipv6Addr::new(0x2001, 0xdb8, 0x45, host.into(), 0, 0, 0, 9).into()
    } else {
        IpAddr::from(Ipv4Addr::new(10, 45, 0, host))
    };
    let origin = if six {
        Ipv6Addr::new(0x2001, 0xdb8, 6, 0, 0, 0, 0, 1).into()
    } else {
        IpAddr::from(Ipv4Addr::new(192, 0, 2, 9))
    };
    let mut packets = Vec::new();
    let mut port = 40_000;
    for _ in 0..seed.within(1, 5) {
        // Otherwise the ports of the flow before are used again, with other first numbers.
        if seed.once_in(3) {
            port += 1;
        }
        let ends = (SocketAddr::new(ue, port), SocketAddr::new(origin, 80));
        download(seed, ends, films, &mut packets);
        packets.extend(filler(seed, ends));
    }
    packets
}

/// Both ends of a connection, and what was sent so far.
struct Connection<'a> {
    packets: &'a mut Vec<Inner>,
    ue: SocketAddr,
    origin: SocketAddr,
    up: u32,
    /// Number of the downlink stream's first byte.
    down: u32,
    /// Stream positions that passed, by byte.
    passed: Vec<bool>,
}

impl Connection<'_> {
    fn send(&mut self, direction: Direction, seq: u32, ack: u32, flags: TcpFlags, payload: &[u8]) {
        let (from, to) = match direction {
            UPLINK => (self.ue, self.origin),
            DOWNLINK => (self.origin, self.ue),
        };
        let packet = tcp_packet(from, to, &TcpFields::new(seq, ack, flags), payload).unwrap();
        self.packets.push((direction, packet));
    }

    /// Bytes at a place of the downlink stream.
    fn downlink(&mut self, at: usize, payload: &[u8]) {
        let end = at + payload.len();
        if self.passed.len() < end {
            self.passed.resize(end, false);
        }
        self.passed[at..end].fill(true);
        let seq = self.down.wrapping_add(at as u32);
        self.send(DOWNLINK, seq, self.up, TcpFlags::ACK, payload);
    }

    /// Where the subscriber waits.
    fn next(&self) -> u32 {
        let whole = self.passed.iter().take_while(|passed| **passed).count();
        self.down.wrapping_add(whole as u32)
    }

    fn acknowledge(&mut self) {
        let (seq, ack) = (self.up, self.next());
        self.send(UPLINK, seq, ack, TcpFlags::ACK, &[]);
    }
}

/// A first sequence number; every other one passes 2^32 within the connection.
const fn first_number(seed: &mut Seed) -> u32 {
    if seed.once_in(2) {
        u32::MAX - (seed.next() % 20_000) as u32
    } else {
        seed.next() as u32
    }
}

/// A connection with one to three requests.
pub(crate) fn download(
    seed: &mut Seed,
    (ue, origin): (SocketAddr, SocketAddr),
    films: &[Vec<u8>],
    packets: &mut Vec<Inner>,
) {
    let (up, down) = (first_number(seed), first_number(seed));
    let mut connection = Connection {
        packets,
        ue,
        origin,
        up: up.wrapping_add(1),
        down: down.wrapping_add(1),
        passed: Vec::new(),
    };
    connection.send(UPLINK, up, 0, TcpFlags::SYN, &[]);
    if seed.once_in(4) {
        connection.send(UPLINK, up, 0, TcpFlags::SYN, &[]);
    }
    let answered = connection.up;
    connection.send(DOWNLINK, down, answered, SYN_ACK, &[]);
    connection.acknowledge();
    // The third segment that does not match would end the proof.
    let mut contradictions = 2;
    let mut stream = Vec::new();
    for _ in 0..seed.within(1, 4) {
        let number = seed.within(0, films.len());
        let film = &films[number];
        let range = seed.once_in(2).then(|| {
            let from = seed.within(0, film.len() - 1_000);
            from..seed.within(from + 500, film.len() + 1)
        });
        exchange(
            seed,
            &mut connection,
            &mut stream,
            number,
            film,
            range,
            &mut contradictions,
        );
    }
    if seed.once_in(4) {
        // The next connection with these ports replaces this one.
        return;
    }
    let (seq, ack) = (connection.up, connection.next());
    connection.send(UPLINK, seq, ack, FIN_ACK, &[]);
    connection.up = seq.wrapping_add(1);
    let up = connection.up;
    connection.send(DOWNLINK, ack, up, FIN_ACK, &[]);
    connection.send(UPLINK, up, ack.wrapping_add(1), TcpFlags::ACK, &[]);
}

/// A request and its answer.
fn exchange(
    seed: &mut Seed,
    connection: &mut Connection<'_>,
    stream: &mut Vec<u8>,
    number: usize,
    film: &[u8],
    range: Option<Range<usize>>,
    contradictions: &mut usize,
) {
    let (wanted, answer) = match &range {
        None => (
            String::new(),
            format!("200 OK\r\nContent-Length: {}", film.len()),
        ),
        Some(range) => {
            let (first, last) = (range.start, range.end - 1);
            let answer = format!(
                "206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}\r\nContent-Length: {}",
                film.len(),
                range.len()
            );
            (format!("Range: bytes={first}-{last}\r\n"), answer)
        }
    };
    let request = format!("GET /film-{number} HTTP/1.1\r\nHost: films.example\r\n{wanted}\r\n");
    let (asked, seen) = (connection.up, connection.next());
    connection.send(UPLINK, asked, seen, TcpFlags::ACK, request.as_bytes());
    connection.up = asked.wrapping_add(request.len() as u32);
    let start = stream.len();
    stream.extend(format!("HTTP/1.1 {answer}\r\n\r\n").into_bytes());
    let body = stream.len();
    stream.extend(&film[range.unwrap_or(0..film.len())]);
    answer_passes(seed, connection, stream, start, body, contradictions);
    connection.acknowledge();
    if seed.once_in(3) {
        // The request once more, and the answer's head.
        let seen = connection.next();
        connection.send(UPLINK, asked, seen, TcpFlags::ACK, request.as_bytes());
        connection.downlink(start, &stream[start..body]);
    }
}

/// The stream from `start` on in segments, with everything that networks do to them.
fn answer_passes(
    seed: &mut Seed,
    connection: &mut Connection<'_>,
    stream: &[u8],
    start: usize,
    body: usize,
    contradictions: &mut usize,
) {
    // A head that comes late is another story: nothing behind it can be framed.
    let mut at = (body + seed.within(64, 400)).min(stream.len());
    connection.downlink(start, &stream[start..at]);
    // Segments that come later: how many are to pass before, and which.
    let mut late: Vec<(usize, Range<usize>)> = Vec::new();
    while at < stream.len() || !late.is_empty() {
        for (wait, _) in &mut late {
            *wait = wait.saturating_sub(1);
        }
        if let Some(due) = late
            .iter()
            .position(|(wait, _)| *wait == 0 || at >= stream.len())
        {
            let (_, segment) = late.swap_remove(due);
            connection.downlink(segment.start, &stream[segment]);
        }
        if at >= stream.len() {
            continue;
        }
        let end = (at + seed.within(100, 1_401)).min(stream.len());
        let after = seed.within(1, 9);
        match seed.within(0, 24) {
            // Lost before us: it passes for the first time later.
            0 | 1 => late.push((after, at..end)),
            // Lost behind us: it passes again.
            2 | 3 => {
                connection.downlink(at, &stream[at..end]);
                late.push((after, at..end));
            }
            4 => {
                connection.downlink(at, &stream[at..end]);
                connection.downlink(at, &stream[at..end]);
            }
            // Cut anew, from the middle of what passed before.
            5 | 6 => {
                let from = at.saturating_sub(seed.within(1, 900)).max(body);
                connection.downlink(from, &stream[from..end]);
            }
            7 if *contradictions > 0 && at > body + 2_000 => {
                *contradictions -= 1;
                contradict(seed, connection, stream, at..end);
            }
            // A segment in inner fragments: it proves nothing, and passes whole later.
            8 => {
                fragmented(connection, at, &stream[at..end]);
                late.push((after, at..end));
            }
            _ => connection.downlink(at, &stream[at..end]),
        }
        if !seed.once_in(3) {
            connection.acknowledge();
        }
        at = end;
    }
}

/// A segment once as it is and once with other bytes, in either order.
fn contradict(seed: &mut Seed, connection: &mut Connection<'_>, stream: &[u8], at: Range<usize>) {
    let from = at.start - seed.within(0, 300);
    let mut other = stream[from..at.end].to_vec();
    let flipped = seed.within(0, other.len());
    other[flipped] ^= 0x40;
    if seed.once_in(2) {
        connection.downlink(from, &other);
        connection.downlink(at.start, &stream[at]);
    } else {
        connection.downlink(at.start, &stream[at]);
        connection.downlink(from, &other);
    }
}

fn fragmented(connection: &mut Connection<'_>, at: usize, payload: &[u8]) {
    let seq = connection.down.wrapping_add(at as u32);
    let fields = TcpFields::new(seq, connection.up, TcpFlags::ACK);
    let packet = tcp_packet(connection.origin, connection.ue, &fields, payload).unwrap();
    let id = connection.packets.len() as u32;
    for piece in fragment_packet(&packet, packet.len() / 2, id).unwrap() {
        connection.packets.push((DOWNLINK, piece));
    }
}

/// Datagrams beside the downloads, some of them in inner fragments of any order.
pub(crate) fn filler(seed: &mut Seed, (ue, origin): (SocketAddr, SocketAddr)) -> Vec<Inner> {
    let mut packets = Vec::new();
    for _ in 0..seed.within(0, 12) {
        let (direction, from, to) = if seed.once_in(2) {
            (UPLINK, ue, origin)
        } else {
            (DOWNLINK, origin, ue)
        };
        let (from, to) = (
            SocketAddr::new(from.ip(), 4_000),
            SocketAddr::new(to.ip(), 5_000),
        );
        let length = seed.within(0, 3_000);
        let packet = udp_packet(from, to, &seed.bytes(length)).unwrap();
        let mut pieces = if packet.len() > 1_400 || seed.once_in(4) {
            let piece = seed.within(300, 1_300);
            fragment_packet(&packet, piece, seed.next() as u32).unwrap()
        } else {
            vec![packet]
        };
        seed.shuffle(&mut pieces);
        packets.extend(pieces.into_iter().map(|piece| (direction, piece)));
    }
    packets
}

/// An inner packet in its tunnel: one outer packet, or fragments of one.
fn encapsulate(
    seed: &mut Seed,
    tunnel: &Tunnel,
    direction: Direction,
    inner: &[u8],
) -> Vec<Vec<u8>> {
    let packet = outer(seed, tunnel, direction, inner);
    let Some(piece) = tunnel.piece else {
        return vec![packet];
    };
    let mut pieces = fragment_packet(&packet, piece, tunnel.next_id()).unwrap();
    if pieces.len() > 1 && seed.once_in(3) {
        seed.shuffle(&mut pieces);
    }
    if pieces.len() > 2 && seed.once_in(6) {
        let twice = pieces[0].clone();
        pieces.insert(1, twice);
    }
    pieces
}

fn outer(seed: &mut Seed, tunnel: &Tunnel, direction: Direction, inner: &[u8]) -> Vec<u8> {
    let (from, to, teid) = match direction {
        UPLINK => (tunnel.basestation, tunnel.gateway, tunnel.uplink),
        DOWNLINK => (tunnel.gateway, tunnel.basestation, tunnel.downlink),
    };
    let info = PduSessionInfo {
        qfi: 9,
        downlink: direction == DOWNLINK,
    };
    // UDP port (TS 29.281 §5.2.2.1) and a PDCP number (§5.2.2.2).
    let (port, number) = ([8, 104], [0x12, 0x34]);
    let chain = [(0x40, &port), (0xc0, &number)];
    let chain = chain.map(|(kind, content)| GtpuExtension { kind, content });
    let plain = GtpuMessage::gpdu(teid);
    let message = match tunnel.chain {
        0 => plain,
        1 => plain.with_pdu_session(info),
        2 => GtpuMessage {
            sequence: Some(seed.next() as u16),
            ..plain
        },
        3 => plain.with_extensions(&chain),
        _ => plain.with_pdu_session(info).with_extensions(&chain),
    };
    let message = message.encode(inner).unwrap();
    udp_packet((from, 2152).into(), (to, 2152).into(), &message).unwrap()
}

/// Fragments of a datagram of which one contradicts another: nobody can say what was received.
fn contradiction(tunnel: &Tunnel) -> Vec<Vec<u8>> {
    let (from, to) = (
        SocketAddr::from(([10, 45, 0, 99], 7)),
        SocketAddr::from(([192, 0, 2, 9], 7)),
    );
    let id = tunnel.next_id();
    let [first, second] = [0x11, 0x22].map(|byte| {
        let inner = udp_packet(from, to, &[byte; 700]).unwrap();
        // The same headers, whatever their number.
        let packet = outer(&mut Seed::new(0), tunnel, UPLINK, &inner);
        fragment_packet(&packet, 400, id).unwrap()
    });
    vec![first[0].clone(), second[0].clone()]
}
