//! A session as the gateway keeps it: durable before anybody is told of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use qlink_pfcp::SessionUsage;
use qlink_types::codec::{Decode, DecodeError, Encode, List, Reader, Text};
use qlink_types::ids::{BaseStationId, Hash32, OperatorId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::receipt::SignedReceipt;
use qlink_types::struct_codec;
use qlink_types::units::{Bytes, Incarnation, PackageEpoch};

use crate::tally::{PathKey, Paths};

/// Version of the row's format.
const ROW_VERSION: u8 = 1;

/// Most terms that one session may live through (chosen: a top-up a minute for four hours).
pub(crate) const MAX_EPOCHS: usize = 256;

/// From which byte of a leg on a package_epoch counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochStart {
    /// The terms.
    pub package_epoch: PackageEpoch,
    /// Bytes of the leg that belong to earlier terms.
    pub from: Bytes,
}

struct_codec!(EpochStart {
    package_epoch,
    from
});

/// The part of a session that a package pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leg {
    /// The package.
    pub package: PackageId,
    /// Under which key it is used.
    pub viewer: ViewerKey,
    /// Most bytes of this session that it pays: the reservation.
    pub limit: Bytes,
    /// Terms in the order in which they ran, the current ones last; at least one.
    pub epochs: List<EpochStart, MAX_EPOCHS>,
}

struct_codec!(Leg {
    package,
    viewer,
    limit,
    epochs
});

impl Leg {
    /// A leg that begins with `package_epoch`.
    ///
    /// # Errors
    ///
    /// Never for one entry; the type demands it.
    pub(crate) fn begin(
        package: PackageId,
        viewer: ViewerKey,
        limit: Bytes,
        package_epoch: PackageEpoch,
    ) -> Result<Self, DecodeError> {
        let epochs = List::try_from(vec![EpochStart {
            package_epoch,
            from: Bytes::ZERO,
        }])?;
        Ok(Self {
            package,
            viewer,
            limit,
            epochs,
        })
    }

    /// The terms that run.
    #[must_use]
    pub(crate) fn package_epoch(&self) -> PackageEpoch {
        self.epochs
            .last()
            .map(|start| start.package_epoch)
            .unwrap_or_default()
    }

    /// Ends the running terms at `bytes` of this leg and begins the next ones.
    ///
    /// # Errors
    ///
    /// When the session has lived through [`MAX_EPOCHS`] terms.
    pub(crate) fn roll_over(
        &mut self,
        next: PackageEpoch,
        bytes: Bytes,
    ) -> Result<(), DecodeError> {
        let mut epochs = self.epochs.to_vec();
        epochs.push(EpochStart {
            package_epoch: next,
            from: bytes,
        });
        self.epochs = List::try_from(epochs)?;
        Ok(())
    }

    /// Splits `bytes` of this leg over its terms.
    fn shares(&self, bytes: Bytes) -> impl Iterator<Item = (PackageEpoch, Bytes)> {
        let ends = self
            .epochs
            .iter()
            .skip(1)
            .map(|start| start.from)
            .chain([bytes]);
        self.epochs.iter().zip(ends).map(move |(start, end)| {
            (
                start.package_epoch,
                end.min(bytes).saturating_sub(start.from),
            )
        })
    }
}

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Written down; the data plane may or may not know it.
    Opening,
    /// Packets flow.
    Open,
    /// Closed by its BaseStation; `usage` is final.
    Closed,
    /// Ended here because its BaseStation was denied; `usage` is final.
    Denied,
}

qlink_types::tag_codec!(Stage, "session stage", { Opening = 1, Open = 2, Closed = 3, Denied = 4 });

impl Stage {
    /// Whether it has ended, for whatever reason.
    #[must_use]
    pub(crate) const fn has_ended(self) -> bool {
        matches!(self, Self::Closed | Self::Denied)
    }
}

