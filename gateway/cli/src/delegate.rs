//! `qlink delegate`: standing for a seat, voting, and who sits.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use qlink_client::ChainClient;
use qlink_client::stake::CandidateAnswer;
use qlink_types::codec::{Decode as _, Text};
use qlink_types::ids::AccountId;
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::stake::{CandidateInfo, Commission, Equivocation, Ppm};
use qlink_types::transaction::{TxBody, prove_key};
use qlink_types::units::Units;
use serde_json::json;

use crate::output::{self, Format};
use crate::party::perform;
use crate::table::{grouped, lines};
use crate::{keys, process};

/// Rows read at a time.
const PAGE: usize = 1_000;

/// What can be done about seats.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show all candidates, the heaviest first.
    List(Look),
    /// Show who sits now and who comes next.
    Seats(Look),
    /// Show what an account has behind candidates, and what is on its way back.
    Stakes {
        /// Which account.
        account: AccountId,
        #[command(flatten)]
        look: Look,
    },
    /// Stand for a seat, or stand again.
    Register {
        #[command(flatten)]
        sender: Sender,
        /// Key file that will sign blocks.
        #[arg(long, value_name = "FILE")]
        seat_key: PathBuf,
        /// Self-stake to lock, in units of 10^-8 QLC.
        #[arg(long, value_name = "N")]
        stake: u64,
        /// What is kept of voters' rewards, in parts per million.
        #[arg(long, value_name = "PPM", value_parser = parse_ppm)]
        rate: Ppm,
        /// The most by which that may change in a seat_epoch; never raised later.
        #[arg(long, value_name = "PPM", value_parser = parse_ppm)]
        max_change: Ppm,
        #[command(flatten)]
        about: About,
    },
    /// Change the rate, and what is said for people.
    Update {
        #[command(flatten)]
        sender: Sender,
        /// The rate from now on, in parts per million.
        #[arg(long, value_name = "PPM", value_parser = parse_ppm)]
        rate: Ppm,
        #[command(flatten)]
        about: About,
    },
    /// Sign with another key from the next election on.
    RotateKey {
        #[command(flatten)]
        sender: Sender,
        /// The new key file.
        #[arg(long, value_name = "FILE")]
        seat_key: PathBuf,
    },
    /// Stand no more from the next election on; take self-stake back with `unvote`.
    Resign {
        #[command(flatten)]
        sender: Sender,
    },
    /// Lock units behind a candidate; behind oneself they are self-stake.
    Vote(Amount),
    /// Take units back from a candidate; they are spendable when the unbonding time has passed.
    Unvote(Amount),
    /// Move a vote at once; a small surety stays behind for the unbonding time.
    Move {
        #[command(flatten)]
        amount: Amount,
        /// The candidate that it goes to.
        #[arg(long, value_name = "ACCOUNT")]
        to: AccountId,
    },
    /// Take the rewards of a vote.
    Collect {
        #[command(flatten)]
        sender: Sender,
        /// From which candidate.
        candidate: AccountId,
    },
    /// Report a seat that declared two blocks of one height final.
    Report {
        #[command(flatten)]
        sender: Sender,
        /// The proof, in hexadecimal.
        proof: String,
    },
}

/// Where to look.
#[derive(Debug, Args)]
pub(crate) struct Look {
    /// The node, for example http://127.0.0.1:7001.
    #[arg(long, value_name = "URL")]
    node: String,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Who sends a transaction, and where.
#[derive(Debug, Args)]
pub(crate) struct Sender {
    /// The node that takes the transaction, for example http://127.0.0.1:7001.
    #[arg(long, value_name = "URL")]
    node: String,
    /// Key file of the sender.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// What is said of a candidate for people.
#[derive(Debug, Args)]
pub(crate) struct About {
    /// Name, at most 64 bytes.
    #[arg(long)]
    name: String,
    /// Where more is said, at most 200 bytes.
    #[arg(long, default_value = "")]
    url: String,
}

/// Units behind one candidate.
#[derive(Debug, Args)]
pub(crate) struct Amount {
    #[command(flatten)]
    sender: Sender,
    /// Which candidate.
    candidate: AccountId,
    /// How much, in units of 10^-8 QLC.
    units: u64,
}

fn parse_ppm(text: &str) -> Result<Ppm, String> {
    let parts = text
        .parse()
        .map_err(|_| format!("'{text}' is no number of parts per million"))?;
    Ppm::try_new(parts).map_err(|error| error.to_string())
}

/// Runs a delegate command.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    process::runtime()?.block_on(async {
        match command {
            Command::List(look) => list(look).await,
            Command::Seats(look) => seats(look).await,
            Command::Stakes { account, look } => stakes(look, account).await,
            _ => send(command).await,
        }
    })
}

