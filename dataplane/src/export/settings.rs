//! The `[ipfix]` table of the configuration.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::elements::REVERSE_PEN;
use crate::config::ConfigError;

/// Shortest and longest interval, in milliseconds.
const INTERVAL_MS: (u32, u32) = (100, 3_600_000);

/// A length of time with its unit: `"200ms"`, `"10s"`, `"5min"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let units = [("ms", 1), ("min", 60_000), ("s", 1_000)];
        let millis = units.iter().find_map(|(unit, factor)| {
            let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            number.checked_mul(*factor)
        });
        millis
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| {
                serde::de::Error::custom(format!("'{text}' is no time such as \"200ms\" or \"5s\""))
            })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", self.0.as_millis()))
    }
}

/// Where counters are exported to, as IPFIX over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpfixConfig {
    /// The collector, for example `127.0.0.1:4739`.
    pub collector: SocketAddr,
    /// How often counters that changed are sent, 100 ms to 1 h. `"10s"`.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// How often templates, and counters that did not change, are sent again: UDP loses both.
    /// `"60s"`.
    #[serde(default = "default_refresh")]
    pub refresh: Span,
    /// The private enterprise number of our own elements. There is no default: nobody has
    /// assigned one to this product, and using another owner's number would mislead collectors.
    /// Take your company's (<https://www.iana.org/assignments/enterprise-numbers>), or for a test
    /// network 32473, which is reserved for examples (RFC 5612).
    pub pen: u32,
    /// The observation domain of this data plane, unique among those of one exporter address.
    /// Default 1; 0 means "no particular one".
    #[serde(default = "default_domain")]
    pub observation_domain: u32,
}

const fn default_interval() -> Span {
    Span(Duration::from_secs(10))
}

const fn default_refresh() -> Span {
    Span(Duration::from_secs(60))
}

const fn default_domain() -> u32 {
    1
}

impl IpfixConfig {
    /// # Errors
    ///
    /// The first [`ConfigError`].
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let millis = |span: Span| u32::try_from(span.0.as_millis()).unwrap_or(u32::MAX);
        let (min, max) = INTERVAL_MS;
        for (key, value) in [
            ("ipfix.interval in ms", millis(self.interval)),
            ("ipfix.refresh in ms", millis(self.refresh)),
        ] {
            if value < min || value > max {
                return Err(ConfigError::Range {
                    key,
                    value,
                    min,
                    max,
                });
            }
        }
        if self.pen == 0 || self.pen == REVERSE_PEN {
            return Err(ConfigError::Enterprise { value: self.pen });
        }
        if self.collector.port() == 0 || self.collector.ip().is_unspecified() {
            return Err(ConfigError::Address {
                key: "ipfix.collector",
                value: self.collector,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pen: u32, interval: &str) -> serde_json::Value {
        serde_json::json!({ "collector": "127.0.0.1:4739", "pen": pen, "interval": interval })
    }

    #[test]
    fn an_enterprise_number_is_required_and_not_that_of_reverse_elements() {
        let mut without = config(1, "10s");
        without.as_object_mut().unwrap().remove("pen");
        assert!(serde_json::from_value::<IpfixConfig>(without).is_err());

        for wrong in [0, REVERSE_PEN] {
            let config: IpfixConfig = serde_json::from_value(config(wrong, "10s")).unwrap();
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(&wrong.to_string()), "{error}");
        }
    }

    #[test]
    fn intervals_have_units_and_bounds() {
        let parse = |text| serde_json::from_value::<IpfixConfig>(config(32_473, text));

        assert_eq!(parse("10s").unwrap().interval.0, Duration::from_secs(10));
        assert_eq!(parse("2min").unwrap().interval.0, Duration::from_mins(2));
        assert!(parse("10").is_err());
        assert!(parse("1ms").unwrap().validate().is_err());
        assert!(parse("10s").unwrap().validate().is_ok());
    }
}
