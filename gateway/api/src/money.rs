//! Money as APIs show it.

use qlink_types::units::Units;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An amount of QLC: `{"asset":"QLC","scale":8,"units":"10000000"}` is 0.1 QLC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Always QLC.
    pub asset: Asset,
    /// Decimal places of one QLC: 8.
    pub scale: u8,
    /// Amount in units of 10^-8 QLC.
    #[schema(value_type = String, example = "10000000")]
    pub units: Units,
}

/// Assets that amounts are stated in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Asset {
    /// QLC.
    #[serde(rename = "QLC")]
    Qlc,
}

impl From<Units> for Money {
    fn from(units: Units) -> Self {
        Self {
            asset: Asset::Qlc,
            scale: 8,
            units,
        }
    }
}
