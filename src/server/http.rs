//! The HTTP port: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever starts and stops brokers.
//!
//! A thread of its own, off the shards' executors; it reads what the shards publish and nothing else.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::Shared;
use crate::metrics;

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Opens the port.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the process ends.
pub(super) fn start(listener: TcpListener, shared: Arc<Shared>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let routes = Router::new()
        .route("/metrics", get(prometheus))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(shared);
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => axum::serve(listener, routes).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "the HTTP port is not served any more");
            }
        });
    })?;
    Ok(())
}

async fn prometheus(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let text = metrics::render(shared.metrics.iter());
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text)
}

async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    if shared.stop.load(Ordering::SeqCst) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}
