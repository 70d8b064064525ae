//! The pipeline, workers, control socket, replay.
#![forbid(unsafe_code)]
