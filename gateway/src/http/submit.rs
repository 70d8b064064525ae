//! Quotes and submissions: unsigned transactions out, signed ones in.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use qlink_api::transaction::{
    ClaimQuoteRequest, CloseQuoteRequest, ContentQuoteRequest, PackageQuoteRequest, Quote,
    SubmitRequest, Submitted, TopUpQuoteRequest, TransactionState, TransactionView,
    TransferQuoteRequest,
};
use qlink_serve::{Json, Problem};
use qlink_types::codec::{Decode as _, Encode as _, Text};
use qlink_types::ids::{AccountId, ContentId, PackageId, TxId};
use qlink_types::package::{CarriageShares, Scope, VersionedTerms};
use qlink_types::transaction::{Sender, SignedTransaction, Transaction, TxBody};
use qlink_types::units::{Nonce, TimeMs, Units};

use super::problem::{bad_parameter, from_node, internal, not_found};
use crate::service::{Service, now};

type App = State<Arc<Service>>;
type Answer<T> = Result<Json<T>, Problem>;
type Accepted = Result<(StatusCode, Json<Submitted>), Problem>;

/// How long a quoted transaction may wait for its signature.
const QUOTE_VALID_MS: u64 = 15 * 60 * 1000;

async fn quote(
    service: &Service,
    account: AccountId,
    fee: Units,
    deposit: Units,
    body: TxBody,
    notes: Vec<String>,
) -> Answer<Quote> {
    let state = service
        .node
        .account(&account)
        .await
        .map_err(|error| from_node(&error))?;
    let mut notes = notes;
    let needed = fee.get().saturating_add(deposit.get());
    if state.balance_units.get() < needed {
        notes.push(format!(
            "the account holds {} units and needs {needed}: signed now, this is refused as \
             insufficient_funds",
            state.balance_units
        ));
    }
    let package =
        matches!(body, TxBody::BuyPackage { .. }).then(|| PackageId::derive(&account, state.nonce));
    let transaction = Transaction {
        chain: service.chain,
        sender: Sender::Account { account },
        nonce: state.nonce,
        max_fee: fee,
        valid_until: now().plus_millis(QUOTE_VALID_MS),
        body,
    };
    Ok(Json(Quote {
        unsigned_transaction: hex::encode(transaction.to_bytes()),
        transaction: transaction.id(),
        fee: fee.into(),
        deposit: deposit.into(),
        package,
        notes,
    }))
}

async fn fees(service: &Service) -> Result<qlink_ledger::Params, Problem> {
    service.node.fees().await.map_err(|error| from_node(&error))
}

/// Quotes a transfer.
#[utoipa::path(post, path = "/v1/transfers/quote", tag = "accounts",
    request_body = TransferQuoteRequest, responses((status = 200, body = Quote)))]
pub(crate) async fn quote_transfer(
    State(service): App,
    Json(request): Json<TransferQuoteRequest>,
) -> Answer<Quote> {
    let fee = fees(&service).await?.transfer_fee;
    let body = TxBody::Transfer {
        to: request.to,
        amount: request.units,
    };
    quote(
        &service,
        request.account,
        fee,
        request.units,
        body,
        Vec::new(),
    )
    .await
}

/// Quotes a content registration.
#[utoipa::path(post, path = "/v1/contents/quote", tag = "contents",
    request_body = ContentQuoteRequest, responses((status = 200, body = Quote)))]
pub(crate) async fn quote_content(
    State(service): App,
    Json(request): Json<ContentQuoteRequest>,
) -> Answer<Quote> {
    let content = request.content;
    if service.copies.size(&content).is_none() {
        return Err(not_found(&format!(
            "{content} is not here; upload its bytes first: PUT /v1/contents/{content}/bytes"
        )));
    }
    let media_type: Text<100> = Text::try_from(request.media_type.as_str())
        .map_err(|error| bad_parameter("media_type", &error))?;
    let mut notes = Vec::new();
    let known = service
        .node
        .content(&content)
        .await
        .map_err(|error| from_node(&error))?;
    if let Some(known) = known {
        notes.push(format!(
            "already registered by {}: signed now, this is refused",
            known.owner
        ));
    }
    let copies = service.copies.clone();
    let read = tokio::task::spawn_blocking(move || copies.registration(&content, media_type));
    let registration = read
        .await
        .map_err(|error| internal(&error))?
        .map_err(|error| internal(&error))?;
    let fee = fees(&service).await?.register_content_fee;
    let body = TxBody::RegisterContent { registration };
    quote(&service, request.account, fee, Units::ZERO, body, notes).await
}

/// Quotes a package.
#[utoipa::path(post, path = "/v1/packages/quote", tag = "packages",
    request_body = PackageQuoteRequest, responses((status = 200, body = Quote)))]
