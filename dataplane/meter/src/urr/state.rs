//! One usage rule at work.

use qlink_pfcp::model::{
    Split, SplitSide, Trigger, Triggers, Urr, UrrChanges, UsageReport, Volume, VolumeKind,
    VolumeLimit,
};

use super::counters::UrrCounters;
use super::limits::{QuotaStop, UrrLimits, passed, reached, union};
use super::marks::{Mark, UrrMarks};
use super::pending::{PENDING_MAX, PendingReport};
use super::session::PacketCount;
use crate::direction::Direction;
use crate::layout::UrrPlace;

/// Nanoseconds of a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// What the running burst adds once its packets are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Running {
    uplink_bytes: u64,
    downlink_bytes: u64,
    uplink_packets: u64,
    downlink_packets: u64,
    dropped_packets: u64,
    dropped_bytes: u64,
}

/// What has to be written to the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dirty {
    pub(super) counters: bool,
    pub(super) marks: bool,
}

/// A usage rule with its counters and marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UrrState {
    pub(super) rule: Urr,
    pub(super) place: UrrPlace,
    pub(super) counters: UrrCounters,
    pub(super) marks: UrrMarks,
    pub(super) dirty: Dirty,
    /// A usage report was made since linked rules were last looked at.
    pub(super) fired: bool,
    running: Running,
    /// Stops that the running burst caused; their reports follow when it is settled.
    stopped: Triggers,
    /// Bytes were proven or charged before a packet left; time and limits are still to be looked at.
    touched: bool,
    /// The first report number that the control plane was not given in this process.
    unsent: u32,
    /// The shortest piece of content that did not fit what is left of the quota, as long as other
    /// pieces were under way that might not have counted.
    short: Option<u64>,
}

impl UrrState {
    pub(super) fn new(rule: Urr, place: UrrPlace, revision: u64, now_ns: u64) -> Self {
        let marks = UrrMarks {
            limits: UrrLimits::of(&rule),
            revision,
            since_ns: now_ns,
            granted_ns: now_ns,
            period_ns: first_period(&rule, now_ns),
            splits_passed: splits_before(&rule.monitoring, now_ns),
            ..UrrMarks::default()
        };
        Self {
            marks,
            ..Self::resumed(rule, place, UrrCounters::default(), UrrMarks::default())
        }
    }

    pub(super) fn resumed(
        rule: Urr,
        place: UrrPlace,
        counters: UrrCounters,
        marks: UrrMarks,
    ) -> Self {
        let first = marks.pending.iter().flatten().next();
        Self {
            unsent: first.map_or(marks.next_sequence, |report| report.sequence),
            rule,
            place,
            counters,
            marks,
            dirty: Dirty::default(),
            fired: false,
            running: Running::default(),
            stopped: Triggers::NONE,
            touched: false,
            short: None,
        }
    }

    /// Bytes that may still be proven before the volume quota is reached; `None` without one.
    pub(super) fn proven_left(&self) -> Option<u64> {
        let quota = self.marks.limits.volume_quota?;
        let (uplink, downlink) = self.volume_since(&self.marks.quota_from);
        let left = |bound: Option<u64>, volume: u64| {
            bound.map_or(u64::MAX, |bound| bound.saturating_sub(volume))
        };
        let total = left(quota.total, uplink.saturating_add(downlink));
        Some(total.min(left(quota.downlink, downlink)))
    }

    /// Bytes that may be pending and still become proven; `u64::MAX` without a quota.
    #[inline]
    pub(super) fn proven_room(&self) -> u64 {
        if self.rule.inactive {
            u64::MAX
        } else if !self.marks.stops.is_empty() {
            0
        } else {
            self.proven_left().unwrap_or(u64::MAX)
        }
    }

    /// A piece of `bytes` new content bytes did not fit [`Self::proven_room`]. Where it would not
    /// even fit once nothing is pending any more, the quota is used up.
    pub(super) fn refuse(&mut self, bytes: u64) {
        if !self.marks.stops.is_empty() {
            return;
        }
        if self.proven_left().is_some_and(|left| left < bytes) {
            self.stop(QuotaStop::Volume);
        } else {
            self.short = Some(self.short.map_or(bytes, |short| short.min(bytes)));
        }
    }

