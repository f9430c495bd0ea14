//! Edit: one change to the nodes' StatefulSet or to one of its pods, as data. Pure; carried out by
//! [`super::kubernetes`], where each looks once more whether it may be done.

use super::pods::Size;
use std::fmt;

/// One change; shown in words for people. Done twice it is as done once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Edit {
    /// Asks for a restart of all pods, or, with nothing, for its end after the pod under way.
    WishRestart(Option<String>),
    WishSize(Size),
    /// Makes all pods old by a stamp on their template, and keeps Kubernetes from replacing them by itself:
    /// it would not look at roles.
    BeginRestart {
        wish: String,
    },
    /// Puts the update strategy back as it was.
    EndRestart,
    /// Lets Kubernetes make a pod anew, while all others are in order.
    DeletePod {
        name: String,
        uid: String,
    },
    /// Notes that the size changes; with the number of pods, when there are to be more.
    BeginScaling {
        size: Size,
        raise_to: Option<u32>,
    },
    /// There are as many pods as wished, which are the ones that are needed.
    EndScaling {
        size: Size,
    },
}

impl Edit {
    /// A word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Edit::WishRestart(_) => "wish-restart",
            Edit::WishSize(_) => "wish-size",
            Edit::BeginRestart { .. } => "begin-restart",
            Edit::EndRestart => "end-restart",
            Edit::DeletePod { .. } => "delete-pod",
            Edit::BeginScaling { .. } => "begin-scaling",
            Edit::EndScaling { .. } => "end-scaling",
        }
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edit::WishRestart(Some(_)) => f.write_str("ask for a restart of all pods"),
            Edit::WishRestart(None) => f.write_str("ask for the restart to end"),
            Edit::WishSize(Size { shards, replicas }) => {
                write!(f, "ask for {shards} shards with {replicas} replicas each")
            }
            Edit::BeginRestart { .. } => f.write_str("begin to restart all pods, one after the other"),
            Edit::EndRestart => f.write_str("end the restart: put the update strategy back"),
            Edit::DeletePod { name, .. } => write!(f, "delete the pod {name}, so that it is made anew"),
            Edit::BeginScaling { size, raise_to: Some(pods) } => {
                write!(f, "begin to scale to {size}: {pods} pods")
            }
            Edit::BeginScaling { size, raise_to: None } => write!(f, "begin to scale to {size}"),
            Edit::EndScaling { size } => write!(f, "end scaling to {size}: {} pods", size.pods()),
        }
    }
}
