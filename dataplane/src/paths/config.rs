//! The table `paths` of a data plane's configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::export::Span;

/// How paths to GTP-U peers are watched. Every key is one of the TOML file; without the table the
/// defaults hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PathsConfig {
    /// How often a peer is asked, 100 ms to 1 h; a new one for the first time after one to two of
    /// them. `"60s"`, and in an operator's network not less
    /// (TS 29.281 §7.2.1).
    pub interval: Span,
    /// How long an answer may take until the request is sent again, 10 ms to 1 min; not longer
    /// than `interval`. `"3s"` (T3-RESPONSE).
    pub t3: Span,
    /// How often a request is sent until the path has failed, 1 to 10. 3 (N3-REQUESTS).
    pub n3: u8,
    /// Most peers that are watched, 0 to 65536; 0: none. The rest is counted. 1024.
    pub max_peers: u32,
}

impl Default for PathsConfig {
    fn default() -> Self {
        Self {
            interval: Span(Duration::from_secs(60)),
            t3: Span(Duration::from_secs(3)),
            n3: 3,
            max_peers: 1024,
        }
    }
}

impl PathsConfig {
    /// # Errors
    ///
    /// The first [`ConfigError`].
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let millis = |span: Span| u32::try_from(span.0.as_millis()).unwrap_or(u32::MAX);
        let interval = millis(self.interval);
        let ranges = [
            ("paths.interval in ms", interval, 100, 3_600_000),
            ("paths.t3 in ms", millis(self.t3), 10, interval.min(60_000)),
            ("paths.n3", self.n3.into(), 1, 10),
            ("paths.max_peers", self.max_peers, 0, 1 << 16),
        ];
        for (key, value, min, max) in ranges {
            if value < min || value > max {
                return Err(ConfigError::Range {
                    key,
                    value,
                    min,
                    max,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_not_take_longer_than_the_interval() {
        let config = PathsConfig {
            interval: Span(Duration::from_secs(1)),
            ..PathsConfig::default()
        };

        let error = config.validate().unwrap_err();

        assert_eq!(
            error.to_string(),
            "paths.t3 in ms is 3000, allowed is 10 to 1000"
        );
        assert_eq!(PathsConfig::default().validate(), Ok(()));
    }
}