    /// Bytes of a packet that this rule counts when it is sent.
    #[inline]
    const fn share(&self, packet: &PacketCount) -> u64 {
        match self.rule.volume_kind {
            VolumeKind::Network => packet.bytes,
            VolumeKind::Charged => packet.charged,
            VolumeKind::Proven => 0,
        }
    }

    /// Whether the rule has a say in this packet at all.
    #[inline]
    const fn counts(&self, packet: &PacketCount) -> bool {
        !self.rule.inactive
            && match self.rule.volume_kind {
                VolumeKind::Network => true,
                VolumeKind::Charged => packet.charged > 0,
                VolumeKind::Proven => false,
            }
    }

    /// Whether a packet fits what is left of the quotas, the running burst included.
    #[inline]
    pub(super) fn admits(&mut self, packet: &PacketCount) -> bool {
        if !self.counts(packet) {
            return true;
        }
        if !self.marks.stops.is_empty() {
            return false;
        }
        if let Some(quota) = self.marks.limits.volume_quota {
            let (mut uplink, mut downlink) = self.volume_since(&self.marks.quota_from);
            uplink = uplink.saturating_add(self.running.uplink_bytes);
            downlink = downlink.saturating_add(self.running.downlink_bytes);
            match packet.direction {
                Direction::Uplink => uplink = uplink.saturating_add(self.share(packet)),
                Direction::Downlink => downlink = downlink.saturating_add(self.share(packet)),
            }
            if passed(&quota, uplink, downlink) {
                self.stop(QuotaStop::Volume);
                return false;
            }
        }
        if let Some(quota) = self.marks.limits.event_quota
            && !self.marks.traffic
            && self.events_since(&self.marks.quota_from) >= u64::from(quota)
        {
            self.stop(QuotaStop::Event);
            return false;
        }
        true
    }

    /// Stops packets at once; the report follows when the burst is settled.
    fn stop(&mut self, stop: QuotaStop) {
        self.marks.stops.add(stop);
        self.stopped = self.stopped.with(stop.trigger());
        self.dirty.marks = true;
    }

    /// Adds a packet to the running burst.
    #[inline]
    pub(super) const fn expect(&mut self, packet: &PacketCount) {
        if !self.counts(packet) {
            return;
        }
        let bytes = self.share(packet);
        let running = &mut self.running;
        match packet.direction {
            Direction::Uplink => {
                running.uplink_bytes = running.uplink_bytes.saturating_add(bytes);
                running.uplink_packets = running.uplink_packets.saturating_add(1);
            }
            Direction::Downlink => {
                running.downlink_bytes = running.downlink_bytes.saturating_add(bytes);
                running.downlink_packets = running.downlink_packets.saturating_add(1);
            }
        }
    }

    /// Adds the charged bytes of a packet that is part of the running burst already.
    pub(super) const fn charge(&mut self, packet: &PacketCount) {
        if self.rule.inactive {
            return;
        }
        let running = &mut self.running;
        let sum = match packet.direction {
            Direction::Uplink => &mut running.uplink_bytes,
            Direction::Downlink => &mut running.downlink_bytes,
        };
        *sum = sum.saturating_add(packet.charged);
    }

    /// Takes a packet that was not sent out of the running burst again.
    pub(super) const fn retract(&mut self, packet: &PacketCount) {
        if !self.counts(packet) {
            return;
        }
        let bytes = self.share(packet);
        let running = &mut self.running;
        match packet.direction {
            Direction::Uplink => {
                running.uplink_bytes = running.uplink_bytes.saturating_sub(bytes);
                running.uplink_packets = running.uplink_packets.saturating_sub(1);
            }
            Direction::Downlink => {
                running.downlink_bytes = running.downlink_bytes.saturating_sub(bytes);
                running.downlink_packets = running.downlink_packets.saturating_sub(1);
            }
        }
    }

