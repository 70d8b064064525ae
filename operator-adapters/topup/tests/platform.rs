//! The adapter against the simulated operator, over loopback HTTP, with fault scripts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opsim::{Action, Config, Fault, FaultScript, Feed, Point, Usage};
use qlink_operator::{
    Asset, ChainLine, CycleEvent, DedupClass, Desk, FileJournal, Journal, JournalError, Line,
    MemoryJournal, Op, OpId, OpState, OperatorAdapter, Outcome, Period, Profile, Reason,
    SIGNATURE_HEADER, SharedKey, TIMESTAMP_HEADER, Tolerance,
};
use qlink_topup::{Callback, CallbackError, TopUp, TopUpConfig, TopUpError, verify_callback};
use qlink_types::ids::TxId;
use qlink_types::units::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(30);
const KEY: &[u8] = b"a shared key for tests, not for use";

struct Sim {
    addr: SocketAddr,
    dir: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts opsim in this process, over real sockets, with its state in `dir`.
async fn sim(dir: &Path, faults: Vec<Fault>, callback_url: Option<String>) -> Sim {
    let (key_path, faults_path) = (dir.join("key"), dir.join("faults.json"));
    std::fs::write(&key_path, KEY).unwrap();
    std::fs::write(
        &faults_path,
        serde_json::to_vec(&FaultScript { faults }).unwrap(),
    )
    .unwrap();
    let config = Config {
        key_path,
        faults_path: Some(faults_path),
        dir: Some(dir.join("state")),
        callback_url,
        step_ms: 20,
        page_lines: 2,
        ..Config::default()
    };
    let (ready, bound) = oneshot::channel();
    let task = tokio::spawn(async move {
        opsim::run(
            config,
            |addr| ready.send(addr).unwrap(),
            std::future::pending(),
        )
        .await
        .unwrap();
    });
    let addr = timeout(SOON, bound).await.unwrap().unwrap();
    Sim {
        addr,
        dir: dir.to_path_buf(),
        task,
    }
}

fn key(sim: &Sim) -> SharedKey {
    SharedKey::load(&sim.dir.join("key")).unwrap()
}

fn adapter_with(sim: &Sim, dedup: DedupClass) -> TopUp {
    let profile = Profile {
        operator: "north".into(),
        dedup,
        volume_unit_bytes: 1,
        asset: "EUR".into(),
        scale: 2,
    };
    let config = TopUpConfig {
        base: format!("http://{}", sim.addr),
        profile,
        deadline: Duration::from_millis(400),
        tries: 2,
        retry_after_ms: 20,
    };
    TopUp::new(config, key(sim)).unwrap()
}

fn adapter(sim: &Sim) -> TopUp {
    adapter_with(sim, DedupClass::KeyReplays)
}

fn fault(on: Point, nth: Option<u64>, action: Action) -> Fault {
    Fault {
        on,
        nth,
        reference: None,
        action,
    }
}

fn desk(journal: &MemoryJournal) -> Desk<MemoryJournal> {
    Desk::recover("north", journal.clone(), &journal.records()).unwrap()
}

fn id(n: u8) -> OpId {
    OpId::derive(&TxId::new([n; 32]), 0, 0)
}

fn activate(offer: &str) -> Op {
    Op::Activate {
        offer: offer.into(),
        subscriber_ref: "sub-1".into(),
        volume_bytes: Bytes::new(100_000_000),
    }
}

/// Resolves until the operation is final.
async fn settle<J: Journal>(desk: &mut Desk<J>, adapter: &TopUp, id: OpId) -> OpState {
    for _ in 0..300 {
        let state = desk.resolve(adapter, id, 1).await.unwrap();
        if state != OpState::Pending {
            return state;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{id} stays open");
}

fn price(state: &OpState) -> i128 {
    match state {
        OpState::Done(receipt) | OpState::Reversed(receipt) => receipt.price.units,
        other => panic!("{other:?}"),
    }
}

async fn spent(adapter: &TopUp) -> i128 {
    100_000_000 - adapter.balance().await.unwrap().units
}

fn prepaid<J: Journal>(desk: &Desk<J>) -> i128 {
    let eur = Asset {
        code: "EUR".into(),
        scale: 2,
    };
    assert!(desk.books().trial_balance().values().all(|sum| *sum == 0));
    desk.books().balance("assets:prepaid-data:north", &eur)
}

#[tokio::test]
async fn an_activation_completes_and_is_booked_at_the_operators_price() {
    let dir = tempfile::tempdir().unwrap();
    let sim = sim(dir.path(), Vec::new(), None).await;
    let (adapter, mut desk) = (adapter(&sim), desk(&MemoryJournal::new()));

    let first = desk
        .request(&adapter, id(1), activate("data"), 1)
        .await
        .unwrap();
    let last = settle(&mut desk, &adapter, id(1)).await;

    assert_eq!(first, OpState::Pending);
    assert_eq!(price(&last), 100);
    assert_eq!(prepaid(&desk), 100);
}

#[tokio::test]
async fn a_dropped_answer_is_unknown_then_resolved_to_done_exactly_once() {
    for point in [Point::Create, Point::Confirm] {
        let dir = tempfile::tempdir().unwrap();
        let faults = vec![fault(point, Some(1), Action::DropAnswer)];
        let sim = sim(dir.path(), faults, None).await;
        // No resending at all: the drop must surface as Unknown, not be hidden by a retry.
        let adapter = adapter_with(&sim, DedupClass::QueryOnly);
        let mut desk = desk(&MemoryJournal::new());

        let outcome = adapter.submit(id(9), &activate("data")).await;
        assert!(
            matches!(outcome, Outcome::Unknown { .. }),
            "{point:?}: {outcome:?}"
        );
        desk.request(&adapter, id(1), activate("data"), 1)
            .await
            .unwrap();
        settle(&mut desk, &adapter, id(1)).await;
        for _ in 0..100 {
            if matches!(
                adapter.resolve(id(9), &activate("data")).await,
                Outcome::Done(_)
            ) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }

        assert_eq!(prepaid(&desk), 100);
        assert_eq!(
            spent(&adapter).await,
            200,
            "{point:?}: two operations, each once"
        );
    }
}

#[tokio::test]
async fn a_failing_platform_is_asked_again_under_the_same_reference() {
    let dir = tempfile::tempdir().unwrap();
    let faults = vec![
        fault(Point::Create, Some(1), Action::Error500),
        fault(Point::Confirm, Some(1), Action::DropAnswer),
        fault(Point::Query, Some(1), Action::Delay { ms: 600 }),
    ];
    let sim = sim(dir.path(), faults, None).await;
    let (adapter, mut desk) = (adapter(&sim), desk(&MemoryJournal::new()));

    desk.request(&adapter, id(1), activate("data"), 1)
        .await
        .unwrap();
    settle(&mut desk, &adapter, id(1)).await;

    assert_eq!(spent(&adapter).await, 100);
}

#[tokio::test]
async fn final_refusals_are_rejected_with_their_reason_and_booked_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let faults = vec![fault(Point::Complete, Some(1), Action::Decline)];
    let sim = sim(dir.path(), faults, None).await;
    let (adapter, mut desk) = (adapter(&sim), desk(&MemoryJournal::new()));

    desk.request(&adapter, id(1), activate("data"), 1)
        .await
        .unwrap();
    let declined = settle(&mut desk, &adapter, id(1)).await;
    let unknown_offer = desk
        .request(&adapter, id(2), activate("gold"), 1)
        .await
        .unwrap();
    let reused = adapter.submit(id(1), &activate("gold")).await;

    assert_eq!(declined, OpState::Rejected(Reason::Declined));
    assert_eq!(unknown_offer, OpState::Rejected(Reason::UnknownOffer));
    assert_eq!(
        reused,
        Outcome::Rejected {
            reason: Reason::KeyReused
        }
    );
    assert_eq!((prepaid(&desk), spent(&adapter).await), (0, 0));
}

/// Receives callbacks on a loopback socket: target, timestamp, signature, body of each.
async fn receive(listener: TcpListener, count: usize) -> Vec<(String, String, String, Vec<u8>)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let (mut stream, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
        while seen.len() < count {
            let Some(message) = read_request(&mut stream).await else {
                break;
            };
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            seen.push(message);
        }
    }
    seen
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, String, String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut buf = [0_u8; 4096];
        let n = timeout(SOON, stream.read(&mut buf))
            .await
            .unwrap()
            .ok()
            .filter(|n| *n > 0)?;
        bytes.extend_from_slice(buf.get(..n).unwrap());
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(bytes.get(..end).unwrap().to_vec()).unwrap();
        let header = |name: &str| {
            let line = head
                .lines()
                .find(|line| line.to_lowercase().starts_with(name));
            line.and_then(|line| line.split_once(": "))
                .unwrap()
                .1
                .to_owned()
        };
        let length: usize = header("content-length").parse().unwrap();
        let body = bytes.get(end + 4..).unwrap();
        if body.len() >= length {
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let (time, signature) = (header(TIMESTAMP_HEADER), header(SIGNATURE_HEADER));
            return Some((target, time, signature, body.to_vec()));
        }
    }
}

