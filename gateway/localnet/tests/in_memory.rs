//! Viewers and origin back to back in memory: HTTP over lossy links, and the account of each cheat.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use qlink_localnet::{
    Catalog, CheatMeter, CheatMode, CloseKind, ConnectionScript, Direction, FetchResult,
    FetchScript, Film, ForeignCount, JobId, LossPpm, LossyLink, Order, Origin, OriginConfig,
    Outcome, RequestScript, SocketSize, StackClock, Viewer, foreign_bytes,
};

const VIEWER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 7);
const PATH: &str = "/film.bin";

struct Net {
    viewer: Viewer,
    origin: Origin,
    links: [LossyLink; 2],
    basestation: CheatMeter,
    at_origin: CheatMeter,
    film: Vec<u8>,
}

impl Net {
    fn new(film_size: usize, loss_ppm: u32, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new().finalize_xof();
        let mut film = vec![0; film_size];
        hasher.fill(&mut film);
        let catalog = Catalog::new([(PATH.to_owned(), Film::new(film.clone()))]);
        let clock = StackClock::new(qlink_localnet::STACK_SPEED);
        let size = SocketSize {
            receive: 128 * 1024,
            transmit: 16 * 1024,
        };
        let loss = LossPpm::try_new(loss_ppm).unwrap();
        let config = OriginConfig {
            seed,
            ..OriginConfig::default()
        };
        let mut net = Self {
            viewer: Viewer::new(VIEWER, 1400, seed, size, clock),
            origin: Origin::new(config, catalog.clone()),
            links: [LossyLink::new(loss, seed), LossyLink::new(loss, seed + 1)],
            basestation: CheatMeter::new(catalog.clone()),
            at_origin: CheatMeter::new(catalog),
            film,
        };
        net.basestation.watch(VIEWER);
        net.at_origin.watch(VIEWER);
        net
    }

    fn step(&mut self) -> Vec<(JobId, FetchResult)> {
        let done = self.viewer.poll(Instant::now());
        while let Some(packet) = self.viewer.pop() {
            if self.links[0].passes() {
                self.basestation.observe(Direction::Uplink, &packet);
                self.at_origin.observe(Direction::Uplink, &packet);
                self.origin.push(&packet);
            }
        }
        self.origin.poll();
        while let Some(packet) = self.origin.pop() {
            self.at_origin.observe(Direction::Downlink, &packet);
            self.basestation.observe(Direction::Downlink, &packet);
            if self.links[1].passes() {
                self.viewer.push(&packet);
            }
        }
        done
    }

    fn run(&mut self, script: FetchScript) -> FetchResult {
        self.viewer.start(JobId(1), script).unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            if let Some((_, result)) = self.step().pop() {
                return result;
            }
            std::thread::yield_now();
        }
        panic!("job did not end");
    }

    fn cheat(&mut self, mode: CheatMode) -> (FetchResult, ForeignCount) {
        let script = mode.script(VIEWER, origin(), PATH, self.film.len() as u64);
        let result = self.run(script);
        let count = foreign_bytes(&self.basestation.report(), &self.at_origin.report(), VIEWER);
        assert_eq!((count.undecided_bytes, count.gateway_dropped_bytes), (0, 0));
        (result, count)
    }

    fn hash(&self, from: usize, to: usize) -> String {
        blake3::hash(&self.film[from..to]).to_hex().to_string()
    }
}

fn origin() -> SocketAddrV4 {
    SocketAddrV4::new(OriginConfig::default().address, 80)
}

fn connection(requests: Vec<RequestScript>) -> ConnectionScript {
    ConnectionScript {
        requests,
        ..ConnectionScript::default()
    }
}

#[test]
fn ten_megabytes_at_three_per_cent_loss_take_seconds() {
    let mut net = Net::new(10_000_000, 30_000, 1);

    let script = FetchScript::new(
        VIEWER,
        origin(),
        vec![connection(vec![RequestScript::get(PATH)])],
    );
    let result = net.run(script);

    assert_eq!(result.requests[0].body_blake3, net.hash(0, 10_000_000));
    assert_eq!(result.requests[0].outcome, Outcome::Complete);
    assert!(result.elapsed_ms < 30_000, "{} ms", result.elapsed_ms);
    let count = foreign_bytes(&net.basestation.report(), &net.at_origin.report(), VIEWER);
    assert_eq!(count.foreign_bytes, 0);
    assert!(count.genuine_bytes > 10_000_000);
}

