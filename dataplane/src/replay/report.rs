//! What a replay answers, and its digest.

use std::collections::BTreeMap;
use std::net::IpAddr;

use qlink_types::ids::{ContentId, Teid};
use qlink_types::units::Bytes;
use serde::Serialize;

// Every struct here lists its fields in alphabetical order: that is the canonical order of keys.

/// Packets of one tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TunnelRow {
    /// Sum of the inner IP packets' lengths, as their headers state them.
    pub network_bytes: Bytes,
    /// G-PDUs with an inner IP header.
    #[serde(with = "qlink_types::text")]
    pub packets: u64,
    /// Outer destination.
    pub peer: IpAddr,
    /// Its tunnel endpoint.
    pub teid: Teid,
}

/// Bytes of one content in one learned session, in classes: `wire_payload_bytes` is the sum of all
/// others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContentRow {
    /// The content.
    pub content: ContentId,
    /// Proven and acknowledged for the first time.
    pub content_bytes: Bytes,
    /// Heads within their allowance.
    pub overhead_bytes: Bytes,
    /// Neither acknowledged nor given up when the captures end.
    pub pending_bytes: Bytes,
    /// Proven and acknowledged again, in another place of a stream.
    pub repeat_bytes: Bytes,
    /// Further copies of the same stream positions.
    pub retransmit_bytes: Bytes,
    /// The session: outer destination and TEID of its uplink tunnel, or where no uplink packet
    /// was seen of its downlink tunnel, as `address/teid`.
    pub session: String,
    /// Never acknowledged.
    pub undelivered_bytes: Bytes,
    /// What the session's payer would pay.
    pub user_charged_bytes: Bytes,
    /// TCP payload of the content's flows, both directions.
    pub wire_payload_bytes: Bytes,
}

#[derive(Debug, Serialize)]
struct Digested<'a> {
    contents: &'a [ContentRow],
    drops: &'a BTreeMap<String, String>,
    #[serde(with = "qlink_types::text")]
    packets: u64,
    tunnels: &'a [TunnelRow],
}

/// The result of a replay; its JSON is described by `replay.schema.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// By content and session, in the order of the folder's file names, then of the sessions'
    /// first packets.
    pub contents: Vec<ContentRow>,
    /// BLAKE3 of this object without `digest` and `ns_per_packet`, keys sorted, no spaces; hex.
    pub digest: String,
    /// Frames that no tunnel counts, by reason.
    pub drops: BTreeMap<String, String>,
    /// Time spent per packet behind the file reader.
    #[serde(with = "qlink_types::text")]
    pub ns_per_packet: u64,
    /// Frames in the captures.
    #[serde(with = "qlink_types::text")]
    pub packets: u64,
    /// By outer destination, then TEID.
    pub tunnels: Vec<TunnelRow>,
}

impl Report {
    pub(super) fn new(
        contents: Vec<ContentRow>,
        drops: BTreeMap<String, String>,
        packets: u64,
        tunnels: Vec<TunnelRow>,
        ns_per_packet: u64,
    ) -> Result<Self, serde_json::Error> {
        let canonical = serde_json::to_vec(&Digested {
            contents: &contents,
            drops: &drops,
            packets,
            tunnels: &tunnels,
        })?;
        Ok(Self {
            contents,
            digest: blake3::hash(&canonical).to_hex().to_string(),
            drops,
            ns_per_packet,
            packets,
            tunnels,
        })
    }
}
