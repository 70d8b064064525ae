//! Who may open a session, and what is reserved for it. Pure: facts in, a session row or a reason
//! out.

use std::net::{IpAddr, SocketAddr};

use qlink_api::session::OpenSessionRequest;
use qlink_client::rpc::{PackageAnswer, PartyAnswer};
use qlink_pfcp::SessionUsage;
use qlink_types::codec::Encode as _;
use qlink_types::ids::{GatewayId, Hash32, OperatorId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::package::{PackageState, Scope};
use qlink_types::session::SignedAcceptance;
use qlink_types::signature::{ChainId, Domain, SignatureError};
use qlink_types::units::{Bytes, Incarnation, PackageEpoch, TimeMs};

use crate::registry::Commitments;
use crate::rulings::Denied;
use crate::session::{Endpoint, Ipv4Text, Leg, Session, Stage};

/// Why a session is not opened. The list is closed; [`Self::code`] is its stable name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefusal {
    /// The BaseStation is not registered.
    #[error("BaseStation {0} is not registered on the chain")]
    UnknownBaseStation(String),
    /// A signature does not hold.
    #[error("the signature of the {what} does not hold: {source}")]
    BadSignature {
        /// Which.
        what: &'static str,
        /// Why.
        source: SignatureError,
    },
    /// A statement is for another gateway.
    #[error("the {what} is for {found}, this gateway is {expected}")]
    WrongGateway {
        /// Which.
        what: &'static str,
        /// The gateway named in it.
        found: GatewayId,
        /// This gateway.
        expected: GatewayId,
    },
    /// A statement's time has passed.
    #[error("the {what} was valid until {valid_until} ms, now is {now} ms; sign a new one")]
    Expired {
        /// Which.
        what: &'static str,
        /// Its end.
        valid_until: TimeMs,
        /// Now.
        now: TimeMs,
    },
    /// The request names another acceptance than the one sent along.
    #[error("the signed request names an acceptance that was not sent along unchanged")]
    AcceptanceMismatch,
    /// No such package.
    #[error("package {0} is not known to the chain")]
    UnknownPackage(PackageId),
    /// The package takes no new bytes.
    #[error("package {package} is {state}")]
    PackageNotOpen {
        /// Which.
        package: PackageId,
        /// Its state in words.
        state: &'static str,
    },
    /// The package's validity has not begun or has ended.
    #[error("package {package} is valid from {from} to {until} ms, now is {now} ms")]
    PackageNotValid {
        /// Which.
        package: PackageId,
        /// Begin.
        from: TimeMs,
        /// End.
        until: TimeMs,
        /// Now.
        now: TimeMs,
    },
    /// The package may not be settled here.
    #[error("package {0} does not list this gateway")]
    GatewayNotListed(PackageId),
    /// The viewer is not in the audience.
    #[error("viewer {viewer} is not in the audience of {package}")]
    ViewerNotInAudience {
        /// Which.
        package: PackageId,
        /// Who.
        viewer: ViewerKey,
    },
    /// Nothing is left to reserve.
    #[error("package {package} has {left} bytes left and a view needs {needed}")]
    PackageExhausted {
        /// Which.
        package: PackageId,
        /// Bytes neither used nor reserved.
        left: Bytes,
        /// What a session reserves.
        needed: Bytes,
    },
    /// The viewer has used what it may.
    #[error("viewer {viewer} has used or reserved its {cap} bytes of {package}")]
    ViewerCapReached {
        /// Which.
        package: PackageId,
        /// Who.
        viewer: ViewerKey,
        /// Its cap.
        cap: Bytes,
    },
    /// A package of the wrong scope.
    #[error("package {package} cannot be used as {used_as}")]
    WrongScope {
        /// Which.
        package: PackageId,
        /// As what.
        used_as: &'static str,
    },
    /// The gateway holds no verified copy.
    #[error("this gateway holds no verified copy of a content of {0}; upload it first")]
    ContentNotHere(PackageId),
    /// The acceptance has opened another session.
    #[error("the {what} has opened session {session} already; sign a new one for each session")]
    AcceptanceUsed {
        /// Which.
        what: &'static str,
        /// The session.
        session: SessionId,
    },
    /// This gateway's operator denies the BaseStation.
    #[error(transparent)]
    Denied(Denied),
    /// The peer address is not one.
    #[error("peer '{0}' is not an address 'ip:port'")]
    BadPeer(String),
    /// The BaseStation is in the tunnel and names another address.
    #[error("peer {peer} is not the BaseStation's tunnel address {expected}")]
    PeerNotTunnel {
        /// What it names.
        peer: SocketAddr,
        /// Its address in the tunnel.
        expected: IpAddr,
    },
    /// The BaseStation is not in the tunnel and names an address there.
    #[error(
        "peer {peer} is a tunnel address, and this BaseStation has not enrolled for the tunnel"
    )]
    PeerReserved {
        /// What it names.
        peer: SocketAddr,
    },
    /// Every subscriber address is in use.
    #[error("all {0} subscriber addresses are in use; try again when sessions have closed")]
    NoAddress(u64),
}

