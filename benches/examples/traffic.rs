//! Writes the traffic that `peers.sh` times ours and others' meters on.
//!
//! ```text
//! traffic FOLDER PACKETS SEED
//!
//! FOLDER/plain.pcap      Ethernet, inner packet: for meters that see no tunnels
//! FOLDER/short.pcap      the first tenth of it
//! FOLDER/gtpu.pcap       the same packets in the same order: Ethernet, IPv4, UDP, GTP-U with PDU
//!                        session container, inner packet
//! FOLDER/contents/       the files that some of the flows carry
//! FOLDER/expected        `name=number` lines: what a meter has to count
//! ```
//!
//! 1,000 sessions with 10 flows each, 7 of UDP and 3 of TCP, picked at random for every packet;
//! inner packets of 40 to 1,400 bytes with random payload. One packet in ten belongs to a download
//! of a registered content over HTTP/1.1 with its acknowledgements; downloads end before the file
//! does. Nothing is lost, repeated or reordered: this measures speed, `tests/` measure judgement.
//! All of it follows from the seed. Time stamps are a microsecond apart, so no flow times out.

use std::error::Error;
use std::fs::{self, File};
use std::io::BufWriter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use qlink_benches::Random;
use qlink_io::pcap::PcapWriter;
use qlink_wire::build::{GtpuMessage, LinkFrame, TcpFields, tcp_packet, udp_packet};
use qlink_wire::{LinkType, PduSessionInfo, TcpFlags};

/// As many as the research measured others with (chosen).
const FLOWS: u32 = 10_000;
const SESSIONS: u32 = 1_000;
/// Of ten flows of a session the first three are TCP. Together with the downloads they stay below
/// the 4,096 content flows that a replay keeps.
const TCP_OF_TEN: u32 = 3;
const CONTENTS: u32 = 4;
const CONTENT_BYTES: usize = 1_000_000;
/// Body bytes of one segment.
const SEGMENT: usize = 1_300;
/// Downloads under way at once.
const ACTIVE: usize = 32;
/// Payload is cut out of this many random bytes at random places.
const POOL_BYTES: u32 = 1 << 20;
/// 2026-01-01, nanoseconds since the Unix epoch.
const START_NS: u64 = 1_767_225_600_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, packets, seed] = arguments.as_slice() else {
        return Err("usage: traffic FOLDER PACKETS SEED".into());
    };
    let packets: u64 = packets.parse()?;
    Traffic::new(PathBuf::from(folder), packets / 10, seed.parse()?)?.write(packets)
}

/// Which way a packet goes, seen from the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// An inner packet and its way.
type Sent = (Way, Vec<u8>);

/// One TCP connection's next sequence numbers.
#[derive(Debug, Clone, Copy)]
struct Connection {
    ue: SocketAddr,
    origin: SocketAddr,
    up: u32,
    down: u32,
    /// Segments so far.
    sent: u32,
}

impl Connection {
    const fn new(ue: SocketAddr, origin: SocketAddr) -> Self {
        Self {
            ue,
            origin,
            up: 1_000,
            down: 9_000,
            sent: 0,
        }
    }

    fn segment(
        &mut self,
        way: Way,
        flags: TcpFlags,
        payload: &[u8],
    ) -> Result<Vec<u8>, Box<dyn Error>> {
        let (from, to, seq, ack) = match way {
            Way::Up => (self.ue, self.origin, &mut self.up, self.down),
            Way::Down => (self.origin, self.ue, &mut self.down, self.up),
        };
        let fields = TcpFields::new(*seq, ack, flags);
        let one = u32::from(flags.syn() || flags.fin());
        *seq = seq.wrapping_add(u32::try_from(payload.len())?.wrapping_add(one));
        self.sent = self.sent.saturating_add(1);
        Ok(tcp_packet(from, to, &fields, payload)?)
    }

    /// The next of the three packets that open a connection, if it is not open.
    fn opening(&mut self) -> Option<(Way, TcpFlags)> {
        match self.sent {
            0 => Some((Way::Up, TcpFlags::SYN)),
            1 => Some((Way::Down, TcpFlags::SYN.union(TcpFlags::ACK))),
            2 => Some((Way::Up, TcpFlags::ACK)),
            _ => None,
        }
    }
}

/// A content on its way to one session.
#[derive(Debug)]
struct Download {
    session: u32,
    content: usize,
    connection: Connection,
    /// Body bytes sent.
    done: usize,
    /// Segments since the last acknowledgement.
    unacknowledged: u32,
}

