//! A whole import: look, refuse what would not be safe, bring, follow, bring the last, compare.

use super::brought::{Brought, Label};
use super::open::{count_types, open};
use super::pass::Walk;
use super::source::{Cursor, Source};
use super::target::Target;
use super::verify::Verification;
use super::{Event, ImportError, Settings};
use crate::control::loader::{self, Loader};
use crate::control::migrate::Stop;
use crate::control::node_client::Reply;
use crate::control::observe::observe_cluster;
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the source is asked what is new once nothing waits.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often what was written during the last pass is brought, where writers do not rest.
const LAST_ROUNDS: usize = 10;
/// How many conflicts are shown.
const SHOWN: usize = 10;

/// What an import would do, or does.
#[derive(Clone, Default, Debug)]
pub struct Outlook {
    pub source_version: String,
    pub database: u32,
    /// Keys of the source, and what they take there in memory.
    pub keys: u64,
    pub bytes: u64,
    /// Of the keys that are listed first, about a thousand, how many are of which type.
    pub types: BTreeMap<String, u64>,
    /// Keys that the cluster has by now.
    pub target_keys: u64,
    /// Whether an earlier run is gone on with.
    pub is_resumed: bool,
    /// Keys that are in the cluster already with other values, and the first of them.
    pub conflicts: u64,
    pub examples: Vec<Bytes>,
}

/// How an import ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub report: loader::Report,
    pub verification: Verification,
    /// How many keys were written after the last pass had begun; they were brought, too.
    pub late: u64,
    pub took: Duration,
}

impl Outcome {
    /// Whether the cluster has all that the source has, by all that could be compared.
    pub fn is_whole(&self) -> bool {
        self.verification.differing == 0 && self.verification.changing == 0 && self.report.bad == 0
    }
}

/// An import under way.
#[derive(Debug)]
pub struct Import {
    pub outlook: Outlook,
    pub(super) settings: Settings,
    pub(super) sources: Vec<Source>,
    pub(super) target: Target,
    pub(super) loader: Loader,
    pub(super) brought: Option<Brought>,
    pub(super) is_resumed: bool,
    pub(super) functions: Option<Bytes>,
    /// Keys of streams: what consumer groups do to them is not told.
    pub(super) streams: HashSet<Bytes>,
    label: Label,
    swaps: u64,
}

impl Import {
    /// Looks at both sides. Nothing is changed.
    ///
    /// # Errors
    /// One of them cannot be read, or it would not be safe.
    pub async fn prepare(settings: Settings) -> Result<Import, ImportError> {
        let loading = loader::Settings { may_replace: true, ..settings.target.clone() };
        let (limit, patience) = (loading.limit, loading.patience);
        let view = observe_cluster(&loading.addrs, &loading.credentials, limit).await;
        let ids: Vec<String> = view.nodes.iter().map(|node| node.view.id().as_str().to_string()).collect();
        let loader = Loader::open(loading.clone()).await?;
        let mut target = Target::new(loading.credentials, limit, patience);
        let mut opened = open(&settings, &ids).await?;
        let label =
            Label { source: format!("{} database {}", settings.source_name, opened.database), cluster: ids };
        let brought = Brought::resume(&settings.state, &label)?;
        let mut types = BTreeMap::new();
        if let Some(first) = opened.sources.first_mut() {
            let (_, keys) = first.list(&Cursor::default()).await?;
            types = count_types(first, &keys).await?;
        }
        let outlook = Outlook {
            source_version: opened.version,
            database: opened.database,
            keys: opened.keys,
            bytes: opened.bytes,
            types,
            target_keys: target.count(&loader.primaries()).await?,
            is_resumed: brought.is_some(),
            conflicts: 0,
            examples: Vec::new(),
        };
        let mut import = Import {
            is_resumed: brought.is_some(),
            outlook,
            sources: opened.sources,
            target,
            loader,
            brought,
            functions: None,
            streams: HashSet::new(),
            label,
            swaps: opened.swaps,
            settings,
        };
        if !import.is_resumed && import.outlook.target_keys > 0 {
            import.find_conflicts().await?;
        }
        Ok(import)
    }

