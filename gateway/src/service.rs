//! What the gateway does with sessions: open, read, close. Holds everything that requests share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qlink_api::session::{CloseSessionRequest, OpenSessionRequest};
use qlink_client::ChainClient;
use qlink_client::http::HttpError;
use qlink_client::rpc::PackageAnswer;
use qlink_pfcp::{
    Answer, Cause, ContentBinding, DownlinkPath, PackageBinding, Payer, Request, SessionRules,
    SessionUsage, Sponsor,
};
use qlink_store::KvStore;
use qlink_types::codec::{List, Text};
use qlink_types::ids::{
    BaseStationId, ContentId, GatewayId, Hash32, OperatorId, PackageId, SessionId,
};
use qlink_types::package::{PackageTerms, Scope};
use qlink_types::receipt::{Receipt, ReceiptSigner, SignedReceipt};
use qlink_types::ruling::Subject;
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::Party;
use qlink_types::units::{Bytes, TimeMs};

use crate::admission::{
    Facts, OpenRefusal, Place, acceptance_hash, admit, check_request, session_id,
};
use crate::config::GatewayConfig;
use crate::copies::Copies;
use crate::link::{Link, LinkError};
use crate::metrics::GatewayMetrics;
use crate::registry::{Registry, RegistryError};
use crate::rulings::{RulingRefusal, Rulings};
use crate::session::{Endpoint, Leg, Session, Stage};
use crate::tunnels::{EnrolRefusal, Tunnels};
use crate::usage::Counters;

/// How often, and after which pause, a session is tried again that a batch of ours on its way to
/// finality may stand against (chosen: two seconds, ten blocks of the default interval).
const SETTLING_WAITS: usize = 40;
const SETTLING_PAUSE: Duration = Duration::from_millis(50);

/// Code of a data plane that does not answer: whether a request took effect is unknown.
const UNREACHABLE: &str = "dataplane_unavailable";

