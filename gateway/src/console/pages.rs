//! Routes and pages.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use qlink_client::rpc::{PackageAnswer, StatusAnswer};
use qlink_client::{CursorStore as _, FileCursor};
use qlink_types::ids::{PackageId, SessionId};
use serde::Deserialize;

use super::blocks::{BlockRow, Blocks};
use super::figures::{grouped, qlc};
use super::package::{Line, PackageCard, ViewerCounts, ViewerRow};
use super::session::{Reason, SessionDetail, SessionRow};
use super::{assets, package, session};
use crate::http::session_view;
use crate::service::{Service, ServiceError};

type App = State<Arc<Service>>;
type Memory = Extension<Arc<Remembered>>;

/// Rows of a list on one page.
const ROWS: usize = 25;

/// Longest cursor that a link may carry.
const CURSOR_CHARS_MAX: usize = 128;

/// What is remembered between pages, all of it read from the node again when it is missing.
#[derive(Debug, Default)]
struct Remembered {
    blocks: Blocks,
    viewers: ViewerCounts,
}

/// Where lists begin. A cursor of other characters than ids have counts as none.
#[derive(Debug, Default, Deserialize)]
struct Place {
    #[serde(default)]
    packages: Option<String>,
    #[serde(default)]
    sessions: Option<String>,
    #[serde(default)]
    viewers: Option<String>,
}

fn cursor(text: Option<&String>) -> Option<&str> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    text.map(String::as_str)
        .filter(|text| text.len() <= CURSOR_CHARS_MAX && text.chars().all(known))
}

/// The console's routes.
pub(crate) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/console", get(overview))
        .route("/console/fragment", get(overview_fragment))
        .route("/console/packages/{package}", get(package_page))
        .route(
            "/console/packages/{package}/fragment",
            get(package_fragment),
        )
        .route("/console/sessions/{session}", get(session_page))
        .route(
            "/console/sessions/{session}/fragment",
            get(session_fragment),
        )
        .layer(Extension(Arc::new(Remembered::default())))
        .merge(assets::routes())
        .layer(axum::middleware::map_response(assets::guard))
}

/// What every page needs besides its changing part.
struct Shell {
    gateway: String,
    version: &'static str,
    /// Address of the changing part.
    fragment: String,
    /// Address of the event stream, from about now on.
    stream: String,
}

impl Shell {
    async fn new(service: &Arc<Service>, fragment: String) -> Self {
        let file = FileCursor::new(&service.config.directory.join("settle.cursor"));
        // The settlement follows all events; where it stands is about now. Without it the stream
        // begins at genesis, which costs time and nothing else.
        let position = tokio::task::spawn_blocking(move || file.load()).await;
        let position = position.ok().and_then(Result::ok).flatten();
        Self {
            gateway: service.gateway().to_string(),
            version: env!("CARGO_PKG_VERSION"),
            fragment,
            stream: match cursor(position.as_ref()) {
                Some(cursor) => format!("/v1/events/stream?after={cursor}"),
                None => "/v1/events/stream".to_owned(),
            },
        }
    }
}

/// The chain in a few figures.
struct ChainFacts {
    name: String,
    unbacked: bool,
    orderer: String,
    validators: u32,
    final_height: String,
    supply: String,
}

impl ChainFacts {
    fn new(status: &StatusAnswer) -> Self {
        Self {
            name: status.name.clone(),
            unbacked: status.unbacked,
            orderer: status.orderer.clone(),
            validators: status.validators,
            final_height: grouped(status.final_height.get()),
            supply: qlc(status.supply_units),
        }
    }
}

/// The changing part of the overview.
#[derive(Template)]
#[template(path = "console/overview_live.html")]
struct Overview {
    chain: Option<ChainFacts>,
    dataplane: Option<String>,
    open_sessions: String,
    batches_final: String,
    batches_waiting: String,
    records_refused: u64,
    packages: Vec<PackageCard>,
    packages_next: Option<String>,
    sessions: Vec<SessionRow>,
    sessions_next: Option<String>,
    reasons: Vec<Reason>,
    blocks: Vec<BlockRow>,
}

#[derive(Template)]
#[template(path = "console/overview.html")]
struct OverviewPage {
    shell: Shell,
    live: Overview,
}

/// The changing part of a package's page.
#[derive(Template)]
#[template(path = "console/package_live.html")]
struct PackageDetail {
    card: PackageCard,
    money: Vec<Line>,
    balanced: bool,
    terms: Vec<Line>,
    contents: Vec<String>,
    viewers: Vec<ViewerRow>,
    viewers_next: Option<String>,
}

