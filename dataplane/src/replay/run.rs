//! Reading captures and feeding every packet to tunnels and flows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qlink_io::pcap::{CaptureError, PcapSource};
use qlink_io::{BURST_MAX, Burst, Descriptor, IoError, PacketSource, clock};
use qlink_kernel::prefetch_slice;
use qlink_meter::DropReason;
use qlink_types::ids::ContentId;
use qlink_wire::{LinkType, Reassembler, ReassemblyLimits, parse_tcp, usual_gpdu_packet};

use super::flows::{Ends, LearnedFlows, Outer, TcpPacket};
use super::report::Report;
use super::tunnels::Tunnels;
use crate::contents::{Copy, SessionContents};
use crate::parse::{Transport, UsualInner, parse_frame, parse_inner, usual_packet};

/// How to replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayOptions {
    /// A folder whose files are registered as contents first.
    pub contents: Option<PathBuf>,
}

/// Why a replay has no result.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A content file or its folder cannot be read.
    #[error("cannot read content {path}")]
    Content {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// More contents than a session's set holds.
    #[error("{path} holds more than {limit} contents")]
    TooManyContents {
        /// The folder.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// A file is no capture, or a malformed or cut one.
    #[error("cannot read capture {path}")]
    Capture {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        source: CaptureError,
    },
    /// A back end failed.
    #[error("cannot read {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: IoError,
    },
    /// The result cannot be written as JSON.
    #[error("the report cannot be written")]
    Report(#[source] serde_json::Error),
}

/// Most contents in one folder (chosen: each learned session has a view of each).
const CONTENTS_MAX: usize = 1024;

/// Replays `files` in order as one input.
///
/// # Errors
///
/// Any [`ReplayError`]; a malformed capture gives no partial result.
pub fn replay(files: &[PathBuf], options: &ReplayOptions) -> Result<Report, ReplayError> {
    let contents = match &options.contents {
        Some(folder) => read_contents(folder)?,
        None => SessionContents::default(),
    };
    let mut replay = Replay::new(contents);
    for file in files {
        replay.file(file)?;
    }
    replay.finish()
}

/// A packet whose headers have the usual shape.
struct Usual<'a> {
    outer: Outer,
    tunnel_hash: u64,
    inner: UsualInner<'a>,
    /// Its ends, when it may be proven.
    ends: Option<Ends>,
}

/// One replay under way.
#[derive(Debug)]
struct Replay {
    fragments: Reassembler,
    tunnels: Tunnels,
    flows: LearnedFlows,
    drops: Box<[u64]>,
    packets: u64,
    busy_ns: u64,
}

impl Replay {
    fn new(contents: SessionContents) -> Self {
        Self {
            fragments: Reassembler::new(ReassemblyLimits::default()),
            tunnels: Tunnels::new(),
            flows: LearnedFlows::new(contents),
            drops: vec![0; DropReason::COUNT].into_boxed_slice(),
            packets: 0,
            busy_ns: 0,
        }
    }

