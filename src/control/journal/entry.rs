//! Entry: what a journal says, and its text. Pure but for the clock and the own name.

use crate::topology::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

const VERSION: u32 = 1;

/// What it says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    version: u32,
    /// Host and process id of the manager.
    pub(super) by: String,
    #[serde(with = "ids")]
    pub(super) members: BTreeSet<NodeId>,
    /// Those of them that wait for their role.
    #[serde(with = "ids")]
    pub(super) newcomers: BTreeSet<NodeId>,
    /// Which pod each was last seen in.
    #[serde(with = "by_id", default)]
    pub(super) homes: BTreeMap<NodeId, Home>,
    pub(super) work: Option<Work>,
}

/// The pod that a node was last seen in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Home {
    /// The pod's name.
    pub pod: String,
    /// Another one for each life of a pod of this name.
    pub uid: String,
}

/// A plan that is being carried out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Work {
    /// Seconds since 1970.
    since: u64,
    steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Step {
    action: String,
    reason: String,
    /// `done`, `already-done` or `failed`, once it was tried.
    result: Option<String>,
}

impl Default for Entry {
    fn default() -> Entry {
        Entry {
            version: VERSION,
            by: String::new(),
            members: BTreeSet::new(),
            newcomers: BTreeSet::new(),
            homes: BTreeMap::new(),
            work: None,
        }
    }
}

impl Entry {
    /// # Errors
    /// Why the text is none.
    pub(super) fn parse(text: &str) -> Result<Entry, String> {
        let entry: Entry = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match entry.version {
            VERSION => Ok(entry),
            other => Err(format!("its version is {other}, not {VERSION}")),
        }
    }

    /// As this process writes it: without the plan's last steps where there is no room for them.
    pub(super) fn text(&self, limit: usize) -> String {
        let mut entry = Entry { by: own_name(), ..self.clone() };
        loop {
            let text = serde_json::to_string_pretty(&entry).unwrap_or_default() + "\n";
            match &mut entry.work {
                Some(work) if text.len() > limit && !work.steps.is_empty() => {
                    work.steps.truncate(work.steps.len() / 2);
                }
                _ => return text,
            }
        }
    }
}

impl Work {
    pub(super) fn new(steps: impl Iterator<Item = (String, &'static str)>) -> Work {
        let step = |(action, reason): (String, &str)| Step { action, reason: reason.into(), result: None };
        Work { since: seconds_since_1970(), steps: steps.map(step).collect() }
    }

    /// Notes what the step came to; whether there is such a step.
    pub(super) fn tried(&mut self, place: usize, result: &str) -> bool {
        let step = self.steps.get_mut(place);
        step.map(|step| step.result = Some(result.into())).is_some()
    }

    /// For people: since when, how far, and what came next.
    pub(super) fn words(&self, by: &str) -> String {
        let tried = self.steps.iter().filter(|step| step.result.is_some()).count();
        let ago = seconds_since_1970().saturating_sub(self.since);
        let next = self.steps.get(tried).map(|step| format!(", before or in: {}", step.action));
        format!(
            "{by} was ended while it carried out a plan, begun {ago} s ago, {tried} of {} steps tried{}; going on from \
             what the nodes say",
            self.steps.len(),
            next.unwrap_or_default()
        )
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn own_name() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

/// Node ids as texts.
mod ids {
    use crate::topology::NodeId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use std::collections::BTreeSet;

    pub(super) fn serialize<S: Serializer>(ids: &BTreeSet<NodeId>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ids.iter().map(NodeId::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<NodeId>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// Homes by node ids as texts.
mod by_id {
    use super::Home;
    use crate::topology::NodeId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use std::collections::BTreeMap;

    pub(super) fn serialize<S: Serializer>(
        homes: &BTreeMap<NodeId, Home>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(homes.iter().map(|(id, home)| (id.as_str(), home)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<NodeId, Home>, D::Error> {
        let by_text = BTreeMap::<String, Home>::deserialize(from)?;
        let parsed = by_text.into_iter().map(|(id, home)| Ok((id.parse().map_err(D::Error::custom)?, home)));
        parsed.collect()
    }
}
