//! Candidates, votes and elections through a running node.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test code")]
#![expect(
    clippy::panic,
    dead_code,
    reason = "what the tests of this crate share is used here in part"
)]

mod support;

use std::time::Duration;

use qlink_ledger::{Genesis, Params, StakeParams, Standing};
use qlink_types::codec::Text;
use qlink_types::outcome::Status;
use qlink_types::signature::ChainId;
use qlink_types::stake::{CandidateInfo, Commission, Ppm};
use qlink_types::transaction::{Sender, Transaction, TxBody, prove_key};
use qlink_types::units::{Nonce, TimeMs, Units};
use support::{FUNDS, Running, account, config, key};

/// Five blocks a seat_epoch, and stakes that the development accounts can afford.
fn genesis() -> Genesis {
    let params = Params {
        register_candidate_fee: Units::new(1_000),
        stake: StakeParams {
            seat_epoch_blocks: 5,
            min_self_stake: Units::new(1_000),
            activation: Ppm::default(),
            ..StakeParams::default()
        },
        ..Params::default()
    };
    let accounts = (1..=5).map(|n| (account(n), FUNDS)).collect();
    Genesis::try_new("stakes", TimeMs::new(1_000), accounts, params).unwrap()
}

async fn perform(node: &Running, chain: ChainId, n: u8, body: TxBody) -> Status {
    let nonce: Nonce = node.client.account(&account(n)).await.unwrap().nonce;
    let signed = Transaction {
        chain,
        sender: Sender::Account {
            account: account(n),
        },
        nonce,
        max_fee: Units::new(1_000_000),
        valid_until: TimeMs::ZERO,
        body,
    }
    .sign(&key(n));
    let within = Duration::from_secs(10);
    let answer = node.client.submit_and_wait_final(&signed, within).await;
    answer.unwrap().receipt.unwrap().status
}

fn candidacy(chain: ChainId, n: u8, stake: u64) -> TxBody {
    let seat = key(n + 100);
    TxBody::RegisterCandidate {
        seat_key: seat.public(),
        key_proof: prove_key(&seat, &chain, &account(n)),
        stake: Units::new(stake),
        commission: Commission {
            rate: Ppm::try_new(50_000).unwrap(),
            max_change: Ppm::default(),
        },
        info: CandidateInfo {
            name: Text::try_from(format!("seat {n}").as_str()).unwrap(),
            url: Text::default(),
            version: Text::default(),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_ranks_candidates_elects_seats_and_tells_stakes() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    std::fs::write(&config.genesis, serde_json::to_vec(&genesis()).unwrap()).unwrap();
    let node = Running::start(config).await;
    let chain = genesis().chain_id();
    assert_eq!(node.client.candidate(&account(1)).await.unwrap(), None);
    let (status, _, text) = node
        .raw(&format!("GET /v1/candidates/{} HTTP/1.1", account(1)), b"")
        .await;
    assert_eq!(status, 404);
    assert!(text.contains("unknown_candidate"), "{text}");

    for n in 1..=4 {
        let body = candidacy(chain, n, 1_000 * u64::from(n));
        assert_eq!(perform(&node, chain, n, body).await, Status::Accepted);
    }
    let vote = TxBody::Vote {
        candidate: account(2),
        units: Units::new(5_000),
    };
    assert_eq!(perform(&node, chain, 5, vote).await, Status::Accepted);
    let unvote = TxBody::Unvote {
        candidate: account(2),
        units: Units::new(2_000),
    };
    assert_eq!(perform(&node, chain, 5, unvote).await, Status::Accepted);

    let page = node.client.candidates(None, 10).await.unwrap();
    let mut ranked: Vec<_> = page
        .data
        .iter()
        .map(|row| (row.rank, row.candidate, row.weight_units.get()))
        .collect();
    ranked.sort();
    let expected = [(2, 5_000), (4, 4_000), (3, 3_000), (1, 1_000)];
    let expected: Vec<_> = (1..)
        .zip(expected)
        .map(|(rank, (n, weight))| (Some(rank), account(n), weight))
        .collect();
    assert_eq!(ranked, expected);
    let stakes = node.client.stakes(&account(5)).await.unwrap();
    assert_eq!(stakes.stakes.len(), 1);
    assert_eq!(stakes.stakes[0].stake.units, Units::new(3_000));
    assert_eq!(stakes.waiting[0].release.units, Units::new(2_000));
    let row = node.client.candidate(&account(2)).await.unwrap().unwrap();
    assert_eq!(row.ledger.standing, Standing::Active);

    let mut next = Vec::new();
    for _ in 0..12 {
        let transfer = TxBody::Transfer {
            to: account(1),
            amount: Units::new(1),
        };
        assert_eq!(perform(&node, chain, 5, transfer).await, Status::Accepted);
        let seats = node.client.seats().await.unwrap().ledger;
        next = seats.next.seats.iter().map(|seat| seat.candidate).collect();
    }
    assert_eq!(next, [2, 4, 3, 1].map(account));
    let (_, _, supply) = node.raw("GET /v1/supply?audit=true HTTP/1.1", b"").await;
    assert!(supply.contains("\"audit_is_clean\":true"), "{supply}");
    node.stop().await;
}
