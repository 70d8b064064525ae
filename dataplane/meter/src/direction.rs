//! Which way a packet goes.

use qlink_pfcp::model::Interface;

/// Which way a packet goes, seen from the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the subscriber.
    Uplink,
    /// To the subscriber.
    Downlink,
}

impl Direction {
    /// The direction of packets that come from `source`.
    ///
    /// Source: TS 29.244 §8.2.2.
    #[inline]
    #[must_use]
    pub const fn from_source(source: Interface) -> Self {
        match source {
            Interface::Access => Self::Uplink,
            Interface::Core
            | Interface::SgiLan
            | Interface::ControlPlane
            | Interface::LiFunction => Self::Downlink,
        }
    }
}
