//! The admin server's socket and connections: few, bounded, and gone when the process stops.

use super::Config;
use super::routes::{State, routes};
use crate::shutdown::Phase;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Scrapers and probes are a handful; more is a mistake that must not eat descriptors of clients.
const MAX_CONNECTIONS: usize = 128;

/// A request's head fits into one packet; who takes longer has gone away or means harm.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// After a failed accept (no descriptors left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin server's address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the admin port at {addr}: {error}; give another address with --admin")]
pub struct AdminError {
    pub addr: SocketAddr,
    pub error: std::io::Error,
}

/// A server that listens and does not answer yet.
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// When it is in use or not ours.
    pub async fn bind(config: Config) -> Result<Server, AdminError> {
        let wrap = |error| AdminError { addr: config.listen, error };
        let listener = TcpListener::bind(config.listen).await.map_err(wrap)?;
        let addr = listener.local_addr().map_err(wrap)?;
        Ok(Server { listener, addr })
    }

    /// Where it listens; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until the process is stopped; while it drains, so that probes see why.
    pub async fn run(self, state: State) {
        let shutdown = state.shutdown.clone();
        let service = TowerToHyperService::new(routes(state));
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        let accept_all = async {
            loop {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let stream = match self.listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "the admin server cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                while connections.try_join_next().is_some() {}
                let service = service.clone();
                connections.spawn(async move {
                    let mut http = http1::Builder::new();
                    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                        tracing::debug!(%error, "an admin connection failed");
                    }
                    drop(permit);
                });
            }
        };
        tokio::select! {
            () = accept_all => {}
            () = shutdown.reached(Phase::Stopped) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cluster;
    use super::*;
    use crate::shutdown::Shutdown;
    use crate::telemetry::Metrics;
    use crate::topology::SharedTopology;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const ANY: Config =
        Config { listen: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0) };

    async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
    }

    #[tokio::test]
    async fn readiness_follows_the_phase_and_the_topology() {
        let state = State {
            topology: Arc::new(SharedTopology::default()),
            refresh: Arc::default(),
            manage: None,
            terms: None,
            kubernetes: None,
            metrics: Arc::new(Metrics::new()),
            shutdown: Shutdown::default(),
            started: Instant::now(),
        };
        let (topology, shutdown) = (state.topology.clone(), state.shutdown.clone());
        let server = Server::bind(ANY).await.unwrap();
        let addr = server.local_addr();
        let running = tokio::spawn(server.run(state));

        assert_eq!(get(addr, "/livez").await.0, 200);
        let (status, reason) = get(addr, "/readyz").await;
        assert!(status == 503 && reason.contains("no node of the cluster has answered yet"), "{reason}");
        topology.publish(cluster());
        assert_eq!(get(addr, "/readyz").await, (503, "not ready: starting\n".to_string()));
        shutdown.advance(Phase::Ready);
        assert_eq!(get(addr, "/readyz").await, (200, "ready\n".to_string()));
        assert!(get(addr, "/metrics").await.1.contains("\nslotgate_ready 1\n"));
        assert!(get(addr, "/api/topology").await.1.contains("\"slots_covered\":16384"));
        assert!(get(addr, "/").await.1.starts_with("<!doctype html>"));
        assert_eq!(get(addr, "/nothing").await.0, 404);
        let (status, hint) = get(addr, "/api/status").await;
        assert!(status == 404 && hint.contains("--manage"), "{hint}");
        shutdown.advance(Phase::Draining);
        assert_eq!(get(addr, "/readyz").await, (503, "not ready: draining\n".to_string()));
        shutdown.advance(Phase::Stopped);
        running.await.unwrap();
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_the_flag() {
        let first = Server::bind(ANY).await.unwrap();
        let config = Config { listen: first.local_addr() };
        let error = Server::bind(config).await.err().unwrap().to_string();
        assert!(error.contains(&config.listen.to_string()) && error.contains("--admin"), "{error}");
    }
}
