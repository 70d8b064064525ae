//! Reading: accounts, contents, packages, consumption. What the chain holds is read at its newest
//! final block, which every answer names.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use futures::StreamExt as _;
use qlink_api::list::Page;
use qlink_api::package::{AccountView, ContentState, ContentView, PackageView, RatioView};
use qlink_api::session::ConsumptionRow;
use qlink_client::rpc::PackageAnswer;
use qlink_serve::{Json, Problem};
use qlink_types::ids::{AccountId, ContentId, PackageId, ViewerKey};
use qlink_types::rating::Ratio;
use qlink_types::units::{BlockHeight, UNITS_PER_QLC, Units};
use serde::Deserialize;

use super::problem::{bad_parameter, from_node, internal, not_found};
use crate::copies::CopyError;
use crate::service::Service;

type App = State<Arc<Service>>;
type Answer<T> = Result<Json<T>, Problem>;

/// Numbers uploads of this process; leftovers of earlier ones are removed at its start.
static UPLOADS: AtomicU64 = AtomicU64::new(0);

/// Rows of a page when the request names no limit.
const LIMIT_DEFAULT: usize = 50;

/// Most rows of a page.
const LIMIT_MAX: usize = 100;

/// Longest cursor.
const CURSOR_BYTES_MAX: usize = 128;

/// Where a page starts and how long it may be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    /// Behind this cursor.
    #[serde(default)]
    after: Option<String>,
    /// At most this many rows, 1 to 100.
    #[serde(default)]
    limit: Option<usize>,
}

impl Paging {
    /// The number of rows asked for, within bounds.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX)
    }

    /// The cursor as text that can stand in an address.
    pub(crate) fn after(&self) -> Result<Option<&str>, Problem> {
        checked_cursor(self.after.as_deref())
    }

    /// The cursor as an id.
    pub(crate) fn after_id<T: FromStr<Err: Display>>(&self) -> Result<Option<T>, Problem> {
        let id = self.after.as_deref().map(str::parse).transpose();
        id.map_err(|error| bad_parameter("after", &error))
    }
}

fn checked_cursor(cursor: Option<&str>) -> Result<Option<&str>, Problem> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    match cursor {
        Some(text) if text.len() > CURSOR_BYTES_MAX || !text.chars().all(known) => Err(
            bad_parameter("after", &"not a cursor that an answer gave as 'next'"),
        ),
        cursor => Ok(cursor),
    }
}

/// An account.
#[utoipa::path(get, path = "/v1/accounts/{account}", tag = "accounts",
    responses((status = 200, body = AccountView)))]
pub(crate) async fn account(State(service): App, Path(id): Path<AccountId>) -> Answer<AccountView> {
    let answer = service
        .node
        .account(&id)
        .await
        .map_err(|error| from_node(&error))?;
    Ok(Json(AccountView {
        account: answer.account,
        balance: answer.balance_units.into(),
        nonce: answer.nonce,
        as_of_height: answer.as_of_height,
    }))
}

/// A content.
#[utoipa::path(get, path = "/v1/contents/{content}", tag = "contents",
    responses((status = 200, body = ContentView)))]
pub(crate) async fn content(State(service): App, Path(id): Path<ContentId>) -> Answer<ContentView> {
    content_view(&service, id)
        .await?
        .map(Json)
        .ok_or_else(|| not_found(&format!("{id} is neither registered nor uploaded here")))
}

async fn content_view(service: &Service, id: ContentId) -> Result<Option<ContentView>, Problem> {
    let known = service
        .node
        .content(&id)
        .await
        .map_err(|error| from_node(&error))?;
    let here = service.copies.size(&id);
    let short = hex::encode(id.as_bytes().get(..16).unwrap_or_default());
    let view = |size, owner, state, as_of_height| ContentView {
        content: id,
        id: format!("cnt_{short}"),
        size,
        owner,
        state,
        copy_here: here.is_some(),
        as_of_height,
    };
    Ok(match (known, here) {
        (Some(known), _) => Some(view(
            known.size,
            Some(known.owner),
            ContentState::Registered,
            known.as_of_height,
        )),
        (None, Some(size)) => Some(view(size, None, ContentState::Stored, BlockHeight::ZERO)),
        (None, None) => None,
    })
}