    /// Counts a packet that was dropped on its way to the subscriber.
    pub(super) fn dropped(&mut self, packet: &PacketCount) {
        if packet.direction == Direction::Downlink && !self.rule.inactive {
            let running = &mut self.running;
            running.dropped_packets = running.dropped_packets.saturating_add(1);
            running.dropped_bytes = running.dropped_bytes.saturating_add(packet.bytes);
        }
    }

    /// Counts bytes that are proven or charged already; limits follow with the burst.
    pub(super) fn account(&mut self, direction: Direction, bytes: u64) {
        if self.rule.inactive || bytes == 0 {
            return;
        }
        let counters = &mut self.counters;
        let sum = match direction {
            Direction::Uplink => &mut counters.uplink_bytes,
            Direction::Downlink => &mut counters.downlink_bytes,
        };
        *sum = sum.saturating_add(bytes);
        self.dirty.counters = true;
        self.touched = true;
    }

    /// Whether a burst left something to settle.
    #[inline]
    pub(super) fn is_touched(&self) -> bool {
        self.touched || self.running != Running::default() || !self.stopped.is_empty()
    }

    /// Counts what the burst sent and makes the reports that follow.
    pub(super) fn settle(&mut self, now_ns: u64) {
        self.advance(now_ns);
        let running = std::mem::take(&mut self.running);
        let packets = running
            .uplink_packets
            .saturating_add(running.downlink_packets);
        if packets > 0 || std::mem::take(&mut self.touched) {
            self.see_traffic(now_ns);
        }
        let counters = &mut self.counters;
        let add = u64::saturating_add;
        counters.uplink_bytes = add(counters.uplink_bytes, running.uplink_bytes);
        counters.downlink_bytes = add(counters.downlink_bytes, running.downlink_bytes);
        counters.uplink_packets = add(counters.uplink_packets, running.uplink_packets);
        counters.downlink_packets = add(counters.downlink_packets, running.downlink_packets);
        counters.dropped_packets = add(counters.dropped_packets, running.dropped_packets);
        counters.dropped_bytes = add(counters.dropped_bytes, running.dropped_bytes);
        self.dirty.counters = true;
        self.look_at_limits(now_ns);
    }

    /// Traffic begins or goes on.
    fn see_traffic(&mut self, now_ns: u64) {
        if !self.marks.traffic {
            self.marks.traffic = true;
            self.dirty.marks = true;
            if self.rule.method.event {
                self.counters.events = self.counters.events.saturating_add(1);
            }
            if self.rule.triggers.has(Trigger::Start) {
                self.report_start();
            }
        }
        self.count_time(now_ns);
        self.counters.counted_ns = now_ns;
        self.counters.last_packet_ns = now_ns;
        if self.counters.first_packet_ns == 0 {
            self.counters.first_packet_ns = now_ns;
        }
    }

    fn volume_since(&self, mark: &Mark) -> (u64, u64) {
        let now = &self.counters;
        (
            now.uplink_bytes.saturating_sub(mark.uplink),
            now.downlink_bytes.saturating_sub(mark.downlink),
        )
    }

    const fn events_since(&self, mark: &Mark) -> u64 {
        self.counters.events.saturating_sub(mark.events)
    }

