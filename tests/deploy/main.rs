//! Is what deploy/ installs what it says? Read off the files: no Kubernetes, no kubectl, no network.
//!
//! `render` makes of a kustomization the objects that `kubectl apply -k` would send, `objects` reads them
//! strictly, and each other file asks them questions.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod gateway;
mod monitoring;
mod objects;
mod pods;
mod redis;
mod render;
