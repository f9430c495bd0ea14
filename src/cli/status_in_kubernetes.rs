//! `slotgate status --kubernetes`: what the leading gateway wrote into the status ConfigMap, and how old it
//! is.

use super::{Ended, Output, environment};
use crate::control::kubernetes::{self, Config, Lack, Place, Written, read_status, status_name};
use serde_json::json;
use std::time::{Duration, SystemTime};

/// A leader writes four times in it, so nobody does.
const OLD: Duration = Duration::from_secs(60);

/// Where the status is found.
#[derive(clap::Args)]
pub struct InKubernetes {
    /// Ask no node: show what the leading gateway of a StatefulSet tells through Kubernetes
    #[arg(long, conflicts_with = "nodes", help_heading = "Kubernetes")]
    kubernetes: bool,
    /// The namespace of the StatefulSet; without it (or SLOTGATE_NAMESPACE) the pod's own, or the kubeconfig's
    #[arg(long, value_name = "NAME", requires = "kubernetes", help_heading = "Kubernetes")]
    namespace: Option<String>,
    /// The StatefulSet that the nodes run in (or SLOTGATE_STATEFULSET) [default: redis]
    #[arg(long, value_name = "NAME", requires = "kubernetes", help_heading = "Kubernetes")]
    statefulset: Option<String>,
}

impl InKubernetes {
    /// Whether Kubernetes is to be asked, and no node.
    ///
    /// # Errors
    /// Something is said of a StatefulSet, but nodes are named.
    pub fn is_meant(&self) -> Result<bool, Ended> {
        match self.namespace.is_some() || self.statefulset.is_some() {
            true if !self.kubernetes => Err(Ended::usage(
                "--namespace and --statefulset say where --kubernetes finds the status; give --kubernetes instead of \
                 HOST:PORT",
            )),
            _ => Ok(self.kubernetes),
        }
    }
}

/// Whether all is well, and the text to show.
///
/// # Errors
/// There is no status, or it cannot be read; the text says why, and what to do.
pub async fn look(args: &InKubernetes, output: Output, is_line: bool) -> anyhow::Result<(bool, String)> {
    let flag_or = |flag: &Option<String>, name: &str| flag.clone().or_else(|| environment(name));
    let config = Config {
        namespace: flag_or(&args.namespace, "SLOTGATE_NAMESPACE"),
        stateful_set: flag_or(&args.statefulset, "SLOTGATE_STATEFULSET")
            .unwrap_or_else(|| kubernetes::STATEFUL_SET.into()),
        port: kubernetes::PORT,
    };
    let place = Place::find(&config).await?;
    let Some(written) = read_status(&place).await? else {
        return Err(Ended::wrong(nothing(&place).await).into());
    };
    let age = written.updated.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    Ok(show(&written, age, output, is_line))
}

/// Why there is no status, and what to do.
async fn nothing(place: &Place) -> String {
    let Place { namespace, stateful_set, .. } = place;
    match kubernetes::lack(place).await {
        Ok(Some(Lack::Namespace)) => format!(
            "there is no namespace {namespace}: name the one of the StatefulSet with --namespace ('kubectl get \
             statefulsets --all-namespaces' shows them)"
        ),
        Ok(Some(Lack::StatefulSet(others))) => {
            let others = match others.as_slice() {
                [] => "it has none: name another namespace with --namespace".to_string(),
                others => format!("it has {}: name it with --statefulset", others.join(", ")),
            };
            format!("there is no StatefulSet {stateful_set} in namespace {namespace}; {others}")
        }
        Ok(None) => format!(
            "nobody has written a status of the StatefulSet {stateful_set} in namespace {namespace} yet (there is no \
             ConfigMap {}): start a gateway with 'slotgate serve --kubernetes --manage --statefulset {stateful_set}', \
             or look into its log",
            status_name(stateful_set)
        ),
        Err(error) => format!(
            "there is no ConfigMap {} in namespace {namespace}, and {error}",
            status_name(stateful_set)
        ),
    }
}

fn show(written: &Written, age: Option<Duration>, output: Output, is_line: bool) -> (bool, String) {
    let is_old = age.is_none_or(|age| age >= OLD);
    let is_healthy = written.is_healthy && !is_old;
    if output == Output::Json {
        let mut json = written.json.clone();
        // Something else may stand there.
        if !json.is_object() {
            json = json!({});
        }
        json["healthy"] = is_healthy.into();
        json["age_seconds"] = age.map(|age| age.as_secs()).into();
        return (is_healthy, if is_line { format!("{json}\n") } else { format!("{json:#}\n") });
    }
    let mut text = written.nodes.clone();
    for (title, lines) in [("Found:", &written.problems), ("Due:", &written.plan)] {
        if lines.trim() != "none" && !lines.trim().is_empty() {
            text += &format!("\n{title}\n");
            lines.lines().for_each(|line| text += &format!("  {line}\n"));
        }
    }
    let age = age.map_or_else(
        || "at an unknown time".to_string(),
        |age| format!("{} ago", humantime::format_duration(Duration::from_secs(age.as_secs()))),
    );
    text += &format!("\n{}\nWritten {age} by {}.", written.summary, written.leader);
    if is_old {
        text += " Nobody has written since: is a gateway running with --kubernetes and --manage, and may it update \
                 configmaps? Its log says.";
    }
    (is_healthy, text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Written {
        Written {
            is_healthy: true,
            summary: "Healthy: 3 shards.".into(),
            nodes: "SLOTS\n0-5\n".into(),
            problems: "note: a node (stranger)\n".into(),
            plan: "none\n".into(),
            leader: "slotgate-1".into(),
            updated: None,
            json: json!({ "healthy": true, "phase": "healthy" }),
        }
    }

    #[test]
    fn it_shows_what_was_written_and_how_long_ago() {
        let (is_healthy, text) = show(&written(), Some(Duration::from_millis(7300)), Output::Text, false);
        assert!(is_healthy);
        let expected = "SLOTS\n0-5\n\nFound:\n  note: a node (stranger)\n\nHealthy: 3 shards.\nWritten 7s ago by \
                        slotgate-1.\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_status_that_nobody_has_written_for_long_is_wrong_whatever_it_says() {
        let (is_healthy, text) = show(&written(), Some(OLD), Output::Text, false);
        assert!(!is_healthy && text.contains("Nobody has written since"), "{text}");
        let (is_healthy, text) = show(&written(), None, Output::Json, true);
        assert!(!is_healthy && text.contains("\"healthy\":false"), "{text}");
    }
}
