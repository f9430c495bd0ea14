//! Pods: what Kubernetes says of the nodes' pods and of the StatefulSet they belong to. Pure data.
//!
//! Discovered by [`super::kubernetes`], planned with like everything that the nodes say. A pod is not yet a
//! node: an address is used only after the node there told its id.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::ParseIntError;
use std::str::FromStr;

/// All pods of one StatefulSet, and the StatefulSet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pods {
    /// By ordinal.
    pub pods: Vec<Pod>,
    /// `None` while it was not found.
    pub set: Option<StatefulSet>,
}

/// One pod.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pod {
    pub name: String,
    /// Another one for each life of a pod of this name.
    pub uid: String,
    pub ordinal: u32,
    /// Where its node takes clients, once it has an address.
    pub addr: Option<SocketAddr>,
    /// The machine it runs on, once it was placed.
    pub host: Option<String>,
    pub zone: Option<String>,
    pub is_ready: bool,
    /// All its containers have been started and none has ended.
    pub is_running: bool,
    /// It was told to end, and will within its grace period.
    pub is_leaving: bool,
    /// Which version of the StatefulSet's template it was made of.
    pub revision: Option<String>,
    /// Why it does not run, in Kubernetes' words.
    pub trouble: Option<String>,
}

/// What the StatefulSet wants.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatefulSet {
    pub name: String,
    pub uid: String,
    /// How many pods it is to have.
    pub replicas: u32,
    /// The version of the template that new pods are made of.
    pub update_revision: Option<String>,
    /// Whether a new template replaces pods without being asked; pods below the partition stay.
    pub is_rolling: bool,
    pub partition: u32,
    /// It was changed, and Kubernetes has not taken that in: `update_revision` may be an older one.
    pub is_stale: bool,
    /// The operator's wishes, as annotations say them.
    pub wishes: Wishes,
    /// What slotgate wrote on it of wishes under way.
    pub progress: Progress,
}

/// What the operator wrote on the StatefulSet (annotations `slotgate.dev/...`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// `slotgate.dev/paused: "true"`: look and tell, change nothing.
    pub is_paused: bool,
    /// `slotgate.dev/shards`
    pub shards: Option<u32>,
    /// `slotgate.dev/replicas`: of each primary.
    pub replicas: Option<u32>,
    /// `slotgate.dev/restart`: when a restart of all pods was asked for; any text, another one for each.
    pub restart: Option<String>,
    /// Annotations that cannot be read, each in a sentence.
    pub wrong: Vec<String>,
}

/// How far wishes are, as the StatefulSet says itself: whoever leads goes on from there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// The restart that the template was stamped with last.
    pub stamp: Option<String>,
    /// A restart is under way: the update strategy that is put back at its end, as JSON.
    pub kept_strategy: Option<String>,
    /// A change of size is under way: which.
    pub scaling: Option<Size>,
    /// The last one that was ended.
    pub scaled: Option<Size>,
}

/// How many shards, and how many replicas each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    pub shards: u32,
    pub replicas: u32,
}

impl Size {
    /// How many pods that takes.
    pub fn pods(self) -> u32 {
        self.shards.saturating_mul(self.replicas.saturating_add(1))
    }
}

/// As annotations have it: `4x1` is four shards with a replica each.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.shards, self.replicas)
    }
}

impl FromStr for Size {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Size, ParseIntError> {
        let (shards, replicas) = text.trim().split_once('x').unwrap_or((text, ""));
        Ok(Size { shards: shards.parse()?, replicas: replicas.parse()? })
    }
}

impl Pod {
    /// It is as it should be, and stays.
    pub fn is_whole(&self) -> bool {
        self.is_ready && self.is_running && !self.is_leaving
    }
}

impl StatefulSet {
    /// The name of its pod of this number
    /// (<https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#ordinal-index>).
    pub fn pod(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }
}

impl Pods {
    /// Where nodes can be asked: pods that have an address, leaving ones too.
    pub fn addrs(&self) -> HashSet<SocketAddr> {
        self.pods.iter().filter_map(|pod| pod.addr).collect()
    }

    /// The pod at this address.
    pub fn at(&self, ip: IpAddr) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.addr.is_some_and(|addr| addr.ip() == ip))
    }

    /// Whether every pod that should be is there, has an address and stays: only then is somebody who is
    /// not among them gone.
    pub fn is_complete(&self) -> bool {
        let wanted = self.set.as_ref().map(|set| set.replicas as usize);
        let staying = |pod: &&Pod| pod.is_running && !pod.is_leaving && pod.addr.is_some();
        wanted == Some(self.pods.len()) && self.pods.iter().filter(staying).count() == self.pods.len()
    }

    /// Those that are missing before it is complete, each with why, as far as Kubernetes says.
    pub fn missing(&self) -> Vec<String> {
        let Some(set) = &self.set else { return Vec::new() };
        let of = |ordinal: u32| self.pods.iter().find(|pod| pod.ordinal == ordinal);
        let state = |ordinal: u32| match of(ordinal) {
            None => Some(format!("{} does not exist", set.pod(ordinal))),
            Some(pod) if pod.is_leaving => Some(format!("{} is being ended", pod.name)),
            Some(pod) if pod.is_running && pod.addr.is_some() => None,
            Some(Pod { name, trouble: Some(trouble), .. }) => {
                Some(format!("{name} does not run ({trouble})"))
            }
            Some(pod) => Some(format!("{} does not run yet", pod.name)),
        };
        (0..set.replicas).filter_map(state).collect()
    }

    pub fn is_paused(&self) -> bool {
        self.set.as_ref().is_some_and(|set| set.wishes.is_paused)
    }
}