/// Why the gateway did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The node could not be asked.
    #[error("the node could not be asked")]
    Node(#[from] HttpError),
    /// The session is not opened.
    #[error(transparent)]
    Refused(#[from] OpenRefusal),
    /// The BaseStation is not let into the tunnel.
    #[error(transparent)]
    NotEnrolled(#[from] EnrolRefusal),
    /// The ruling is not taken.
    #[error(transparent)]
    NotRuled(#[from] RulingRefusal),
    /// No such session.
    #[error("there is no session {0}")]
    UnknownSession(SessionId),
    /// A receipt does not fit its session.
    #[error("{detail}")]
    BadReceipt {
        /// Why.
        detail: String,
    },
    /// The data plane did not do its part.
    #[error("the data plane did not do its part: {detail}")]
    DataPlane {
        /// Stable name of the cause.
        code: &'static str,
        /// What happened.
        detail: String,
    },
    /// Something could not be made durable.
    #[error("sessions cannot be kept")]
    Registry(#[from] RegistryError),
    /// A task ended early.
    #[error("a task of the gateway ended early")]
    Task,
}

impl ServiceError {
    /// Whether the data plane did not answer: whether the request took effect is unknown.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::DataPlane { code, .. } if *code == UNREACHABLE)
    }
}

impl From<LinkError> for ServiceError {
    fn from(error: LinkError) -> Self {
        Self::DataPlane {
            code: UNREACHABLE,
            detail: error.to_string(),
        }
    }
}

/// Everything that requests and the settlement share.
pub(crate) struct Service {
    /// Settings.
    pub config: GatewayConfig,
    /// The chain.
    pub chain: ChainId,
    /// The node.
    pub node: ChainClient,
    /// The data plane.
    pub link: Link,
    /// Verified copies.
    pub copies: Copies,
    /// Durable rows.
    pub store: Arc<dyn KvStore>,
    /// Counted events of this component.
    pub metrics: GatewayMetrics,
    key: SecretKey,
    registry: Mutex<Registry>,
    tunnels: Mutex<Tunnels>,
    rulings: Mutex<Rulings>,
    /// Held while a BaseStation enrols or is denied.
    pub(crate) enrolling: Mutex<()>,
    counters: Mutex<Counters>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("gateway", &self.config.gateway)
            .finish_non_exhaustive()
    }
}

/// The parts of a [`Service`] that its caller makes.
pub(crate) struct Parts {
    /// Settings.
    pub config: GatewayConfig,
    /// The chain.
    pub chain: ChainId,
    /// The node.
    pub node: ChainClient,
    /// The data plane.
    pub link: Link,
    /// Verified copies.
    pub copies: Copies,
    /// Durable rows.
    pub store: Arc<dyn KvStore>,
    /// Metrics.
    pub metrics: GatewayMetrics,
    /// The gateway's secret key.
    pub key: SecretKey,
    /// Sessions.
    pub registry: Registry,
    /// BaseStations in the tunnel.
    pub tunnels: Tunnels,
    /// Whom the operator denies.
    pub rulings: Rulings,
}

impl Service {
    /// Puts the parts together.
    #[must_use]
    pub(crate) fn new(parts: Parts) -> Self {
        let denials = i64::try_from(parts.rulings.len()).unwrap_or(i64::MAX);
        parts.metrics.tunnel_denials.set(denials);
        Self {
            config: parts.config,
            chain: parts.chain,
            node: parts.node,
            link: parts.link,
            copies: parts.copies,
            store: parts.store,
            metrics: parts.metrics,
            key: parts.key,
            registry: Mutex::new(parts.registry),
            tunnels: Mutex::new(parts.tunnels),
            rulings: Mutex::new(parts.rulings),
            enrolling: Mutex::new(()),
            counters: Mutex::new(Counters::default()),
        }
    }

    /// The sessions. Never held over an await.
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// BaseStations in the tunnel. Never held over an await, or while the data plane is asked.
    pub(crate) fn tunnels(&self) -> MutexGuard<'_, Tunnels> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom the operator denies. Never held over an await, or while the data plane is asked.
    pub(crate) fn rulings(&self) -> MutexGuard<'_, Rulings> {
        self.rulings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This gateway's key, for batches and receipts.
    #[must_use]
    pub(crate) const fn key(&self) -> &SecretKey {
        &self.key
    }

    /// This gateway's id.
    #[must_use]
    pub(crate) const fn gateway(&self) -> GatewayId {
        self.config.gateway
    }

    /// The operator's id.
    #[must_use]
    pub(crate) const fn operator(&self) -> OperatorId {
        self.config.operator
    }

    /// Opens the session that `request` asks for; the same request again answers the same session.
    ///
    /// # Errors
    ///
    /// [`ServiceError`]; nothing is reserved and nothing forwarded then.
    pub(crate) async fn open(
        self: &Arc<Self>,
        request: OpenSessionRequest,
    ) -> Result<Session, ServiceError> {
        self.check_allowed(&request.open.basestation)?;
        let known = self.registry().session(&session_id(&request))?;
        if let Some(session) = known
            && session.stage != Stage::Opening
        {
            return Ok(session);
        }
        for _ in 0..SETTLING_WAITS {
            let facts = self.facts(&request).await?;
            match self.open_with(request.clone(), facts.clone()).await {
                Err(ServiceError::Refused(OpenRefusal::PackageExhausted { .. }))
                    if self.hears_soon(&facts) =>
                {
                    tokio::time::sleep(SETTLING_PAUSE).await;
                }
                result => return result,
            }
        }
        let facts = self.facts(&request).await?;
        self.open_with(request, facts).await
    }

    async fn open_with(
        self: &Arc<Self>,
        request: OpenSessionRequest,
        facts: Facts,
    ) -> Result<Session, ServiceError> {
        let service = Arc::clone(self);
        let opened = tokio::task::spawn_blocking(move || service.open_blocking(&request, &facts));
        opened.await.map_err(|_| ServiceError::Task)?
    }

    /// Whether a package may seem exhausted only because a batch of ours is final on the chain and
    /// we have not heard so yet.
    fn hears_soon(&self, facts: &Facts) -> bool {
        let registry = self.registry();
        let packages = facts.sponsor.iter().chain(&facts.personal);
        packages
            .map(|answer| (&answer.package, &answer.ledger))
            .any(|(package, ledger)| {
                let commitments = registry.commitments();
                let settled = commitments.settled(package, ledger.package_epoch);
                ledger.current.used > settled
                    && commitments.used(package, ledger.package_epoch) > settled
            })
    }

    async fn facts(&self, request: &OpenSessionRequest) -> Result<Facts, ServiceError> {
        let party = Party::BaseStation {
            basestation: request.open.basestation,
        };
        let basestation = self.node.party(&party).await?;
        let sponsor = match &request.acceptance {
            Some(signed) => self.node.package(&signed.acceptance.package).await?,
            None => None,
        };
        let personal = match &request.personal {
            Some(signed) => self.node.package(&signed.acceptance.package).await?,
            None => None,
        };
        let viewer_settled = match &request.acceptance {
            Some(signed) => {
                let acceptance = &signed.acceptance;
                let row = self
                    .node
                    .viewer(&acceptance.package, &acceptance.viewer)
                    .await?;
                row.map(|row| row.bytes).unwrap_or_default()
            }
            None => Bytes::ZERO,
        };
        let sponsor_size = sponsor
            .as_ref()
            .and_then(|answer| self.size_here(&answer.terms));
        Ok(Facts {
            basestation,
            sponsor,
            viewer_settled,
            sponsor_size,
            personal,
            now: now(),
        })
    }

    /// Sizes of a package's contents summed, when a copy of each is here.
    fn size_here(&self, terms: &PackageTerms) -> Option<Bytes> {
        let Scope::Contents { contents } = &terms.scope else {
            return None;
        };
        let mut sum = Bytes::ZERO;
        for content in contents {
            sum = sum.add(self.copies.size(content)?).ok()?;
        }
        Some(sum)
    }

    fn open_blocking(
        &self,
        request: &OpenSessionRequest,
        facts: &Facts,
    ) -> Result<Session, ServiceError> {
        let place = self.place()?;
        let peer = check_request(&place, request, facts)?;
        self.check_peer(&request.open.basestation, peer)?;
        let id = session_id(request);
        let session = {
            let mut registry = self.registry();
            // Two copies of one request may come at the same time: the second finds the first's row.
            match registry.session(&id)? {
                Some(session) if session.stage != Stage::Opening => return Ok(session),
                Some(session) => {
                    self.check_allowed(&request.open.basestation)?;
                    session
                }
                None => {
                    // Under the registry's lock: who denies looks for sessions afterwards.
                    self.check_allowed(&request.open.basestation)?;
                    let used = check_unused(&registry, request)?;
                    let session = admit(&place, request, facts, peer, &registry.commitments())?;
                    registry.begin(session.clone(), &used)?;
                    session
                }
            }
        };
        // The data plane is asked without the lock: a slow one must not hold up anybody else.
        match self.establish(&session, facts.sponsor.as_ref()) {
            Ok(opened) => {
                let mut registry = self.registry();
                let fresh = registry.update_open(&id, |row| {
                    row.stage = Stage::Open;
                    row.teid = opened.teid;
                    row.n3 = opened.n3;
                    Ok(())
                })?;
                let row = registry.session(&id)?;
                drop(registry);
                if fresh {
                    self.metrics.sessions_opened.inc();
                } else {
                    // It was ended meanwhile, so the data plane must not have it.
                    self.delete(&id)?;
                    self.check_allowed(&request.open.basestation)?;
                }
                row.ok_or(ServiceError::UnknownSession(id))
            }
            // Refused: the data plane has nothing. Otherwise it may have the session, so the row
            // stays, and the repeated request finds it.
            Err(error) => {
                if !error.is_unreachable() {
                    self.registry().forget(&id)?;
                }
                Err(error)
            }
        }
    }

    fn check_allowed(&self, basestation: &BaseStationId) -> Result<(), OpenRefusal> {
        let subject = Subject::BaseStation {
            basestation: *basestation,
        };
        match self.rulings().denial(subject) {
            Some(denial) => Err(OpenRefusal::Denied(denial.into())),
            None => Ok(()),
        }
    }

    fn place(&self) -> Result<Place, ServiceError> {
        let info = self.link.info().ok_or_else(|| ServiceError::DataPlane {
            code: UNREACHABLE,
            detail: "the data plane has not answered yet".to_owned(),
        })?;
        Ok(Place {
            chain: self.chain,
            gateway: self.gateway(),
            operator: self.operator(),
            incarnation: info.incarnation,
        })
    }

    /// Binds the sponsor's contents and establishes the session in the data plane.
    fn establish(
        &self,
        session: &Session,
        sponsor: Option<&PackageAnswer>,
    ) -> Result<Session, ServiceError> {
        let leg_with_terms = session
            .sponsor
            .as_ref()
            .zip(sponsor.map(|answer| &answer.terms));
        let sponsor = match leg_with_terms {
            Some((leg, terms)) => Some(self.sponsor_rule(leg, terms)?),
            None => None,
        };
        let rules = SessionRules {
            session: session.session,
            teid: None,
            ue: session.ue.ip(),
            path: DownlinkPath {
                peer: session.peer.0,
                downlink_teid: session.downlink_teid,
            },
            basestation: Some(session.basestation),
            sponsor,
            payer: match &session.personal {
                Some(leg) => Payer::Personal {
                    package: leg.package,
                    package_epoch: leg.package_epoch(),
                    viewer: leg.viewer,
                    limit: leg.limit,
                },
                None => Payer::Block,
            },
        };
        match self.link.request(Request::Establish { rules })? {
            Answer::Established { teid, n3, .. } => Ok(Session {
                stage: Stage::Open,
                teid,
                n3: Endpoint(n3.0),
                ..session.clone()
            }),
            other => Err(unexpected(other)),
        }
    }

    fn sponsor_rule(&self, leg: &Leg, terms: &PackageTerms) -> Result<Sponsor, ServiceError> {
        let Scope::Contents { contents } = &terms.scope else {
            return Err(OpenRefusal::WrongScope {
                package: leg.package,
                used_as: "a sponsor",
            }
            .into());
        };
        for content in contents {
            let size = self
                .copies
                .size(content)
                .ok_or(OpenRefusal::ContentNotHere(leg.package))?;
            let path = self.copies.path(content);
            let path = Text::try_from(path.to_string_lossy().as_ref())
                .map_err(|_| OpenRefusal::ContentNotHere(leg.package))?;
            let binding = ContentBinding {
                content: *content,
                size,
                path,
            };
            match self.link.request(Request::BindContent { binding })? {
                Answer::Bound { .. } => {}
                other => return Err(unexpected(other)),
            }
        }
        self.bind_package(leg.package, contents);
        let too_many = || ServiceError::DataPlane {
            code: "too_many_contents",
            detail: format!(
                "package {} names more contents than a session takes",
                leg.package
            ),
        };
        Ok(Sponsor {
            package: leg.package,
            package_epoch: leg.package_epoch(),
            viewer: leg.viewer,
            contents: List::try_from(contents.to_vec()).map_err(|_| too_many())?,
            origins: List::try_from(self.config.origins.clone()).map_err(|_| too_many())?,
            limit: leg.limit,
            repeat: terms.repeat,
        })
    }

    /// Lets control planes of a mobile core name the package instead of its contents. Sessions of
    /// ours do not need it.
    fn bind_package(&self, package: PackageId, contents: &[ContentId]) {
        let Ok(contents) = List::try_from(contents.to_vec()) else {
            return;
        };
        let binding = PackageBinding { package, contents };
        match self.link.request(Request::BindPackage { binding }) {
            Ok(Answer::PackageBound { .. }) => {}
            answer => tracing::warn!(%package, ?answer, "the data plane does not know the package"),
        }
    }

    /// Reads the counters of every open session from the data plane's arena; tells which it read.
    pub(crate) fn refresh(&self) -> BTreeSet<SessionId> {
        let ids: BTreeSet<SessionId> = self
            .registry()
            .open_sessions()
            .map(|session| session.session)
            .collect();
        self.refresh_of(&ids)
    }

    /// The same for those of `ids` that are open.
    fn refresh_of(&self, ids: &BTreeSet<SessionId>) -> BTreeSet<SessionId> {
        let Some(info) = self.link.info() else {
            return BTreeSet::new();
        };
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let readings = counters.read(&info, ids);
        drop(counters);
        let mut registry = self.registry();
        let mut read = BTreeSet::new();
        for (id, usage) in readings {
            registry.observe(&id, usage);
            read.insert(id);
        }
        read
    }

    /// Takes back what a crash left half open: the data plane forgets it, its reservation is free,
    /// and the repeated request opens it anew.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] when the data plane does not answer; calling again is sound.
    pub(crate) fn resolve_opening(&self) -> Result<(), ServiceError> {
        let half: Vec<SessionId> = self
            .registry()
            .open_sessions()
            .filter(|session| session.stage == Stage::Opening)
            .map(|session| session.session)
            .collect();
        for id in half {
            self.delete(&id)?;
            self.registry().forget(&id)?;
        }
        Ok(())
    }

    /// A session with its newest counters.
    ///
    /// # Errors
    ///
    /// [`ServiceError::UnknownSession`], or when its row cannot be read.
    pub(crate) fn session(&self, id: &SessionId) -> Result<Session, ServiceError> {
        self.refresh_of(&BTreeSet::from([*id]));
        self.registry()
            .session(id)?
            .ok_or(ServiceError::UnknownSession(*id))
    }

    /// Closes a session; a closed one answers as it was closed.
    ///
    /// # Errors
    ///
    /// [`ServiceError`]; the session stays open then, and closing again is sound.
    pub(crate) async fn close(
        self: &Arc<Self>,
        id: SessionId,
        request: CloseSessionRequest,
    ) -> Result<Session, ServiceError> {
        let session = self.session(&id)?;
        if session.stage.has_ended() {
            return Ok(session);
        }
        let party = Party::BaseStation {
            basestation: session.basestation,
        };
        let basestation = self.node.party(&party).await?;
        let key = basestation
            .ok_or_else(|| OpenRefusal::UnknownBaseStation(session.basestation.to_string()))?;
        check_receipt(
            &self.chain,
            &session,
            &request.basestation_receipt,
            ReceiptSigner::BaseStation,
            key.key == request.basestation_receipt.key,
        )?;
        if let Some(receipt) = &request.viewer_receipt {
            let viewer = session.sponsor.as_ref().map(|leg| leg.viewer);
            let own = viewer == Some(receipt.key.into());
            check_receipt(&self.chain, &session, receipt, ReceiptSigner::Viewer, own)?;
        }
        let service = Arc::clone(self);
        let closed = tokio::task::spawn_blocking(move || service.close_blocking(&id, request));
        closed.await.map_err(|_| ServiceError::Task)?
    }

    fn close_blocking(
        &self,
        id: &SessionId,
        request: CloseSessionRequest,
    ) -> Result<Session, ServiceError> {
        let usage = self.delete(id)?;
        let mut registry = self.registry();
        let session = registry
            .session(id)?
            .ok_or(ServiceError::UnknownSession(*id))?;
        if session.stage.has_ended() {
            return Ok(session);
        }
        let closed = Session {
            stage: Stage::Closed,
            stated: session.usage.classes.verified_unique,
            usage: usage.unwrap_or(session.usage),
            viewer_receipt: request.viewer_receipt,
            basestation_receipt: Some(request.basestation_receipt),
            ..session
        };
        registry.close(&closed)?;
        self.metrics.sessions_closed.inc();
        Ok(closed)
    }

    /// Deletes a session in the data plane; `None` when the data plane does not know it, which
    /// happens only when its state was lost: then the counters read last are the final ones.
    pub(crate) fn delete(&self, id: &SessionId) -> Result<Option<SessionUsage>, ServiceError> {
        match self.link.request(Request::Delete { session: *id })? {
            Answer::Deleted { usage, .. } => Ok(Some(usage)),
            Answer::Refused { refusal } if refusal.cause == Cause::SessionUnknown => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    /// This gateway's own statement of a session.
    #[must_use]
    pub(crate) fn receipt(&self, session: &Session, sequence: u64) -> SignedReceipt {
        let sponsor = session.sponsor.as_ref();
        let receipt = Receipt {
            session: session.session,
            gateway: self.gateway(),
            incarnation: session.incarnation,
            sequence,
            package: sponsor.map(|leg| leg.package).unwrap_or_default(),
            package_epoch: sponsor.map(Leg::package_epoch).unwrap_or_default(),
            viewer: sponsor.map(|leg| leg.viewer).unwrap_or_default(),
            uplink_network_bytes: session.usage.uplink.network_bytes,
            downlink_network_bytes: session.usage.downlink.network_bytes,
            classes: session.usage.classes,
            stated_at: now(),
        };
        SignedReceipt::sign(receipt, ReceiptSigner::Gateway, &self.key, &self.chain)
    }
}

/// Hashes of a request's acceptances, none of which has opened another session.
fn check_unused(
    registry: &Registry,
    request: &OpenSessionRequest,
) -> Result<Vec<Hash32>, ServiceError> {
    let id = session_id(request);
    let mut hashes = Vec::new();
    for (what, signed) in [
        ("acceptance", &request.acceptance),
        ("personal acceptance", &request.personal),
    ] {
        if signed.is_none() {
            continue;
        }
        let hash = acceptance_hash(signed.as_ref());
        match registry.accepted(&hash)? {
            Some(session) if session != id => {
                return Err(OpenRefusal::AcceptanceUsed { what, session }.into());
            }
            _ => hashes.push(hash),
        }
    }
    Ok(hashes)
}

pub(crate) fn unexpected(answer: Answer) -> ServiceError {
    match answer {
        Answer::Refused { refusal } => ServiceError::DataPlane {
            code: refusal.cause.name(),
            detail: refusal.to_string(),
        },
        other => ServiceError::DataPlane {
            code: "dataplane_confused",
            detail: format!("an answer to another question: {other:?}"),
        },
    }
}

fn check_receipt(
    chain: &ChainId,
    session: &Session,
    signed: &SignedReceipt,
    signer: ReceiptSigner,
    own_key: bool,
) -> Result<(), ServiceError> {
    let bad = |detail: String| ServiceError::BadReceipt { detail };
    if signed.signer != signer || !own_key {
        return Err(bad(format!(
            "the receipt must be signed as {signer:?} with that party's key"
        )));
    }
    if signed.receipt.session != session.session {
        return Err(bad(format!(
            "the receipt is for {}, the session is {}",
            signed.receipt.session, session.session
        )));
    }
    signed.verify(chain).map_err(|error| bad(error.to_string()))
}

/// The wall clock, for statements with a validity and for receipts; never for durations.
#[must_use]
pub(crate) fn now() -> TimeMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    TimeMs::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
