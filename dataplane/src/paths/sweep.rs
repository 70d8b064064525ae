//! Who the peers are: what sessions are indexed by, looked at when it changed.
//!
//! Gateways' sessions and those of control planes each keep an index of their peers as they come,
//! change and go, so nothing walks over sessions. Changes are taken in at most once a second: peers
//! that come and go meanwhile are never asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use qlink_pfcp::PeerIndex;

/// How long after one look the next is taken (chosen).
const REST: Duration = Duration::from_secs(1);

/// Whose sessions name a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    /// Gateways' alone.
    Gateway,
    /// A control plane's, which wants to know.
    ControlPlane,
}

/// When the indexes were looked at.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    due: Duration,
    /// What the indexes said last time.
    seen: Option<(u64, u64)>,
}

/// Who the peers are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    pub(crate) peers: BTreeMap<SocketAddr, Party>,
    /// Sessions whose peer found no room.
    pub(crate) unwatched: u64,
}

impl Sweep {
    /// The peers, when they are others than last time. `bound` is the room for them, and those that
    /// `known` has keep their place.
    pub(crate) fn look(
        &mut self,
        now: Duration,
        (gateways, control_planes): (&PeerIndex, Option<&PeerIndex>),
        (bound, known): (usize, &impl Fn(&SocketAddr) -> bool),
    ) -> Option<Found> {
        let changes = control_planes.map_or(0, PeerIndex::changes);
        let changes = (gateways.changes(), changes);
        if now < self.due || self.seen == Some(changes) {
            return None;
        }
        self.due = now.saturating_add(REST);
        self.seen = Some(changes);
        let mut all: BTreeMap<SocketAddr, (Party, usize)> = BTreeMap::new();
        let theirs = control_planes.into_iter().flat_map(PeerIndex::iter);
        let theirs = theirs.map(|(peer, count)| (peer, Party::ControlPlane, count));
        let ours = gateways.iter();
        let ours = ours.map(|(peer, count)| (peer, Party::Gateway, count));
        for (peer, party, count) in theirs.chain(ours) {
            let (whose, sessions) = all.entry(peer).or_insert((party, 0));
            *whose = party.max(*whose);
            *sessions = sessions.saturating_add(count);
        }
        let mut found = Found::default();
        let (kept, new): (Vec<_>, Vec<_>) = all.into_iter().partition(|(peer, _)| known(peer));
        for (peer, (party, sessions)) in kept.into_iter().chain(new) {
            if found.peers.len() < bound {
                found.peers.insert(peer, party);
            } else {
                found.unwatched = found.unwatched.saturating_add(sessions as u64);
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn index(ports: impl IntoIterator<Item = u16>) -> PeerIndex {
        let mut index = PeerIndex::new();
        for port in ports {
            index.add(peer(port));
        }
        index
    }

    #[test]
    fn peers_are_told_when_they_change_and_once_a_second_at_most() {
        let mut gateways = index([1, 1, 2]);
        let control_planes = index([2, 3]);
        let mut sweep = Sweep::default();
        let mut look = |now, gateways: &PeerIndex| {
            sweep.look(now, (gateways, Some(&control_planes)), (8, &|_| false))
        };

        let first = look(Duration::ZERO, &gateways).unwrap();
        let unchanged = look(REST * 2, &gateways);
        gateways.remove(peer(2));
        gateways.add(peer(4));
        let changed = look(REST * 3, &gateways).unwrap();
        gateways.add(peer(5));
        let resting = look(REST * 3, &gateways);

        let whose: Vec<Party> = first.peers.values().copied().collect();
        assert_eq!(
            whose,
            [Party::Gateway, Party::ControlPlane, Party::ControlPlane]
        );
        assert_eq!((unchanged, resting), (None, None));
        assert_eq!(changed.peers.len(), 4);
    }

    #[test]
    fn sessions_of_peers_beyond_the_bound_are_counted_and_known_ones_stay() {
        let gateways = index((0..60).map(|number| number % 30));
        let known = |peer: &SocketAddr| peer.port() == 17;

        let found = Sweep::default().look(Duration::ZERO, (&gateways, None), (5, &known));

        let found = found.unwrap();
        let ports: Vec<u16> = found.peers.keys().map(SocketAddr::port).collect();
        assert_eq!(ports, [0, 1, 2, 3, 17]);
        assert_eq!(found.unwatched, 50);
    }
}
