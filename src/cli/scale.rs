//! `slotgate scale`: more or fewer shards and replicas on Kubernetes.

use super::stateful_set::{Stand, Wish, Wishing, run as wish};
use super::{Ended, Exit};
use crate::control::edit::Edit;
use crate::control::pods::{Pods, Size, StatefulSet};

/// With fewer primaries, the loss of one leaves no majority to elect its replica.
const FEWEST_SHARDS: u32 = 3;

/// Change the number of shards and replicas on Kubernetes
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate scale --shards 4 --replicas 1 --wait
  slotgate scale --shards 3 --replicas 1 --namespace tool-env --yes
  slotgate scale --shards 4 --replicas 1 --dry-run --output json

Writes the wish on the StatefulSet (annotations slotgate.dev/shards and slotgate.dev/replicas); the leading
gateway carries it out, however this command ends, and another one goes on when that one ends.
More: the StatefulSet gets more pods; their nodes join, become primaries with replicas on other machines,
and slots move to them while clients go on.
Fewer: Kubernetes removes the pods with the highest numbers, so primaries there hand over, the shards that
end give their slots to the others, and every node that leaves is emptied and forgotten; only then are
there fewer pods. Volume claims of removed pods stay, with an empty node each; remove them by hand
(kubectl delete pvc) or keep them for the next time.

Do not lower the replicas of the StatefulSet itself: Kubernetes would end pods with their slots.
Exit code 1: not done in time; 3: refused: fewer than three shards have no majority when one fails, and
without a replica the loss of a pod is the loss of its keys' service.")]
pub struct Args {
    /// How many primaries
    #[arg(long, value_name = "COUNT")]
    shards: Option<u32>,
    /// How many replicas each
    #[arg(long, value_name = "COUNT")]
    replicas: Option<u32>,
    #[command(flatten)]
    wishing: Wishing,
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    wish(&args.wishing, |set, pods| plan(set, pods, (args.shards, args.replicas)), stand)
}

/// What a change of size comes to.
///
/// # Errors
/// It would not be safe, or is not said wholly.
fn plan(set: &StatefulSet, pods: &Pods, asked: (Option<u32>, Option<u32>)) -> Result<Wish, Ended> {
    let (shards, replicas) = (asked.0.or(set.wishes.shards), asked.1.or(set.wishes.replicas));
    let (Some(shards), Some(replicas)) = (shards, replicas) else {
        return Err(Ended::usage("say both the first time: --shards COUNT and --replicas COUNT"));
    };
    let size = Size { shards, replicas };
    if shards < FEWEST_SHARDS {
        return Err(Ended::refused(format!(
            "{shards} shards are too few: when one of two primaries fails, the other is no majority and cannot elect its \
             replica. Wish for {FEWEST_SHARDS} or more"
        )));
    }
    if replicas == 0 {
        return Err(Ended::refused(
            "without replicas every restart of a pod is an outage, and a lost volume is lost data; wish for 1 or more",
        ));
    }
    if let Some(stuck) = pods.pods.iter().find(|pod| pod.trouble.is_some() && size.pods() > set.replicas) {
        return Err(Ended::refused(format!(
            "{} does not run, so more pods may not either: {}",
            stuck.name,
            stuck.trouble.as_deref().unwrap_or_default()
        )));
    }
    let (now, then) = (set.replicas, size.pods());
    let names =
        |from: u32, to: u32| -> String { (from..to).map(|n| set.pod(n)).collect::<Vec<_>>().join(" ") };
    let mut lines = Vec::new();
    if set.progress.scaled != Some(size) || now != then {
        lines.push(format!("From {now} pods to {then}: {shards} shards with {replicas} replicas each"));
        if then > now {
            lines.push(format!("New: {}; slots move to new primaries while clients go on", names(now, then)));
        } else if then < now {
            lines.push(format!(
                "Leaving: {}; their slots and roles go to the others first, and their volume claims stay",
                names(then, now)
            ));
        }
    }
    Ok(Wish { edit: Edit::WishSize(size), lines })
}

fn stand(edit: &Edit, set: &StatefulSet, pods: &Pods) -> Stand {
    let Edit::WishSize(size) = edit else { return Stand::Done };
    let ready = pods.pods.iter().filter(|pod| pod.is_whole()).count();
    if set.progress.scaled == Some(*size) && set.progress.scaling.is_none() && ready == size.pods() as usize {
        return Stand::Done;
    }
    if set.progress.scaling.is_none() && set.progress.scaled != Some(*size) {
        return Stand::Going("Waiting for the leading gateway to begin".into());
    }
    let trouble = pods.pods.iter().find_map(|pod| Some(format!("; {}: {}", pod.name, pod.trouble.as_ref()?)));
    Stand::Going(format!(
        "{ready} of {} pods are ready, {} are wished{}",
        pods.pods.len(),
        size.pods(),
        trouble.unwrap_or_default()
    ))
}
