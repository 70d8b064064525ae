//! A film on its way to a subscriber of an SMF that asked for its proven bytes: by our information
//! element, by a PFD; through loss, retransmission, wrong bytes and `kill -9`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::Child;
use std::time::Duration;

use qlink_content::Direction;
use qlink_io::seqpacket::SeqConn;
use qlink_meter::ArenaSet;
use qlink_pfcp::model::{
    ApplicationId, Pdr, Seid, SessionChange, Trigger, UrrChanges, UrrId, UsageReport, VolumeKind,
    VolumeLimit,
};
use qlink_pfcp::sim::{Happened, SessionPlan};
use qlink_pfcp::wire::{ApplicationPfds, CauseCode, CustomPfd, Pfd};
use qlink_pfcp::{
    Answer, Cause, ContentBinding, PackageBinding, Request, decode_answer, encode_request,
};
use qlink_types::ids::{ContentId, PackageId, Teid};
use qlink_types::units::Bytes;
use qlink_wire::build::{TcpFields, tcp_packet};
use qlink_wire::{TcpFlags, gpdu_header};

use crate::film::{SEGMENT, content_of, download_to, film};
use crate::network::{Network, UE, WITHIN};
use crate::sessions::spawn;

/// Usage of the content.
const PROVEN: UrrId = SessionPlan::URRS[1];

const SIZE: usize = 200_000;

const PACKAGE: PackageId = PackageId::new([8; 16]);

const THRESHOLD: u64 = 30_000;

/// The films' viewer.
fn viewer() -> SocketAddr {
    (UE, 40_000).into()
}

/// Tells the data plane where the film's bytes are.
fn bind(network: &Network, film: &[u8]) -> ContentId {
    let (content, _) = content_of(film);
    let path = network.folder.path().join(content.to_string());
    std::fs::write(&path, film).unwrap();
    let binding = ContentBinding {
        content,
        size: Bytes::new(film.len() as u64),
        path: path.to_str().unwrap().try_into().unwrap(),
    };
    let answer = ask(network, &Request::BindContent { binding });
    assert!(matches!(answer, Answer::Bound { .. }), "{answer:?}");
    content
}

/// What a gateway asks.
pub(crate) fn ask(network: &Network, request: &Request) -> Answer {
    let control = SeqConn::connect(&network.config.control_socket).unwrap();
    control.send(&encode_request(1, request).unwrap()).unwrap();
    let mut buffer = vec![0; 65_536];
    let length = control.recv(&mut buffer, Some(WITHIN)).unwrap().unwrap();
    decode_answer(&buffer[..length]).unwrap().1
}

/// Tells the data plane what a package consists of.
fn bind_package(network: &Network, contents: Vec<ContentId>) {
    let binding = PackageBinding {
        package: PACKAGE,
        contents: contents.try_into().unwrap(),
    };
    let answer = ask(network, &Request::BindPackage { binding });
    assert_eq!(answer, Answer::PackageBound { package: PACKAGE });
}

/// Rules that measure proven bytes, and tell of each [`THRESHOLD`] of them; `quota` bounds them.
fn measuring(network: &Network, contents: Vec<ContentId>, quota: Option<u64>) -> SessionChange {
    measuring_by(&SessionPlan {
        threshold: Some(THRESHOLD),
        quota,
        contents,
        ..network.plan()
    })
}

/// The rules of a plan, of which proven bytes alone have limits.
fn measuring_by(plan: &SessionPlan) -> SessionChange {
    let mut rules = plan.rules();
    for urr in &mut rules.create_urrs {
        if urr.volume_kind == VolumeKind::Network {
            urr.volume_threshold = None;
            urr.volume_quota = None;
        }
    }
    rules
}

