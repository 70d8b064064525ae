//! What a worker tells the control thread.

use std::net::IpAddr;

use crossbeam::channel::Sender;
use qlink_io::handover::Bell;
use qlink_pfcp::model::{PdrId, Seid, UsageReport};
use qlink_types::ids::Teid;

/// What happened in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RuledNews {
    /// Usage to be reported.
    Usage(Vec<UsageReport>),
    /// The first packet is kept since the control plane was told last.
    DownlinkData(PdrId),
    /// The peer of a tunnel does not know it.
    ErrorIndication(IpAddr, Teid),
    /// No packet for the inactivity time.
    Inactive,
}

/// [`RuledNews`] of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuledEvent {
    pub(crate) seid: Seid,
    pub(crate) news: RuledNews,
}

/// The way to the control thread.
#[derive(Debug)]
pub(crate) struct EventLine {
    line: Option<(Sender<RuledEvent>, Bell)>,
}

impl EventLine {
    /// Nobody listens.
    pub(crate) const fn none() -> Self {
        Self { line: None }
    }

    pub(crate) const fn new(events: Sender<RuledEvent>, bell: Bell) -> Self {
        Self {
            line: Some((events, bell)),
        }
    }

    /// Tells it; the event comes back when there is no room now.
    pub(crate) fn tell(&self, event: RuledEvent) -> Result<(), RuledEvent> {
        let Some((events, bell)) = &self.line else {
            return Ok(());
        };
        events.try_send(event).map_err(|error| error.into_inner())?;
        bell.ring();
        Ok(())
    }
}
