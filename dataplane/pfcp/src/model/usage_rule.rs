//! Usage reporting.

use super::ids::{FarId, Time, UrrId};

/// What is measured; at least one holds. Source: TS 29.244 §8.2.40.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MeasurementMethod {
    /// Bytes and packets.
    pub volume: bool,
    /// Seconds.
    pub duration: bool,
    /// Events.
    pub event: bool,
}

/// Which bytes a volume is made of. The second and third are our extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VolumeKind {
    /// Inner IP packets that were forwarded.
    #[default]
    Network,
    /// Bytes proven to be the contents of the rules that name this one (`verified_unique`).
    Proven,
    /// Payload bytes that the subscriber's payer is charged (`user_charged`).
    Charged,
}

macro_rules! triggers {
    ($($(#[$doc:meta])* $variant:ident;)*) => {
        /// Why a usage report is made. Source: TS 29.244 §8.2.19 and §8.2.41.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Trigger { $($(#[$doc])* $variant),* }

        impl Trigger {
            /// Every trigger.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
        }
    };
}

triggers! {
    /// Every measurement period (PERIO).
    Periodic;
    /// The volume threshold is reached (VOLTH).
    VolumeThreshold;
    /// The time threshold is reached (TIMTH).
    TimeThreshold;
    /// No packet for the quota holding time (QUHTI).
    QuotaHolding;
    /// The first packet (START).
    Start;
    /// No packet for the inactivity time (STOPT).
    Stop;
    /// Dropped downlink packets reached their threshold (DROTH).
    DroppedThreshold;
    /// The volume quota is used up (VOLQU).
    VolumeQuota;
    /// The time quota is used up (TIMQU).
    TimeQuota;
    /// A linked rule reported (LIUSA).
    Linked;
    /// Events reached their threshold (EVETH).
    EventThreshold;
    /// The event quota is used up (EVEQU).
    EventQuota;
    /// The quota's validity ended (QUVTI).
    QuotaValidity;
    /// The monitoring time passed: usage before it (MONIT).
    MonitoringTime;
    /// Asked for at once (IMMER).
    Immediate;
    /// The rule or session ended (TERMR).
    Termination;
}

/// A set of [`Trigger`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Triggers(u32);

impl Triggers {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// This set and `trigger`.
    #[must_use]
    pub const fn with(self, trigger: Trigger) -> Self {
        Self(self.0 | 1 << trigger as u32)
    }

    /// Whether `trigger` is in it.
    #[inline]
    #[must_use]
    pub const fn has(self, trigger: Trigger) -> bool {
        self.0 & 1 << trigger as u32 != 0
    }

    /// Whether it is empty.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members in the order of [`Trigger::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Trigger> {
        Trigger::ALL
            .iter()
            .copied()
            .filter(move |trigger| self.has(*trigger))
    }
}

/// Bounds of a volume in bytes; each that is present holds by itself.
///
/// Source: TS 29.244 §8.2.13 and §8.2.50.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VolumeLimit {
    /// Both directions together.
    pub total: Option<u64>,
    /// Uplink.
    pub uplink: Option<u64>,
    /// Downlink.
    pub downlink: Option<u64>,
}

/// A usage reporting rule. Times are seconds. Source: TS 29.244 §7.5.2.4.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Urr {
    /// Its id in the session.
    pub id: UrrId,
    /// What is measured.
    pub method: MeasurementMethod,
    /// Which bytes.
    pub volume_kind: VolumeKind,
    /// When reports are made.
    pub triggers: Triggers,
    /// Measurement period.
    pub period: Option<u32>,
    /// Volume after which a report is made.
    pub volume_threshold: Option<VolumeLimit>,
    /// Volume after which traffic stops.
    pub volume_quota: Option<VolumeLimit>,
    /// Time after which a report is made.
    pub time_threshold: Option<u32>,
    /// Time after which traffic stops.
    pub time_quota: Option<u32>,
    /// Events after which a report is made.
    pub event_threshold: Option<u32>,
    /// Events after which traffic stops.
    pub event_quota: Option<u32>,
    /// How long a quota lasts without a packet.
    pub quota_holding: Option<u32>,
    /// How long a quota is valid.
    pub quota_validity: Option<u32>,
    /// When the measurement is split, in order of time; more than one is allowed (additional
    /// monitoring time).
    pub monitoring: Vec<Split>,
    /// Pause after which duration stops to count.
    pub inactivity: Option<u32>,
    /// Dropped downlink packets and bytes after which a report is made.
    pub dropped_threshold: Option<(Option<u64>, Option<u64>)>,
    /// Rules whose reports make this one report too.
    pub linked: Vec<UrrId>,
    /// What happens to packets when the quota is used up, instead of a drop.
    pub quota_action: Option<FarId>,
    /// Counts packets before gates and rates as well (MBQE). Source: TS 29.244 §8.2.68.
    pub before_enforcement: bool,
    /// Not measured while set (INAM). Source: TS 29.244 §8.2.68.
    pub inactive: bool,
    /// Packets are reported beside bytes (MNOP). Source: TS 29.244 §8.2.68.
    pub packets: bool,
}

