//! What the tunnel's thread counts.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use qlink_pfcp::TunnelFigures;
use qlink_tunnel::{Refusal, TunnelCounts};

use super::control::{Family, raise};

/// What is lost beside the table of peers: no room at a worker, none at the socket.
const FULL: [&str; 2] = ["handover_full", "transmit_full"];

/// The tunnel's families; they are empty until there is a tunnel. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct TunnelMetrics {
    packets: IntCounterVec,
    events: IntCounterVec,
    refused: IntCounterVec,
    peers: IntGaugeVec,
    handshake_age: IntGaugeVec,
}

/// What the thread knows beside the table's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TunnelStanding {
    /// Packets whose worker had no room.
    pub(crate) handover_full: u64,
    /// Packets that the socket had no room for.
    pub(crate) transmit_full: u64,
    /// Peers that may come.
    pub(crate) peers: u64,
    /// Those of them with keys in use.
    pub(crate) with_keys: u64,
    /// Seconds since the last handshake of any peer; `None`: there was none.
    pub(crate) handshake_age_s: Option<u64>,
}

/// The series of a tunnel that is there.
#[derive(Debug)]
pub(crate) struct TunnelSeries {
    received: IntCounter,
    sent: IntCounter,
    handshakes: IntCounter,
    renewals: IntCounter,
    successions: IntCounter,
    cookies: IntCounter,
    roamed: IntCounter,
    refused: [IntCounter; Refusal::ALL.len()],
    handover_full: IntCounter,
    transmit_full: IntCounter,
    of: TunnelMetrics,
}

impl TunnelMetrics {
    pub(super) fn register(family: &Family<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            packets: family.counters(
                "tunnel_packets",
                "GTP-U packets through the tunnel, by direction.",
                &["direction"],
            )?,
            events: family.counters(
                "tunnel_events",
                "Handshakes that gave keys, those of them that renewed keys in use, BaseStations that \
                 changed their tunnel key, cookies sent, peers heard at a new endpoint.",
                &["event"],
            )?,
            refused: family.counters(
                "tunnel_refused",
                "Datagrams and packets that the tunnel refused or had no room for, by reason.",
                &["reason"],
            )?,
            peers: family.gauges(
                "tunnel_peers",
                "BaseStations that may come through the tunnel, and those with keys in use.",
                &["state"],
            )?,
            handshake_age: family.gauges(
                "tunnel_last_handshake_seconds",
                "Seconds since the last handshake of any BaseStation; absent before the first.",
                &[],
            )?,
        })
    }

    /// What the series say.
    pub(crate) fn figures(&self) -> TunnelFigures {
        let event = |event: &str| self.events.with_label_values(&[event]).get();
        let refused = |reason: &str| self.refused.with_label_values(&[reason]).get();
        let peers = |state: &str| {
            let peers = self.peers.with_label_values(&[state]).get();
            u64::try_from(peers).unwrap_or(0)
        };
        let packets = |direction: &str| self.packets.with_label_values(&[direction]).get();
        let (mut denied, mut shed, mut other) = (0_u64, 0_u64, 0_u64);
        let reasons = Refusal::ALL.map(|reason| (reason.to_string(), Some(reason)));
        let full = FULL.map(|reason| (reason.to_owned(), None));
        for (name, reason) in reasons.into_iter().chain(full) {
            let sum = match reason {
                Some(Refusal::KeyRemoved) => &mut denied,
                None | Some(Refusal::HandshakeLimit) => &mut shed,
                Some(_) => &mut other,
            };
            *sum = sum.saturating_add(refused(&name));
        }
        TunnelFigures {
            peers: peers("known"),
            with_keys: peers("with_keys"),
            received: packets("received"),
            sent: packets("sent"),
            handshakes: event("handshake"),
            renewals: event("renewal"),
            successions: event("succession"),
            roamed: event("roamed"),
            denied,
            refused: other,
            shed,
        }
    }

    /// The series, all of them at zero.
    pub(crate) fn series(&self) -> TunnelSeries {
        let event = |event: &str| self.events.with_label_values(&[event]);
        let refused = |reason: &str| self.refused.with_label_values(&[reason]);
        TunnelSeries {
            received: self.packets.with_label_values(&["received"]),
            sent: self.packets.with_label_values(&["sent"]),
            handshakes: event("handshake"),
            renewals: event("renewal"),
            successions: event("succession"),
            cookies: event("cookie"),
            roamed: event("roamed"),
            refused: Refusal::ALL.map(|reason| refused(&reason.to_string())),
            handover_full: refused(FULL[0]),
            transmit_full: refused(FULL[1]),
            of: self.clone(),
        }
    }
}

