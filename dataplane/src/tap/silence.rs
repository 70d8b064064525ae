//! Learned sessions that have gone silent. Pure: who calls has the clock and the counters.

use std::collections::BTreeMap;
use std::time::Duration;

use qlink_types::ids::SessionId;

/// What was seen of each learned session, and since when it has not changed.
///
/// A tap sees no signalling, so it is not told when a session ends; without an end of their own,
/// learned sessions would fill the table for good, and a TEID that the gateway gives to another
/// subscriber would stay that of the first one.
#[derive(Debug)]
pub(super) struct Silence {
    idle: Duration,
    seen: BTreeMap<SessionId, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    network_bytes: u64,
    since: Duration,
}

impl Silence {
    /// Sessions end after `idle` without a packet.
    pub(super) const fn new(idle: Duration) -> Self {
        Self {
            idle,
            seen: BTreeMap::new(),
        }
    }

    /// How long one may wait until the next look: a session ends at most a quarter of `idle` late.
    pub(super) fn pause(&self) -> Duration {
        self.idle / 4
    }

    /// Takes the learned sessions that stand with their network bytes; those that are to end. They
    /// are named again until they are gone.
    pub(super) fn look(
        &mut self,
        now: Duration,
        standing: impl IntoIterator<Item = (SessionId, u64)>,
    ) -> Vec<SessionId> {
        let before = std::mem::take(&mut self.seen);
        let mut silent = Vec::new();
        for (session, network_bytes) in standing {
            let known = before.get(&session).copied();
            let seen = known
                .filter(|seen| seen.network_bytes == network_bytes)
                .unwrap_or(Seen {
                    network_bytes,
                    since: now,
                });
            if now.saturating_sub(seen.since) >= self.idle {
                silent.push(session);
            }
            self.seen.insert(session, seen);
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn session(number: u8) -> SessionId {
        SessionId::new([number; 16])
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_session_ends_once_nothing_of_it_was_seen_for_the_whole_time() {
        let mut silence = Silence::new(IDLE);

        assert_eq!(silence.look(at(10), [(session(1), 5)]), []);
        assert_eq!(silence.look(at(69), [(session(1), 5)]), []);
        assert_eq!(silence.look(at(70), [(session(1), 5)]), [session(1)]);
    }

    #[test]
    fn a_byte_starts_the_time_anew() {
        let mut silence = Silence::new(IDLE);
        silence.look(at(0), [(session(1), 5), (session(2), 5)]);

        silence.look(at(50), [(session(1), 6), (session(2), 5)]);

        let both = [(session(1), 6), (session(2), 5)];
        assert_eq!(silence.look(at(60), both), [session(2)]);
        assert_eq!(silence.look(at(110), both), [session(1), session(2)]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut silence = Silence::new(IDLE);
        silence.look(at(0), [(session(1), 0)]);
        silence.look(at(30), []);

        assert_eq!(silence.look(at(61), [(session(1), 0)]), []);
        assert_eq!(silence.seen.len(), 1);
    }
}