/// A session, version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Its id: derived from the signed request, so a repeated request finds it.
    pub session: SessionId,
    /// Counter start of the data plane that it was opened in.
    pub incarnation: Incarnation,
    /// Where it is.
    pub stage: Stage,
    /// Who forwards.
    pub basestation: BaseStationId,
    /// The operator in whose network it is.
    pub operator: OperatorId,
    /// The BaseStation's GTP-U endpoint.
    pub peer: Endpoint,
    /// The BaseStation's tunnel endpoint.
    pub downlink_teid: Teid,
    /// Our tunnel endpoint; zero while opening.
    pub teid: Teid,
    /// Our GTP-U endpoint.
    pub n3: Endpoint,
    /// The subscriber's inner IPv4 address.
    pub ue: Ipv4Text,
    /// What the sponsoring package pays.
    pub sponsor: Option<Leg>,
    /// What the personal package pays.
    pub personal: Option<Leg>,
    /// Counters: the last ones read while open, the final ones once closed.
    pub usage: SessionUsage,
    /// Proven bytes when the viewer's receipt came: what a batch may have stated already.
    pub(crate) stated: Bytes,
    /// The viewer's final receipt.
    pub viewer_receipt: Option<SignedReceipt>,
    /// The BaseStation's final receipt.
    pub basestation_receipt: Option<SignedReceipt>,
    /// Hash of the request that opened it.
    pub request: Hash32,
}

impl Encode for Session {
    fn encode(&self, out: &mut Vec<u8>) {
        ROW_VERSION.encode(out);
        self.session.encode(out);
        self.incarnation.encode(out);
        self.stage.encode(out);
        self.basestation.encode(out);
        self.operator.encode(out);
        self.peer.encode(out);
        self.downlink_teid.encode(out);
        self.teid.encode(out);
        self.n3.encode(out);
        self.ue.encode(out);
        self.sponsor.encode(out);
        self.personal.encode(out);
        self.usage.encode(out);
        self.stated.encode(out);
        self.viewer_receipt.encode(out);
        self.basestation_receipt.encode(out);
        self.request.encode(out);
    }
}

impl Decode for Session {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(reader)? {
            ROW_VERSION => Ok(Self {
                session: Decode::decode(reader)?,
                incarnation: Decode::decode(reader)?,
                stage: Decode::decode(reader)?,
                basestation: Decode::decode(reader)?,
                operator: Decode::decode(reader)?,
                peer: Decode::decode(reader)?,
                downlink_teid: Decode::decode(reader)?,
                teid: Decode::decode(reader)?,
                n3: Decode::decode(reader)?,
                ue: Decode::decode(reader)?,
                sponsor: Decode::decode(reader)?,
                personal: Decode::decode(reader)?,
                usage: Decode::decode(reader)?,
                stated: Decode::decode(reader)?,
                viewer_receipt: Decode::decode(reader)?,
                basestation_receipt: Decode::decode(reader)?,
                request: Decode::decode(reader)?,
            }),
            other => Err(DecodeError::UnknownTag {
                what: "session row",
                value: other.into(),
            }),
        }
    }
}

impl Session {
    /// Content bytes that the sponsoring package pays: the lower of what we proved and what the
    /// viewer signed, where it signed. What may stand on the chain already is never taken back.
    #[must_use]
    pub(crate) fn sponsored_bytes(&self) -> Bytes {
        let proven = self.usage.classes.verified_unique;
        match &self.viewer_receipt {
            Some(signed) => proven.min(signed.receipt.classes.verified_unique.max(self.stated)),
            None => proven,
        }
    }

    /// What a leg commits of its package's running terms: everything reserved while open, what was
    /// used once closed.
    #[must_use]
    pub(crate) fn committed(&self, package: &PackageId, package_epoch: PackageEpoch) -> Bytes {
        let sponsor = self.sponsor.iter().map(|leg| (leg, self.sponsored_bytes()));
        let personal = self
            .personal
            .iter()
            .map(|leg| (leg, self.usage.personal_bytes));
        let mut sum = Bytes::ZERO;
        for (leg, used) in sponsor.chain(personal) {
            if leg.package != *package {
                continue;
            }
            let bytes = if self.stage.has_ended() {
                used
            } else {
                leg.limit.max(used)
            };
            for (epoch, share) in leg.shares(bytes) {
                if epoch == package_epoch {
                    sum = Bytes::new(sum.get().saturating_add(share.get()));
                }
            }
        }
        sum
    }

    /// Adds what this session has used, whatever is paid: caps and reservations count it.
    pub(crate) fn add_proven_paths(&self, paths: &mut Paths) {
        if let Some(leg) = &self.sponsor {
            self.add_leg(leg, self.usage.classes.verified_unique, paths);
        }
        if let Some(leg) = &self.personal {
            self.add_leg(leg, self.usage.personal_bytes, paths);
        }
    }