#[test]
fn ranges_over_several_requests_and_connections_are_right() {
    let mut net = Net::new(300_000, 30_000, 2);
    let connections = vec![
        connection(vec![
            RequestScript::part(PATH, 0, 100_000),
            RequestScript::part(PATH, 50, 90),
        ]),
        connection(vec![RequestScript::get("/film.bin?chunked=1")]),
        connection(vec![RequestScript::get("/none")]),
    ];

    let script = FetchScript {
        order: Order::AtOnce,
        ..FetchScript::new(VIEWER, origin(), connections)
    };
    let rows = net.run(script).requests;

    assert_eq!(
        (rows[0].status, &rows[0].body_blake3),
        (206, &net.hash(0, 100_000))
    );
    assert_eq!(
        (rows[1].status, &rows[1].body_blake3),
        (206, &net.hash(50, 90))
    );
    assert_eq!(
        (rows[2].status, &rows[2].body_blake3),
        (200, &net.hash(0, 300_000))
    );
    assert_eq!((rows[3].status, rows[3].body_bytes), (404, 0));
}

#[test]
fn aborted_connections_end_as_the_script_says() {
    for close in [CloseKind::Fin, CloseKind::Reset, CloseKind::Vanish] {
        let mut net = Net::new(1_000_000, 0, 3);
        let script = ConnectionScript {
            close,
            abort_after_bytes: Some(200_000),
            ..connection(vec![RequestScript::get(PATH)])
        };

        let rows = net
            .run(FetchScript::new(VIEWER, origin(), vec![script]))
            .requests;

        assert_eq!(rows[0].outcome, Outcome::Aborted, "{close:?} {rows:?}");
        assert!((200_000..1_000_000).contains(&rows[0].body_bytes));
    }
}

#[test]
fn foreign_body_is_foreign_to_the_last_byte() {
    for loss_ppm in [0, 30_000] {
        let mut net = Net::new(500_000, loss_ppm, 4);

        let (result, count) = net.cheat(CheatMode::ForeignBody);

        assert_eq!(
            (result.requests[0].status, result.requests[0].body_bytes),
            (206, 500_000)
        );
        assert_ne!(result.requests[0].body_blake3, net.hash(0, 500_000));
        assert_eq!(count.foreign_bytes, count.payload_bytes);
        assert!(count.payload_bytes > 500_000);
    }
}

#[test]
fn fake_retransmits_are_foreign_and_nothing_else_is() {
    let mut net = Net::new(500_000, 0, 5);

    let (result, count) = net.cheat(CheatMode::FakeRetransmit);

    assert_eq!(result.requests[0].body_blake3, net.hash(0, 500_000));
    assert_eq!(net.origin.count().fake_bytes, 300_000);
    assert_eq!(count.foreign_bytes, 300_000);
    assert_eq!(count.genuine_bytes, 500_000);
}

#[test]
fn fake_retransmits_count_the_same_under_loss() {
    let mut net = Net::new(500_000, 30_000, 6);

    let (result, count) = net.cheat(CheatMode::FakeRetransmit);

    assert_eq!(result.requests[0].body_blake3, net.hash(0, 500_000));
    assert_eq!(count.foreign_bytes, 300_000);
    assert!(count.genuine_bytes > 500_000);
}

#[test]
fn uplink_payload_is_foreign_beyond_the_heads_allowance() {
    let mut net = Net::new(500_000, 0, 7);

    let (result, count) = net.cheat(CheatMode::UplinkPayload);

    assert!(result.is_complete());
    assert_eq!(result.requests[0].body_blake3, net.hash(0, 250_000));
    let script = CheatMode::UplinkPayload.script(VIEWER, origin(), PATH, 500_000);
    let constructed: u64 = script.connections[0]
        .requests
        .iter()
        .map(|request| {
            let wire = qlink_localnet::encode_request(request, &script.host).len() as u64;
            let body = u64::from(request.body_bytes);
            body + (wire - body).saturating_sub(8_192)
        })
        .sum();
    assert!(constructed > 150_000);
    assert_eq!(count.foreign_bytes, constructed);
}

#[test]
fn uplink_payload_under_loss_is_at_least_what_was_hidden() {
    let mut net = Net::new(500_000, 30_000, 8);

    let (result, count) = net.cheat(CheatMode::UplinkPayload);

    assert!(result.is_complete());
    assert!(count.foreign_bytes >= 150_000, "{count:?}");
    assert!(count.genuine_bytes >= 500_000);
}

#[test]
fn foreign_tail_is_foreign_from_its_first_byte() {
    let mut net = Net::new(3_000_000, 0, 9);

    let (_, count) = net.cheat(CheatMode::ForeignTail);

    assert_eq!(count.genuine_bytes, 1_000_000);
    assert_eq!(count.foreign_bytes, 2_000_000);
}

#[test]
fn foreign_tail_under_loss_counts_every_copy() {
    let mut net = Net::new(3_000_000, 30_000, 10);

    let (_, count) = net.cheat(CheatMode::ForeignTail);

    assert!(count.genuine_bytes >= 1_000_000);
    assert!(count.foreign_bytes > 2_000_000);
    assert_eq!(
        count.payload_bytes,
        count.genuine_bytes + count.allowed_bytes + count.foreign_bytes
    );
}
