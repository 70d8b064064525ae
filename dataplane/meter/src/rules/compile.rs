//! From checked rules to a block.

use std::collections::BTreeMap;
use std::net::IpAddr;

use qlink_pfcp::model::{
    ApplicationId, FarId, LocalFTeid, Pdi, Pdr, PdrId, QerId, Qfi, SdfFilter, SessionModel,
    UeAddress, UeRole, UrrId,
};

use super::action::{Action, Referred};
use super::block::{CompiledPdr, ProofRule, RuleBlock};
use super::list::{IndexList, QerList, UrrList};
use super::pattern::{End, Pattern};
use super::search::Search;
use crate::direction::Direction;

/// Most patterns of one session (chosen: 512 rules of 8 filters each; a pattern takes 160 bytes).
pub const PATTERNS_MAX: usize = 4096;

/// What applications consist of: packet flow descriptions or filters that the node knows.
pub trait ApplicationFilters {
    /// The filters of `application`; an empty list detects nothing, `None` refuses the rule.
    fn filters(&self, application: &ApplicationId) -> Option<&[SdfFilter]>;
}

/// A node without applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoApplications;

impl ApplicationFilters for NoApplications {
    fn filters(&self, _: &ApplicationId) -> Option<&[SdfFilter]> {
        None
    }
}

impl ApplicationFilters for BTreeMap<ApplicationId, Vec<SdfFilter>> {
    fn filters(&self, application: &ApplicationId) -> Option<&[SdfFilter]> {
        self.get(application).map(Vec::as_slice)
    }
}

/// Why rules could not be compiled. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// An endpoint or address is still to be chosen.
    #[error("rule {} asks for a choice that was not made", .0.get())]
    Unresolved(PdrId),
    /// The application has no filters here.
    #[error("rule {} names an unknown application", .0.get())]
    ApplicationUnknown(PdrId),
    /// A filter refers to another one that no rule has.
    #[error("rule {} names an unknown filter", .0.get())]
    FilterUnknown(PdrId),
    /// The rule names no forwarding rule, or one that is not there.
    #[error("rule {} names no forwarding rule that stands", .0.get())]
    FarUnknown(PdrId),
    /// A forwarding rule does not say where to.
    #[error("forwarding rule {} does not say where to", .0.get())]
    FarIncomplete(FarId),
    /// The rule names a usage rule that is not there.
    #[error("rule {} names an unknown usage rule", .0.get())]
    UrrUnknown(PdrId),
    /// The rule names a `QoS` rule that is not there.
    #[error("rule {} names an unknown qos rule", .0.get())]
    QerUnknown(PdrId),
    /// The rule names more usage or `QoS` rules than a packet is looked up in.
    #[error("rule {} names too many usage or qos rules", .0.get())]
    ListTooLong(PdrId),
    /// The session has more rules, or filters in them, than fit.
    #[error("the session has more than {PATTERNS_MAX} filters")]
    TooLarge,
}

impl RuleBlock {
    /// Compiles the rules of a session. Usage and `QoS` rules are named by their place in the
    /// order of ids: [`crate::SessionUrrs`] and [`crate::Policer`] keep the same order.
    ///
    /// # Errors
    ///
    /// The first [`CompileError`].
    pub fn compile(
        model: &SessionModel,
        applications: &impl ApplicationFilters,
    ) -> Result<Self, CompileError> {
        let compiler = Compiler::new(model, applications)?;
        compiler.block()
    }
}

struct Compiler<'a, A> {
    model: &'a SessionModel,
    applications: &'a A,
    urrs: BTreeMap<UrrId, u8>,
    qers: BTreeMap<QerId, u8>,
    /// Whole filters by the number that others refer to them by.
    filters: BTreeMap<u32, &'a SdfFilter>,
}

impl<'a, A: ApplicationFilters> Compiler<'a, A> {
    fn new(model: &'a SessionModel, applications: &'a A) -> Result<Self, CompileError> {
        if model.urrs.len() > 256 || model.qers.len() > 256 {
            return Err(CompileError::TooLarge);
        }
        let all = model.pdrs.values().flat_map(|pdr| &pdr.pdi.filters);
        Ok(Self {
            model,
            applications,
            urrs: model.urrs.keys().copied().zip(0..).collect(),
            qers: model.qers.keys().copied().zip(0..).collect(),
            filters: all
                .filter(|filter| !is_reference(filter))
                .filter_map(|filter| Some((filter.id?, filter)))
                .collect(),
        })
    }

