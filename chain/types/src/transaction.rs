//! Transactions: everything that changes the ledger from outside.

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::codec::{Decode, DecodeError, Encode, Reader, Text};
use crate::content::ContentRegistration;
use crate::ids::{
    AccountId, BaseStationId, GatewayId, Hash32, OperatorId, PackageId, TxId, ViewerKey,
};
use crate::package::{CarriageShares, VersionedTerms};
use crate::signature::{ChainId, Domain, PublicKey, SecretKey, Signature};
use crate::stake::{CandidateInfo, Commission, Equivocation, Ppm};
use crate::struct_codec;
use crate::units::{Bytes, Nonce, TimeMs, Units};

/// Version of the transaction format.
pub const TRANSACTION_VERSION: u16 = 1;

/// Most bytes of one encoded transaction: a full block may hold one.
pub const MAX_TRANSACTION_BYTES: usize = 1_000_000;

/// Who acts, and with which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Sender {
    /// An account; its id is its key. `nonce` counts its accepted transactions.
    Account {
        /// The account.
        account: AccountId,
    },
    /// A registered gateway with its current key. `nonce` equals the batch's sequence.
    Gateway {
        /// The gateway.
        gateway: GatewayId,
    },
    /// A viewer with its derived key. `nonce` is zero; a claim is cumulative.
    Viewer {
        /// The viewer.
        viewer: ViewerKey,
    },
}

crate::enum_codec!(Sender, "sender", {
    Account { account } = 1,
    Gateway { gateway } = 2,
    Viewer { viewer } = 3,
});

/// A registered party with a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Party {
    /// A gateway.
    Gateway {
        /// Its id.
        gateway: GatewayId,
    },
    /// A BaseStation.
    BaseStation {
        /// Its id.
        basestation: BaseStationId,
    },
    /// A mobile operator.
    Operator {
        /// Its id.
        operator: OperatorId,
    },
}

crate::enum_codec!(Party, "party", {
    Gateway { gateway } = 1,
    BaseStation { basestation } = 2,
    Operator { operator } = 3,
});

/// Which kind of party is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartyKind {
    /// A gateway.
    Gateway,
    /// A BaseStation.
    BaseStation,
    /// A mobile operator.
    Operator,
}

crate::tag_codec!(PartyKind, "party kind", { Gateway = 1, BaseStation = 2, Operator = 3 });

impl PartyKind {
    /// The party that `owner` creates with its transaction number `nonce`.
    #[must_use]
    pub fn derive(self, owner: &AccountId, nonce: Nonce) -> Party {
        match self {
            Self::Gateway => Party::Gateway {
                gateway: GatewayId::derive(owner, nonce),
            },
            Self::BaseStation => Party::BaseStation {
                basestation: BaseStationId::derive(owner, nonce),
            },
            Self::Operator => Party::Operator {
                operator: OperatorId::derive(owner, nonce),
            },
        }
    }
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TxBody {
    /// Moves units to another account.
    Transfer {
        /// Receiver.
        to: AccountId,
        /// At least 1.
        amount: Units,
    },
    /// Registers a gateway, BaseStation or operator; its id derives from sender and nonce.
    RegisterParty {
        /// What it is.
        party_kind: PartyKind,
        /// Its key.
        key: PublicKey,
        /// Signature of the key over the owner's account id in domain `KeyProof`.
        key_proof: Signature,
        /// The asset on NEO behind a BaseStation; zero: none.
        asset: Hash32,
        /// Name for people.
        name: Text<100>,
    },
    /// Replaces a party's key.
    RotateKey {
        /// Whose.
        party: Party,
        /// The new key.
        key: PublicKey,
        /// Signature of the new key over the owner's account id in domain `KeyProof`.
        key_proof: Signature,
    },
    /// Registers content.
    RegisterContent {
        /// What it is.
        registration: ContentRegistration,
    },
    /// Buys a package; its id derives from sender and nonce.
    BuyPackage {
        /// Its terms.
        terms: VersionedTerms,
    },
    /// Adds to a package; the next package_epoch begins.
    TopUpPackage {
        /// Which.
        package: PackageId,
        /// Added volume.
        bytes: Bytes,
        /// Added reward.
        reward: Units,
        /// Added carriage.
        carriage: CarriageShares,
        /// New end of validity; not before the running one.
        valid_until: TimeMs,
    },
    /// Begins the two-step close of a package.
    ClosePackage {
        /// Which.
        package: PackageId,
    },
    /// Moves a viewer's reward to an account; signed by the viewer's key.
    Claim {
        /// Whose package.
        package: PackageId,
        /// Receiver.
        to: AccountId,
        /// Everything claimed so far including this claim: cumulative, so a replay pays nothing.
        total: Units,
    },
    /// Settles usage; signed by the gateway's key.
    SettleBatch {
        /// The records.
        batch: Batch,
    },
    /// Stands for a seat, or stands again after resigning. The sender's account is the candidate.
    RegisterCandidate {
        /// The key that will sign blocks.
        seat_key: PublicKey,
        /// Signature of the key over the sender's account id in domain `KeyProof`.
        key_proof: Signature,
        /// Self-stake to lock, on top of what is locked already.
        stake: Units,
        /// What it keeps of its voters' rewards.
        commission: Commission,
        /// What it says of itself.
        info: CandidateInfo,
    },
    /// Changes what a candidate states.
    UpdateCandidate {
        /// The rate from now on; it may change once in a seat_epoch.
        rate: Ppm,
        /// What it says of itself.
        info: CandidateInfo,
    },
    /// Gives a candidate another seat key, from the next election on.
    RotateSeatKey {
        /// The new key.
        seat_key: PublicKey,
        /// As at registration.
        key_proof: Signature,
    },
    /// Stands for no seat any more, from the next election on.
    ResignCandidate,
    /// Locks units behind a candidate; behind oneself they are self-stake.
    Vote {
        /// For whom.
        candidate: AccountId,
        /// At least 1.
        units: Units,
    },
    /// Takes units back from a candidate; they return when the unbonding time has passed.
    Unvote {
        /// From whom.
        candidate: AccountId,
        /// At least 1, at most what the stake is worth.
        units: Units,
    },
    /// Moves a vote at once. As surety for what the first candidate may have done, the share that
    /// evidence would cost stays behind for the unbonding time.
    Redelegate {
        /// From whom.
        from: AccountId,
        /// To whom.
        to: AccountId,
        /// At least 1, at most what the stake is worth.
        units: Units,
    },
    /// Takes a voter's rewards.
    CollectRewards {
        /// From which candidate.
        candidate: AccountId,
    },
    /// Proves that a seat declared two blocks of one height final; the sender is rewarded.
    ReportEquivocation {
        /// The proof.
        proof: Box<Equivocation>,
    },
}

crate::enum_codec!(TxBody, "transaction type", {
    Transfer { to, amount } = 1,
    RegisterParty { party_kind, key, key_proof, asset, name } = 2,
    RotateKey { party, key, key_proof } = 3,
    RegisterContent { registration } = 4,
    BuyPackage { terms } = 5,
    TopUpPackage { package, bytes, reward, carriage, valid_until } = 6,
    ClosePackage { package } = 7,
    Claim { package, to, total } = 8,
    SettleBatch { batch } = 9,
    RegisterCandidate { seat_key, key_proof, stake, commission, info } = 10,
    UpdateCandidate { rate, info } = 11,
    RotateSeatKey { seat_key, key_proof } = 12,
    ResignCandidate = 13,
    Vote { candidate, units } = 14,
    Unvote { candidate, units } = 15,
    Redelegate { from, to, units } = 16,
    CollectRewards { candidate } = 17,
    ReportEquivocation { proof } = 18,
});

/// An unsigned transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The chain it is for.
    pub chain: ChainId,
    /// Who acts.
    pub sender: Sender,
    /// The sender's number for it.
    pub nonce: Nonce,
    /// The most that the sender pays as fee; the fee schedule decides what it pays.
    pub max_fee: Units,
    /// First ledger time at which it is void; zero: never.
    pub valid_until: TimeMs,
    /// What it does.
    pub body: TxBody,
}

