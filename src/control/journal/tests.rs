use super::*;
use futures_util::future::FutureExt as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

fn id(n: usize) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

fn store() -> (tempfile::TempDir, PathBuf, Option<Arc<dyn Store>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.json");
    (dir, path.clone(), Some(Arc::new(File(path))))
}

fn steps() -> impl Iterator<Item = (String, &'static str)> {
    ["let a meet b", "let a meet c"].into_iter().map(|action| (action.to_string(), "address-changed"))
}

#[tokio::test]
async fn a_manager_that_is_ended_in_the_middle_tells_the_next_one_what_it_did() {
    let (dir, _, store) = store();
    let mut journal = Journal::open(store.clone()).await;
    assert_eq!((journal.cut_short(), journal.trouble()), (None, None));
    journal.know(&[id(1), id(2)].into(), &[id(2)].into()).await;
    journal.begin(steps()).await;
    journal.tried(0, "done").await;
    drop(journal);

    let mut next = Journal::open(store.clone()).await;
    assert_eq!(next.members(), ([id(1), id(2)].into(), [id(2)].into()));
    let words = next.cut_short().unwrap();
    assert!(words.contains("1 of 2 steps tried, before or in: let a meet c"), "{words}");
    next.begin(steps()).await;
    next.end().await;
    assert_eq!(Journal::open(store).await.cut_short(), None);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn a_damaged_journal_is_told_of_and_begun_anew() {
    let (_dir, path, store) = store();
    for text in ["", "{", "{\"version\":2,\"by\":\"\",\"members\":[],\"newcomers\":[],\"work\":null}"] {
        fs::write(&path, text).unwrap();
        let mut journal = Journal::open(store.clone()).await;
        assert!(journal.trouble().unwrap().contains("is damaged"), "{text}");
        journal.know(&[id(1)].into(), &HashSet::new()).await;
        assert_eq!(journal.trouble(), None);
        assert_eq!(Journal::open(store.clone()).await.members().0, [id(1)].into());
    }
}

#[tokio::test]
async fn one_that_cannot_be_written_is_told_of_until_it_can() {
    let (dir, path, _) = store();
    let folder = dir.path().join("later");
    let mut journal = Journal::open(Some(Arc::new(File(folder.join("journal.json"))))).await;
    journal.know(&[id(1)].into(), &HashSet::new()).await;
    assert!(journal.trouble().unwrap().contains("cannot write"), "{:?}", journal.trouble());
    fs::create_dir(&folder).unwrap();
    journal.know(&[id(1)].into(), &HashSet::new()).await;
    assert_eq!(journal.trouble(), None);
    assert!(!path.exists() && folder.join("journal.json").exists());
}

#[tokio::test]
async fn without_a_store_nothing_is_kept() {
    let mut journal = Journal::open(None).await;
    journal.know(&[id(1)].into(), &HashSet::new()).await;
    journal.begin(steps()).await;
    assert_eq!(journal.trouble(), None);
}
fn home(pod: &str) -> Home {
    Home { pod: pod.into(), uid: format!("uid-of-{pod}") }
}

#[tokio::test]
async fn it_keeps_which_pod_each_node_was_last_seen_in_and_older_journals_say_nothing_of_it() {
    let (_dir, path, store) = store();
    let older = "{\"version\":1,\"by\":\"\",\"members\":[],\"newcomers\":[],\"work\":null}";
    fs::write(&path, older).unwrap();
    let mut journal = Journal::open(store.clone()).await;
    assert_eq!((journal.trouble(), journal.homes().len()), (None, 0));
    let homes = BTreeMap::from([(id(1), home("redis-0")), (id(2), home("redis-1"))]);
    journal.know_homes(&homes).await;
    assert_eq!(*Journal::open(store).await.homes(), homes);
}

/// A place that several managers share: a text and how often it was written.
#[derive(Debug, Default)]
struct Shared(Mutex<(u64, Option<String>)>);

/// One manager's way to it, with the version that it knows.
#[derive(Debug)]
struct Way {
    shared: Arc<Shared>,
    known: Mutex<u64>,
    limit: usize,
    takes: Duration,
}

fn way(shared: &Arc<Shared>) -> Way {
    Way { shared: shared.clone(), known: Mutex::new(0), limit: 1 << 20, takes: Duration::ZERO }
}

impl Store for Way {
    fn place(&self) -> String {
        "in memory".into()
    }

    fn load(&self) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        let (version, text) = self.shared.0.lock().unwrap().clone();
        *self.known.lock().unwrap() = version;
        async { Ok(text) }.boxed()
    }

    fn save(&self, text: String) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            if !self.takes.is_zero() {
                tokio::time::sleep(self.takes).await;
                return Err(StoreError::Failed("too slow".into()));
            }
            let mut shared = self.shared.0.lock().unwrap();
            let mut known = self.known.lock().unwrap();
            if *known != shared.0 {
                return Err(StoreError::Overtaken);
            }
            *known += 1;
            *shared = (*known, Some(text));
            Ok(())
        }
        .boxed()
    }

    fn limit(&self) -> usize {
        self.limit
    }
}