impl Download {
    /// The next packet; `None` when everything is sent and acknowledged.
    fn next(&mut self, body: &[u8]) -> Result<Option<Sent>, Box<dyn Error>> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let request = b"GET /film HTTP/1.1\r\nHost: films.example\r\n\r\n";
        let rest = body.get(self.done..).unwrap_or_default();
        let piece = rest.get(..SEGMENT).unwrap_or(rest);
        let ack = TcpFlags::ACK;
        let (way, flags, payload): (Way, TcpFlags, &[u8]) = match self.connection.sent {
            0..=2 => match self.connection.opening() {
                Some((way, flags)) => (way, flags, &[]),
                None => return Ok(None),
            },
            3 => (Way::Up, ack, request),
            4 => (Way::Down, ack, head.as_bytes()),
            _ if self.unacknowledged == 2 || (rest.is_empty() && self.unacknowledged > 0) => {
                self.unacknowledged = 0;
                (Way::Up, ack, &[])
            }
            _ if rest.is_empty() => return Ok(None),
            _ => {
                self.done = self.done.saturating_add(piece.len());
                self.unacknowledged = self.unacknowledged.saturating_add(1);
                (Way::Down, ack, piece)
            }
        };
        let packet = self.connection.segment(way, flags, payload)?;
        Ok(Some((way, packet)))
    }
}

struct Traffic {
    folder: PathBuf,
    random: Random,
    seed: u64,
    pool: Vec<u8>,
    contents: Vec<Vec<u8>>,
    tcp: Vec<Connection>,
    plain: PcapWriter<BufWriter<File>>,
    short: PcapWriter<BufWriter<File>>,
    gtpu: PcapWriter<BufWriter<File>>,
    packets: u64,
    inner_bytes: u64,
    /// Packets of the short file, and their bytes.
    short_packets: u64,
    short_bytes: u64,
    tcp_flows: u64,
}

impl Traffic {
    fn new(folder: PathBuf, short_packets: u64, seed: u64) -> Result<Self, Box<dyn Error>> {
        let mut random = Random::new(seed);
        let contents: Vec<Vec<u8>> = (0..CONTENTS)
            .map(|_| bytes_of(&mut random, CONTENT_BYTES))
            .collect();
        fs::create_dir_all(folder.join("contents"))?;
        for (number, content) in contents.iter().enumerate() {
            fs::write(folder.join(format!("contents/{number}.bin")), content)?;
        }
        let pool = bytes_of(&mut random, usize::try_from(POOL_BYTES)?);
        let tcp = (0..FLOWS).map(|flow| Connection::new(ue(flow), origin(flow)));
        Ok(Self {
            tcp: tcp.collect(),
            plain: capture(&folder, "plain.pcap")?,
            short: capture(&folder, "short.pcap")?,
            gtpu: capture(&folder, "gtpu.pcap")?,
            folder,
            random,
            seed,
            pool,
            contents,
            packets: 0,
            inner_bytes: 0,
            short_packets,
            short_bytes: 0,
            tcp_flows: 0,
        })
    }

    fn write(mut self, wanted: u64) -> Result<(), Box<dyn Error>> {
        let per_download = CONTENT_BYTES.div_ceil(SEGMENT) as u64 * 3 / 2;
        let downloads = wanted / 10 / per_download;
        let mut waiting = 0..u32::try_from(downloads)?;
        let mut active: Vec<Download> = Vec::new();
        while self.packets < wanted || !active.is_empty() {
            while active.len() < ACTIVE
                && let Some(number) = waiting.next()
            {
                active.push(download(number));
            }
            // Towards the end the downloads have to be finished.
            let some = u32::try_from(active.len())?;
            if some > 0 && (self.packets >= wanted || self.random.below(9) == 0) {
                let chosen = usize::try_from(self.random.below(some))?;
                if !self.continue_download(active.get_mut(chosen).ok_or("no such download")?)? {
                    active.swap_remove(chosen);
                }
            } else {
                self.plain_packet()?;
            }
        }
        self.finish(downloads)
    }

    fn continue_download(&mut self, download: &mut Download) -> Result<bool, Box<dyn Error>> {
        let body = self
            .contents
            .get(download.content)
            .map_or(&[][..], |all| all);
        match download.next(body)? {
            Some((way, packet)) => self.put(download.session, way, &packet).map(|()| true),
            None => Ok(false),
        }
    }

    /// A packet of a random flow that carries no content.
    fn plain_packet(&mut self) -> Result<(), Box<dyn Error>> {
        let flow = self.random.below(FLOWS);
        let session = flow / 10;
        let way = if self.random.below(3) == 0 {
            Way::Up
        } else {
            Way::Down
        };
        let size = match self.random.below(10) {
            0..5 => self.random.below(80),
            5..8 => 300_u32.saturating_add(self.random.below(300)),
            _ => 900_u32.saturating_add(self.random.below(460)),
        };
        let start = self.random.below(POOL_BYTES.saturating_sub(size));
        let (start, size) = (usize::try_from(start)?, usize::try_from(size)?);
        let end = start.saturating_add(size);
        let (way, packet) = if flow % 10 < TCP_OF_TEN {
            let connection = self
                .tcp
                .get_mut(usize::try_from(flow)?)
                .ok_or("no such flow")?;
            self.tcp_flows = self
                .tcp_flows
                .saturating_add(u64::from(connection.sent == 0));
            let payload = self.pool.get(start..end).unwrap_or_default();
            match connection.opening() {
                Some((way, flags)) => (way, connection.segment(way, flags, &[])?),
                None => (way, connection.segment(way, TcpFlags::ACK, payload)?),
            }
        } else {
            let (from, to) = match way {
                Way::Up => (ue(flow), origin(flow)),
                Way::Down => (origin(flow), ue(flow)),
            };
            let payload = self.pool.get(start..end).unwrap_or_default();
            (way, udp_packet(from, to, payload)?)
        };
        self.put(session, way, &packet)
    }

