//! Counters for collectors of the operator's network: IPFIX.
//!
//! A thread of its own reads the arena as any other process could, so the packet path knows
//! nothing of it; a collector that is away costs a log line.
//!
//! ```text
//! arena -> ArenaReader -> records -> ipfix::MessageWriter -> UDP
//! ```

pub mod elements;
mod exporter;
pub mod ipfix;
mod settings;

pub(crate) use exporter::Exporter;
pub use settings::{IpfixConfig, Span};