/// Contents of which a copy is here.
#[utoipa::path(get, path = "/v1/contents", tag = "contents",
    responses((status = 200, body = Page<ContentView>)))]
pub(crate) async fn contents(
    State(service): App,
    Query(paging): Query<Paging>,
) -> Answer<Page<ContentView>> {
    let all = service.copies.list().map_err(|error| internal(&error))?;
    let after: Option<ContentId> = paging.after_id()?;
    let mut rest = all
        .into_iter()
        .filter(|id| after.is_none_or(|after| *id > after));
    let mut data = Vec::new();
    for id in rest.by_ref().take(paging.limit()) {
        data.extend(content_view(&service, id).await?);
    }
    let has_more = rest.next().is_some();
    let next = data.last().map(|row: &ContentView| row.content.to_string());
    Ok(Json(Page {
        data,
        has_more,
        next,
    }))
}

/// Uploads the bytes of a content; they must have the root that the path names.
#[utoipa::path(put, path = "/v1/contents/{content}/bytes", tag = "contents",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = ContentView)))]
pub(crate) async fn upload(
    State(service): App,
    Path(id): Path<ContentId>,
    body: Body,
) -> Answer<ContentView> {
    if service.copies.size(&id).is_none() {
        receive(&service, id, body).await?;
    }
    content_view(&service, id)
        .await?
        .map(Json)
        .ok_or_else(|| not_found(&format!("{id} was taken away again")))
}

async fn receive(service: &Service, id: ContentId, body: Body) -> Result<(), Problem> {
    let number = UPLOADS.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}", hex::encode(id.as_bytes()));
    let mut upload = service
        .copies
        .begin(&name)
        .map_err(|error| internal(&error))?;
    let mut received: u64 = 0;
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| {
            Problem::of_status(
                StatusCode::BAD_REQUEST,
                format!("the upload broke off: {error}"),
            )
        })?;
        received = received.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if received > service.config.upload_bytes_max {
            return Err(Problem::of_status(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "at most {} bytes are taken",
                    service.config.upload_bytes_max
                ),
            ));
        }
        upload.write(&piece).map_err(|error| internal(&error))?;
    }
    let copies = service.copies.clone();
    let finished = tokio::task::spawn_blocking(move || copies.finish(upload, id)).await;
    finished
        .map_err(|error| internal(&error))?
        .map_err(|error| match &error {
            CopyError::Mismatch { .. } => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "content_mismatch",
                error.to_string(),
            ),
            CopyError::Registration(_) => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "content_invalid",
                error.to_string(),
            ),
            CopyError::Io(_) => internal(&error),
        })
}

/// Packages in the order of their ids.
#[utoipa::path(get, path = "/v1/packages", tag = "packages",
    responses((status = 200, body = Page<PackageView>)))]
pub(crate) async fn packages(
    State(service): App,
    Query(paging): Query<Paging>,
) -> Answer<Page<PackageView>> {
    let answer = service
        .node
        .packages(paging.after()?, paging.limit())
        .await
        .map_err(|error| from_node(&error))?;
    let data = answer
        .data
        .into_iter()
        .map(|row| package_view(&service, row))
        .collect();
    Ok(Json(Page {
        data,
        has_more: answer.has_more,
        next: answer.next,
    }))
}

/// A package.
#[utoipa::path(get, path = "/v1/packages/{package}", tag = "packages",
    responses((status = 200, body = PackageView)))]
pub(crate) async fn package(State(service): App, Path(id): Path<PackageId>) -> Answer<PackageView> {
    let answer = known_package(&service, &id).await?;
    Ok(Json(package_view(&service, answer)))
}

