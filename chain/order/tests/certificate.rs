//! Certificates of the BFT engine, checked without it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;
use qlink_order::{
    CertificateError, MAX_PATH, SeatSet, SimplexProof, Vote, VoteError, finalize_message, quorum,
    verify_certificate,
};
use qlink_types::block::{
    Certificate, Header, SCHEME_SIMPLEX, SCHEME_SOLO, receipts_root, tx_root,
};
use qlink_types::codec::{Blob, Encode as _, List};
use qlink_types::ids::{BlockId, Hash32};
use qlink_types::signature::{ChainId, PublicKey, Signature};
use qlink_types::units::{BlockHeight, SeatEpoch, TimeMs};

const CHAIN: ChainId = ChainId::new([4; 32]);
const EPOCH: SeatEpoch = SeatEpoch::new(3);
const VIEW: u64 = 300;
const PARENT_VIEW: u64 = 298;

/// Keys of `count` seats in the order of their public halves.
fn keys(count: u8) -> Vec<SigningKey> {
    let mut keys: Vec<_> = (1..=count)
        .map(|seed| SigningKey::from_bytes(&[seed; 32]))
        .collect();
    keys.sort_by_key(public);
    keys
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::new(key.verifying_key().to_bytes())
}

fn seats(keys: &[SigningKey]) -> SeatSet {
    SeatSet {
        seat_epoch: EPOCH,
        seats: List::try_from(keys.iter().map(public).collect::<Vec<_>>()).unwrap(),
    }
}

fn header(height: u64, parent: BlockId, proposer: PublicKey) -> Header {
    Header {
        chain: CHAIN,
        height: BlockHeight::new(height),
        parent,
        time_ms: TimeMs::new(1_000 + height),
        seat_epoch: EPOCH,
        proposer,
        engine_context: Blob::default(),
        state_root_prev: Hash32::new([7; 32]),
        tx_root: tx_root(&[]),
        receipts_root: receipts_root(&[]),
        next_seats_hash: Hash32::new([8; 32]),
    }
}

/// A block's header and those of `after` blocks on top of it.
fn branch(keys: &[SigningKey], after: usize) -> (Header, Vec<Header>) {
    let first = header(9, BlockId::new([1; 32]), public(&keys[0]));
    let mut path: Vec<Header> = Vec::new();
    for index in 0..after {
        let parent = path.last().unwrap_or(&first);
        let proposer = public(&keys[index % keys.len()]);
        path.push(header(parent.height.get() + 1, parent.id(), proposer));
    }
    (first, path)
}

/// Votes of the seats at `places` for the last header of `path`, or `first` if there is none.
fn proof(keys: &[SigningKey], first: &Header, path: Vec<Header>, places: &[usize]) -> SimplexProof {
    let voted = path.last().unwrap_or(first).id();
    let message = finalize_message(&CHAIN, EPOCH, VIEW, PARENT_VIEW, &voted);
    let votes: Vec<Vote> = places
        .iter()
        .map(|&place| Vote {
            seat: u16::try_from(place).unwrap(),
            signature: Signature::new(keys[place].sign(&message).to_bytes()),
        })
        .collect();
    SimplexProof {
        view: VIEW,
        parent_view: PARENT_VIEW,
        path: List::try_from(path).unwrap(),
        votes: List::try_from(votes).unwrap(),
    }
}

fn verify(seats: &SeatSet, header: &Header, proof: &SimplexProof) -> Result<(), CertificateError> {
    verify_certificate(seats, header, &proof.certificate(EPOCH).unwrap())
}

fn refused(error: VoteError) -> Result<(), CertificateError> {
    Err(CertificateError::Votes(error))
}

#[test]
fn the_quorum_is_all_but_a_third_rounded_down() {
    let expected = [(4, 3), (5, 4), (6, 5), (7, 5), (10, 7), (21, 15), (100, 67)];

    for (seats, votes) in expected {
        assert_eq!(quorum(seats), votes, "{seats}");
    }
}

