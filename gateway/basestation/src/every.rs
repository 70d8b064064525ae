//! Lengths of time in the configuration, with their unit.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time: `"30s"`, `"10min"`, `"24h"`, `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Every(pub Duration);

const UNITS: [(&str, u64); 4] = [("s", 1), ("min", 60), ("h", 3_600), ("d", 86_400)];

fn seconds(text: &str) -> Option<u64> {
    UNITS.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        number.checked_mul(*factor)
    })
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let seconds = seconds(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("'{text}' is no time such as \"10min\" or \"24h\""))
        })?;
        Ok(Self(Duration::from_secs(seconds)))
    }
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}s", self.0.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        for (text, seconds) in [
            ("30s", 30),
            ("10min", 600),
            ("24h", 86_400),
            ("7d", 604_800),
        ] {
            let every: Every = serde_json::from_value(text.into()).unwrap();
            assert_eq!(every.0.as_secs(), seconds);
            let again = serde_json::from_value(serde_json::to_value(every).unwrap());
            assert_eq!(every, again.unwrap());
        }
        for text in ["", "10", "10m", "-1s", "1.5h", "99999999999999999999s"] {
            assert!(
                serde_json::from_value::<Every>(text.into()).is_err(),
                "{text}"
            );
        }
    }
}