    /// Volume, event and drop limits behind the last count.
    fn look_at_limits(&mut self, now_ns: u64) {
        let limits = self.marks.limits;
        let mut due = std::mem::replace(&mut self.stopped, Triggers::NONE);
        let volume_reached = |limit: Option<VolumeLimit>, mark: &Mark| {
            let (uplink, downlink) = self.volume_since(mark);
            limit.is_some_and(|limit| reached(&limit, uplink, downlink))
        };
        let events_reached = |limit: Option<u32>, mark: &Mark| {
            limit.is_some_and(|limit| self.events_since(mark) >= u64::from(limit))
        };
        let from = &self.marks.threshold_from;
        let threshold = limits.volume_threshold.filter(|limit| !is_zero(limit));
        if volume_reached(threshold, from) {
            due = due.with(Trigger::VolumeThreshold);
        }
        if events_reached(limits.event_threshold.filter(|limit| *limit > 0), from) {
            due = due.with(Trigger::EventThreshold);
        }
        if self.drops_reached() {
            due = due.with(Trigger::DroppedThreshold);
        }
        let short = self.short.zip(self.proven_left());
        let exhausted = volume_reached(limits.volume_quota, &self.marks.quota_from)
            || short.is_some_and(|(short, left)| left < short);
        if exhausted && !self.marks.stops.has(QuotaStop::Volume) {
            self.marks.stops.add(QuotaStop::Volume);
            due = due.with(Trigger::VolumeQuota);
            self.dirty.marks = true;
        }
        self.rest_if_stopped(now_ns);
        self.report_wanted(due, now_ns);
    }

    fn drops_reached(&self) -> bool {
        let Some((packets, bytes)) = self.rule.dropped_threshold else {
            return false;
        };
        let (packets_from, bytes_from) = self.marks.dropped_from;
        let at = |bound: Option<u64>, count: u64| bound.is_some_and(|b| b > 0 && count >= b);
        at(
            packets,
            self.counters.dropped_packets.saturating_sub(packets_from),
        ) || at(
            bytes,
            self.counters.dropped_bytes.saturating_sub(bytes_from),
        )
    }

    pub(super) fn grant_volume(&mut self, quota: Option<VolumeLimit>, now_ns: u64) {
        self.short = None;
        self.marks.limits.volume_quota = quota;
        self.marks.quota_from.uplink = self.counters.uplink_bytes;
        self.marks.quota_from.downlink = self.counters.downlink_bytes;
        self.granted(QuotaStop::Volume, now_ns);
    }

    pub(super) fn grant_time(&mut self, quota: Option<u32>, now_ns: u64) {
        self.marks.limits.time_quota = quota;
        self.marks.quota_from.active_ns = self.counters.active_ns;
        self.granted(QuotaStop::Time, now_ns);
    }

    /// A new quota lets packets pass that its like had stopped.
    fn granted(&mut self, stop: QuotaStop, now_ns: u64) {
        for stop in [stop, QuotaStop::Holding, QuotaStop::Validity] {
            self.marks.stops.remove(stop);
        }
        self.marks.granted_ns = now_ns;
    }

    /// Makes one report of those triggers that the rule wants.
    pub(super) fn report_wanted(&mut self, due: Triggers, now_ns: u64) {
        let wanted = due
            .iter()
            .filter(|trigger| self.rule.triggers.has(*trigger))
            .fold(Triggers::NONE, Triggers::with);
        self.report(wanted, now_ns);
    }

    /// Reports all usage up to now, and what waits for it; remembers the triggers when no place is
    /// free.
    pub(super) fn report(&mut self, triggers: Triggers, now_ns: u64) {
        if triggers.is_empty() {
            return;
        }
        self.dirty.marks = true;
        let last = triggers.has(Trigger::Termination);
        let room = if last {
            PENDING_MAX
        } else {
            PENDING_MAX.saturating_sub(1)
        };
        if self.waiting() >= room {
            self.marks.owed = union(self.marks.owed, triggers);
            return;
        }
        self.count_time(now_ns);
        let triggers = union(triggers, self.marks.owed);
        self.marks.owed = Triggers::NONE;
        let side = self.marks.after_split.then_some(SplitSide::After);
        self.push_usage(triggers, now_ns, side);
        self.marks.after_split = false;
        self.release();
        self.fired = true;
        self.rearm(triggers);
    }

    /// A threshold that was reached counts anew from this report, and so do the other ones.
    ///
    /// Source: TS 29.244 §5.2.2.3.1.
    fn rearm(&mut self, triggers: Triggers) {
        let thresholds = [
            Trigger::VolumeThreshold,
            Trigger::TimeThreshold,
            Trigger::EventThreshold,
        ];
        if thresholds.iter().any(|trigger| triggers.has(*trigger)) {
            self.marks.threshold_from = Mark::at(&self.counters);
        }
        if triggers.has(Trigger::DroppedThreshold) {
            let counters = &self.counters;
            self.marks.dropped_from = (counters.dropped_packets, counters.dropped_bytes);
        }
    }

