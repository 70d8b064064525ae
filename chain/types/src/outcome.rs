//! What a transaction did: its status, fee and events.
//!
//! A refused transaction is not an error of the ledger: it has a status with a stable number, no
//! effect and no fee.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, DecodeError, Encode, List, Reader};
use crate::ids::{AccountId, ContentId, GatewayId, Hash32, PackageId, TxId, ViewerKey};
use crate::signature::PublicKey;
use crate::stake::Ppm;
use crate::struct_codec;
use crate::transaction::Party;
use crate::units::{Bytes, PackageEpoch, SeatEpoch, TimeMs, Units};

macro_rules! statuses {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)*) => {
        /// Result of a transaction, or of one record in a batch.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Status { $($(#[$doc])* $variant,)* }

        impl Status {
            /// Every status there is, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The stable number.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$variant => $code),* }
            }

            /// The stable name in APIs, metrics and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}

statuses! {
    /// It took effect.
    Accepted = 0, "accepted";
    /// The signature does not hold for the sender's key.
    BadSignature = 1, "bad_signature";
    /// It is for another chain.
    WrongChain = 2, "wrong_chain";
    /// Its `valid_until` has passed.
    TransactionExpired = 3, "transaction_expired";
    /// The nonce is not the sender's next one.
    WrongNonce = 4, "wrong_nonce";
    /// The sender may not send this type.
    WrongSender = 5, "wrong_sender";
    /// The account holds too little.
    InsufficientFunds = 6, "insufficient_funds";
    /// The fee exceeds `max_fee`.
    FeeTooLow = 7, "fee_too_low";
    /// An amount that must be positive is zero.
    AmountZero = 8, "amount_zero";
    /// A sum exceeds 64 bits or the supply.
    AmountTooLarge = 9, "amount_too_large";
    /// The key did not sign for its owner.
    KeyProofInvalid = 10, "key_proof_invalid";
    /// No such gateway.
    UnknownGateway = 11, "unknown_gateway";
    /// No such BaseStation.
    UnknownBaseStation = 12, "unknown_basestation";
    /// No such operator.
    UnknownOperator = 13, "unknown_operator";
    /// No such content.
    UnknownContent = 14, "unknown_content";
    /// No such package.
    UnknownPackage = 15, "unknown_package";
    /// The sender does not own it.
    NotOwner = 16, "not_owner";
    /// The content is registered already; the event names the first owner.
    DuplicateContent = 17, "duplicate_content";
    /// The registration's fields contradict each other or this version.
    ContentInvalid = 18, "content_invalid";
    /// The terms contradict each other.
    TermsInvalid = 19, "terms_invalid";
    /// The audience kind is reserved for a later version.
    AudienceNotSupported = 20, "audience_not_supported";
    /// The package is not valid yet.
    PackageNotYetValid = 21, "package_not_yet_valid";
    /// The package is closing.
    PackageClosing = 22, "package_closing";
    /// The package is closed.
    PackageClosed = 23, "package_closed";
    /// The package's validity has ended.
    PackageExpired = 24, "package_expired";
    /// The record would use more bytes than the package has.
    PackageExhausted = 25, "package_exhausted";
    /// The record names terms that are not running.
    WrongPackageEpoch = 26, "wrong_package_epoch";
    /// The viewer is not in the audience.
    ViewerNotInAudience = 27, "viewer_not_in_audience";
    /// The viewer would exceed its cap.
    ViewerCapExceeded = 28, "viewer_cap_exceeded";
    /// The units are not what the bytes are rated at.
    UnitsMismatch = 29, "units_mismatch";
    /// Ratio and carriage bytes of the batch differ.
    CarriageMismatch = 30, "carriage_mismatch";
    /// The gateway is not listed in the package.
    GatewayNotListed = 31, "gateway_not_listed";
    /// The batch's root is not that of its leaves.
    BatchRootMismatch = 32, "batch_root_mismatch";
    /// The batch's sequence is not above the last one.
    BatchSequence = 33, "batch_sequence";
    /// A record names another gateway or a later incarnation than its batch.
    RecordForeign = 34, "record_foreign";
    /// Grade not accepted for this package.
    GradeNotAccepted = 35, "grade_not_accepted";
    /// Nothing to claim up to this total.
    NothingToClaim = 36, "nothing_to_claim";
    /// The claim exceeds what the viewer has earned.
    ClaimExceedsReward = 37, "claim_exceeds_reward";
    /// A bound of the ledger is reached.
    LimitReached = 38, "limit_reached";
    /// No such candidate.
    UnknownCandidate = 39, "unknown_candidate";
    /// The account is a candidate already.
    CandidateExists = 40, "candidate_exists";
    /// The seat key is, or was, another candidate's.
    SeatKeyTaken = 41, "seat_key_taken";
    /// The candidate has resigned or is banned.
    CandidateInactive = 42, "candidate_inactive";
    /// The self-stake is below what a candidate needs.
    StakeTooSmall = 43, "stake_too_small";
    /// The stake is worth less than that.
    StakeExceeded = 44, "stake_exceeded";
    /// The account votes for as many candidates as it may.
    TooManyVotes = 45, "too_many_votes";
    /// The commission changes by more than was promised, or twice in a seat_epoch.
    CommissionInvalid = 46, "commission_invalid";
    /// The headers do not prove what they should.
    EvidenceInvalid = 47, "evidence_invalid";
    /// The offence is older than any stake still answers for.
    EvidenceTooOld = 48, "evidence_too_old";
    /// The candidate is banned already.
    AlreadyBanned = 49, "already_banned";
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Encode for Status {
    fn encode(&self, out: &mut Vec<u8>) {
        self.code().encode(out);
    }
}

impl Decode for Status {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = u16::decode(reader)?;
        Self::ALL
            .iter()
            .copied()
            .find(|status| status.code() == code)
            .ok_or_else(|| DecodeError::UnknownTag {
                what: "status",
                value: code.into(),
            })
    }
}

impl Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::ALL
            .iter()
            .copied()
            .find(|status| status.name() == name)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown status '{name}'")))
    }
}

