//! What the journal holds of a node: associations, sessions and filters of applications.
//!
//! ```text
//! record  "QPFN" | u16 version (1) | u8 kind | fields
//!         association 1: endpoint | message      gone 2: message
//!         session 3: u64 SEID | message          gone 4: u64 SEID
//!         application 5: message
//!         ended 6: u64 SEID | endpoint | u32 number | u64 digest | u32 length | the answer
//!         last word 7: u64 SEID | endpoint | u64 SEID there | message       said 8: u64 SEID
//! message u32 length | the PFCP message that says the same, version 1
//! ```
//!
//! The rules of a session are stated as the request that would establish them, and so on, because
//! that form is fixed by the standard and read by one parser. Records replace each other: the last
//! one for a session, association or application counts.

use std::net::SocketAddr;

use qlink_types::codec::{Blob, Decode, DecodeError, Encode, Reader};

use crate::address::{decode_endpoint, encode_endpoint};
use crate::model::{FSeid, NodeId, Seid, SessionChange, SmfSetId, Time, UsageReport};
use crate::wire::{
    AlternativeSmf, ApplicationPfds, AssociationReleaseRequest, AssociationSetupRequest, Codec,
    CpAddress, CpFeatures, Header, MAX_MESSAGE_BYTES, Message, PfdManagementRequest, ReportFlags,
    Sequence, SessionEstablishmentRequest, SessionReportRequest, SessionSets,
};

const MAGIC: [u8; 4] = *b"QPFN";

/// Version of every record.
pub const RECORD_VERSION: u16 = 1;

/// A session as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its number here.
    pub seid: Seid,
    /// Whose it is.
    pub owner: NodeId,
    /// Its number there.
    pub remote: FSeid,
    /// Its rules, as creations.
    pub rules: SessionChange,
    /// Seconds without a packet after which a report is made.
    pub inactivity_s: Option<u32>,
    /// The sets that it belongs to.
    pub sets: SessionSets,
}

/// An association as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationRecord {
    /// The peer.
    pub node: NodeId,
    /// Where our requests go.
    pub peer: SocketAddr,
    /// When the peer started.
    pub recovery: Time,
    /// What it can do.
    pub features: CpFeatures,
    /// The set of functions that share its sessions.
    pub set: Option<SmfSetId>,
    /// Where other functions of its set are, the preferred ones first.
    pub alternatives: Vec<CpAddress>,
}

/// A change of what stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An association stands; sessions that it had stay.
    Association(AssociationRecord),
    /// An association is gone.
    AssociationGone(NodeId),
    /// A session stands.
    Session(Box<SessionRecord>),
    /// A session is gone.
    SessionGone(Seid),
    /// An application has these filters; none: it is not known.
    Application(ApplicationPfds),
    /// A session is gone, and who asked for that is answered with its last usage.
    Ended(Seid, EndAnswer),
    /// A session is gone, and its last usage is still to be told.
    LastWord(Box<LastUsage>),
    /// The last usage of a session was told, or nobody is there to tell it to.
    Said(Seid),
}

/// The answer to a request that ended a session: it carries the last usage, so it is repeated also
/// by a process that starts anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndAnswer {
    /// Who asked.
    pub from: SocketAddr,
    /// The number of the request.
    pub sequence: Sequence,
    /// What the bytes of the request were.
    pub digest: u64,
    /// The answer, a whole message.
    pub bytes: Vec<u8>,
}

/// The last usage of a session that went without a request of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastUsage {
    /// The session's number here.
    pub session: Seid,
    /// Who hears it.
    pub to: SocketAddr,
    /// The session's number there.
    pub remote: Seid,
    /// The usage.
    pub reports: Vec<UsageReport>,
}

/// Why a record cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record is longer than a message of {MAX_MESSAGE_BYTES} bytes or states what none can")]
pub struct RecordTooLong;

type Body = Blob<MAX_MESSAGE_BYTES>;

