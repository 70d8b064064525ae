//! REST v1 types and OpenAPI 3.1.
#![forbid(unsafe_code)]
