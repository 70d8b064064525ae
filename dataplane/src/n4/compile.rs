//! From the rules of a PFCP session to what a worker runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use qlink_meter::{Action, ApplicationFilters, CompileError, Out, RuleBlock};
use qlink_pfcp::model::{
    ApplicationId, ApplyAction, Duplication, Endpoint, FailedRule, Far, Interface,
    OuterHeaderCreation, Pdr, PdrId, Redirect, Rejection, SdfFilter, Seid, SessionModel,
};
use qlink_pfcp::wire::{CustomPfd, IeType, NamedContents, Pfd};
use qlink_pfcp::{Cause, DownlinkPath, MAX_CONTENTS, PackageContents, Payer, SessionRules};
use qlink_types::ids::{ContentId, PackageId, SessionId, Teid};
use qlink_wire::GTPU_PORT;

use super::pool::Seat;
use crate::contents::Copy;
use crate::ruled::{RuledSetup, is_location, measured};

/// What applications are made of.
#[derive(Debug, Default)]
pub(crate) struct Applications {
    filters: BTreeMap<ApplicationId, Vec<SdfFilter>>,
    contents: BTreeMap<ApplicationId, NamedContents>,
}

impl Applications {
    /// From the filters that a node was told.
    pub(crate) fn new(table: &BTreeMap<ApplicationId, Vec<Pfd>>) -> Self {
        let mut applications = Self::default();
        for (application, pfds) in table {
            let filters = pfds.iter().flat_map(filters_of).collect();
            applications.filters.insert(application.clone(), filters);
            let contents = named_by(pfds);
            applications.contents.insert(application.clone(), contents);
        }
        applications
    }
}

impl Applications {
    /// Applications whose contents and packages are wanted.
    pub(crate) fn that_name(
        &self,
        wanted: impl Fn(&[ContentId], &[PackageId]) -> bool,
    ) -> impl Iterator<Item = &ApplicationId> {
        let named = self.contents.iter();
        let named = named.filter(move |(_, of)| wanted(&of.contents, &of.packages));
        named.map(|(application, _)| application)
    }

    /// The contents and packages that each of a session's rules names, by itself and by its
    /// application.
    #[cfg(test)]
    pub(crate) fn named_in<'a>(
        &'a self,
        model: &'a SessionModel,
    ) -> impl Iterator<Item = (&'a [ContentId], &'a [PackageId])> {
        model.pdrs.values().flat_map(|pdr| {
            let application = pdr.pdi.application.as_ref();
            let of = application.and_then(|application| self.contents.get(application));
            let of = of.map(|of| (of.contents.as_slice(), of.packages.as_slice()));
            let own = (pdr.pdi.contents.as_slice(), pdr.pdi.packages.as_slice());
            std::iter::once(own).chain(of)
        })
    }
}

impl ApplicationFilters for Applications {
    /// An application that is gone detects nothing any more.
    fn filters(&self, application: &ApplicationId) -> Option<&[SdfFilter]> {
        Some(self.filters.get(application).map_or(&[], Vec::as_slice))
    }
}

/// Packet filters of a PFD; names and addresses of web pages detect nothing here.
fn filters_of(pfd: &Pfd) -> impl Iterator<Item = SdfFilter> + '_ {
    let flows = pfd.flow.iter().chain(&pfd.more_flows);
    flows.map(|flow| SdfFilter {
        rule: Some(flow.rule.clone()),
        text: flow.text.clone(),
        ..SdfFilter::default()
    })
}

fn named_by(pfds: &[Pfd]) -> NamedContents {
    let mut all = NamedContents::default();
    for pfd in pfds {
        if let Some(CustomPfd::Contents(named)) = &pfd.custom {
            all.contents.extend_from_slice(&named.contents);
            all.packages.extend_from_slice(&named.packages);
        }
    }
    all
}

/// What is needed besides the rules.
pub(crate) struct RuleCompiler<'a> {
    pub(crate) applications: &'a Applications,
    pub(crate) copies: &'a BTreeMap<ContentId, Copy>,
    /// What packages consist of.
    pub(crate) packages: &'a BTreeMap<PackageId, PackageContents>,
    /// Addresses of our own network: nothing is redirected or copied there.
    pub(crate) own: &'a [IpAddr],
}

