//! Against real `redis-server` processes.

use super::addresses::BUS_OFFSET;
use super::*;
use std::net::TcpListener;

fn lone() -> LocalNodesConfig {
    LocalNodesConfig { count: 1, ..LocalNodesConfig::default() }
}

#[tokio::test]
async fn a_killed_node_comes_back_on_its_address_and_nothing_is_left_behind() {
    let mut nodes = LocalNodes::start(LocalNodesConfig { count: 2, ..lone() }).await.unwrap();
    let addr = nodes.addrs()[1];
    nodes.kill(1);
    assert!(answers_ping(addr).await.is_err());
    nodes.restart(1).await.unwrap();
    assert!(answers_ping(addr).await.unwrap());
    let dir = nodes.dir().to_path_buf();
    drop(nodes);
    assert!(answers_ping(addr).await.is_err());
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_kept_folder_is_resumed_on_the_same_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let config = LocalNodesConfig { dir: Some(dir.path().to_path_buf()), ..lone() };
    let first = LocalNodes::start(config.clone()).await.unwrap();
    let addrs = first.addrs().to_vec();
    first.shutdown().await;
    let second = LocalNodes::start(config.clone()).await.unwrap();
    assert_eq!(second.addrs(), addrs);
    second.shutdown().await;
    let error = LocalNodes::start(LocalNodesConfig { count: 3, ..config }).await.unwrap_err();
    assert!(matches!(error, LocalNodesError::OtherCount { found: 1, wanted: 3, .. }), "{error}");
}

#[tokio::test]
async fn a_missing_server_says_how_to_get_one() {
    let error = LocalNodes::start(LocalNodesConfig { server: "no-such-server".into(), ..lone() }).await;
    assert!(error.unwrap_err().to_string().contains("apt-get install redis-server"));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().min(u16::MAX - BUS_OFFSET);
    let error = LocalNodes::start(LocalNodesConfig { first_port: Some(port), ..lone() }).await.unwrap_err();
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn a_node_that_ends_shows_its_log() {
    let settings = vec![("no-such-setting".into(), "1".into())];
    let error = LocalNodes::start(LocalNodesConfig { settings, ..lone() }).await.unwrap_err();
    assert!(error.to_string().contains("no-such-setting"), "{error}");
}

#[tokio::test]
async fn a_program_that_is_no_server_is_asked_about() {
    let error = LocalNodes::start(LocalNodesConfig { server: "/bin/true".into(), ..lone() }).await;
    assert!(error.unwrap_err().to_string().contains("is this program a Redis or Valkey server?"));
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let error = LocalNodes::start(LocalNodesConfig { dir: Some("/proc/nodes".into()), ..lone() }).await;
    assert!(error.unwrap_err().to_string().contains("/proc/nodes"));
}
