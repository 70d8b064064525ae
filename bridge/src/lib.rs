//! The registry of telecom assets that demo and dev networks use.
//!
//! [`LocalRegistry`] stands behind the same port, [`qlink_client::asset::AssetRegistry`], that a
//! bridge to NEO implements, so nothing above it can tell them apart except by asking for its
//! description. It registers nothing on NEO and says so.

#![forbid(unsafe_code)]

mod registry;

pub use registry::{ASSETS_MAX, LocalRegistry, REGISTRY_VERSION, RegistryError};
