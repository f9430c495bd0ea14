//! The client of the API server: kube's, with our limits.

use super::{KubernetesError, chain};
use http::{Request, Response};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{BoxError, Layer, Service};

/// An API server that takes longer for one request is taken for gone.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// A client that gives a request up, but no watch that was begun, after ten seconds, and tries none again by
/// itself.
///
/// # Errors
/// The configuration cannot be used, such as a certificate that is none.
pub fn client(mut config: kube::Config) -> Result<Client, KubernetesError> {
    config.connect_timeout = Some(REQUEST_LIMIT);
    // Fifteen tries would hide a busy API server for minutes; whoever asks tries again by itself.
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).map_err(|error| KubernetesError::Unknown(chain(&error)))?;
    Ok(builder.with_layer(&Limit).build())
}

/// How long the beginning of an answer may take. What a watch then tells may take for ever.
struct Limit;

impl<S> Layer<S> for Limit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited(inner)
    }
}

struct Limited<S>(S);

impl<S, B> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = futures_util::future::BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let silent = |_| format!("no answer within {} s", REQUEST_LIMIT.as_secs());
            tokio::time::timeout(REQUEST_LIMIT, answer).await.map_err(silent)?
        })
    }
}
