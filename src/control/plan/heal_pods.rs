//! heal, pods: what Kubernetes says that a person must know of: pods that do not run, wishes that cannot be
//! read, too few pods, an API server that is of no use. Pure; only finds, never acts.

use super::heal::{Case, Finding, Plan};
use crate::control::pods::Pod;

/// A cluster elects by a majority of its primaries: with less than three none can be lost.
const FEWEST_PODS: u32 = 3;

pub fn find(case: Case<'_>, plan: &mut Plan) {
    let Some(pods) = case.pods else { return };
    let Some(set) = &pods.set else { return };
    for wrong in &set.wishes.wrong {
        let text = format!("{wrong}; correct it with kubectl annotate --overwrite, or remove it");
        plan.note("annotation", text, None);
    }
    if set.replicas < FEWEST_PODS {
        let owns_slots = case.survey.view.nodes.iter().any(|node| !node.view.myself().slots.is_empty());
        let text = format!(
            "the StatefulSet is to have {} pods: a cluster needs three primaries, and a replica of each to lose none \
             of its keys with a pod",
            set.replicas
        );
        let command = Some(format!("kubectl scale statefulset {} --replicas=6", set.name));
        plan.findings.push(Finding { kind: "few-pods", text, command, is_wrong: !owns_slots });
    }
    let missing = (set.replicas as usize).saturating_sub(pods.pods.len());
    if missing > 0 {
        let text = format!(
            "{missing} of the StatefulSet's {} pods are not there: its events say why if they do not come",
            set.replicas
        );
        plan.note("pods-missing", text, Some(format!("kubectl describe statefulset {}", set.name)));
    }
    // One that is ended by will need not run.
    for pod in pods.pods.iter().filter(|pod| !pod.is_running && !pod.is_leaving) {
        if let Some(trouble) = &pod.trouble {
            let Hint { kind, advice, command } = hint(pod, trouble);
            plan.find(kind, format!("the pod {} does not run: {trouble}; {advice}", pod.name), Some(command));
        }
    }
}

/// Why the API server, or a part of it, is of no use; `has_set`: whether it ever told of the StatefulSet.
pub fn of_api(text: String, has_set: bool) -> Finding {
    // With a StatefulSet all goes on with what was learned last; without one the pods are not known at all.
    Finding { kind: "kubernetes", text, command: None, is_wrong: !has_set }
}

/// What a person does about a pod.
struct Hint {
    kind: &'static str,
    advice: &'static str,
    command: String,
}

