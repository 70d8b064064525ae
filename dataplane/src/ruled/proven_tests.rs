//! Quotas of proven bytes under loss, reordering, repeated downloads, kills and new grants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam::channel::{Receiver, unbounded};
use proptest::prelude::*;
use qlink_io::handover::{Sleeper, bell};
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::{Burst, PacketSource as _};
use qlink_meter::{ArenaSetup, CounterArena, NoApplications, RuleBlock, SessionSlot, UrrSet};
use qlink_pfcp::model::{
    ApplyAction, FTeid, FarId, LocalFTeid, Resolution, Seid, SessionModel, Trigger, Triggers,
    UrrChanges, UrrId, UsageReport, VolumeKind, VolumeLimit,
};
use qlink_pfcp::node::{Kept, PeerPrefix, Query};
use qlink_pfcp::sim::SessionPlan;
use qlink_pfcp::{DownlinkPath, Payer, SessionRules, Sponsor};
use qlink_types::ids::{ContentId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, Incarnation, PackageEpoch};
use qlink_wire::build::{TcpFields, gpdu_packet, tcp_packet};
use qlink_wire::{LinkType, TcpFlags};

use crate::contents::Copy;
use crate::pipeline::{Ports, Side, process_burst};
use crate::plane::{Neighbours, Plane, PlaneLimits};
use crate::ruled::event::{EventLine, RuledEvent, RuledNews};
use crate::ruled::{RuledChange, RuledSetup};

const LIMITS: PlaneLimits = PlaneLimits {
    sessions: 8,
    flows: 8,
    views: 8,
    urrs: 8,
};
const SLOT: SessionSlot = SessionSlot::new(3);
const TEID: Teid = Teid::new(3 << 8 | 0x55);
const UE: [u8; 4] = [10, 45, 0, 2];
const GNB: [u8; 4] = [127, 0, 0, 2];
const ORIGIN: &str = "192.0.2.9:80";
const PIECE: usize = 700;
const PIECES: usize = 12;
/// Of the rules of [`SessionPlan`]: everything, the content's proven bytes; and charged bytes.
const PROVEN: UrrId = SessionPlan::URRS[1];
const CHARGED: UrrId = UrrId::new(3);
const BEYOND: FarId = FarId::new(9);

fn total(bytes: u64) -> Option<VolumeLimit> {
    Some(VolumeLimit {
        total: Some(bytes),
        uplink: None,
        downlink: None,
    })
}

