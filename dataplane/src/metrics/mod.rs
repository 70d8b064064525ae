//! What a data plane tells of itself over HTTP: `/metrics`, `/healthz`, `/readyz`.
//!
//! ```text
//! workers -> arena ----------------\
//! control thread -> ControlMetrics -> /metrics      one thread, one runtime of its own
//! control thread -> Standing -------> /readyz
//! ```
//!
//! Workers do nothing for it: what they count stands in the arena anyway, and whether one of them
//! still works is asked of it only when somebody asks `/readyz`.

mod arena;
mod control;
mod endpoint;
mod standing;
mod tunnel;

pub use arena::metrics_text;
pub(crate) use control::{ControlMetrics, JournalName, PathMetrics, PfcpMetrics};
pub(crate) use endpoint::MetricsEndpoint;
pub(crate) use standing::Phase;
pub(crate) use tunnel::{TunnelMetrics, TunnelSeries, TunnelStanding};