#[tokio::test]
async fn duplicate_callbacks_count_once_and_a_late_reversal_corrects_the_books() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/callbacks?from=sim",
        listener.local_addr().unwrap()
    );
    let twice = Fault {
        reference: Some(id(1).to_string()),
        ..fault(Point::Complete, None, Action::DuplicateCallback)
    };
    let late = Fault {
        reference: Some(id(2).to_string()),
        ..fault(Point::Complete, None, Action::LateReversal { after_ms: 50 })
    };
    let sim = sim(dir.path(), vec![twice, late], Some(url)).await;
    let (adapter, journal) = (adapter(&sim), MemoryJournal::new());
    let mut desk = desk(&journal);
    let receiving = tokio::spawn(receive(listener, 4));
    for n in [1, 2] {
        desk.request(&adapter, id(n), activate("data"), 1)
            .await
            .unwrap();
    }

    for (target, time, signature, body) in timeout(SOON, receiving).await.unwrap().unwrap() {
        let clock = time.parse().unwrap();
        let check =
            |body: &[u8], now| verify_callback(&key(&sim), &target, &time, &signature, body, now);
        match check(&body, clock).unwrap() {
            Callback::Outcome { id, outcome } => {
                drop(desk.outcome(id, outcome, clock).await.unwrap())
            }
            Callback::Reversal { id, .. } => drop(desk.reversal(id, clock).await.unwrap()),
        }
        let cheaper = String::from_utf8(body.clone())
            .unwrap()
            .replace("\"100\"", "\"1\"");
        for forged in [
            check(cheaper.as_bytes(), clock),
            check(&body, clock + 400_000),
        ] {
            assert!(
                matches!(forged, Err(CallbackError::Signature)),
                "{forged:?}"
            );
        }
    }

    assert_eq!(price(desk.engine().state(&id(1)).unwrap()), 100);
    assert!(matches!(
        desk.engine().state(&id(2)).unwrap(),
        OpState::Reversed(_)
    ));
    assert_eq!(
        desk.books().entries().len(),
        3,
        "two activations, one correction"
    );
    assert_eq!(
        (prepaid(&desk), spent(&adapter).await, desk.alarms()),
        (100, 100, 0)
    );
}

