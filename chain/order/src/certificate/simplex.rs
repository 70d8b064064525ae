//! Scheme 2: votes of more than two thirds of the seats, checked without the engine that made them.
//!
//! ```text
//! proof := view (u64) | parent_view (u64) | path (list of headers) | votes (list)
//! vote  := index of the seat in the set (u16) | ed25519 signature (64)
//! ```
//! Each seat signs the frame that the engine (simplex) gives its votes to finalize, by ZIP-215.
//! `leb` is an unsigned little-endian base 128 integer:
//!
//! ```text
//! leb(length of n) | n | leb(seat_epoch) | leb(view) | leb(parent_view) | block id (32)
//! n := "qlink/v1/certificate" | 00 | chain id (32) | "_FINALIZE"
//! ```
//! A view is one turn of a leader; `parent_view` is the view in which the block before was agreed.
//!
//! The engine does not vote to finalize every block: finality of one covers all before it. The
//! `path` then holds the headers from the block's child up to the one that the votes name; it is
//! empty for a block that was voted for itself.

use qlink_types::block::{Certificate, Header, SCHEME_SIMPLEX};
use qlink_types::codec::{Blob, Decode as _, DecodeError, Encode as _, List};
use qlink_types::ids::BlockId;
use qlink_types::signature::{ChainId, Domain, Signature};
use qlink_types::struct_codec;
use qlink_types::units::SeatEpoch;

use super::{CertificateError, MAX_SEATS, SeatSet};

/// Fewest seats of the BFT engine: with fewer no fault is tolerated. Source: design, section 5.
pub const MIN_BFT_SEATS: usize = 4;

/// Most headers between a block and the one that was voted for (chosen: their bytes and the votes
/// of all seats fit into a proof).
pub const MAX_PATH: usize = 128;

/// What the engine's name for votes to finalize adds to its namespace.
const FINALIZE: &[u8] = b"_FINALIZE";

/// A seat's vote to finalize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The seat's place in the set, from 0.
    pub seat: u16,
    /// Its signature.
    pub signature: Signature,
}

struct_codec!(Vote { seat, signature });

/// The bytes of a certificate of [`SCHEME_SIMPLEX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimplexProof {
    /// View in which the block was proposed that the votes name.
    pub view: u64,
    /// View of the block before it.
    pub parent_view: u64,
    /// Headers from the block's child to the one that the votes name; empty when they name it.
    pub path: List<Header, MAX_PATH>,
    /// The votes, ascending by seat.
    pub votes: List<Vote, MAX_SEATS>,
}

struct_codec!(SimplexProof {
    view,
    parent_view,
    path,
    votes
});

impl SimplexProof {
    /// The certificate that carries this proof; `None` when it is too long for one.
    #[must_use]
    pub fn certificate(&self, seat_epoch: SeatEpoch) -> Option<Certificate> {
        Some(Certificate {
            scheme: SCHEME_SIMPLEX,
            seat_epoch,
            proof: Blob::try_from(self.to_bytes()).ok()?,
        })
    }
}

/// The namespace that the engine of `chain` is given for its votes.
#[must_use]
pub fn vote_namespace(chain: &ChainId) -> Vec<u8> {
    Domain::Certificate.message(chain, &[])
}

/// How many of `seats` must vote: all but the third that may fail, rounded down.
#[must_use]
pub const fn quorum(seats: usize) -> usize {
    seats.saturating_sub(seats.saturating_sub(1) / 3)
}

/// The message that a seat signs to finalize `block`.
#[must_use]
pub fn finalize_message(
    chain: &ChainId,
    seat_epoch: SeatEpoch,
    view: u64,
    parent_view: u64,
    block: &BlockId,
) -> Vec<u8> {
    let mut namespace = vote_namespace(chain);
    namespace.extend_from_slice(FINALIZE);
    let mut message = Vec::with_capacity(namespace.len().saturating_add(64));
    let length = u64::try_from(namespace.len()).unwrap_or(u64::MAX);
    leb128(length, &mut message);
    message.extend_from_slice(&namespace);
    leb128(seat_epoch.get(), &mut message);
    leb128(view, &mut message);
    leb128(parent_view, &mut message);
    message.extend_from_slice(block.as_bytes());
    message
}

