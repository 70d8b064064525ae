//! Every decoder of the chain's formats: what it accepts, it encodes back to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_types::batch::Batch;
use qlink_types::block::{Block, Certificate, Header};
use qlink_types::codec::{Decode, Encode};
use qlink_types::merkle::InclusionProof;
use qlink_types::outcome::TxReceipt;
use qlink_types::package::VersionedTerms;
use qlink_types::receipt::SignedReceipt;
use qlink_types::record::Leaf;
use qlink_types::session::{SessionOpen, SignedAcceptance};
use qlink_types::transaction::SignedTransaction;

fn canonical<T: Decode + Encode>(bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        assert_eq!(value.to_bytes(), bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 11 {
        0 => canonical::<SignedTransaction>(bytes),
        1 => canonical::<Block>(bytes),
        2 => canonical::<Header>(bytes),
        3 => canonical::<Certificate>(bytes),
        4 => canonical::<Batch>(bytes),
        5 => canonical::<Leaf>(bytes),
        6 => canonical::<TxReceipt>(bytes),
        7 => canonical::<SignedReceipt>(bytes),
        8 => canonical::<VersionedTerms>(bytes),
        9 => canonical::<InclusionProof>(bytes),
        _ => {
            canonical::<SessionOpen>(bytes);
            canonical::<SignedAcceptance>(bytes);
        }
    }
});
