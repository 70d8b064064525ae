//! The report: every figure, and every figure that is not what it must be.

use std::net::SocketAddr;

use anyhow::Context as _;
use qlink_client::rpc::ViewerAnswer;
use qlink_meter::ArenaSet;
use qlink_types::ids::AccountId;
use qlink_types::package::PackageState;
use qlink_types::rating::Ratio;
use qlink_types::units::{Bytes, Units};
use serde_json::{Value, json};

use super::cheaters::{PERSONAL_UNITS_PER_BYTE, counted_foreign, mode_name};
use super::story::{Guest, Outcome, Stage, proven_bytes, received_bytes};

/// The finished report.
#[derive(Debug)]
pub(crate) struct Report {
    /// By schema `demo.schema.json`.
    pub(crate) json: Value,
    /// What is not exact; empty in a sound build.
    pub(crate) faults: Vec<String>,
}

/// Collects faults beside figures.
#[derive(Debug, Default)]
struct Checks(Vec<String>);

impl Checks {
    fn equal<T: PartialEq + std::fmt::Display>(&mut self, what: &str, found: &T, expected: &T) {
        if found != expected {
            self.0
                .push(format!("{what} is {found}, must be {expected}"));
        }
    }

    fn is(&mut self, what: &str, holds: bool) {
        if !holds {
            self.0.push(what.to_owned());
        }
    }
}

/// Makes the report of a story.
pub(crate) async fn make(stage: &Stage<'_>, outcome: &Outcome) -> anyhow::Result<Report> {
    let mut checks = Checks::default();
    let viewers = viewers(stage, outcome, &mut checks).await?;
    let arena = ArenaSet::open(stage.network.arena())?;
    let plane = arena.totals();
    let cheaters = cheaters(stage, outcome, plane.uncertain_bytes, &mut checks).await?;
    let community = qlink_ledger::ModuleAccount::Community.id();
    let fees = stage.network.node.account(&community).await?.balance_units;
    let totals = totals(outcome, fees, &plane, &mut checks);
    let status = stage.network.node.status().await?;
    checks.equal(
        "supply",
        &status.supply_units,
        &qlink_types::units::SUPPLY_UNITS,
    );
    let settlement = &outcome.settlement;
    checks.equal(
        "operator settlement",
        &settlement.state.as_str(),
        &"settled",
    );
    let sponsored_views = outcome.viewers.iter().any(|guest| guest.opened.is_ok());
    checks.is("no viewer got a session", sponsored_views);
    let json = json!({
        "package": {
            "id": outcome.package,
            "content": stage.film.content,
            "size": stage.film.size().to_string(),
            "bytes": outcome.answer.terms.bytes,
            "reward_units": outcome.answer.terms.reward,
        },
        "viewers": viewers,
        "cheaters": cheaters,
        "totals": totals,
        "carriage": carriage(outcome, &mut checks),
        "chain": {
            "orderer": status.orderer,
            "validators": status.validators.to_string(),
            "height": status.height,
            "final_height": status.final_height,
            "state_root": status.state_root,
            "supply_units": status.supply_units,
        },
        "settlement": {
            "operator": settlement.operator,
            "state": settlement.state,
            "units": settlement.units.to_string(),
            "statement_root": settlement.statement_root,
        },
        "dataplane": dataplane(&arena, &plane),
        "asset": {
            "token": stage.network.parties.asset,
            "registry": "local registry of this network, not NEO",
            "basestation": stage.network.parties.basestation,
        },
    });
    Ok(Report {
        json,
        faults: checks.0,
    })
}

fn dataplane(arena: &ArenaSet, totals: &qlink_meter::Totals) -> Value {
    let drops: serde_json::Map<String, Value> = arena
        .drops()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.to_owned(), json!(count.to_string())))
        .collect();
    json!({
        "packets": totals.packets.to_string(),
        "network_bytes": totals.network_bytes.to_string(),
        "drops": drops,
    })
}

/// Reward that the ledger owes a viewer, leftover units of the close apart.
fn owed(outcome: &Outcome, bytes: u64) -> anyhow::Result<u64> {
    let terms = &outcome.answer.terms;
    Ok(Ratio::new(terms.reward, terms.bytes)?
        .owed(Bytes::new(bytes))?
        .get())
}

