//! Two gateways that manage one StatefulSet's real nodes through a fake API server: one acts, both serve.

use super::rights::expect_granted;
use crate::support::fake_kube::FakeKube;
use crate::support::fake_kube::objects::{pod, stateful_set};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::RealCluster;
use crate::support::wait_until;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

const NODES: usize = 6;

struct World {
    cluster: RealCluster,
    kube: FakeKube,
}

impl World {
    /// Six nodes with one port, as pods have.
    fn start(net: u8) -> World {
        let mut cluster = RealCluster::start_like_pods(NODES, net);
        let port = cluster.addrs()[0].port();
        let addrs = cluster.addrs().iter().enumerate().skip(1);
        let moves: Vec<(usize, SocketAddr)> =
            addrs.map(|(ix, addr)| (ix, SocketAddr::new(addr.ip(), port))).collect();
        cluster.move_to(&moves);
        cluster.form(1);
        let kube = FakeKube::start();
        kube.put("statefulsets", stateful_set("redis", NODES));
        let ips: Vec<IpAddr> = cluster.addrs().iter().map(SocketAddr::ip).collect();
        ips.iter().enumerate().for_each(|(ordinal, ip)| kube.put("pods", pod("redis", ordinal, 0, *ip)));
        World { cluster, kube }
    }

    /// A gateway that knows no node but by the pods.
    fn gateway(&self, more: &[&str]) -> Gateway {
        let port = self.cluster.addrs()[0].port().to_string();
        let args = [&["--kubernetes", "--manage", "--port-in-pods", &port], more].concat();
        let seed = self.cluster.addrs()[0];
        let gateway = Gateway::start_in(&[seed], &args, &[("KUBECONFIG", &self.kube.kubeconfig())]);
        wait_until("it is ready", || gateway.admin_get("/readyz").0 == 200);
        gateway
    }

    fn holder(&self) -> String {
        let lease = self.kube.get("leases", "slotgate-redis").unwrap_or_default();
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_string()
    }
}

fn status(gateway: &Gateway) -> Value {
    serde_json::from_str(&gateway.admin_get("/api/status").1).unwrap()
}

fn leads(gateway: &Gateway) -> bool {
    let (status, metric) = (status(gateway), gateway.metric("slotgate_leader"));
    status["leader"]["is_own"] == true && metric == 1.0
}

#[track_caller]
fn expect_leader(leader: &Gateway, follower: &Gateway) {
    wait_until("this one leads", || leads(leader));
    wait_until("and is content", || status(leader)["phase"] == "healthy");
    wait_until("the other follows", || status(follower)["phase"] == "following");
    let name = status(leader)["leader"]["own_name"].clone();
    wait_until("and knows whom", || status(follower)["leader"]["name"] == name);
    assert!(!leads(follower));
}

#[test]
fn one_of_two_gateways_acts_and_both_serve_through_every_loss_of_a_leader_or_of_the_api_server() {
    let world = World::start(181);
    let first = world.gateway(&[]);
    wait_until("the only one leads", || leads(&first));
    // Another Deployment by another name, on the same StatefulSet.
    let second = world.gateway(&[]);
    expect_leader(&first, &second);
    let (mut of_first, mut of_second) = (first.client(), second.client());
    let serve = |client: &mut crate::support::client::Client, value: &str| {
        for key in ["a", "b", "c", "d"] {
            assert_eq!(client.call_text(&["SET", key, value]), "+OK\r\n");
            let reply = format!("${}\r\n{value}\r\n", value.len());
            assert_eq!(client.call_text(&["GET", key]), reply);
        }
    };
    serve(&mut of_first, "1");

    // Without the API server nobody acts, and nothing happens to clients.
    world.kube.go_down();
    wait_until("the leader leads no more", || {
        serve(&mut of_first, "2");
        serve(&mut of_second, "22");
        !leads(&first)
    });
    wait_until("both tell that nothing is learned", || {
        serve(&mut of_first, "3");
        let is_told = |gateway: &Gateway| {
            let trouble = |part: &str| {
                status(gateway)[part]["trouble"]
                    .as_str()
                    .is_some_and(|text| text.contains("cannot be reached"))
            };
            trouble("kubernetes") && trouble("leader") && gateway.metric("slotgate_kubernetes_watched") == 0.0
        };
        is_told(&first) && is_told(&second)
    });
    assert_eq!(first.admin_get("/readyz").0, 200, "it serves nevertheless");
    world.kube.come_back();
    wait_until("one leads again", || leads(&first) || leads(&second));
    let (mut leader, follower) = if leads(&first) { (first, second) } else { (second, first) };
    expect_leader(&leader, &follower);
    serve(&mut of_first, "4");

    // Told to end, it gives the lease back.
    let before = world.holder();
    leader.terminate();
    assert!(leader.wait().success());
    assert_ne!(world.holder(), before);
    wait_until("the other one leads", || leads(&follower));
    // Killed, it does not, and is waited out.
    let third = world.gateway(&[]);
    expect_leader(&follower, &third);
    drop(follower);
    let mut of_third = third.client();
    wait_until("the last one leads", || {
        serve(&mut of_third, "5");
        leads(&third)
    });
    expect_granted(&world.kube);
}

#[test]
fn a_leader_that_was_stopped_wakes_as_a_follower() {
    let world = World::start(182);
    let first = world.gateway(&[]);
    wait_until("the only one leads", || leads(&first));
    let second = world.gateway(&[]);
    expect_leader(&first, &second);
    first.freeze();
    wait_until("the other one leads", || leads(&second));
    first.thaw();
    expect_leader(&second, &first);
    assert_eq!(first.metric("slotgate_leader_transitions_total"), 1.0);
}

#[test]
fn without_the_right_to_the_lease_a_gateway_serves_follows_and_names_it() {
    let world = World::start(183);
    world.kube.forbid("get", "leases");
    let gateway = world.gateway(&["--lease", "another"]);
    let mut client = gateway.client();
    assert_eq!(client.call_text(&["SET", "key", "value"]), "+OK\r\n");
    wait_until("it is said", || {
        status(&gateway)["leader"]["trouble"].as_str().is_some_and(|text| text.contains("Role get leases"))
    });
    wait_until("it follows", || status(&gateway)["phase"] == "following");
    assert!(gateway.log().contains("get leases"), "the log says so too");
    world.kube.allow("get", "leases");
    wait_until("it leads", || leads(&gateway));
    assert!(world.kube.get("leases", "another").is_some() && world.holder().is_empty());
}