impl OpenRefusal {
    /// The stable name in the API and in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownBaseStation(_) => "unknown_basestation",
            Self::BadSignature { .. } => "bad_signature",
            Self::WrongGateway { .. } => "wrong_gateway",
            Self::Expired { .. } => "request_expired",
            Self::AcceptanceMismatch => "acceptance_mismatch",
            Self::UnknownPackage(_) => "unknown_package",
            Self::PackageNotOpen {
                state: "closed", ..
            } => "package_closed",
            Self::PackageNotOpen { .. } => "package_closing",
            Self::PackageNotValid { .. } => "package_expired",
            Self::GatewayNotListed(_) => "gateway_not_listed",
            Self::ViewerNotInAudience { .. } => "viewer_not_in_audience",
            Self::PackageExhausted { .. } => "package_exhausted",
            Self::ViewerCapReached { .. } => "viewer_cap_exceeded",
            Self::WrongScope { .. } => "wrong_scope",
            Self::ContentNotHere(_) => "content_not_here",
            Self::AcceptanceUsed { .. } => "acceptance_used",
            Self::Denied(denied) => denied.code(),
            Self::BadPeer(_) => "bad_peer",
            Self::PeerNotTunnel { .. } => "peer_not_tunnel",
            Self::PeerReserved { .. } => "peer_reserved",
            Self::NoAddress(_) => "no_address",
        }
    }
}

/// What this gateway is, for admission.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The chain.
    pub chain: ChainId,
    /// This gateway.
    pub gateway: GatewayId,
    /// Whose network it stands in.
    pub operator: OperatorId,
    /// The data plane's counter start.
    pub incarnation: Incarnation,
}

/// What the chain says about the parties of a request.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The BaseStation, if registered.
    pub basestation: Option<PartyAnswer>,
    /// The package named by the viewer's acceptance.
    pub sponsor: Option<PackageAnswer>,
    /// Bytes that all gateways have settled for this viewer of the sponsor's package.
    pub viewer_settled: Bytes,
    /// Sizes of the sponsor's contents summed; `None` when one is not here.
    pub sponsor_size: Option<Bytes>,
    /// The package named as personal payer.
    pub personal: Option<PackageAnswer>,
    /// Now.
    pub now: TimeMs,
}

/// The session id of a request: the same request is the same session.
#[must_use]
pub fn session_id(request: &OpenSessionRequest) -> SessionId {
    let hash = Domain::SessionOpen.hash(&request.open.to_bytes());
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    SessionId::new(id)
}

/// Hash by which a request names the acceptance sent along.
#[must_use]
pub fn acceptance_hash(acceptance: Option<&SignedAcceptance>) -> Hash32 {
    acceptance.map_or(Hash32::ZERO, |signed| {
        Domain::Acceptance.hash(&signed.to_bytes())
    })
}