    /// Adds this session's paths to `paths`.
    pub(crate) fn add_paths(&self, paths: &mut Paths) {
        if let Some(leg) = &self.sponsor {
            self.add_leg(leg, self.sponsored_bytes(), paths);
        }
        if let Some(leg) = &self.personal {
            self.add_leg(leg, self.usage.personal_bytes, paths);
        }
    }

    fn add_leg(&self, leg: &Leg, bytes: Bytes, paths: &mut Paths) {
        for (package_epoch, share) in leg.shares(bytes) {
            if share.is_zero() {
                continue;
            }
            let key = PathKey {
                package: leg.package,
                package_epoch,
                viewer: leg.viewer,
                incarnation: self.incarnation,
                operator: self.operator,
                basestation: self.basestation,
            };
            let entry = paths.entry(key).or_default();
            *entry = Bytes::new(entry.get().saturating_add(share.get()));
        }
    }
}

/// A socket address in a durable row: its text form, which both address families share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoint(pub SocketAddr);

impl Encode for Endpoint {
    fn encode(&self, out: &mut Vec<u8>) {
        let text: Text<64> = Text::try_from(self.0.to_string().as_str()).unwrap_or_default();
        text.encode(out);
    }
}

impl Decode for Endpoint {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = Text::<64>::decode(reader)?;
        text.as_str()
            .parse()
            .map(Self)
            .map_err(|_| DecodeError::Invalid {
                what: "socket address",
            })
    }
}

/// A subscriber's inner IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ipv4Text(pub Ipv4Addr);

impl Ipv4Text {
    /// As a general address.
    #[must_use]
    pub(crate) const fn ip(self) -> IpAddr {
        IpAddr::V4(self.0)
    }
}

impl Encode for Ipv4Text {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.octets().encode(out);
    }
}

impl Decode for Ipv4Text {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        <[u8; 4]>::decode(reader).map(|octets| Self(Ipv4Addr::from(octets)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(limit: u64) -> Leg {
        Leg::begin(
            PackageId::new([1; 16]),
            ViewerKey::new([2; 32]),
            Bytes::new(limit),
            PackageEpoch::ZERO,
        )
        .unwrap()
    }

    fn session(sponsor: Leg, proven: u64, stage: Stage) -> Session {
        let mut usage = SessionUsage::default();
        usage.classes.verified_unique = Bytes::new(proven);
        let address = Endpoint("127.0.0.1:2152".parse().unwrap());
        Session {
            session: SessionId::new([3; 16]),
            incarnation: Incarnation::new(1),
            stage,
            basestation: BaseStationId::new([4; 16]),
            operator: OperatorId::new([5; 16]),
            peer: address,
            downlink_teid: Teid::new(1),
            teid: Teid::new(2),
            n3: address,
            ue: Ipv4Text(Ipv4Addr::new(10, 45, 0, 1)),
            sponsor: Some(sponsor),
            personal: None,
            usage,
            stated: Bytes::ZERO,
            viewer_receipt: None,
            basestation_receipt: None,
            request: Hash32::ZERO,
        }
    }

    #[test]
    fn a_top_up_splits_a_running_session_at_the_byte() {
        let mut sponsor = leg(100);
        sponsor
            .roll_over(PackageEpoch::new(1), Bytes::new(30))
            .unwrap();
        let mut paths = Paths::new();

        session(sponsor, 70, Stage::Open).add_paths(&mut paths);

        let shares: Vec<(u32, u64)> = paths
            .iter()
            .map(|(key, bytes)| (key.package_epoch.get(), bytes.get()))
            .collect();
        assert_eq!(shares, [(0, 30), (1, 40)]);
    }

    #[test]
    fn an_open_session_commits_its_reservation_and_a_closed_one_what_it_used() {
        let package = PackageId::new([1; 16]);

        let open = session(leg(100), 70, Stage::Open);
        let closed = session(leg(100), 70, Stage::Closed);

        assert_eq!(
            open.committed(&package, PackageEpoch::ZERO),
            Bytes::new(100)
        );
        assert_eq!(
            closed.committed(&package, PackageEpoch::ZERO),
            Bytes::new(70)
        );
    }

    #[test]
    fn a_row_round_trips_and_another_version_is_refused() {
        let row = session(leg(100), 70, Stage::Open);
        let mut bytes = row.to_bytes();
        assert_eq!(Session::from_bytes(&bytes).unwrap(), row);

        bytes[0] = 2;

        assert!(Session::from_bytes(&bytes).is_err());
    }
}
