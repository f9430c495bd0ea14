//! Where the gateway does not answer as one plain server does, by design.

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared};

/// What the gateway answers, and why it is not the plain server's answer.
struct Difference {
    request: &'static str,
    /// How the gateway's reply begins.
    ours: &'static str,
    reason: &'static str,
}

const ONE_SLOT: &str = "the keys may be on different nodes, which cannot act as one";

const DIFFERENCES: &[Difference] = &[
    Difference {
        request: "MSETNX a 1 b 2",
        ours: "-CROSSSLOT Keys in request don't hash to the same slot",
        reason: ONE_SLOT,
    },
    Difference { request: "RENAME a b", ours: "-CROSSSLOT Keys in request", reason: ONE_SLOT },
    Difference { request: "BLPOP a b 0.01", ours: "-CROSSSLOT Keys in request", reason: ONE_SLOT },
    Difference { request: "EVAL return~1 2 a b", ours: "-CROSSSLOT Keys in request", reason: ONE_SLOT },
    Difference { request: "WATCH a b", ours: "-CROSSSLOT Keys in request", reason: ONE_SLOT },
    Difference {
        request: "EVAL redis.call('GET','a');redis.call('GET','b');redis.call('GET','c') 0",
        ours: "-ERR Script attempted to access a non local key in a cluster node script: ",
        reason: "without declared keys a script runs on any node, which may not have the key",
    },
    Difference {
        request: "SELECT 1",
        ours: "-ERR DB index is out of range",
        reason: "a cluster has one database",
    },
    Difference {
        request: "MOVE a 1",
        ours: "-ERR 'move' is not served through slotgate",
        reason: "a cluster has one database",
    },
    Difference {
        request: "WAIT 1 1",
        ours: ":1",
        reason: "the nodes have replicas, though one server had none",
    },
    Difference {
        request: "REPLICAOF NO ONE",
        ours: "-ERR 'replicaof' is not served through slotgate",
        reason: "who replicates whom is the cluster's affair",
    },
];

#[test]
fn where_the_gateway_differs_from_one_plain_server_is_known() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    let (mut ours, mut model) = (gateway.client(), server.client(0));
    for Difference { request, ours: expected, reason } in DIFFERENCES {
        let (given, plain) = (call(&mut ours, request), call(&mut model, request));
        assert!(given.starts_with(expected), "{request}: {given:?}");
        assert_ne!(given, plain, "{request} no longer differs although {reason}");
    }
}

/// Whether a command from the random ones may be answered differently: an error line that quotes it is
/// UTF-8 text from the gateway and bytes, cut at the first NUL, from a server; and a value that was brought to
/// another slot is encoded anew, where that is shorter.
pub fn is_expected(command: &[Vec<u8>], ours: &[u8], model: &[u8]) -> bool {
    const QUOTING: &[&[u8]] = &[b"-ERR unknown command '", b"-ERR unknown subcommand '"];
    if command.first().is_some_and(|word| word == b"OBJECT") {
        return [ours, model].iter().all(|reply| reply.starts_with(b"$") && !reply.starts_with(b"$-"));
    }
    let is_text = command.iter().flatten().all(|byte| (b' '..=b'~').contains(byte));
    !is_text && QUOTING.iter().any(|error| ours.starts_with(error) && model.starts_with(error))
}

fn call(client: &mut Client, request: &str) -> String {
    let words: Vec<String> = request.split(' ').map(|word| word.replace('~', " ")).collect();
    client.call_text(&words)
}