/// Every candidate there is, the ranked first.
async fn all(node: &ChainClient) -> anyhow::Result<Vec<CandidateAnswer>> {
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = node.candidates(after.as_deref(), PAGE).await?;
        rows.extend(page.data);
        match (page.has_more, page.next) {
            (true, Some(next)) => after = Some(next),
            _ => break,
        }
    }
    rows.sort_by_key(|row| (row.rank.unwrap_or(u32::MAX), row.candidate));
    Ok(rows)
}

fn number(units: Units) -> String {
    grouped(&units.to_string())
}

async fn list(look: &Look) -> anyhow::Result<()> {
    let rows = all(&ChainClient::new(&look.node)).await?;
    if look.output == Format::Json {
        output::line(&serde_json::to_string(&rows)?);
        return Ok(());
    }
    let names = [
        ">rank",
        "name",
        "candidate",
        ">weight",
        ">own",
        ">votes",
        ">rate ppm",
        "standing",
    ];
    let mut cells = Vec::new();
    for row in rows {
        let standing = serde_json::to_value(row.ledger.standing)?;
        cells.push(vec![
            row.rank
                .map_or_else(|| "-".to_owned(), |rank| rank.to_string()),
            row.ledger.info.name.as_str().to_owned(),
            row.candidate.to_string(),
            number(row.weight_units),
            number(row.ledger.own),
            number(row.ledger.votes),
            row.ledger.commission.rate.to_string(),
            standing.as_str().unwrap_or_default().to_owned(),
        ]);
    }
    output::line(lines(&names, &cells).trim_end());
    Ok(())
}

async fn seats(look: &Look) -> anyhow::Result<()> {
    let answer = ChainClient::new(&look.node).seats().await?;
    if look.output == Format::Json {
        output::line(&serde_json::to_string(&answer)?);
        return Ok(());
    }
    let row = &answer.ledger;
    let sets = [
        ("sits", &row.sitting.seats),
        ("standby", &row.sitting.standby),
        ("next", &row.next.seats),
        ("next standby", &row.next.standby),
    ];
    let cells: Vec<Vec<String>> = sets
        .into_iter()
        .flat_map(|(name, seats)| {
            seats.iter().map(move |seat| {
                vec![
                    name.to_owned(),
                    seat.candidate.to_string(),
                    seat.key.to_string(),
                    number(seat.weight),
                ]
            })
        })
        .collect();
    output::line(&format!("seat_epoch {}", row.seat_epoch));
    if row.sitting.seats.is_empty() {
        output::line("the seats of the genesis sit");
    }
    output::line(lines(&["set", "candidate", "seat key", ">weight"], &cells).trim_end());
    Ok(())
}

async fn stakes(look: &Look, account: &AccountId) -> anyhow::Result<()> {
    let answer = ChainClient::new(&look.node).stakes(account).await?;
    if look.output == Format::Json {
        output::line(&serde_json::to_string(&answer)?);
        return Ok(());
    }
    let behind = answer.stakes.iter().map(|row| {
        vec![
            "behind".to_owned(),
            row.candidate.to_string(),
            number(row.stake.units),
            number(row.stake.rewards),
            String::new(),
        ]
    });
    let waiting = answer.waiting.iter().map(|row| {
        vec![
            "on its way back".to_owned(),
            row.candidate.to_string(),
            number(row.release.units),
            String::new(),
            row.time.to_string(),
        ]
    });
    let names = [
        "stake",
        "candidate",
        ">units",
        ">rewards",
        ">released at ms",
    ];
    let cells: Vec<Vec<String>> = behind.chain(waiting).collect();
    output::line(lines(&names, &cells).trim_end());
    Ok(())
}

