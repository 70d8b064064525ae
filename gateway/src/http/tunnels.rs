//! The tunnel: BaseStations enrol.

use std::sync::Arc;

use axum::extract::{Path, State};
use qlink_api::tunnel::{EnrolTunnelRequest, EnrolledTunnel};
use qlink_serve::{Json, Problem};
use qlink_types::ids::BaseStationId;

use super::problem::from_service;
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
    service
        .enrol(basestation, request)
        .await
        .map(Json)
        .map_err(|error| from_service(&error))
}