fn film() -> Vec<u8> {
    let mut bytes = vec![0; PIECE * PIECES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn content(film: &[u8]) -> ContentId {
    ContentId::new(*blake3::hash(film).as_bytes())
}

/// What follows when the quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    Stopped,
    Forwarded,
}

fn model(film: &[u8], quota: u64, beyond: Beyond) -> SessionModel {
    let plan = SessionPlan {
        ue: Some(UE.into()),
        gnb: GNB.into(),
        gnb_teid: Teid::new(77),
        threshold: None,
        quota: None,
        mbr: None,
        qfi: None,
        contents: vec![content(film)],
        packages: Vec::new(),
    };
    let mut rules = plan.rules();
    for pdr in &mut rules.create_pdrs {
        if pdr.pdi.local_fteid.is_some() {
            pdr.pdi.local_fteid = Some(LocalFTeid::Fixed(FTeid {
                teid: TEID,
                v4: Some([127, 0, 0, 1].into()),
                v6: None,
            }));
        }
        if !pdr.pdi.contents.is_empty() {
            pdr.urrs.push(CHARGED);
        }
    }
    let mut model = SessionModel {
        pdrs: rules
            .create_pdrs
            .iter()
            .map(|pdr| (pdr.id, pdr.clone()))
            .collect(),
        fars: rules
            .create_fars
            .iter()
            .map(|far| (far.id, far.clone()))
            .collect(),
        urrs: rules
            .create_urrs
            .iter()
            .map(|urr| (urr.id, urr.clone()))
            .collect(),
        qers: rules.create_qers.iter().map(|qer| (qer.id, *qer)).collect(),
        ..SessionModel::default()
    };
    let proven = model.urrs.get_mut(&PROVEN).unwrap();
    proven.volume_quota = total(quota);
    proven.triggers = Triggers::NONE.with(Trigger::VolumeQuota);
    let mut charged = proven.clone();
    if beyond == Beyond::Forwarded {
        proven.quota_action = Some(BEYOND);
        let mut far = model.fars[&SessionPlan::FARS[1]].clone();
        far.id = BEYOND;
        assert_eq!(far.action, ApplyAction::Forward { duplicate: false });
        model.fars.insert(BEYOND, far);
    }
    charged.id = CHARGED;
    charged.volume_kind = VolumeKind::Charged;
    charged.volume_quota = None;
    model.urrs.insert(CHARGED, charged);
    model
}

fn setup(model: &SessionModel, film: &[u8]) -> RuledSetup {
    RuledSetup {
        seid: Seid::new(1),
        model: model.clone(),
        block: RuleBlock::compile(model, &NoApplications).unwrap(),
        inactivity_s: None,
        rules: SessionRules {
            session: SessionId::new([1; 16]),
            teid: Some(TEID),
            ue: std::net::IpAddr::from(UE),
            path: DownlinkPath {
                peer: (GNB, 2152).into(),
                downlink_teid: Teid::new(77),
            },
            basestation: None,
            sponsor: Some(Sponsor {
                package: PackageId::ZERO,
                package_epoch: PackageEpoch::ZERO,
                viewer: ViewerKey::ZERO,
                contents: vec![content(film)].try_into().unwrap(),
                origins: Vec::new().try_into().unwrap(),
                limit: Bytes::new(u64::MAX),
                repeat: RepeatPolicy::Free,
            }),
            payer: Payer::Operator,
        },
        copies: vec![(content(film), Copy::Owned(Arc::from(film)))],
    }
}

/// One connection that fetches the film.
#[derive(Debug, Clone)]
struct Download {
    port: u16,
    /// Number of the body's first byte in the stream.
    body: u32,
    up: u32,
    /// Pieces that the viewer has.
    received: [bool; PIECES],
}

const FIRST: u32 = 9_001;

impl Download {
    fn has(&self) -> u32 {
        let whole = self.received.iter().take_while(|piece| **piece).count();
        u32::try_from(whole * PIECE).unwrap()
    }
}

struct Rig {
    folder: tempfile::TempDir,
    plane: Option<Plane>,
    events: Receiver<RuledEvent>,
    _sleeper: Sleeper,
    model: SessionModel,
    film: Vec<u8>,
    downloads: Vec<Download>,
    now_ns: u64,
    told: BTreeMap<(UrrId, u32), UsageReport>,
    /// What was counted and what was pending when the last quota was granted, and the quota.
    grant: (u64, u64, u64),
}

impl Rig {
    fn new(quota: u64, beyond: Beyond) -> Self {
        let film = film();
        let (_, events) = unbounded();
        let (_, sleeper) = bell().unwrap();
        let mut rig = Self {
            folder: tempfile::tempdir().unwrap(),
            plane: None,
            events,
            _sleeper: sleeper,
            model: model(&film, quota, beyond),
            film,
            downloads: Vec::new(),
            now_ns: qlink_io::clock::now_ns(),
            told: BTreeMap::new(),
            grant: (0, 0, quota),
        };
        rig.start();
        rig
    }

    /// Opens the plane as a starting process does; the one before was killed.
    fn start(&mut self) {
        drop(self.plane.take());
        let setup_of = ArenaSetup {
            layout: LIMITS.layout(),
            incarnation: Incarnation::new(1),
            shards: 1,
        };
        let path = self.folder.path().join("arena");
        let (arena, recovered) = CounterArena::open(&path, setup_of).unwrap();
        let neighbours = Neighbours {
            own: Vec::new(),
            n6_peer: "127.0.0.3:5000".parse().unwrap(),
            n3: Vec::new(),
            access: vec![PeerPrefix::host(GNB.into())],
        };
        let mut plane = Plane::new(LIMITS, arena, neighbours);
        let (tell, events) = unbounded();
        let (ring, sleeper) = bell().unwrap();
        plane.ruled.connect(EventLine::new(tell, ring));
        self.events = events;
        self._sleeper = sleeper;
        let stands = recovered.sessions.iter().any(|(slot, _)| *slot == SLOT);
        let known = stands.then_some(&recovered);
        plane
            .establish_ruled(SLOT, setup(&self.model, &self.film), known)
            .unwrap();
        self.plane = Some(plane);
        self.hear();
    }

    fn plane(&mut self) -> &mut Plane {
        self.plane.as_mut().unwrap()
    }

    /// Takes reports as a control plane does, and answers them.
    fn hear(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            if let RuledNews::Usage(reports) = event.news {
                self.take(reports);
            }
        }
    }

    fn take(&mut self, reports: Vec<UsageReport>) {
        let numbers: Vec<_> = reports
            .iter()
            .map(|report| (report.urr, report.sequence))
            .collect();
        for report in reports {
            self.told.insert((report.urr, report.sequence), report);
        }
        self.plane().acknowledge_ruled(SLOT, &numbers);
    }

    fn reported(&self, urr: UrrId) -> u64 {
        let own = self.told.values().filter(|report| report.urr == urr);
        own.map(|report| report.volume.unwrap().downlink).sum()
    }

    fn counted(&self, urr: UrrId) -> u64 {
        let ruled = self.plane.as_ref().unwrap().ruled.get(SLOT).unwrap();
        let mut all = (0..3).filter_map(|index| ruled.urrs.counters(index));
        all.find(|(id, _)| *id == urr).unwrap().1.downlink_bytes
    }

    fn pending(&self) -> u64 {
        let plane = self.plane.as_ref().unwrap();
        let session = plane.sponsored[SLOT.index()].as_ref().unwrap();
        session.views[0].pending_content()
    }

    /// Sends one inner packet; whether it left.
    fn send(&mut self, side: Side, inner: Vec<u8>) -> bool {
        self.now_ns += 1_000;
        let frame = match side {
            Side::N3 => {
                let gnb = SocketAddr::from((GNB, 2152));
                gpdu_packet(gnb, "127.0.0.1:2152".parse().unwrap(), TEID.get(), &inner).unwrap()
            }
            Side::N6 => inner,
        };
        let mut source = MemSource::new(vec![frame], LinkType::RawIp, 1);
        let mut ports = Ports {
            n3: MemSink::keeping(),
            n6: MemSink::keeping(),
        };
        let mut burst = Burst::new();
        source.recv_burst(&mut burst).unwrap();
        let now_ns = self.now_ns;
        process_burst(self.plane(), side, &source, &burst, &mut ports, now_ns);
        self.hear();
        ports.n3.kept().len() + ports.n6.kept().len() == 1
    }

    fn tcp(&mut self, side: Side, port: u16, fields: &TcpFields<'_>, payload: &[u8]) -> bool {
        let (ue, origin) = (SocketAddr::from((UE, port)), ORIGIN.parse().unwrap());
        let (from, to) = match side {
            Side::N3 => (ue, origin),
            Side::N6 => (origin, ue),
        };
        self.send(side, tcp_packet(from, to, fields, payload).unwrap())
    }

    /// A further connection, up to the head of the response.
    fn connect(&mut self) {
        let port = 40_000 + u16::try_from(self.downloads.len()).unwrap();
        let request = b"GET /film HTTP/1.1\r\nHost: films.example\r\n\r\n";
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            self.film.len()
        );
        let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
        let up = 1_001 + u32::try_from(request.len()).unwrap();
        let body = FIRST + u32::try_from(head.len()).unwrap();
        assert!(self.tcp(Side::N3, port, &TcpFields::new(1_000, 0, syn), &[]));
        let answer = TcpFields::new(FIRST - 1, 1_001, syn.union(ack));
        assert!(self.tcp(Side::N6, port, &answer, &[]));
        assert!(self.tcp(Side::N3, port, &TcpFields::new(1_001, FIRST, ack), request));
        assert!(self.tcp(
            Side::N6,
            port,
            &TcpFields::new(FIRST, up, ack),
            head.as_bytes()
        ));
        self.downloads.push(Download {
            port,
            body,
            up,
            received: [false; PIECES],
        });
    }

    /// Sends a piece, which gets lost behind us or not; whether it left.
    fn piece(&mut self, download: usize, piece: usize, arrives: bool) -> bool {
        let Download { port, body, up, .. } = self.downloads[download];
        let from = piece * PIECE;
        let bytes = self.film[from..from + PIECE].to_vec();
        let seq = body + u32::try_from(from).unwrap();
        let left = self.tcp(
            Side::N6,
            port,
            &TcpFields::new(seq, up, TcpFlags::ACK),
            &bytes,
        );
        self.downloads[download].received[piece] |= left && arrives;
        left
    }

    fn acknowledge(&mut self, download: usize) {
        let known = self.downloads[download].clone();
        let ack = known.body + known.has();
        let fields = TcpFields::new(known.up, ack, TcpFlags::ACK);
        assert!(self.tcp(Side::N3, known.port, &fields, &[]));
    }

    fn grant(&mut self, quota: u64) {
        self.grant = (self.counted(PROVEN), self.pending(), quota);
        self.model.urrs.get_mut(&PROVEN).unwrap().volume_quota = total(quota);
        let change = RuledChange {
            setup: setup(&self.model, &self.film),
            resolution: Resolution {
                changed_urrs: vec![UrrChanges {
                    id: PROVEN,
                    volume_quota: total(quota),
                    ..UrrChanges::default()
                }],
                ..Resolution::default()
            },
            query: Query::Ended,
            kept: Kept::Stay,
        };
        let reports = self.plane().modify_ruled(SLOT, change).unwrap();
        self.take(reports);
    }

    /// Fetches all that is missing.
    fn finish(&mut self, download: usize) {
        for piece in 0..PIECES {
            if !self.downloads[download].received[piece] {
                assert!(self.piece(download, piece, true), "piece {piece}");
            }
            self.acknowledge(download);
        }
    }

    fn end(&mut self) {
        let reports = self.plane().delete_ruled(SLOT).unwrap();
        self.hear();
        for report in reports {
            self.told.insert((report.urr, report.sequence), report);
        }
    }

    fn violations(&self) -> u64 {
        let plane = self.plane.as_ref().unwrap();
        plane.arena().proven(SLOT).violations
    }
}