/// A journal file of which the process dies right after the n-th record is durable.
struct Dying {
    inner: FileJournal,
    left: usize,
}

impl Journal for Dying {
    fn append(&mut self, payload: &[u8]) -> Result<u64, JournalError> {
        let sequence = self.inner.append(payload)?;
        self.left = self.left.checked_sub(1).ok_or(JournalError::Poisoned)?;
        Ok(sequence)
    }
}

#[tokio::test]
async fn a_kill_between_intent_and_effect_or_effect_and_result_recovers_to_one_effect() {
    for survive in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let sim = sim(dir.path(), Vec::new(), None).await;
        let (adapter, path) = (adapter(&sim), dir.path().join("desk.journal"));
        let inner = FileJournal::open(&path).unwrap().journal;
        let mut doomed = Desk::recover(
            "north",
            Dying {
                inner,
                left: survive,
            },
            &[],
        )
        .unwrap();
        let mut died = doomed
            .request(&adapter, id(1), activate("data"), 1)
            .await
            .is_err();
        for _ in 0..100 {
            if died {
                break;
            }
            sleep(Duration::from_millis(20)).await;
            died = doomed.resolve(&adapter, id(1), 1).await.is_err();
        }
        assert!(died, "after {survive} records");
        drop(doomed);

        let opened = FileJournal::open(&path).unwrap();
        let mut desk = Desk::recover("north", opened.journal, &opened.records).unwrap();
        desk.resolve_open(&adapter, 1).await.unwrap();
        let state = settle(&mut desk, &adapter, id(1)).await;

        assert_eq!(price(&state), 100);
        assert_eq!((prepaid(&desk), spent(&adapter).await), (100, 100));
    }
}

