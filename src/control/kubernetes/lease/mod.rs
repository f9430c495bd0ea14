//! The Lease: one of several gateways leads. Asks and writes as `rules` say, and tells who leads.
//!
//! A Lease keeps nobody's hand from a node: whoever acts asks [`Leadership`](crate::control::leadership)
//! before each step. Whatever fails here is tried again; without the API server nobody leads, and everybody
//! goes on serving.

mod rules;

pub use rules::Timing;

use super::{KubernetesError, Place};
use crate::control::leadership::{Term, Terms};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use rules::{Candidate, Found, Record, Step};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The resource, in RBAC's word.
const LEASE: &str = "leases";
/// How much longer pauses are at random, so that candidates do not all try at the same moment (client-go's
/// `JitterFactor`).
const JITTER: f64 = 0.2;
/// Giving it back must not hold up the process's end; who cannot is waited out.
const RELEASE_LIMIT: Duration = Duration::from_millis(1500);

/// Which Lease, and who asks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// All gateways of one StatefulSet must name the same.
    pub name: String,
    /// No other's, not even that of an earlier life.
    pub identity: String,
    pub timing: Timing,
}

impl Config {
    /// This process's own; `name` is `slotgate-` and the StatefulSet's when none is given.
    pub fn own(name: Option<String>, stateful_set: &str) -> Config {
        // In a pod it is the pod's name.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let identity = format!("{}_{:08x}", host.trim(), fastrand::u32(..));
        let name = name.unwrap_or_else(|| format!("slotgate-{stateful_set}"));
        Config { name, identity, timing: Timing::default() }
    }
}

/// Is a candidate until `cancelled` completes, and then gives back what it holds: by then nothing of what a
/// leader does may be under way any more.
pub async fn run(place: Place, config: Config, terms: Arc<Terms>, cancelled: impl Future<Output = ()>) {
    let candidate = Candidate::new(config.identity.clone(), config.timing);
    let leases = Api::namespaced(place.client.clone(), &place.namespace);
    let mut election = Election { place, config, leases, candidate, last: None, terms };
    tokio::select! {
        () = cancelled => {}
        () = election.run() => {}
    }
    if timeout(RELEASE_LIMIT, election.release()).await.is_err() {
        tracing::warn!(
            reason = "lease",
            "could not give the lease back in time; the next leader waits for its end"
        );
    }
}

struct Election {
    place: Place,
    config: Config,
    leases: Api<Lease>,
    candidate: Candidate,
    /// The object as it was seen last.
    last: Option<Lease>,
    terms: Arc<Terms>,
}

/// What came of a request.
enum Failed {
    /// Somebody else wrote first.
    Overtaken,
    Error(KubernetesError),
}

impl Election {
    async fn run(&mut self) {
        loop {
            let tried = self.attempt().await;
            self.tell();
            match tried {
                // A look is followed by what it leads to.
                Ok(true) => continue,
                Ok(false) | Err(Failed::Overtaken) => self.terms.went(None),
                Err(Failed::Error(error)) => self.terms.went(Some(error.to_string())),
            }
            let leads = self.candidate.leads_until().is_some();
            let jitter = if leads { 0.0 } else { fastrand::f64() * JITTER };
            sleep(self.config.timing.retry.mul_f64(1.0 + jitter)).await;
            self.candidate.rested(now());
        }
    }

    /// One request, if there is one to make; whether the next step is due at once.
    async fn attempt(&mut self) -> Result<bool, Failed> {
        let sent = now();
        match self.candidate.step(sent) {
            Step::Look => {
                let looked = self.look().await;
                if looked.is_err() {
                    self.candidate.failed();
                }
                self.last = looked?;
                self.candidate.saw(self.last.as_ref().map(found), now());
                Ok(true)
            }
            Step::Write(record, version) => {
                let written = self.write(record, version).await;
                if written.is_err() {
                    self.candidate.failed();
                }
                let lease = written?;
                self.candidate.wrote(found(&lease), sent, now());
                self.last = Some(lease);
                Ok(false)
            }
            Step::Rest => Ok(false),
        }
    }

