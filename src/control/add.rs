//! Adds one empty node to a cluster: prove that it is empty → functions → epoch → meet → wait → replicate.
//!
//! A node of another cluster is never met: the two would become one, and half of the data would be lost.
//! Run again, it goes on from what the nodes say.

use super::act::{Acted, Actor};
use super::action::{Action, Party};
use super::bootstrap::Progress;
use super::migrate::{Journey, JourneyError, ready_holders};
use super::node_client::{NodeClient, NodeError, Reply};
use super::observe::{ObserveError, Release, Role, observe_node};
use super::plan::placement::Place;
use super::problem::{Problem, join, problems};
use super::run_error::{RunError, go_on};
use super::view::{Observation, View};
use crate::topology::NodeId;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The first release with `FUNCTION`.
const HAS_FUNCTIONS: Release = Release(7, 0);

/// What the newcomer is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// A primary without slots.
    Primary,
    ReplicaOf(NodeId),
    /// A replica of the primary that has the fewest, of those with slots; of several one in another zone or on
    /// another host.
    ReplicaOfPoorest,
}

/// Why the node was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error(transparent)]
    Cluster(#[from] JourneyError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(
        "{addr} will not be added: it {has}. Only an empty node may join; take this one out of its cluster and empty \
         it yourself (FLUSHALL, CLUSTER RESET) if nobody needs what it has"
    )]
    NotEmpty { addr: SocketAddr, has: String },
    #[error("{0} is not a primary with slots of this cluster")]
    NoSuchPrimary(String),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{addr} did not become a full member within {limit:?}: {}. Run the same command again to go on from here", join(.problems, "; "))]
    Unsettled { addr: SocketAddr, limit: Duration, problems: Vec<Problem> },
}

/// The steps that are missing, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub newcomer: Party,
    /// Whose functions it gets.
    pub functions_of: Option<Party>,
    pub actions: Vec<Action>,
}

/// Plans with what the cluster and the newcomer say.
///
/// # Errors
/// The cluster is not in order, or the newcomer is not empty.
pub fn plan(view: &View, newcomer: &Observation, wish: &Wish) -> Result<Plan, AddError> {
    let me = Party { id: newcomer.view.id(), addr: newcomer.view.asked };
    let own = newcomer.view.myself();
    let is_member = view.of(me.id).is_some();
    let has = if !is_member && newcomer.view.lines().len() > 1 {
        Some(format!("belongs to a cluster with {} others", newcomer.view.lines().len() - 1))
    } else if own.primary.is_none() && newcomer.info.keys > 0 {
        Some(format!("holds {} keys", newcomer.info.keys))
    } else {
        (!own.slots.is_empty()).then(|| format!("owns the slots {}", join(&own.slots, " ")))
    };
    if let Some(has) = has {
        return Err(AddError::NotEmpty { addr: me.addr, has });
    }
    let holders = ready_holders(view)?;
    let owners: Vec<Party> = holders
        .iter()
        .filter(|holder| !holder.slots.is_empty() && holder.node.id != me.id)
        .map(|holder| holder.node)
        .collect();
    let Some(hub) = owners.first().copied() else {
        return Err(AddError::NoSuchPrimary("none".into()));
    };
    let replicas = |primary: &Party| {
        let follows = |node: &&Observation| node.view.myself().primary == Some(primary.id);
        view.nodes.iter().filter(follows).count()
    };
    let primary = match wish {
        Wish::Primary => None,
        Wish::ReplicaOfPoorest => {
            let own = Place::of(newcomer);
            let nearness = |party: &Party| view.of(party.id).map(|node| own.nearness(&Place::of(node)));
            owners.iter().copied().min_by_key(|party| (replicas(party), nearness(party)))
        }
        Wish::ReplicaOf(id) => {
            let found = owners.iter().copied().find(|party| party.id == *id);
            Some(found.ok_or_else(|| AddError::NoSuchPrimary(id.to_string()))?)
        }
    };
    let mut actions = Vec::new();
    if !is_member {
        // Redis takes an epoch from outside only while a node is alone and has none.
        let epochs = view.nodes.iter().map(|node| node.view.cluster.current_epoch);
        let epoch = epochs.max().unwrap_or(0) + 1;
        if own.epoch == 0 {
            actions.push(Action::SetConfigEpoch { node: me, epoch });
        }
        actions.push(Action::Meet { node: hub, other: me, bus_port: own.bus_port });
    }
    if let Some(primary) = primary.filter(|_| own.primary.is_none()) {
        actions.push(Action::Replicate { node: me, primary });
    }
    // A replica gets them with its copy.
    let functions_of =
        (!is_member && primary.is_none() && newcomer.info.release >= HAS_FUNCTIONS).then_some(hub);
    Ok(Plan { newcomer: me, functions_of, actions })
}