/// The packets of a download as a lossy path makes them: each segment once as in
/// [`crate::film::download`], and some of them before that out of order, or twice.
fn lossy(film: &[u8]) -> Vec<(Direction, Vec<u8>)> {
    let packets = download_to(viewer(), film);
    let mut sent = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        let is_data = packet.0 == Direction::Downlink && packet.1.len() > SEGMENT;
        match number % 7 {
            // A later one overtakes it.
            1 if is_data => {
                let later = packets.get(number + 1..).unwrap().iter();
                sent.extend(later.filter(|later| later.0 == packet.0).take(1).cloned());
            }
            // It got lost behind us, and was sent again.
            4 if is_data => sent.push(packet.clone()),
            _ => {}
        }
        sent.push(packet.clone());
    }
    sent
}

/// The film's way through a data plane.
struct Path {
    gnb: UdpSocket,
    origin: UdpSocket,
    n3: SocketAddr,
    n6: SocketAddr,
    teid: Teid,
}

impl Path {
    fn new(network: &Network, n6: SocketAddr, teid: Teid) -> Self {
        Self {
            gnb: network.gnb.try_clone().unwrap(),
            origin: network.origin.try_clone().unwrap(),
            n3: network.config.n3,
            n6,
            teid,
        }
    }

    fn send(&self, (direction, inner): &(Direction, Vec<u8>)) {
        match direction {
            Direction::Uplink => {
                let length = u16::try_from(inner.len()).unwrap();
                let mut message = gpdu_header(self.teid.get(), length).to_vec();
                message.extend(inner);
                self.gnb.send_to(&message, self.n3).unwrap();
            }
            Direction::Downlink => {
                self.origin.send_to(inner, self.n6).unwrap();
            }
        }
    }

    /// Sends and waits until the packet has left the data plane: nothing overtakes it.
    fn carry(&self, packet: &(Direction, Vec<u8>)) {
        self.send(packet);
        let mut buffer = [0; 2048];
        let out = match packet.0 {
            Direction::Uplink => &self.origin,
            Direction::Downlink => &self.gnb,
        };
        out.recv(&mut buffer).unwrap();
    }
}

impl Path {
    /// Whether a packet leaves within a moment.
    fn has_left(&self, (direction, _): &(Direction, Vec<u8>)) -> bool {
        let out = match direction {
            Direction::Uplink => &self.origin,
            Direction::Downlink => &self.gnb,
        };
        out.recv(&mut [0; 2048]).is_ok()
    }
}

/// Every report of the content's usage, by its number: each counts once however often it came.
#[derive(Default)]
struct Told(BTreeMap<u32, UsageReport>);

impl Told {
    fn take(&mut self, reports: &[UsageReport]) {
        for report in reports.iter().filter(|report| report.urr == PROVEN) {
            self.0.insert(report.sequence, report.clone());
        }
    }

    fn bytes(&self) -> u64 {
        let volumes = self.0.values().map(|report| report.volume.unwrap());
        volumes.map(|volume| volume.uplink + volume.downlink).sum()
    }

    /// Answers what the data plane has reported until now, and takes it.
    fn listen(&mut self, network: &mut Network) {
        let mut buffer = [0; 65_536];
        network.smf_socket.set_nonblocking(true).unwrap();
        while let Ok(length) = network.smf_socket.recv(&mut buffer) {
            let now = network.now();
            let happened = network.smf.datagram(now, &buffer[..length]);
            for happened in happened {
                if let Happened::Reported { report, .. } = happened {
                    self.take(&report.reports);
                }
            }
            network.flush();
        }
        network.smf_socket.set_nonblocking(false).unwrap();
    }

    /// How many reports have this reason.
    fn count(&self, trigger: Trigger) -> usize {
        let reports = self.0.values();
        reports
            .filter(|report| report.triggers.has(trigger))
            .count()
    }
}

/// Ends the session, of which `told` was told before.
fn end(network: &mut Network, session: Seid, mut told: Told) -> Told {
    let now = network.now();
    network.smf.delete(now, session);
    network.until(|happened| match happened {
        Happened::Reported { report, .. } => {
            told.take(&report.reports);
            None
        }
        Happened::Deleted { reports, .. } => {
            told.take(reports);
            Some(())
        }
        _ => None,
    });
    told
}

