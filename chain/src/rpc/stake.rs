//! Reading candidates, seats and stakes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use qlink_client::rpc::PageAnswer;
use qlink_client::stake::{CandidateAnswer, SeatsAnswer, StakeRow, StakesAnswer};
use qlink_ledger::{Params, View};
use qlink_serve::{Json, Problem};
use qlink_types::ids::AccountId;
use qlink_types::units::Units;

use super::read::{height_of, ledger};
use super::request::{Answer, Id, PageQuery, QueryOf, blocking, not_found, parsed, query};
use crate::node::{ChainState, Shared};

/// Rows of the release queue looked at for one account (chosen: some milliseconds).
const WAITING_SCAN: usize = 100_000;

/// Rows of the release queue in one answer.
const WAITING_MAX: usize = 1_000;

fn params(state: &ChainState) -> Result<Params, Problem> {
    let chain = View::new(state).chain().map_err(ledger)?;
    Ok(chain.map(|chain| chain.params).unwrap_or_default())
}

/// The place of each who could be elected now, from 1.
fn ranks(state: &ChainState, params: &Params) -> Result<BTreeMap<AccountId, u32>, Problem> {
    let ranking = View::new(state).ranking(&params.stake).map_err(ledger)?;
    let ids = ranking.into_iter().map(|ranked| ranked.seat.candidate);
    Ok(ids.zip(1_u32..).collect())
}

fn answer(
    state: &ChainState,
    params: &Params,
    ranks: &BTreeMap<AccountId, u32>,
    candidate: AccountId,
) -> Result<Option<CandidateAnswer>, Problem> {
    let row = View::new(state).candidate(&candidate).map_err(ledger)?;
    Ok(row.map(|row| CandidateAnswer {
        candidate,
        rank: ranks.get(&candidate).copied(),
        weight_units: row.weight(params.stake.self_stake_factor),
        ledger: row,
        as_of_height: height_of(state),
    }))
}

pub(super) async fn candidates(
    State(shared): State<Arc<Shared>>,
    asked: QueryOf<PageQuery>,
) -> Answer<PageAnswer<CandidateAnswer>> {
    let asked = query(asked)?;
    let limit = asked.limit()?;
    let after: Option<AccountId> = asked.after()?;
    let page = blocking(shared, move |shared| {
        let state = shared.state();
        let params = params(&state)?;
        let ranks = ranks(&state, &params)?;
        let ids = View::new(&*state)
            .candidates(limit.saturating_add(1), after.as_ref())
            .map_err(ledger)?;
        let mut data = Vec::new();
        for id in ids.iter().take(limit) {
            data.extend(answer(&state, &params, &ranks, *id)?);
        }
        Ok(PageAnswer {
            next: data
                .last()
                .map(|row: &CandidateAnswer| row.candidate.to_string()),
            has_more: ids.len() > limit,
            data,
        })
    });
    page.await.map(Json)
}

pub(super) async fn candidate(
    State(shared): State<Arc<Shared>>,
    Path(id): Id,
) -> Answer<CandidateAnswer> {
    let id: AccountId = parsed("candidate", &id)?;
    let found = blocking(shared, move |shared| {
        let state = shared.state();
        let params = params(&state)?;
        let ranks = ranks(&state, &params)?;
        answer(&state, &params, &ranks, id)?.ok_or_else(|| not_found("unknown_candidate", &id))
    });
    found.await.map(Json)
}

pub(super) async fn seats(State(shared): State<Arc<Shared>>) -> Answer<SeatsAnswer> {
    let found = blocking(shared, |shared| {
        let state = shared.state();
        let row = View::new(&*state).seats().map_err(ledger)?;
        Ok(SeatsAnswer {
            ledger: row.unwrap_or_default(),
            as_of_height: height_of(&state),
        })
    });
    found.await.map(Json)
}

pub(super) async fn stakes(
    State(shared): State<Arc<Shared>>,
    Path(id): Id,
) -> Answer<StakesAnswer> {
    let account: AccountId = parsed("account", &id)?;
    let found = blocking(shared, move |shared| {
        let state = shared.state();
        let view = View::new(&*state);
        let mut candidates = vec![account];
        candidates.extend(view.votes(&account).map_err(ledger)?);
        let mut stakes = Vec::new();
        for candidate in candidates {
            let stake = view.stake(&account, &candidate).map_err(ledger)?;
            if stake.units > Units::ZERO {
                stakes.push(StakeRow { candidate, stake });
            }
        }
        let waiting = view.releases(WAITING_SCAN).map_err(ledger)?;
        let own = waiting.into_iter().filter(|row| row.voter == account);
        Ok(StakesAnswer {
            account,
            stakes,
            waiting: own.take(WAITING_MAX).collect(),
            as_of_height: height_of(&state),
        })
    });
    found.await.map(Json)
}