async fn known_package(service: &Service, id: &PackageId) -> Result<PackageAnswer, Problem> {
    let answer = service
        .node
        .package(id)
        .await
        .map_err(|error| from_node(&error))?;
    answer.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "unknown_package",
            format!("there is no package {id}"),
        )
    })
}

fn package_view(service: &Service, answer: PackageAnswer) -> PackageView {
    let epoch = answer.ledger.package_epoch;
    let registry = service.registry();
    let ours = registry.commitments().of_package(&answer.package, epoch);
    let settled = registry.commitments().settled(&answer.package, epoch);
    drop(registry);
    PackageView {
        package: answer.package,
        owner: answer.ledger.owner,
        state: answer.ledger.state,
        package_epoch: epoch,
        terms: answer.terms,
        used_bytes: answer.ledger.current.used,
        reserved_bytes: ours.saturating_sub(settled),
        moved: answer.ledger.current.moved().into(),
        refund: answer.ledger.totals.refund.into(),
        as_of_height: answer.as_of_height,
    }
}

/// The ratio equation of a package.
#[utoipa::path(get, path = "/v1/packages/{package}/ratio", tag = "packages",
    responses((status = 200, body = RatioView)))]
pub(crate) async fn ratio(State(service): App, Path(id): Path<PackageId>) -> Answer<RatioView> {
    let answer = known_package(&service, &id).await?;
    let terms = answer.ledger.current;
    let owed = Ratio::new(terms.reward, terms.bytes)
        .and_then(|ratio| ratio.owed(terms.used))
        .map_err(|error| internal(&error))?;
    Ok(Json(RatioView {
        package: id,
        package_epoch: answer.ledger.package_epoch,
        used_bytes: terms.used,
        volume_bytes: terms.bytes,
        moved: terms.moved().into(),
        reward: terms.reward.into(),
        owed: owed.into(),
        equation: format!(
            "{} bytes used = {} QLC moved of {} QLC for {} bytes",
            terms.used,
            qlc(terms.moved()),
            qlc(terms.reward),
            terms.bytes
        ),
        as_of_height: answer.as_of_height,
    }))
}

/// An amount in QLC with all its decimals.
pub(crate) fn qlc(units: Units) -> String {
    let whole = units.get().checked_div(UNITS_PER_QLC).unwrap_or(0);
    let rest = units.get().checked_rem(UNITS_PER_QLC).unwrap_or(0);
    format!("{whole}.{rest:08}")
}

/// Which consumption is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsumptionQuery {
    package: PackageId,
    #[serde(default)]
    viewer: Option<ViewerKey>,
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

/// What viewers have used of a package and earned by it.
#[utoipa::path(get, path = "/v1/consumption", tag = "consumption",
    responses((status = 200, body = Page<ConsumptionRow>)))]
pub(crate) async fn consumption(
    State(service): App,
    Query(query): Query<ConsumptionQuery>,
) -> Answer<Page<ConsumptionRow>> {
    let row = |answer: qlink_client::rpc::ViewerAnswer| ConsumptionRow {
        package: query.package,
        viewer: answer.viewer,
        bytes: answer.bytes,
        earned: answer.earned_units.into(),
        claimed: answer.claimed_units.into(),
    };
    if let Some(viewer) = &query.viewer {
        let answer = service.node.viewer(&query.package, viewer).await;
        let found = answer.map_err(|error| from_node(&error))?;
        let data = found.into_iter().map(row).collect();
        return Ok(Json(Page {
            data,
            has_more: false,
            next: None,
        }));
    }
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let answer = service
        .node
        .viewers(
            &query.package,
            checked_cursor(query.after.as_deref())?,
            limit,
        )
        .await
        .map_err(|error| from_node(&error))?;
    Ok(Json(Page {
        data: answer.data.into_iter().map(row).collect(),
        has_more: answer.has_more,
        next: answer.next,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_show_all_their_decimals() {
        assert_eq!(qlc(Units::new(10_000_000)), "0.10000000");
        assert_eq!(qlc(Units::new(123_456_789_012)), "1234.56789012");
    }
}