    fn file(&mut self, path: &Path) -> Result<(), ReplayError> {
        let failed = |error| match error {
            IoError::Capture(source) => ReplayError::Capture {
                path: path.into(),
                source,
            },
            source => ReplayError::Io {
                path: path.into(),
                source,
            },
        };
        let mut source = PcapSource::open(path).map_err(|error| failed(error.into()))?;
        let mut burst = Burst::new();
        loop {
            match source.recv_burst(&mut burst) {
                Ok(_) => {}
                Err(IoError::End) => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
            let start = clock::now_ns();
            self.burst(&source, &burst);
            let spent = clock::now_ns().saturating_sub(start);
            self.busy_ns = self.busy_ns.saturating_add(spent);
        }
    }

    /// Packets of the usual shape are looked at one stage after the other, so that what one of
    /// them waits for comes while others are worked on. All are counted in the file's order.
    fn burst(&mut self, source: &impl PacketSource, burst: &Burst) {
        for descriptor in burst {
            prefetch_slice(source.frame(descriptor), 0);
            prefetch_slice(source.frame(descriptor), 64);
        }
        let mut known = [const { None }; BURST_MAX];
        for (place, descriptor) in known.iter_mut().zip(burst) {
            *place = self.recognise(descriptor.link, source.frame(descriptor));
        }
        let mut numbers = [None; BURST_MAX];
        for (number, packet) in numbers.iter_mut().zip(&known) {
            let ends = packet.as_ref().and_then(|packet| packet.ends.as_ref());
            *number = ends.and_then(|ends| self.flows.prefetch(ends));
        }
        for number in numbers.into_iter().flatten() {
            self.flows.prefetch_proof(number);
        }
        let mut now_ns = 0;
        for (packet, descriptor) in known.iter().zip(burst) {
            now_ns = descriptor.timestamp_ns;
            let counted = match packet {
                Some(packet) => self.usual(packet, now_ns),
                None => self.unusual(descriptor, source.frame(descriptor)),
            };
            if let Err(reason) = counted {
                count(&mut self.drops, reason, 1);
            }
        }
        self.packets = self.packets.saturating_add(burst.len() as u64);
        self.flows.sweep(burst.len(), now_ns);
    }

    /// A packet of the usual shape; `None` says nothing about the frame.
    #[inline]
    fn recognise<'a>(&self, link: LinkType, frame: &'a [u8]) -> Option<Usual<'a>> {
        let packet = usual_packet(link, frame)?;
        let (source, gpdu) = usual_gpdu_packet(packet)?;
        let destination = *packet.get(16..)?.first_chunk::<4>()?;
        let inner = UsualInner::of(gpdu.payload)?;
        let outer = Outer {
            source: source.into(),
            destination: destination.into(),
            teid: gpdu.teid,
        };
        let tunnel_hash = self.tunnels.hash(&(outer.destination, outer.teid));
        self.tunnels.prefetch(tunnel_hash);
        let ends = (inner.is_tcp() && !self.flows.proves_nothing()).then(|| {
            let ports = inner.bytes.get(20..).and_then(<[u8]>::first_chunk::<4>);
            let [a, b, c, d] = ports.copied().unwrap_or_default();
            let from = (inner.src.into(), u16::from_be_bytes([a, b]));
            let to = (inner.dst.into(), u16::from_be_bytes([c, d]));
            self.flows.search(from, to)
        });
        Some(Usual {
            outer,
            tunnel_hash,
            inner,
            ends,
        })
    }

    #[inline]
    fn usual(&mut self, packet: &Usual<'_>, now_ns: u64) -> Result<(), DropReason> {
        let (outer, inner) = (&packet.outer, &packet.inner);
        let tunnel = (outer.destination, outer.teid);
        if !(self.tunnels).count(packet.tunnel_hash, tunnel, inner.total_len()) {
            return Err(DropReason::TeidUnknown);
        }
        let Some(ends) = packet.ends else {
            return Ok(());
        };
        let segment = inner.bytes.get(20..).unwrap_or_default();
        let segment = parse_tcp(segment).map_err(|_| DropReason::InnerMalformed)?;
        let packet = TcpPacket {
            ends,
            src: inner.src.into(),
            dst: inner.dst.into(),
            segment,
            payload_len: inner.payload_len.into(),
        };
        self.flows.packet(outer, &packet, now_ns)
    }

    #[inline(never)]
    fn unusual(&mut self, descriptor: &Descriptor, frame: &[u8]) -> Result<(), DropReason> {
        self.fragments.expire(descriptor.timestamp_ns);
        let Some(tunnelled) = parse_frame(descriptor, frame, &mut self.fragments)? else {
            return Ok(());
        };
        if !tunnelled.gtpu.is_gpdu() {
            return Err(DropReason::GtpuSignalling);
        }
        let inner = parse_inner(tunnelled.gtpu.payload).map_err(|_| DropReason::InnerMalformed)?;
        let outer = Outer {
            source: tunnelled.source,
            destination: tunnelled.destination,
            teid: tunnelled.gtpu.teid,
        };
        let tunnel = (outer.destination, outer.teid);
        let hash = self.tunnels.hash(&tunnel);
        if !self.tunnels.count(hash, tunnel, inner.ip.total_len) {
            return Err(DropReason::TeidUnknown);
        }
        let Transport::Tcp(segment) = inner.transport else {
            return Ok(());
        };
        if self.flows.proves_nothing() {
            return Ok(());
        }
        let (from, to) = (
            (inner.ip.src, segment.src_port),
            (inner.ip.dst, segment.dst_port),
        );
        let packet = TcpPacket {
            ends: self.flows.search(from, to),
            src: inner.ip.src,
            dst: inner.ip.dst,
            segment,
            payload_len: inner.payload_len,
        };
        self.flows.packet(&outer, &packet, descriptor.timestamp_ns)
    }

    fn finish(mut self) -> Result<Report, ReplayError> {
        self.fragments.expire(u64::MAX);
        let expired = self.fragments.stats().fragments_expired;
        count(&mut self.drops, DropReason::FragmentExpired, expired);
        let drops = DropReason::all()
            .filter_map(|reason| {
                let packets = self.drops.get(reason.index()).copied().unwrap_or(0);
                (packets > 0).then(|| (reason.name().to_owned(), packets.to_string()))
            })
            .collect();
        let ns_per_packet = self.busy_ns.checked_div(self.packets).unwrap_or(0);
        Report::new(
            self.flows.rows(),
            drops,
            self.packets,
            self.tunnels.rows(),
            ns_per_packet,
        )
        .map_err(ReplayError::Report)
    }
}

fn count(drops: &mut [u64], reason: DropReason, packets: u64) {
    if let Some(counter) = drops.get_mut(reason.index()) {
        *counter = counter.saturating_add(packets);
    }
}

/// Registers the regular files of a folder, in the order of their names; empty ones are skipped.
fn read_contents(folder: &Path) -> Result<SessionContents, ReplayError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ReplayError::Content { path, source }
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let mut contents: Vec<(ContentId, Copy)> = Vec::new();
    for path in paths {
        let bytes = std::fs::read(&path).map_err(failed(&path))?;
        let id = ContentId::new(*blake3::hash(&bytes).as_bytes());
        if bytes.is_empty() || contents.iter().any(|(known, _)| *known == id) {
            continue;
        }
        if contents.len() >= CONTENTS_MAX {
            return Err(ReplayError::TooManyContents {
                path: folder.into(),
                limit: CONTENTS_MAX,
            });
        }
        contents.push((id, Copy::Owned(Arc::from(bytes))));
    }
    Ok(SessionContents(contents))
}
