//! Simulated operator: an HTTP top-up platform with a fault script.
#![forbid(unsafe_code)]
