//! Nodes come back at other addresses: one, several, all, exchanged, or taken by strangers.

use super::super::support::client::Client;
use super::super::support::program::{expect, run, state};
use super::super::support::real_cluster::RealCluster;
use super::super::support::wait_until;
use super::{
    elsewhere, expect_healed, manage, move_all, roles, setting, start, status, tried, wait_for_phase,
};
use serde_json::Value;
use slotgate::backend::Credentials;
use slotgate::control::act::{ActError, Actor};
use slotgate::control::action::{Action, Party};
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn a_cluster_whose_nodes_all_got_new_addresses_serves_again_with_the_same_roles() {
    let (mut cluster, files, gateway) = start(41);
    let before = roles(cluster.addrs());
    let moved = elsewhere(cluster.addrs(), 42);
    move_all(&mut cluster, &moved);
    files.list(&moved);
    expect_healed(&cluster, &gateway, &before);
}

#[test]
fn a_late_repair_keeps_the_roles_by_holding_elections_back_meanwhile() {
    let (mut cluster, files, gateway) = start(48);
    let before = roles(cluster.addrs());
    let moved = elsewhere(cluster.addrs(), 49);
    move_all(&mut cluster, &moved);
    for addr in &moved {
        let mut node = Client::connect(*addr);
        wait_until("every node misses all others", || {
            node.call_text(&["CLUSTER", "NODES"]).matches("fail?").count() == 5
        });
    }
    files.list(&moved);
    expect_healed(&cluster, &gateway, &before);
    let reasons = tried(&gateway, "reason");
    assert!(reasons.iter().any(|reason| reason == "repair-begins"), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason == "repair-ended"), "{reasons:?}");
}

#[test]
fn guards_and_haste_that_a_killed_manager_left_are_taken_back_and_the_operators_own_setting_stays() {
    let (cluster, files, gateway) = start(50);
    drop(gateway);
    let own = cluster.addrs()[5];
    for addr in cluster.addrs() {
        let mut node = Client::connect(*addr);
        node.expect("CONFIG SET cluster-replica-no-failover yes", "+OK\r\n");
        if *addr != own {
            node.expect("CONFIG SET cluster-node-timeout 1000", "+OK\r\n");
            node.expect("CONFIG SET cluster-migration-barrier 5000001", "+OK\r\n");
        }
    }
    let gateway = manage(&files, cluster.addrs());
    wait_for_phase(&gateway, "healthy");
    for addr in cluster.addrs() {
        let expected = if *addr == own { "yes" } else { "no" };
        assert_eq!(setting(*addr, "cluster-replica-no-failover"), expected);
        assert_eq!(setting(*addr, "cluster-migration-barrier"), "1");
        assert_eq!(setting(*addr, "cluster-node-timeout"), "5000");
    }
}

#[test]
fn two_managers_of_one_cluster_do_no_harm() {
    let (mut cluster, files, gateway) = start(51);
    let second = manage(&files, cluster.addrs());
    let before = roles(cluster.addrs());
    let moved = elsewhere(cluster.addrs(), 52);
    move_all(&mut cluster, &moved);
    files.list(&moved);
    expect_healed(&cluster, &gateway, &before);
    wait_for_phase(&second, "healthy");
    assert_eq!(roles(&moved), before);
}

#[test]
fn a_paused_manager_tells_what_it_would_do_and_does_nothing_until_it_is_resumed() {
    let (mut cluster, files, gateway) = start(53);
    let before = roles(cluster.addrs());
    let pause = files.pause();
    let pause = pause.to_str().unwrap();
    expect(&run(&["pause", pause]), 0, "paused");
    let moved = elsewhere(cluster.addrs(), 54);
    move_all(&mut cluster, &moved);
    files.list(&moved);
    wait_until("it knows what to do", || {
        let report = status(&gateway);
        report["phase"] == "paused" && report["plan"].as_array().is_some_and(|plan| plan.len() >= 5)
    });
    assert_eq!(gateway.metric("slotgate_manage_paused"), 1.0);
    // Long enough for nodes that nobody brings together to give each other up.
    wait_until("every node misses all others", || {
        moved
            .iter()
            .all(|addr| Client::connect(*addr).call_text(&["CLUSTER", "NODES"]).matches("fail?").count() == 5)
    });
    assert_eq!(tried(&gateway, "action"), [""; 0]);
    expect(&run(&["resume", pause]), 0, "resumed");
    expect_healed(&cluster, &gateway, &before);
    assert!(gateway.metric("slotgate_manage_steps_total{action=\"meet\",result=\"done\"}") >= 5.0);
}

#[test]
fn addresses_that_nodes_exchanged_among_themselves_are_mended() {
    let (mut cluster, _files, gateway) = start(43);
    let before = roles(cluster.addrs());
    let mut turned = cluster.addrs().to_vec();
    turned.rotate_left(1);
    move_all(&mut cluster, &turned);
    // Healthy it may still seem, for a moment.
    wait_until("something was mended", || !tried(&gateway, "action").is_empty());
    expect_healed(&cluster, &gateway, &before);
}

