//! act: carries an [`Action`] out on its node. Each re-checks its precondition first, so it may be done
//! twice, and never does harm when the cluster changed since it was planned.

use super::act_heal;
use super::act_remove;
use super::act_rescue;
use super::action::{Action, Party};
use super::failover::{FailoverError, fail_over};
use super::node_client::{NodeClient, NodeError};
use super::observe::{Flags, ObserveError, Release, observe_node};
use super::plan::form::missing;
use super::settle_slot::{SettleError, settle_slot};
use super::sync_delay;
use super::view::Observation;
use crate::backend::Credentials;
use crate::topology::{NodeId, SlotRange};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long to wait before a node is asked again that has not yet heard of another.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// The first release with `CLUSTER ADDSLOTSRANGE`.
const HAS_ADDSLOTSRANGE: Release = Release(7, 0);

/// What an action came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acted {
    Done,
    /// The node was as wished before.
    AlreadyDone,
}

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("{addr} is now node {found}, not {wanted}: it was replaced or reset meanwhile", found = .found.short(), wanted = .wanted.short())]
    OtherNode { addr: SocketAddr, wanted: NodeId, found: NodeId },
    #[error("{addr} will not be met: it knows {stranger}, which is not of this cluster")]
    Stranger { addr: SocketAddr, stranger: NodeId },
    #[error("{addr} will not become a replica: it owns slots or holds keys by now")]
    NotEmpty { addr: SocketAddr },
    #[error("{addr} will not get slots: it is a replica by now")]
    NotPrimary { addr: SocketAddr },
    #[error(transparent)]
    Failover(#[from] FailoverError),
    #[error(transparent)]
    Settle(#[from] SettleError),
    #[error("{addr} does not let us read its settings (CONFIG GET)")]
    NoSettings { addr: SocketAddr },
    #[error(
        "{addr} has settings so unusual (cluster-node-timeout, cluster-migration-barrier) that they cannot be \
         changed for a while and put back surely"
    )]
    UnusualSettings { addr: SocketAddr },
    #[error("{addr} is not kept out of elections, as it was when this was planned")]
    NotGuarded { addr: SocketAddr },
    #[error("{addr} sees node {id} differently by now", id = .id.short())]
    Changed { addr: SocketAddr, id: NodeId },
    #[error("{addr} will not be reset: it owns slots or holds keys by now")]
    Needed { addr: SocketAddr },
}

/// A step of a plan that was not done.
#[derive(Debug, thiserror::Error)]
#[error("could not {action}: {source}")]
pub struct StepError {
    pub action: Box<Action>,
    pub source: ActError,
}

/// Carries actions out on the nodes of one cluster.
#[derive(Debug)]
pub struct Actor {
    pub(super) credentials: Credentials,
    /// For each step of asking a node.
    limit: Duration,
    /// The nodes that may be brought together.
    ours: HashSet<NodeId>,
    /// Where keys are saved that are about to be given up.
    pub(super) save_to: Option<PathBuf>,
}

impl Actor {
    pub fn new(credentials: Credentials, limit: Duration, ours: HashSet<NodeId>) -> Actor {
        Actor { credentials, limit, ours, save_to: None }
    }

    /// The same, which saves keys to this file before it gives them up. Without a file it gives up none.
    #[must_use]
    pub fn saving_to(self, file: PathBuf) -> Actor {
        Actor { save_to: Some(file), ..self }
    }

    /// Carries one action out as a step of a plan.
    ///
    /// # Errors
    /// As [`Actor::act`], saying which step it was.
    pub async fn take_step(&self, action: &Action, deadline: Instant) -> Result<Acted, StepError> {
        let acted = self.act(action, deadline).await;
        acted.map_err(|source| StepError { action: Box::new(action.clone()), source })
    }