proptest! {
    #[test]
    fn any_quorum_of_any_set_makes_a_block_and_its_ancestors_final(
        count in 4_u8..=21, after in 0_usize..4, order in any::<u64>(),
    ) {
        let keys = keys(count);
        let (first, path) = branch(&keys, after);
        let mut places: Vec<usize> = (0..keys.len()).collect();
        for index in 0..places.len() {
            let other = usize::try_from(order.rotate_left(u32::try_from(index).unwrap()) % 21).unwrap();
            places.swap(index, other % keys.len());
        }
        places.truncate(quorum(keys.len()));
        places.sort_unstable();
        let proof = proof(&keys, &first, path, &places);

        prop_assert_eq!(verify(&seats(&keys), &first, &proof), Ok(()));
        let bytes = proof.certificate(EPOCH).unwrap();
        prop_assert!(bytes.proof.len() <= 40 + 66 * 21 + 300 * after, "{}", bytes.proof.len());
    }

    #[test]
    fn any_bit_flipped_in_certificate_header_or_set_is_refused(
        after in 0_usize..3, which in any::<prop::sample::Index>(), bit in 0_u32..8,
    ) {
        let keys = keys(4);
        let (first, path) = branch(&keys, after);
        let certificate = proof(&keys, &first, path, &[0, 1, 3]).certificate(EPOCH).unwrap();
        let set = seats(&keys);
        prop_assert_eq!(verify_certificate(&set, &first, &certificate), Ok(()));
        let flip = |bytes: &mut Vec<u8>| {
            let index = which.index(bytes.len());
            bytes[index] ^= 1 << bit;
        };

        let mut bytes = certificate.proof.to_vec();
        flip(&mut bytes);
        let bad = Certificate { proof: Blob::try_from(bytes).unwrap(), ..certificate };
        prop_assert!(verify_certificate(&set, &first, &bad).is_err());
        let mut bytes = first.to_bytes();
        flip(&mut bytes);
        if let Ok(other) = qlink_types::codec::Decode::from_bytes(&bytes) {
            prop_assert!(verify_certificate(&set, &other, &certificate).is_err());
        }
        let mut bytes = certificate.to_bytes();
        flip(&mut bytes);
        if let Ok(other) = qlink_types::codec::Decode::from_bytes(&bytes) {
            prop_assert!(verify_certificate(&set, &first, &other).is_err());
        }
        let mut bytes = set.to_bytes();
        flip(&mut bytes);
        if let Ok(other) = <SeatSet as qlink_types::codec::Decode>::from_bytes(&bytes) {
            // Of a key that did not vote nothing is known: the set's hash in headers pins it.
            let kept = [0, 1, 3].iter().all(|&n| other.seats.get(n) == set.seats.get(n));
            let unchanged = kept && other.seat_epoch == set.seat_epoch && other.seats.len() == 4;
            prop_assert!(unchanged || verify_certificate(&other, &first, &certificate).is_err());
        }
    }
}

#[test]
fn too_few_doubled_foreign_and_unsorted_votes_are_refused() {
    let keys = keys(4);
    let set = seats(&keys);
    let (first, _) = branch(&keys, 0);
    let check = |places: &[usize]| verify(&set, &first, &proof(&keys, &first, Vec::new(), places));

    assert_eq!(check(&[0, 1, 2, 3]), Ok(()));
    let (votes, quorum, seats) = (2, 3, 4);
    let few = VoteError::TooFew {
        votes,
        quorum,
        seats,
    };
    assert_eq!(check(&[0, 3]), refused(few));
    assert_eq!(check(&[0, 1, 1]), refused(VoteError::Order { seat: 1 }));
    assert_eq!(check(&[0, 2, 1]), refused(VoteError::Order { seat: 1 }));
    let mut foreign = proof(&keys, &first, Vec::new(), &[0, 1, 2]);
    foreign.votes = foreign
        .votes
        .iter()
        .map(|vote| Vote {
            seat: vote.seat + 2,
            ..*vote
        })
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    assert_eq!(
        verify(&set, &first, &foreign),
        refused(VoteError::Foreign { seat: 4, seats: 4 })
    );
}

/// A key that sits nowhere signs in the place of one that does, and a seat's vote stands in
/// another's place.
#[test]
fn a_vote_counts_only_under_the_key_of_its_seat() {
    let keys = keys(4);
    let set = seats(&keys);
    let (first, _) = branch(&keys, 0);
    let mut strangers = keys.clone();
    strangers[2] = SigningKey::from_bytes(&[99; 32]);
    let mut swapped = keys;
    swapped.swap(0, 1);

    for signers in [strangers, swapped] {
        let proof = proof(&signers, &first, Vec::new(), &[0, 1, 2]);
        let verdict = verify(&set, &first, &proof);
        assert!(
            matches!(verdict, Err(CertificateError::Signature(_))),
            "{verdict:?}"
        );
    }
}

