//! The fake API server's objects, their versions and what changed: what a watch is told of.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of which resource, in which namespace (empty for those without), with which name.
pub type Place = (String, String, String);

/// One change of one object.
struct Change {
    version: u64,
    place: Place,
    before: Option<Value>,
    after: Option<Value>,
}

/// Which objects of one resource are meant.
#[derive(Clone, Default, Debug)]
pub struct Selection {
    pub resource: String,
    /// Empty: in all namespaces.
    pub namespace: String,
    /// `metadata.name=…` is understood, nothing else.
    pub fields: String,
    /// `name=value` and `name`, separated by commas.
    pub labels: String,
}

#[derive(Default)]
pub struct Store {
    objects: BTreeMap<Place, Value>,
    changes: Vec<Change>,
    version: u64,
    /// Changes up to this one are not told of any more.
    forgotten: u64,
}

impl Store {
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether a watch that knows everything up to `version` can go on from there.
    pub fn remembers(&self, version: u64) -> bool {
        version >= self.forgotten
    }

    /// Watches from before are told to list anew.
    pub fn forget_changes(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
    }

    pub fn get(&self, place: &Place) -> Option<&Value> {
        self.objects.get(place)
    }

    /// Keeps the object with a new version; one that is new gets a uid unless it brings one.
    pub fn put(&mut self, place: Place, mut object: Value) -> Value {
        self.version += 1;
        let meta = &mut object["metadata"];
        meta["name"] = place.2.clone().into();
        if !place.1.is_empty() {
            meta["namespace"] = place.1.clone().into();
        }
        meta["resourceVersion"] = self.version.to_string().into();
        if meta["uid"].is_null() {
            meta["uid"] = format!("uid-{}", self.version).into();
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        // Of objects that count them: each change of what is wanted.
        let known = self.objects.get(&place);
        if let Some(known) = known.filter(|known| known["spec"] != object["spec"])
            && let Some(generation) = known["metadata"]["generation"].as_u64()
        {
            object["metadata"]["generation"] = (generation + 1).into();
        }
        let before = self.objects.insert(place.clone(), object.clone());
        self.changes.push(Change { version: self.version, place, before, after: Some(object.clone()) });
        object
    }

    pub fn remove(&mut self, place: &Place) -> Option<Value> {
        let before = self.objects.remove(place)?;
        self.version += 1;
        let change =
            Change { version: self.version, place: place.clone(), before: Some(before.clone()), after: None };
        self.changes.push(change);
        Some(before)
    }

    pub fn list(&self, selection: &Selection) -> Vec<Value> {
        let objects = self.objects.iter().filter(|(place, object)| selection.has(place, object));
        objects.map(|(_, object)| object.clone()).collect()
    }

    /// What a watch of this selection is told that knows everything up to `known`.
    pub fn events(&self, selection: &Selection, known: u64) -> Vec<Value> {
        let changes = self.changes.iter().filter(|change| change.version > known);
        changes.filter_map(|change| selection.event(change)).collect()
    }
}

impl Selection {
    fn has(&self, place: &Place, object: &Value) -> bool {
        let is_here = place.0 == self.resource && (self.namespace.is_empty() || self.namespace == place.1);
        let terms = |text: &str| -> Vec<(String, Option<String>)> {
            let terms = text.split(',').filter(|term| !term.is_empty());
            let split = terms.map(|term| match term.split_once('=') {
                Some((name, value)) => (name.to_string(), Some(value.trim_start_matches('=').to_string())),
                None => (term.to_string(), None),
            });
            split.collect()
        };
        let by_fields = terms(&self.fields).iter().all(|(name, value)| {
            assert_eq!(name, "metadata.name", "the fake API server selects by no other field");
            value.as_ref() == Some(&place.2)
        });
        let by_labels = terms(&self.labels).iter().all(|(name, value)| {
            let label = object["metadata"]["labels"][name].as_str();
            label.is_some() && value.as_deref().is_none_or(|value| label == Some(value))
        });
        is_here && by_fields && by_labels
    }

    fn event(&self, change: &Change) -> Option<Value> {
        let is_ours =
            |object: &Option<Value>| object.as_ref().is_some_and(|object| self.has(&change.place, object));
        let kind = match (is_ours(&change.before), is_ours(&change.after)) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let mut object = change.after.clone().filter(|_| kind != "DELETED").or(change.before.clone())?;
        object["metadata"]["resourceVersion"] = change.version.to_string().into();
        Some(json!({ "type": kind, "object": object }))
    }
}

/// A JSON merge patch (RFC 7386).
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(name)),
            value => merge(&mut target[name], value),
        }
    }
}
