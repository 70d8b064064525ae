//! The state of the control plane: what is bound and established, and which requests may follow.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;

use qlink_types::ids::{ContentId, SessionId, Teid};

use crate::cause::{Cause, Refusal};
use crate::members::TunnelMembers;
use crate::message::{ContentBinding, MAX_SESSIONS_PER_PAGE, PackageBinding, Packages, Request};
use crate::peers::PeerIndex;
use crate::rules::{Payer, SessionRules};

/// Bounds of an [`Association`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssociationLimits {
    /// Most sessions.
    pub sessions: usize,
    /// Most bound contents.
    pub contents: usize,
}

/// Whether an accepted request has anything left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// It changes something.
    New,
    /// What it asks stands already: a repeated request, answered as the first time.
    Repeated,
}

/// Sessions and bindings that stand.
///
/// Use: [`check`](Self::check) a request; do what it asks; make it durable; then
/// [`apply`](Self::apply) it. Applying the accepted requests again in order gives the same state.
#[derive(Debug, Clone)]
pub struct Association {
    limits: AssociationLimits,
    contents: BTreeMap<ContentId, ContentBinding>,
    packages: Packages,
    sessions: BTreeMap<SessionId, SessionRules>,
    by_ue: BTreeMap<IpAddr, SessionId>,
    by_teid: BTreeMap<Teid, SessionId>,
    peers: PeerIndex,
    /// BaseStations in the tunnel.
    tunnel: TunnelMembers,
}

impl Association {
    /// Nothing bound, nothing established.
    #[must_use]
    pub const fn new(limits: AssociationLimits) -> Self {
        Self {
            limits,
            contents: BTreeMap::new(),
            packages: Packages::new(),
            sessions: BTreeMap::new(),
            by_ue: BTreeMap::new(),
            by_teid: BTreeMap::new(),
            peers: PeerIndex::new(),
            tunnel: TunnelMembers::new(),
        }
    }

    /// Whether `request` may take effect now.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] with the cause; nothing has changed.
    pub fn check(&self, request: &Request) -> Result<Novelty, Refusal> {
        match request {
            // No part of the session model: nothing stands after them that did not before.
            Request::Hello
            | Request::List { .. }
            | Request::Trace { .. }
            | Request::TraceProgress { .. }
            | Request::Charges { .. }
            | Request::TunnelFigures => Ok(Novelty::Repeated),
            Request::BindContent { binding } => self.check_bind(binding),
            Request::UnbindContent { content } => self.check_unbind(content),
            Request::BindPackage { binding } => self.check_package(binding),
            Request::UnbindPackage { package } => match self.packages.get(package) {
                Some(_) => Ok(Novelty::New),
                None => Ok(Novelty::Repeated),
            },
            Request::Establish { rules } => self.check_establish(rules),
            Request::Modify { session, changes } => {
                let rules = self.known(session)?;
                match rules.changed(changes) {
                    Some(next) if next == *rules => Ok(Novelty::Repeated),
                    Some(next) => check_rules(&next).map(|()| Novelty::New),
                    None => Err(Refusal::new(
                        Cause::RuleInvalid,
                        "a limit changes that the session has not",
                    )),
                }
            }
            Request::Delete { session } => self.known(session).map(|_| Novelty::New),
            Request::AddTunnelMember { member } => self.tunnel.check(member, None),
            Request::RenewTunnelMember { member, old } => self.tunnel.check(member, Some(old)),
            Request::RemoveTunnelMember { key } => Ok(if self.tunnel.contains(key) {
                Novelty::New
            } else {
                Novelty::Repeated
            }),
        }
    }

