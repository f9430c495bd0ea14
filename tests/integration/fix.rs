//! `slotgate fix` on real nodes: open slots, and slots that nobody owns.

use super::support::program::{expect, run};
use super::support::real_cluster::RealCluster;
use super::support::slot_move::{SlotMove, node_id};
use super::support::wait_until;
use slotgate::topology::Slot;

/// Takes the slot from its owner and from everyone's memory.
fn orphan(cluster: &RealCluster, slot: Slot) {
    let owner = cluster.owner_of(slot);
    let is_gone = |ix: usize| {
        let slots = cluster.client(ix).call_text(&["CLUSTER", "SLOTS"]);
        // An own range begins or ends beside the hole.
        slots.contains(&format!(":{}\r\n", slot.number() + 1))
    };
    wait_until("nobody knows an owner", || {
        let order = std::iter::once(owner).chain((0..3).filter(|ix| *ix != owner));
        for ix in order {
            let _ = cluster.client(ix).call_text(&["CLUSTER", "DELSLOTS", &slot.to_string()]);
        }
        (0..3).all(is_gone)
    });
}

#[test]
fn open_slots_are_settled_and_no_key_is_lost() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let first = cluster.addrs()[0].to_string();
    expect(&run(&["fix", &first, "--yes"]), 0, "No slot is open");

    // Both ends know of the move: it is finished.
    let slot = Slot::of_key(b"{a}");
    let (owner, other) = (cluster.owner_of(slot), (cluster.owner_of(slot) + 1) % 3);
    for ix in 0..250 {
        cluster.client(owner).expect(&format!("SET {{a}}:{ix} {ix}"), "+OK\r\n");
    }
    SlotMove::begin(&cluster, "{a}", other).move_keys(&["{a}:7", "{a}:8"]);
    expect(&run(&["fix", &first, "--dry-run"]), 0, "settle slot");
    expect(&run(&["fix", &first]), 1, "Nothing was changed");
    expect(&run(&["check", &first]), 1, "is open");
    expect(&run(&["fix", &first, "--yes"]), 0, "Done: every slot in doubt has one owner");
    assert_eq!(cluster.owner_of(slot), other);
    let count = |ix: usize| cluster.client(ix).call_text(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    assert_eq!((count(owner), count(other)), (":0\r\n".into(), ":250\r\n".into()));
    expect(&run(&["check", &first]), 0, "Nothing is wrong");

    // Only one end knows of it: the keys go back, also one that both sides have alike.
    let (owner, other) = (other, owner);
    let owner_id = node_id(&mut cluster.client(owner));
    let mut importer = cluster.client(other);
    importer.expect(&format!("CLUSTER SETSLOT {slot} IMPORTING {owner_id}"), "+OK\r\n");
    for set in ["SET {a}:new 1", "SET {a}:9 9"] {
        importer.expect("ASKING", "+OK\r\n");
        importer.expect(set, "+OK\r\n");
    }
    expect(&run(&["fix", &first, "--yes"]), 0, "Done");
    assert_eq!((count(owner), count(other)), (":251\r\n".into(), ":0\r\n".into()));
    expect(&run(&["check", &first]), 0, "Nothing is wrong");

    let other_id = node_id(&mut importer);
    cluster.client(owner).expect(&format!("CLUSTER SETSLOT {slot} MIGRATING {other_id}"), "+OK\r\n");
    expect(&run(&["fix", &first, "--yes"]), 0, "Done");
    assert_eq!(count(owner), ":251\r\n");
    expect(&run(&["check", &first]), 0, "Nothing is wrong");
}

#[test]
fn of_keys_that_differ_none_is_given_up_unless_its_slot_was_named_and_then_it_is_saved() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let first = cluster.addrs()[0].to_string();
    let slot = Slot::of_key(b"a");
    let (owner, other) = (cluster.owner_of(slot), (cluster.owner_of(slot) + 1) % 3);
    let (mut holder, mut importer) = (cluster.client(owner), cluster.client(other));
    holder.expect("SET a kept", "+OK\r\n");
    let owner_id = node_id(&mut holder);
    importer.expect(&format!("CLUSTER SETSLOT {slot} IMPORTING {owner_id}"), "+OK\r\n");
    importer.expect("ASKING", "+OK\r\n");
    importer.expect("SET a lost", "+OK\r\n");

    expect(&run(&["fix", &first, "--yes"]), 1, "with different values");
    holder.expect("GET a", "$4\r\nkept\r\n");
    importer.expect("ASKING", "+OK\r\n");
    importer.expect("GET a", "$4\r\nlost\r\n");

    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("lost.jsonl");
    let slots = format!("1-2,{slot}");
    let fix = ["fix", &first, "--yes", "--allow-data-loss", &slots, "--save-to", saved.to_str().unwrap()];
    expect(&run(&fix), 0, "Done");
    holder.expect("GET a", "$4\r\nkept\r\n");
    expect(&run(&["check", &first]), 0, "Nothing is wrong");
    let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&saved).unwrap()).unwrap();
    assert_eq!((&line["key"], &line["slot"]), (&"a".into(), &slot.number().into()));
    // What was saved is the value: restored under another name of the slot, it reads as it was.
    let hex = line["dump_hex"].as_str().unwrap();
    let dump: Vec<u8> =
        (0..hex.len()).step_by(2).map(|ix| u8::from_str_radix(&hex[ix..ix + 2], 16).unwrap()).collect();
    assert_eq!(holder.call(&[&b"RESTORE"[..], b"{a}again", b"0", &dump]), b"+OK\r\n");
    holder.expect("GET {a}again", "$4\r\nlost\r\n");
}

