//! How long a worker leaves packets where they are because another one cannot take them.
//!
//! Packets wait better in front of a port, where there is much room, than they are dropped between
//! two workers: a worker that was not scheduled for some milliseconds catches up. But one that is
//! overloaded must not hold up the sessions of all others, so the time is limited; what is over it
//! is dropped for [`HandoverFull`](qlink_meter::DropReason::HandoverFull) again.

/// Over this time the patience is counted (chosen: some turns of a scheduler).
const WINDOW_NS: u64 = 100_000_000;

/// How much of it a worker may wait (chosen: two time slices of a busy machine, and no more than a
/// fifth of a worker).
const PATIENCE_NS: u64 = 20_000_000;

/// What is left of a worker's patience.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    began_ns: u64,
    spent_ns: u64,
    /// Since when it waits, or when it was asked last.
    since_ns: Option<u64>,
}

impl Patience {
    /// Whether to wait, at monotonic time `now_ns`; `room`: all others have room.
    #[inline]
    pub(crate) fn waits(&mut self, room: bool, now_ns: u64) -> bool {
        if room && self.since_ns.is_none() {
            return false;
        }
        self.spend(room, now_ns)
    }

    #[cold]
    fn spend(&mut self, room: bool, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.began_ns) >= WINDOW_NS {
            (self.began_ns, self.spent_ns) = (now_ns, 0);
            self.since_ns = self.since_ns.map(|_| now_ns);
        }
        if let Some(since_ns) = self.since_ns {
            let spent_ns = now_ns.saturating_sub(since_ns);
            self.spent_ns = self.spent_ns.saturating_add(spent_ns);
        }
        let waits = !room && self.spent_ns < PATIENCE_NS;
        self.since_ns = waits.then_some(now_ns);
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_room_nobody_waits() {
        let mut patience = Patience::default();

        assert!((0..1_000).all(|step| !patience.waits(true, step * 1_000_000)));
    }

    #[test]
    fn a_worker_waits_a_fifth_of_its_time_at_most() {
        let mut patience = Patience::default();

        let waited = (0..1_000).filter(|step| patience.waits(false, (1 << 40) + step * 1_000_000));

        // Ten windows, each with the step that found the patience at its end.
        let waited = waited.count();
        assert!((200..=210).contains(&waited), "{waited}");
    }

    #[test]
    fn short_waits_add_up_and_time_between_them_does_not_count() {
        let mut patience = Patience::default();
        let (mut now, mut waited) = (1 << 40, 0);

        // 90 ms without need for a wait in each window.
        for _ in 0..9 {
            now += 10_000_000;
            assert!(!patience.waits(true, now));
            waited += u32::from(patience.waits(false, now));
            now += 1_000_000;
            assert!(!patience.waits(true, now));
        }

        assert_eq!(waited, 9);
    }
}