impl Record {
    /// Its bytes; a codec with the same enterprise number reads them.
    ///
    /// # Errors
    ///
    /// [`RecordTooLong`]; a node makes no such record.
    pub fn to_bytes(&self, codec: &Codec) -> Result<Vec<u8>, RecordTooLong> {
        let mut out = Vec::new();
        MAGIC.encode(&mut out);
        RECORD_VERSION.encode(&mut out);
        match self {
            Self::Association(record) => {
                out.push(1);
                encode_endpoint(&record.peer, &mut out);
                put_message(codec, record.to_message(), &mut out)?;
            }
            Self::AssociationGone(node) => {
                out.push(2);
                let node = node.clone();
                put_message(codec, AssociationReleaseRequest { node }, &mut out)?;
            }
            Self::Session(record) => {
                out.push(3);
                record.seid.get().encode(&mut out);
                put_message(codec, record.to_message(), &mut out)?;
            }
            Self::SessionGone(seid) => {
                out.push(4);
                seid.get().encode(&mut out);
            }
            Self::Application(filters) => {
                out.push(5);
                let applications = vec![filters.clone()];
                put_message(codec, PfdManagementRequest { applications }, &mut out)?;
            }
            Self::Ended(seid, answer) => {
                out.push(6);
                seid.get().encode(&mut out);
                encode_endpoint(&answer.from, &mut out);
                answer.sequence.get().encode(&mut out);
                answer.digest.encode(&mut out);
                let body = Body::try_from(answer.bytes.clone()).map_err(|_| RecordTooLong)?;
                body.encode(&mut out);
            }
            Self::LastWord(last) => {
                out.push(7);
                last.session.get().encode(&mut out);
                encode_endpoint(&last.to, &mut out);
                last.remote.get().encode(&mut out);
                put_message(codec, last.to_message(), &mut out)?;
            }
            Self::Said(seid) => {
                out.push(8);
                seid.get().encode(&mut out);
            }
        }
        Ok(out)
    }