fn info(about: &About) -> anyhow::Result<CandidateInfo> {
    Ok(CandidateInfo {
        name: Text::try_from(about.name.as_str()).context("--name")?,
        url: Text::try_from(about.url.as_str()).context("--url")?,
        version: Text::try_from(env!("CARGO_PKG_VERSION")).context("the version")?,
    })
}

/// Sends what the command says, waits until it is final and prints the receipt's events.
async fn send(command: &Command) -> anyhow::Result<()> {
    let Some(sender) = sender_of(command) else {
        return Ok(());
    };
    let key = keys::read(&sender.key)?;
    let node = ChainClient::new(&sender.node);
    let chain = node.status().await?.chain_id;
    let account = AccountId::from(key.public());
    let Some(body) = body(command, &key, &chain)? else {
        return Ok(());
    };
    let nonce = node.account(&account).await?.nonce;
    let answer = perform(&node, chain, &key, nonce, body).await?;
    let events = answer.receipt.map(|receipt| receipt.events.to_vec());
    let line = json!({
        "account": account,
        "transaction": answer.id,
        "events": events.unwrap_or_default(),
    });
    output::line(&line.to_string());
    Ok(())
}

const fn sender_of(command: &Command) -> Option<&Sender> {
    match command {
        Command::Register { sender, .. }
        | Command::Update { sender, .. }
        | Command::RotateKey { sender, .. }
        | Command::Resign { sender }
        | Command::Collect { sender, .. }
        | Command::Report { sender, .. } => Some(sender),
        Command::Vote(amount) | Command::Unvote(amount) | Command::Move { amount, .. } => {
            Some(&amount.sender)
        }
        Command::List(_) | Command::Seats(_) | Command::Stakes { .. } => None,
    }
}

/// The transaction that a command stands for; `None` for one that only looks.
fn body(command: &Command, key: &SecretKey, chain: &ChainId) -> anyhow::Result<Option<TxBody>> {
    let owner = AccountId::from(key.public());
    Ok(Some(match command {
        Command::Register {
            seat_key,
            stake,
            rate,
            max_change,
            about,
            ..
        } => {
            let seat_key = keys::read(seat_key)?;
            TxBody::RegisterCandidate {
                seat_key: seat_key.public(),
                key_proof: prove_key(&seat_key, chain, &owner),
                stake: Units::new(*stake),
                commission: Commission {
                    rate: *rate,
                    max_change: *max_change,
                },
                info: info(about)?,
            }
        }
        Command::Update { rate, about, .. } => TxBody::UpdateCandidate {
            rate: *rate,
            info: info(about)?,
        },
        Command::RotateKey { seat_key, .. } => {
            let seat_key = keys::read(seat_key)?;
            TxBody::RotateSeatKey {
                seat_key: seat_key.public(),
                key_proof: prove_key(&seat_key, chain, &owner),
            }
        }
        Command::Resign { .. } => TxBody::ResignCandidate,
        Command::Vote(amount) => TxBody::Vote {
            candidate: amount.candidate,
            units: Units::new(amount.units),
        },
        Command::Unvote(amount) => TxBody::Unvote {
            candidate: amount.candidate,
            units: Units::new(amount.units),
        },
        Command::Move { amount, to } => TxBody::Redelegate {
            from: amount.candidate,
            to: *to,
            units: Units::new(amount.units),
        },
        Command::Collect { candidate, .. } => TxBody::CollectRewards {
            candidate: *candidate,
        },
        Command::Report { proof, .. } => {
            let bytes = hex::decode(proof.trim()).context("the proof is not hexadecimal")?;
            let proof = Equivocation::from_bytes(&bytes).context("this is no proof")?;
            TxBody::ReportEquivocation {
                proof: Box::new(proof),
            }
        }
        Command::List(_) | Command::Seats(_) | Command::Stakes { .. } => return Ok(None),
    }))
}
