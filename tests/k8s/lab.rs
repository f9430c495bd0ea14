//! The Kubernetes at hand, and one scenario's namespace on it: installing, looking, waiting.

use crate::faults::{Hanging, Machines};
use crate::kubectl::Kubectl;
use crate::objects;
use crate::words::say;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub const REDIS: &str = "app=redis,appCluster=redis-cluster";
pub const GATEWAYS: &str = "app=slotgate";
/// The image of helping pods, which has a shell and redis-cli; every machine has it for the nodes.
pub const TOOLS: &str = "redis:7.0";
/// The tutorial's storage class. Without it the default one is taken.
const STORAGE_CLASS: &str = "managed-nfs-storage";
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What there is: machines, images, tools for faults.
pub struct Site {
    pub machines: Vec<(String, IpAddr)>,
    pub faults: Option<Machines>,
    pub api_pid: Option<i32>,
    image: String,
    has_class: bool,
}

impl Site {
    /// # Errors
    /// kubectl is missing, or there is no cluster.
    pub fn find() -> Result<Site> {
        let kubectl = Kubectl::of("default");
        let nodes = kubectl.get(&["nodes"]).context("no Kubernetes: set KUBECONFIG as for kubectl")?;
        let machine = |node: &Value| {
            let addresses = node["status"]["addresses"].as_array()?;
            let own = addresses.iter().find(|address| address["type"] == "InternalIP")?;
            let is_usable = node["spec"]["taints"].as_array().is_none_or(|taints| taints.is_empty());
            let name = node["metadata"]["name"].as_str()?.to_string();
            is_usable.then_some((name, own["address"].as_str()?.parse().ok()?))
        };
        let machines: Vec<_> = nodes["items"].as_array().into_iter().flatten().filter_map(machine).collect();
        ensure!(!machines.is_empty(), "no machine takes pods: kubectl get nodes");
        let image = std::env::var("SLOTGATE_TEST_IMAGE").unwrap_or_else(|_| "slotgate:dev".into());
        let has_class = kubectl.get(&["storageclass", STORAGE_CLASS]).is_ok();
        let names: Vec<&str> = machines.iter().map(|(name, _)| name.as_str()).collect();
        say(&format!("{} on machines {}", image, names.join(" ")));
        let (faults, api_pid) = (Machines::configured(), Hanging::pid());
        Ok(Site { machines, faults, api_pid, image, has_class })
    }
}

/// A node's pod, or a gateway's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub machine: String,
    pub address: String,
    /// Of its first container, without the runtime's name.
    pub container: String,
    pub is_running: bool,
    pub is_ready: bool,
    pub is_leaving: bool,
}

/// A node as the cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    pub pod: String,
    pub id: String,
    pub is_primary: bool,
    pub has_slots: bool,
    pub keys: u64,
}

/// The cluster at one moment.
pub struct Look {
    pub members: Vec<Member>,
    /// Why it is not whole, if it is not.
    pub trouble: Option<String>,
}

/// One scenario's namespace.
pub struct Lab<'a> {
    pub site: &'a Site,
    pub namespace: String,
    pub kubectl: Kubectl,
    keep: bool,
}