#[test]
fn a_node_of_another_cluster_at_an_old_address_is_never_met() {
    let (mut cluster, files, gateway) = start(44);
    let mut other = RealCluster::start_like_pods(3, 45);
    other.form(0);
    let (before, others) = (roles(cluster.addrs()), roles(other.addrs()));
    let old = cluster.addrs().to_vec();
    let moved = elsewhere(&old, 46);
    move_all(&mut cluster, &moved);
    // Two of the old addresses are those of strangers now, and are even still listed.
    other.move_to(&[(0, old[0]), (1, old[4])]);
    let own: Vec<SocketAddr> = other.addrs().to_vec();
    files.list(&[&moved[..], &old[..1]].concat());
    expect_healed(&cluster, &gateway, &before);
    let report = status(&gateway);
    let is_told = |finding: &Value| {
        finding["kind"] == "stranger" && finding["text"].as_str().unwrap().contains(&old[0].to_string())
    };
    assert!(report["findings"].as_array().unwrap().iter().any(is_told), "{report}");
    for addr in &own {
        assert_eq!(state(*addr).len(), 3, "the other cluster was touched");
    }
    for addr in cluster.addrs() {
        assert_eq!(state(*addr).len(), 6, "the other cluster came in");
    }
    assert_eq!(roles(&own), others);
}

#[test]
fn a_contact_that_was_planned_is_refused_when_a_stranger_took_the_address_meanwhile() {
    let (ours, theirs) = (RealCluster::start_like_pods(3, 59), RealCluster::start_like_pods(3, 60));
    ours.form(0);
    theirs.form(0);
    let party = |addr: SocketAddr| {
        let id = roles(&[addr])[0].0.parse().unwrap();
        Party { id, addr }
    };
    let members = ours.addrs().iter().map(|addr| party(*addr).id).collect();
    let actor = Actor::new(Credentials::default(), Duration::from_secs(5), members);
    let (node, foreign) = (party(ours.addrs()[0]), party(theirs.addrs()[0]));
    let meet = |other: Party| Action::Meet { node, other, bus_port: other.addr.port() + 10000 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let act = |action: Action| {
        runtime.block_on(async { actor.act(&action, tokio::time::Instant::now()).await }).unwrap_err()
    };
    // Planned for our own node, which is there no more; and even planned for the stranger itself.
    let moved = Party { addr: foreign.addr, ..party(ours.addrs()[1]) };
    assert!(matches!(act(meet(moved)), ActError::OtherNode { .. }));
    assert!(matches!(act(meet(foreign)), ActError::Stranger { .. }));
    for addr in ours.addrs().iter().chain(theirs.addrs()) {
        assert_eq!(state(*addr).len(), 3);
    }
}

#[test]
fn a_manager_that_starts_anew_tells_its_cluster_from_another_one_at_its_old_addresses_by_the_journal() {
    let (mut cluster, files, gateway) = start(61);
    drop(gateway);
    let mut other = RealCluster::start_like_pods(3, 62);
    other.form(0);
    let (before, others) = (roles(cluster.addrs()), roles(other.addrs()));
    let old = cluster.addrs().to_vec();
    let moved = elsewhere(&old, 63);
    move_all(&mut cluster, &moved);
    // All of the other one is where some of ours was.
    other.move_to(&[(0, old[0]), (1, old[1]), (2, old[4])]);
    files.list(&[&moved[..], &old[..2]].concat());
    let gateway = manage(&files, &old[..2]);
    wait_until("the repair is done", || status(&gateway)["phase"] == "healthy");
    for addr in cluster.addrs() {
        assert_eq!(state(*addr).len(), 6, "the other cluster came in");
    }
    assert_eq!((roles(cluster.addrs()), roles(other.addrs())), (before, others));
    let report = status(&gateway);
    let is_stranger = |finding: &Value| finding["kind"] == "stranger";
    assert!(report["findings"].as_array().unwrap().iter().any(is_stranger), "{report}");
    drop(gateway);

    // With a journal of another cluster nothing is touched, and what to do is said.
    let wrong = super::Files::new();
    std::fs::copy(files.journal(), wrong.journal()).unwrap();
    wrong.list(other.addrs());
    let gateway = manage(&wrong, other.addrs());
    let mut report = Value::Null;
    wait_until("it says that the journal is another cluster's", || {
        report = status(&gateway);
        report["findings"].as_array().unwrap().iter().any(|finding| finding["kind"] == "another-cluster")
    });
    assert_eq!(report["plan"].as_array().map(Vec::len), Some(0), "{report}");
}

#[test]
fn a_manager_that_cannot_write_its_journal_says_so_and_repairs_all_the_same() {
    let (mut cluster, files, gateway) = start(64);
    drop(gateway);
    std::fs::remove_file(files.journal()).unwrap();
    std::fs::create_dir(files.journal()).unwrap();
    let gateway = manage(&files, cluster.addrs());
    wait_for_phase(&gateway, "healthy");
    let report = status(&gateway);
    assert!(report["findings"][0]["text"].as_str().unwrap().contains("the journal"), "{report}");
    let before = roles(cluster.addrs());
    let moved = elsewhere(cluster.addrs(), 65);
    move_all(&mut cluster, &moved);
    files.list(&moved);
    expect_healed(&cluster, &gateway, &before);
}
