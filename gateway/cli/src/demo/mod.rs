//! `qlink demo`: the acceptance example on a local network of real processes.
//!
//! The demo plays provider, wallets and operator's desk; node, gateway, data plane, BaseStation,
//! simulated viewers, origin and operator are processes of their own, reached by sockets only. It
//! ends with one report whose figures it has checked; any figure that is not exact makes the exit
//! code non-zero.

mod chaos;
mod cheaters;
mod film;
pub(crate) mod network;
mod options;
mod places;
mod radio;
mod report;
mod rest;
mod settlement;
mod story;
mod table;
mod wallets;

pub(crate) use options::{LossPercent, Options, parse_loss, run};
pub(crate) use places::folder;
pub(crate) use story::now_ms;
