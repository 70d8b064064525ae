//! How a bench is measured.

use std::time::Duration;

use criterion::Criterion;

/// Short runs, with the arguments of `cargo bench -- ...` applied: half a second to warm up, two
/// to measure, 20 samples (chosen: a whole file of benches stays below two minutes on a machine
/// that others use too; for a published figure the load is stated beside it).
#[must_use]
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args()
}
