//! What makes a block final, checked without an engine: for nodes, tools and light clients.

mod simplex;

pub use simplex::{
    MAX_PATH, MIN_BFT_SEATS, SimplexProof, Vote, VoteError, finalize_message, quorum,
    vote_namespace,
};

use qlink_types::block::{Certificate, Header, SCHEME_SIMPLEX, SCHEME_SOLO};
use qlink_types::codec::{Encode as _, List};
use qlink_types::ids::Hash32;
use qlink_types::signature::{Domain, PublicKey, Signature, SignatureError};
use qlink_types::struct_codec;
use qlink_types::units::SeatEpoch;

/// Most seats of a set. Source: chain reference, section 4 (4 to 101 seats).
pub const MAX_SEATS: usize = 101;

/// The seats of a seat_epoch, one equal vote each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatSet {
    /// When they sit.
    pub seat_epoch: SeatEpoch,
    /// Their keys, ascending.
    pub seats: List<PublicKey, MAX_SEATS>,
}

struct_codec!(SeatSet { seat_epoch, seats });

impl SeatSet {
    /// A set of one.
    #[must_use]
    pub fn single(seat_epoch: SeatEpoch, seat: PublicKey) -> Self {
        // One is below every limit.
        let seats = List::try_from(vec![seat]).unwrap_or_default();
        Self { seat_epoch, seats }
    }

    /// What a header's `next_seats_hash` commits to: who sits, not when, so that a set that goes
    /// on keeps its hash.
    #[must_use]
    pub fn hash(&self) -> Hash32 {
        Domain::Certificate.hash(&self.seats.to_bytes())
    }
}

/// Why a certificate does not make a block final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The scheme is not known here.
    #[error("certificate scheme {scheme} is unknown")]
    UnknownScheme {
        /// Its number.
        scheme: u16,
    },
    /// Header, certificate and seat set are of different seat_epochs.
    #[error("certificate of seat_epoch {certificate}, header of {header}, seats of {seats}")]
    SeatEpoch {
        /// The certificate's.
        certificate: SeatEpoch,
        /// The header's.
        header: SeatEpoch,
        /// The set's.
        seats: SeatEpoch,
    },
    /// The scheme is for one seat, the set has another number.
    #[error("a solo certificate needs one seat, the set has {seats}")]
    SeatCount {
        /// Seats in the set.
        seats: usize,
    },
    /// The bytes have not the length of the scheme.
    #[error("a proof of {length} bytes does not fit scheme {scheme}")]
    ProofLength {
        /// The scheme.
        scheme: u16,
        /// Length found.
        length: usize,
    },
    /// The block was made by nobody who sits.
    #[error("{proposer} holds no seat")]
    ForeignProposer {
        /// Who made it.
        proposer: PublicKey,
    },
    /// The signature does not hold.
    #[error("the seat's signature does not hold")]
    Signature(#[source] SignatureError),
    /// The votes of the seats are not enough.
    #[error("the seats' votes do not make the block final")]
    Votes(#[from] VoteError),
}

/// Checks that `certificate` makes the block with this `header` final under `seats`.
///
/// The scheme [`SCHEME_SOLO`] is the ZIP-215 signature of the only seat over the block id, in
/// domain `Certificate`. [`SCHEME_SIMPLEX`] is the BFT engine's; its bytes are [`SimplexProof`]'s.
///
/// # Errors
///
/// [`CertificateError`] names the first rule that is broken.
pub fn verify_certificate(
    seats: &SeatSet,
    header: &Header,
    certificate: &Certificate,
) -> Result<(), CertificateError> {
    let scheme = certificate.scheme;
    let verify = match scheme {
        SCHEME_SOLO => verify_solo,
        SCHEME_SIMPLEX => simplex::verify,
        _ => return Err(CertificateError::UnknownScheme { scheme }),
    };
    if certificate.seat_epoch != seats.seat_epoch || header.seat_epoch != seats.seat_epoch {
        return Err(CertificateError::SeatEpoch {
            certificate: certificate.seat_epoch,
            header: header.seat_epoch,
            seats: seats.seat_epoch,
        });
    }
    verify(seats, header, certificate)
}

fn verify_solo(
    seats: &SeatSet,
    header: &Header,
    certificate: &Certificate,
) -> Result<(), CertificateError> {
    let scheme = certificate.scheme;
    let [seat] = &*seats.seats else {
        let seats = seats.seats.len();
        return Err(CertificateError::SeatCount { seats });
    };
    if header.proposer != *seat {
        return Err(CertificateError::ForeignProposer {
            proposer: header.proposer,
        });
    }
    let length = certificate.proof.len();
    let signature = <[u8; 64]>::try_from(&*certificate.proof)
        .map(Signature::new)
        .map_err(|_| CertificateError::ProofLength { scheme, length })?;
    seat.verify_on_chain(
        Domain::Certificate,
        &header.chain,
        header.id().as_bytes(),
        &signature,
    )
    .map_err(CertificateError::Signature)
}