#[test]
fn slots_without_an_owner_get_one_that_loses_no_key() {
    let mut cluster = RealCluster::start_without_replicas(&[("cluster-require-full-coverage", "no")]);
    let first = cluster.addrs()[0].to_string();
    let (empty, full) = (Slot::of_key(b"b"), Slot::of_key(b"c"));
    let holder = cluster.owner_of(full);
    cluster.client(holder).expect("SET c 1", "+OK\r\n");
    orphan(&cluster, empty);
    orphan(&cluster, full);
    expect(&run(&["check", &first]), 1, "no node owns the slots");
    expect(&run(&["fix", &first, "--yes"]), 0, "Done");
    assert_eq!(cluster.owner_of(full), holder);
    cluster.client(holder).expect("GET c", "$1\r\n1\r\n");
    expect(&run(&["check", &first]), 0, "Nothing is wrong");

    // A node that does not answer may hold the keys.
    orphan(&cluster, empty);
    let dead = (0..3).find(|ix| cluster.addrs()[*ix].to_string() != first).unwrap();
    cluster.kill(dead);
    let refused = run(&["fix", &first, "--yes", "--output", "json"]);
    expect(&refused, 3, "cannot be asked and may hold their keys");
    let allowed = run(&["fix", &first, "--yes", "--allow-data-loss", &empty.to_string()]);
    expect(&allowed, 1, "Done");
    expect(&allowed, 1, "not about slots: 'slotgate doctor");
}

#[test]
fn keys_of_slots_that_others_own_are_told_of_and_brought_to_the_owner() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let first = cluster.addrs()[0].to_string();
    let slot = Slot::of_key(b"{a}");
    let (owner, other) = (cluster.owner_of(slot), (cluster.owner_of(slot) + 1) % 3);
    cluster.client(owner).expect("SET {a}:here 1", "+OK\r\n");
    let other_addr = cluster.addrs()[other].to_string();
    // A move that was broken off by hand, on the side that took keys.
    let owner_id = node_id(&mut cluster.client(owner));
    let mut importer = cluster.client(other);
    importer.expect(&format!("CLUSTER SETSLOT {slot} IMPORTING {owner_id}"), "+OK\r\n");
    for ix in 0..120 {
        importer.expect("ASKING", "+OK\r\n");
        importer.expect(&format!("SET {{a}}:{ix} {ix}"), "+OK\r\n");
    }
    // While the move is under way, its keys are where they belong.
    let under_way = run(&["check", &first]);
    expect(&under_way, 1, "is open");
    assert!(!String::from_utf8_lossy(&under_way.stdout).contains("holds keys"));
    importer.expect(&format!("CLUSTER SETSLOT {slot} STABLE"), "+OK\r\n");

    let told =
        format!("{other_addr} holds keys (120) of slots that others own, where no client finds them: {slot}");
    expect(&run(&["check", &first]), 1, &told);
    expect(&run(&["check", &first, "--output", "json"]), 1, "\"stray-keys\"");
    let findings = run(&["doctor", &first]);
    expect(&findings, 1, &format!("ERROR: {told}"));
    expect(&findings, 1, "Run: slotgate fix ");
    expect(&run(&["fix", &first, "--dry-run"]), 0, &format!("settle slot {slot}"));
    expect(&run(&["fix", &first, "--yes"]), 0, "Done");
    let count = |ix: usize| cluster.client(ix).call_text(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    assert_eq!((count(owner), count(other)), (":121\r\n".into(), ":0\r\n".into()));
    expect(&run(&["check", &first]), 0, "Nothing is wrong");
    expect(&run(&["fix", &first, "--yes"]), 0, "every key is where its slot is");
}
