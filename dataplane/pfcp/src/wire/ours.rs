//! Values of our own IEs, which bear the enterprise number of the [`super::Codec`].

use qlink_types::ids::{ContentId, PackageId};

use super::defect::Fault;
use super::ie::{Octets, Value, Writer};
use crate::model::VolumeKind;

impl Value for ContentId {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        octets.array().map(Self::new)
    }
    fn write(&self, out: &mut Writer) {
        out.bytes(self.as_bytes());
    }
}

impl Value for PackageId {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        octets.array().map(Self::new)
    }
    fn write(&self, out: &mut Writer) {
        out.bytes(self.as_bytes());
    }
}

impl Value for VolumeKind {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        match octets.u8()? {
            0 => Ok(Self::Network),
            1 => Ok(Self::Proven),
            2 => Ok(Self::Charged),
            _ => Err(Fault::Incorrect),
        }
    }
    fn write(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Network => 0,
            Self::Proven => 1,
            Self::Charged => 2,
        });
    }
}
