//! The rights that slotgate uses, against the Role that deploy/ gives it: neither more nor less.

use crate::support::fake_kube::{Call, FakeKube};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// What is called without being granted would fail in a real cluster only.
#[track_caller]
pub fn expect_granted(kube: &FakeKube) {
    let rules = rules();
    let calls: BTreeSet<Call> = kube.calls().into_iter().collect();
    let missing: Vec<&Call> =
        calls.iter().filter(|call| !rules.iter().any(|rule| grants(rule, call))).collect();
    assert!(missing.is_empty(), "the Role in deploy/ does not grant {missing:#?}");
    assert!(calls.iter().any(|call| call.verb == "watch"), "nothing was called at all");
}

/// A right that nothing needs is one too many; to be asked of a server that saw all that there is to do.
#[track_caller]
pub fn expect_no_right_too_many(kube: &FakeKube) {
    let calls = kube.calls();
    for rule in rules() {
        for verb in &rule.verbs {
            let one = PolicyRule { verbs: vec![verb.clone()], ..rule.clone() };
            assert!(calls.iter().any(|call| grants(&one, call)), "nobody called what this grants: {one:#?}");
        }
    }
}

fn rules() -> Vec<PolicyRule> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/base/gateway/service-account.yaml");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    let role = objects.into_iter().find(|object| object["kind"] == "Role").unwrap();
    let role: Role = serde_json::from_value(role).unwrap();
    role.rules.unwrap()
}

/// As RBAC decides it: a rule that names objects grants nothing for others, nor what has no name.
fn grants(rule: &PolicyRule, call: &Call) -> bool {
    let has = |list: &Option<Vec<String>>, word: &str| list.iter().flatten().any(|one| one == word);
    let is_named = match &rule.resource_names {
        Some(names) => call.name.as_ref().is_some_and(|name| names.contains(name)) && call.verb != "create",
        None => true,
    };
    let is_meant = has(&rule.api_groups, &call.group) && has(&rule.resources, &call.resource);
    is_meant && is_named && rule.verbs.iter().any(|verb| verb == call.verb)
}