#[tokio::test]
async fn the_simulator_keeps_its_transactions_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = desk(&MemoryJournal::new());
    let before = {
        let sim = sim(dir.path(), Vec::new(), None).await;
        let adapter = adapter(&sim);
        desk.request(&adapter, id(1), activate("data"), 1)
            .await
            .unwrap();
        let OpState::Done(receipt) = settle(&mut desk, &adapter, id(1)).await else {
            panic!("not done");
        };
        // The journal's lock goes with the task.
        sim.task.abort();
        while !sim.task.is_finished() {
            sleep(Duration::from_millis(5)).await;
        }
        receipt
    };

    let sim = sim(dir.path(), Vec::new(), None).await;
    let adapter = adapter(&sim);

    assert_eq!(
        adapter.resolve(id(1), &activate("data")).await,
        Outcome::Done(before)
    );
    assert_eq!(spent(&adapter).await, 100);
}

#[tokio::test]
async fn a_retry_after_a_dropped_answer_meets_the_first_request_not_a_second_one() {
    for point in [Point::Create, Point::Confirm] {
        let dir = tempfile::tempdir().unwrap();
        let faults = vec![fault(point, Some(1), Action::DropAnswer)];
        let sim = sim(dir.path(), faults, None).await;
        let (adapter, mut desk) = (adapter(&sim), desk(&MemoryJournal::new()));

        desk.request(&adapter, id(1), activate("data"), 1)
            .await
            .unwrap();
        let state = settle(&mut desk, &adapter, id(1)).await;

        assert_eq!(price(&state), 100, "{point:?}");
        assert_eq!(spent(&adapter).await, 100, "{point:?}");
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Five packages carried, recorded the same by meter, chain and operator.
async fn carried(sim: &Sim, desk: &mut Desk<MemoryJournal>) {
    let (start, feed) = (now_ms(), Feed::new(sim.addr, key(sim)));
    desk.open_cycle("set_1", start - 1, Tolerance::default(), None)
        .unwrap();
    for n in 1..=5_u64 {
        let reference = format!("pkg_{n}");
        let line = Line {
            reference: reference.clone(),
            bytes: n * 1000,
            units: n * 10,
            time_ms: start,
        };
        let usage = Usage {
            reference,
            bytes: n * 1000,
            units: n * 10,
        };
        feed.report(&usage).await.unwrap();
        feed.report(&usage).await.unwrap();
        desk.cycle_event("set_1", CycleEvent::Meter(line.clone()))
            .unwrap();
        let chain = CycleEvent::Chain(ChainLine { cursor: n, line });
        desk.cycle_event("set_1", chain.clone()).unwrap();
        desk.cycle_event("set_1", chain).unwrap();
    }
    sleep(Duration::from_millis(5)).await;
    desk.cycle_event("set_1", CycleEvent::CutOff { until_ms: now_ms() })
        .unwrap();
}

/// Runs a settlement until its payout is final.
async fn finish(desk: &mut Desk<MemoryJournal>, adapter: &TopUp) -> qlink_operator::Summary {
    for _ in 0..300 {
        let summary = desk.run_cycle(adapter, "set_1", 1).await.unwrap();
        if summary.state != "cleared" {
            return summary;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the payout stays open");
}

fn qlc(desk: &Desk<MemoryJournal>, account: &str) -> i128 {
    desk.books().balance(
        account,
        &Asset {
            code: "QLC".into(),
            scale: 8,
        },
    )
}

#[tokio::test]
async fn a_settlement_whose_statement_matches_is_paid_and_countersigned() {
    let dir = tempfile::tempdir().unwrap();
    let sim = sim(dir.path(), Vec::new(), None).await;
    let (adapter, journal) = (adapter(&sim), MemoryJournal::new());
    let mut desk = desk(&journal);
    carried(&sim, &mut desk).await;

    let summary = finish(&mut desk, &adapter).await;

    assert_eq!(
        (summary.operator.as_str(), summary.state.as_str()),
        ("north", "settled")
    );
    assert_eq!(
        (summary.units, summary.held_units, summary.held_lines),
        (150, 0, 0)
    );
    let root = desk.cycle("set_1").unwrap().reconciliation().unwrap().root;
    assert_eq!(summary.statement_root, Some(root.to_string()));
    assert_eq!(
        (
            qlc(&desk, "assets:escrow"),
            qlc(&desk, "liabilities:payable:north")
        ),
        (-150, 0)
    );
    let replayed = Desk::recover("north", journal.clone(), &journal.records()).unwrap();
    assert_eq!(replayed.cycle("set_1"), desk.cycle("set_1"));
    assert_eq!(replayed.books(), desk.books());
}

#[tokio::test]
async fn a_wrong_line_is_disputed_while_the_undisputed_part_is_paid() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = Action::WrongLine {
        line: "pkg_3".into(),
        more_units: 7,
    };
    let sim = sim(dir.path(), vec![fault(Point::Statement, None, wrong)], None).await;
    let (adapter, mut desk) = (adapter(&sim), desk(&MemoryJournal::new()));
    carried(&sim, &mut desk).await;

    let summary = finish(&mut desk, &adapter).await;

    assert_eq!(summary.state, "disputed");
    assert_eq!(
        (summary.units, summary.held_units, summary.held_lines),
        (120, 30, 1)
    );
    assert_eq!(qlc(&desk, "assets:escrow"), -120);
    assert_eq!(qlc(&desk, "liabilities:suspense:north"), -30);
}

#[tokio::test]
async fn a_wrong_total_is_disputed_while_every_line_is_paid() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = Action::WrongTotal { more_units: 1000 };
    let sim = sim(dir.path(), vec![fault(Point::Statement, None, wrong)], None).await;
    let (adapter, mut desk) = (adapter(&sim), desk(&MemoryJournal::new()));
    carried(&sim, &mut desk).await;

    let summary = finish(&mut desk, &adapter).await;

    assert_eq!(summary.state, "disputed");
    assert_eq!(
        (summary.units, summary.held_units, summary.held_lines),
        (150, 0, 1)
    );
    assert_eq!(qlc(&desk, "assets:escrow"), -150);
}

#[tokio::test]
async fn pages_that_state_different_totals_are_no_statement() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = Action::WrongTotal { more_units: 1 };
    let sim = sim(
        dir.path(),
        vec![fault(Point::Statement, Some(2), wrong)],
        None,
    )
    .await;
    let (adapter, mut desk) = (adapter(&sim), desk(&MemoryJournal::new()));
    carried(&sim, &mut desk).await;

    let refused = desk.run_cycle(&adapter, "set_1", 1).await;

    assert!(refused.is_err());
    assert_eq!(desk.cycle("set_1").unwrap().summary().state, "cut_off");
}

#[tokio::test]
async fn a_request_with_another_key_is_refused_and_nothing_happens() {
    let dir = tempfile::tempdir().unwrap();
    let sim = sim(dir.path(), Vec::new(), None).await;
    let right = adapter(&sim);
    std::fs::write(dir.path().join("key"), b"some other key of 16 bytes").unwrap();
    let wrong = adapter(&sim);

    let outcome = wrong.submit(id(1), &activate("data")).await;
    let period = Period {
        from_ms: 0,
        until_ms: 1,
    };

    assert!(matches!(outcome, Outcome::Unknown { .. }));
    assert!(wrong.statement(period, None).await.is_err());
    assert_eq!(spent(&right).await, 0);
}

#[test]
fn an_address_with_a_path_or_another_scheme_is_refused_and_keys_do_not_print() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), KEY).unwrap();
    let key = SharedKey::load(&dir.path().join("key")).unwrap();
    let profile = Profile {
        operator: "north".into(),
        dedup: DedupClass::None,
        volume_unit_bytes: 1,
        asset: "EUR".into(),
        scale: 2,
    };

    for base in ["https://a", "http://a/path", "a:1", ""] {
        let config = TopUpConfig {
            base: base.into(),
            profile: profile.clone(),
            deadline: SOON,
            tries: 1,
            retry_after_ms: 1,
        };
        let refused = TopUp::new(config, key.clone());
        assert!(matches!(refused, Err(TopUpError::Base { .. })), "{base}");
    }
    assert_eq!(format!("{key:?}"), "SharedKey(hidden)");
}