pub(crate) async fn quote_package(
    State(service): App,
    Json(request): Json<PackageQuoteRequest>,
) -> Answer<Quote> {
    let terms = request.terms;
    let deposit = terms
        .deposit()
        .map_err(|error| bad_parameter("terms", &error))?;
    let mut notes = Vec::new();
    if terms.reward.get() > 0 && terms.reward.get() < terms.bytes.get() {
        notes.push(format!(
            "{} reward units for {} bytes: a unit stands for several bytes, so units alone do not \
             give back exact bytes; every record states both",
            terms.reward, terms.bytes
        ));
    }
    if let Scope::Contents { contents } = &terms.scope {
        let unique: BTreeSet<&ContentId> = contents.iter().collect();
        for content in unique {
            if service.copies.size(content).is_none() {
                notes.push(format!("this gateway holds no copy of {content} yet"));
            }
        }
    }
    let fee = fees(&service).await?.buy_package_fee;
    let body = TxBody::BuyPackage {
        terms: VersionedTerms(terms),
    };
    quote(&service, request.account, fee, deposit, body, notes).await
}

/// Quotes a top-up.
#[utoipa::path(post, path = "/v1/packages/{package}/topup/quote", tag = "packages",
    request_body = TopUpQuoteRequest, responses((status = 200, body = Quote)))]
pub(crate) async fn quote_top_up(
    State(service): App,
    Path(package): Path<PackageId>,
    Json(request): Json<TopUpQuoteRequest>,
) -> Answer<Quote> {
    let carriage = CarriageShares {
        operator: request.operator_units,
        basestation: request.basestation_units,
        gateway: request.gateway_units,
    };
    let deposit = carriage
        .total()
        .and_then(|total| total.add(request.reward_units))
        .map_err(|error| bad_parameter("units", &error))?;
    let fee = fees(&service).await?.top_up_fee;
    let body = TxBody::TopUpPackage {
        package,
        bytes: request.bytes,
        reward: request.reward_units,
        carriage,
        valid_until: request.valid_until,
    };
    quote(&service, request.account, fee, deposit, body, Vec::new()).await
}

/// Quotes a close.
#[utoipa::path(post, path = "/v1/packages/{package}/close/quote", tag = "packages",
    request_body = CloseQuoteRequest, responses((status = 200, body = Quote)))]
pub(crate) async fn quote_close(
    State(service): App,
    Path(package): Path<PackageId>,
    Json(request): Json<CloseQuoteRequest>,
) -> Answer<Quote> {
    let fee = fees(&service).await?.close_fee;
    let body = TxBody::ClosePackage { package };
    quote(
        &service,
        request.account,
        fee,
        Units::ZERO,
        body,
        Vec::new(),
    )
    .await
}

/// Quotes a claim of everything that a viewer has earned; the viewer's key signs it.
#[utoipa::path(post, path = "/v1/claims/quote", tag = "claims",
    request_body = ClaimQuoteRequest, responses((status = 200, body = Quote)))]
pub(crate) async fn quote_claim(
    State(service): App,
    Json(request): Json<ClaimQuoteRequest>,
) -> Answer<Quote> {
    let earned = service
        .node
        .viewer(&request.package, &request.viewer)
        .await
        .map_err(|error| from_node(&error))?
        .filter(|row| row.earned_units > row.claimed_units)
        .ok_or_else(|| {
            Problem::new(
                StatusCode::CONFLICT,
                "nothing_to_claim",
                format!(
                    "{} has nothing to claim from {}",
                    request.viewer, request.package
                ),
            )
        })?;
    let transaction = Transaction {
        chain: service.chain,
        sender: Sender::Viewer {
            viewer: request.viewer,
        },
        nonce: Nonce::ZERO,
        max_fee: Units::ZERO,
        valid_until: TimeMs::ZERO,
        body: TxBody::Claim {
            package: request.package,
            to: request.to,
            total: earned.earned_units,
        },
    };
    Ok(Json(Quote {
        unsigned_transaction: hex::encode(transaction.to_bytes()),
        transaction: transaction.id(),
        fee: Units::ZERO.into(),
        deposit: Units::ZERO.into(),
        package: None,
        notes: vec![format!(
            "moves {} units to {}",
            earned.earned_units.saturating_sub(earned.claimed_units),
            request.to
        )],
    }))
}

