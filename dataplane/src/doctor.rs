//! Which packet back ends this machine lets a data plane use, and what to do about the others.
//!
//! Each answer comes from trying the real thing ([`qlink_io::probe`]). The JSON of a [`Backend`] is
//! described by `doctor.schema.json`.

use qlink_io::probe::{Availability, BackEnd};
use serde::Serialize;

use crate::config::{ConfigError, DataplaneConfig};
use crate::ports::{N3Backend, choose};

/// One back end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Its name.
    pub backend: &'static str,
    /// Whether it works here and now, for this user.
    pub usable: bool,
    /// What it is for, or why it does not work.
    pub why: String,
    /// What would make it usable; `None` where nothing is to do.
    pub fix: Option<&'static str>,
}

/// What `auto` takes for a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Auto {
    /// The back end of N3.
    pub backend: &'static str,
    /// Faster ones that are not taken, the fastest first.
    pub passed_over: Vec<NotTaken>,
}

/// A faster back end that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotTaken {
    /// Its name.
    pub backend: &'static str,
    /// Why not.
    pub why: String,
}

/// What `auto` takes here and now for `config`, whatever its `backend` says.
///
/// # Errors
///
/// As [`choose`].
pub fn auto(config: &DataplaneConfig) -> Result<Auto, ConfigError> {
    let config = DataplaneConfig {
        backend: N3Backend::Auto,
        ..config.clone()
    };
    let choice = choose(&config)?;
    let not_taken = choice.passed_over.into_iter();
    Ok(Auto {
        backend: choice.backend.name(),
        passed_over: not_taken
            .map(|passed| NotTaken {
                backend: passed.backend.name(),
                why: passed.why,
            })
            .collect(),
    })
}

/// Those that ask the system, in the order of the table.
const ASKED: [(BackEnd, &str); 6] = [
    (
        BackEnd::Udp,
        "n3, and n6_local: a GTP-U endpoint without privileges",
    ),
    (BackEnd::Tun, "n6_tun: the kernel routes to origins"),
    (
        BackEnd::Packet,
        "table packet: a tap that meters another gateway's N3 and forwards nothing",
    ),
    (
        BackEnd::Xdp,
        "table xdp: n3, and n6 in xdp.n6, by a queue for each worker",
    ),
    (
        BackEnd::Uring,
        "n3 as udp, no faster: taken only where it is named",
    ),
    (
        BackEnd::Dpdk,
        "table dpdk: n3, and n6 in dpdk.n6, without the kernel",
    ),
];

/// Every back end, the unprivileged ones first.
#[must_use]
pub fn backends() -> Vec<Backend> {
    let always = [
        ("mem", "frames from memory; for benches and tests"),
        ("pcap", "capture files (`qlink replay`)"),
    ];
    let always = always.map(|(backend, why)| Backend {
        backend,
        usable: true,
        why: why.to_owned(),
        fix: None,
    });
    let asked = ASKED
        .iter()
        .map(|(backend, purpose)| judge(*backend, purpose));
    always.into_iter().chain(asked).collect()
}

fn judge(backend: BackEnd, purpose: &str) -> Backend {
    let (usable, why, fix) = match backend.probe() {
        Availability::Usable => (true, purpose.to_owned(), None),
        Availability::Unusable(obstacle) => {
            let error = obstacle.error.map(|error| format!(": {error}"));
            let why = format!("{}{}", obstacle.reason, error.unwrap_or_default());
            (false, why, Some(obstacle.fix))
        }
    };
    Backend {
        backend: backend.name(),
        usable,
        why,
        fix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_usable_says_why_and_what_helps() {
        let all = backends();

        assert_eq!(all.len(), 8);
        for backend in all {
            assert!(!backend.why.is_empty(), "{backend:?}");
            assert_eq!(backend.usable, backend.fix.is_none(), "{backend:?}");
        }
    }
}
