//! `slotgate restart`: all pods of the StatefulSet anew, without a client being refused.

use super::stateful_set::{Stand, Wish, Wishing, run as wish};
use super::{Ended, Exit};
use crate::control::edit::Edit;
use crate::control::pods::{Pods, StatefulSet};
use std::time::SystemTime;

/// Restart all pods on Kubernetes, replicas first, each primary after its hand-over
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate restart --wait
  slotgate restart --namespace tool-env --statefulset redis --yes
  slotgate restart --stop

Writes the wish on the StatefulSet (annotation slotgate.dev/restart); the leading gateway carries it out,
however this command ends, and another one goes on when that one ends: replicas first, the highest number
first, then each primary after one of its restarted replicas took over. One pod at a time is away, and the
next one goes only when all are ready, every replica is connected and nothing is wrong with the cluster.
Pods come back by the newest template, so this also brings an image or setting in that was changed with an
update strategy of OnDelete.

Meanwhile the update strategy is OnDelete, so that Kubernetes replaces no pod by itself; at the end it is
put back as it was. --stop ends after the pod under way; the rest stays as it is until 'slotgate restart'
goes on with it. So does kubectl annotate sts redis slotgate.dev/paused=true, until that is removed.
Exit code 1: not done in time; 3: refused, because it would not be safe.")]
pub struct Args {
    /// End a restart after the pod under way
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    wishing: Wishing,
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    wish(&args.wishing, |set, pods| if args.stop { Ok(stop(set)) } else { plan(set, pods, &now) }, stand)
}

/// What a restart comes to.
///
/// # Errors
/// It would not be safe.
fn plan(set: &StatefulSet, pods: &Pods, now: &str) -> Result<Wish, Ended> {
    if pods.pods.len() < 2 {
        return Err(Ended::refused(format!(
            "there are {} pods: nobody could serve while one is restarted. 'kubectl rollout restart' does it all the same",
            pods.pods.len()
        )));
    }
    if set.progress.kept_strategy.is_some()
        && let Some(stamp) = &set.progress.stamp
    {
        let old = old(set, pods);
        return Ok(Wish {
            edit: Edit::WishRestart(Some(stamp.clone())),
            lines: vec![format!(
                "Go on with the restart of {stamp}: {} of {} pods are left: {}",
                old.len(),
                pods.pods.len(),
                old.join(" ")
            )],
        });
    }
    let names: Vec<&str> = pods.pods.iter().rev().map(|pod| pod.name.as_str()).collect();
    Ok(Wish {
        edit: Edit::WishRestart(Some(now.to_string())),
        lines: vec![format!(
            "Restart {} pods one after the other, those of replicas first, and each primary's after a replica took over \
             from it: {}",
            names.len(),
            names.join(" ")
        )],
    })
}

fn stop(set: &StatefulSet) -> Wish {
    let lines = match set.wishes.restart.is_some() && set.progress.kept_strategy.is_some() {
        true => {
            vec!["End the restart after the pod under way; 'slotgate restart' goes on with it".to_string()]
        }
        false if set.wishes.restart.is_some() && set.wishes.restart != set.progress.stamp => {
            vec!["Take the wish for a restart back, which has not begun".to_string()]
        }
        false => Vec::new(),
    };
    Wish { edit: Edit::WishRestart(None), lines }
}

fn stand(edit: &Edit, set: &StatefulSet, pods: &Pods) -> Stand {
    let Edit::WishRestart(Some(wish)) = edit else {
        let away = pods.pods.iter().find(|pod| !pod.is_whole());
        return away.map_or(Stand::Done, |pod| Stand::Going(format!("Waiting for {}", pod.name)));
    };
    if set.progress.stamp.as_ref() != Some(wish) {
        return Stand::Going("Waiting for the leading gateway to begin".into());
    }
    let (left, all) = (old(set, pods), set.replicas as usize);
    let mut away = pods.pods.iter().filter(|pod| !pod.is_whole()).map(|pod| pod.name.clone());
    match set.progress.kept_strategy {
        None => Stand::Done,
        Some(_) => Stand::Going(format!(
            "{} of {all} pods are restarted{}",
            pods.pods.len() - left.len(),
            away.next().map_or(String::new(), |name| format!("; {name} is on its way"))
        )),
    }
}

/// Pods of another version than the template's.
fn old(set: &StatefulSet, pods: &Pods) -> Vec<String> {
    let old = pods.pods.iter().rev().filter(|pod| pod.revision != set.update_revision);
    old.map(|pod| pod.name.clone()).collect()
}
