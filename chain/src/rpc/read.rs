//! Reading the chain.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use qlink_client::rpc::{
    AccountAnswer, BlockAnswer, ContentAnswer, PackageAnswer, PageAnswer, PartyAnswer, ProofAnswer,
    StatusAnswer, SupplyAnswer, ViewerAnswer,
};
use qlink_ledger::{Params, StateError, View, audit};
use qlink_serve::{Json, Problem};
use qlink_store::{KvStore, StateStore, StateStoreError, TreeError};
use qlink_types::block::MAX_BLOCK_BYTES;
use qlink_types::codec::Encode as _;
use qlink_types::ids::{
    AccountId, BaseStationId, ContentId, GatewayId, OperatorId, PackageId, ViewerKey,
};
use qlink_types::transaction::Party;
use qlink_types::units::{BlockHeight, SUPPLY_UNITS, Units};
use serde::Deserialize;

use super::request::{
    Answer, Id, PageQuery, QueryOf, blocking, internal, not_found, parsed, query,
};
use crate::node::{ChainState, Shared};
use crate::time::rfc3339;

/// Blocks of a page at most: a row is a whole block.
const BLOCKS_MAX: usize = 100;

/// Packages looked at for one page of an owner's.
const OWNER_SCAN: usize = 4096;

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err calls"
)]
fn stored(error: StateStoreError) -> Problem {
    internal(&error)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err calls"
)]
pub(super) fn ledger(error: StateError) -> Problem {
    internal(&error)
}

