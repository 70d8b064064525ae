//! The console: pages for people, rendered here, with every asset inside the binary.
//!
//! ```text
//! /console                          packages, sessions, latest blocks
//! /console/packages/{package}       money and viewers of one package
//! /console/sessions/{session}       a reason for every byte of one session
//! <page>/fragment                   the changing part of that page, which the script fetches again
//! /console/assets/...               one style sheet, one script, one mark
//! ```
//!
//! It deliberately has no client-side state, no build step and no foreign host: a page says
//! everything without its script. What the chain holds is read at its newest final block; figures
//! are integers that are only grouped and never calculated with floats.

mod assets;
mod blocks;
mod figures;
mod package;
mod pages;
mod session;

pub(crate) use pages::routes;