/// Checks everything that does not depend on other sessions: who signed what, and for whom.
///
/// # Errors
///
/// The first [`OpenRefusal`] that applies.
pub(crate) fn check_request(
    place: &Place,
    request: &OpenSessionRequest,
    facts: &Facts,
) -> Result<SocketAddr, OpenRefusal> {
    let open = &request.open;
    let basestation = facts
        .basestation
        .as_ref()
        .ok_or_else(|| OpenRefusal::UnknownBaseStation(open.basestation.to_string()))?;
    open.verify(&basestation.key, &place.chain, &request.signature)
        .map_err(|source| OpenRefusal::BadSignature {
            what: "session request",
            source,
        })?;
    check_statement(
        place,
        "session request",
        open.gateway,
        open.valid_until,
        facts.now,
    )?;
    if acceptance_hash(request.acceptance.as_ref()) != open.acceptance_hash {
        return Err(OpenRefusal::AcceptanceMismatch);
    }
    let personal = request
        .personal
        .as_ref()
        .map(|signed| signed.acceptance.package);
    if personal.unwrap_or(PackageId::ZERO) != open.personal_package {
        return Err(OpenRefusal::AcceptanceMismatch);
    }
    for (what, signed) in [
        ("acceptance", &request.acceptance),
        ("personal acceptance", &request.personal),
    ] {
        if let Some(signed) = signed {
            signed
                .verify(&place.chain)
                .map_err(|source| OpenRefusal::BadSignature { what, source })?;
            let acceptance = &signed.acceptance;
            check_statement(
                place,
                what,
                acceptance.gateway,
                acceptance.valid_until,
                facts.now,
            )?;
        }
    }
    request
        .peer
        .parse()
        .map_err(|_| OpenRefusal::BadPeer(request.peer.clone()))
}

fn check_statement(
    place: &Place,
    what: &'static str,
    gateway: GatewayId,
    valid_until: TimeMs,
    now: TimeMs,
) -> Result<(), OpenRefusal> {
    if gateway != place.gateway {
        return Err(OpenRefusal::WrongGateway {
            what,
            found: gateway,
            expected: place.gateway,
        });
    }
    if now >= valid_until {
        return Err(OpenRefusal::Expired {
            what,
            valid_until,
            now,
        });
    }
    Ok(())
}

/// Reserves for a checked request and makes its row, in stage `Opening`.
///
/// # Errors
///
/// The first [`OpenRefusal`] that applies; nothing is reserved then.
pub(crate) fn admit(
    place: &Place,
    request: &OpenSessionRequest,
    facts: &Facts,
    peer: SocketAddr,
    commitments: &Commitments<'_>,
) -> Result<Session, OpenRefusal> {
    let sponsor = match &request.acceptance {
        Some(signed) => Some(sponsor_leg(place, signed, facts, commitments)?),
        None => None,
    };
    let personal = match &request.personal {
        Some(signed) => Some(personal_leg(place, signed, facts, commitments)?),
        None => None,
    };
    let ue = commitments.free_address().map_err(OpenRefusal::NoAddress)?;
    Ok(Session {
        session: session_id(request),
        incarnation: place.incarnation,
        stage: Stage::Opening,
        basestation: request.open.basestation,
        operator: place.operator,
        peer: Endpoint(peer),
        downlink_teid: request.open.downlink_teid,
        teid: Teid::default(),
        n3: Endpoint(peer),
        ue: Ipv4Text(ue),
        sponsor,
        personal,
        usage: SessionUsage::default(),
        stated: Bytes::ZERO,
        viewer_receipt: None,
        basestation_receipt: None,
        request: Domain::SessionOpen.hash(&request.open.to_bytes()),
    })
}

