//! Damaged backups, folders in use, clusters that are not whole or too small: refused, and nothing is changed.

use super::{backup, fill, one_shard, place, restore, shards};
use crate::support::client::Client;
use crate::support::keys::bulks;
use crate::support::program::expect;
use crate::support::real_cluster::owner_of;
use crate::support::wait_until;
use slotgate::topology::Slot;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn a_damaged_backup_changes_nothing() {
    let (source, target) = (one_shard(&[]), one_shard(&[]));
    fill(source.addrs());
    let (_dir, path) = place();
    expect(&backup(&path, source.addrs()[0], &[]), 0, "Saved");
    let file = rdb_of(&path);
    let refused = |file: &Path, damaged: &[u8], says: &str| {
        let whole = fs::read(file).unwrap();
        fs::write(file, damaged).unwrap();
        expect(&restore(&path, target.addrs()[0], &["--yes"]), 1, says);
        fs::write(file, whole).unwrap();
        target.client(0).expect("DBSIZE", ":0\r\n");
    };
    let whole = fs::read(&file).unwrap();
    // A byte of a value, which only a checksum can tell.
    let mut flipped = whole.clone();
    let at = whole.windows(13).position(|bytes| bytes == b"the empty key").unwrap();
    flipped[at] ^= 1;
    refused(&file, &flipped, "its SHA-256 is not that of the manifest");
    refused(&file, &whole[..whole.len() - 1], "as its manifest says");
    let manifest = path.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    refused(&manifest, &text.as_bytes()[..text.len() / 2], "this is no whole backup");
    refused(&manifest, text.replace("\"keys\": ", "\"keys\": 1").as_bytes(), "keys and not");
    refused(
        &manifest,
        text.replace("\"name\": \"", "\"name\": \"../backup/").as_bytes(),
        "is no file's name",
    );

    let away = path.with_extension("away");
    fs::rename(&file, &away).unwrap();
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 1, "of the backup is missing");
    fs::rename(&away, &file).unwrap();
    fs::rename(&manifest, &away).unwrap();
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 1, "name the folder that 'slotgate backup' wrote");
    fs::rename(&away, &manifest).unwrap();
    target.client(0).expect("DBSIZE", ":0\r\n");
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 0, "Restored");
}

/// The only RDB in a folder.
fn rdb_of(path: &Path) -> PathBuf {
    let files = fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    let mut rdbs = files.filter(|file| file.extension().is_some_and(|extension| extension == "rdb"));
    let rdb = rdbs.next().unwrap();
    assert_eq!(rdbs.next(), None);
    rdb
}

#[test]
fn a_folder_with_something_in_it_is_left_as_it_is() {
    let cluster = one_shard(&[]);
    let (_dir, path) = place();
    expect(&backup(&path, cluster.addrs()[0], &[]), 0, "Saved 0 keys");
    let manifest = fs::read(path.join("manifest.json")).unwrap();
    cluster.client(0).expect("SET key value", "+OK\r\n");
    expect(&backup(&path, cluster.addrs()[0], &[]), 3, "holds a backup already");
    assert_eq!(fs::read(path.join("manifest.json")).unwrap(), manifest);
    let (_dir, path) = place();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("notes"), "mine").unwrap();
    expect(&backup(&path, cluster.addrs()[0], &[]), 3, "is not empty");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn a_cluster_that_is_not_whole_is_neither_saved_nor_restored_into() {
    let (mut cluster, whole) = (shards(3), one_shard(&[]));
    let (_dir, path) = place();
    expect(&backup(&path, whole.addrs()[0], &[]), 0, "Saved 0 keys");
    cluster.kill(1);
    let (_other, new) = place();
    expect(&backup(&new, cluster.addrs()[0], &[]), 3, &cluster.addrs()[1].to_string());
    assert!(!new.exists());
    expect(&restore(&path, cluster.addrs()[0], &["--yes"]), 3, "nothing was written");
    cluster.restart(1);
    wait_until("it is whole again", || {
        let says = |ix| cluster.client(ix).call_text(&["CLUSTER", "INFO"]);
        (0..3).all(|ix| says(ix).contains("cluster_state:ok"))
    });
    let slot = Slot::of_key(b"key");
    let holder = owner_of(cluster.addrs(), "key");
    let other = cluster.addrs().iter().find(|addr| **addr != holder).unwrap();
    let id = bulks(&Client::connect(*other).call(&["CLUSTER", "MYID"])).remove(0);
    let id = String::from_utf8(id).unwrap();
    Client::connect(holder).expect(&format!("CLUSTER SETSLOT {slot} MIGRATING {id}"), "+OK\r\n");
    wait_until("a slot under way is why it is refused", || {
        let output = backup(&new, cluster.addrs()[0], &[]);
        output.status.code() == Some(3)
            && String::from_utf8_lossy(&output.stderr).contains("slots are being moved")
    });
    assert!(!new.exists());
}

#[test]
fn a_target_with_too_little_memory_is_refused() {
    let (source, target) = (one_shard(&[]), one_shard(&[("maxmemory", "8mb")]));
    source.client(0).expect("DEBUG POPULATE 20000 key 1000", "+OK\r\n");
    let (_dir, path) = place();
    expect(&backup(&path, source.addrs()[0], &[]), 0, "Saved 20000 keys");
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 3, "raise its maxmemory");
    target.client(0).expect("DBSIZE", ":0\r\n");
}