#[derive(Template)]
#[template(path = "console/package.html")]
struct PackagePage {
    shell: Shell,
    live: PackageDetail,
}

/// The changing part of a session's page.
#[derive(Template)]
#[template(path = "console/session_live.html")]
struct SessionLive {
    session: SessionDetail,
}

#[derive(Template)]
#[template(path = "console/session.html")]
struct SessionPage {
    shell: Shell,
    live: SessionLive,
}

/// A page instead of one that cannot be shown.
#[derive(Template)]
#[template(path = "console/problem.html")]
struct ProblemPage {
    shell: Shell,
    title: &'static str,
    detail: String,
}

/// Why a page cannot be shown.
enum NoPage {
    /// There is no such thing.
    Unknown(String),
    /// Something that is needed does not answer; later it may.
    Later(String),
}

impl NoPage {
    fn later(error: &dyn std::error::Error) -> Self {
        Self::Later(error.to_string())
    }

    async fn answer(self, service: &Arc<Service>) -> Response {
        let (status, title, detail) = match self {
            Self::Unknown(detail) => (StatusCode::NOT_FOUND, "Not found", detail),
            Self::Later(detail) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not available at this moment",
                detail,
            ),
        };
        let page = ProblemPage {
            shell: Shell::new(service, String::new()).await,
            title,
            detail,
        };
        html(status, &page)
    }
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    match page.render() {
        Ok(text) => (status, [(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page does not render");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Carries the place of the page over to its fragment.
fn fragment(path: &str, place: &Place) -> String {
    let named = [
        ("packages", &place.packages),
        ("sessions", &place.sessions),
        ("viewers", &place.viewers),
    ];
    let mut address = format!("{path}/fragment");
    let mut sign = '?';
    for (name, value) in named {
        if let Some(value) = cursor(value.as_ref()) {
            address.push_str(&format!("{sign}{name}={value}"));
            sign = '&';
        }
    }
    address
}

async fn overview(
    State(service): App,
    Extension(memory): Memory,
    Query(place): Query<Place>,
) -> Response {
    let page = OverviewPage {
        shell: Shell::new(&service, fragment("/console", &place)).await,
        live: read_overview(&service, &memory, &place).await,
    };
    html(StatusCode::OK, &page)
}

async fn overview_fragment(
    State(service): App,
    Extension(memory): Memory,
    Query(place): Query<Place>,
) -> Response {
    html(
        StatusCode::OK,
        &read_overview(&service, &memory, &place).await,
    )
}

/// Never fails: what cannot be read is left out, and the page says so.
async fn read_overview(service: &Arc<Service>, memory: &Remembered, place: &Place) -> Overview {
    let (status, packages, sessions) = tokio::join!(
        service.node.status(),
        service.node.packages(cursor(place.packages.as_ref()), ROWS),
        read_sessions(service, place),
    );
    let status = status.ok();
    let (rows, packages_next) = match packages {
        Ok(page) => (page.data, page.next.filter(|_| page.has_more)),
        Err(_) => (Vec::new(), None),
    };
    let mut cards = Vec::with_capacity(rows.len());
    for row in &rows {
        cards.extend(package::card(service, &memory.viewers, row).await);
    }
    // What rewards viewers comes first, personal data packages behind it.
    cards.sort_by_key(|card| !card.equation.rewards);
    let blocks = match &status {
        Some(status) => memory.blocks.newest(service, status).await,
        None => Vec::new(),
    };
    let open_sessions = service.registry().open_sessions().len();
    let metrics = &service.metrics;
    let (sessions, sessions_next, reasons) = sessions;
    Overview {
        chain: status.as_ref().map(ChainFacts::new),
        dataplane: service
            .link
            .info()
            .map(|info| format!("incarnation {}", info.incarnation)),
        open_sessions: grouped(u64::try_from(open_sessions).unwrap_or(u64::MAX)),
        batches_final: grouped(metrics.batches_final.get()),
        batches_waiting: metrics.outbox_rows.get().to_string(),
        records_refused: metrics.records_refused.get(),
        packages: cards,
        packages_next,
        sessions,
        sessions_next,
        reasons,
        blocks,
    }
}

/// Rows, the cursor behind them, and the reasons in words.
async fn read_sessions(
    service: &Arc<Service>,
    place: &Place,
) -> (Vec<SessionRow>, Option<String>, Vec<Reason>) {
    let after: Option<SessionId> = cursor(place.sessions.as_ref()).and_then(|id| id.parse().ok());
    let reader = Arc::clone(service);
    let read = tokio::task::spawn_blocking(move || {
        reader.refresh();
        reader
            .registry()
            .page(after.as_ref(), ROWS.saturating_add(1))
    });
    let Ok(Ok(sessions)) = read.await else {
        return (Vec::new(), None, Vec::new());
    };
    let views: Vec<_> = sessions
        .iter()
        .take(ROWS)
        .map(|session| session_view(service, session))
        .collect();
    let next = views
        .last()
        .filter(|_| sessions.len() > ROWS)
        .map(|view| view.session.to_string());
    (
        views.iter().map(session::row).collect(),
        next,
        views.first().map(session::reasons).unwrap_or_default(),
    )
}

async fn package_page(
    State(service): App,
    Extension(memory): Memory,
    Path(id): Path<String>,
    Query(place): Query<Place>,
) -> Response {
    match read_package(&service, &memory, &id, &place).await {
        Ok(live) => {
            let path = format!("/console/packages/{}", live.card.id);
            let shell = Shell::new(&service, fragment(&path, &place)).await;
            html(StatusCode::OK, &PackagePage { shell, live })
        }
        Err(no_page) => no_page.answer(&service).await,
    }
}

async fn package_fragment(
    State(service): App,
    Extension(memory): Memory,
    Path(id): Path<String>,
    Query(place): Query<Place>,
) -> Response {
    match read_package(&service, &memory, &id, &place).await {
        Ok(live) => html(StatusCode::OK, &live),
        Err(no_page) => no_page.answer(&service).await,
    }
}

async fn read_package(
    service: &Arc<Service>,
    memory: &Remembered,
    id: &str,
    place: &Place,
) -> Result<PackageDetail, NoPage> {
    let unknown = || NoPage::Unknown(format!("There is no package {id}."));
    let package: PackageId = id.parse().map_err(|_| unknown())?;
    let answer: PackageAnswer = service
        .node
        .package(&package)
        .await
        .map_err(|error| NoPage::later(&error))?
        .ok_or_else(unknown)?;
    let after = cursor(place.viewers.as_ref());
    let (card, viewers) = tokio::join!(
        package::card(service, &memory.viewers, &answer),
        service.node.viewers(&package, after, ROWS),
    );
    let viewers = viewers.map_err(|error| NoPage::later(&error))?;
    Ok(PackageDetail {
        card: card.map_err(|error| NoPage::later(&error))?,
        money: package::money(&answer),
        balanced: answer.ledger.totals.is_balanced(),
        terms: package::terms(&answer),
        contents: package::contents(&answer),
        viewers: viewers.data.iter().map(package::viewer).collect(),
        viewers_next: viewers.next.filter(|_| viewers.has_more),
    })
}

async fn session_page(State(service): App, Path(id): Path<String>) -> Response {
    match read_session(&service, &id).await {
        Ok(live) => {
            let path = format!("/console/sessions/{}/fragment", live.session.row.id);
            let shell = Shell::new(&service, path).await;
            html(StatusCode::OK, &SessionPage { shell, live })
        }
        Err(no_page) => no_page.answer(&service).await,
    }
}

async fn session_fragment(State(service): App, Path(id): Path<String>) -> Response {
    match read_session(&service, &id).await {
        Ok(live) => html(StatusCode::OK, &live),
        Err(no_page) => no_page.answer(&service).await,
    }
}

async fn read_session(service: &Arc<Service>, id: &str) -> Result<SessionLive, NoPage> {
    let unknown = || NoPage::Unknown(format!("There is no session {id}."));
    let session: SessionId = id.parse().map_err(|_| unknown())?;
    let reader = Arc::clone(service);
    let read = tokio::task::spawn_blocking(move || reader.session(&session)).await;
    match read.map_err(|_| NoPage::later(&ServiceError::Task))? {
        Ok(session) => Ok(SessionLive {
            session: session::detail(&session_view(service, &session)),
        }),
        Err(ServiceError::UnknownSession(_)) => Err(unknown()),
        Err(error) => Err(NoPage::later(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_cannot_carry_other_characters_into_an_address() {
        let text = |text: &str| Some(text.to_owned());

        assert_eq!(cursor(text("pkg_01").as_ref()), Some("pkg_01"));
        assert_eq!(cursor(text("a&limit=9").as_ref()), None);
        assert_eq!(cursor(text("a b").as_ref()), None);
        assert_eq!(cursor(Some("a".repeat(200)).as_ref()), None);
    }

    #[test]
    fn a_fragment_shows_the_same_place_as_its_page() {
        let place = Place {
            packages: Some("pkg_1".to_owned()),
            sessions: Some("\"><script>".to_owned()),
            viewers: Some("vwr_1".to_owned()),
        };

        assert_eq!(
            fragment("/console", &place),
            "/console/fragment?packages=pkg_1&viewers=vwr_1"
        );
    }
}
