//! Proofs that a key has a value, or none, under a state root.

use jmt::RootHash;
use jmt::proof::SparseMerkleProof;
use qlink_types::ids::Hash32;
use qlink_types::units::BlockHeight;

use crate::tree::{Blake3, key_hash};

/// Most bytes of an encoded proof: 256 siblings of 65 bytes fit.
pub const MAX_PROOF_BYTES: usize = 32 * 1024;

/// A proof with what it proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProof {
    /// The state after this block.
    pub height: BlockHeight,
    /// Its root, which the next block's header carries.
    pub root: Hash32,
    /// The state key.
    pub key: Vec<u8>,
    /// Its value; `None`: there is none.
    pub value: Option<Vec<u8>>,
    /// The path, as `jmt` writes it (borsh).
    pub proof: Vec<u8>,
}

/// Why a proof does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// It is no proof.
    #[error("{length} bytes are not a proof")]
    Malformed {
        /// How many bytes were given.
        length: usize,
    },
    /// It does not lead from key and value to the root.
    #[error("the proof does not lead to the root {root}")]
    Mismatch {
        /// The root that was expected.
        root: Hash32,
    },
}

impl StateProof {
    /// Checks that `value` stands under `key`, or nothing does, in the state with this `root`.
    ///
    /// # Errors
    ///
    /// [`ProofError`] when the bytes are no proof or prove something else.
    pub fn verify(
        root: &Hash32,
        key: &[u8],
        value: Option<&[u8]>,
        proof: &[u8],
    ) -> Result<(), ProofError> {
        let malformed = ProofError::Malformed {
            length: proof.len(),
        };
        if proof.len() > MAX_PROOF_BYTES {
            return Err(malformed);
        }
        let proof: SparseMerkleProof<Blake3> = borsh::from_slice(proof).map_err(|_| malformed)?;
        proof
            .verify(RootHash(*root.as_bytes()), key_hash(key), value)
            .map_err(|_| ProofError::Mismatch { root: *root })
    }
}