/// Why a package began to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosingReason {
    /// Its owner asked.
    Owner,
    /// Its validity ended.
    Expired,
    /// A top-up ends the running terms; the package goes on.
    TopUp,
}

crate::tag_codec!(ClosingReason, "closing reason", { Owner = 1, Expired = 2, TopUp = 3 });

/// Which share of a package a payment comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Q.
    Reward,
    /// C_op.
    Operator,
    /// C_bs.
    BaseStation,
    /// C_gw.
    Gateway,
}

crate::tag_codec!(Share, "share", { Reward = 1, Operator = 2, BaseStation = 3, Gateway = 4 });

/// What happened in the ledger, for everybody who follows the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Units moved between accounts.
    Transferred {
        /// Payer.
        from: AccountId,
        /// Receiver.
        to: AccountId,
        /// How much.
        units: Units,
    },
    /// A party exists.
    PartyRegistered {
        /// Which.
        party: Party,
        /// Whose.
        owner: AccountId,
    },
    /// A party has another key.
    KeyRotated {
        /// Which.
        party: Party,
    },
    /// A content exists, or was registered before by `owner`.
    ContentRegistered {
        /// Which.
        content: ContentId,
        /// Its first registrant.
        owner: AccountId,
        /// Length.
        size: Bytes,
    },
    /// A package was bought.
    PackageBought {
        /// Which.
        package: PackageId,
        /// By whom.
        owner: AccountId,
        /// Volume.
        bytes: Bytes,
        /// Reward.
        reward_units: Units,
        /// Carriage.
        carriage_units: Units,
    },
    /// New terms run.
    PackageEpochOpened {
        /// Which package.
        package: PackageId,
        /// The terms that run now.
        package_epoch: PackageEpoch,
        /// Their volume.
        bytes: Bytes,
        /// Their reward.
        reward_units: Units,
    },
    /// Terms end; listed gateways deliver last records.
    PackageClosing {
        /// Which package.
        package: PackageId,
        /// The terms that end.
        package_epoch: PackageEpoch,
        /// Why.
        reason: ClosingReason,
        /// Until when records are taken.
        deadline: TimeMs,
    },
    /// A batch moved a package forward.
    PackageSettled {
        /// Which package.
        package: PackageId,
        /// Its terms.
        package_epoch: PackageEpoch,
        /// By which gateway.
        gateway: GatewayId,
        /// Bytes of these terms used by all viewers so far.
        used_bytes: Bytes,
        /// Reward units of these terms moved so far.
        moved_units: Units,
    },
    /// Carriage was paid to an account.
    CarriagePaid {
        /// From which package.
        package: PackageId,
        /// From which share.
        share: Share,
        /// To whose party.
        party: Party,
        /// To which account.
        account: AccountId,
        /// How much, in this payment.
        units: Units,
    },
    /// A batch was taken.
    BatchSettled {
        /// Whose.
        gateway: GatewayId,
        /// Its number.
        #[serde(with = "crate::text")]
        sequence: u64,
        /// Its root.
        root: Hash32,
        /// Records that took effect.
        #[serde(with = "crate::text")]
        accepted: u32,
        /// Records that were refused.
        #[serde(with = "crate::text")]
        refused: u32,
    },
    /// A package is settled and refunded.
    PackageClosed {
        /// Which.
        package: PackageId,
        /// Bytes used under all its terms.
        used_bytes: Bytes,
        /// Reward units earned by viewers under all its terms.
        reward_units: Units,
        /// Units earned by nobody's key, returned to the owner.
        unclaimed_units: Units,
        /// Leftover units handed out by largest remainder at close.
        dust_units: Units,
        /// Carriage paid under all its terms.
        carriage_units: Units,
        /// Everything returned to the owner, unclaimed units included.
        refund_units: Units,
    },
    /// A viewer took its reward.
    Claimed {
        /// From which package.
        package: PackageId,
        /// Who.
        viewer: ViewerKey,
        /// To which account.
        account: AccountId,
        /// How much, in this claim.
        units: Units,
    },
    /// An account stands for a seat, or stands again.
    CandidateRegistered {
        /// Who.
        candidate: AccountId,
        /// With which key.
        seat_key: PublicKey,
    },
    /// A candidate states something else of itself.
    CandidateUpdated {
        /// Who.
        candidate: AccountId,
        /// What it keeps of its voters' rewards now.
        rate: Ppm,
        /// Its seat key now.
        seat_key: PublicKey,
    },
    /// A candidate stands for no seat any more.
    CandidateResigned {
        /// Who.
        candidate: AccountId,
    },
    /// Stake was locked behind a candidate.
    Voted {
        /// By whom; the candidate itself for self-stake.
        voter: AccountId,
        /// For whom.
        candidate: AccountId,
        /// How much.
        units: Units,
    },
    /// Stake leaves a candidate.
    Unvoted {
        /// Whose.
        voter: AccountId,
        /// From whom.
        candidate: AccountId,
        /// How much.
        units: Units,
        /// When it is spendable.
        release: TimeMs,
    },
    /// Stake came back to its owner.
    StakeReleased {
        /// To whom.
        voter: AccountId,
        /// Which candidate it had been behind.
        candidate: AccountId,
        /// How much came back.
        units: Units,
        /// What was cut from it, for what the candidate did while it answered for it.
        cut: Units,
    },
    /// Rewards for stake or commission reached an account.
    RewardPaid {
        /// Which.
        account: AccountId,
        /// From which candidate.
        candidate: AccountId,
        /// How much, in this payment.
        units: Units,
    },
    /// A new set sits, and the next one was elected.
    SeatsElected {
        /// The seat_epoch that begins.
        seat_epoch: SeatEpoch,
        /// Candidates that will sit in the one behind it, by rank; empty: the set of the genesis.
        next: List<AccountId, MAX_ELECTED>,
    },
    /// A candidate was banned for ever, and its stake cut.
    CandidateBanned {
        /// Who.
        candidate: AccountId,
        /// Units cut from its stake and its voters'.
        cut: Units,
        /// Who reported it.
        reporter: AccountId,
        /// Of the units cut, the reporter's; the community pool has the rest.
        reporter_units: Units,
    },
}

