//! Keys brought into a real cluster as `DUMP` gives them, through redirects and a failover, and the
//! replication stream of a real node.

use super::support::client::Client;
use super::support::program::{expect, run};
use super::support::real_cluster::RealCluster;
use super::support::wait_until;
use bytes::Bytes;
use slotgate::backend::Credentials;
use slotgate::control::loader::{Item, LoadError, Loader, Refusal, Settings};
use slotgate::control::replication::{Link, Opening};
use slotgate::topology::Slot;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

fn settings(cluster: &RealCluster, may_replace: bool) -> Settings {
    Settings {
        addrs: cluster.addrs().to_vec(),
        credentials: Credentials::default(),
        limit: Duration::from_secs(5),
        patience: Duration::from_secs(60),
        may_replace,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// What `DUMP` gives of a key.
fn dump(client: &mut Client, key: &[u8]) -> Bytes {
    let reply = client.call(&[b"DUMP", key]);
    let start = memchr::memchr(b'\n', &reply).unwrap() + 1;
    Bytes::copy_from_slice(&reply[start..reply.len() - 2])
}

fn item(key: impl AsRef<[u8]>, payload: &Bytes) -> Item {
    Item { key: Bytes::copy_from_slice(key.as_ref()), expiry: None, payload: payload.clone() }
}

fn count(cluster: &RealCluster, nodes: &[usize]) -> usize {
    let sizes = nodes.iter().map(|ix| cluster.client(*ix).call_text(&["DBSIZE"]));
    sizes.map(|size| size.trim().trim_start_matches(':').parse::<usize>().unwrap()).sum()
}

#[test]
fn keys_reach_their_owners_and_those_that_are_there_are_refused_or_replaced() {
    let source = RealCluster::start_standalone();
    let cluster = RealCluster::start_without_replicas(&[]);
    source.client(0).expect("SET old 1", "+OK\r\n");
    let (old, new) = (dump(&mut source.client(0), b"old"), {
        source.client(0).expect("SET old 2", "+OK\r\n");
        dump(&mut source.client(0), b"old")
    });
    block_on(async {
        let mut loader = Loader::open(settings(&cluster, false)).await.unwrap();
        for n in 0..2000 {
            loader.restore(item(format!("key {n} \r\n\0"), &old)).await.unwrap();
        }
        let expiry = Some(4_000_000_000_000);
        loader.restore(Item { expiry, ..item("expiring", &old) }).await.unwrap();
        loader.flush().await.unwrap();
        loader.restore(item("key 7 \r\n\0", &new)).await.unwrap();
        loader.restore(item("broken", &Bytes::from_static(b"x"))).await.unwrap();
        let broken = loader.flush().await;
        assert!(matches!(broken, Err(LoadError::TooNew { .. })), "{broken:?}");
        let report = loader.report().clone();
        assert_eq!((report.restored, report.busy), (2001, 1));
        assert_eq!(report.refused[0].why, Refusal::Busy);

        let mut loader = Loader::open(settings(&cluster, true)).await.unwrap();
        loader.restore(item("key 7 \r\n\0", &new)).await.unwrap();
        loader.delete(Bytes::from_static(b"key 8 \r\n\0")).await.unwrap();
        loader.delete(Bytes::from_static(b"never there")).await.unwrap();
        loader.flush().await.unwrap();
        assert_eq!((loader.report().restored, loader.report().deleted), (1, 2));
    });
    assert_eq!(count(&cluster, &[0, 1, 2]), 2000);
    let owner = |key: &str| {
        let slot = Slot::of_key(key.as_bytes()).number();
        let ix = (0..3).find(|ix| !cluster.client(*ix).call_text(&["GET", key]).starts_with("-MOVED"));
        ix.unwrap_or_else(|| panic!("nobody owns slot {slot}"))
    };
    let key = "key 7 \r\n\0";
    assert_eq!(cluster.client(owner(key)).call_text(&["GET", key]), "$1\r\n2\r\n");
    let expiry = cluster.client(owner("expiring")).call_text(&["PEXPIRETIME", "expiring"]);
    assert_eq!(expiry, ":4000000000000\r\n");
}

#[test]
fn a_load_follows_slots_that_move_and_roles_that_change() {
    let mut cluster = RealCluster::start_with(&[("cluster-node-timeout", "2000")]);
    let value = {
        let source = RealCluster::start_standalone();
        source.client(0).expect("SET x value", "+OK\r\n");
        dump(&mut source.client(0), b"x")
    };
    let addrs: Vec<String> = cluster.addrs().iter().map(ToString::to_string).collect();
    let before = count(&cluster, &[0, 1, 2]);
    block_on(async {
        let mut loader = Loader::open(settings(&cluster, false)).await.unwrap();
        let moved = run(&[
            "move-slots",
            "--from",
            &addrs[0],
            "--to",
            &addrs[1],
            "--count",
            "500",
            &addrs[0],
            "--yes",
        ]);
        expect(&moved, 0, "Moved 500 slots");
        for n in 0..5000 {
            loader.restore(item(format!("first {n}"), &value)).await.unwrap();
        }
        loader.flush().await.unwrap();
        // The keys of the dead primary are taken by its replica, as soon as it is elected.
        cluster.kill(2);
        for n in 0..5000 {
            loader.restore(item(format!("second {n}"), &value)).await.unwrap();
        }
        loader.flush().await.unwrap();
        assert_eq!(loader.report().restored, 10_000);
    });
    assert_eq!(count(&cluster, &[0, 1, 5]), before + 10_000);
}

#[test]
fn a_real_nodes_snapshot_and_changes_are_read() {
    for diskless in ["yes", "no"] {
        let source = RealCluster::start_standalone_with(&[
            ("repl-diskless-sync", diskless),
            ("repl-diskless-sync-delay", "0"),
        ]);
        let mut client = source.client(0);
        client.expect("SET before 1", "+OK\r\n");
        let addr: SocketAddr = source.addrs()[0];
        block_on(async {
            let (mut link, opening) =
                Link::open(addr, &Credentials::default(), Duration::from_secs(5), None).await.unwrap();
            assert_eq!(opening, Opening::Snapshot);
            let mut snapshot = Vec::new();
            while let Some(piece) = link.read_snapshot().await.unwrap() {
                snapshot.extend_from_slice(&piece);
            }
            assert!(snapshot.starts_with(b"REDIS0"), "diskless: {diskless}");
            assert!(memchr::memmem::find(&snapshot, b"before").is_some());
            client.expect("SET after 1", "+OK\r\n");
            let mut seen = BTreeSet::new();
            while !seen.contains(&b"after"[..]) {
                seen.extend(link.next_change().await.unwrap().words.into_iter().map(|word| word.to_vec()));
            }
            let place = link.place().clone();
            drop(link);
            client.expect("SET later 1", "+OK\r\n");
            let opened =
                Link::open(addr, &Credentials::default(), Duration::from_secs(5), Some(&place)).await;
            let (mut link, opening) = opened.unwrap();
            assert_eq!(opening, Opening::Changes);
            while !link.next_change().await.unwrap().words.contains(&Bytes::from_static(b"later")) {}
            wait_until("the source knows where we are", || {
                source.client(0).call_text(&["INFO", "replication"]).contains("connected_slaves:1")
            });
        });
    }
}