impl Lab<'_> {
    pub fn create<'a>(site: &'a Site, scenario: &str, keep: bool) -> Result<Lab<'a>> {
        let namespace = format!("slotgate-test-{scenario}-{:04x}", fastrand::u16(..));
        let kubectl = Kubectl::of(&namespace);
        for name in [namespace.clone(), tools(&namespace)] {
            let metadata = json!({ "name": name, "labels": { objects::OWNER: namespace } });
            kubectl.apply(&[json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })])?;
        }
        Ok(Lab { site, namespace, kubectl, keep })
    }

    /// `kubectl apply -k deploy/`, or an overlay.
    pub fn apply(&self, folder: &str) -> Result<()> {
        self.kubectl.apply(&objects::render(folder, &self.namespace, &self.site.image)?)
    }

    /// Everything, until it is whole.
    pub fn install(&self) -> Result<()> {
        say("  installing");
        self.apply(self.whole())?;
        self.wait_until_whole(6).map(drop)
    }

    /// The folder of deploy/ with everything in it.
    pub fn whole(&self) -> &'static str {
        if self.site.has_class { "" } else { "overlays/local" }
    }

    /// The namespace for pods that need more than a restricted one may have.
    pub fn tools(&self) -> String {
        tools(&self.namespace)
    }

    /// The clients' way in, at each machine.
    pub fn doors(&self) -> Result<Vec<SocketAddr>> {
        let service = self.kubectl.get(&["service", "redis-client"])?;
        let port =
            service["spec"]["ports"][0]["nodePort"].as_u64().context("redis-client has no NodePort")?;
        Ok(self.site.machines.iter().map(|(_, ip)| SocketAddr::new(*ip, port as u16)).collect())
    }

    /// All but those of one machine.
    pub fn doors_without(&self, machine: &str) -> Result<Vec<SocketAddr>> {
        let lost = self.site.machines.iter().find(|(name, _)| name == machine).map(|(_, ip)| *ip);
        Ok(self.doors()?.into_iter().filter(|door| Some(door.ip()) != lost).collect())
    }

    pub fn pods(&self, selector: &str) -> Result<Vec<Pod>> {
        Ok(self.kubectl.list("pods", selector)?.iter().map(pod).collect())
    }

    /// slotgate's own commands, in the pod of any gateway that lets us.
    pub fn slotgate(&self, words: &[&str]) -> Result<String> {
        let mut gateways = self.pods(GATEWAYS)?;
        gateways.retain(|pod| pod.is_running && !pod.is_leaving);
        gateways.sort_by_key(|pod| !pod.is_ready);
        let mut last = anyhow::anyhow!("no gateway runs");
        for gateway in gateways {
            let command = [&["exec", &gateway.name, "--", "/slotgate"], words].concat();
            let output = self.kubectl.output(&command, "")?;
            // 1: something is wrong, and it says what.
            let out = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() || out.trim_start().starts_with('{') {
                return Ok(out);
            }
            last = anyhow::anyhow!("{}: {}", gateway.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Err(last)
    }

    /// What the nodes say of the cluster now, and whether all their pods are ready.
    pub fn look(&self) -> Result<Look> {
        let text = self.slotgate(&["status", "redis-svc:6379", "--output=json"])?;
        let status: Value =
            serde_json::from_str(&text).with_context(|| format!("slotgate status: {text}"))?;
        let pods = self.pods(REDIS)?;
        let mut members = Vec::new();
        for shard in status["shards"].as_array().into_iter().flatten() {
            let all = shard["members"].as_array().into_iter().flatten();
            members.extend(all.map(|told| member(shard, told, &pods)));
        }
        members.sort();
        let away = pods.iter().find(|pod| !pod.is_ready || pod.is_leaving);
        let trouble = match (status["healthy"] == true, away) {
            (false, _) => Some(status["verdict"].as_str().unwrap_or("no verdict").to_string()),
            (true, Some(pod)) => Some(format!("{} is not ready", pod.name)),
            (true, None) => None,
        };
        Ok(Look { members, trouble })
    }

    /// Waits until so many nodes are in the cluster, healthy, and all pods ready.
    pub fn wait_until_whole(&self, nodes: usize) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        self.wait_for("the cluster is whole", Duration::from_secs(300), || {
            let look = self.look().map_err(|error| format!("{error:#}"))?;
            members = look.members;
            let is_placed = |member: &Member| member.has_slots && !member.pod.is_empty();
            match look.trouble {
                Some(trouble) => Err(trouble),
                None if members.len() == nodes && members.iter().all(is_placed) => Ok(()),
                None => Err(format!("{} of {nodes} nodes", members.len())),
            }
        })?;
        Ok(members)
    }

    /// Looks again and again, and tells every half minute what it waits for.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<(), String>,
    ) -> Result<Duration> {
        let (began, mut told) = (Instant::now(), Instant::now());
        loop {
            let Err(why) = look() else { return Ok(began.elapsed()) };
            if began.elapsed() > limit {
                bail!("waited {} s until {what}: {why}", limit.as_secs());
            }
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                say(&format!("  still waiting until {what}: {why}"));
            }
            sleep(LOOK_EVERY);
        }
    }

    /// Waits until no pod of before is there any more and as many others run.
    pub fn wait_until_replaced(&self, selector: &str, before: &[Pod]) -> Result<Instant> {
        self.wait_for("the new pods run", Duration::from_secs(300), || {
            let now = self.pods(selector).map_err(|error| format!("{error:#}"))?;
            let is_old = |pod: &Pod| before.iter().any(|old| old.uid == pod.uid);
            match now.iter().find(|pod| is_old(pod) || !pod.is_running) {
                Some(pod) => Err(format!("{} is not there yet", pod.name)),
                None if now.len() < before.len() => Err(format!("{} of {} pods", now.len(), before.len())),
                None => Ok(()),
            }
        })?;
        Ok(Instant::now())
    }

    /// The gateway's pod that acts, and the Lease's record of it.
    pub fn leader(&self) -> Result<(Pod, String)> {
        let lease = self.kubectl.get(&["lease", "slotgate-redis"])?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_string();
        let pods = self.pods(GATEWAYS)?;
        let pod = pods.into_iter().find(|pod| holder.starts_with(&format!("{}_", pod.name)));
        Ok((pod.with_context(|| format!("nobody leads: the Lease's holder is {holder:?}"))?, holder))
    }

    /// Where the trouble may be read off, for people.
    pub fn show_what_happened(&self) {
        let show = |title: &str, words: &[&str]| {
            eprintln!("--- {title}");
            let output = self.kubectl.output(words, "");
            match output {
                Ok(output) => eprint!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                ),
                Err(error) => eprintln!("{error:#}"),
            }
        };
        eprintln!("=== what happened in {}", self.namespace);
        show("pods", &["get", "pods", "--output=wide"]);
        show("events", &["get", "events", "--sort-by=.metadata.creationTimestamp"]);
        show(
            "status",
            &[
                "get",
                "configmap",
                "slotgate-status",
                "--output=jsonpath={.data.summary}{.data.nodes}{.data.problems}",
            ],
        );
        for (selector, lines) in [(GATEWAYS, "--tail=-1"), (REDIS, "--tail=60")] {
            for pod in self.pods(selector).unwrap_or_default() {
                show(&format!("log of {}", pod.name), &["logs", lines, &pod.name]);
                if self
                    .kubectl
                    .output(&["logs", "--previous", "--tail=1", &pod.name], "")
                    .is_ok_and(|o| o.status.success())
                {
                    show(&format!("log of {} before", pod.name), &["logs", "--previous", lines, &pod.name]);
                }
            }
        }
        eprintln!("=== end of {}", self.namespace);
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        if self.keep {
            return say(&format!("  kept: namespaces {} and {}", self.namespace, self.tools()));
        }
        let words = ["delete", "namespace", "--wait=false", &self.namespace, &self.tools()];
        if let Err(error) = self.kubectl.run(&words) {
            say(&format!("  {} IS STILL THERE: {error:#}", self.namespace));
        }
    }
}

