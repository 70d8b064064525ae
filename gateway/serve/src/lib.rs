//! HTTP accept loop with deadlines and limits, problem+json, SSE framing.
#![forbid(unsafe_code)]
