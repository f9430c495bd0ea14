//! The long parts of a change of size: slots move, a node leaves. Each runs in a task of its own, so that
//! healing goes on meanwhile, and ends in order when it is told to.
//!
//! Nothing is remembered: the next one goes on from what the nodes say.

use super::action::Party;
use super::migrate::room::{NoRoom, memories, no_room};
use super::migrate::unfinished::remedies;
use super::migrate::{Event, Journey, JourneyError, Speed, Stop, ready_holders};
use super::named::Name;
use super::node_client::NodeError;
use super::plan::rebalance::{NoPlan, rebalance};
use super::plan::remove::Allowed;
use super::remove::{self, RemoveError, Wish};
use crate::backend::Credentials;
use crate::topology::NodeId;
use futures_util::FutureExt as _;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// For waiting until the nodes agree.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Slots move, until these share them evenly and nobody else has any.
    Move { to: BTreeSet<NodeId> },
    /// This node, which owns nothing, is forgotten by all and emptied.
    Remove(Party),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Move { to } => write!(f, "let {} primaries share the slots", to.len()),
            Part::Remove(node) => write!(f, "take {node} out of the cluster"),
        }
    }
}

/// Why it was not done, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    #[error(transparent)]
    Journey(#[from] JourneyError),
    #[error(transparent)]
    NoPlan(#[from] NoPlan),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Remove(#[from] RemoveError),
    #[error("{0} is another node by now")]
    OtherNode(SocketAddr),
    #[error("the task ended unexpectedly: {0}")]
    Panicked(String),
}

/// One part under way. Dropped, it is told to end.
#[derive(Debug)]
pub struct Task {
    pub part: Part,
    stop: Stop,
    moved: Arc<Moved>,
    handle: JoinHandle<Result<(), ResizeError>>,
}

/// What was moved so far.
#[derive(Debug, Default)]
struct Moved {
    slots: AtomicU64,
    keys: AtomicU64,
}

impl Task {
    /// Begins it; `addrs`: where members are.
    pub fn begin(part: Part, addrs: Vec<SocketAddr>, credentials: Credentials, limit: Duration) -> Task {
        let (stop, moved) = (Stop::default(), Arc::new(Moved::default()));
        let speed = Speed::new(None, None, stop.clone());
        let journey = Journey { addrs, credentials, limit, timeout: TIMEOUT, stop: stop.clone(), speed };
        let (doing, counted) = (part.clone(), moved.clone());
        let handle = tokio::spawn(async move {
            match doing {
                Part::Move { to } => move_slots(&journey, &to, &counted).await,
                Part::Remove(node) => take_out(&journey, node).await,
            }
        });
        Task { part, stop, moved, handle }
    }

    /// Lets it end as soon as nothing is left half-way.
    pub fn stop(&self) {
        self.stop.request();
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<Result<(), ResizeError>> {
        let joined = (&mut self.handle).now_or_never()?;
        Some(joined.unwrap_or_else(|error| Err(ResizeError::Panicked(error.to_string()))))
    }
}

/// What it does, and how far it is.
impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.part.fmt(f)?;
        let (slots, keys) =
            (self.moved.slots.load(Ordering::Relaxed), self.moved.keys.load(Ordering::Relaxed));
        if slots > 0 {
            write!(f, ": {slots} slots with {keys} keys were moved")?;
        }
        Ok(())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stop.request();
    }
}

async fn move_slots(journey: &Journey, to: &BTreeSet<NodeId>, moved: &Moved) -> Result<(), ResizeError> {
    let mut tell = |event| match event {
        Event::Moved { slots, keys } => {
            moved.slots.fetch_add(slots as u64, Ordering::Relaxed);
            moved.keys.fetch_add(keys, Ordering::Relaxed);
        }
        Event::BigKey { key, slot, bytes } => {
            tracing::warn!(reason = "scale", key, %slot, bytes, "both nodes stand still while this key moves");
        }
        Event::Note(text) => tracing::info!(reason = "scale", "{text}"),
    };
    let mut view = journey.look().await;
    if !remedies(&view).is_empty() {
        view = journey.end_open(view, &mut tell).await?;
    }
    let mut holders = ready_holders(&view)?;
    for holder in &mut holders {
        holder.weight = u32::from(to.contains(&holder.node.id));
    }
    let moves = rebalance(&holders, 0)?;
    let memories = memories(&moves, &journey.credentials, journey.limit).await?;
    if let Some(refusal) = no_room(&moves, &holders, &memories) {
        return Err(refusal.into());
    }
    for step in &moves {
        tracing::info!(reason = "scale", "{step}");
    }
    Ok(journey.carry_out(&view, moves, &mut tell).await?)
}

async fn take_out(journey: &Journey, node: Party) -> Result<(), ResizeError> {
    let name = Name::At(vec![node.addr]);
    let wish = Wish { text: node.addr.to_string(), name, allowed: Allowed::default() };
    let outlook = remove::look(journey, &wish).await?;
    if outlook.plan.leaver != node.id {
        return Err(ResizeError::OtherNode(node.addr));
    }
    remove::carry_out(journey, &wish, outlook, |_| {}).await?;
    Ok(())
}
