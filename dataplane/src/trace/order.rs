//! Requests for traces.

use qlink_pfcp::{Answer, Cause, Refusal, TraceOrder};
use qlink_types::ids::SessionId;

use super::tracer::Tap;
use crate::control::{Command, Control};
use crate::plane::Plane;

impl Control {
    /// Begins a trace: file and thread first, then the worker.
    pub(crate) fn trace(&mut self, order: &TraceOrder) -> Result<Answer, Refusal> {
        let place = self.place(order.session)?;
        let slot = place.slot;
        let ring = self.traces.start(order)?;
        let tap = Tap { slot, ring };
        let begun = self.run(place, Command::Trace { tap });
        if let Err(refusal) = begun {
            self.traces.stop(&order.session);
            return Err(refusal);
        }
        self.trace_progress(order.session)
    }

    /// How far a trace is.
    pub(crate) fn trace_progress(&self, session: SessionId) -> Result<Answer, Refusal> {
        self.traces
            .report(session)
            .map(|report| Answer::Traced { report })
            .ok_or_else(|| Refusal::new(Cause::SessionUnknown, "no trace of this session"))
    }
}

impl Plane {
    /// Begins to copy packets of a session.
    ///
    /// # Errors
    ///
    /// [`Cause::NoResources`] when this worker traces as many as it may.
    pub(crate) fn trace(&mut self, tap: Tap) -> Result<(), Refusal> {
        if self.tracer.begin(tap) {
            return Ok(());
        }
        Err(Refusal::new(Cause::NoResources, "the worker traces enough"))
    }
}