impl RuleCompiler<'_> {
    /// Everything that a worker needs for a session.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] that names the rule which cannot be run here.
    pub(crate) fn setup(
        &self,
        seid: Seid,
        seat: &Seat,
        model: &SessionModel,
        inactivity_s: Option<u32>,
    ) -> Result<RuledSetup, Rejection> {
        let block = self.block(model)?;
        let copies = self.copies_of(&block)?;
        // Without an address packets are found by their tunnels, both ways.
        let ue = first_ue(model).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let contents: Vec<ContentId> = copies.iter().map(|(content, _)| *content).collect();
        let rules = SessionRules {
            session: session_id(seid),
            teid: Some(seat.teid),
            ue,
            path: path(model),
            basestation: None,
            sponsor: measured(contents),
            payer: Payer::Operator,
        };
        Ok(RuledSetup {
            seid,
            model: model.clone(),
            block,
            inactivity_s,
            rules,
            copies,
        })
    }

    /// The rules compiled.
    pub(crate) fn block(&self, model: &SessionModel) -> Result<RuleBlock, Rejection> {
        check(model, self.own)?;
        let named = self.with_contents(model)?;
        let block = RuleBlock::compile(&named, self.applications).map_err(refused)?;
        let unsupported = block.pdrs().iter().find(|pdr| !is_supported(&pdr.action));
        match unsupported {
            Some(pdr) => Err(Rejection::rule(FailedRule::Far(pdr.far))),
            None => Ok(block),
        }
    }

    /// Applications that are contents become contents, and so do packages.
    fn with_contents(&self, model: &SessionModel) -> Result<SessionModel, Rejection> {
        let mut named = model.clone();
        for pdr in named.pdrs.values_mut() {
            let application = pdr.pdi.application.as_ref();
            let of =
                application.and_then(|application| self.applications.contents.get(application));
            if let Some(of) = of.filter(|of| !of.is_empty()) {
                pdr.pdi.contents.extend_from_slice(&of.contents);
                pdr.pdi.packages.extend_from_slice(&of.packages);
                pdr.pdi.application = None;
            }
            for package in std::mem::take(&mut pdr.pdi.packages) {
                let contents = self.packages.get(&package);
                let contents = contents.ok_or_else(|| unknown_content(pdr.id))?;
                pdr.pdi.contents.extend(contents);
            }
        }
        Ok(named)
    }

    fn copies_of(&self, block: &RuleBlock) -> Result<Vec<(ContentId, Copy)>, Rejection> {
        let mut contents = BTreeSet::new();
        for rule in block.proof_rules() {
            for content in &rule.contents {
                if !self.copies.contains_key(content) {
                    return Err(unknown_content(rule.pdr));
                }
                contents.insert(*content);
            }
        }
        if contents.len() > MAX_CONTENTS {
            return Err(Rejection::new(Cause::NoResources));
        }
        let copy = |content| self.copies.get(&content).cloned().unwrap_or(Copy::Missing);
        Ok(contents
            .into_iter()
            .map(|content| (content, copy(content)))
            .collect())
    }
}

/// A rule names a content or a package that is not bound here.
const fn unknown_content(pdr: PdrId) -> Rejection {
    Rejection {
        cause: Cause::ContentUnknown,
        offending: None,
        failed_rule: Some(FailedRule::Pdr(pdr)),
    }
}

/// What the packet path cannot do is refused, not ignored.
fn check(model: &SessionModel, own: &[IpAddr]) -> Result<(), Rejection> {
    for far in model.fars.values() {
        let at_fault = |element| Rejection::rule(FailedRule::Far(far.id)).about(element);
        let redirect = far.forwarding.as_ref().and_then(|to| to.redirect.as_ref());
        if !redirect.is_none_or(|redirect| is_usable(redirect, own)) {
            return Err(at_fault(IeType::REDIRECT_INFORMATION));
        }
        if !far.duplicating.iter().all(|copy| is_copyable(copy, own)) {
            return Err(at_fault(IeType::OUTER_HEADER_CREATION));
        }
    }
    for pdr in model.pdrs.values() {
        let Some(far) = pdr.far.and_then(|far| model.fars.get(&far)) else {
            continue;
        };
        if !fits(pdr, far) {
            return Err(Rejection::rule(FailedRule::Far(far.id)));
        }
        if pdr.pdi.source != Interface::Access && readdresses(far) {
            let rejection = Rejection::rule(FailedRule::Far(far.id));
            return Err(rejection.about(IeType::REDIRECT_INFORMATION));
        }
    }
    Ok(())
}

