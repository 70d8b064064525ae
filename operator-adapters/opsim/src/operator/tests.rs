use super::*;
use crate::config::Fault;

fn operator(balance: i128, faults: Vec<Fault>) -> Operator {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, "0123456789abcdef").unwrap();
    let balance = Money {
        asset: "EUR".into(),
        scale: 2,
        units: balance,
    };
    let config = Config {
        balance,
        step_ms: 10,
        page_lines: 2,
        ..Config::default()
    };
    Operator::new(
        config,
        SharedKey::load(&path).unwrap(),
        FaultScript { faults },
    )
}

fn id(n: u8) -> OpId {
    OpId::of_settlement(&n.to_string())
}

fn activate() -> Op {
    let body =
        r#"{"kind":"activate","offer":"data","subscriber_ref":"s","volume_bytes":"1000001"}"#;
    serde_json::from_str(body).unwrap()
}

fn take(
    operator: &mut Operator,
    decided: Result<(Transaction, Option<Change>), Refusal>,
) -> Transaction {
    let (transaction, change) = decided.unwrap();
    if let Some(change) = change {
        operator.apply(change);
    }
    transaction
}

fn create(operator: &mut Operator, reference: OpId, op: Op) -> Transaction {
    let decided = operator.create(reference, op, 0);
    take(operator, decided)
}

fn confirm(operator: &mut Operator, id: &str) -> Transaction {
    let decided = operator.confirm(id, 0);
    take(operator, decided)
}

fn tick(operator: &mut Operator, now_ms: u64) -> Vec<(OpId, State)> {
    let (changes, callbacks) = operator.tick(now_ms);
    changes
        .into_iter()
        .for_each(|change| operator.apply(change));
    callbacks
        .iter()
        .map(|one| (one.transaction.reference, one.transaction.state))
        .collect()
}

#[test]
fn a_confirmed_transaction_is_charged_once_and_completes_after_two_rests() {
    let mut operator = operator(10, Vec::new());
    let created = create(&mut operator, id(1), activate());
    assert_eq!(create(&mut operator, id(1), activate()), created);

    confirm(&mut operator, &created.id);
    confirm(&mut operator, &created.id);
    let called = [
        tick(&mut operator, 9),
        tick(&mut operator, 10),
        tick(&mut operator, 20),
    ];

    assert_eq!(called, [vec![], vec![], vec![(id(1), State::Completed)]]);
    assert_eq!(operator.balance().units, 8, "two started megabytes");
}

#[test]
fn a_balance_that_does_not_cover_the_price_declines() {
    let mut operator = operator(1, Vec::new());
    let created = create(&mut operator, id(1), activate());

    let declined = confirm(&mut operator, &created.id);

    assert_eq!(declined.reason, Some(Reason::InsufficientBalance));
    assert_eq!(
        (declined.state, operator.balance().units),
        (State::Declined, 1)
    );
}

#[test]
fn only_a_created_transaction_can_be_cancelled() {
    let mut operator = operator(10, Vec::new());
    let first = create(&mut operator, id(1), activate());
    let second = create(&mut operator, id(2), activate());
    confirm(&mut operator, &second.id);

    let decided = operator.cancel(&first.id, 0);
    assert_eq!(take(&mut operator, decided).state, State::Cancelled);
    assert_eq!(
        operator.cancel(&second.id, 0).unwrap_err(),
        Refusal::WrongState
    );
}

#[test]
fn a_completed_refund_reverses_its_transaction_and_gives_the_money_back() {
    let mut operator = operator(10, Vec::new());
    let bought = create(&mut operator, id(1), activate());
    confirm(&mut operator, &bought.id);
    tick(&mut operator, 10);
    tick(&mut operator, 20);

    let refund = create(&mut operator, id(2), Op::Refund { of: id(1) });
    confirm(&mut operator, &refund.id);
    tick(&mut operator, 30);
    let called = tick(&mut operator, 40);

    assert_eq!(
        called,
        [(id(1), State::Reversed), (id(2), State::Completed)]
    );
    assert_eq!(operator.balance().units, 10);
}

#[test]
fn usage_totals_become_the_lines_of_their_periods_in_pages() {
    let mut operator = operator(10, Vec::new());
    let mut feed = |reference: &str, bytes, units, time| {
        let usage = Usage {
            reference: reference.into(),
            bytes,
            units,
        };
        if let Some(change) = operator.usage(&usage, time).unwrap() {
            operator.apply(change);
        }
    };
    for reference in ["c", "a", "b"] {
        feed(reference, 10, 1, 5);
        feed(reference, 10, 1, 6);
    }
    feed("a", 25, 3, 15);

    let first = operator.statement(
        Period {
            from_ms: 0,
            until_ms: 10,
        },
        None,
    );
    let second = operator.statement(
        Period {
            from_ms: 0,
            until_ms: 10,
        },
        first.next.as_deref(),
    );
    let later = operator.statement(
        Period {
            from_ms: 10,
            until_ms: 20,
        },
        None,
    );

    let names = |page: &StatementPage| {
        page.lines
            .iter()
            .map(|line| (line.reference.clone(), line.bytes))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&first), [("a".to_owned(), 10), ("b".to_owned(), 10)]);
    assert_eq!(
        (names(&second), second.next),
        (vec![("c".to_owned(), 10)], None)
    );
    assert_eq!((first.total_units, second.total_units), (3, 3));
    assert_eq!(names(&later), [("a".to_owned(), 15)]);
}

#[test]
fn a_fault_script_reads_from_json_and_strikes_at_its_pass() {
    let script = r#"{"faults":[
        {"on":"create","nth":2,"action":{"do":"drop_answer"}},
        {"on":"statement","action":{"do":"wrong_total","more_units":5}}]}"#;
    let script: FaultScript = serde_json::from_str(script).unwrap();
    let mut operator = operator(10, script.faults);

    let struck: Vec<_> = (0..3)
        .map(|_| operator.fault(Point::Create, Some(&id(1))))
        .collect();

    assert_eq!(struck, [None, Some(Action::DropAnswer), None]);
    let total = operator
        .statement(
            Period {
                from_ms: 0,
                until_ms: 1,
            },
            None,
        )
        .total_units;
    assert_eq!(total, 5);
}
