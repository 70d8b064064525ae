//! The four ways in which demo and tests cheat, as scripts.
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::script::{ConnectionScript, FetchScript, Play, RequestScript};

/// Genuine bytes before the foreign tail. Source: the issue, "after 1 MB of genuine film".
const GENUINE_BEFORE_TAIL: u64 = 1_000_000;

/// How long a fake retransmission may pause, in ms. Chosen: many times the origin's pace of 1 ms.
const FAKE_QUIET_MS: u32 = 150;

/// How a cheater dresses other traffic as the film.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheatMode {
    /// A foreign body under the film's URL and `Content-Range`.
    ForeignBody,
    /// Genuine film, then foreign bytes as retransmissions of verified offsets.
    FakeRetransmit,
    /// Payload hidden in request heads and bodies, beside genuine film.
    UplinkPayload,
    /// Foreign bytes after 1 MB of genuine film in the same body.
    ForeignTail,
}

impl CheatMode {
    /// All modes, in the order in which cheaters rotate through them.
    pub const ALL: [Self; 4] = [
        Self::ForeignBody,
        Self::FakeRetransmit,
        Self::UplinkPayload,
        Self::ForeignTail,
    ];

    /// The mode of the `index`th cheater, from 0.
    #[must_use]
    pub const fn of_cheater(index: usize) -> Self {
        match index % 4 {
            0 => Self::ForeignBody,
            1 => Self::FakeRetransmit,
            2 => Self::UplinkPayload,
            _ => Self::ForeignTail,
        }
    }

    /// The cheater's job: `path` names a film of `film_size` bytes at `origin`.
    #[must_use]
    pub fn script(
        self,
        viewer: Ipv4Addr,
        origin: SocketAddrV4,
        path: &str,
        film_size: u64,
    ) -> FetchScript {
        let get = RequestScript::get(path);
        let part = RequestScript::part(path, 0, film_size);
        let connection = match self {
            Self::ForeignBody => requests([RequestScript {
                play: Some(Play::ForeignBody),
                ..part
            }]),
            Self::ForeignTail => {
                let play = Some(Play::ForeignTail {
                    after: GENUINE_BEFORE_TAIL.min(film_size / 2),
                });
                requests([RequestScript { play, ..get }])
            }
            Self::FakeRetransmit => {
                let play = Some(Play::FakeRetransmit {
                    bytes: 300_000.min(film_size),
                });
                let connection = requests([RequestScript { play, ..get }]);
                ConnectionScript {
                    quiet_ms: FAKE_QUIET_MS,
                    ..connection
                }
            }
            Self::UplinkPayload => uplink_payload(path, film_size),
        };
        FetchScript::new(viewer, origin, vec![connection])
    }
}

fn uplink_payload(path: &str, film_size: u64) -> ConnectionScript {
    let half = film_size / 2;
    let post = |head, body| RequestScript {
        method: "POST".to_owned(),
        hidden_head_bytes: head,
        body_bytes: body,
        ..RequestScript::get(path)
    };
    requests([
        RequestScript {
            hidden_head_bytes: 3_000,
            ..RequestScript::part(path, 0, half)
        },
        post(0, 100_000),
        RequestScript {
            hidden_head_bytes: 20_000,
            ..RequestScript::part(path, half, film_size)
        },
        post(12_000, 50_000),
    ])
}

fn requests(requests: impl Into<Vec<RequestScript>>) -> ConnectionScript {
    ConnectionScript {
        requests: requests.into(),
        ..ConnectionScript::default()
    }
}
