//! Who a session, view or flow in the arena is, as words.

use std::net::{IpAddr, SocketAddr};

use qlink_pfcp::{DownlinkPath, Payer, SessionRules};
use qlink_types::ids::{BaseStationId, ContentId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, PackageEpoch};

use crate::flow::FlowKey;
use crate::layout::ROW_IDENTITY_WORDS;
use crate::session::SessionSlot;

/// Reads words in order; 0 behind the end.
struct Words<'a>(std::slice::Iter<'a, u64>);

impl Words<'_> {
    fn next(&mut self) -> u64 {
        self.0.next().copied().unwrap_or(0)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_be_bytes();
            chunk.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
        bytes
    }

    fn ip(&mut self) -> Option<IpAddr> {
        let version = self.next();
        let bytes = self.array::<16>();
        match version {
            4 => {
                let [a, b, c, d, ..] = bytes;
                Some(IpAddr::from([a, b, c, d]))
            }
            6 => Some(IpAddr::from(bytes)),
            _ => None,
        }
    }

    fn endpoint(&mut self) -> Option<SocketAddr> {
        let ip = self.ip();
        let port = u16::try_from(self.next()).ok()?;
        Some(SocketAddr::new(ip?, port))
    }

    fn epoch(&mut self) -> Option<PackageEpoch> {
        u32::try_from(self.next()).ok().map(PackageEpoch::new)
    }
}

fn push_bytes(out: &mut Vec<u64>, bytes: &[u8]) {
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word.iter_mut()
            .zip(chunk)
            .for_each(|(to, from)| *to = *from);
        out.push(u64::from_be_bytes(word));
    }
}

fn push_ip(out: &mut Vec<u64>, address: &IpAddr) {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(v4) => {
            out.push(4);
            bytes
                .iter_mut()
                .zip(v4.octets())
                .for_each(|(to, from)| *to = from);
        }
        IpAddr::V6(v6) => {
            out.push(6);
            bytes = v6.octets();
        }
    }
    push_bytes(out, &bytes);
}

/// Whether a session in the arena still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Packets are forwarded.
    Live,
    /// Deleted; its counters are final and stay until the slot is used again.
    Closed,
}

/// Names and terms of a session, as far as readers of counters need them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionIdentity {
    /// Whether it lives.
    pub state: SessionState,
    /// Its id.
    pub session: SessionId,
    /// Our uplink endpoint.
    pub teid: Teid,
    /// The subscriber.
    pub ue: IpAddr,
    /// Where its packets go.
    pub path: DownlinkPath,
    /// Which BaseStation carries it.
    pub basestation: Option<BaseStationId>,
    /// Package, its terms, the viewer, the limit and the repeat policy of the sponsor.
    pub sponsor: Option<(PackageId, PackageEpoch, ViewerKey, Bytes, RepeatPolicy)>,
    /// Who pays for the rest.
    pub payer: Payer,
}

impl SessionIdentity {
    /// Words reserved for the encoding.
    pub(crate) const WORDS: usize = 34;

    /// The identity of a live session; `None` when its rules carry no TEID.
    #[must_use]
    pub fn from_rules(rules: &SessionRules) -> Option<Self> {
        Some(Self {
            state: SessionState::Live,
            session: rules.session,
            teid: rules.teid?,
            ue: rules.ue,
            path: rules.path,
            basestation: rules.basestation,
            sponsor: rules.sponsor.as_ref().map(|sponsor| {
                (
                    sponsor.package,
                    sponsor.package_epoch,
                    sponsor.viewer,
                    sponsor.limit,
                    sponsor.repeat,
                )
            }),
            payer: rules.payer,
        })
    }

