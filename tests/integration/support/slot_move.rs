//! Moves one slot of a real cluster by hand, step by step, as `redis-cli --cluster reshard` does in one
//! go (<https://redis.io/docs/latest/commands/cluster-setslot/>).

use super::client::Client;
use super::real_cluster::RealCluster;
use slotgate::topology::Slot;
use std::net::SocketAddr;

/// A slot on its way from one primary to another.
pub struct SlotMove {
    slot: Slot,
    from: Client,
    to: Client,
    from_id: String,
    to_id: String,
    to_addr: SocketAddr,
}

impl SlotMove {
    /// Opens the slot of `key` for its way to node `to`.
    #[track_caller]
    pub fn begin(cluster: &RealCluster, key: &str, to: usize) -> SlotMove {
        let slot = Slot::of_key(key.as_bytes());
        let from = cluster.owner_of(slot);
        assert_ne!(from, to, "{key} is there already");
        let mut moving = SlotMove {
            slot,
            from: cluster.client(from),
            to: cluster.client(to),
            from_id: node_id(&mut cluster.client(from)),
            to_id: node_id(&mut cluster.client(to)),
            to_addr: cluster.addrs()[to],
        };
        moving.to.expect(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", moving.from_id), "+OK\r\n");
        moving.from.expect(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", moving.to_id), "+OK\r\n");
        moving
    }

    /// Moves these keys; what does not exist is not missed.
    #[track_caller]
    pub fn move_keys(&mut self, keys: &[&str]) {
        let (host, port) = (self.to_addr.ip().to_string(), self.to_addr.port().to_string());
        let mut request = vec!["MIGRATE", &host, &port, "", "0", "5000", "KEYS"];
        request.extend(keys);
        let reply = self.from.call_text(&request);
        assert!(matches!(reply.as_str(), "+OK\r\n" | "+NOKEY\r\n"), "{reply}");
    }

    /// Gives the slot to the new owner, whatever keys were moved, and tells both sides.
    #[track_caller]
    pub fn finish(&mut self) {
        let (slot, to) = (self.slot, &self.to_id);
        self.to.expect(&format!("CLUSTER SETSLOT {slot} NODE {to}"), "+OK\r\n");
        self.from.expect(&format!("CLUSTER SETSLOT {slot} NODE {to}"), "+OK\r\n");
    }

    /// Gives the move up; keys that were moved stay where they are.
    #[track_caller]
    pub fn give_up(&mut self) {
        let (slot, from) = (self.slot, &self.from_id);
        self.to.expect(&format!("CLUSTER SETSLOT {slot} NODE {from}"), "+OK\r\n");
        self.from.expect(&format!("CLUSTER SETSLOT {slot} NODE {from}"), "+OK\r\n");
    }
}

impl RealCluster {
    /// The number of the node that serves `slot`, as the first node that answers sees it.
    #[track_caller]
    pub fn owner_of(&self, slot: Slot) -> usize {
        let number = u16::try_from(slot.index()).unwrap();
        let nodes = self.any_client().call_text(&["CLUSTER", "NODES"]);
        let line = nodes
            .lines()
            .find(|line| line.split(' ').skip(8).any(|range| has(range, number)))
            .unwrap_or_else(|| panic!("nobody serves {slot}:\n{nodes}"));
        let addr = line.split(' ').nth(1).and_then(|addr| addr.split('@').next()).unwrap();
        self.addrs().iter().position(|known| known.to_string() == addr).unwrap()
    }

    /// Ends primary `ix` as `kill -9` does, and waits until a replica has its slots.
    #[track_caller]
    pub fn kill_and_wait_for_failover(&mut self, ix: usize) {
        let slot = Slot::all().step_by(500).find(|slot| self.owner_of(*slot) == ix).expect("it serves slots");
        self.kill(ix);
        super::wait_until("a replica has taken over", || self.owner_of(slot) != ix);
    }

    /// The number of the node that serves the slot of `key`.
    #[track_caller]
    pub fn owner_of_key(&self, key: &str) -> usize {
        self.owner_of(Slot::of_key(key.as_bytes()))
    }

    /// A connection to a node that answers at once.
    #[track_caller]
    pub fn any_client(&self) -> Client {
        (0..self.addrs().len())
            .filter_map(|ix| Client::try_connect(self.addrs()[ix]))
            .find_map(|mut client| {
                client.set_patience(std::time::Duration::from_secs(1));
                let is_alive = client.try_call(&["PING"]).is_ok_and(|reply| reply == b"+PONG\r\n");
                client.set_patience(super::PATIENCE);
                is_alive.then_some(client)
            })
            .expect("some node is alive")
    }
}

/// A node's id.
#[track_caller]
pub fn node_id(node: &mut Client) -> String {
    let reply = node.call_text(&["CLUSTER", "MYID"]);
    reply.lines().nth(1).unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// Whether a range of `CLUSTER NODES` has the slot; open slots stand in brackets and do not count.
fn has(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
}
