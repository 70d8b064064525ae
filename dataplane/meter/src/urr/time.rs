//! What time does to a usage rule.

use qlink_pfcp::model::{Split, SplitSide, Trigger, Triggers};

use super::limits::QuotaStop;
use super::marks::Mark;
use super::pending::PENDING_MAX;
use super::state::{SECOND, UrrState, later};

/// What comes due in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Split,
    Idle,
    Period,
    TimeThreshold,
    TimeQuota,
    Holding,
    Validity,
}

impl UrrState {
    /// Takes the rule through everything that came due up to `now_ns`, in order.
    pub(super) fn advance(&mut self, now_ns: u64) {
        // Each step but a split consumes its own cause; splits are a list.
        let steps = self.rule.monitoring.len().saturating_add(16);
        for _ in 0..steps {
            match self.next_due() {
                Some((at_ns, due)) if at_ns <= now_ns => self.happen(due, at_ns, now_ns),
                _ => break,
            }
        }
        self.count_time(now_ns);
    }

    /// When the rule has to be looked at next.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.next_due().map(|(at_ns, _)| at_ns)
    }

    fn next_due(&self) -> Option<(u64, Due)> {
        let all = [
            (self.split_at(), Due::Split),
            (self.idle_at(), Due::Idle),
            (self.period_at(), Due::Period),
            (self.time_threshold_at(), Due::TimeThreshold),
            (self.time_quota_at(), Due::TimeQuota),
            (self.holding_at(), Due::Holding),
            (self.validity_at(), Due::Validity),
        ];
        let due = all.into_iter().filter_map(|(at, due)| Some((at?, due)));
        // The first of equals: a split before what ends at the same moment.
        due.min_by_key(|(at, _)| *at)
    }

    fn split_at(&self) -> Option<u64> {
        let split = self
            .rule
            .monitoring
            .get(usize::from(self.marks.splits_passed))?;
        Some(split.at.get().saturating_mul(SECOND))
    }

    fn idle_at(&self) -> Option<u64> {
        self.marks.traffic.then(|| self.time_end()).flatten()
    }

    fn period_at(&self) -> Option<u64> {
        let wanted = self.rule.triggers.has(Trigger::Periodic);
        (wanted && self.marks.period_ns != 0).then_some(self.marks.period_ns)
    }

    fn time_threshold_at(&self) -> Option<u64> {
        let limit = self
            .marks
            .limits
            .time_threshold
            .filter(|limit| *limit > 0)?;
        let free = !self.marks.owed.has(Trigger::TimeThreshold)
            && self.rule.triggers.has(Trigger::TimeThreshold);
        let at = self.time_reaches(limit, &self.marks.threshold_from)?;
        free.then_some(at)
    }

    fn time_quota_at(&self) -> Option<u64> {
        let limit = self.marks.limits.time_quota?;
        let open = !self.marks.stops.has(QuotaStop::Time);
        open.then(|| self.time_reaches(limit, &self.marks.quota_from))?
    }

    /// When the measured time will have grown by `seconds` since `mark`, if it goes on that long.
    fn time_reaches(&self, seconds: u32, mark: &Mark) -> Option<u64> {
        let from = self.counters.counted_ns;
        if from == 0 || self.rule.inactive || !self.rule.method.duration {
            return None;
        }
        let used = self.counters.active_ns.saturating_sub(mark.active_ns);
        let left = u64::from(seconds)
            .saturating_mul(SECOND)
            .saturating_sub(used);
        let at = from.saturating_add(left);
        self.time_end().is_none_or(|end| at <= end).then_some(at)
    }

    fn holding_at(&self) -> Option<u64> {
        let holding = self.rule.quota_holding.filter(|seconds| *seconds > 0)?;
        let open =
            self.marks.limits.has_quota() && self.marks.stops.is_empty() && !self.rule.inactive;
        let last = self.counters.last_packet_ns.max(self.marks.granted_ns);
        open.then(|| later(last, holding))
    }

    fn validity_at(&self) -> Option<u64> {
        let validity = self.rule.quota_validity.filter(|seconds| *seconds > 0)?;
        let open = self.marks.limits.has_quota() && !self.marks.stops.has(QuotaStop::Validity);
        open.then(|| later(self.marks.granted_ns, validity))
    }

    fn happen(&mut self, due: Due, at_ns: u64, now_ns: u64) {
        self.count_time(at_ns);
        self.dirty.marks = true;
        let trigger = match due {
            Due::Split => return self.split(at_ns),
            Due::Idle => {
                self.marks.traffic = false;
                Trigger::Stop
            }
            Due::Period => {
                self.marks.period_ns = self.next_period(now_ns);
                Trigger::Periodic
            }
            Due::TimeThreshold => Trigger::TimeThreshold,
            Due::TimeQuota => self.exhaust(QuotaStop::Time, at_ns),
            Due::Holding => self.exhaust(QuotaStop::Holding, at_ns),
            Due::Validity => self.exhaust(QuotaStop::Validity, at_ns),
        };
        self.report_wanted(Triggers::NONE.with(trigger), at_ns);
    }

    fn exhaust(&mut self, stop: QuotaStop, at_ns: u64) -> Trigger {
        self.marks.stops.add(stop);
        self.rest_if_stopped(at_ns);
        stop.trigger()
    }

    /// The next end of a period behind `now_ns`; ends that nobody looked at are left out.
    fn next_period(&self, now_ns: u64) -> u64 {
        let period = u64::from(self.rule.period.unwrap_or(0)).saturating_mul(SECOND);
        if period == 0 {
            return 0;
        }
        let late = now_ns.saturating_sub(self.marks.period_ns);
        let missed = late.checked_div(period).unwrap_or(0).saturating_add(1);
        let ahead = missed.saturating_mul(period);
        self.marks.period_ns.saturating_add(ahead)
    }

    /// A monitoring time passes: usage before it waits for the next report, the limits that follow
    /// it hold from now on.
    fn split(&mut self, at_ns: u64) {
        let place = usize::from(self.marks.splits_passed);
        let Some(split) = self.rule.monitoring.get(place).copied() else {
            return;
        };
        self.marks.splits_passed = self.marks.splits_passed.saturating_add(1);
        if self.rule.inactive {
            return;
        }
        // Without room the usage stays in the running measurement: later, but not lost.
        if self.waiting() < PENDING_MAX.saturating_sub(2) {
            let triggers = Triggers::NONE.with(Trigger::MonitoringTime);
            self.push_usage(triggers, at_ns, Some(SplitSide::Before));
            self.marks.after_split = true;
        }
        // The next one needs a place: what waits goes out by itself.
        if self.waiting() >= PENDING_MAX.saturating_sub(2) {
            self.release();
        }
        self.follow(&split, at_ns);
    }

    fn follow(&mut self, split: &Split, at_ns: u64) {
        let now = Mark::at(&self.counters);
        let marks = &mut self.marks;
        if split.volume_threshold.is_some() {
            marks.limits.volume_threshold = split.volume_threshold;
            marks.threshold_from.uplink = now.uplink;
            marks.threshold_from.downlink = now.downlink;
        }
        if split.time_threshold.is_some() {
            marks.limits.time_threshold = split.time_threshold;
            marks.threshold_from.active_ns = now.active_ns;
        }
        if split.volume_quota.is_some() {
            self.grant_volume(split.volume_quota, at_ns);
        }
        if split.time_quota.is_some() {
            self.grant_time(split.time_quota, at_ns);
        }
    }

    /// Counts time up to `now_ns`, but not beyond the inactivity time behind the last packet.
    ///
    /// Source: TS 29.244 §5.2.2.2, inactivity detection time.
    pub(super) fn count_time(&mut self, now_ns: u64) {
        let end = self.time_end().map_or(now_ns, |end| end.min(now_ns));
        let from = self.counters.counted_ns;
        if from == 0 || end <= from || self.rule.inactive {
            return;
        }
        let passed = end.saturating_sub(from);
        self.counters.active_ns = self.counters.active_ns.saturating_add(passed);
        self.counters.counted_ns = end;
        self.dirty.counters = true;
    }

    /// When time stops to count without another packet; `None`: never.
    fn time_end(&self) -> Option<u64> {
        let pause = self.rule.inactivity.filter(|pause| *pause > 0)?;
        let last = self.counters.last_packet_ns;
        (last != 0).then(|| later(last, pause))
    }

    /// Time does not count while packets are stopped.
    pub(super) fn rest_if_stopped(&mut self, now_ns: u64) {
        if !self.marks.stops.is_empty() && self.counters.counted_ns != 0 {
            self.count_time(now_ns);
            self.counters.counted_ns = 0;
            self.dirty.counters = true;
        }
    }
}