/// Whether a rule sends packets to another destination: what subscribers send alone, whose answers
/// come back as if it had not.
fn readdresses(far: &Far) -> bool {
    let redirect = far.forwarding.as_ref().and_then(|to| to.redirect.as_ref());
    matches!(redirect, Some(Redirect::To(_)))
}

/// Whether packets can be redirected there: to hosts, none of which is this gateway's network.
fn is_usable(redirect: &Redirect, own: &[IpAddr]) -> bool {
    match redirect {
        Redirect::Url(url) => is_location(url),
        Redirect::To(to) => to
            .addresses()
            .all(|host| is_host(host) && !own.contains(&host)),
    }
}

const fn is_host(address: IpAddr) -> bool {
    let other = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !other && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

/// Whether copies can go there: into a tunnel, so that nobody takes them for the packet, to others
/// than ourselves.
fn is_copyable(copy: &Duplication, own: &[IpAddr]) -> bool {
    match copy.outer {
        Some(OuterHeaderCreation::Gtpu { v4, v6, .. }) => {
            let peers = v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6));
            let mut peers = peers.into_iter();
            peers.all(|peer| !peer.is_unspecified() && !peer.is_multicast() && !own.contains(&peer))
        }
        Some(OuterHeaderCreation::Udp { .. }) | None => false,
    }
}

/// Uplink goes to the network as it is or into a tunnel, everything else into a tunnel.
fn fits(pdr: &Pdr, far: &Far) -> bool {
    match far.action {
        ApplyAction::Drop { .. } | ApplyAction::Buffer { .. } => true,
        ApplyAction::Forward { .. } => {
            let to = far.forwarding.as_ref();
            let tunnel = to.and_then(|to| to.outer.as_ref());
            let tunnel = matches!(tunnel, Some(OuterHeaderCreation::Gtpu { .. }));
            let redirect = to.is_some_and(|to| to.redirect.is_some());
            tunnel || redirect || pdr.pdi.source == Interface::Access
        }
    }
}

const fn is_supported(action: &Action) -> bool {
    match action {
        Action::Drop { .. } | Action::Buffer { .. } => true,
        Action::Forward { to, .. } => {
            matches!(to, Out::N6 | Out::Tunnel { .. } | Out::RedirectUrl(_))
        }
    }
}

fn refused(error: CompileError) -> Rejection {
    match error {
        CompileError::Unresolved(pdr)
        | CompileError::FilterUnknown(pdr)
        | CompileError::FarUnknown(pdr)
        | CompileError::UrrUnknown(pdr)
        | CompileError::QerUnknown(pdr) => Rejection::rule(FailedRule::Pdr(pdr)),
        CompileError::ApplicationUnknown(pdr) => {
            Rejection::new(Cause::ApplicationUnknown).of(FailedRule::Pdr(pdr))
        }
        CompileError::FarIncomplete(far) => Rejection::rule(FailedRule::Far(far)),
        CompileError::ListTooLong(_) | CompileError::TooLarge => Rejection::new(Cause::NoResources),
    }
}

/// The id under which the arena names a session.
pub(crate) fn session_id(seid: Seid) -> SessionId {
    let mut bytes = [0; 16];
    let (tag, number) = bytes.split_at_mut(8);
    tag.copy_from_slice(b"pfcp\0\0\0\0");
    number.copy_from_slice(&seid.get().to_be_bytes());
    SessionId::new(bytes)
}

fn first_ue(model: &SessionModel) -> Option<IpAddr> {
    model
        .endpoints()
        .into_iter()
        .find_map(|endpoint| match endpoint {
            Endpoint::Tunnel(_) => None,
            Endpoint::UeV4(address) => Some(address.into()),
            Endpoint::UeV6(address, _) => Some(address.into()),
        })
}

/// The first tunnel, for those who look at the session from outside.
fn path(model: &SessionModel) -> DownlinkPath {
    let tunnels = model
        .fars
        .values()
        .filter_map(|far| match far.forwarding.as_ref()?.outer? {
            OuterHeaderCreation::Gtpu { teid, v4, v6 } => {
                let address = v4.map(IpAddr::V4).or_else(|| v6.map(IpAddr::V6))?;
                Some((address, teid))
            }
            OuterHeaderCreation::Udp { .. } => None,
        });
    let none = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), Teid::new(0));
    let (address, downlink_teid) = tunnels.into_iter().next().unwrap_or(none);
    DownlinkPath {
        peer: SocketAddr::new(address, GTPU_PORT),
        downlink_teid,
    }
}
