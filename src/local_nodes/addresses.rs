//! Where local nodes listen: ports that are free and stay so.

use super::{LocalNodesConfig, LocalNodesError};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

/// A node's cluster bus listens this far above its client port (`cluster-port` left at its default).
pub(super) const BUS_OFFSET: u16 = 10000;
/// Where free ports are looked for: these and their bus ports lie below the range from which the
/// kernel gives ports to outgoing connections (32768 on), so none is taken between look and use.
pub(super) const PORTS: std::ops::Range<u16> = 11000..22000;
/// In a kept folder: the nodes' addresses, one a line, so that a second run takes the same ones.
const ADDRESSES_FILE: &str = "nodes.txt";

/// Lists the addresses in the folder, for the next run with it.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn keep_addresses(dir: &Path, addrs: &[SocketAddr]) -> Result<(), LocalNodesError> {
    let listed: String = addrs.iter().map(|addr| format!("{addr}\n")).collect();
    fs::write(dir.join(ADDRESSES_FILE), listed)
        .map_err(|error| LocalNodesError::Dir(dir.to_path_buf(), error))
}

/// Chooses the nodes' addresses: those that a kept folder lists, or free ones.
///
/// # Errors
/// A port in use, or a folder of another number of nodes.
pub(super) fn choose_addresses(
    dir: &Path,
    config: &LocalNodesConfig,
) -> Result<Vec<SocketAddr>, LocalNodesError> {
    let file = dir.join(ADDRESSES_FILE);
    if let Ok(text) = fs::read_to_string(&file) {
        let kept: Result<Vec<SocketAddr>, _> = text.lines().map(str::parse).collect();
        let kept = kept.map_err(|_| LocalNodesError::Addresses(file))?;
        if kept.len() != config.count {
            let (found, wanted) = (kept.len(), config.count);
            return Err(LocalNodesError::OtherCount { dir: dir.to_path_buf(), found, wanted });
        }
        return match kept.iter().find(|addr| reserve(**addr).is_none()) {
            Some(taken) => Err(LocalNodesError::PortInUse(taken.port())),
            None => Ok(kept),
        };
    }
    let host = |ix: usize| {
        IpAddr::V4(*config.hosts.get(ix % config.hosts.len().max(1)).unwrap_or(&Ipv4Addr::LOCALHOST))
    };
    let candidates: Vec<u16> = match config.first_port {
        Some(first) => {
            let last = first.saturating_add(config.count.saturating_sub(1) as u16);
            if last > u16::MAX - BUS_OFFSET {
                return Err(LocalNodesError::PortTooHigh(last));
            }
            (first..=last).collect()
        }
        None => {
            let start = fastrand::u16(PORTS);
            (start..PORTS.end).chain(PORTS.start..start).collect()
        }
    };
    // Held until all are found, so that a node's bus port is not taken for another node's port.
    let mut reserved = Vec::new();
    let mut addrs = Vec::new();
    for port in candidates {
        if addrs.len() == config.count {
            break;
        }
        let addr = SocketAddr::new(host(addrs.len()), port);
        match reserve(addr) {
            Some(listeners) => {
                reserved.push(listeners);
                addrs.push(addr);
            }
            None if config.first_port.is_some() => return Err(LocalNodesError::PortInUse(port)),
            None => {}
        }
    }
    if addrs.len() < config.count { Err(LocalNodesError::NoPorts(config.count)) } else { Ok(addrs) }
}

fn reserve(addr: SocketAddr) -> Option<[TcpListener; 2]> {
    let bus = SocketAddr::new(addr.ip(), addr.port().checked_add(BUS_OFFSET)?);
    Some([TcpListener::bind(addr).ok()?, TcpListener::bind(bus).ok()?])
}
