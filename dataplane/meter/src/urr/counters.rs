//! What one usage rule has counted.

/// Cumulative counters of one usage rule; a row of the arena. Times are nanoseconds since the Unix
/// epoch, 0 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "bytes, packets and times by name")]
pub struct UrrCounters {
    pub uplink_bytes: u64,
    pub downlink_bytes: u64,
    pub uplink_packets: u64,
    pub downlink_packets: u64,
    /// Starts of traffic.
    pub events: u64,
    /// Downlink packets that were dropped.
    pub dropped_packets: u64,
    pub dropped_bytes: u64,
    /// Measured time.
    pub active_ns: u64,
    /// Until when the measured time is counted; 0: it rests.
    pub counted_ns: u64,
    /// First packet since the last report.
    pub first_packet_ns: u64,
    pub last_packet_ns: u64,
}

impl UrrCounters {
    /// Words of the encoding.
    pub(crate) const WORDS: usize = 11;

    #[inline]
    pub(crate) const fn to_words(self) -> [u64; Self::WORDS] {
        [
            self.uplink_bytes,
            self.downlink_bytes,
            self.uplink_packets,
            self.downlink_packets,
            self.events,
            self.dropped_packets,
            self.dropped_bytes,
            self.active_ns,
            self.counted_ns,
            self.first_packet_ns,
            self.last_packet_ns,
        ]
    }

    pub(crate) const fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [
            uplink_bytes,
            downlink_bytes,
            uplink_packets,
            downlink_packets,
            events,
            dropped_packets,
            dropped_bytes,
            active_ns,
            counted_ns,
            first_packet_ns,
            last_packet_ns,
        ] = words;
        Self {
            uplink_bytes,
            downlink_bytes,
            uplink_packets,
            downlink_packets,
            events,
            dropped_packets,
            dropped_bytes,
            active_ns,
            counted_ns,
            first_packet_ns,
            last_packet_ns,
        }
    }
}