fn sponsor_leg(
    place: &Place,
    signed: &SignedAcceptance,
    facts: &Facts,
    commitments: &Commitments<'_>,
) -> Result<Leg, OpenRefusal> {
    let (package, viewer) = (signed.acceptance.package, signed.acceptance.viewer);
    let answer = usable(place, package, facts.sponsor.as_ref(), viewer, facts.now)?;
    still_running(answer, commitments)?;
    if matches!(answer.terms.scope, Scope::Any) {
        return Err(OpenRefusal::WrongScope {
            package,
            used_as: "a sponsor",
        });
    }
    let size = facts
        .sponsor_size
        .ok_or(OpenRefusal::ContentNotHere(package))?;
    let cap = answer.ledger.viewer_cap;
    let own = commitments.of_viewer(&package, &viewer);
    let allowed = cap.saturating_sub(own.max(facts.viewer_settled)).min(size);
    if allowed.is_zero() {
        return Err(OpenRefusal::ViewerCapReached {
            package,
            viewer,
            cap,
        });
    }
    let left = left_of(answer, commitments);
    if left < allowed {
        return Err(OpenRefusal::PackageExhausted {
            package,
            left,
            needed: allowed,
        });
    }
    leg(package, viewer, allowed, answer.ledger.package_epoch)
}

fn personal_leg(
    place: &Place,
    signed: &SignedAcceptance,
    facts: &Facts,
    commitments: &Commitments<'_>,
) -> Result<Leg, OpenRefusal> {
    let (package, viewer) = (signed.acceptance.package, signed.acceptance.viewer);
    let answer = usable(place, package, facts.personal.as_ref(), viewer, facts.now)?;
    still_running(answer, commitments)?;
    if !matches!(answer.terms.scope, Scope::Any) {
        return Err(OpenRefusal::WrongScope {
            package,
            used_as: "a personal data package",
        });
    }
    let left = left_of(answer, commitments);
    if left.is_zero() {
        return Err(OpenRefusal::PackageExhausted {
            package,
            left,
            needed: Bytes::new(1),
        });
    }
    leg(package, viewer, left, answer.ledger.package_epoch)
}

fn leg(
    package: PackageId,
    viewer: ViewerKey,
    limit: Bytes,
    package_epoch: PackageEpoch,
) -> Result<Leg, OpenRefusal> {
    Leg::begin(package, viewer, limit, package_epoch).map_err(|_| OpenRefusal::AcceptanceMismatch)
}

/// The package, if it may be used by this viewer, here and now.
fn usable<'a>(
    place: &Place,
    package: PackageId,
    answer: Option<&'a PackageAnswer>,
    viewer: ViewerKey,
    now: TimeMs,
) -> Result<&'a PackageAnswer, OpenRefusal> {
    let answer = answer.ok_or(OpenRefusal::UnknownPackage(package))?;
    let state = match answer.ledger.state {
        PackageState::Open => None,
        PackageState::RollingOver => Some("between two terms; try again in a second"),
        PackageState::Closing => Some("closing"),
        PackageState::Closed => Some("closed"),
    };
    if let Some(state) = state {
        return Err(OpenRefusal::PackageNotOpen { package, state });
    }
    let (from, until) = (answer.terms.valid_from, answer.ledger.valid_until);
    if now < from || now >= until {
        return Err(OpenRefusal::PackageNotValid {
            package,
            from,
            until,
            now,
        });
    }
    if !answer.terms.gateways.contains(&place.gateway) {
        return Err(OpenRefusal::GatewayNotListed(package));
    }
    if !answer.terms.admits(&viewer) {
        return Err(OpenRefusal::ViewerNotInAudience { package, viewer });
    }
    Ok(answer)
}

/// Refuses terms that ended here after the caller had read them on the chain.
fn still_running(answer: &PackageAnswer, commitments: &Commitments<'_>) -> Result<(), OpenRefusal> {
    if commitments.has_ended(&answer.package, answer.ledger.package_epoch) {
        return Err(OpenRefusal::PackageNotOpen {
            package: answer.package,
            state: "ending these terms; try again in a second",
        });
    }
    Ok(())
}

/// Bytes of the running terms that nobody has used or reserved: ours by our own rows, those of
/// other gateways by what the chain has settled beyond ours.
fn left_of(answer: &PackageAnswer, commitments: &Commitments<'_>) -> Bytes {
    let epoch = answer.ledger.package_epoch;
    let ours = commitments.of_package(&answer.package, epoch);
    let settled = commitments.settled(&answer.package, epoch);
    let others = answer.ledger.current.used.saturating_sub(settled);
    answer
        .ledger
        .current
        .bytes
        .saturating_sub(ours)
        .saturating_sub(others)
}
