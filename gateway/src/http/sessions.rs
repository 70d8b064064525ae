//! Sessions: open, read with a reason for every byte, close.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use qlink_api::list::Page;
use qlink_api::session::{
    CloseSessionRequest, OpenSessionRequest, OpenedSession, ReasonRow, SessionContent, SessionEnd,
    SessionState, SessionView,
};
use qlink_serve::{Json, Problem};
use qlink_types::ids::SessionId;
use qlink_types::receipt::ByteClasses;
use qlink_types::units::Bytes;

use super::problem::{from_service, internal};
use super::read::Paging;
use crate::service::{Service, ServiceError};
use crate::session::{Leg, Session, Stage};

type App = State<Arc<Service>>;
type Answer<T> = Result<Json<T>, Problem>;

/// Opens a session.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions",
    request_body = OpenSessionRequest, responses((status = 201, body = OpenedSession)))]
pub(crate) async fn open(
    State(service): App,
    Json(request): Json<OpenSessionRequest>,
) -> Result<(StatusCode, Json<OpenedSession>), Problem> {
    let session = service
        .open(request)
        .await
        .map_err(|error| from_service(&error))?;
    let opened = OpenedSession {
        session: session.session,
        n3: session.n3.0.to_string(),
        teid: session.teid,
        ue_address: session.ue.0.to_string(),
        reserved_bytes: session
            .sponsor
            .as_ref()
            .map(|leg| leg.limit)
            .unwrap_or_default(),
    };
    Ok((StatusCode::CREATED, Json(opened)))
}

/// A session with its newest counters.
#[utoipa::path(get, path = "/v1/sessions/{session}", tag = "sessions",
    responses((status = 200, body = SessionView)))]
pub(crate) async fn session(State(service): App, Path(id): Path<SessionId>) -> Answer<SessionView> {
    let reader = Arc::clone(&service);
    let session = tokio::task::spawn_blocking(move || reader.session(&id))
        .await
        .map_err(|_| from_service(&ServiceError::Task))?
        .map_err(|error| from_service(&error))?;
    Ok(Json(view(&service, &session)))
}

/// Sessions in the order of their ids.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions",
    responses((status = 200, body = Page<SessionView>)))]
pub(crate) async fn sessions(
    State(service): App,
    Query(paging): Query<Paging>,
) -> Answer<Page<SessionView>> {
    let after: Option<SessionId> = paging.after_id()?;
    let limit = paging.limit();
    let rows = service
        .registry()
        .page(after.as_ref(), limit.saturating_add(1))
        .map_err(|error| internal(&error))?;
    let has_more = rows.len() > limit;
    let data: Vec<SessionView> = rows
        .iter()
        .take(limit)
        .map(|session| view(&service, session))
        .collect();
    let next = data.last().map(|row| row.session.to_string());
    Ok(Json(Page {
        data,
        has_more,
        next,
    }))
}

/// Closes a session.
#[utoipa::path(post, path = "/v1/sessions/{session}/close", tag = "sessions",
    request_body = CloseSessionRequest, responses((status = 200, body = SessionView)))]
pub(crate) async fn close(
    State(service): App,
    Path(id): Path<SessionId>,
    Json(request): Json<CloseSessionRequest>,
) -> Answer<SessionView> {
    let closed = service
        .close(id, request)
        .await
        .map_err(|error| from_service(&error))?;
    Ok(Json(view(&service, &closed)))
}

/// A session as the API shows it.
pub(crate) fn view(service: &Service, session: &Session) -> SessionView {
    let sponsor = session.sponsor.as_ref();
    let mut receipts = vec![service.receipt(session, 1)];
    receipts.extend(session.viewer_receipt.clone());
    receipts.extend(session.basestation_receipt.clone());
    SessionView {
        session: session.session,
        state: match session.stage {
            Stage::Opening | Stage::Open => SessionState::Open,
            Stage::Closed | Stage::Denied => SessionState::Closed,
        },
        ended_by: match session.stage {
            Stage::Opening | Stage::Open => None,
            Stage::Closed => Some(SessionEnd::Basestation),
            Stage::Denied => Some(SessionEnd::BasestationDenied),
        },
        basestation: session.basestation,
        ue_address: session.ue.0.to_string(),
        peer: session.n3.0.ip().to_string(),
        teid: session.teid,
        package: sponsor.map(|leg| leg.package),
        package_epoch: sponsor.map(Leg::package_epoch).unwrap_or_default(),
        viewer: sponsor.map(|leg| leg.viewer),
        uplink_network_bytes: session.usage.uplink.network_bytes,
        downlink_network_bytes: session.usage.downlink.network_bytes,
        classes: session.usage.classes,
        charged_bytes: session.usage.personal_bytes,
        contents: session
            .usage
            .contents
            .iter()
            .map(|content| SessionContent {
                content: content.content,
                classes: ByteClasses {
                    verified_unique: content.verified_unique,
                    ..ByteClasses::default()
                },
            })
            .collect(),
        reasons: reasons(session),
        receipts,
    }
}

/// A reason for every payload byte of a session.
fn reasons(session: &Session) -> Vec<ReasonRow> {
    let classes = &session.usage.classes;
    let charged_to = if session.personal.is_some() {
        "personal"
    } else {
        "nobody"
    };
    let rows: [(&str, Bytes, &str, &str); 7] = [
        (
            "verified_unique",
            classes.verified_unique,
            "package",
            "proven to be the content, acknowledged, delivered for the first time",
        ),
        (
            "retransmit",
            classes.retransmit,
            "nobody",
            "a further copy of a stream position with the same bytes",
        ),
        (
            "verified_repeat",
            classes.verified_repeat,
            charged_to,
            "proven content that this session had received before",
        ),
        (
            "overhead_allowed",
            classes.overhead_allowed,
            "nobody",
            "request and response heads within 8 KiB each, on a flow with proven bytes",
        ),
        (
            "undelivered",
            classes.undelivered,
            "nobody",
            "proven content that was never acknowledged",
        ),
        (
            "user_charged",
            classes.user_charged,
            charged_to,
            "not proven to be content of the package, or beyond its reservation",
        ),
        (
            "pending",
            classes.pending,
            "undecided",
            "waits for its acknowledgement",
        ),
    ];
    rows.into_iter()
        .map(|(reason, bytes, payer, explanation)| ReasonRow {
            reason: reason.to_owned(),
            bytes,
            payer: payer.to_owned(),
            explanation: explanation.to_owned(),
        })
        .collect()
}