async fn viewers(
    stage: &Stage<'_>,
    outcome: &Outcome,
    checks: &mut Checks,
) -> anyhow::Result<Vec<Value>> {
    let film = stage.film.size();
    let hash = hex::encode(stage.film.content.as_bytes());
    let mut rows = Vec::new();
    for (index, guest) in outcome.viewers.iter().enumerate() {
        let number = index.saturating_add(1);
        let viewer = guest.pseudonym.viewer();
        let (Ok(opened), Some(session)) = (&guest.opened, &guest.session) else {
            rows.push(refused_row(stage, outcome, guest, number, checks));
            continue;
        };
        let account = AccountId::from(guest.wallet.public());
        let balance = stage.network.node.account(&account).await?.balance_units;
        let row: Option<ViewerAnswer> =
            stage.network.node.viewer(&outcome.package, &viewer).await?;
        let settled = row.as_ref().map_or(0, |row| row.bytes.get());
        let earned = row.map_or(Units::ZERO, |row| row.earned_units);
        let fetched = guest
            .fetched
            .as_ref()
            .context("a session without a fetch")?;
        let whole = fetched
            .requests
            .iter()
            .all(|request| request.body_blake3 == hash);
        checks.is(&format!("viewer {number} did not receive the film"), whole);
        checks.equal(&format!("viewer {number} content bytes"), &settled, &film);
        let received = received_bytes(fetched);
        checks.equal(&format!("viewer {number} received bytes"), &received, &film);
        checks.equal(&format!("viewer {number} balance"), &balance, &earned);
        let due = owed(outcome, settled)?;
        let exact = earned.get() == due || earned.get() == due.saturating_add(1);
        checks.is(
            &format!("viewer {number} earned {earned} for {due} owed"),
            exact,
        );
        checks.equal(
            &format!("viewer {number} user charged bytes"),
            &session.classes.user_charged.get(),
            &0,
        );
        checks.is(
            &format!("viewer {number} byte classes are not conserved"),
            session.classes.is_conserved() && session.classes.pending.is_zero(),
        );
        rows.push(json!({
            "session": opened.session,
            "peer": peer(opened.gateway),
            "teid": opened.teid,
            "address": opened.ue_address,
            "viewer_key": viewer,
            "account": account,
            "content_bytes": settled.to_string(),
            "reward_units": earned,
            "user_charged_bytes": session.classes.user_charged,
            "retransmit_bytes": session.classes.retransmit,
        }));
    }
    Ok(rows)
}

fn refused_row(
    stage: &Stage<'_>,
    outcome: &Outcome,
    guest: &Guest,
    number: usize,
    checks: &mut Checks,
) -> Value {
    let reason = guest.opened.as_ref().err().map_or("", String::as_str);
    let code = if reason.contains("package_exhausted") {
        "package_exhausted"
    } else {
        reason
    };
    let room = outcome
        .answer
        .terms
        .bytes
        .get()
        .checked_div(stage.film.size())
        .unwrap_or(0);
    let expected = u64::try_from(number).unwrap_or(u64::MAX) > room;
    checks.is(
        &format!("viewer {number} got no session: {reason}"),
        expected && code == "package_exhausted",
    );
    json!({
        "session": Value::Null,
        "refused": code,
        "viewer_key": guest.pseudonym.viewer(),
        "account": AccountId::from(guest.wallet.public()),
        "content_bytes": "0",
        "reward_units": "0",
        "user_charged_bytes": "0",
        "retransmit_bytes": "0",
    })
}

fn peer(address: SocketAddr) -> String {
    address.ip().to_string()
}

