//! The journal in a ConfigMap: read by the next leader, never written over by the one before, and no reason to
//! wait.

use super::place;
use crate::support::fake_kube::FakeKube;
use serde_json::Value;
use slotgate::control::journal::Journal;
use slotgate::control::kubernetes;
use slotgate::topology::NodeId;
use std::collections::HashSet;
use std::sync::Arc;

const NAME: &str = "slotgate-journal-redis";

async fn open(kube: &FakeKube) -> Journal {
    Journal::open(Some(Arc::new(kubernetes::Journal::new(&place(kube))))).await
}

fn ids(numbers: &[u8]) -> HashSet<NodeId> {
    numbers.iter().map(|n| format!("{n:040x}").parse().unwrap()).collect()
}

/// How many members the ConfigMap names.
fn kept(kube: &FakeKube) -> usize {
    let map = kube.get("configmaps", NAME).unwrap();
    let journal: Value = serde_json::from_str(map["data"]["journal.json"].as_str().unwrap()).unwrap();
    journal["members"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_next_leader_goes_on_from_it_and_one_that_wakes_late_writes_nothing_over_it() {
    let kube = FakeKube::start();
    let mut old = open(&kube).await;
    assert_eq!(old.trouble(), None);
    old.know(&ids(&[1, 2]), &ids(&[])).await;
    old.begin([("let a meet b".to_string(), "newcomer")].into_iter()).await;
    assert_eq!((old.trouble(), kept(&kube)), (None, 2));

    let mut new = open(&kube).await;
    assert_eq!(new.members().0, ids(&[1, 2]));
    assert!(new.cut_short().unwrap().contains("before or in: let a meet b"));
    new.know(&ids(&[1, 2, 3]), &ids(&[3])).await;
    assert_eq!(kept(&kube), 3);

    old.know(&ids(&[1]), &ids(&[])).await;
    assert_eq!(kept(&kube), 3);
    assert!(old.trouble().unwrap().contains("somebody else has written"), "{:?}", old.trouble());
    assert!(old.lead(true).await, "the lease makes it the leader again");
    assert_eq!(old.members(), (ids(&[1, 2, 3]), ids(&[3])));
}

#[tokio::test]
async fn one_that_somebody_removed_is_written_anew() {
    let kube = FakeKube::start();
    let mut journal = open(&kube).await;
    journal.know(&ids(&[1]), &ids(&[])).await;
    kube.remove("configmaps", NAME);
    journal.know(&ids(&[1, 2]), &ids(&[])).await;
    journal.lead(true).await;
    journal.know(&ids(&[1, 2]), &ids(&[])).await;
    assert_eq!((kept(&kube), journal.trouble()), (2, None));
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let kube = FakeKube::start();
    kube.forbid("create", "configmaps");
    let mut journal = open(&kube).await;
    journal.know(&ids(&[1]), &ids(&[])).await;
    assert!(journal.trouble().unwrap().contains("Role create configmaps"), "{:?}", journal.trouble());
    kube.allow("create", "configmaps");
    journal.know(&ids(&[1]), &ids(&[])).await;
    assert_eq!((kept(&kube), journal.trouble()), (1, None));
}

#[tokio::test]
async fn an_api_server_that_hangs_is_asked_once_and_left_alone_for_a_while() {
    let kube = FakeKube::start();
    let mut journal = open(&kube).await;
    kube.hang(true);
    kube.forget_calls();
    for n in 1..=50 {
        journal.know(&ids(&[n]), &ids(&[])).await;
    }
    assert!(journal.trouble().unwrap().contains("did not answer within 2 s"), "{:?}", journal.trouble());
    assert_eq!(kube.calls().len(), 1);
}