    /// Takes a request in that [`check`](Self::check) found [`Novelty::New`]. An `Establish` must
    /// carry its TEID by now. A request that does not fit changes nothing.
    pub fn apply(&mut self, request: &Request) {
        match request {
            Request::Hello
            | Request::List { .. }
            | Request::Trace { .. }
            | Request::TraceProgress { .. }
            | Request::Charges { .. }
            | Request::TunnelFigures => {}
            Request::BindContent { binding } => {
                self.contents.insert(binding.content, binding.clone());
            }
            Request::UnbindContent { content } => {
                self.contents.remove(content);
            }
            Request::BindPackage { binding } => {
                let PackageBinding { package, contents } = binding.clone();
                self.packages.insert(package, contents);
            }
            Request::UnbindPackage { package } => {
                self.packages.remove(package);
            }
            Request::Establish { rules } => self.insert(rules),
            Request::Modify { session, changes } => {
                let next = self
                    .sessions
                    .get(session)
                    .and_then(|rules| rules.changed(changes));
                if let Some(next) = next {
                    self.peers.add(next.path.peer);
                    if let Some(before) = self.sessions.insert(*session, next) {
                        self.peers.remove(before.path.peer);
                    }
                }
            }
            Request::Delete { session } => self.remove(session),
            Request::AddTunnelMember { member } => {
                self.tunnel.add(member, None);
            }
            Request::RenewTunnelMember { member, old } => {
                self.tunnel.add(member, Some(old));
            }
            Request::RemoveTunnelMember { key } => {
                self.tunnel.remove(key);
            }
        }
    }

    /// The rules of a session.
    #[must_use]
    pub fn session(&self, session: &SessionId) -> Option<&SessionRules> {
        self.sessions.get(session)
    }

    /// Whether a session has this uplink endpoint.
    #[must_use]
    pub fn is_teid_taken(&self, teid: Teid) -> bool {
        self.by_teid.contains_key(&teid)
    }

    /// Whether a session has this subscriber's address.
    #[must_use]
    pub fn is_ue_taken(&self, ue: &IpAddr) -> bool {
        self.by_ue.contains_key(ue)
    }

    /// Every session in the order of ids.
    #[must_use]
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = &SessionRules> {
        self.sessions.values()
    }