    async fn look(&self) -> Result<Option<Lease>, Failed> {
        self.limited("get", self.leases.get_opt(&self.config.name)).await
    }

    async fn write(&self, record: Record, version: Option<String>) -> Result<Lease, Failed> {
        let post = PostParams::default();
        let lease = self.lease(record, version.clone());
        match version {
            None => self.limited("create", self.leases.create(&post, &lease)).await,
            Some(_) => self.limited("update", self.leases.replace(&self.config.name, &post, &lease)).await,
        }
    }

    /// The object that says this, in place of the version. Its times are for people; nobody counts with them.
    fn lease(&self, record: Record, version: Option<String>) -> Lease {
        let mut lease = self.last.clone().filter(|_| version.is_some()).unwrap_or_default();
        lease.metadata.name = Some(self.config.name.clone());
        lease.metadata.resource_version = version;
        let before = lease.spec.unwrap_or_default();
        let time = Some(MicroTime(Timestamp::now()));
        let is_same = before.holder_identity.as_ref() == Some(&record.holder);
        lease.spec = Some(LeaseSpec {
            acquire_time: if is_same { before.acquire_time.clone() } else { time.clone() },
            renew_time: time,
            holder_identity: Some(record.holder),
            lease_duration_seconds: i32::try_from(record.duration.as_secs_f64().ceil() as u64).ok(),
            lease_transitions: i32::try_from(record.transitions).ok(),
            ..before
        });
        lease
    }

    /// Half of the deadline for one answer, so that there is time for another try.
    async fn limited<T>(
        &self,
        verb: &'static str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failed> {
        match timeout(self.config.timing.renew_deadline / 2, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Failed::Overtaken),
            // It was deleted meanwhile.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 && verb == "update" => {
                Err(Failed::Overtaken)
            }
            Ok(Err(error)) => Err(Failed::Error(KubernetesError::of(&error, verb, LEASE))),
            Err(_) => {
                let message = "it does not answer in time".to_string();
                Err(Failed::Error(KubernetesError::Unreachable { verb, resource: LEASE, message }))
            }
        }
    }

    /// Tells who leads.
    fn tell(&self) {
        let term = Term {
            number: self.candidate.term(),
            until: self.candidate.leads_until().map(Instant::from_std),
        };
        let record = self.candidate.record();
        let holder = record.map(|record| record.holder.clone()).unwrap_or_default();
        self.terms.tell(term, &holder, record.map_or(0, |record| record.transitions));
    }

    /// Leads no more, and lets others know so.
    async fn release(&mut self) {
        let given_up = self.candidate.give_up();
        self.tell();
        let Some((record, version)) = given_up else { return };
        let mut released = self.write(record, Some(version)).await;
        if let Err(Failed::Overtaken) = released {
            // A write of our own may have come through without our knowing.
            let Ok(lease) = self.look().await else { return };
            self.last = lease;
            self.candidate.saw(self.last.as_ref().map(found), now());
            let Some((record, version)) = self.candidate.give_up() else { return };
            released = self.write(record, Some(version)).await;
        }
        match released {
            Ok(_) => tracing::info!(reason = "lease", lease = self.config.name, "gave the lease back"),
            Err(_) => tracing::warn!(
                reason = "lease",
                place = ?self.place,
                "could not give the lease back; the next leader waits for its end"
            ),
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// What the object says. What somebody wrote by hand is never a reason to wait less than the rules do.
fn found(lease: &Lease) -> Found {
    let empty = LeaseSpec::default();
    let spec = lease.spec.as_ref().unwrap_or(&empty);
    let count = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    Found {
        record: Record {
            holder: spec.holder_identity.clone().unwrap_or_default(),
            duration: Duration::from_secs(count(spec.lease_duration_seconds).into()),
            transitions: count(spec.lease_transitions),
        },
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
