//! What a session is: where its packets go and who pays for which bytes.

use std::net::{IpAddr, SocketAddr};

use qlink_types::codec::{Decode, DecodeError, Encode, List, Reader};
use qlink_types::ids::{BaseStationId, ContentId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, PackageEpoch};
use qlink_types::{enum_codec, struct_codec};

use crate::address::{
    decode_endpoint, decode_endpoints, decode_ip, encode_endpoint, encode_endpoints, encode_ip,
};

/// Most contents that one session's sponsor pays for (chosen: a flow may name any of them, and
/// the set is scanned when it does).
pub const MAX_CONTENTS: usize = 64;

/// Most origins that one session's sponsor accepts.
pub const MAX_ORIGINS: usize = 64;

/// Longest file path in a message, in bytes.
pub const MAX_PATH_BYTES: usize = 4096;

/// Where downlink packets of a session go: the outer header creation of a forwarding action rule.
///
/// Source: TS 29.244 §8.2.56.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownlinkPath {
    /// The BaseStation's GTP-U endpoint; uplink packets are accepted from its address only.
    pub peer: SocketAddr,
    /// The BaseStation's tunnel endpoint.
    pub downlink_teid: Teid,
}

impl Encode for DownlinkPath {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_endpoint(&self.peer, out);
        self.downlink_teid.encode(out);
    }
}

impl Decode for DownlinkPath {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            peer: decode_endpoint(reader)?,
            downlink_teid: Teid::decode(reader)?,
        })
    }
}

/// Who pays for proven content bytes of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sponsor {
    /// The package.
    pub package: PackageId,
    /// Its terms.
    pub package_epoch: PackageEpoch,
    /// Who is paid; zero: the package's `unclaimed` line.
    pub viewer: ViewerKey,
    /// The contents it pays for, each bound before; 1 to [`MAX_CONTENTS`].
    pub contents: List<ContentId, MAX_CONTENTS>,
    /// The servers it accepts; empty: any.
    pub origins: List<SocketAddr, MAX_ORIGINS>,
    /// Most content bytes it pays for in this session: the reservation.
    pub limit: Bytes,
    /// Who pays for proven bytes delivered again.
    pub repeat: RepeatPolicy,
}

impl Encode for Sponsor {
    fn encode(&self, out: &mut Vec<u8>) {
        self.package.encode(out);
        self.package_epoch.encode(out);
        self.viewer.encode(out);
        self.contents.encode(out);
        encode_endpoints(&self.origins, out);
        self.limit.encode(out);
        self.repeat.encode(out);
    }
}

impl Decode for Sponsor {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            package: Decode::decode(reader)?,
            package_epoch: Decode::decode(reader)?,
            viewer: Decode::decode(reader)?,
            contents: Decode::decode(reader)?,
            origins: decode_endpoints(reader, MAX_ORIGINS)?.try_into()?,
            limit: Decode::decode(reader)?,
            repeat: Decode::decode(reader)?,
        })
    }
}

/// Who pays for `user_charged` bytes of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payer {
    /// A package with scope `any`; packets stop when its limit is used up.
    Personal {
        /// The package.
        package: PackageId,
        /// Its terms.
        package_epoch: PackageEpoch,
        /// The viewer key under which it is used.
        viewer: ViewerKey,
        /// Most bytes it pays for in this session: the volume quota of a usage reporting rule.
        limit: Bytes,
    },
    /// The mobile operator's own charging.
    Operator,
    /// Nobody: packets that would be charged are dropped.
    Block,
}

enum_codec!(Payer, "payer", {
    Personal { package, package_epoch, viewer, limit } = 1,
    Operator = 2,
    Block = 3,
});

/// Everything the data plane needs to know about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRules {
    /// Its id.
    pub session: SessionId,
    /// Our uplink tunnel endpoint; `None`: the data plane chooses one (F-TEID allocation by the
    /// user plane, TS 29.244 §5.5.3). In answers it is always present.
    pub teid: Option<Teid>,
    /// The subscriber's address: source of every uplink packet, destination of every downlink one.
    pub ue: IpAddr,
    /// Where downlink packets go, and from where uplink packets come.
    pub path: DownlinkPath,
    /// Which BaseStation carries it, where one is registered.
    pub basestation: Option<BaseStationId>,
    /// Who pays for proven content bytes; `None`: nobody, everything is `user_charged`.
    pub sponsor: Option<Sponsor>,
    /// Who pays for the rest.
    pub payer: Payer,
}

impl Encode for SessionRules {
    fn encode(&self, out: &mut Vec<u8>) {
        self.session.encode(out);
        self.teid.encode(out);
        encode_ip(&self.ue, out);
        self.path.encode(out);
        self.basestation.encode(out);
        self.sponsor.encode(out);
        self.payer.encode(out);
    }
}

impl Decode for SessionRules {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session: Decode::decode(reader)?,
            teid: Decode::decode(reader)?,
            ue: decode_ip(reader)?,
            path: Decode::decode(reader)?,
            basestation: Decode::decode(reader)?,
            sponsor: Decode::decode(reader)?,
            payer: Decode::decode(reader)?,
        })
    }
}

/// What changes in a session; absent parts stay. Packages and viewers never change inside a
/// session, because its cumulative counters belong to them: that is another session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionChanges {
    /// New path after a handover.
    pub path: Option<DownlinkPath>,
    /// New limit of the sponsor; what is counted already stays counted.
    pub sponsor_limit: Option<Bytes>,
    /// New limit of a personal payer.
    pub personal_limit: Option<Bytes>,
}

struct_codec!(SessionChanges {
    path,
    sponsor_limit,
    personal_limit
});

impl SessionRules {
    /// The rules after `changes`; `None` when a change concerns a part that the session has not.
    #[must_use]
    pub fn changed(&self, changes: &SessionChanges) -> Option<Self> {
        let mut next = self.clone();
        if let Some(path) = changes.path {
            next.path = path;
        }
        if let Some(new) = changes.sponsor_limit {
            next.sponsor.as_mut()?.limit = new;
        }
        if let Some(new) = changes.personal_limit {
            match &mut next.payer {
                Payer::Personal { limit, .. } => *limit = new,
                Payer::Operator | Payer::Block => return None,
            }
        }
        Some(next)
    }
}