    pub(crate) fn to_words(&self) -> Vec<u64> {
        let mut out = vec![match self.state {
            SessionState::Live => 1,
            SessionState::Closed => 2,
        }];
        push_bytes(&mut out, self.session.as_bytes());
        out.push(u64::from(self.teid.get()));
        out.push(u64::from(self.path.downlink_teid.get()));
        push_ip(&mut out, &self.ue);
        push_ip(&mut out, &self.path.peer.ip());
        out.push(u64::from(self.path.peer.port()));
        out.push(u64::from(self.basestation.is_some()));
        push_bytes(&mut out, self.basestation.unwrap_or_default().as_bytes());
        let (package, epoch, viewer, limit, repeat) = self.sponsor.unwrap_or_default();
        out.push(u64::from(self.sponsor.is_some()));
        push_bytes(&mut out, package.as_bytes());
        out.push(u64::from(epoch.get()));
        push_bytes(&mut out, viewer.as_bytes());
        out.push(limit.get());
        out.push(match repeat {
            RepeatPolicy::ChargeUser => 1,
            RepeatPolicy::Free => 2,
        });
        match &self.payer {
            Payer::Personal {
                package,
                package_epoch,
                viewer,
                limit,
            } => {
                out.push(1);
                push_bytes(&mut out, package.as_bytes());
                out.push(u64::from(package_epoch.get()));
                push_bytes(&mut out, viewer.as_bytes());
                out.push(limit.get());
            }
            Payer::Operator => out.push(2),
            Payer::Block => out.push(3),
        }
        out
    }

    pub(crate) fn from_words(words: &[u64]) -> Option<Self> {
        let mut words = Words(words.iter());
        let state = match words.next() {
            1 => SessionState::Live,
            2 => SessionState::Closed,
            _ => return None,
        };
        let session = SessionId::new(words.array());
        let teid = Teid::new(u32::try_from(words.next()).ok()?);
        let downlink_teid = Teid::new(u32::try_from(words.next()).ok()?);
        let ue = words.ip();
        let peer = words.endpoint();
        let has_basestation = words.next() == 1;
        let basestation = BaseStationId::new(words.array());
        let has_sponsor = words.next() == 1;
        let package = PackageId::new(words.array());
        let epoch = words.epoch();
        let viewer = ViewerKey::new(words.array());
        let limit = Bytes::new(words.next());
        let repeat = match words.next() {
            2 => RepeatPolicy::Free,
            _ => RepeatPolicy::ChargeUser,
        };
        let payer = match words.next() {
            1 => Payer::Personal {
                package: PackageId::new(words.array()),
                package_epoch: words.epoch()?,
                viewer: ViewerKey::new(words.array()),
                limit: Bytes::new(words.next()),
            },
            2 => Payer::Operator,
            3 => Payer::Block,
            _ => return None,
        };
        Some(Self {
            state,
            session,
            teid,
            ue: ue?,
            path: DownlinkPath {
                peer: peer?,
                downlink_teid,
            },
            basestation: has_basestation.then_some(basestation),
            sponsor: has_sponsor.then_some((package, epoch?, viewer, limit, repeat)),
            payer,
        })
    }
}

/// Which content of which session a view is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewIdentity {
    /// The session.
    pub session: SessionSlot,
    /// The content's place in the session's list.
    pub position: u16,
    /// The content.
    pub content: ContentId,
}

impl ViewIdentity {
    pub(crate) fn to_words(self) -> Vec<u64> {
        let mut out = vec![1, u64::from(self.session.get()), u64::from(self.position)];
        push_bytes(&mut out, self.content.as_bytes());
        debug_assert!(out.len() <= ROW_IDENTITY_WORDS);
        out
    }

    pub(crate) fn from_words(words: &[u64]) -> Option<Self> {
        let mut words = Words(words.iter());
        if words.next() != 1 {
            return None;
        }
        Some(Self {
            session: SessionSlot::new(u32::try_from(words.next()).ok()?),
            position: u16::try_from(words.next()).ok()?,
            content: ContentId::new(words.array()),
        })
    }
}