    fn block(&self) -> Result<RuleBlock, CompileError> {
        let mut ordered: Vec<&Pdr> = self.model.pdrs.values().collect();
        ordered.sort_by_key(|pdr| (pdr.precedence, pdr.id));
        let (mut pdrs, mut proofs) = (Vec::new(), Vec::new());
        let mut referred = Referred::default();
        let (mut uplink, mut downlink) = (Vec::new(), Vec::new());
        for pdr in ordered {
            let urrs = self.urr_list(pdr)?;
            if !pdr.pdi.contents.is_empty() {
                proofs.push(ProofRule {
                    pdr: pdr.id,
                    contents: pdr.pdi.contents.as_slice().into(),
                    urrs,
                });
                continue;
            }
            let rank = u16::try_from(pdrs.len()).map_err(|_| CompileError::TooLarge)?;
            let side = match Direction::from_source(pdr.pdi.source) {
                Direction::Uplink => &mut uplink,
                Direction::Downlink => &mut downlink,
            };
            side.extend(self.patterns(pdr, rank)?);
            if side.len() > PATTERNS_MAX {
                return Err(CompileError::TooLarge);
            }
            pdrs.push(self.pdr(pdr, urrs, &mut referred)?);
        }
        let quota_actions = self.quota_actions(&mut referred)?;
        Ok(RuleBlock {
            pdrs: pdrs.into(),
            uplink: Search::new(uplink),
            downlink: Search::new(downlink),
            proofs: proofs.into(),
            quota_actions,
            urls: referred.urls.into(),
            redirects: referred.redirects.into(),
            copies: referred.copies.into(),
        })
    }

    fn pdr(
        &self,
        pdr: &Pdr,
        urrs: UrrList,
        referred: &mut Referred,
    ) -> Result<CompiledPdr, CompileError> {
        let unknown = CompileError::FarUnknown(pdr.id);
        let id = pdr.far.ok_or(unknown)?;
        let far = self.model.fars.get(&id).ok_or(unknown)?;
        let qers = self.qer_list(pdr)?;
        let marks = pdr.qers.iter().filter_map(|qer| self.model.qers.get(qer));
        let qfi: Option<Qfi> = marks.filter_map(|qer| qer.qfi).next();
        Ok(CompiledPdr {
            id: pdr.id,
            precedence: pdr.precedence,
            removal: pdr.removal,
            far: id,
            action: Action::compile(far, qfi, referred).ok_or(CompileError::FarIncomplete(id))?,
            urrs,
            qers,
        })
    }

    fn quota_actions(
        &self,
        referred: &mut Referred,
    ) -> Result<Box<[Option<Action>]>, CompileError> {
        let mut actions = Vec::with_capacity(self.model.urrs.len());
        for urr in self.model.urrs.values() {
            let far = urr.quota_action.and_then(|id| self.model.fars.get(&id));
            actions.push(match far {
                Some(far) => Some(
                    Action::compile(far, None, referred)
                        .ok_or(CompileError::FarIncomplete(far.id))?,
                ),
                None => None,
            });
        }
        Ok(actions.into())
    }

    fn urr_list(&self, pdr: &Pdr) -> Result<UrrList, CompileError> {
        list(pdr, &pdr.urrs, &self.urrs, CompileError::UrrUnknown(pdr.id))
    }

    fn qer_list(&self, pdr: &Pdr) -> Result<QerList, CompileError> {
        list(pdr, &pdr.qers, &self.qers, CompileError::QerUnknown(pdr.id))
    }

    /// One pattern for each way in which the rule can be met.
    fn patterns(&self, pdr: &Pdr, rank: u16) -> Result<Vec<Pattern>, CompileError> {
        let mut base = Pattern::new(pdr.pdi.source, rank);
        base.require_qfis(&pdr.pdi.qfis);
        match pdr.pdi.local_fteid {
            Some(LocalFTeid::Choose { .. }) => return Err(CompileError::Unresolved(pdr.id)),
            Some(LocalFTeid::Fixed(endpoint)) => {
                base.require_teid(endpoint.teid);
            }
            None => {}
        }
        let mut patterns = match &pdr.pdi.ue {
            Some(ue) => ue_patterns(&base, &pdr.pdi, ue).ok_or(CompileError::Unresolved(pdr.id))?,
            None => vec![base],
        };
        if !pdr.pdi.filters.is_empty() {
            let filters: Result<Vec<&SdfFilter>, _> = pdr
                .pdi
                .filters
                .iter()
                .map(|filter| self.whole(pdr, filter))
                .collect();
            patterns = product(&patterns, filters?)?;
        }
        if let Some(application) = &pdr.pdi.application {
            let known = self.applications.filters(application);
            let known = known.ok_or(CompileError::ApplicationUnknown(pdr.id))?;
            patterns = product(&patterns, known)?;
        }
        Ok(patterns)
    }