impl Encode for Transaction {
    fn encode(&self, out: &mut Vec<u8>) {
        TRANSACTION_VERSION.encode(out);
        self.chain.encode(out);
        self.sender.encode(out);
        self.nonce.encode(out);
        self.max_fee.encode(out);
        self.valid_until.encode(out);
        self.body.encode(out);
    }
}

impl Decode for Transaction {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u16::decode(reader)? {
            TRANSACTION_VERSION => Ok(Self {
                chain: Decode::decode(reader)?,
                sender: Decode::decode(reader)?,
                nonce: Decode::decode(reader)?,
                max_fee: Decode::decode(reader)?,
                valid_until: Decode::decode(reader)?,
                body: Decode::decode(reader)?,
            }),
            other => Err(DecodeError::UnknownTag {
                what: "transaction version",
                value: other.into(),
            }),
        }
    }
}

impl Transaction {
    /// Its id: a hash of the unsigned bytes, so a signature's form cannot change it.
    #[must_use]
    pub fn id(&self) -> TxId {
        TxId::new(*Domain::Transaction.hash(&self.to_bytes()).as_bytes())
    }

    /// Signs it.
    #[must_use]
    pub fn sign(self, key: &SecretKey) -> SignedTransaction {
        let signature = key.sign(Domain::Transaction, &self.chain, &self.to_bytes());
        SignedTransaction {
            transaction: self,
            signature,
        }
    }
}

/// A transaction with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTransaction {
    /// What is signed.
    pub transaction: Transaction,
    /// By the sender's key in domain `Transaction`.
    pub signature: Signature,
}

struct_codec!(SignedTransaction {
    transaction,
    signature
});

impl SignedTransaction {
    /// The id of the transaction inside.
    #[must_use]
    pub fn id(&self) -> TxId {
        self.transaction.id()
    }
}

/// Proves possession of a party's key to its owner's account: what `key_proof` fields carry.
#[must_use]
pub fn prove_key(key: &SecretKey, chain: &ChainId, owner: &AccountId) -> Signature {
    key.sign(Domain::KeyProof, chain, owner.as_bytes())
}

impl From<PublicKey> for AccountId {
    fn from(key: PublicKey) -> Self {
        Self::new(*key.as_bytes())
    }
}

impl From<AccountId> for PublicKey {
    fn from(account: AccountId) -> Self {
        Self::new(*account.as_bytes())
    }
}

impl From<PublicKey> for ViewerKey {
    fn from(key: PublicKey) -> Self {
        Self::new(*key.as_bytes())
    }
}

impl From<ViewerKey> for PublicKey {
    fn from(viewer: ViewerKey) -> Self {
        Self::new(*viewer.as_bytes())
    }
}