/// Which flow a proof is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowIdentity {
    /// Its key; the session's slot is part of it.
    pub key: FlowKey,
}

impl FlowIdentity {
    /// No heap: flows open while packets run.
    pub(crate) fn to_words(self) -> [u64; ROW_IDENTITY_WORDS] {
        let key = &self.key;
        let ports = u64::from(key.ue_port) << 16 | u64::from(key.remote_port);
        let mut octets = [0_u8; 16];
        let version = match key.remote {
            IpAddr::V4(remote) => {
                octets
                    .iter_mut()
                    .zip(remote.octets())
                    .for_each(|(to, from)| *to = from);
                4
            }
            IpAddr::V6(remote) => {
                octets = remote.octets();
                6
            }
        };
        let all = u128::from_be_bytes(octets);
        let high = u64::try_from(all >> 64).unwrap_or(0);
        let low = u64::try_from(all & u128::from(u64::MAX)).unwrap_or(0);
        let session = u64::from(key.session.get());
        [
            1,
            session,
            u64::from(key.protocol),
            ports,
            version,
            high,
            low,
            0,
        ]
    }

    pub(crate) fn from_words(words: &[u64]) -> Option<Self> {
        let mut words = Words(words.iter());
        if words.next() != 1 {
            return None;
        }
        let session = SessionSlot::new(u32::try_from(words.next()).ok()?);
        let protocol = u8::try_from(words.next()).ok()?;
        let ports = words.next();
        Some(Self {
            key: FlowKey {
                session,
                protocol,
                ue_port: u16::try_from(ports >> 16).ok()?,
                remote_port: u16::try_from(ports & 0xffff).ok()?,
                remote: words.ip()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_come_back_from_their_words() {
        let mut session = SessionIdentity {
            state: SessionState::Closed,
            session: SessionId::new([1; 16]),
            teid: Teid::new(2),
            ue: "2001:db8::5".parse().unwrap(),
            path: DownlinkPath {
                peer: "127.0.0.2:2152".parse().unwrap(),
                downlink_teid: Teid::new(3),
            },
            basestation: Some(BaseStationId::new([4; 16])),
            sponsor: Some((
                PackageId::new([5; 16]),
                PackageEpoch::new(6),
                ViewerKey::new([7; 32]),
                Bytes::new(8),
                RepeatPolicy::Free,
            )),
            payer: Payer::Personal {
                package: PackageId::new([9; 16]),
                package_epoch: PackageEpoch::new(10),
                viewer: ViewerKey::new([11; 32]),
                limit: Bytes::new(12),
            },
        };
        assert!(session.to_words().len() <= SessionIdentity::WORDS);
        assert_eq!(
            SessionIdentity::from_words(&session.to_words()),
            Some(session.clone())
        );
        session.sponsor = None;
        session.basestation = None;
        session.payer = Payer::Block;
        assert_eq!(
            SessionIdentity::from_words(&session.to_words()),
            Some(session)
        );
        let view = ViewIdentity {
            session: SessionSlot::new(4),
            position: 5,
            content: ContentId::new([6; 32]),
        };
        assert_eq!(ViewIdentity::from_words(&view.to_words()), Some(view));
        for remote in ["1.2.3.4", "2001:db8::7"] {
            let flow = FlowIdentity {
                key: FlowKey {
                    session: SessionSlot::new(4),
                    protocol: 6,
                    ue_port: 40_000,
                    remote: remote.parse().unwrap(),
                    remote_port: 80,
                },
            };
            assert_eq!(FlowIdentity::from_words(&flow.to_words()), Some(flow));
        }
    }

    #[test]
    fn zero_words_are_nobody() {
        assert_eq!(SessionIdentity::from_words(&[0; 48]), None);
        assert_eq!(ViewIdentity::from_words(&[0; 8]), None);
        assert_eq!(FlowIdentity::from_words(&[0; 8]), None);
    }
}