pub(super) fn height_of(state: &ChainState) -> BlockHeight {
    state.tip().map_or(BlockHeight::ZERO, |tip| tip.height)
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Answer<StatusAnswer> {
    let answer = blocking(shared, |shared| {
        let state = shared.state();
        let tip = state.tip().ok_or_else(|| {
            Problem::of_status(StatusCode::SERVICE_UNAVAILABLE, "the chain has not begun")
        })?;
        let supply = View::new(&*state).supply().map_err(ledger)?;
        Ok(StatusAnswer {
            chain_id: shared.chain,
            name: shared.name.clone(),
            unbacked: shared.unbacked,
            orderer: shared.orderer.to_owned(),
            validators: u32::try_from(shared.seats.seats.len()).unwrap_or(u32::MAX),
            height: tip.height,
            final_height: tip.height,
            state_root: tip.state_root,
            time_ms: tip.time_ms,
            time: rfc3339(tip.time_ms),
            // Counted, not quoted: a ledger that loses a unit says so here.
            supply_units: Units::new(u64::try_from(supply.total()).unwrap_or(u64::MAX)),
        })
    });
    answer.await.map(Json)
}

pub(super) async fn fees(State(shared): State<Arc<Shared>>) -> Answer<Params> {
    let answer = blocking(shared, |shared| {
        let row = View::new(&*shared.state()).chain().map_err(ledger)?;
        row.map(|row| row.params)
            .ok_or_else(|| not_found("no_chain", &shared.chain))
    });
    answer.await.map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SupplyQuery {
    audit: Option<bool>,
}

pub(super) async fn supply(
    State(shared): State<Arc<Shared>>,
    asked: QueryOf<SupplyQuery>,
) -> Answer<SupplyAnswer> {
    let recount = query(asked)?.audit == Some(true);
    let answer = blocking(shared, move |shared| {
        let state = shared.state();
        let lines = View::new(&*state).supply().map_err(ledger)?;
        let found = if recount {
            Some(audit(&*state).map_err(ledger)?)
        } else {
            None
        };
        Ok(SupplyAnswer {
            as_of_height: height_of(&state),
            supply_units: SUPPLY_UNITS,
            lines,
            audit_is_clean: found.map(|audit| audit.is_clean()),
        })
    });
    answer.await.map(Json)
}

pub(super) async fn account(
    State(shared): State<Arc<Shared>>,
    Path(id): Id,
) -> Answer<AccountAnswer> {
    let account: AccountId = parsed("account", &id)?;
    let answer = blocking(shared, move |shared| {
        let state = shared.state();
        let row = View::new(&*state).account(&account).map_err(ledger)?;
        Ok(AccountAnswer {
            account,
            balance_units: row.balance,
            nonce: row.nonce,
            as_of_height: height_of(&state),
        })
    });
    answer.await.map(Json)
}

pub(super) async fn content(
    State(shared): State<Arc<Shared>>,
    Path(id): Id,
) -> Answer<ContentAnswer> {
    let content: ContentId = parsed("content", &id)?;
    let answer = blocking(shared, move |shared| {
        let state = shared.state();
        let row = View::new(&*state).content(&content).map_err(ledger)?;
        let row = row.ok_or_else(|| not_found("unknown_content", &content))?;
        Ok(ContentAnswer {
            content,
            owner: row.owner,
            size: row.registration.size,
            sha256: row.registration.sha256,
            as_of_height: height_of(&state),
        })
    });
    answer.await.map(Json)
}

fn package_answer(
    state: &ChainState,
    package: PackageId,
) -> Result<Option<PackageAnswer>, Problem> {
    let view = View::new(state);
    let row = view.package(&package).map_err(ledger)?;
    let terms = view.terms(&package).map_err(ledger)?;
    Ok(row.zip(terms).map(|(row, terms)| PackageAnswer {
        package,
        terms,
        ledger: row,
        as_of_height: height_of(state),
    }))
}

pub(super) async fn package(
    State(shared): State<Arc<Shared>>,
    Path(id): Id,
) -> Answer<PackageAnswer> {
    let package: PackageId = parsed("package", &id)?;
    let answer = blocking(shared, move |shared| {
        package_answer(&shared.state(), package)?
            .ok_or_else(|| not_found("unknown_package", &package))
    });
    answer.await.map(Json)
}

pub(super) async fn packages(
    State(shared): State<Arc<Shared>>,
    asked: QueryOf<PageQuery>,
) -> Answer<PageAnswer<PackageAnswer>> {
    let asked = query(asked)?;
    let limit = asked.limit()?;
    let after: Option<PackageId> = asked.after()?;
    let owner: Option<AccountId> = asked
        .owner
        .as_deref()
        .map(|owner| parsed("owner", owner))
        .transpose()?;
    let answer = blocking(shared, move |shared| {
        packages_page(&shared.state(), owner, after, limit)
    });
    answer.await.map(Json)
}

/// The chain lists packages by id alone; an owner's are picked out of at most [`OWNER_SCAN`] per
/// page, so a page can be short and still have a next one.
fn packages_page(
    state: &ChainState,
    owner: Option<AccountId>,
    after: Option<PackageId>,
    limit: usize,
) -> Result<PageAnswer<PackageAnswer>, Problem> {
    let view = View::new(state);
    let scan = if owner.is_some() { OWNER_SCAN } else { limit };
    let ids = view
        .packages(scan.saturating_add(1), after.as_ref())
        .map_err(ledger)?;
    let mut data = Vec::new();
    let mut last = None;
    let mut seen: usize = 0;
    for id in ids.iter().take(scan) {
        if data.len() >= limit {
            break;
        }
        seen = seen.saturating_add(1);
        last = Some(*id);
        let row = view.package(id).map_err(ledger)?;
        if row.is_some_and(|row| owner.is_none_or(|owner| row.owner == owner)) {
            data.extend(package_answer(state, *id)?);
        }
    }
    Ok(PageAnswer {
        data,
        has_more: seen < ids.len(),
        next: last.map(|id| id.to_string()),
    })
}

pub(super) async fn viewers(
    State(shared): State<Arc<Shared>>,
    Path(id): Id,
    asked: QueryOf<PageQuery>,
) -> Answer<PageAnswer<ViewerAnswer>> {
    let package: PackageId = parsed("package", &id)?;
    let asked = query(asked)?;
    let limit = asked.limit()?;
    let after: Option<ViewerKey> = asked.after()?;
    let answer = blocking(shared, move |shared| {
        let state = shared.state();
        let view = View::new(&*state);
        if view.package(&package).map_err(ledger)?.is_none() {
            return Err(not_found("unknown_package", &package));
        }
        let rows = view
            .viewers(&package, limit.saturating_add(1), after.as_ref())
            .map_err(ledger)?;
        let data: Vec<ViewerAnswer> = rows
            .iter()
            .take(limit)
            .map(|(viewer, row)| ViewerAnswer::new(*viewer, row))
            .collect();
        Ok(PageAnswer {
            next: data.last().map(|row| row.viewer.to_string()),
            has_more: rows.len() > limit,
            data,
        })
    });
    answer.await.map(Json)
}

pub(super) async fn viewer(
    State(shared): State<Arc<Shared>>,
    Path((package, viewer)): Path<(String, String)>,
) -> Answer<ViewerAnswer> {
    let package: PackageId = parsed("package", &package)?;
    let viewer: ViewerKey = parsed("viewer", &viewer)?;
    let answer = blocking(shared, move |shared| {
        let state = shared.state();
        let row = View::new(&*state)
            .viewer(&package, &viewer)
            .map_err(ledger)?;
        row.map(|row| ViewerAnswer::new(viewer, &row))
            .ok_or_else(|| not_found("unknown_viewer", &viewer))
    });
    answer.await.map(Json)
}

fn party_id(text: &str) -> Result<Party, Problem> {
    if text.starts_with("gwy_") {
        let gateway: GatewayId = parsed("party", text)?;
        return Ok(Party::Gateway { gateway });
    }
    if text.starts_with("bst_") {
        let basestation: BaseStationId = parsed("party", text)?;
        return Ok(Party::BaseStation { basestation });
    }
    let operator: OperatorId = parsed("party", text)?;
    Ok(Party::Operator { operator })
}

pub(super) async fn party(State(shared): State<Arc<Shared>>, Path(id): Id) -> Answer<PartyAnswer> {
    let party = party_id(&id)?;
    let answer = blocking(shared, move |shared| {
        let state = shared.state();
        let row = View::new(&*state).party(&party).map_err(ledger)?;
        let code = match party {
            Party::Gateway { .. } => "unknown_gateway",
            Party::BaseStation { .. } => "unknown_basestation",
            Party::Operator { .. } => "unknown_operator",
        };
        let row = row.ok_or_else(|| not_found(code, &id))?;
        Ok(PartyAnswer {
            party,
            owner: row.owner,
            key: row.key,
            asset: row.asset,
            name: row.name.as_str().to_owned(),
            batch_sequence: row.batch_sequence,
            as_of_height: height_of(&state),
        })
    });
    answer.await.map(Json)
}

/// A whole block; `None` when the height is not final.
pub(crate) fn block_answer<S: KvStore>(
    state: &StateStore<S>,
    height: BlockHeight,
) -> Result<Option<BlockAnswer>, StateStoreError> {
    let Some(summary) = state.summary(height)? else {
        return Ok(None);
    };
    let missing = |record| StateStoreError::Missing { record, height };
    let transactions = state
        .transactions(height)?
        .ok_or_else(|| missing("transactions"))?;
    let receipts = state.receipts(height)?.ok_or_else(|| missing("receipts"))?;
    Ok(Some(BlockAnswer {
        id: summary.header.id(),
        header: summary.header,
        certificate: summary.certificate,
        transactions: transactions.into_vec(),
        receipts: receipts.into_vec(),
    }))
}

pub(super) async fn block(
    State(shared): State<Arc<Shared>>,
    Path(height): Id,
) -> Answer<BlockAnswer> {
    let height: BlockHeight = parsed("height", &height)?;
    let answer = blocking(shared, move |shared| {
        block_answer(&shared.state(), height)
            .map_err(stored)?
            .ok_or_else(|| not_found("unknown_block", &height))
    });
    answer.await.map(Json)
}

pub(super) async fn blocks(
    State(shared): State<Arc<Shared>>,
    asked: QueryOf<PageQuery>,
) -> Answer<PageAnswer<BlockAnswer>> {
    let asked = query(asked)?;
    let limit = asked.limit()?.min(BLOCKS_MAX);
    let after: Option<BlockHeight> = asked.after()?;
    let answer = blocking(shared, move |shared| {
        let state = shared.state();
        let tip = height_of(&state);
        let mut height = after.map_or(BlockHeight::ZERO, BlockHeight::next);
        let mut data = Vec::new();
        let mut bytes: usize = 0;
        while height <= tip && data.len() < limit && bytes < 4 * MAX_BLOCK_BYTES {
            let Some(answer) = block_answer(&state, height).map_err(stored)? else {
                break;
            };
            bytes = bytes.saturating_add(weight(&answer));
            data.push(answer);
            height = height.next();
        }
        Ok(PageAnswer {
            has_more: height <= tip,
            next: data.last().map(|row| row.header.height.to_string()),
            data,
        })
    });
    answer.await.map(Json)
}

/// Encoded bytes of what makes a block large.
fn weight(answer: &BlockAnswer) -> usize {
    let receipts = answer
        .receipts
        .iter()
        .map(|receipt| receipt.to_bytes().len());
    let transactions = answer
        .transactions
        .iter()
        .map(|transaction| transaction.to_bytes().len());
    receipts.chain(transactions).sum()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofQuery {
    height: Option<String>,
}

pub(super) async fn account_proof(
    State(shared): State<Arc<Shared>>,
    Path(id): Id,
    asked: QueryOf<ProofQuery>,
) -> Answer<ProofAnswer> {
    let account: AccountId = parsed("account", &id)?;
    let height: Option<BlockHeight> = query(asked)?
        .height
        .map(|height| parsed("height", &height))
        .transpose()?;
    let answer = blocking(shared, move |shared| {
        let state = shared.state();
        let height = height.unwrap_or_else(|| height_of(&state));
        let key = account_key(&account);
        let proof = state.prove(&key, height).map_err(|error| match error {
            StateStoreError::Tree(TreeError::NotKept { height }) => Problem::new(
                StatusCode::NOT_FOUND,
                "state_not_kept",
                format!("the state after block {height} is pruned or still to come"),
            ),
            other => stored(other),
        })?;
        Ok(ProofAnswer {
            account,
            height: proof.height,
            root: proof.root,
            key: hex::encode(&proof.key),
            value: proof.value.map(hex::encode),
            proof: hex::encode(&proof.proof),
        })
    });
    answer.await.map(Json)
}

/// The tree's key of an account, as `qlink_ledger` names its rows.
fn account_key(account: &AccountId) -> Vec<u8> {
    [b"a", account.as_bytes().as_slice()].concat()
}