    /// Inverse of [`Self::to_bytes`].
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnknownTag`] for a version that is not known, else what is wrong.
    pub fn from_bytes(bytes: &[u8], codec: &Codec) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.take_array()? != MAGIC {
            return Err(DecodeError::Invalid { what: "magic" });
        }
        let version = u16::decode(&mut reader)?;
        if version != RECORD_VERSION {
            return Err(DecodeError::UnknownTag {
                what: "record version",
                value: version.into(),
            });
        }
        let record = Self::read(&mut reader, codec)?;
        reader.finish()?;
        Ok(record)
    }

    fn read(reader: &mut Reader<'_>, codec: &Codec) -> Result<Self, DecodeError> {
        let unfit = DecodeError::Invalid { what: "message" };
        match u8::decode(reader)? {
            1 => {
                let peer = decode_endpoint(reader)?;
                match take_message(codec, reader)? {
                    Message::AssociationSetupRequest(message) => {
                        Ok(Self::Association(AssociationRecord::new(peer, &message)))
                    }
                    _ => Err(unfit),
                }
            }
            2 => match take_message(codec, reader)? {
                Message::AssociationReleaseRequest(message) => {
                    Ok(Self::AssociationGone(message.node))
                }
                _ => Err(unfit),
            },
            3 => {
                let seid = Seid::new(u64::decode(reader)?);
                match take_message(codec, reader)? {
                    Message::SessionEstablishmentRequest(message) => {
                        let record = SessionRecord::new(seid, message);
                        Ok(Self::Session(Box::new(record)))
                    }
                    _ => Err(unfit),
                }
            }
            4 => Ok(Self::SessionGone(Seid::new(u64::decode(reader)?))),
            5 => match take_message(codec, reader)? {
                Message::PfdManagementRequest(message) => {
                    let mut applications = message.applications.into_iter();
                    applications.next().map(Self::Application).ok_or(unfit)
                }
                _ => Err(unfit),
            },
            6 => {
                let seid = Seid::new(u64::decode(reader)?);
                EndAnswer::read(reader).map(|answer| Self::Ended(seid, answer))
            }
            7 => {
                let last = LastUsage::read(reader, codec)?;
                Ok(Self::LastWord(Box::new(last)))
            }
            8 => Ok(Self::Said(Seid::new(u64::decode(reader)?))),
            other => Err(DecodeError::UnknownTag {
                what: "record kind",
                value: other.into(),
            }),
        }
    }
}

/// Addresses in the order in which they are tried.
pub(super) fn preferred_first(stated: &[AlternativeSmf]) -> Vec<CpAddress> {
    let preferred = stated.iter().filter(|one| one.preferred);
    let others = stated.iter().filter(|one| !one.preferred);
    preferred.chain(others).map(|one| one.address).collect()
}

impl AssociationRecord {
    fn new(peer: SocketAddr, message: &AssociationSetupRequest) -> Self {
        Self {
            node: message.node.clone(),
            peer,
            recovery: message.recovery,
            features: message.cp_features.unwrap_or_default(),
            set: message.set.clone(),
            alternatives: preferred_first(&message.alternatives),
        }
    }

    fn to_message(&self) -> AssociationSetupRequest {
        AssociationSetupRequest {
            node: self.node.clone(),
            recovery: self.recovery,
            up_features: None,
            cp_features: Some(self.features),
            set: self.set.clone(),
            // The order says which are preferred.
            alternatives: self
                .alternatives
                .iter()
                .map(|address| AlternativeSmf {
                    address: *address,
                    preferred: false,
                })
                .collect(),
            resources: Vec::new(),
        }
    }
}

impl EndAnswer {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: decode_endpoint(reader)?,
            sequence: Sequence::new(u32::decode(reader)?),
            digest: u64::decode(reader)?,
            bytes: Body::decode(reader)?.to_vec(),
        })
    }
}

impl LastUsage {
    fn read(reader: &mut Reader<'_>, codec: &Codec) -> Result<Self, DecodeError> {
        let session = Seid::new(u64::decode(reader)?);
        let to = decode_endpoint(reader)?;
        let remote = Seid::new(u64::decode(reader)?);
        match take_message(codec, reader)? {
            Message::SessionReportRequest(message) => Ok(Self {
                session,
                to,
                remote,
                reports: message.reports,
            }),
            _ => Err(DecodeError::Invalid { what: "message" }),
        }
    }

    pub(super) fn to_message(&self) -> SessionReportRequest {
        SessionReportRequest {
            reports: self.reports.clone(),
            flags: ReportFlags { deleted: true },
            ..SessionReportRequest::default()
        }
    }
}

impl SessionRecord {
    fn new(seid: Seid, message: SessionEstablishmentRequest) -> Self {
        Self {
            seid,
            owner: message.node,
            remote: message.cp,
            rules: message.rules,
            inactivity_s: message.inactivity_timer,
            sets: message.sets,
        }
    }

    fn to_message(&self) -> SessionEstablishmentRequest {
        SessionEstablishmentRequest {
            node: self.owner.clone(),
            cp: self.remote,
            rules: self.rules.clone(),
            pdn: None,
            inactivity_timer: self.inactivity_s,
            sets: self.sets.clone(),
        }
    }
}

fn put_message(
    codec: &Codec,
    message: impl Into<Message>,
    out: &mut Vec<u8>,
) -> Result<(), RecordTooLong> {
    let message = message.into();
    let header = if message.kind().is_session() {
        Header::session(Seid::default(), Sequence::default())
    } else {
        Header::node(Sequence::default())
    };
    let bytes = codec.encode(&header, &message).map_err(|_| RecordTooLong)?;
    Body::try_from(bytes)
        .map_err(|_| RecordTooLong)?
        .encode(out);
    Ok(())
}

fn take_message(codec: &Codec, reader: &mut Reader<'_>) -> Result<Message, DecodeError> {
    let body = Body::decode(reader)?;
    let (_, message) = codec.decode(&body).map_err(|_| DecodeError::Invalid {
        what: "message of a record",
    })?;
    Ok(message)
}
