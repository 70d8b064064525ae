//! What the tunnel did, once a second: to the log what changed, to the metrics all of it.

use qlink_io::clock;
use qlink_tunnel::{Refusal, TunnelCounts, Tunnels};

use crate::metrics::{TunnelSeries, TunnelStanding};

const SECOND_NS: u64 = 1_000_000_000;

/// Packets that were lost beside the table of peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Full {
    /// Their worker had no room.
    pub(super) handover: u64,
    /// The socket had no room.
    pub(super) transmit: u64,
}

/// What was told last, and where.
#[derive(Debug)]
pub(super) struct Report {
    series: TunnelSeries,
    told: TunnelCounts,
    /// Monotonic time at which handshakes were seen to have grown.
    handshake_ns: Option<u64>,
}

impl Report {
    pub(super) fn new(series: TunnelSeries) -> Self {
        Self {
            series,
            told: TunnelCounts::default(),
            handshake_ns: None,
        }
    }

    /// Tells what happened since the last call.
    pub(super) fn tell(&mut self, tunnels: &Tunnels, full: Full) {
        let (counts, now_ns) = (*tunnels.counts(), clock::now_ns());
        if counts.handshakes != self.told.handshakes {
            self.handshake_ns = Some(now_ns);
        }
        let age_s = |then: u64| now_ns.saturating_sub(then) / SECOND_NS;
        let (peers, with_keys) = tunnels.standing();
        self.series.stand(
            &counts,
            TunnelStanding {
                handover_full: full.handover,
                transmit_full: full.transmit,
                peers,
                with_keys,
                handshake_age_s: self.handshake_ns.map(age_s),
            },
        );
        self.log(&counts, full);
        self.told = counts;
    }

    fn log(&self, counts: &TunnelCounts, full: Full) {
        let told = &self.told;
        for reason in Refusal::ALL {
            let times = counts.refused(reason).saturating_sub(told.refused(reason));
            if times > 0 {
                tracing::warn!(%reason, times, "the tunnel refused");
            }
        }
        if (counts.handshakes, counts.cookies, counts.roamed)
            != (told.handshakes, told.cookies, told.roamed)
        {
            tracing::info!(
                received = counts.received,
                sent = counts.sent,
                handshakes = counts.handshakes,
                cookies = counts.cookies,
                roamed = counts.roamed,
                handover_full = full.handover,
                transmit_full = full.transmit,
                "the tunnel so far"
            );
        }
    }
}
