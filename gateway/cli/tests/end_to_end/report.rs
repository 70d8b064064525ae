//! What `qlink demo --json` prints, strictly: an unknown or missing member fails the test.

use std::collections::BTreeMap;

use serde::Deserialize;

/// An integer in machine JSON: a string of decimal digits without leading zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Count(pub(crate) u64);

impl TryFrom<String> for Count {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number: u64 = text
            .parse()
            .map_err(|_| format!("{text:?} is no integer"))?;
        if number.to_string() == text {
            Ok(Self(number))
        } else {
            Err(format!("{text:?} is not how {number} is written"))
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) package: Package,
    pub(crate) viewers: Vec<Viewer>,
    pub(crate) cheaters: Vec<Cheater>,
    pub(crate) totals: Totals,
    pub(crate) carriage: Carriage,
    pub(crate) chain: Chain,
    pub(crate) settlement: Settlement,
    pub(crate) dataplane: Dataplane,
    pub(crate) asset: Asset,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) content: String,
    pub(crate) size: Count,
    pub(crate) bytes: Count,
    pub(crate) reward_units: Count,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Viewer {
    pub(crate) session: Option<String>,
    pub(crate) refused: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) teid: Option<Count>,
    pub(crate) address: Option<String>,
    pub(crate) viewer_key: String,
    pub(crate) account: String,
    pub(crate) content_bytes: Count,
    pub(crate) reward_units: Count,
    pub(crate) user_charged_bytes: Count,
    pub(crate) retransmit_bytes: Count,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cheater {
    pub(crate) session: String,
    pub(crate) peer: String,
    pub(crate) teid: Count,
    pub(crate) address: String,
    pub(crate) mode: String,
    pub(crate) foreign_bytes: Count,
    pub(crate) sponsored_bytes: Count,
    pub(crate) user_charged_bytes: Count,
    pub(crate) charged_units: Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Totals {
    pub(crate) content_bytes: Count,
    pub(crate) reward_units: Count,
    pub(crate) unclaimed_units: Count,
    pub(crate) refund_units: Count,
    pub(crate) dust_units: Count,
    pub(crate) fees_units: Count,
    pub(crate) conservation_violations: Count,
    pub(crate) uncertain_bytes: Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Carriage {
    pub(crate) deposit_units: Count,
    pub(crate) operator_units: Count,
    pub(crate) basestation_units: Count,
    pub(crate) gateway_units: Count,
    pub(crate) refund_units: Count,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    pub(crate) orderer: String,
    pub(crate) validators: Count,
    pub(crate) height: Count,
    pub(crate) final_height: Count,
    pub(crate) state_root: String,
    pub(crate) supply_units: Count,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settlement {
    pub(crate) operator: String,
    pub(crate) state: String,
    pub(crate) units: Count,
    pub(crate) statement_root: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dataplane {
    pub(crate) packets: Count,
    pub(crate) network_bytes: Count,
    pub(crate) drops: BTreeMap<String, Count>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asset {
    pub(crate) token: String,
    pub(crate) registry: String,
    pub(crate) basestation: String,
}
