//! A Kubernetes API server that knows what slotgate asks one for, for moments that a real one rarely has:
//! unreachable, silent, slow, forbidding, busy, or without the changes that a watch missed.
//!
//! Speaks HTTP, so that kube's real client and the real gateway (by a kubeconfig) talk to it. Controllers
//! there are none: tests put pods and StatefulSets. It remembers every call, for the Role to be compared with.

mod answer;
pub mod objects;
mod store;

use axum::Router;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use store::{Selection, Store};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;

pub const NAMESPACE: &str = "tool-env";

/// A request, in RBAC's words.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Call {
    pub verb: &'static str,
    /// Empty for pods, configmaps, events.
    pub group: String,
    /// With the subresource, if there is one: `pods/eviction`.
    pub resource: String,
    /// Which object; what RBAC cannot limit by name (list, watch, create) may have none.
    pub name: Option<String>,
}

/// What goes wrong.
#[derive(Clone, Default)]
struct Faults {
    forbidden: BTreeSet<(String, String)>,
    /// Every request is answered with this HTTP status.
    code: Option<u16>,
    /// What each answer takes.
    delay: Duration,
}

struct Shared {
    store: Mutex<Store>,
    /// The store's version, to wake watches.
    version: watch::Sender<u64>,
    calls: Mutex<Vec<Call>>,
    faults: Mutex<Faults>,
    is_hanging: watch::Sender<bool>,
}

/// The running server. It ends with this.
pub struct FakeKube {
    shared: Arc<Shared>,
    addr: SocketAddr,
    runtime: Mutex<Option<Runtime>>,
    files: tempfile::TempDir,
}

impl FakeKube {
    /// One that has nothing.
    pub fn start() -> FakeKube {
        static STARTED: AtomicU16 = AtomicU16::new(0);
        // An address of its own, so that its port is still its own after it was down.
        let [high, low] = STARTED.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            version: watch::Sender::new(0),
            calls: Mutex::default(),
            faults: Mutex::default(),
            is_hanging: watch::Sender::new(false),
        });
        let (runtime, addr) = serve((Ipv4Addr::new(127, 81, high, low), 0).into(), shared.clone());
        FakeKube { shared, addr, runtime: Mutex::new(Some(runtime)), files: tempfile::tempdir().unwrap() }
    }

    /// A way to it, of a runtime in whose context this must be called.
    pub fn client(&self) -> kube::Client {
        let mut config = kube::Config::new(self.url().parse().unwrap());
        config.default_namespace = NAMESPACE.into();
        slotgate::control::kubernetes::client(config).unwrap()
    }

    /// A file for `KUBECONFIG`.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.files.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\n\
             clusters: [{{name: fake, cluster: {{server: \"{}\"}}}}]\n\
             users: [{{name: fake, user: {{}}}}]\n\
             contexts: [{{name: fake, context: {{cluster: fake, user: fake, namespace: {NAMESPACE}}}}}]\n",
            self.url()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Creates or replaces an object, as Kubernetes itself or an operator does: `resource` as in `pods`.
    pub fn put(&self, resource: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_string();
        self.store().put((resource.into(), NAMESPACE.into(), name), object);
        self.wake();
    }

    /// Changes a part of an object: a JSON merge patch.
    pub fn patch(&self, resource: &str, name: &str, patch: &Value) {
        {
            let place = (resource.into(), NAMESPACE.into(), name.into());
            let mut store = self.store();
            let mut object = store.get(&place).cloned().unwrap();
            store::merge(&mut object, patch);
            store.put(place, object);
        }
        self.wake();
    }

    pub fn remove(&self, resource: &str, name: &str) {
        self.store().remove(&(resource.into(), NAMESPACE.into(), name.into())).unwrap();
        self.wake();
    }

    pub fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.store().get(&(resource.into(), NAMESPACE.into(), name.into())).cloned()
    }

    pub fn list(&self, resource: &str) -> Vec<Value> {
        self.store().list(&Selection { resource: resource.into(), ..Selection::default() })
    }

    /// All requests so far, each once for every time.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    pub fn forget_calls(&self) {
        self.shared.calls.lock().unwrap().clear();
    }

    /// Ends all connections and refuses new ones.
    pub fn go_down(&self) {
        self.runtime.lock().unwrap().take().expect("it was up").shutdown_background();
    }

    /// Is there again, with all it knew.
    pub fn come_back(&self) {
        let (runtime, _) = serve(self.addr, self.shared.clone());
        *self.runtime.lock().unwrap() = Some(runtime);
    }

    /// Takes connections and answers nothing, watches included, while `is_hanging`; then answers all of it.
    pub fn hang(&self, is_hanging: bool) {
        self.shared.is_hanging.send_replace(is_hanging);
    }

    /// Takes a right away, as a Role without it does.
    pub fn forbid(&self, verb: &str, resource: &str) {
        self.faults().forbidden.insert((verb.into(), resource.into()));
    }

    pub fn allow(&self, verb: &str, resource: &str) {
        self.faults().forbidden.remove(&(verb.into(), resource.into()));
    }

    /// Answers every request with this HTTP status: 429 when it is busy, 500 when its store is ill. Watches go
    /// on.
    pub fn fail_with(&self, code: Option<u16>) {
        self.faults().code = code;
    }

    /// Takes so long for each answer.
    pub fn slow_down(&self, delay: Duration) {
        self.faults().delay = delay;
    }

    /// Tells every watch `410 Gone`: what it knows is too old to go on from.
    pub fn forget_changes(&self) {
        self.store().forget_changes();
        self.wake();
    }

    fn wake(&self) {
        let version = self.store().version();
        self.shared.version.send_replace(version);
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.store.lock().unwrap()
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap()
    }
}

impl Drop for FakeKube {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }
}

/// A runtime that serves there until it is shut down.
fn serve(addr: SocketAddr, shared: Arc<Shared>) -> (Runtime, SocketAddr) {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (bound, listener) = std::sync::mpsc::channel();
    // Not `block_on`: tests with a runtime of their own call this from within it.
    runtime.spawn(async move {
        let listener = loop {
            match TcpListener::bind(addr).await {
                Ok(listener) => break listener,
                // The one before it has yet to let go.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        bound.send(listener.local_addr().unwrap()).unwrap();
        let app = Router::new().fallback(answer::answer).with_state(shared);
        axum::serve(listener, app).await.unwrap();
    });
    let addr = listener.recv_timeout(super::PATIENCE).expect("the fake API server starts");
    (runtime, addr)
}
