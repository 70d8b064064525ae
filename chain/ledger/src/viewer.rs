//! What one viewer has used and earned of one package.

use qlink_types::codec::List;
use qlink_types::ids::{GatewayId, PackageId, ViewerKey};
use qlink_types::record::GradedBytes;
use qlink_types::struct_codec;
use qlink_types::units::{Bytes, Incarnation, PackageEpoch, Units};
use serde::{Deserialize, Serialize};

use crate::row::{Row, join};
use crate::state::Space;

/// Most counters (gateway and incarnation) of one viewer under one package_epoch.
pub const MAX_COMPONENTS: usize = 256;

/// One cumulative counter of a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Who counted.
    pub gateway: GatewayId,
    /// Since when.
    pub incarnation: Incarnation,
    /// How much, by grade.
    pub bytes: GradedBytes,
}

struct_codec!(Component {
    gateway,
    incarnation,
    bytes
});

/// A viewer of a package; the zero viewer stands for the package's `unclaimed` line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ViewerRow {
    /// Bytes under earlier terms.
    pub settled_bytes: Bytes,
    /// Units earned under earlier terms, and every unit of dust.
    pub settled_units: Units,
    /// Units moved to accounts so far.
    pub claimed: Units,
    /// The terms that the following fields belong to.
    pub package_epoch: PackageEpoch,
    /// Bytes under them: the sum of the components.
    pub bytes: Bytes,
    /// What those bytes are rated at.
    pub units: Units,
    /// The counters.
    pub components: List<Component, MAX_COMPONENTS>,
}

struct_codec!(ViewerRow {
    settled_bytes,
    settled_units,
    claimed,
    package_epoch,
    bytes,
    units,
    components,
});

impl Row for ViewerRow {
    type Key = (PackageId, ViewerKey);
    const SPACE: Space = Space::Rows;

    fn key((package, viewer): &Self::Key) -> Vec<u8> {
        join(b'v', &[package.as_bytes(), viewer.as_bytes()])
    }
}

/// Prefix of the rows of all viewers of `package`.
pub(crate) fn prefix(package: &PackageId) -> Vec<u8> {
    join(b'v', &[package.as_bytes()])
}

impl ViewerRow {
    /// Bytes under all terms.
    #[must_use]
    pub const fn bytes_total(&self) -> Bytes {
        Bytes::new(self.settled_bytes.get().saturating_add(self.bytes.get()))
    }

    /// Units earned so far, claimed or not.
    #[must_use]
    pub const fn earned(&self) -> Units {
        Units::new(self.settled_units.get().saturating_add(self.units.get()))
    }

    /// Units that a claim can move now.
    #[must_use]
    pub const fn claimable(&self) -> Units {
        self.earned().saturating_sub(self.claimed)
    }

    /// Moves what belongs to earlier terms aside, so that the counters are those of `current`.
    ///
    /// Done when a row is touched, not when terms end: the end of terms then writes only the rows
    /// that receive dust.
    pub(crate) fn enter(&mut self, current: PackageEpoch) {
        if self.package_epoch < current {
            self.settled_bytes = self.bytes_total();
            self.settled_units = self.earned();
            self.bytes = Bytes::ZERO;
            self.units = Units::ZERO;
            self.components = List::new();
            self.package_epoch = current;
        }
    }
}
