//! A whole run: look until the nodes agree, end what an earlier run left open, move, look again.

use super::copy::{discard, remove_mark};
use super::unfinished::{Remedy, remedies};
use super::{Cluster, Event, MigrateError, Speed, Stop, ask, ask_all, migrate, words};
use crate::backend::Credentials;
use crate::control::action::Party;
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::control::observe::observe_cluster;
use crate::control::plan::rebalance::{Holder, Move};
use crate::control::problem::{Problem, join, problems};
use crate::control::view::View;
use crate::topology::{Slot, SlotRange};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the nodes are asked while the news of a move spreads: gossip passes once a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Each round deals with one mark of every open slot; a slot has at most two, of which one may reopen.
const ROUNDS: usize = 8;

/// Why slots were not moved, or not all.
#[derive(Debug, thiserror::Error)]
pub enum JourneyError {
    #[error("slots are moved only in a cluster that is in order; this one is not: {}", join(.0, "; "))]
    NotInOrder(Vec<Problem>),
    #[error("a move that was cut short cannot be ended without you: {}", join(.0, "; "))]
    Unclear(Vec<Remedy>),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("all slots are moved, but the nodes did not agree on it within {limit:?}: {}", join(.problems, "; "))]
    Unsettled { limit: Duration, problems: Vec<Problem> },
}

/// How to reach the cluster, and how patiently.
#[derive(Clone, Debug)]
pub struct Journey {
    /// Some nodes; the others are found through them.
    pub addrs: Vec<SocketAddr>,
    pub credentials: Credentials,
    /// For each step of asking one node.
    pub limit: Duration,
    /// For waiting until the nodes agree.
    pub timeout: Duration,
    pub stop: Stop,
    pub speed: Speed,
}

impl Journey {
    /// What all nodes say, as soon as they agree on who owns which slots, or when time is up.
    pub async fn look(&self) -> View {
        let deadline = Instant::now() + self.timeout;
        loop {
            let view = observe_cluster(&self.addrs, &self.credentials, self.limit).await;
            if hindrances(&view).is_empty() || Instant::now() >= deadline {
                return view;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Finishes or closes the slots that an earlier run left open, and gives the view after it.
    ///
    /// # Errors
    /// The cluster is not in order, or a slot needs a person.
    pub async fn end_open(&self, view: View, tell: &mut impl FnMut(Event)) -> Result<View, JourneyError> {
        let mut view = view;
        for _ in 0..ROUNDS {
            let left = remedies(&view);
            if left.is_empty() {
                break;
            }
            ready_holders(&view)?;
            let (unclear, clear): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|remedy| matches!(remedy, Remedy::Unclear { .. }));
            if clear.is_empty() {
                return Err(JourneyError::Unclear(unclear));
            }
            let moves = self.close(clear, tell).await?;
            let cluster =
                Arc::new(Cluster::of(&view, self.credentials.clone(), self.limit, self.speed.clone()));
            migrate(&cluster, moves, &self.stop, &mut *tell).await?;
            view = self.look().await;
        }
        Ok(view)
    }

    /// Closes what can be closed, and says what must be moved on.
    async fn close(
        &self,
        remedies: Vec<Remedy>,
        tell: &mut impl FnMut(Event),
    ) -> Result<Vec<Move>, JourneyError> {
        let mut unfinished: BTreeMap<(SocketAddr, SocketAddr), (Party, Party, Vec<Slot>)> = BTreeMap::new();
        let mut clients = Clients { journey: self, open: BTreeMap::new() };
        for remedy in remedies {
            tell(Event::Note(remedy.to_string()));
            let (slot, source, target) = match remedy {
                Remedy::Finish { slot, source, target } => {
                    // It was switched: what was copied are its keys. A target that does not import it yet
                    // refuses, and has no mark.
                    ask(clients.of(target).await?, &remove_mark(slot)).await?;
                    (slot, source, target)
                }
                Remedy::FinishOrClose { slot, source, target } => {
                    let client = clients.of(target).await?;
                    discard(client, slot, source.id).await?;
                    if count(client, slot).await? == 0 {
                        set_stable(client, slot).await?;
                        continue;
                    }
                    (slot, source, target)
                }
                Remedy::Close { slot, node } => {
                    set_stable(clients.of(node).await?, slot).await?;
                    continue;
                }
                Remedy::Unclear { .. } => continue,
            };
            let entry = unfinished.entry((source.addr, target.addr));
            entry.or_insert((source, target, Vec::new())).2.push(slot);
        }
        let moves = unfinished.into_values();
        Ok(moves
            .map(|(source, target, slots)| Move { source, target, ranges: SlotRange::cover(slots) })
            .collect())
    }

    /// Carries the moves out and waits until all nodes agree on the new owners.
    ///
    /// # Errors
    /// What stopped a move; what was moved until then stays.
    pub async fn carry_out(
        &self,
        view: &View,
        moves: Vec<Move>,
        tell: &mut impl FnMut(Event),
    ) -> Result<(), JourneyError> {
        let cluster = Arc::new(Cluster::of(view, self.credentials.clone(), self.limit, self.speed.clone()));
        migrate(&cluster, moves, &self.stop, &mut *tell).await?;
        let problems = hindrances(&self.look().await);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(JourneyError::Unsettled { limit: self.timeout, problems })
        }
    }
}

/// Connections to the nodes whose slots are closed, one for each.
struct Clients<'a> {
    journey: &'a Journey,
    open: BTreeMap<SocketAddr, NodeClient>,
}

