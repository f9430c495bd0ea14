//! `slotgate rebalance --by keys|bytes` and the limits of a move, on real nodes.

use crate::move_slots::{at, cluster_with_spares, count_slots, digest, expect_whole, rebalance};
use crate::support::client::request;
use crate::support::program::{expect, run};
use crate::support::real_cluster::RealCluster;

/// Writes strings of `size` bytes to a slot's owner.
fn write(cluster: &RealCluster, tag: &str, keys: usize, size: usize) {
    let mut client = cluster.client(cluster.owner_of_key(&format!("{{{tag}}}")));
    let value = "x".repeat(size);
    for ix in 0..keys {
        client.send_raw(request(&["SET", &format!("{{{tag}}}:{ix}"), &value]));
        assert_eq!(client.read(), b"+OK\r\n");
    }
}

fn keys_of(cluster: &RealCluster) -> Vec<usize> {
    (0..3)
        .map(|ix| cluster.client(ix).call_text(&["DBSIZE"]).trim_start_matches(':').trim().parse().unwrap())
        .collect()
}

#[test]
fn keys_are_shared_out_whatever_slots_they_are_in() {
    let cluster = cluster_with_spares(0);
    // Ten full slots of the first primary, and few keys elsewhere.
    let (mut full, mut few) = (0, 0);
    for ix in 0.. {
        let tag = format!("t{ix}");
        match cluster.owner_of_key(&format!("{{{tag}}}")) {
            0 if full < 10 => {
                write(&cluster, &tag, 90, 10);
                full += 1;
            }
            1 | 2 if few < 10 => {
                write(&cluster, &tag, 3, 10);
                few += 1;
            }
            _ if full == 10 && few == 10 => break,
            _ => {}
        }
    }
    let before = digest(&cluster);
    assert_eq!(keys_of(&cluster).iter().sum::<usize>(), 930);
    expect(&rebalance(&cluster, &[]), 0, "nothing was changed");
    let dry = run(&[
        "rebalance",
        &at(&cluster, 0),
        "--by",
        "keys",
        "--threshold",
        "20",
        "--dry-run",
        "--output",
        "json",
    ]);
    expect(&dry, 0, "\"keys\": 270");
    expect(&rebalance(&cluster, &["--by", "keys", "--threshold", "20"]), 0, "(270 keys)");
    let keys = keys_of(&cluster);
    assert!(keys.iter().all(|keys| keys.abs_diff(310) <= 62), "{keys:?}");
    assert!((0..3).all(|ix| count_slots(&cluster, ix).abs_diff(5461) <= 10));
    expect(&rebalance(&cluster, &["--by", "keys", "--threshold", "20"]), 0, "nothing was changed");
    expect_whole(&cluster);
    assert!(digest(&cluster) == before, "keys were lost or changed");
}

#[test]
fn bytes_are_shared_out_although_the_keys_are_as_many() {
    let cluster = cluster_with_spares(0);
    for ix in 0..60 {
        let tag = format!("t{ix}");
        let is_first = cluster.owner_of_key(&format!("{{{tag}}}")) == 0;
        write(&cluster, &tag, 10, if is_first { 100_000 } else { 10_000 });
    }
    let before = digest(&cluster);
    expect(&rebalance(&cluster, &["--by", "bytes", "--threshold", "10"]), 0, " bytes)");
    let keys = keys_of(&cluster);
    assert!(keys[0] < keys[1].min(keys[2]), "{keys:?}");
    expect_whole(&cluster);
    assert!(digest(&cluster) == before, "keys were lost or changed");
}
