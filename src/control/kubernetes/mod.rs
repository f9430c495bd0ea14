//! kubernetes: the StatefulSet that the nodes run in, as the API server tells of it, and what is written back.
//!
//! The only place that speaks to the API server. Whatever fails here is told and tried again; what was
//! learned last stays in use, and nothing of a client's command ever waits for it.

mod client;
mod config_map;
mod edit;
mod events;
mod journal;
pub mod lease;
mod news;
mod read;
mod reporter;
mod status;
mod trouble;
mod watch;

pub use client::client;
pub use edit::EditError;
pub use journal::Journal;
pub use reporter::Reporter;
pub use status::{Lack, Written, lack, read_status, status_name};
pub use trouble::Troubles;
pub use watch::{WatchStatus, watch};

use kube::Client;
use std::fmt;

/// The tutorial's StatefulSet, and Redis' port.
pub const STATEFUL_SET: &str = "redis";
pub const PORT: u16 = 6379;

/// Where the nodes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `None` is the pod's own, or the one that the kubeconfig names.
    pub namespace: Option<String>,
    pub stateful_set: String,
    /// The port at which nodes take clients.
    pub port: u16,
}

/// The nodes' StatefulSet, and a way to speak of it. Cheap to clone.
#[derive(Clone)]
pub struct Place {
    client: Client,
    pub namespace: String,
    pub stateful_set: String,
    pub port: u16,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.stateful_set)
    }
}

/// Why the API server was of no use.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    #[error(
        "cannot find out how to reach a Kubernetes API server: {0}. Inside a pod its service account tells (mount its \
         token); elsewhere a kubeconfig does (KUBECONFIG or ~/.kube/config)"
    )]
    Unknown(String),
    #[error(
        "the API server allows it not: {message}. Let the service account's Role {verb} {resource} (deploy/ has a Role \
         with what is needed)"
    )]
    Forbidden { verb: &'static str, resource: &'static str, message: String },
    #[error("cannot {verb} {resource}: {message}")]
    Refused { verb: &'static str, resource: &'static str, code: u16, message: String },
    #[error("cannot {verb} {resource}: the API server cannot be reached: {message}")]
    Unreachable { verb: &'static str, resource: &'static str, message: String },
}

impl KubernetesError {
    /// What one request came to, in our words: which verb on which resource.
    pub(super) fn of(error: &kube::Error, verb: &'static str, resource: &'static str) -> KubernetesError {
        match error {
            kube::Error::Api(status) if status.code == 403 => {
                KubernetesError::Forbidden { verb, resource, message: status.message.clone() }
            }
            kube::Error::Api(status) => {
                let (code, message) = (status.code, status.message.clone());
                KubernetesError::Refused { verb, resource, code, message }
            }
            other => KubernetesError::Unreachable { verb, resource, message: chain(other) },
        }
    }
}

/// An error with its causes: the outermost alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        cause = error.source();
    }
    text
}

impl Place {
    /// Finds out how to reach the API server: by the pod's service account, else by the kubeconfig.
    /// Does not ask it anything yet.
    ///
    /// # Errors
    /// Neither is there, or it cannot be read.
    pub async fn find(config: &Config) -> Result<Place, KubernetesError> {
        let found = kube::Config::infer().await.map_err(|error| KubernetesError::Unknown(chain(&error)))?;
        let namespace = config.namespace.clone().unwrap_or_else(|| found.default_namespace.clone());
        let client = client(found)?;
        Ok(Place { client, namespace, stateful_set: config.stateful_set.clone(), port: config.port })
    }

    /// The same, with a way to the API server of one's own.
    pub fn new(client: Client, namespace: &str, config: &Config) -> Place {
        let (stateful_set, port) = (config.stateful_set.clone(), config.port);
        Place { client, namespace: namespace.to_string(), stateful_set, port }
    }
}