fn tools(namespace: &str) -> String {
    format!("{namespace}-tools")
}

/// One of the members of a shard that `slotgate status` tells of.
fn member(shard: &Value, told: &Value, pods: &[Pod]) -> Member {
    let address = told["address"].as_str().unwrap_or_default();
    let ip = address.rsplit_once(':').map_or(address, |(ip, _)| ip);
    let pod = pods.iter().find(|pod| pod.address == ip).map(|pod| pod.name.clone());
    Member {
        pod: pod.unwrap_or_default(),
        id: told["id"].as_str().unwrap_or_default().into(),
        is_primary: told["role"] == "primary",
        has_slots: shard["slot_count"].as_u64() > Some(0),
        keys: told["keys"].as_u64().unwrap_or_default(),
    }
}

fn pod(object: &Value) -> Pod {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let status = &object["status"];
    let condition = |kind: &str| {
        let mut all = status["conditions"].as_array().into_iter().flatten();
        all.any(|condition| condition["type"] == kind && condition["status"] == "True")
    };
    let container = &status["containerStatuses"][0];
    let id = text(&container["containerID"]);
    Pod {
        name: text(&object["metadata"]["name"]),
        uid: text(&object["metadata"]["uid"]),
        machine: text(&object["spec"]["nodeName"]),
        address: text(&status["podIP"]),
        container: id.rsplit('/').next().unwrap_or_default().into(),
        is_running: container["state"]["running"].is_object(),
        is_ready: condition("Ready"),
        is_leaving: object["metadata"]["deletionTimestamp"].is_string(),
    }
}