impl Clients<'_> {
    async fn of(&mut self, node: Party) -> Result<&mut NodeClient, NodeError> {
        match self.open.entry(node.addr) {
            Entry::Occupied(client) => Ok(client.into_mut()),
            Entry::Vacant(place) => {
                let Journey { credentials, limit, .. } = self.journey;
                Ok(place.insert(NodeClient::connect(node.addr, credentials, *limit).await?))
            }
        }
    }
}

async fn count(client: &mut NodeClient, slot: Slot) -> Result<i64, NodeError> {
    let counted = ask_all(client, &[words(["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()])]).await?;
    Ok(if let Some(Reply::Integer(count)) = counted.first() { *count } else { 0 })
}

async fn set_stable(client: &mut NodeClient, slot: Slot) -> Result<(), NodeError> {
    match client.call(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]).await {
        // A primary that became a replica keeps its marks, and nobody minds them.
        Err(NodeError::Refused { text, .. }) if text.contains("only with masters") => Ok(()),
        other => other.map(drop),
    }
}

/// The primaries and their slots, each of weight 1; those without slots too.
///
/// # Errors
/// The nodes do not agree, or not all answer: slots are not moved then.
pub fn ready_holders(view: &View) -> Result<Vec<Holder>, JourneyError> {
    let hindrances = hindrances(view);
    if !hindrances.is_empty() {
        return Err(JourneyError::NotInOrder(hindrances));
    }
    let primaries = view.nodes.iter().filter(|node| node.view.myself().primary.is_none());
    Ok(primaries
        .map(|node| Holder {
            node: Party { id: node.view.id(), addr: node.view.asked },
            slots: node.view.myself().slots.clone(),
            weight: 1,
        })
        .collect())
}

/// Problems because of which no slot should be moved. A replica that is down is none of them.
fn hindrances(view: &View) -> Vec<Problem> {
    let is_replica = |addr: SocketAddr| {
        let lines =
            view.nodes.iter().flat_map(|node| node.view.members().map(|line| (node.view.asked, line)));
        let mut of_it = lines.filter(|(asked, line)| line.addr(*asked) == Some(addr)).map(|(_, line)| line);
        of_it.next().is_some_and(|line| line.primary.is_some())
    };
    let hinders = |problem: &Problem| match problem {
        Problem::Silent { addr, .. } => !is_replica(*addr),
        Problem::NotServing { .. } | Problem::Uncovered { .. } | Problem::Disagreement { .. } => true,
        Problem::Unknown { .. } | Problem::NoAddress { .. } | Problem::Handshake { .. } => true,
        _ => false,
    };
    problems(view, None).into_iter().filter(hinders).collect()
}