/// Decodes a signed transaction and hands it to the node, if `fits` says it belongs here.
async fn submit(
    service: &Service,
    request: &SubmitRequest,
    expected: &'static str,
    fits: impl FnOnce(&TxBody) -> bool,
) -> Accepted {
    let bytes =
        hex::decode(&request.transaction).map_err(|error| bad_parameter("transaction", &error))?;
    let signed = SignedTransaction::from_bytes(&bytes)
        .map_err(|error| bad_parameter("transaction", &error))?;
    let transaction = &signed.transaction;
    if !fits(&transaction.body) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "wrong_transaction_type",
            format!("this resource takes a signed {expected}"),
        ));
    }
    let package = match (&transaction.sender, &transaction.body) {
        (Sender::Account { account }, TxBody::BuyPackage { .. }) => {
            Some(PackageId::derive(account, transaction.nonce))
        }
        _ => None,
    };
    let content = match &transaction.body {
        TxBody::RegisterContent { registration } => Some(registration.content),
        _ => None,
    };
    let id = service
        .node
        .submit(&signed)
        .await
        .map_err(|error| from_node(&error))?;
    let state = TransactionState::Pending;
    Ok((
        StatusCode::ACCEPTED,
        Json(Submitted {
            transaction: id,
            state,
            package,
            content,
        }),
    ))
}

/// Submits a transfer.
#[utoipa::path(post, path = "/v1/transfers", tag = "accounts",
    request_body = SubmitRequest, responses((status = 202, body = Submitted)))]
pub(crate) async fn submit_transfer(
    State(service): App,
    Json(request): Json<SubmitRequest>,
) -> Accepted {
    submit(&service, &request, "transfer", |body| {
        matches!(body, TxBody::Transfer { .. })
    })
    .await
}

/// Submits a content registration.
#[utoipa::path(post, path = "/v1/contents", tag = "contents",
    request_body = SubmitRequest, responses((status = 202, body = Submitted)))]
pub(crate) async fn submit_content(
    State(service): App,
    Json(request): Json<SubmitRequest>,
) -> Accepted {
    let fits = |body: &TxBody| matches!(body, TxBody::RegisterContent { .. });
    submit(&service, &request, "content registration", fits).await
}

/// Submits a purchase.
#[utoipa::path(post, path = "/v1/packages", tag = "packages",
    request_body = SubmitRequest, responses((status = 202, body = Submitted)))]
pub(crate) async fn submit_package(
    State(service): App,
    Json(request): Json<SubmitRequest>,
) -> Accepted {
    let fits = |body: &TxBody| matches!(body, TxBody::BuyPackage { .. });
    submit(&service, &request, "package purchase", fits).await
}

/// Submits a top-up.
#[utoipa::path(post, path = "/v1/packages/{package}/topup", tag = "packages",
    request_body = SubmitRequest, responses((status = 202, body = Submitted)))]
pub(crate) async fn submit_top_up(
    State(service): App,
    Path(package): Path<PackageId>,
    Json(request): Json<SubmitRequest>,
) -> Accepted {
    let fits =
        |body: &TxBody| matches!(body, TxBody::TopUpPackage { package: of, .. } if *of == package);
    submit(&service, &request, "top-up of this package", fits).await
}

/// Submits a close.
#[utoipa::path(post, path = "/v1/packages/{package}/close", tag = "packages",
    request_body = SubmitRequest, responses((status = 202, body = Submitted)))]
pub(crate) async fn submit_close(
    State(service): App,
    Path(package): Path<PackageId>,
    Json(request): Json<SubmitRequest>,
) -> Accepted {
    let fits =
        |body: &TxBody| matches!(body, TxBody::ClosePackage { package: of } if *of == package);
    submit(&service, &request, "close of this package", fits).await
}

/// Submits a claim.
#[utoipa::path(post, path = "/v1/claims", tag = "claims",
    request_body = SubmitRequest, responses((status = 202, body = Submitted)))]
pub(crate) async fn submit_claim(
    State(service): App,
    Json(request): Json<SubmitRequest>,
) -> Accepted {
    submit(&service, &request, "claim", |body| {
        matches!(body, TxBody::Claim { .. })
    })
    .await
}

/// A transaction's state.
#[utoipa::path(get, path = "/v1/transactions/{transaction}", tag = "accounts",
    responses((status = 200, body = TransactionView)))]
pub(crate) async fn transaction(
    State(service): App,
    Path(id): Path<TxId>,
) -> Answer<TransactionView> {
    let answer = service
        .node
        .transaction(&id)
        .await
        .map_err(|error| from_node(&error))?;
    Ok(Json(TransactionView {
        transaction: answer.id,
        state: match answer.state {
            qlink_client::rpc::TransactionState::Pending => TransactionState::Pending,
            qlink_client::rpc::TransactionState::Final => TransactionState::Final,
            qlink_client::rpc::TransactionState::Unknown => TransactionState::Unknown,
        },
        height: answer.height,
        status: answer
            .receipt
            .map(|receipt| receipt.status.name().to_owned()),
    }))
}
