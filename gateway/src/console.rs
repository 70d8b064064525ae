//! The console: pages for people, rendered here, with every asset inside the binary.

use std::sync::Arc;

use axum::Router;

use crate::service::Service;

/// The console's routes.
pub(crate) fn routes() -> Router<Arc<Service>> {
    Router::new()
}
