//! Reading captures and feeding every packet to tunnels and flows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qlink_io::pcap::{CaptureError, PcapSource};
use qlink_io::{Burst, IoError, PacketSource, clock};
use qlink_meter::DropReason;
use qlink_types::ids::ContentId;
use qlink_wire::{Reassembler, ReassemblyLimits};

use super::flows::LearnedFlows;
use super::report::Report;
use super::tunnels::Tunnels;
use crate::contents::{Copy, SessionContents};
use crate::parse::{parse_frame, parse_inner};

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

    fn burst(&mut self, source: &impl PacketSource, burst: &Burst) {
        for descriptor in burst {
            self.packets = self.packets.saturating_add(1);
            self.fragments.expire(descriptor.timestamp_ns);
            let frame = source.frame(descriptor);
            let tunnelled = match parse_frame(descriptor, frame, &mut self.fragments) {
                Ok(Some(tunnelled)) => tunnelled,
                Ok(None) => continue,
                Err(reason) => {
                    count(&mut self.drops, reason, 1);
                    continue;
                }
            };
            if !tunnelled.gtpu.is_gpdu() {
                count(&mut self.drops, DropReason::GtpuSignalling, 1);
                continue;
            }
            let Ok(inner) = parse_inner(tunnelled.gtpu.payload) else {
                count(&mut self.drops, DropReason::InnerMalformed, 1);
                continue;
            };
            let tunnel = (tunnelled.destination, tunnelled.gtpu.teid);
            if !self.tunnels.count(tunnel, inner.ip.total_len) {
                count(&mut self.drops, DropReason::TeidUnknown, 1);
                continue;
            }
            let now_ns = descriptor.timestamp_ns;
            if let Err(reason) = self.flows.packet(&tunnelled, &inner, now_ns) {
                count(&mut self.drops, reason, 1);
            }
        }
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