/// `uncertain` is what kills of the data plane have left undecided between sent and not sent: it
/// is never billed, so a cheater may be charged less by that, never more.
async fn cheaters(
    stage: &Stage<'_>,
    outcome: &Outcome,
    uncertain: u64,
    checks: &mut Checks,
) -> anyhow::Result<Vec<Value>> {
    let mut rows = Vec::new();
    for (index, guest) in outcome.cheaters.iter().enumerate() {
        let (Ok(opened), Some(session), Some(cheater), Some(address)) = (
            &guest.opened,
            &guest.session,
            &guest.cheater,
            guest.address(),
        ) else {
            continue;
        };
        let counted = counted_foreign(&outcome.station_report, &outcome.origin_report, address);
        let personal = stage.known(cheater.personal).await?;
        let name = format!(
            "cheater {} ({})",
            index.saturating_add(1),
            mode_name(cheater.mode)
        );
        let charged = session.charged_bytes.get();
        let foreign = counted.foreign_bytes;
        for (what, found) in [
            ("charged bytes", charged),
            ("user charged class", session.classes.user_charged.get()),
        ] {
            let missing = foreign.checked_sub(found);
            checks.is(
                &format!("{name} {what} is {found}, must be {foreign} less {uncertain} at most"),
                missing.is_some_and(|missing| missing <= uncertain),
            );
        }
        checks.equal(
            &format!("{name} settled bytes"),
            &personal.ledger.current.used.get(),
            &charged,
        );
        checks.is(
            &format!("{name} sent nothing foreign"),
            counted.foreign_bytes > 0,
        );
        let carriage = personal.ledger.current.carriage_paid.total()?;
        checks.equal(
            &format!("{name} charged units"),
            &carriage.get(),
            &charged.saturating_mul(PERSONAL_UNITS_PER_BYTE),
        );
        rows.push(json!({
            "session": opened.session,
            "peer": peer(opened.gateway),
            "teid": opened.teid,
            "address": opened.ue_address,
            "mode": mode_name(cheater.mode),
            "foreign_bytes": counted.foreign_bytes.to_string(),
            "sponsored_bytes": session.classes.verified_unique,
            "user_charged_bytes": session.charged_bytes,
            "charged_units": carriage,
        }));
    }
    Ok(rows)
}

fn totals(
    outcome: &Outcome,
    fees: Units,
    plane: &qlink_meter::Totals,
    checks: &mut Checks,
) -> Value {
    let ledger = &outcome.answer.ledger;
    let totals = &ledger.totals;
    checks.is(
        "the package did not close",
        ledger.state == PackageState::Closed,
    );
    checks.is(
        "escrow + paid + unclaimed + refund is not the deposit",
        totals.is_balanced(),
    );
    checks.equal(
        "conservation violations",
        &plane.conservation_violations,
        &0,
    );
    let expected: u64 = outcome.viewers.iter().map(proven_bytes).sum();
    checks.equal("content bytes", &totals.used.get(), &expected);
    let terms = &outcome.answer.terms;
    let moved = totals
        .reward_paid
        .get()
        .saturating_add(totals.unclaimed.get());
    let owed = Ratio::new(terms.reward, terms.bytes)
        .and_then(|ratio| ratio.owed(totals.used))
        .map_or(0, |units| units.get());
    checks.equal("reward moved", &moved, &owed);
    // The carriage's refund stands with the carriage.
    let refund = totals.refund.saturating_sub(carriage_refund(outcome));
    let reward = moved.saturating_add(refund.get());
    checks.equal("reward moved and returned", &reward, &terms.reward.get());
    json!({
        "content_bytes": totals.used,
        "reward_units": totals.reward_paid,
        "unclaimed_units": totals.unclaimed,
        "refund_units": refund,
        "dust_units": totals.dust,
        "fees_units": fees,
        "conservation_violations": plane.conservation_violations.to_string(),
        "uncertain_bytes": plane.uncertain_bytes.to_string(),
    })
}

/// What the close returns of the carriage.
fn carriage_refund(outcome: &Outcome) -> Units {
    let bought = outcome.answer.terms.carriage.total().unwrap_or_default();
    let paid = outcome.answer.ledger.totals.carriage_paid.total();
    bought.saturating_sub(paid.unwrap_or_default())
}

fn carriage(outcome: &Outcome, checks: &mut Checks) -> Value {
    let bought = &outcome.answer.terms.carriage;
    let paid = &outcome.answer.ledger.totals.carriage_paid;
    let refund = carriage_refund(outcome);
    let terms = &outcome.answer.terms;
    let used = outcome.answer.ledger.totals.used;
    for (name, share, moved) in [
        ("operator", bought.operator, paid.operator),
        ("BaseStation", bought.basestation, paid.basestation),
        ("gateway", bought.gateway, paid.gateway),
    ] {
        let owed = Ratio::new(share, terms.bytes)
            .and_then(|ratio| ratio.owed(used))
            .unwrap_or_default();
        checks.equal(&format!("carriage of the {name}"), &moved, &owed);
    }
    json!({
        "deposit_units": bought.total().unwrap_or_default(),
        "operator_units": paid.operator,
        "basestation_units": paid.basestation,
        "gateway_units": paid.gateway,
        "refund_units": refund,
    })
}