/// Most seats of a set. Source: chain reference, section 4 (4 to 101 seats).
pub const MAX_ELECTED: usize = 101;

crate::enum_codec!(Event, "event", {
    Transferred { from, to, units } = 1,
    PartyRegistered { party, owner } = 2,
    KeyRotated { party } = 3,
    ContentRegistered { content, owner, size } = 4,
    PackageBought { package, owner, bytes, reward_units, carriage_units } = 5,
    PackageEpochOpened { package, package_epoch, bytes, reward_units } = 6,
    PackageClosing { package, package_epoch, reason, deadline } = 7,
    PackageSettled { package, package_epoch, gateway, used_bytes, moved_units } = 8,
    CarriagePaid { package, share, party, account, units } = 9,
    BatchSettled { gateway, sequence, root, accepted, refused } = 10,
    PackageClosed {
        package, used_bytes, reward_units, unclaimed_units, dust_units, carriage_units,
        refund_units,
    } = 11,
    Claimed { package, viewer, account, units } = 12,
    CandidateRegistered { candidate, seat_key } = 13,
    CandidateUpdated { candidate, rate, seat_key } = 14,
    CandidateResigned { candidate } = 15,
    Voted { voter, candidate, units } = 16,
    Unvoted { voter, candidate, units, release } = 17,
    StakeReleased { voter, candidate, units, cut } = 18,
    RewardPaid { account, candidate, units } = 19,
    SeatsElected { seat_epoch, next } = 20,
    CandidateBanned { candidate, cut, reporter, reporter_units } = 21,
});

/// A record of a batch that did not take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRecord {
    /// Its leaf index.
    #[serde(with = "crate::text")]
    pub index: u32,
    /// Why.
    pub status: Status,
}

struct_codec!(RefusedRecord { index, status });

/// What one transaction did. (The signed statement of a session is [`crate::receipt::Receipt`].)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxReceipt {
    /// Which transaction; zero for what the ledger does by itself at the start of a block.
    pub tx: TxId,
    /// Whether it took effect.
    pub status: Status,
    /// What it paid.
    pub fee: Units,
    /// Records of a batch that were refused, by leaf index.
    pub refused: List<RefusedRecord, { 2 * crate::batch::MAX_RECORDS }>,
    /// What happened, in order.
    pub events: List<Event, 65536>,
}

struct_codec!(TxReceipt {
    tx,
    status,
    fee,
    refused,
    events
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_numbers_and_names_are_unique_and_round_trip() {
        for (index, status) in Status::ALL.iter().enumerate() {
            assert_eq!(usize::from(status.code()), index);
            assert_eq!(Status::from_bytes(&status.to_bytes()), Ok(*status));
            let named = Status::ALL
                .iter()
                .filter(|other| other.name() == status.name());
            assert_eq!(named.count(), 1);
        }
    }
}
