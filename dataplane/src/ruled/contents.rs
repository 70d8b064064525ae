//! The contents of a session with rules while it lives: rules come and go, flows go on.
//!
//! ```text
//! slot      0        1        2          flows name contents by slot: a slot keeps its content
//! named     film     -        trailer    - is named no more: nothing new is proven of it
//! ```
//!
//! A slot is given to another content only while the session has no flow, and is never taken away,
//! so what was proven of a content is known when it is named again. After a restart the slots are
//! what the arena says they are.
//!
//! Only connections that begin after a session has its first content are proven.

use qlink_content::{LimitReason, View};
use qlink_meter::{Recovered, SessionSlot, ViewIdentity};
use qlink_pfcp::{Cause, MAX_CONTENTS, Refusal, SessionRules};
use qlink_types::ids::ContentId;
use qlink_types::units::Bytes;

use crate::contents::{Copy, SessionContents};
use crate::plane::{Plane, Sponsored};
use crate::prove::{class_words, write_view};

/// How a session gets the contents that its rules name.
#[derive(Debug)]
pub(super) struct Naming {
    /// What each slot holds that stands.
    standing: Vec<(ContentId, Copy)>,
    /// Slots among those that get a content of which nothing is known.
    fresh: Vec<usize>,
    /// Further contents with their places in the arena.
    further: Vec<((ContentId, Copy), usize)>,
}

/// The slots of a session as a killed process left them, and behind them what rules name besides.
pub(super) fn standing(
    slot: SessionSlot,
    recovered: &Recovered,
    named: Vec<(ContentId, Copy)>,
) -> Vec<(ContentId, Copy)> {
    let nothing = (ContentId::new([0; 32]), Copy::Missing);
    let views = recovered.views_of(slot);
    let slots = views.iter().map(|(_, view)| view.position);
    let count = slots
        .max()
        .map_or(0, |last| usize::from(last).saturating_add(1));
    let mut contents = vec![nothing; count];
    for (_, view) in views {
        if let Some(place) = contents.get_mut(usize::from(view.position)) {
            place.0 = view.content;
        }
    }
    for (content, copy) in named {
        match contents.iter_mut().find(|(known, _)| *known == content) {
            Some(place) => place.1 = copy,
            None => contents.push((content, copy)),
        }
    }
    contents
}

impl Plane {
    /// Finds room for the contents that a session's rules name now; nothing has changed.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when there is none.
    pub(super) fn room_for_contents(
        &self,
        slot: SessionSlot,
        named: Vec<(ContentId, Copy)>,
    ) -> Result<Naming, Refusal> {
        let session = self.sponsored.get(slot.index()).and_then(Option::as_deref);
        let contents = session.map_or(&[][..], |session| &session.contents.0);
        let idle = self.flows.of_session(slot) == 0;
        let mut named = named;
        let mut standing = Vec::with_capacity(contents.len());
        let mut free = Vec::new();
        for (place, (content, _)) in contents.iter().enumerate() {
            let known = named.iter().position(|(name, _)| name == content);
            standing.push(match known {
                Some(known) => named.swap_remove(known),
                None => {
                    free.extend(idle.then_some(place));
                    (*content, Copy::Missing)
                }
            });
        }
        let mut fresh = Vec::new();
        for place in free {
            let (Some(next), Some(content)) = (standing.get_mut(place), named.pop()) else {
                break;
            };
            *next = content;
            fresh.push(place);
        }
        if standing.len().saturating_add(named.len()) > MAX_CONTENTS {
            let detail = "flows of the session still hold contents that no rule names";
            return Err(Refusal::new(Cause::NoResources, detail));
        }
        let places = self.take_view_places(named.len())?;
        Ok(Naming {
            standing,
            fresh,
            further: named.into_iter().zip(places).collect(),
        })
    }

    /// Gives a session the contents that [`Self::room_for_contents`] found room for.
    pub(super) fn name_contents(
        &mut self,
        slot: SessionSlot,
        rules: &SessionRules,
        naming: Naming,
    ) {
        let Naming {
            standing,
            fresh,
            further,
        } = naming;
        let known = self.sponsored.get(slot.index());
        if known.is_none_or(Option::is_none) {
            if further.is_empty() {
                return;
            }
            let before = self.arena.usage(slot).user_charged;
            self.count_charges(slot, rules.session, before);
            self.sessions.sponsor(slot);
            self.sponsor(slot, no_contents());
        }
        for (_, place) in &further {
            self.own_view(*place, Some(slot));
        }
        let Some(Some(session)) = self.sponsored.get_mut(slot.index()) else {
            return;
        };
        session.contents.0 = standing;
        let view = View::new(Bytes::new(u64::MAX), LimitReason::PackageExhausted);
        let mut changed = fresh;
        for (content, place) in further {
            changed.push(session.contents.0.len());
            session.contents.0.push(content);
            session.views.push(view);
            session.places.push(place);
            session.written.push([0; 8]);
        }
        for position in changed {
            let content = session
                .contents
                .0
                .get(position)
                .map(|(content, _)| *content);
            if let Some(place) = session.views.get_mut(position) {
                *place = view;
            }
            if let Some(written) = session.written.get_mut(position) {
                *written = class_words(&view.classes());
            }
            let (Some(content), Some(place)) = (content, session.places.get(position)) else {
                continue;
            };
            let identity = ViewIdentity {
                session: slot,
                position: u16::try_from(position).unwrap_or(u16::MAX),
                content,
            };
            let classes = class_words(&view.classes());
            self.arena
                .open_view(*place, identity, classes, |sink| write_view(&view, sink));
        }
    }
}

/// A session whose rules name its first contents. Nobody pays by it: rules only measure.
const fn no_contents() -> Sponsored {
    Sponsored {
        contents: SessionContents(Vec::new()),
        views: Vec::new(),
        places: Vec::new(),
        written: Vec::new(),
        origins: Vec::new(),
        limit: u64::MAX,
    }
}