    /// Carries one action out, until `deadline` when it must wait for the node to hear of another.
    ///
    /// # Errors
    /// The node cannot be asked, refuses, or is no longer what the plan saw.
    pub async fn act(&self, action: &Action, deadline: Instant) -> Result<Acted, ActError> {
        let (mut client, node) = self.open(action.node()).await?;
        let me = node.view.myself();
        match action {
            Action::SetConfigEpoch { epoch, .. } => {
                // It has one, or got to know others, which settle their epochs among themselves.
                if me.epoch != 0 || node.view.lines().len() > 1 {
                    return Ok(Acted::AlreadyDone);
                }
                client.call(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]).await?;
            }
            Action::AddSlots { ranges, .. } => {
                if me.primary.is_some() {
                    return Err(ActError::NotPrimary { addr: node.view.asked });
                }
                let ranges: Vec<SlotRange> =
                    ranges.iter().flat_map(|range| missing(*range, &me.slots)).collect();
                if ranges.is_empty() {
                    return Ok(Acted::AlreadyDone);
                }
                client.call(&add_slots(&ranges, node.info.release)).await?;
            }
            Action::Meet { other, bus_port, .. } => {
                let (_, met) = self.open(*other).await?;
                if is_found_at(&node, *other)
                    && is_acquainted(&met, node.view.id())
                    && knows_itself(&met, *other)
                {
                    return Ok(Acted::AlreadyDone);
                }
                // A node of another cluster would merge the two, and half of the data would be lost.
                for party in [&met, &node] {
                    if let Some(line) = party.view.members().find(|line| !self.ours.contains(&line.id)) {
                        return Err(ActError::Stranger { addr: party.view.asked, stranger: line.id });
                    }
                }
                let (ip, port) = (other.addr.ip().to_string(), other.addr.port().to_string());
                let mut meet = vec!["CLUSTER".into(), "MEET".into(), ip, port];
                if *bus_port != other.addr.port().saturating_add(10000) {
                    meet.push(bus_port.to_string());
                }
                client.call(&meet).await?;
            }
            Action::Replicate { primary, .. } => {
                if me.primary == Some(primary.id) {
                    return Ok(Acted::AlreadyDone);
                }
                if me.primary.is_none() && (!me.slots.is_empty() || node.info.keys > 0) {
                    return Err(ActError::NotEmpty { addr: node.view.asked });
                }
                self.replicate(&mut client, *primary, deadline).await?;
            }
            Action::Failover { primary, .. } => {
                return fail_over(self, &mut client, &node, *primary).await;
            }
            Action::SettleSlot { slot, from, others, may_lose, .. } => {
                return settle_slot(self, &mut client, &node, *slot, (from, others), *may_lose).await;
            }
            Action::Relink { primary, .. } => return act_heal::relink(&mut client, &node, *primary).await,
            Action::Announce { ip, .. } => return act_heal::announce(&mut client, &node, *ip).await,
            Action::Guard { .. } => return act_heal::guard(&mut client, &node).await,
            Action::Hasten { .. } => return act_heal::hasten(&mut client, &node).await,
            Action::Unguard { .. } => return act_heal::unguard(&mut client, &node).await,
            Action::RestoreDelay { .. } => {
                let is_restored = sync_delay::restore(&mut client).await?;
                return Ok(if is_restored { Acted::Done } else { Acted::AlreadyDone });
            }
            Action::Elect { primary, .. } => return act_heal::elect(&mut client, &node, *primary).await,
            Action::Rescue { primary, .. } => {
                return act_rescue::rescue(self, &mut client, &node, *primary).await;
            }
            Action::Forget { leaver, .. } => return act_heal::forget(&mut client, &node, *leaver).await,
            Action::Dismiss { leaver, .. } => return act_remove::dismiss(&mut client, &node, *leaver).await,
            Action::Reset { .. } => return act_remove::reset(&mut client, &node).await,
        }
        Ok(Acted::Done)
    }

    /// Tells a node to replicate; again while it has not heard of the primary.
    async fn replicate(
        &self,
        client: &mut NodeClient,
        primary: Party,
        deadline: Instant,
    ) -> Result<(), NodeError> {
        loop {
            match client.call(&["CLUSTER", "REPLICATE", primary.id.as_str()]).await {
                Err(NodeError::Refused { text, .. })
                    if text.contains("Unknown node") && Instant::now() < deadline =>
                {
                    sleep(RETRY_EVERY).await;
                }
                other => return other.map(|_| ()),
            }
        }
    }

    /// Connects, observes, and makes sure that the node is still the one that was planned with.
    pub(super) async fn open(&self, party: Party) -> Result<(NodeClient, Observation), ActError> {
        let Party { id: wanted, addr } = party;
        let mut client = NodeClient::connect(addr, &self.credentials, self.limit).await?;
        let node = observe_node(&mut client).await?;
        let found = node.view.id();
        if found == wanted { Ok((client, node)) } else { Err(ActError::OtherNode { addr, wanted, found }) }
    }
}

/// Whether the node looks for the member where it is.
fn is_found_at(node: &Observation, other: Party) -> bool {
    node.view.line(other.id).is_some_and(|line| line.addr(node.view.asked) == Some(other.addr))
}

/// Whether the node tells clients its right address. One that nobody has met has none to tell.
fn knows_itself(met: &Observation, own: Party) -> bool {
    met.view.myself().ip.is_none() || met.view.myself().addr(met.view.asked) == Some(own.addr)
}

/// Whether the node knows `id` as a member at some address.
fn is_acquainted(node: &Observation, id: NodeId) -> bool {
    node.view.line(id).is_some_and(|line| !line.flags.has(Flags::NO_ADDRESS))
}

fn add_slots(ranges: &[SlotRange], release: Release) -> Vec<String> {
    let mut words = vec!["CLUSTER".into()];
    if release >= HAS_ADDSLOTSRANGE {
        words.push("ADDSLOTSRANGE".into());
        words.extend(ranges.iter().flat_map(|range| [range.start.to_string(), range.end.to_string()]));
    } else {
        words.push("ADDSLOTS".into());
        words.extend(ranges.iter().flat_map(|range| range.slots()).map(|slot| slot.to_string()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_without_ranges_get_every_slot_named() {
        let ranges = [SlotRange::new(0, 2).unwrap(), SlotRange::new(7, 7).unwrap()];
        assert_eq!(add_slots(&ranges, Release(7, 0)).join(" "), "CLUSTER ADDSLOTSRANGE 0 2 7 7");
        assert_eq!(add_slots(&ranges, Release(6, 2)).join(" "), "CLUSTER ADDSLOTS 0 1 2 7");
    }
}
