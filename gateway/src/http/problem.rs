//! Refusals of the layers below as problems of the API.

use axum::http::StatusCode;
use qlink_client::http::HttpError;
use qlink_serve::Problem;
use qlink_types::outcome::Status;

use crate::admission::OpenRefusal;
use crate::causes::with_causes;
use crate::rulings::RulingRefusal;
use crate::service::ServiceError;
use crate::tunnels::EnrolRefusal;

/// What the node said, or that it said nothing.
pub(crate) fn from_node(error: &HttpError) -> Problem {
    match error {
        HttpError::Refused {
            status,
            code,
            detail,
        } => {
            let known = Status::ALL.iter().find(|known| known.name() == code);
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            match known {
                Some(known) => Problem::new(status, known.name(), detail.clone()),
                None => Problem::of_status(status, detail.clone()),
            }
        }
        other => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "node_unavailable",
            format!("the node does not answer ({other}); try again"),
        )
        .with_retry_after(1),
    }
}

/// A refusal of [`crate::service`].
pub(crate) fn from_service(error: &ServiceError) -> Problem {
    match error {
        ServiceError::Node(error) => from_node(error),
        ServiceError::Refused(refusal) => from_refusal(refusal),
        ServiceError::NotEnrolled(refusal) => from_enrolment(refusal),
        ServiceError::NotRuled(refusal) => from_ruling(refusal),
        ServiceError::UnknownSession(id) => not_found(&format!("there is no session {id}")),
        ServiceError::BadReceipt { detail } => {
            Problem::new(StatusCode::FORBIDDEN, "bad_receipt", detail.clone())
        }
        ServiceError::DataPlane { code, detail } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            code,
            format!("{detail}; try again"),
        )
        .with_retry_after(1),
        ServiceError::Registry(error) => internal(error),
        ServiceError::Task => internal(error),
    }
}

fn from_refusal(refusal: &OpenRefusal) -> Problem {
    let status = match refusal {
        OpenRefusal::BadSignature { .. } | OpenRefusal::Denied(_) => StatusCode::FORBIDDEN,
        OpenRefusal::UnknownPackage(_) | OpenRefusal::UnknownBaseStation(_) => {
            StatusCode::NOT_FOUND
        }
        OpenRefusal::BadPeer(_) | OpenRefusal::AcceptanceMismatch => StatusCode::BAD_REQUEST,
        OpenRefusal::NoAddress(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::CONFLICT,
    };
    Problem::new(status, refusal.code(), refusal.to_string())
}

fn from_enrolment(refusal: &EnrolRefusal) -> Problem {
    let status = match refusal {
        EnrolRefusal::BadSignature(_) | EnrolRefusal::Denied(_) => StatusCode::FORBIDDEN,
        EnrolRefusal::NotOffered | EnrolRefusal::UnknownBaseStation(_) => StatusCode::NOT_FOUND,
        EnrolRefusal::OtherPath { .. } => StatusCode::BAD_REQUEST,
        EnrolRefusal::NoAddress(_) | EnrolRefusal::TooManyKeys => StatusCode::SERVICE_UNAVAILABLE,
        EnrolRefusal::WrongGateway { .. }
        | EnrolRefusal::ClocksApart { .. }
        | EnrolRefusal::Outdated { .. }
        | EnrolRefusal::KeyTaken => StatusCode::CONFLICT,
    };
    Problem::new(status, refusal.code(), refusal.to_string())
}

fn from_ruling(refusal: &RulingRefusal) -> Problem {
    let status = match refusal {
        RulingRefusal::BadSignature(_) => StatusCode::FORBIDDEN,
        RulingRefusal::Full => StatusCode::SERVICE_UNAVAILABLE,
        RulingRefusal::WrongGateway { .. }
        | RulingRefusal::ClocksApart { .. }
        | RulingRefusal::Outdated { .. } => StatusCode::CONFLICT,
    };
    Problem::new(status, refusal.code(), refusal.to_string())
}

/// 404 with a reason.
pub(crate) fn not_found(detail: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// 400 for one parameter.
pub(crate) fn bad_parameter(name: &str, error: &dyn std::fmt::Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "bad_parameter",
        format!("{name}: {error}"),
    )
}

/// 500; the cause goes to the log, not to the caller.
pub(crate) fn internal(error: &dyn std::error::Error) -> Problem {
    let text = with_causes(error);
    tracing::error!(error = %text, "request failed inside the gateway");
    Problem::of_status(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the gateway could not do this; its log says why",
    )
}
