//! What stands at the BaseStation's tap in demo and dev: the downlink side of the account, and the
//! capture of N3.
//!
//! The BaseStation is a component of its own and knows nothing of this; whoever joins the two hands
//! every forwarded packet to [`StationTap::packet`] and every question to [`StationTap::ask`].
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::capture::{CaptureError, N3Capture};
use crate::catalog::{Catalog, CatalogError, Film};
use crate::cheat::{CheatMeter, Direction};
use crate::service::Done;

/// One forwarded G-PDU.
#[derive(Debug, Clone, Copy)]
pub struct StationPacket<'a> {
    /// Which way.
    pub direction: Direction,
    /// Outer source.
    pub from: SocketAddr,
    /// Outer destination.
    pub to: SocketAddr,
    /// GTP-U header.
    pub head: &'a [u8],
    /// Inner packet.
    pub inner: &'a [u8],
}

/// What the tap can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum StationQuestion {
    /// Knows a film from now on; answered with `{}`.
    Film {
        /// The path that it is served under.
        path: String,
        /// The file.
        file: PathBuf,
    },
    /// Accounts a viewer's flows from now on; answered with `{}`.
    Watch {
        /// The viewer's inner address.
        viewer: Ipv4Addr,
    },
    /// Answered with this side's [`crate::CheatReport`].
    Report {},
    /// Brings the capture to its file; answered with `{}`.
    Flush {},
}

/// The account and capture at a BaseStation.
#[derive(Debug)]
pub struct StationTap {
    meter: CheatMeter,
    capture: Option<N3Capture>,
    /// The capture's first failure; recording ended there.
    failed: Option<CaptureError>,
    message: Vec<u8>,
}

impl StationTap {
    /// A tap that knows the films of `catalog`.
    #[must_use]
    pub const fn new(catalog: Catalog, capture: Option<N3Capture>) -> Self {
        Self {
            meter: CheatMeter::new(catalog),
            capture,
            failed: None,
            message: Vec::new(),
        }
    }

    /// Looks at one forwarded packet.
    pub fn packet(&mut self, packet: &StationPacket<'_>) {
        self.meter.observe(packet.direction, packet.inner);
        if let Some(capture) = &mut self.capture {
            self.message.clear();
            self.message.extend_from_slice(packet.head);
            self.message.extend_from_slice(packet.inner);
            if let Err(error) = capture.record(packet.from, packet.to, &self.message) {
                self.failed = Some(error);
                self.capture = None;
            }
        }
    }

    /// Answers a [`StationQuestion`] in JSON.
    ///
    /// # Errors
    ///
    /// The reason in words: no such question, an unreadable film, a capture that failed.
    pub fn ask(&mut self, question: Value) -> Result<Value, String> {
        let question = serde_json::from_value(question).map_err(|error| error.to_string())?;
        let answer = match question {
            StationQuestion::Film { path, file } => {
                let film = std::fs::read(&file)
                    .map(Film::new)
                    .map_err(|source| CatalogError { path: file, source }.to_string())?;
                self.meter.catalog_mut().insert(path, film);
                serde_json::to_value(Done {})
            }
            StationQuestion::Watch { viewer } => {
                self.meter.watch(viewer);
                serde_json::to_value(Done {})
            }
            StationQuestion::Report {} => serde_json::to_value(self.meter.report()),
            StationQuestion::Flush {} => {
                if let Some(error) = &self.failed {
                    return Err(format!("{error}: {}", error.source));
                }
                if let Some(capture) = &mut self.capture {
                    capture.flush().map_err(|error| error.to_string())?;
                }
                serde_json::to_value(Done {})
            }
        };
        answer.map_err(|error| error.to_string())
    }
}
