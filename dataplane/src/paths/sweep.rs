//! Who the peers are: a walk over all sessions, a few at a time.
//!
//! The control thread looks at [`STEP`] sessions a turn, so that a million of them delay no request;
//! a walk that has come to its end says who is a peer from then on. Nothing has to be told when a
//! session begins, changes or ends, and nothing can be forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use qlink_pfcp::Association;
use qlink_pfcp::model::{OuterHeaderCreation, Seid, SessionModel};
use qlink_pfcp::node::Node;
use qlink_types::ids::SessionId;
use qlink_wire::GTPU_PORT;

/// Sessions looked at in one turn (chosen: few, because requests wait meanwhile; not measured).
const STEP: usize = 512;

/// How long after one walk the next begins (chosen). A walk over n sessions takes n / [`STEP`]
/// turns, and an idle control thread takes ten turns in a second: a new peer among 60,000 sessions
/// is known after some 12 s.
const REST: Duration = Duration::from_secs(1);

/// Whose sessions name a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    /// Gateways' alone.
    Gateway,
    /// A control plane's, which wants to know.
    ControlPlane,
}

/// Where the walk is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Resting(Duration),
    Gateways(Option<SessionId>),
    ControlPlanes(Option<Seid>),
}

/// A walk over the sessions.
#[derive(Debug)]
pub(crate) struct Sweep {
    place: Place,
    found: BTreeMap<SocketAddr, Party>,
    /// Sessions of this walk whose peer found no room.
    unwatched: u64,
}

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) peers: BTreeMap<SocketAddr, Party>,
    pub(crate) unwatched: u64,
}

impl Sweep {
    pub(crate) const fn new() -> Self {
        Self {
            place: Place::Gateways(None),
            found: BTreeMap::new(),
            unwatched: 0,
        }
    }

    /// Takes a step; what was found when it was the last one. `bound` is the room for peers, and
    /// those that `known` has keep their place.
    pub(crate) fn step(
        &mut self,
        now: Duration,
        (association, node): (&Association, Option<&Node>),
        (bound, known): (usize, &impl Fn(&SocketAddr) -> bool),
    ) -> Option<Found> {
        match self.place {
            Place::Resting(until) if now < until => None,
            Place::Resting(_) => {
                self.place = Place::Gateways(None);
                None
            }
            Place::Gateways(after) => {
                let mut last = None;
                for rules in association.sessions_after(after).take(STEP) {
                    last = Some(rules.session);
                    self.see(rules.path.peer, Party::Gateway, (bound, known));
                }
                self.place = last.map_or(Place::ControlPlanes(None), |last| {
                    Place::Gateways(Some(last))
                });
                None
            }
            Place::ControlPlanes(after) => {
                let sessions = node.into_iter().flat_map(|node| node.sessions_after(after));
                let mut last = None;
                for (seid, model) in sessions.take(STEP) {
                    last = Some(seid);
                    for peer in tunnel_peers(model) {
                        self.see(peer, Party::ControlPlane, (bound, known));
                    }
                }
                match last {
                    Some(last) => {
                        self.place = Place::ControlPlanes(Some(last));
                        None
                    }
                    None => Some(self.end(now)),
                }
            }
        }
    }

    fn see(
        &mut self,
        peer: SocketAddr,
        party: Party,
        (bound, known): (usize, &impl Fn(&SocketAddr) -> bool),
    ) {
        if let Some(before) = self.found.get_mut(&peer) {
            *before = (*before).max(party);
        } else if self.found.len() < bound || known(&peer) {
            self.found.insert(peer, party);
        } else {
            self.unwatched = self.unwatched.saturating_add(1);
        }
    }

    fn end(&mut self, now: Duration) -> Found {
        self.place = Place::Resting(now.saturating_add(REST));
        Found {
            peers: std::mem::take(&mut self.found),
            unwatched: std::mem::take(&mut self.unwatched),
        }
    }
}

/// Where a session's rules send tunnel packets: to the registered port.
///
/// Source: TS 29.281 §4.4.2.3.
fn tunnel_peers(model: &SessionModel) -> BTreeSet<SocketAddr> {
    let tunnels = model.fars.values().filter_map(|far| {
        match far.forwarding.as_ref().and_then(|to| to.outer)? {
            OuterHeaderCreation::Gtpu { v4, v6, .. } => Some((v4, v6)),
            OuterHeaderCreation::Udp { .. } => None,
        }
    });
    tunnels
        .flat_map(|(v4, v6)| [v4.map(IpAddr::from), v6.map(IpAddr::from)])
        .flatten()
        .map(|ip| SocketAddr::new(ip, GTPU_PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use qlink_pfcp::{AssociationLimits, DownlinkPath, Payer, Request, SessionRules};
    use qlink_types::ids::Teid;

    use super::*;

    fn association(sessions: u16, peers: u16) -> Association {
        let mut association = Association::new(AssociationLimits {
            sessions: 4096,
            contents: 1,
        });
        for number in 0..sessions {
            let [high, low] = number.to_be_bytes();
            let mut id = [0; 16];
            (id[0], id[1]) = (high, low);
            let rules = SessionRules {
                session: SessionId::new(id),
                teid: Some(Teid::new(u32::from(number) + 1)),
                ue: [10, 1, high, low].into(),
                path: DownlinkPath {
                    peer: SocketAddr::from(([10, 0, 0, 1], number % peers)),
                    downlink_teid: Teid::new(1),
                },
                basestation: None,
                sponsor: None,
                payer: Payer::Operator,
            };
            association.apply(&Request::Establish { rules });
        }
        association
    }

    /// Steps until a walk ends; how many there were, and what was found.
    fn walk(sweep: &mut Sweep, now: Duration, of: &Association, bound: usize) -> (usize, Found) {
        let known = |peer: &SocketAddr| peer.port() == 7;
        let mut steps = 1;
        loop {
            if let Some(found) = sweep.step(now, (of, None), (bound, &known)) {
                return (steps, found);
            }
            steps += 1;
            assert!(steps < 100);
        }
    }

    #[test]
    fn every_session_is_seen_in_bounded_steps_and_again_after_a_rest() {
        let association = association(1200, 30);
        let mut sweep = Sweep::new();

        let (steps, found) = walk(&mut sweep, Duration::ZERO, &association, 64);

        assert_eq!(steps, 3 + 1 + 1);
        assert_eq!(found.peers.len(), 30);
        assert_eq!(found.unwatched, 0);
        let at_rest = sweep.step(REST / 2, (&association, None), (64, &|_| false));
        assert_eq!(at_rest, None);
        let (_, again) = walk(&mut sweep, REST, &association, 64);
        assert_eq!(again, found);
    }

    #[test]
    fn peers_beyond_the_bound_are_counted_and_known_ones_stay() {
        let association = association(60, 30);

        let (_, found) = walk(&mut Sweep::new(), Duration::ZERO, &association, 5);

        let ports: Vec<u16> = found.peers.keys().map(SocketAddr::port).collect();
        assert_eq!(ports, [0, 1, 2, 3, 4, 7]);
        assert_eq!(found.unwatched, 48);
    }
}