    /// The filter itself, or the one that it refers to. Source: TS 29.244 §8.2.5, flag BID.
    fn whole<'b>(
        &'b self,
        pdr: &Pdr,
        filter: &'b SdfFilter,
    ) -> Result<&'b SdfFilter, CompileError> {
        match filter.id {
            Some(id) if is_reference(filter) => {
                let found = self.filters.get(&id).copied();
                found.ok_or(CompileError::FilterUnknown(pdr.id))
            }
            _ => Ok(filter),
        }
    }
}

/// Whether a filter says nothing but another one's number.
const fn is_reference(filter: &SdfFilter) -> bool {
    filter.id.is_some()
        && filter.rule.is_none()
        && filter.tos.is_none()
        && filter.spi.is_none()
        && filter.flow_label.is_none()
}

fn list<Id: Ord, const N: usize>(
    pdr: &Pdr,
    ids: &[Id],
    places: &BTreeMap<Id, u8>,
    unknown: CompileError,
) -> Result<IndexList<N>, CompileError> {
    let mut list = IndexList::EMPTY;
    for id in ids {
        if !list.push(*places.get(id).ok_or(unknown)?) {
            return Err(CompileError::ListTooLong(pdr.id));
        }
    }
    Ok(list)
}

/// One pattern per address family of the subscriber; `None` when an address is not chosen yet.
fn ue_patterns(base: &Pattern, pdi: &Pdi, ue: &UeAddress) -> Option<Vec<Pattern>> {
    let local = match Direction::from_source(pdi.source) {
        Direction::Uplink => UeRole::Source,
        Direction::Downlink => UeRole::Destination,
    };
    let end = if ue.role == local {
        End::Local
    } else {
        End::Remote
    };
    let v4 = ue.v4.map(|address| (IpAddr::V4(address), 32));
    let v6 = ue.v6.map(|(prefix, bits)| (IpAddr::V6(prefix), bits));
    if (ue.choose_v4 && v4.is_none()) || (ue.choose_v6 && v6.is_none()) {
        return None;
    }
    let addresses = v4.into_iter().chain(v6);
    Some(
        addresses
            .filter_map(|(address, bits)| {
                let mut pattern = base.clone();
                pattern
                    .require_address(end, address, bits)
                    .then_some(pattern)
            })
            .collect(),
    )
}

/// Every pattern with every filter; combinations that contradict themselves are left out.
fn product<'a>(
    patterns: &[Pattern],
    filters: impl IntoIterator<Item = &'a SdfFilter>,
) -> Result<Vec<Pattern>, CompileError> {
    let mut out = Vec::new();
    for filter in filters {
        for pattern in patterns {
            let mut pattern = pattern.clone();
            if narrow(&mut pattern, filter) {
                out.push(pattern);
            }
        }
        if out.len() > PATTERNS_MAX {
            return Err(CompileError::TooLarge);
        }
    }
    Ok(out)
}

fn narrow(pattern: &mut Pattern, filter: &SdfFilter) -> bool {
    let rule = filter.rule.as_ref().is_none_or(|rule| {
        rule.protocol
            .is_none_or(|number| pattern.require_protocol(number))
            && rule
                .remote
                .is_none_or(|(address, bits)| pattern.require_address(End::Remote, address, bits))
            && rule
                .local
                .is_none_or(|(address, bits)| pattern.require_address(End::Local, address, bits))
            && pattern.require_ports(End::Remote, &rule.remote_ports)
            && pattern.require_ports(End::Local, &rule.local_ports)
    });
    rule && filter.tos.is_none_or(|tos| pattern.require_tos(tos))
        && filter.spi.is_none_or(|spi| pattern.require_spi(spi))
        && filter
            .flow_label
            .is_none_or(|label| pattern.require_flow_label(label))
}
