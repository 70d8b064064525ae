//! Rows of carriage: bytes per path, sums per gateway counter, and what each payee was paid.

use qlink_types::codec::Encode as _;
use qlink_types::ids::{GatewayId, PackageId};
use qlink_types::outcome::Share;
use qlink_types::record::CarriageKey;
use qlink_types::struct_codec;
use qlink_types::units::{Bytes, Incarnation, PackageEpoch, Units};
use serde::{Deserialize, Serialize};

use crate::row::{Row, join};
use crate::state::Space;

/// Most payees of one share under one package_epoch (chosen: every payee can cause an event when
/// terms end, and a receipt holds 65,536 events).
pub(crate) const MAX_PAYEES: u32 = 4096;

/// Cumulative bytes of one carriage path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathBytes {
    /// How many.
    pub bytes: Bytes,
}

struct_codec!(PathBytes { bytes });

impl Row for PathBytes {
    type Key = CarriageKey;
    const SPACE: Space = Space::Rows;

    fn key(key: &CarriageKey) -> Vec<u8> {
        let mut out = vec![b'k'];
        key.encode(&mut out);
        out
    }
}

/// Names the two sums of a gateway's counter start under one package_epoch.
pub(crate) type SumKey = (PackageId, PackageEpoch, GatewayId, Incarnation);

/// Bytes of all viewers and of all paths of one gateway and incarnation; equal after every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CarriageSum {
    /// Sum over ratio records.
    pub ratio: Bytes,
    /// Sum over carriage records.
    pub carriage: Bytes,
}

struct_codec!(CarriageSum { ratio, carriage });

impl Row for CarriageSum {
    type Key = SumKey;
    const SPACE: Space = Space::Rows;

    fn key((package, epoch, gateway, incarnation): &SumKey) -> Vec<u8> {
        join(
            b'i',
            &[
                package.as_bytes(),
                &epoch.get().to_be_bytes(),
                gateway.as_bytes(),
                &incarnation.get().to_be_bytes(),
            ],
        )
    }
}

/// Names a payee of a share under one package_epoch: operator, BaseStation or gateway id.
pub(crate) type PayeeKey = (PackageId, PackageEpoch, Share, [u8; 16]);

/// What a payee of a carriage share carried and received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PayeeRow {
    /// Bytes carried.
    pub bytes: Bytes,
    /// Units those bytes are rated at, dust included; paid unless the payee is zero.
    pub units: Units,
}

struct_codec!(PayeeRow { bytes, units });

impl Row for PayeeRow {
    type Key = PayeeKey;
    const SPACE: Space = Space::Rows;

    fn key((package, epoch, share, payee): &PayeeKey) -> Vec<u8> {
        let mut out = payee_prefix(package, *epoch, *share);
        out.extend_from_slice(payee);
        out
    }
}

/// Prefix of the rows of all payees of one share.
pub(crate) fn payee_prefix(package: &PackageId, epoch: PackageEpoch, share: Share) -> Vec<u8> {
    join(
        b'y',
        &[
            package.as_bytes(),
            &epoch.get().to_be_bytes(),
            &share.to_bytes(),
        ],
    )
}