fn leb128(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Why the votes of a certificate do not make a block final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoteError {
    /// The proof is not what the scheme says.
    #[error("the proof cannot be read")]
    Malformed(#[source] DecodeError),
    /// The set is too small for this scheme, or its keys do not ascend.
    #[error("a set of {seats} seats is not one of at least {MIN_BFT_SEATS} ascending keys")]
    Seats {
        /// Seats in the set.
        seats: usize,
    },
    /// The headers do not lead from the block to the one that was voted for.
    #[error("header {index} of the path does not follow the one before it")]
    Path {
        /// Which, from 0.
        index: usize,
    },
    /// The view that was voted in does not come after its parent's.
    #[error("view {view} does not come after its parent's view {parent_view}")]
    View {
        /// The view.
        view: u64,
        /// The parent's.
        parent_view: u64,
    },
    /// The votes do not ascend by seat, so that one seat might count twice.
    #[error("the vote of seat {seat} is not in ascending order")]
    Order {
        /// The seat's place.
        seat: u16,
    },
    /// A vote names a seat that the set does not have.
    #[error("seat {seat} is not one of {seats}")]
    Foreign {
        /// The place named.
        seat: u16,
        /// Seats in the set.
        seats: usize,
    },
    /// Not enough seats voted.
    #[error("{votes} votes are fewer than {quorum}, which {seats} seats need")]
    TooFew {
        /// Votes there are.
        votes: usize,
        /// Votes needed.
        quorum: usize,
        /// Seats in the set.
        seats: usize,
    },
}

/// Checks a certificate of [`SCHEME_SIMPLEX`]; scheme and seat_epochs have been compared.
pub(super) fn verify(
    seats: &SeatSet,
    header: &Header,
    certificate: &Certificate,
) -> Result<(), CertificateError> {
    let proof = SimplexProof::from_bytes(&certificate.proof).map_err(VoteError::Malformed)?;
    check_seats(seats)?;
    let voted = follow_path(header, &proof)?;
    check_votes(seats.seats.len(), &proof)?;
    for made in std::iter::once(header).chain(&proof.path) {
        if !seats.seats.contains(&made.proposer) {
            let proposer = made.proposer;
            return Err(CertificateError::ForeignProposer { proposer });
        }
    }
    let message = finalize_message(
        &header.chain,
        seats.seat_epoch,
        proof.view,
        proof.parent_view,
        &voted,
    );
    for vote in &proof.votes {
        let foreign = VoteError::Foreign {
            seat: vote.seat,
            seats: seats.seats.len(),
        };
        let key = seats.seats.get(usize::from(vote.seat)).ok_or(foreign)?;
        key.verify_framed_on_chain(&message, &vote.signature)
            .map_err(CertificateError::Signature)?;
    }
    Ok(())
}

fn check_seats(seats: &SeatSet) -> Result<(), VoteError> {
    let ascend = seats.seats.is_sorted_by(|before, after| before < after);
    if seats.seats.len() < MIN_BFT_SEATS || !ascend {
        let seats = seats.seats.len();
        return Err(VoteError::Seats { seats });
    }
    Ok(())
}

/// The id that the votes must name.
fn follow_path(header: &Header, proof: &SimplexProof) -> Result<BlockId, VoteError> {
    if proof.view <= proof.parent_view {
        return Err(VoteError::View {
            view: proof.view,
            parent_view: proof.parent_view,
        });
    }
    let mut last = header;
    let mut id = header.id();
    for (index, next) in proof.path.iter().enumerate() {
        let follows = next.parent == id
            && next.height == last.height.next()
            && next.chain == last.chain
            && next.seat_epoch == last.seat_epoch;
        if !follows {
            return Err(VoteError::Path { index });
        }
        id = next.id();
        last = next;
    }
    Ok(id)
}

fn check_votes(seats: usize, proof: &SimplexProof) -> Result<(), VoteError> {
    let mut above: Option<u16> = None;
    for vote in &proof.votes {
        let seat = vote.seat;
        if above.is_some_and(|above| seat <= above) {
            return Err(VoteError::Order { seat });
        }
        if usize::from(seat) >= seats {
            return Err(VoteError::Foreign { seat, seats });
        }
        above = Some(seat);
    }
    let (votes, quorum) = (proof.votes.len(), quorum(seats));
    if votes < quorum {
        return Err(VoteError::TooFew {
            votes,
            quorum,
            seats,
        });
    }
    Ok(())
}