    /// Lets usage before monitoring times go out.
    pub(super) fn release(&mut self) {
        for report in self.marks.pending.iter_mut().flatten() {
            report.held = false;
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.marks.pending.iter().flatten().count()
    }

    fn push(&mut self, report: PendingReport) {
        let mut places = self.marks.pending.iter_mut();
        if let Some(place) = places.find(|place| place.is_none()) {
            *place = Some(report);
            self.marks.next_sequence = self.marks.next_sequence.wrapping_add(1);
            self.dirty.marks = true;
        }
    }

    /// A report of everything since the last one; it waits for the next one when it lies before a
    /// monitoring time.
    pub(super) fn push_usage(&mut self, triggers: Triggers, now_ns: u64, split: Option<SplitSide>) {
        let (uplink, downlink) = self.volume_since(&self.marks.reported);
        let (up_before, down_before) = self.marks.reported_packets;
        let counters = self.counters;
        let packets = (
            counters.uplink_packets.saturating_sub(up_before),
            counters.downlink_packets.saturating_sub(down_before),
        );
        let active_ns = counters
            .active_ns
            .saturating_sub(self.marks.reported.active_ns);
        let seconds = active_ns.checked_div(SECOND).unwrap_or(0);
        let last = if counters.first_packet_ns == 0 {
            0
        } else {
            counters.last_packet_ns
        };
        self.push(PendingReport {
            sequence: self.marks.next_sequence,
            triggers,
            times: Some((in_seconds(self.marks.since_ns), in_seconds(now_ns))),
            volume: self.rule.method.volume.then(|| Volume {
                uplink,
                downlink,
                packets: self.rule.packets.then_some(packets),
            }),
            duration: (self.rule.method.duration)
                .then(|| u32::try_from(seconds).unwrap_or(u32::MAX)),
            packets_at: (in_seconds(counters.first_packet_ns), in_seconds(last)),
            split,
            held: split == Some(SplitSide::Before),
        });
        let whole = seconds.saturating_mul(SECOND);
        let reported = self.marks.reported.active_ns.saturating_add(whole);
        self.marks.reported = Mark {
            active_ns: reported,
            ..Mark::at(&counters)
        };
        self.marks.reported_packets = (counters.uplink_packets, counters.downlink_packets);
        self.marks.since_ns = now_ns;
        self.counters.first_packet_ns = 0;
        self.dirty.counters = true;
    }

    /// Traffic began: a report without usage. It is left out when no place is free.
    fn report_start(&mut self) {
        if self.waiting() < PENDING_MAX.saturating_sub(1) {
            self.push(PendingReport {
                sequence: self.marks.next_sequence,
                triggers: Triggers::NONE.with(Trigger::Start),
                times: None,
                volume: None,
                duration: None,
                packets_at: (0, 0),
                split: None,
                held: false,
            });
        }
    }

    /// Forgets reports up to a number and makes the one that waited for their place; `false` when
    /// none was known.
    pub(super) fn acknowledge(&mut self, sequence: u32, now_ns: u64) -> bool {
        let mut kept = [None; PENDING_MAX];
        let mut known = false;
        let mut places = kept.iter_mut();
        for report in self.marks.pending.iter().flatten() {
            if !report.held && is_behind(report.sequence, sequence) {
                known = true;
            } else if let Some(place) = places.next() {
                *place = Some(*report);
            }
        }
        self.marks.pending = kept;
        self.dirty.marks |= known;
        let owed = self.marks.owed;
        if known && !owed.is_empty() {
            self.advance(now_ns);
            self.report(owed, now_ns);
        }
        known
    }

    /// Whether the last report was made.
    pub(super) fn has_ended(&self) -> bool {
        let mut pending = self.marks.pending.iter().flatten();
        pending.any(|report| report.triggers.has(Trigger::Termination))
    }

    /// Gives out reports that this process has not given out yet.
    pub(super) fn give(&mut self, mut take: impl FnMut(UsageReport)) {
        let from = self.unsent;
        for report in self.marks.pending.iter().flatten() {
            if !report.held && is_behind(from, report.sequence) {
                take(report.to_report(self.rule.id));
                self.unsent = report.sequence.wrapping_add(1);
            }
        }
    }

    /// Takes in what a modification changes; `rule` is the rule behind it.
    pub(super) fn change(&mut self, changes: &UrrChanges, rule: &Urr, now_ns: u64) {
        self.advance(now_ns);
        let now = Mark::at(&self.counters);
        self.rule = rule.clone();
        self.dirty.marks = true;
        let (marks, limits) = (&mut self.marks, UrrLimits::of(rule));
        if changes.volume_threshold.is_some() {
            marks.limits.volume_threshold = limits.volume_threshold;
            marks.threshold_from.uplink = now.uplink;
            marks.threshold_from.downlink = now.downlink;
        }
        if changes.time_threshold.is_some() {
            marks.limits.time_threshold = limits.time_threshold;
            marks.threshold_from.active_ns = now.active_ns;
        }
        if changes.event_threshold.is_some() {
            marks.limits.event_threshold = limits.event_threshold;
            marks.threshold_from.events = now.events;
        }
        if changes.dropped_threshold.is_some() {
            marks.dropped_from = (self.counters.dropped_packets, self.counters.dropped_bytes);
        }
        if changes.period.is_some() || changes.triggers.is_some() {
            marks.period_ns = first_period(rule, now_ns);
        }
        if changes.monitoring.is_some() {
            marks.splits_passed = splits_before(&rule.monitoring, now_ns);
        }
        self.regrant(changes, limits, now_ns);
        if rule.inactive {
            self.counters.counted_ns = 0;
            self.dirty.counters = true;
        }
        self.look_at_limits(now_ns);
    }

    fn regrant(&mut self, changes: &UrrChanges, limits: UrrLimits, now_ns: u64) {
        if changes.volume_quota.is_some() {
            self.grant_volume(limits.volume_quota, now_ns);
        }
        if changes.time_quota.is_some() {
            self.grant_time(limits.time_quota, now_ns);
        }
        if changes.event_quota.is_some() {
            self.marks.limits.event_quota = limits.event_quota;
            self.marks.quota_from.events = self.counters.events;
            self.granted(QuotaStop::Event, now_ns);
        }
        if changes.quota_validity.is_some() {
            self.granted(QuotaStop::Validity, now_ns);
        }
    }
}

/// Whether report `number` is not behind report `mark`; numbers wrap.
const fn is_behind(number: u32, mark: u32) -> bool {
    mark.wrapping_sub(number) < 1 << 31
}

/// `seconds` behind a moment.
pub(super) const fn later(at_ns: u64, seconds: u32) -> u64 {
    at_ns.saturating_add((seconds as u64).saturating_mul(SECOND))
}

fn in_seconds(at_ns: u64) -> u32 {
    let seconds = at_ns.checked_div(SECOND).unwrap_or(0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// End of the first period; 0 without one.
fn first_period(rule: &Urr, now_ns: u64) -> u64 {
    rule.period
        .filter(|period| *period > 0)
        .map_or(0, |period| later(now_ns, period))
}

/// Monitoring times that lie in the past; they split nothing.
fn splits_before(splits: &[Split], now_ns: u64) -> u8 {
    let past = |split: &&Split| split.at.get().saturating_mul(SECOND) <= now_ns;
    u8::try_from(splits.iter().take_while(past).count()).unwrap_or(u8::MAX)
}

/// Whether any part of a threshold is zero: it would be reached by nothing, again and again.
fn is_zero(limit: &VolumeLimit) -> bool {
    [limit.total, limit.uplink, limit.downlink].contains(&Some(0))
}
