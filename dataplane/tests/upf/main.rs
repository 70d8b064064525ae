//! Scenarios of a user plane function between real kernels.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "test code"
)]

mod measured;
mod rig;

/// Not a scenario: the data plane of one.
#[test]
fn a_data_plane_runs() {
    rig::run_plane();
}

/// Not a scenario: a program of one's subscriber or origin.
#[test]
fn an_agent_runs() {
    rig::run_agent();
}