    /// The sessions behind `after`, in the order of ids.
    pub fn sessions_after(&self, after: Option<SessionId>) -> impl Iterator<Item = &SessionRules> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.sessions.range((from, Bound::Unbounded));
        rest.map(|(_, rules)| rules)
    }

    /// Every binding in the order of ids.
    #[must_use]
    pub fn contents(&self) -> impl ExactSizeIterator<Item = &ContentBinding> {
        self.contents.values()
    }

    /// The BaseStations of all sessions.
    #[must_use]
    pub const fn peers(&self) -> &PeerIndex {
        &self.peers
    }

    /// What packages consist of.
    #[must_use]
    pub const fn packages(&self) -> &Packages {
        &self.packages
    }

    /// Every key that a request let into the tunnel.
    #[must_use]
    pub const fn tunnel_members(&self) -> &TunnelMembers {
        &self.tunnel
    }

    /// One page of the sessions behind `after`, and whether further ones follow.
    #[must_use]
    pub fn page(&self, after: Option<SessionId>) -> (Vec<SessionRules>, bool) {
        let mut rest = self.sessions_after(after);
        let page = rest.by_ref().take(MAX_SESSIONS_PER_PAGE).cloned().collect();
        (page, rest.next().is_some())
    }

    fn check_bind(&self, binding: &ContentBinding) -> Result<Novelty, Refusal> {
        match self.contents.get(&binding.content) {
            Some(bound) if bound.size == binding.size => Ok(Novelty::Repeated),
            Some(bound) => Err(Refusal::new(
                Cause::ContentMismatch,
                &format!("{} is bound with {} bytes", binding.content, bound.size),
            )),
            None if binding.size.is_zero() => {
                Err(Refusal::new(Cause::RuleInvalid, "a content of no bytes"))
            }
            None if self.contents.len() >= self.limits.contents => Err(Refusal::new(
                Cause::NoResources,
                &format!("{} contents are bound", self.limits.contents),
            )),
            None => Ok(Novelty::New),
        }
    }

    fn check_package(&self, binding: &PackageBinding) -> Result<Novelty, Refusal> {
        let PackageBinding { package, contents } = binding;
        if package.is_zero() || contents.is_empty() {
            return Err(Refusal::new(
                Cause::RuleInvalid,
                "a package without id or contents",
            ));
        }
        if let Some(unknown) = contents.iter().find(|id| !self.contents.contains_key(*id)) {
            return Err(Refusal::new(Cause::ContentUnknown, &unknown.to_string()));
        }
        match self.packages.get(package) {
            Some(bound) if bound == contents => Ok(Novelty::Repeated),
            // A package has contents: as many of them are room enough.
            None if self.packages.len() >= self.limits.contents => Err(Refusal::new(
                Cause::NoResources,
                &format!("{} packages are bound", self.limits.contents),
            )),
            Some(_) | None => Ok(Novelty::New),
        }
    }

    fn check_unbind(&self, content: &ContentId) -> Result<Novelty, Refusal> {
        if !self.contents.contains_key(content) {
            return Err(Refusal::new(Cause::ContentUnknown, &content.to_string()));
        }
        let user = self.sessions.values().find(|rules| {
            rules
                .sponsor
                .as_ref()
                .is_some_and(|sponsor| sponsor.contents.contains(content))
        });
        let mut packages = self.packages.iter();
        if let Some((package, _)) = packages.find(|(_, contents)| contents.contains(content)) {
            return Err(Refusal::new(
                Cause::ContentInUse,
                &format!("named by {package}"),
            ));
        }
        match user {
            Some(rules) => Err(Refusal::new(
                Cause::ContentInUse,
                &format!("named by {}", rules.session),
            )),
            None => Ok(Novelty::New),
        }
    }

    fn check_establish(&self, rules: &SessionRules) -> Result<Novelty, Refusal> {
        if let Some(standing) = self.sessions.get(&rules.session) {
            let asked = SessionRules {
                teid: rules.teid.or(standing.teid),
                ..rules.clone()
            };
            return if asked == *standing {
                Ok(Novelty::Repeated)
            } else {
                Err(Refusal::new(
                    Cause::SessionExists,
                    &format!("{} stands with other rules", rules.session),
                ))
            };
        }
        check_rules(rules)?;
        if let Some(other) = self.by_ue.get(&rules.ue) {
            return Err(Refusal::new(
                Cause::UeAddressInUse,
                &format!("{} belongs to {other}", rules.ue),
            ));
        }
        if let Some(other) = rules.teid.and_then(|teid| self.by_teid.get(&teid)) {
            return Err(Refusal::new(
                Cause::TeidInUse,
                &format!("the teid belongs to {other}"),
            ));
        }
        let mut named = rules.sponsor.iter().flat_map(|sponsor| &sponsor.contents);
        if let Some(unknown) = named.find(|content| !self.contents.contains_key(content)) {
            return Err(Refusal::new(Cause::ContentUnknown, &unknown.to_string()));
        }
        if self.sessions.len() >= self.limits.sessions {
            return Err(Refusal::new(
                Cause::NoResources,
                &format!("{} sessions are established", self.limits.sessions),
            ));
        }
        Ok(Novelty::New)
    }

    fn known(&self, session: &SessionId) -> Result<&SessionRules, Refusal> {
        self.sessions
            .get(session)
            .ok_or_else(|| Refusal::new(Cause::SessionUnknown, &session.to_string()))
    }

    fn insert(&mut self, rules: &SessionRules) {
        let Some(teid) = rules.teid else { return };
        self.by_ue.insert(rules.ue, rules.session);
        self.by_teid.insert(teid, rules.session);
        self.peers.add(rules.path.peer);
        if let Some(before) = self.sessions.insert(rules.session, rules.clone()) {
            self.peers.remove(before.path.peer);
        }
    }

    fn remove(&mut self, session: &SessionId) {
        let Some(rules) = self.sessions.remove(session) else {
            return;
        };
        self.peers.remove(rules.path.peer);
        self.by_ue.remove(&rules.ue);
        if let Some(teid) = rules.teid {
            self.by_teid.remove(&teid);
        }
    }
}

/// What can be judged from the rules alone.
fn check_rules(rules: &SessionRules) -> Result<(), Refusal> {
    let invalid = |detail: &str| Err(Refusal::new(Cause::RuleInvalid, detail));
    if rules.ue.is_unspecified() || rules.ue.is_multicast() {
        return invalid("the subscriber's address is not one host's");
    }
    if rules.path.peer.ip().is_unspecified() || rules.path.peer.port() == 0 {
        return invalid("the peer's address is not one endpoint's");
    }
    if rules.path.downlink_teid.get() == 0 || rules.teid.is_some_and(|teid| teid.get() == 0) {
        return invalid("teid 0 is no tunnel");
    }
    if let Some(sponsor) = &rules.sponsor {
        if sponsor.contents.is_empty() {
            return invalid("the sponsor names no content");
        }
        if sponsor.package.is_zero() {
            return invalid("the sponsor names no package");
        }
    }
    if let Payer::Personal { package, .. } = rules.payer
        && package.is_zero()
    {
        return invalid("the personal payer names no package");
    }
    Ok(())
}

#[cfg(test)]
#[path = "association_tests.rs"]
mod tests;