#[tokio::test]
async fn one_who_wakes_late_writes_nothing_over_what_the_next_leader_wrote() {
    let shared = Arc::new(Shared::default());
    let mut old = Journal::open(Some(Arc::new(way(&shared)))).await;
    let mut new = Journal::open(Some(Arc::new(way(&shared)))).await;
    assert!(!new.lead(false).await && !old.lead(true).await);
    old.know(&[id(1)].into(), &HashSet::new()).await;
    new.know(&[id(9)].into(), &HashSet::new()).await;
    assert_eq!(shared.0.lock().unwrap().0, 1, "who follows writes nothing");

    assert!(new.lead(true).await);
    assert_eq!(new.members().0, [id(1)].into(), "it takes over what the old one knew");
    new.know(&[id(1), id(2)].into(), &[id(2)].into()).await;
    old.know(&[id(3)].into(), &HashSet::new()).await;
    assert_eq!(shared.0.lock().unwrap().0, 2);
    assert!(old.trouble().unwrap().contains("somebody else"), "{:?}", old.trouble());
    old.know(&[id(4)].into(), &HashSet::new()).await;
    assert_eq!(shared.0.lock().unwrap().0, 2);

    assert!(old.lead(true).await, "as one of two that lead by mistake it goes on from the other's word");
    assert_eq!(old.members(), ([id(1), id(2)].into(), [id(2)].into()));
    old.know(&[id(4)].into(), &HashSet::new()).await;
    assert_eq!((shared.0.lock().unwrap().0, old.trouble()), (3, None));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_slow_to_fail_is_left_alone_for_a_while() {
    let shared = Arc::new(Shared::default());
    let slow = Way { takes: Duration::from_secs(2), ..way(&shared) };
    let mut journal = Journal::open(Some(Arc::new(slow))).await;
    let began = Instant::now();
    for n in 0..100 {
        journal.know(&[id(n)].into(), &HashSet::new()).await;
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(journal.trouble().unwrap().contains("too slow"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    journal.know(&[id(1)].into(), &HashSet::new()).await;
    assert!(began.elapsed() > Duration::from_secs(63), "it is tried again");
}

#[tokio::test]
async fn where_there_is_little_room_the_plans_last_steps_are_left_out_and_members_are_not() {
    let shared = Arc::new(Shared::default());
    let small = Way { limit: 2000, ..way(&shared) };
    let mut journal = Journal::open(Some(Arc::new(small))).await;
    journal.know(&(0..10).map(id).collect(), &HashSet::new()).await;
    journal.begin((0..500).map(|n| (format!("let a meet {n}"), "address-changed"))).await;
    assert_eq!(journal.trouble(), None);
    let text = shared.0.lock().unwrap().1.clone().unwrap();
    assert!(text.len() <= 2000 && text.contains("let a meet 0"), "{text}");
    journal.know(&(0..100).map(id).collect(), &HashSet::new()).await;
    assert!(journal.trouble().unwrap().contains("more than 2000"), "{:?}", journal.trouble());
}
