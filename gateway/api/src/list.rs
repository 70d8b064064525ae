//! Lists with cursor paging.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Whether more follow.
    pub has_more: bool,
    /// Where they follow: the next request's `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
