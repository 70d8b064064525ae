//! What a session has used: cumulative, never a difference.

use qlink_types::codec::List;
use qlink_types::ids::ContentId;
use qlink_types::receipt::ByteClasses;
use qlink_types::struct_codec;
use qlink_types::units::Bytes;

use crate::rules::MAX_CONTENTS;

/// Volume of one direction: inner IP packets that were forwarded.
///
/// Source: TS 29.244 §8.2.44.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VolumeMeasurement {
    /// Sum of the inner IP packets' lengths.
    pub network_bytes: Bytes,
    /// How many packets.
    pub packets: u64,
}

struct_codec!(VolumeMeasurement {
    network_bytes,
    packets
});

/// Proven bytes of one content in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentUsage {
    /// Which.
    pub content: ContentId,
    /// Bytes proven and acknowledged for the first time in this session.
    pub verified_unique: Bytes,
}

struct_codec!(ContentUsage {
    content,
    verified_unique
});

/// Everything counted for one session since it was established.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionUsage {
    /// From the subscriber.
    pub uplink: VolumeMeasurement,
    /// To the subscriber.
    pub downlink: VolumeMeasurement,
    /// TCP and UDP payload by class.
    pub classes: ByteClasses,
    /// Bytes that the session's personal payer pays for.
    pub personal_bytes: Bytes,
    /// Bytes that a kill may have forwarded uncounted; never billed.
    pub uncertain_bytes: Bytes,
    /// Times that the classes did not sum up to the payload; zero in a sound build.
    pub conservation_violations: u64,
    /// By content, in the order of the sponsor's list.
    pub contents: List<ContentUsage, MAX_CONTENTS>,
}

struct_codec!(SessionUsage {
    uplink,
    downlink,
    classes,
    personal_bytes,
    uncertain_bytes,
    conservation_violations,
    contents,
});
