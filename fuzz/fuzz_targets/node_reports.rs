//! What nodes report of the cluster and of themselves, CLUSTER NODES, CLUSTER INFO and INFO: read or
//! refused, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slotgate::control::observe::{ClusterInfo, NodeInfo, parse_nodes};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Ok(lines) = parse_nodes(&text) {
        let asked = ([127, 0, 0, 1], 6379).into();
        for line in &lines {
            let _ = line.addr(asked);
        }
    }
    let _ = ClusterInfo::parse(&text);
    let _ = NodeInfo::parse(&text);
});
