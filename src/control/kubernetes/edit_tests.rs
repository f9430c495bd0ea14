//! What each edit makes of a StatefulSet, by the patch that is sent.

use super::*;

fn set(annotations: &Value, strategy: &Value) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": { "name": "redis", "annotations": annotations },
        "spec": {
            "replicas": 6, "serviceName": "redis-svc", "template": {}, "selector": {}, "updateStrategy": strategy,
        },
    }))
    .unwrap()
}

/// What an API server makes of a merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

fn edited(set: &StatefulSet, edit: &Edit) -> StatefulSet {
    let mut object = serde_json::to_value(set).unwrap();
    if let Some(patch) = patch(edit, set).unwrap() {
        merge(&mut object, &patch);
    }
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_restart_leaves_the_update_strategy_as_it_found_it() {
    let rolling =
        json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 2, "maxUnavailable": 1 } });
    for strategy in [rolling, json!({ "type": "OnDelete" })] {
        let before = set(&json!({}), &strategy);
        let first = edited(&before, &Edit::BeginRestart { wish: "a".into() });
        let strategy_now = first.spec.as_ref().unwrap().update_strategy.clone().unwrap();
        assert_eq!((strategy_now.type_.as_deref(), strategy_now.rolling_update), (Some("OnDelete"), None));
        // A second wish takes the place of the first.
        let second = edited(&first, &Edit::BeginRestart { wish: "b".into() });
        let progress = super::super::read::read_set(&second).progress;
        assert_eq!(progress.stamp.as_deref(), Some("b"));
        assert!(progress.kept_strategy.is_some());
        let after = edited(&second, &Edit::EndRestart);
        assert_eq!(after.spec.as_ref().unwrap().update_strategy, before.spec.unwrap().update_strategy);
        assert_eq!(super::super::read::read_set(&after).progress.kept_strategy, None);
        assert_eq!(patch(&Edit::EndRestart, &after).unwrap(), None);
    }
}

#[test]
fn an_unreadable_kept_strategy_is_not_put_back() {
    let damaged = set(&json!({ KEPT_STRATEGY: "rolling" }), &json!({ "type": "OnDelete" }));
    assert!(matches!(patch(&Edit::EndRestart, &damaged), Err(EditError::NoStrategy(_))));
}

#[test]
fn scaling_never_lowers_the_number_of_pods_when_it_begins() {
    let size = "2x1".parse().unwrap();
    let begun = edited(&set(&json!({}), &json!({})), &Edit::BeginScaling { size, raise_to: Some(4) });
    assert_eq!(begun.spec.as_ref().unwrap().replicas, Some(6));
    assert_eq!(super::super::read::read_set(&begun).progress.scaling, Some(size));
    let ended = edited(&begun, &Edit::EndScaling { size });
    assert_eq!(ended.spec.as_ref().unwrap().replicas, Some(4));
    let progress = super::super::read::read_set(&ended).progress;
    assert_eq!((progress.scaling, progress.scaled), (None, Some(size)));
}

#[test]
fn wishes_are_annotations() {
    let wished = edited(&set(&json!({}), &json!({})), &Edit::WishSize("4x1".parse().unwrap()));
    let wished = edited(&wished, &Edit::WishRestart(Some("now".into())));
    let wishes = super::super::read::read_set(&wished).wishes;
    assert_eq!((wishes.shards, wishes.replicas, wishes.restart.as_deref()), (Some(4), Some(1), Some("now")));
    let stopped = edited(&wished, &Edit::WishRestart(None));
    assert_eq!(super::super::read::read_set(&stopped).wishes.restart, None);
}