#[derive(Debug, Clone)]
enum Step {
    Connect,
    Piece {
        download: usize,
        ahead: usize,
        arrives: bool,
    },
    Acknowledge(usize),
    Grant(u64),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let film = (PIECE * PIECES) as u64;
    prop_oneof![
        1 => Just(Step::Connect),
        12 => (0..3_usize, 0..4_usize, proptest::bool::weighted(0.8))
            .prop_map(|(download, ahead, arrives)| Step::Piece { download, ahead, arrives }),
        5 => (0..3_usize).prop_map(Step::Acknowledge),
        2 => (0..film / 3).prop_map(Step::Grant),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_quota_of_proven_bytes_is_never_passed_and_grants_add_up(
        quota in 0..6_000_u64,
        forwarded in proptest::bool::ANY,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let beyond = if forwarded { Beyond::Forwarded } else { Beyond::Stopped };
        let mut rig = Rig::new(quota, beyond);
        rig.connect();
        for step in steps {
            match step {
                Step::Connect if rig.downloads.len() < 3 => rig.connect(),
                Step::Connect => {}
                Step::Piece { download, ahead, arrives } => {
                    let download = download % rig.downloads.len();
                    let next = rig.downloads[download].has() as usize / PIECE;
                    let left = rig.piece(download, (next + ahead).min(PIECES - 1), arrives);
                    prop_assert!(left || beyond == Beyond::Stopped);
                }
                Step::Acknowledge(download) => rig.acknowledge(download % rig.downloads.len()),
                Step::Grant(quota) => rig.grant(quota),
                Step::Kill => rig.start(),
            }
            let (from, pending, quota) = rig.grant;
            let counted = rig.counted(PROVEN) - from;
            // Only what had left before a smaller grant may pass it.
            prop_assert!(counted <= quota.max(pending), "{counted} of {quota}, {pending} pending");
            prop_assert_eq!(rig.violations(), 0);
        }
        rig.grant(u64::MAX);
        rig.finish(0);
        for download in 1..rig.downloads.len() {
            rig.finish(download);
        }
        let counted = rig.counted(PROVEN);
        let charged = rig.counted(CHARGED);
        rig.end();

        // Heads are allowed: what is not proven for the rule is charged.
        prop_assert_eq!(counted + charged, rig.film.len() as u64);
        prop_assert!(beyond == Beyond::Forwarded || charged == 0);
        prop_assert_eq!(rig.reported(PROVEN), counted);
        prop_assert_eq!(rig.reported(CHARGED), charged);
    }
}

#[test]
fn behind_a_used_up_quota_passes_what_was_sent_or_delivered_before_and_nothing_else() {
    let mut rig = Rig::new(2 * PIECE as u64, Beyond::Stopped);
    rig.connect();
    assert!(rig.piece(0, 0, true) && rig.piece(0, 1, true));

    let third = rig.piece(0, 2, true);
    let pending_again = rig.piece(0, 1, true);
    rig.acknowledge(0);
    let delivered_again = rig.piece(0, 0, true);
    rig.connect();
    let repeated = rig.piece(1, 0, true) && rig.piece(1, 1, true);
    rig.acknowledge(1);
    let new_elsewhere = rig.piece(1, 2, true);

    assert!(pending_again && delivered_again && repeated);
    assert!(!third && !new_elsewhere);
    assert_eq!(rig.counted(PROVEN), 2 * PIECE as u64);
    let used_up = rig
        .told
        .values()
        .filter(|report| report.triggers.has(Trigger::VolumeQuota));
    assert_eq!(used_up.count(), 1);
}

#[test]
fn a_quota_that_the_next_segment_does_not_fit_is_reported_with_the_last_acknowledgement() {
    let mut rig = Rig::new(2 * PIECE as u64 + 100, Beyond::Stopped);
    rig.connect();
    assert!(rig.piece(0, 0, true) && rig.piece(0, 1, true));

    // Less than a piece is left of the quota for certain only when the two before are delivered.
    assert!(!rig.piece(0, 2, true));
    let before = rig.told.len();
    rig.acknowledge(0);

    assert_eq!(before, 0);
    assert_eq!(rig.reported(PROVEN), 2 * PIECE as u64);
}

#[test]
fn pieces_that_are_given_up_make_room_for_others() {
    let mut rig = Rig::new(2 * PIECE as u64, Beyond::Stopped);
    rig.connect();
    assert!(rig.piece(0, 0, false) && rig.piece(0, 1, false) && !rig.piece(0, 2, false));

    rig.now_ns += qlink_content::FORGET_NS;
    let now_ns = rig.now_ns;
    for _ in 0..LIMITS.flows {
        rig.plane().sweep(now_ns);
    }
    rig.connect();
    let left: Vec<bool> = (3..6).map(|piece| rig.piece(1, piece, true)).collect();

    assert_eq!(left, [true, true, false]);
}

#[test]
fn a_content_that_several_rules_name_is_counted_once_by_each_usage_rule() {
    let mut rig = Rig::new(u64::MAX, Beyond::Stopped);
    let mut again = rig.model.pdrs[&qlink_pfcp::model::PdrId::new(3)].clone();
    again.id = qlink_pfcp::model::PdrId::new(4);
    rig.model.pdrs.insert(again.id, again);
    rig.grant(u64::MAX);
    rig.connect();

    rig.finish(0);

    assert_eq!(rig.counted(PROVEN), rig.film.len() as u64);
    let ruled = rig.plane().ruled.get(SLOT).unwrap();
    let rules = ruled.block.proof_rules().iter();
    let lists = rules.map(|rule| UrrSet::EMPTY.with_list(&rule.urrs));
    assert_eq!(lists.collect::<Vec<_>>().len(), 2);
}
