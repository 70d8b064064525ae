//! The packet path: parse, session lookup, the whole pipeline, compare, the content stage.
//!
//! One iteration is one burst of 32 packets, or one whole download. Everything runs on one core
//! from memory; nothing is copied and no system call is made except one clock reading per burst.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "bench code: an input that cannot be built ends the run"
)]

mod cases;
mod film;
mod rules;
mod traffic;

use cases::{compare, content_stage, parse, pipeline_download, pipeline_uplink, session_lookup};
use rules::rule_search;

fn main() {
    let mut criterion = qlink_benches::criterion();
    parse(&mut criterion);
    session_lookup(&mut criterion);
    rule_search(&mut criterion);
    pipeline_uplink(&mut criterion);
    compare(&mut criterion);
    content_stage(&mut criterion);
    pipeline_download(&mut criterion);
    criterion.final_summary();
}
