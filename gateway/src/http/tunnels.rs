//! The tunnel: BaseStations enrol, the operator denies and allows.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use qlink_api::list::Page;
use qlink_api::tunnel::{
    EnrolTunnelRequest, EnrolledTunnel, RuleTunnelRequest, RulingView, TunnelMemberView,
};
use qlink_serve::{Json, Problem};
use qlink_types::codec::{Decode as _, Encode as _};
use qlink_types::ids::BaseStationId;
use qlink_types::ruling::Subject;

use super::problem::{bad_parameter, from_service};
use super::read::Paging;
use crate::service::Service;

/// Lets a BaseStation into the tunnel with the key that its device key has signed. A later statement
/// replaces an earlier one; the same one again is answered the same.
#[utoipa::path(put, path = "/v1/basestations/{basestation}/tunnel", tag = "basestations",
    request_body = EnrolTunnelRequest, responses((status = 200, body = EnrolledTunnel)))]
pub(crate) async fn enrol(
    State(service): State<Arc<Service>>,
    Path(basestation): Path<BaseStationId>,
    Json(request): Json<EnrolTunnelRequest>,
) -> Result<Json<EnrolledTunnel>, Problem> {
    let enrolled = service.enrol(basestation, request).await;
    service.count_enrolment(&enrolled);
    enrolled.map(Json).map_err(|error| from_service(&error))
}

/// Denies a BaseStation or a tunnel key, or allows it again. A later ruling on the same subject
/// replaces an earlier one. A denied BaseStation's tunnel and sessions end, and it opens none.
#[utoipa::path(post, path = "/v1/tunnel/rulings", tag = "basestations",
    request_body = RuleTunnelRequest, responses((status = 200, body = RulingView)))]
pub(crate) async fn rule(
    State(service): State<Arc<Service>>,
    Json(request): Json<RuleTunnelRequest>,
) -> Result<Json<RulingView>, Problem> {
    let ruled = service.rule(request).await;
    ruled.map(Json).map_err(|error| from_service(&error))
}

/// Who is denied: BaseStations, then tunnel keys.
#[utoipa::path(get, path = "/v1/tunnel/rulings", tag = "basestations",
    responses((status = 200, body = Page<RulingView>)))]
pub(crate) async fn rulings(
    State(service): State<Arc<Service>>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<RulingView>>, Problem> {
    let after = match paging.after()? {
        None => None,
        Some(cursor) => {
            let bytes = hex::decode(cursor).map_err(|error| bad_parameter("after", &error))?;
            let subject = Subject::from_bytes(&bytes);
            Some(subject.map_err(|error| bad_parameter("after", &error))?)
        }
    };
    let limit = paging.limit();
    let denials: Vec<_> = {
        let rulings = service.rulings();
        let denials = rulings.denials(after);
        denials.take(limit.saturating_add(1)).collect()
    };
    let has_more = denials.len() > limit;
    let shown = denials.iter().take(limit);
    let next = shown.clone().next_back();
    let next = next.map(|denial| hex::encode(denial.subject.to_bytes()));
    let data = shown.map(|denial| RulingView {
        subject: denial.subject,
        denied: Some(denial.reason),
        since: denial.since,
        state: service.ruling_state(&denial.subject),
        sessions_ended: 0,
    });
    Ok(Json(Page {
        data: data.collect(),
        has_more,
        next,
    }))
}

/// Who is enrolled, in the order of ids.
#[utoipa::path(get, path = "/v1/tunnel/basestations", tag = "basestations",
    responses((status = 200, body = Page<TunnelMemberView>)))]
pub(crate) async fn members(
    State(service): State<Arc<Service>>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<TunnelMemberView>>, Problem> {
    let after: Option<BaseStationId> = paging.after_id()?;
    let limit = paging.limit();
    let rows: Vec<_> = {
        let tunnels = service.tunnels();
        let rows = tunnels.rows_after(after);
        rows.take(limit.saturating_add(1))
            .map(|(id, row)| (*id, row.clone()))
            .collect()
    };
    let has_more = rows.len() > limit;
    let rulings = service.rulings();
    let data: Vec<TunnelMemberView> = rows
        .into_iter()
        .take(limit)
        .map(|(basestation, row)| TunnelMemberView {
            basestation,
            key: row.key,
            address: row.address.to_string(),
            signed_at: row.signed_at,
            denied: rulings
                .denial_of(basestation, row.key)
                .map(|denial| denial.reason),
        })
        .collect();
    let next = data.last().map(|row| row.basestation.to_string());
    Ok(Json(Page {
        data,
        has_more,
        next,
    }))
}