    /// Why the import must not be carried out.
    ///
    /// # Errors
    /// Keys would be replaced that are none of ours.
    pub fn check(&self) -> Result<(), ImportError> {
        if self.outlook.conflicts > 0 && !self.settings.may_replace {
            let (count, examples) = (self.outlook.conflicts, self.outlook.examples.clone());
            return Err(ImportError::Conflicts { count, examples });
        }
        Ok(())
    }

    /// Keys that both sides have with different values.
    async fn find_conflicts(&mut self) -> Result<(), ImportError> {
        let mut walk = Walk::default();
        while let Some((at, keys)) = self.next_turn(&mut walk).await? {
            let present = self.target.present(&mut self.loader, keys).await?;
            let compared = self.compare(at, present).await?;
            // Of those that cannot be compared, none may be lost.
            self.outlook.conflicts += compared.differing.len() as u64 + compared.unclear;
            let room = SHOWN.saturating_sub(self.outlook.examples.len());
            let differing = compared.differing.into_iter().map(|(key, _)| key);
            self.outlook.examples.extend(differing.take(room));
        }
        Ok(())
    }

    /// Brings everything, and goes on after a connection was lost. Notes of an import that did not end are
    /// kept for the next run.
    ///
    /// # Errors
    /// What stopped it; what was brought stays.
    pub async fn carry_out(&mut self, tell: &mut impl FnMut(Event)) -> Result<Outcome, ImportError> {
        self.check()?;
        let began = Instant::now();
        let mut broken_since: Option<Instant> = None;
        let mut paused = false;
        let ended = loop {
            let steps = self.loader.report().restored;
            match self.attempt(&mut paused, tell).await {
                Err(error) if error.is_passing() => {
                    if self.loader.report().restored > steps {
                        broken_since = None;
                    }
                    let since = *broken_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > self.settings.target.patience || self.settings.stop.is_requested() {
                        break Err(error);
                    }
                    tell(Event::Note(format!("{error}; going on as soon as it answers")));
                    sleep(LOOK_EVERY * 5).await;
                    if let Err(error) = self.reopen().await
                        && !error.is_passing()
                    {
                        break Err(error);
                    }
                }
                ended => break ended,
            }
        };
        let (verification, late) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // Nobody switches over to an import that failed: the writers may go on.
                if paused {
                    self.unpause().await;
                }
                return Err(error);
            }
        };
        let report = self.loader.report().clone();
        let outcome = Outcome { report, verification, late, took: began.elapsed() };
        if outcome.is_whole() {
            if let Some(brought) = self.brought.take() {
                brought.end()?;
            }
        } else if paused {
            self.unpause().await;
        }
        Ok(outcome)
    }

    async fn reopen(&mut self) -> Result<(), ImportError> {
        self.sources = open(&self.settings, &self.label.cluster).await?.sources;
        self.is_resumed = true;
        Ok(())
    }

    async fn attempt(
        &mut self,
        paused: &mut bool,
        tell: &mut impl FnMut(Event),
    ) -> Result<(Verification, u64), ImportError> {
        if self.settings.wants_watch {
            for source in &mut self.sources {
                source.begin_watch(&self.settings.source_credentials).await?;
            }
        }
        if self.brought.is_none() {
            self.brought = Some(Brought::begin(&self.settings.state, &self.label)?);
        }
        self.bring_functions().await?;
        let keys = self.count_keys().await;
        if self.is_resumed {
            tell(Event::Begin { what: "comparing what an earlier run brought", keys });
            self.mend_all(tell).await?;
        } else {
            tell(Event::Begin { what: "copying", keys });
            self.bring_all(tell).await?;
            // A break from here on need not begin from the start.
            self.is_resumed = true;
        }
        self.follow(tell).await?;
        self.end(paused, tell).await
    }

    /// Brings what is written until told to end. What is under way then, and the last pass, are finished.
    async fn follow(&mut self, tell: &mut impl FnMut(Event)) -> Result<(), ImportError> {
        let Some(until_idle) = self.settings.follow else { return Ok(()) };
        let stop = std::mem::take(&mut self.settings.stop);
        let followed = self.follow_until(&stop, until_idle, tell).await;
        if followed.is_err() {
            self.settings.stop = stop;
        }
        followed
    }

    async fn follow_until(
        &mut self,
        stop: &Stop,
        until_idle: Option<Duration>,
        tell: &mut impl FnMut(Event),
    ) -> Result<(), ImportError> {
        let mut last_written = Instant::now();
        while !stop.is_requested() && until_idle.is_none_or(|idle| last_written.elapsed() < idle) {
            self.mend_if_all_changed(tell).await?;
            let mut count = 0;
            for at in 0..self.sources.len() {
                self.sources[at].catch_up().await?;
                count += self.bring_written(at, tell).await?;
            }
            let waiting = self.sources.iter().map(Source::waiting).sum::<usize>() as u64;
            tell(Event::Following { waiting });
            if count > 0 {
                last_written = Instant::now();
            } else {
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// The last pass, and the comparison.
    async fn end(
        &mut self,
        paused: &mut bool,
        tell: &mut impl FnMut(Event),
    ) -> Result<(Verification, u64), ImportError> {
        // As little as possible is left for the time in which writers wait.
        for _ in 0..LAST_ROUNDS {
            self.bring_all_written(tell).await?;
            if self.sources.iter().all(|source| source.waiting() == 0) {
                break;
            }
        }
        if let Some(time) = self.settings.pause {
            self.pause(time, tell).await?;
            *paused = true;
        }
        self.bring_all_written(tell).await?;
        self.mend_if_all_changed(tell).await?;
        let streams: Vec<Bytes> = self.streams.iter().cloned().collect();
        for source in &mut self.sources {
            let ours: Vec<Bytes> = streams.iter().filter(|key| source.has_slot_of(key)).cloned().collect();
            source.add(ours);
        }
        self.bring_all_written(tell).await?;
        self.bring_functions().await?;
        tell(Event::Begin { what: "comparing", keys: self.count_keys().await });
        let verification = self.verify(tell).await?;
        let mut late = 0;
        for _ in 0..LAST_ROUNDS {
            for source in &mut self.sources {
                source.catch_up().await?;
                late += source.waiting() as u64;
            }
            if self.sources.iter().all(|source| source.waiting() == 0) {
                break;
            }
            self.bring_all_written(tell).await?;
        }
        Ok((verification, late))
    }

    /// Where keys were flushed or databases swapped, nothing says which keys changed: all are compared.
    async fn mend_if_all_changed(&mut self, tell: &mut impl FnMut(Event)) -> Result<(), ImportError> {
        let mut has_changed = false;
        let mut swaps = 0;
        for source in &mut self.sources {
            has_changed |= source.take_everything();
            swaps += source.about().await?.swaps;
        }
        has_changed |= swaps > self.swaps;
        self.swaps = swaps;
        if has_changed {
            let keys = self.count_keys().await;
            tell(Event::Begin { what: "comparing all, as the source was flushed or swapped", keys });
            self.mend_all(tell).await?;
        }
        Ok(())
    }

    async fn pause(&mut self, time: Duration, tell: &mut impl FnMut(Event)) -> Result<(), ImportError> {
        let millis = time.as_millis().to_string();
        for source in &mut self.sources {
            let paused = source.client.call(&["CLIENT", "PAUSE", &millis, "WRITE"]).await;
            paused.map_err(ImportError::Source)?;
        }
        tell(Event::Note(format!("The source takes no writes for {time:?} from now on")));
        Ok(())
    }

    async fn unpause(&mut self) {
        for source in &mut self.sources {
            // If it cannot be told, its pause ends by itself.
            let _ = source.client.call(&["CLIENT", "UNPAUSE"]).await;
        }
    }

    /// How many keys the sources have, about.
    pub(super) async fn count_keys(&mut self) -> u64 {
        let mut keys = 0;
        for source in &mut self.sources {
            if let Ok(Reply::Integer(count)) = source.client.call(&["DBSIZE"]).await {
                keys += count.max(0) as u64;
            }
        }
        keys
    }
}
