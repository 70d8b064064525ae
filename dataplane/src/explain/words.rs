//! The closed lists of an explanation, each name with its sentence for people.

use qlink_content::ChargeReason;

/// Where network or payload bytes of a session went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Inner IP bytes from the subscriber.
    NetworkUplink,
    /// Inner IP bytes to the subscriber.
    NetworkDownlink,
    /// Content acknowledged for the first time.
    VerifiedUnique,
    /// Copies of stream positions.
    Retransmit,
    /// Content acknowledged again.
    VerifiedRepeat,
    /// Heads and framing within the allowance.
    OverheadAllowed,
    /// Proven, never acknowledged.
    Undelivered,
    /// The rest.
    UserCharged,
    /// Not decided yet.
    Pending,
    /// Billed to the personal payer.
    Personal,
    /// Left uncounted by a kill.
    Uncertain,
}

impl Bucket {
    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetworkUplink => "network_uplink",
            Self::NetworkDownlink => "network_downlink",
            Self::VerifiedUnique => "verified_unique",
            Self::Retransmit => "retransmit",
            Self::VerifiedRepeat => "verified_repeat",
            Self::OverheadAllowed => "overhead_allowed",
            Self::Undelivered => "undelivered",
            Self::UserCharged => "user_charged",
            Self::Pending => "pending",
            Self::Personal => "personal",
            Self::Uncertain => "uncertain",
        }
    }

    /// Why bytes are here.
    #[must_use]
    pub const fn because(self) -> &'static str {
        match self {
            Self::NetworkUplink => {
                "inner IP packets from the subscriber that were accepted for transmit"
            }
            Self::NetworkDownlink => {
                "inner IP packets to the subscriber that were accepted for transmit"
            }
            Self::VerifiedUnique => {
                "content compared byte by byte and acknowledged for the first time"
            }
            Self::Retransmit => "the same bytes at the same place of a stream, sent again by TCP",
            Self::VerifiedRepeat => "content that the subscriber fetched again and acknowledged",
            Self::OverheadAllowed => {
                "heads and framing of a flow with proven bytes, within the allowance"
            }
            Self::Undelivered => "proven content whose flow ended without its acknowledgement",
            Self::UserCharged => "no sponsor pays for these; see the reasons",
            Self::Pending => "proven content that waits for its acknowledgement",
            Self::Personal => "the part of the charged bytes that the personal package pays",
            Self::Uncertain => {
                "network bytes that a kill may have forwarded uncounted; nobody is billed for them"
            }
        }
    }
}

/// Who pays for a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaidBy {
    /// The sponsor's package.
    Sponsor,
    /// The session's personal package.
    Personal,
    /// The mobile operator's own charging.
    Operator,
    /// Nobody.
    Nobody,
}

impl PaidBy {
    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sponsor => "sponsor",
            Self::Personal => "personal",
            Self::Operator => "operator",
            Self::Nobody => "nobody",
        }
    }
}

/// Why bytes are `user_charged`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The session has no sponsor.
    NoSponsor,
    /// The bytes belong to no content flow: not TCP, another server, or no content asked for.
    NoContentFlow,
    /// Charged by an earlier process, which took the reasons with it.
    NotRecorded,
    /// What a content flow's judgement said.
    Flow(ChargeReason),
}

impl Cause {
    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSponsor => "no_sponsor",
            Self::NoContentFlow => "no_content_flow",
            Self::NotRecorded => "not_recorded",
            Self::Flow(reason) => reason.as_str(),
        }
    }

    /// In words.
    #[must_use]
    pub const fn because(self) -> &'static str {
        match self {
            Self::NoSponsor => "the session has no sponsor, so all of its payload is its payer's",
            Self::NoContentFlow => {
                "not on a content flow: not TCP, not one of the sponsor's servers, or a flow whose \
                 start was not seen"
            }
            Self::NotRecorded => {
                "charged before the data plane's last start, or no reason was asked of a process"
            }
            Self::Flow(reason) => flow_words(reason),
        }
    }
}

/// A flow's reason in words.
const fn flow_words(reason: ChargeReason) -> &'static str {
    match reason {
        ChargeReason::Unframed => "the flow is no HTTP/1.1 that can be framed without doubt",
        ChargeReason::MidStream => "the flow's start was not seen",
        ChargeReason::Demoted => "the flow was demoted after its third segment that did not match",
        ChargeReason::Closed => "the flow was closed already",
        ChargeReason::Mismatch => {
            "from the first byte that differs from the content to the end of its segment"
        }
        ChargeReason::RequestBody => "the subscriber sent a body with its request",
        ChargeReason::NotContent => "a response body that is no content of the session",
        ChargeReason::BeyondAllowance => "heads and framing above the allowance",
        ChargeReason::ChargedCopy => "sent again, and charged the first time too",
        ChargeReason::ForeignCopy => "sent again with other bytes than the first time",
        ChargeReason::ForgottenCopy => "sent again, too late to be compared",
        ChargeReason::FramingUnknown => "ahead of framing that was not seen",
        ChargeReason::CoverageFull => "more separate pieces than a content's coverage holds",
        ChargeReason::CaptureCut => "not captured, so not provable",
        ChargeReason::NoVerifiedByte => "heads of a flow that never delivered a proven byte",
        ChargeReason::PackageExhausted => {
            "proven, but the package has no bytes left for the session"
        }
        ChargeReason::Cap => "proven, but the viewer's cap is reached",
    }
}

/// The cause of a reason's stable name.
#[must_use]
pub(super) fn cause_of(name: &str) -> Option<Cause> {
    let mut reasons = ChargeReason::ALL.into_iter();
    let reason = reasons.find(|reason| reason.as_str() == name)?;
    Some(Cause::Flow(reason))
}
