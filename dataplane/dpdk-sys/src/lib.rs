//! The functions of `shim.c`, our own narrow door to DPDK, as foreign declarations.
//!
//! Without the feature `link` this crate is empty and needs nothing of the system, so that the
//! workspace builds on a machine without DPDK. With it, the build script finds the system's
//! libdpdk (21.11 or later) by pkg-config and compiles the shim.
//!
//! **Invariant**: no structure of DPDK crosses this boundary. Packets (`rte_mbuf`) and pools
//! (`rte_mempool`) are addresses that only the shim looks into; what Rust reads is `View`, which
//! the shim fills. Most functions for packets are inline in DPDK's headers and have no symbol, and
//! its structures change from version to version: a generated binding follows both, this does not.
//!
//! It deliberately has no safe function and no policy: that is the back end `dpdk` of `qlink-io`.
#![allow(
    unsafe_code,
    reason = "declarations of foreign functions; the safe types stand in qlink-io"
)]

#[cfg(feature = "link")]
mod shim;

#[cfg(feature = "link")]
pub use shim::{
    BURST, NAME_BYTES, STATS, View, qlink_dpdk_allocate, qlink_dpdk_device_name,
    qlink_dpdk_pool_free, qlink_dpdk_pool_new, qlink_dpdk_pool_used, qlink_dpdk_port_facts,
    qlink_dpdk_port_start, qlink_dpdk_port_stats, qlink_dpdk_port_stop, qlink_dpdk_receive,
    qlink_dpdk_release, qlink_dpdk_send, qlink_dpdk_start, qlink_dpdk_stop,
    qlink_dpdk_thread_enter, qlink_dpdk_thread_leave, qlink_dpdk_version,
};