impl TunnelSeries {
    /// Everything that happened so far, and what is now.
    pub(crate) fn stand(&self, counts: &TunnelCounts, standing: TunnelStanding) {
        raise(&self.received, counts.received);
        raise(&self.sent, counts.sent);
        raise(&self.handshakes, counts.handshakes);
        raise(&self.renewals, counts.renewals);
        raise(&self.successions, counts.successions);
        raise(&self.cookies, counts.cookies);
        raise(&self.roamed, counts.roamed);
        for (reason, series) in Refusal::ALL.into_iter().zip(&self.refused) {
            raise(series, counts.refused(reason));
        }
        raise(&self.handover_full, standing.handover_full);
        raise(&self.transmit_full, standing.transmit_full);
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (state, peers) in [("known", standing.peers), ("with_keys", standing.with_keys)] {
            self.of.peers.with_label_values(&[state]).set(gauge(peers));
        }
        if let Some(age) = standing.handshake_age_s {
            let none: [&str; 0] = [];
            self.of
                .handshake_age
                .with_label_values(&none)
                .set(gauge(age));
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};
    use qlink_tunnel::{Limits, MESSAGE_MIN, PrivateKey, Tunnels};

    use super::*;
    use crate::metrics::ControlMetrics;

    fn text(registry: &Registry) -> String {
        TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn a_tunnel_tells_every_reason_from_the_start_and_without_one_there_is_nothing() {
        let registry = Registry::new();
        let metrics = ControlMetrics::register(&registry).unwrap();
        assert!(!text(&registry).contains("qlink_dataplane_tunnel"));
        let key = PrivateKey::from_bytes([1; 32]);
        let mut tunnels = Tunnels::new(key, [10, 99, 0, 1].into(), Limits::default());
        let endpoint = "192.0.2.1:1".parse().unwrap();
        let mut out = [0; MESSAGE_MIN];
        let refused = tunnels.receive(0, endpoint, b"no message", &mut out);
        assert!(refused.is_err());
        let series = metrics.tunnel.series();
        let mut standing = TunnelStanding {
            handover_full: 3,
            peers: 2,
            with_keys: 1,
            ..TunnelStanding::default()
        };

        // Saying it twice counts it once.
        series.stand(tunnels.counts(), standing);
        assert!(!text(&registry).contains("last_handshake_seconds "));
        standing.handshake_age_s = Some(7);
        series.stand(tunnels.counts(), standing);

        let text = text(&registry);
        for line in [
            "tunnel_packets_total{direction=\"received\"} 0",
            "tunnel_events_total{event=\"roamed\"} 0",
            "tunnel_refused_total{reason=\"malformed\"} 1",
            "tunnel_refused_total{reason=\"handover_full\"} 3",
            "tunnel_peers{state=\"known\"} 2",
            "tunnel_events_total{event=\"renewal\"} 0",
            "tunnel_events_total{event=\"succession\"} 0",
            "tunnel_refused_total{reason=\"key_removed\"} 0",
            "tunnel_peers{state=\"with_keys\"} 1",
            "tunnel_last_handshake_seconds 7",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let reasons = text.matches("tunnel_refused_total{").count();
        assert_eq!(reasons, Refusal::ALL.len() + 2);
        let figures = metrics.tunnel.figures();
        assert_eq!((figures.peers, figures.with_keys), (2, 1));
        assert_eq!((figures.refused, figures.shed, figures.denied), (1, 3, 0));
    }
}