impl Urr {
    /// A rule that measures bytes, packets and seconds for ever and reports nothing by itself.
    #[must_use]
    pub const fn silent(id: UrrId) -> Self {
        Self {
            id,
            method: MeasurementMethod {
                volume: true,
                duration: true,
                event: false,
            },
            volume_kind: VolumeKind::Network,
            triggers: Triggers::NONE,
            period: None,
            volume_threshold: None,
            volume_quota: None,
            time_threshold: None,
            time_quota: None,
            event_threshold: None,
            event_quota: None,
            quota_holding: None,
            quota_validity: None,
            monitoring: Vec::new(),
            inactivity: None,
            dropped_threshold: None,
            linked: Vec::new(),
            quota_action: None,
            before_enforcement: false,
            inactive: false,
            packets: true,
        }
    }
}

/// A monitoring time with the limits that hold behind it.
///
/// Source: TS 29.244 §8.2.15 and §5.2.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Split {
    /// When.
    pub at: Time,
    /// Volume threshold from then on.
    pub volume_threshold: Option<VolumeLimit>,
    /// Time threshold from then on.
    pub time_threshold: Option<u32>,
    /// Volume quota from then on.
    pub volume_quota: Option<VolumeLimit>,
    /// Time quota from then on.
    pub time_quota: Option<u32>,
}

/// What a modification changes in a [`Urr`]; absent parts stay, lists replace lists. A new quota
/// starts from the usage at that moment; a new threshold restarts its count.
///
/// Source: TS 29.244 §7.5.4.4.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the fields of Urr")]
pub struct UrrChanges {
    pub id: UrrId,
    pub method: Option<MeasurementMethod>,
    pub volume_kind: Option<VolumeKind>,
    pub triggers: Option<Triggers>,
    pub period: Option<u32>,
    pub volume_threshold: Option<VolumeLimit>,
    pub volume_quota: Option<VolumeLimit>,
    pub time_threshold: Option<u32>,
    pub time_quota: Option<u32>,
    pub event_threshold: Option<u32>,
    pub event_quota: Option<u32>,
    pub quota_holding: Option<u32>,
    pub quota_validity: Option<u32>,
    pub monitoring: Option<Vec<Split>>,
    pub inactivity: Option<u32>,
    pub dropped_threshold: Option<(Option<u64>, Option<u64>)>,
    pub linked: Option<Vec<UrrId>>,
    pub quota_action: Option<FarId>,
    pub measurement_information: Option<MeasurementInformation>,
}

/// The flags of a measurement. Source: TS 29.244 §8.2.68.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the fields of Urr")]
pub struct MeasurementInformation {
    pub before_enforcement: bool,
    pub inactive: bool,
    pub packets: bool,
}

/// A measured volume. Packets are there when the rule asks for them.
///
/// Source: TS 29.244 §8.2.44.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Volume {
    /// Bytes from the subscriber.
    pub uplink: u64,
    /// Bytes to the subscriber.
    pub downlink: u64,
    /// Packets from and to the subscriber.
    pub packets: Option<(u64, u64)>,
}

/// Usage of one rule since its last report. Source: TS 29.244 §7.5.8.3.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UsageReport {
    /// The rule.
    pub urr: UrrId,
    /// Number of the report in the rule, from 0 on; a report sent again keeps it.
    pub sequence: u32,
    /// Why it is made.
    pub triggers: Triggers,
    /// Start of the measurement.
    pub start: Option<Time>,
    /// End of the measurement.
    pub end: Option<Time>,
    /// Volume.
    pub volume: Option<Volume>,
    /// Duration in seconds.
    pub duration: Option<u32>,
    /// First packet in it.
    pub first_packet: Option<Time>,
    /// Last packet in it.
    pub last_packet: Option<Time>,
    /// Usage before or after a monitoring time. Source: TS 29.244 §8.2.59.
    pub split: Option<SplitSide>,
}

/// On which side of a monitoring time a usage lies. Source: TS 29.244 §8.2.59.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SplitSide {
    /// Before it.
    Before,
    /// After it.
    After,
}