/// Asks the newcomer what it is.
///
/// # Errors
/// It does not answer, or is no cluster node.
pub async fn observe_newcomer(journey: &Journey, addr: SocketAddr) -> Result<Observation, AddError> {
    let connected = NodeClient::connect(addr, &journey.credentials, journey.limit).await;
    Ok(observe_node(&mut connected.map_err(ObserveError::from)?).await?)
}

/// Carries the plan out and waits until everybody knows the newcomer.
///
/// # Errors
/// A step failed, or the nodes do not agree in time. The next run goes on from there.
pub async fn carry_out(
    journey: &Journey,
    view: &View,
    plan: &Plan,
    mut progress: impl FnMut(Progress),
) -> Result<(), AddError> {
    if let Some(giver) = plan.functions_of {
        copy_functions(journey, giver, plan.newcomer).await?;
    }
    let ours = view.nodes.iter().map(|node| node.view.id()).chain([plan.newcomer.id]).collect();
    let actor = Actor::new(journey.credentials.clone(), journey.limit, ours);
    let steps = plan.actions.len();
    for (ix, action) in plan.actions.iter().enumerate() {
        if matches!(action, Action::Replicate { .. }) {
            progress(Progress::Waiting { what: "all nodes to know the new one".into() });
            settle(journey, plan.newcomer).await?;
        }
        go_on(&journey.stop)?;
        progress(Progress::Step { step: ix + 1, steps, action: action.clone() });
        let acted = actor.take_step(action, Instant::now() + journey.timeout).await;
        if acted.map_err(RunError::Step)? == Acted::AlreadyDone {
            progress(Progress::AlreadyDone);
        }
    }
    progress(Progress::Waiting { what: "all nodes to agree".into() });
    settle(journey, plan.newcomer).await
}

async fn copy_functions(journey: &Journey, giver: Party, newcomer: Party) -> Result<(), AddError> {
    let mut client = NodeClient::connect(giver.addr, &journey.credentials, journey.limit).await?;
    let Reply::BulkString(functions) = client.call(&["FUNCTION", "DUMP"]).await? else { return Ok(()) };
    let mut client = NodeClient::connect(newcomer.addr, &journey.credentials, journey.limit).await?;
    // REPLACE: a run that was cut short may have copied them already.
    client.call(&[&b"FUNCTION"[..], b"RESTORE", &functions, b"REPLACE"]).await?;
    Ok(())
}

/// Waits until the newcomer and all others know each other and their roles, and its link is up.
async fn settle(journey: &Journey, newcomer: Party) -> Result<(), AddError> {
    let deadline = Instant::now() + journey.timeout;
    loop {
        let mut journey = journey.clone();
        journey.addrs.push(newcomer.addr);
        let view = journey.look().await;
        let concerns = |problem: &Problem| match problem {
            Problem::Unknown { .. } | Problem::Handshake { .. } | Problem::OtherRole { .. } => true,
            Problem::SplitShard { .. } => true,
            Problem::NotServing { addr } | Problem::Silent { addr, .. } => *addr == newcomer.addr,
            Problem::LinkDown { replica, .. } => *replica == newcomer.addr,
            _ => false,
        };
        let problems: Vec<Problem> = problems(&view, None).into_iter().filter(concerns).collect();
        let is_linked = view.at(newcomer.addr).is_some_and(|node| match &node.info.role {
            Role::Primary => node.view.myself().primary.is_none(),
            Role::Replica { is_link_up, .. } => *is_link_up,
        });
        if problems.is_empty() && is_linked {
            return Ok(());
        }
        go_on(&journey.stop)?;
        if Instant::now() >= deadline {
            let (addr, limit) = (newcomer.addr, journey.timeout);
            return Err(AddError::Unsettled { addr, limit, problems });
        }
        sleep(LOOK_EVERY).await;
    }
}