/// Carries `sent` through a session that measures `contents`; what was told of it.
fn watch(
    network: &mut Network,
    rules: SessionChange,
    n6: SocketAddr,
    sent: &[(Direction, Vec<u8>)],
) -> Told {
    let (session, fteid) = network.establish_rules(rules);
    let path = Path::new(network, n6, fteid.teid);
    let mut told = Told::default();
    for packet in sent {
        path.carry(packet);
        told.listen(network);
    }
    end(network, session, told)
}

#[test]
fn a_film_named_by_our_element_is_reported_to_the_byte_however_often_its_segments_came() {
    let mut network = Network::new(50);
    let running = network.start();
    let film = film(SIZE);
    let content = bind(&network, &film);
    network.associate();

    let rules = measuring(&network, vec![content], None);
    let told = watch(&mut network, rules, running.info.n6, &lossy(&film));

    assert_eq!(told.bytes(), SIZE as u64);
    let thresholds = told.0.values();
    let thresholds = thresholds.filter(|report| report.triggers.has(Trigger::VolumeThreshold));
    assert!(
        thresholds
            .clone()
            .all(|report| report.volume.unwrap().downlink >= THRESHOLD)
    );
    assert!(thresholds.count() >= 3, "{:?}", told.0);
    assert_eq!(told.count(Trigger::Termination), 1);
    let totals = ArenaSet::open(&network.config.arena).unwrap().totals();
    assert_eq!(totals.conservation_violations, 0);
    running.stop();
}

#[test]
fn a_film_named_by_a_pfd_is_reported_to_the_byte() {
    let mut network = Network::new(51);
    let running = network.start();
    let film = film(SIZE);
    let content = bind(&network, &film);
    network.associate();
    let application = ApplicationId(b"film".to_vec());
    let now = network.now();
    network.smf.state_applications(
        now,
        vec![ApplicationPfds {
            application: application.clone(),
            pfds: vec![Pfd {
                custom: Some(CustomPfd::Contents(vec![content].into())),
                ..Pfd::default()
            }],
        }],
    );
    network.until(|happened| matches!(happened, Happened::Done(_)).then_some(()));

    let mut rules = measuring(&network, vec![content], None);
    for pdr in &mut rules.create_pdrs {
        if !pdr.pdi.contents.is_empty() {
            pdr.pdi.contents.clear();
            pdr.pdi.application = Some(application.clone());
            // The standard wants one in every rule that is not ours.
            pdr.far = Some(SessionPlan::FARS[1]);
        }
    }
    let told = watch(&mut network, rules, running.info.n6, &lossy(&film));

    assert_eq!(told.bytes(), SIZE as u64);
    running.stop();
}

#[test]
fn the_films_of_a_package_are_reported_and_those_that_it_gets_while_a_session_lives() {
    let mut network = Network::new(57);
    let running = network.start();
    let (first, second) = (film(SIZE), film(SIZE / 2 + 7).split_off(7));
    let contents = [bind(&network, &first), bind(&network, &second)];
    network.associate();
    let rules = measuring_by(&SessionPlan {
        packages: vec![PACKAGE],
        ..network.plan()
    });
    let (cause, ..) = network.refusal(rules.clone());
    bind_package(&network, contents[..1].to_vec());

    let (session, fteid) = network.establish_rules(rules);
    let path = Path::new(&network, running.info.n6, fteid.teid);
    for packet in download_to(viewer(), &first) {
        path.carry(&packet);
    }
    bind_package(&network, contents.to_vec());
    for packet in download_to((UE, 40_001).into(), &second) {
        path.carry(&packet);
    }
    let unbound = ask(&network, &Request::UnbindPackage { package: PACKAGE });
    let told = end(&mut network, session, Told::default());

    assert_eq!(cause, CauseCode::REQUEST_REJECTED, "what nobody bound");
    assert_eq!(told.bytes(), (first.len() + second.len()) as u64);
    assert!(
        matches!(&unbound, Answer::Refused { refusal } if refusal.cause == Cause::ContentInUse),
        "{unbound:?}"
    );
    running.stop();
}