    /// Writes an inner packet to both files.
    fn put(&mut self, session: u32, way: Way, inner: &[u8]) -> Result<(), Box<dyn Error>> {
        let now_ns = START_NS.saturating_add(self.packets.saturating_mul(1_000));
        let link = LinkFrame::new(LinkType::Ethernet);
        let frame = link.wrap(inner)?;
        let length = u32::try_from(frame.len())?;
        self.plain.write(now_ns, &frame, length)?;
        if self.packets < self.short_packets {
            self.short.write(now_ns, &frame, length)?;
            self.short_bytes = self.short_bytes.saturating_add(inner.len() as u64);
        }

        let basestation = v4([198, 18, 0, 2], 2152);
        let gateway = v4([198, 18, 0, 1], 2152);
        let (from, to, teid) = match way {
            Way::Up => (basestation, gateway, session << 8 | 0x55),
            Way::Down => (gateway, basestation, session.saturating_add(1)),
        };
        let container = PduSessionInfo {
            qfi: 9,
            downlink: way == Way::Down,
        };
        let message = GtpuMessage::gpdu(teid)
            .with_pdu_session(container)
            .encode(inner)?;
        let frame = link.wrap(&udp_packet(from, to, &message)?)?;
        let length = u32::try_from(frame.len())?;
        self.gtpu.write(now_ns, &frame, length)?;

        self.packets = self.packets.saturating_add(1);
        self.inner_bytes = self.inner_bytes.saturating_add(inner.len() as u64);
        Ok(())
    }

    fn finish(self, downloads: u64) -> Result<(), Box<dyn Error>> {
        self.plain.finish()?;
        self.short.finish()?;
        self.gtpu.finish()?;
        let content_bytes = downloads.saturating_mul(CONTENT_BYTES as u64);
        let lines = [
            ("seed", self.seed),
            ("packets", self.packets),
            ("inner_bytes", self.inner_bytes),
            ("short_packets", self.short_packets),
            ("short_bytes", self.short_bytes),
            ("content_bytes", content_bytes),
            ("sessions", SESSIONS.into()),
            ("flows", u64::from(FLOWS).saturating_add(downloads)),
            ("tcp_flows", self.tcp_flows.saturating_add(downloads)),
            ("downloads", downloads),
        ];
        let text: String = lines
            .map(|(name, number)| format!("{name}={number}\n"))
            .concat();
        fs::write(self.folder.join("expected"), text)?;
        Ok(())
    }
}

const fn v4([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

/// The subscriber's end of a flow; each flow of a session has its own port.
fn ue(flow: u32) -> SocketAddr {
    let address = Ipv4Addr::from(0x0a2d_0001_u32.saturating_add(flow / 10));
    let port = u16::try_from(flow % 10).unwrap_or(0).saturating_add(40_000);
    SocketAddr::new(IpAddr::V4(address), port)
}

/// Servers in 203.0.113.0/24, the network for examples.
fn origin(flow: u32) -> SocketAddr {
    let host = u8::try_from(flow % 250).unwrap_or(0).saturating_add(1);
    v4([203, 0, 113, host], 443)
}

/// Downloads go to different (session, content) pairs, so each byte is new to its session.
fn download(number: u32) -> Download {
    let session = number % SESSIONS;
    let round = number / SESSIONS;
    let ue = SocketAddr::new(
        ue(session.saturating_mul(10)).ip(),
        u16::try_from(round).unwrap_or(0).saturating_add(50_000),
    );
    Download {
        session,
        content: usize::try_from(number.wrapping_add(round) % CONTENTS).unwrap_or(0),
        connection: Connection::new(ue, v4([192, 0, 2, 9], 80)),
        done: 0,
        unacknowledged: 0,
    }
}

fn bytes_of(random: &mut Random, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length.saturating_add(32));
    while bytes.len() < length {
        bytes.extend_from_slice(&random.bytes32());
    }
    bytes.truncate(length);
    bytes
}

fn capture(folder: &Path, name: &str) -> Result<PcapWriter<BufWriter<File>>, Box<dyn Error>> {
    let file = BufWriter::with_capacity(1 << 20, File::create(folder.join(name))?);
    Ok(PcapWriter::new(file, LinkType::Ethernet)?)
}