#[test]
fn votes_hold_for_one_chain_one_epoch_and_one_pair_of_views() {
    let keys = keys(4);
    let set = seats(&keys);
    let (first, _) = branch(&keys, 0);
    let good = proof(&keys, &first, Vec::new(), &[0, 1, 2]);

    let later = SeatEpoch::new(EPOCH.get() + 1);
    let certificate = good.certificate(later).unwrap();
    let of_later = SeatSet {
        seat_epoch: later,
        ..set.clone()
    };
    let header_of_later = Header {
        seat_epoch: later,
        ..first.clone()
    };
    for (set, header) in [
        (&set, &first),
        (&of_later, &first),
        (&set, &header_of_later),
    ] {
        let verdict = verify_certificate(set, header, &certificate);
        assert!(
            matches!(verdict, Err(CertificateError::SeatEpoch { .. })),
            "{verdict:?}"
        );
    }
    let verdict = verify_certificate(&of_later, &header_of_later, &certificate);
    assert!(
        matches!(verdict, Err(CertificateError::Signature(_))),
        "{verdict:?}"
    );
    let other_chain = Header {
        chain: ChainId::new([5; 32]),
        ..first.clone()
    };
    assert!(verify(&set, &other_chain, &good).is_err());
    for (view, parent_view) in [(VIEW + 1, PARENT_VIEW), (VIEW, PARENT_VIEW - 1)] {
        let moved = SimplexProof {
            view,
            parent_view,
            ..good.clone()
        };
        let verdict = verify(&set, &first, &moved);
        assert!(
            matches!(verdict, Err(CertificateError::Signature(_))),
            "{verdict:?}"
        );
    }
    let (view, parent_view) = (VIEW, VIEW);
    let level = SimplexProof {
        parent_view,
        ..good
    };
    assert_eq!(
        verify(&set, &first, &level),
        refused(VoteError::View { view, parent_view })
    );
}

#[test]
fn a_path_must_lead_from_the_block_to_the_one_voted_for_without_a_gap() {
    let keys = keys(4);
    let set = seats(&keys);
    let (first, path) = branch(&keys, 3);
    let good = proof(&keys, &first, path.clone(), &[0, 1, 2]);
    assert_eq!(verify(&set, &first, &good), Ok(()));

    for index in 0..path.len() {
        let mut gap = path.clone();
        gap.remove(index);
        let bad = SimplexProof {
            path: List::try_from(gap).unwrap(),
            ..good.clone()
        };
        assert!(verify(&set, &first, &bad).is_err(), "{index}");
    }
    let (long_first, long) = branch(&keys, MAX_PATH);
    let longest = proof(&keys, &long_first, long, &[0, 1, 2]);
    assert_eq!(verify(&set, &long_first, &longest), Ok(()));
}

#[test]
fn sets_that_are_too_small_doubled_or_unsorted_certify_nothing() {
    let all = keys(5);
    let (first, _) = branch(&all, 0);
    let mut doubled = all.clone();
    doubled[1] = doubled[0].clone();
    let mut unsorted = all.clone();
    unsorted.swap(0, 4);

    for keys in [&all[..3], &doubled, &unsorted] {
        let places: Vec<usize> = (0..keys.len()).collect();
        let proof = proof(keys, &first, Vec::new(), &places);
        let seats_error = VoteError::Seats { seats: keys.len() };
        assert_eq!(verify(&seats(keys), &first, &proof), refused(seats_error));
    }
}

#[test]
fn a_block_of_a_proposer_without_seat_is_not_final_and_schemes_do_not_mix() {
    let keys = keys(4);
    let set = seats(&keys);
    let (mut first, _) = branch(&keys, 0);
    let proposer = public(&SigningKey::from_bytes(&[99; 32]));
    let good = proof(&keys, &first, Vec::new(), &[0, 1, 2]);
    let solo = Certificate {
        scheme: SCHEME_SOLO,
        ..good.certificate(EPOCH).unwrap()
    };
    assert!(verify_certificate(&set, &first, &solo).is_err());
    let empty = Certificate {
        scheme: SCHEME_SIMPLEX,
        seat_epoch: EPOCH,
        proof: Blob::default(),
    };
    assert!(verify_certificate(&set, &first, &empty).is_err());

    first.proposer = proposer;
    let of_stranger = proof(&keys, &first, Vec::new(), &[0, 1, 2]);

    assert_eq!(
        verify(&set, &first, &of_stranger),
        Err(CertificateError::ForeignProposer { proposer })
    );
}