#[test]
fn contents_named_and_unnamed_while_a_session_lives_are_reported_to_the_byte_through_kill_9() {
    let mut network = Network::new(58);
    network.config.n6_local = Some(SocketAddr::from(([127, 9, 58, 1], 5000)));
    let mut child = spawn(&network);
    let (first, second) = (film(SIZE), film(SIZE / 2 + 7).split_off(7));
    let contents = [bind(&network, &first), bind(&network, &second)];
    network.associate();
    let plan = SessionPlan {
        contents: contents[..1].to_vec(),
        ..network.plan()
    };
    let mut plain = plan.clone();
    plain.contents.clear();
    let (session, fteid) = network.establish_rules(plain.rules());
    let path = Path::new(&network, network.config.n6_local.unwrap(), fteid.teid);

    let mut rules = plan.rules();
    rules.create_pdrs.retain(|pdr| !pdr.pdi.contents.is_empty());
    rules.create_urrs.retain(|urr| urr.id == PROVEN);
    let named = rules.create_pdrs[0].clone();
    network.modify(
        session,
        SessionChange {
            create_pdrs: rules.create_pdrs,
            create_urrs: rules.create_urrs,
            ..SessionChange::default()
        },
    );
    let mut told = Told::default();
    // The first film is fetched twice: half of it and then, after a kill, all of it.
    let half = download_to(viewer(), &first);
    for packet in &half[..half.len() / 2] {
        path.carry(packet);
        told.listen(&mut network);
    }
    kill(child);
    child = spawn(&network);
    for (port, film) in [(40_001, &first), (40_002, &second)] {
        if port == 40_002 {
            network.modify(session, other_contents(&named, contents[1..].to_vec()));
            kill(child);
            child = spawn(&network);
        }
        for packet in download_to((UE, port).into(), film) {
            path.carry(&packet);
            told.listen(&mut network);
        }
    }
    let told = end(&mut network, session, told);
    let totals = ArenaSet::open(&network.config.arena).unwrap().totals();
    kill(child);

    assert_eq!(told.bytes(), (first.len() + second.len()) as u64);
    assert_eq!(totals.conservation_violations, 0);
}

/// A detection rule names these contents instead.
fn other_contents(pdr: &Pdr, contents: Vec<ContentId>) -> SessionChange {
    let mut pdr = pdr.clone();
    pdr.pdi.contents = contents;
    SessionChange {
        remove_pdrs: vec![pdr.id],
        create_pdrs: vec![pdr],
        ..SessionChange::default()
    }
}

#[test]
fn a_film_with_a_flipped_second_half_is_reported_up_to_the_first_flipped_byte() {
    let mut network = Network::new(52);
    let running = network.start();
    let film = film(SIZE);
    let content = bind(&network, &film);
    network.associate();
    let half = SIZE / 2 + 77;
    let mut flipped = film;
    for byte in flipped.get_mut(half..).unwrap() {
        *byte = !*byte;
    }

    let rules = measuring(&network, vec![content], None);
    let told = watch(&mut network, rules, running.info.n6, &lossy(&flipped));

    assert_eq!(told.bytes(), half as u64);
    running.stop();
}

/// Fetches a film of which the SMF lets a `quota` pass at a time; how often it was asked for more.
fn fetch_by_quotas(network: &mut Network, n6: SocketAddr, film: &[u8], quota: u64) -> (Told, u64) {
    let content = bind(network, film);
    network.associate();
    let rules = measuring(network, vec![content], Some(quota));
    let (session, fteid) = network.establish_rules(rules);
    let path = Path::new(network, n6, fteid.teid);
    path.gnb
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    let (mut told, mut grants) = (Told::default(), 1);

    for packet in download_to(viewer(), film) {
        let mut stopped = network.drops("urr_quota_exhausted");
        path.send(&packet);
        while !path.has_left(&packet) {
            if network.drops("urr_quota_exhausted") == stopped {
                continue;
            }
            // The viewer acknowledges what it has; what is stopped comes again and again.
            path.carry(&acknowledgement_before(&packet));
            while told.count(Trigger::VolumeQuota) as u64 != grants {
                told.listen(network);
            }
            assert!(told.bytes() <= quota * grants);
            // Each grant ends with less than a segment unused.
            assert!(told.bytes() + grants * SEGMENT as u64 > quota * grants);
            network.modify(session, grant(quota));
            grants += 1;
            stopped = network.drops("urr_quota_exhausted");
            path.send(&packet);
        }
        told.listen(network);
        assert!(told.bytes() <= quota * grants);
    }
    (end(network, session, told), grants)
}