/// By the words of the scheduler and the kubelet
/// (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>).
fn hint(pod: &Pod, trouble: &str) -> Hint {
    let describe = format!("kubectl describe pod {}", pod.name);
    let reason = trouble.split(':').next().unwrap_or_default();
    let (kind, advice, command) = match reason {
        "Unschedulable" => {
            ("pod-unschedulable", "make room on a machine that it may run on, or free its volume", describe)
        }
        "CrashLoopBackOff" => (
            "pod-crashes",
            "its own last words say why",
            format!("kubectl logs {} --all-containers --previous", pod.name),
        ),
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            ("pod-image", "name an image that its machine can pull", describe)
        }
        "CreateContainerConfigError" => {
            ("pod-config", "a Secret or ConfigMap that it names is missing or lacks a key", describe)
        }
        _ => ("pod-trouble", "its events tell more", describe),
    };
    Hint { kind, advice, command }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::memory::Memory;
    use crate::control::pods::{Pods, StatefulSet, Wishes};
    use crate::control::survey::Survey;
    use std::collections::HashSet;
    use std::time::Instant;

    fn pod(ordinal: u32, trouble: Option<&str>) -> Pod {
        Pod {
            name: format!("redis-{ordinal}"),
            uid: format!("u-{ordinal}"),
            ordinal,
            is_ready: trouble.is_none(),
            is_running: trouble.is_none(),
            trouble: trouble.map(Into::into),
            ..Pod::default()
        }
    }

    fn pods(all: Vec<Pod>, replicas: u32) -> Pods {
        Pods {
            pods: all,
            set: Some(StatefulSet { name: "redis".into(), replicas, ..StatefulSet::default() }),
        }
    }

    fn found(pods: &Pods) -> Vec<Finding> {
        let memory = Memory::default();
        let survey = Survey::new(Vec::new(), Vec::new(), memory.ours(), &HashSet::new());
        let case =
            Case { survey: &survey, memory: &memory, now: Instant::now(), listed: None, pods: Some(pods) };
        let mut plan = Plan::default();
        find(case, &mut plan);
        assert_eq!(plan.steps, []);
        plan.findings
    }

    #[test]
    fn pods_that_run_are_nothing_to_tell_of() {
        assert_eq!(found(&pods((0..6).map(|n| pod(n, None)).collect(), 6)), []);
        assert_eq!(found(&Pods::default()), [], "nothing was learned yet");
    }

    #[test]
    fn a_pod_that_does_not_run_is_told_of_with_what_to_look_at() {
        let troubles = [
            ("Unschedulable: 0/3 nodes are available", "pod-unschedulable", "kubectl describe pod redis-0"),
            (
                "CrashLoopBackOff: back-off 5m0s",
                "pod-crashes",
                "kubectl logs redis-0 --all-containers --previous",
            ),
            ("ImagePullBackOff", "pod-image", "kubectl describe pod redis-0"),
            (
                "CreateContainerConfigError: secret \"p\" not found",
                "pod-config",
                "kubectl describe pod redis-0",
            ),
            ("SomethingNew", "pod-trouble", "kubectl describe pod redis-0"),
        ];
        for (trouble, kind, command) in troubles {
            let all = vec![pod(0, Some(trouble)), pod(1, None), pod(2, None)];
            let findings = found(&pods(all, 3));
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!((findings[0].kind, findings[0].command.as_deref()), (kind, Some(command)));
            assert!(findings[0].is_wrong && findings[0].text.contains(trouble), "{}", findings[0].text);
        }
    }

    #[test]
    fn one_that_was_told_to_end_or_only_starts_is_not() {
        let mut leaving = pod(0, Some("CrashLoopBackOff"));
        leaving.is_leaving = true;
        let starting = Pod { is_running: false, ..pod(1, None) };
        assert_eq!(found(&pods(vec![leaving, starting, pod(2, None)], 3)), []);
    }

    #[test]
    fn too_few_pods_and_missing_ones_are_told_of() {
        let findings = found(&pods(vec![pod(0, None)], 2));
        let kinds: Vec<(&str, bool)> = findings.iter().map(|found| (found.kind, found.is_wrong)).collect();
        assert_eq!(kinds, [("few-pods", true), ("pods-missing", false)]);
        assert_eq!(findings[0].command.as_deref(), Some("kubectl scale statefulset redis --replicas=6"));
    }

    #[test]
    fn an_annotation_that_cannot_be_read_is_told_of_and_nothing_is_wrong_with_the_cluster() {
        let mut all = pods((0..3).map(|n| pod(n, None)).collect(), 3);
        let wrong = vec!["the annotation slotgate.dev/shards is \"four\"".to_string()];
        all.set.as_mut().unwrap().wishes = Wishes { wrong, ..Wishes::default() };
        let findings = found(&all);
        assert_eq!((findings.len(), findings[0].kind, findings[0].is_wrong), (1, "annotation", false));
        assert!(findings[0].text.contains("\"four\"; correct it"), "{}", findings[0].text);
    }

    #[test]
    fn an_api_server_that_is_away_leaves_the_cluster_in_order_unless_no_pod_was_ever_known() {
        assert!(!of_api("cannot watch pods".into(), true).is_wrong);
        assert!(of_api("there is no StatefulSet".into(), false).is_wrong);
    }
}
