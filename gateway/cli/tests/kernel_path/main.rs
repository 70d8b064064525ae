//! The traffic path between real kernels: `deploy/lab.sh` makes four network namespaces, and curl
//! fetches from nginx through BaseStation and gateway. What is billed must be exact.
//!
//! Needs root, `/dev/net/tun`, and the programs of [`lab`]; anything missing is a skip that says so.
//! Each test has a lab of its own, named after its process, and removes it, also when it fails.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]

mod films;
mod lab;
mod tunnels;