/// The acknowledgement of everything before a packet of the server.
fn acknowledgement_before((_, packet): &(Direction, Vec<u8>)) -> (Direction, Vec<u8>) {
    let number = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
    // Behind an IPv4 header and both ports.
    let (seq, ack) = (number(24), number(28));
    let fields = TcpFields::new(ack, seq, TcpFlags::ACK);
    let origin = crate::film::address(crate::film::ORIGIN);
    let inner = tcp_packet(viewer(), origin, &fields, &[]).unwrap();
    (Direction::Uplink, inner)
}

/// As many proven bytes more.
fn grant(quota: u64) -> SessionChange {
    SessionChange {
        update_urrs: vec![UrrChanges {
            id: PROVEN,
            volume_quota: Some(VolumeLimit {
                total: Some(quota),
                uplink: None,
                downlink: None,
            }),
            ..UrrChanges::default()
        }],
        ..SessionChange::default()
    }
}

#[test]
fn a_used_up_quota_of_proven_bytes_stops_the_film_until_more_is_granted() {
    for workers in [1, 2] {
        let mut network = Network::new(53);
        network.config.workers = workers;
        let running = network.start();
        let film = film(SIZE);

        let quota = SIZE as u64 / 4;
        let (told, grants) = fetch_by_quotas(&mut network, running.info.n6, &film, quota);

        assert_eq!(told.bytes(), SIZE as u64);
        // Each stops less than a segment before its end.
        assert_eq!(grants, 5);
        let totals = ArenaSet::open(&network.config.arena).unwrap().totals();
        assert_eq!(totals.conservation_violations, 0);
        running.stop();
    }
}

/// Ends a process, which has something in its hands.
fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_film_is_reported_to_the_byte_through_kill_9() {
    let kills = if std::env::var_os("QLINK_LONG").is_some() {
        200
    } else {
        20
    };
    let mut network = Network::new(54);
    // A port that stays the same.
    network.config.n6_local = Some(SocketAddr::from(([127, 9, 54, 1], 5000)));
    let mut child = spawn(&network);
    let film = film(SIZE);
    let content = bind(&network, &film);
    network.associate();
    let (session, fteid) = network.establish_rules(measuring(&network, vec![content], None));
    let sent = lossy(&film);
    let path = Path::new(&network, network.config.n6_local.unwrap(), fteid.teid);
    let (mut told, mut killed) = (Told::default(), 0);

    for (number, packet) in sent.iter().enumerate() {
        if number % (sent.len() / kills) == sent.len() / kills - 1 && killed < kills {
            killed += 1;
            // Killed with the packet in its hands, before or behind it: who sent it sends again.
            path.send(packet);
            std::thread::sleep(Duration::from_micros((number as u64 * 37) % 400));
            kill(child);
            child = spawn(&network);
            for socket in [&path.gnb, &path.origin] {
                socket.set_nonblocking(true).unwrap();
                while socket.recv(&mut [0; 2048]).is_ok() {}
                socket.set_nonblocking(false).unwrap();
            }
        }
        path.carry(packet);
        told.listen(&mut network);
    }
    let told = end(&mut network, session, told);
    let totals = ArenaSet::open(&network.config.arena).unwrap().totals();
    kill(child);

    assert_eq!(killed, kills);
    assert_eq!(told.bytes(), SIZE as u64);
    assert_eq!(totals.conservation_violations, 0);
    // One packet is in the air at a time: a burst of one at most for each kill.
    let longest = sent.iter().map(|(_, packet)| packet.len()).max().unwrap();
    let most = (kills * longest) as u64;
    assert!(totals.uncertain_bytes <= most, "{}", totals.uncertain_bytes);
}
