//! A trial is told in chapters: clients begin, faults strike, all comes to rest, every write is accounted for.
//!
//! Each chapter has keys of its own; those of the one before must come through it unchanged.

use super::client::{Client, request};
use super::fault::{Fault, Harm, Striker};
use super::history::{Held, History, Key, Kind};
use super::verdict::{Verdict, judge};
use super::world::{Setup, World, wait_until};
use super::writers::Writers;
use anyhow::{Context as _, Result, ensure};
use slotgate::topology::Slot;
use std::fmt::Write;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Two for each of three shards, about.
const PLACES: usize = 6;
const CLIENTS: u32 = 8;
/// Replies between one fault and the next.
const BREATH: u64 = 300;
/// Keys that nobody writes, for each place: they keep its slot open for a while when it moves.
const BALLAST: usize = 2000;
/// How much of a key's story is written down when something is wrong with it.
const TOLD: usize = 20_000;

/// A cluster on trial.
pub struct Trial {
    world: World,
    seed: u64,
    random: fastrand::Rng,
    /// Hash tags, and the slots they stand for.
    places: Vec<(String, Slot)>,
    chapters: usize,
    /// What the last chapter left.
    left: Option<(Vec<Key>, Vec<Held>)>,
}

/// What came of a chapter.
pub struct Account {
    pub chapter: usize,
    pub faults: Vec<Fault>,
    pub took: Duration,
    pub verdict: Verdict,
    /// Promises that were broken.
    pub broken: Vec<String>,
    /// The nodes took one another for lost, and no fault made them: the machine was too busy to say more.
    pub is_unsure: bool,
}

impl Account {
    /// In one line.
    pub fn line(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        let mut line =
            format!("{}. {} ({:.0?}): {}", self.chapter, faults.join("; "), self.took, self.verdict);
        if self.is_unsure {
            line.push_str("; nodes took one another for lost: the machine is too busy");
        }
        for broken in &self.broken {
            // Infallible, into a string.
            let _ = write!(line, "\n     BROKEN: {broken}");
        }
        line
    }
}

impl Trial {
    pub fn start(setup: Setup, seed: u64) -> Result<Trial> {
        let mut random = fastrand::Rng::with_seed(seed);
        let tags = (0..PLACES).map(|third| {
            // Evenly over the slots, so that every shard has its share.
            let width = 16384 / PLACES;
            let mut tags = std::iter::repeat_with(|| format!("{:06x}", random.u32(..1 << 24)));
            let is_there = |tag: &String| usize::from(Slot::of_key(tag.as_bytes()).number()) / width == third;
            let tag = tags.find(is_there).unwrap_or_default();
            let slot = Slot::of_key(tag.as_bytes());
            (tag, slot)
        });
        let places = tags.collect();
        let world = World::start(setup)?;
        let trial = Trial { world, seed, random, places, chapters: 0, left: None };
        ensure!(trial.for_ballast("SET", "+OK\r\n")? == 0, "the keys could not be written");
        Ok(trial)
    }

    /// Asks this about each key that nobody writes; how many replies were others than expected.
    fn for_ballast(&self, command: &str, expected: &str) -> Result<usize> {
        let mut client = self.client()?;
        let mut others = 0;
        for (tag, _) in &self.places {
            let keys: Vec<String> =
                (0..BALLAST).map(|number| format!("{{{tag}}}:ballast:{number}")).collect();
            let words = |key| if command == "SET" { vec![command, key, "x"] } else { vec![command, key] };
            let requests: Vec<u8> = keys.iter().flat_map(|key| request(&words(key))).collect();
            client.stream().write_all(&requests)?;
            for _ in &keys {
                others += usize::from(client.try_read()? != expected.as_bytes());
            }
        }
        Ok(others)
    }

    /// Tells one chapter: each fault in turn, while clients are at work.
    pub fn tell(&mut self, faults: &[Fault]) -> Result<Account> {
        self.chapters += 1;
        let begun = Instant::now();
        let keys = self.keys();
        self.world.wait_until_whole()?;
        let losses = self.world.losses_noticed();
        let writers = Writers::start(self.world.gateways(), &keys, CLIENTS, self.seed ^ self.chapters as u64);
        let slots: Vec<Slot> = self.places.iter().map(|(_, slot)| *slot).collect();
        let mut striker = Striker {
            world: &mut self.world,
            writers: &writers,
            places: &slots,
            random: &mut self.random,
            disruptions: Vec::new(),
        };
        let mut struck = breathe(&writers);
        for fault in faults {
            struck = struck
                .and_then(|()| striker.strike(*fault).with_context(|| format!("{fault}")))
                .and_then(|()| striker.world.check_gateways())
                .and_then(|()| breathe(&writers));
        }
        let disruptions = std::mem::take(&mut striker.disruptions);
        let ops = writers.stop();
        let harm = faults.iter().map(|fault| fault.harm()).max().unwrap_or(Harm::None);
        let is_unsure = harm < Harm::Errors && self.world.losses_noticed() > losses;
        let held = struck.and_then(|()| self.world.wait_until_whole()).and_then(|()| self.read(&keys));
        let held = match held {
            Ok(held) => held,
            Err(error) => {
                let dir = self.keep(&History { keys, ops, held: Vec::new(), disruptions }, &[])?;
                return Err(error.context(format!("seed {}, logs in {}", self.seed, dir.display())));
            }
        };
        let history = History { keys, ops, held, disruptions };
        let verdict = judge(&history);
        let mut broken = self.broken(&verdict, harm);
        broken.extend(self.check_left()?);
        let lost = self.for_ballast("GET", "$1\r\nx\r\n")?;
        broken.extend((lost > 0).then(|| format!("{lost} keys that nobody writes are gone")));
        if !broken.is_empty() {
            let mut hurt: Vec<usize> = verdict.findings.iter().map(|finding| finding.key).collect();
            hurt.dedup();
            let dir = self.keep(&history, &hurt)?;
            broken.push(format!("seed {}, histories and logs in {}", self.seed, dir.display()));
        }
        self.left = Some((history.keys, history.held));
        let (chapter, took) = (self.chapters, begun.elapsed());
        Ok(Account { chapter, faults: faults.to_vec(), took, verdict, broken, is_unsure })
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        for (place, (tag, _)) in self.places.iter().enumerate() {
            for (kind, word) in [(Kind::Counter, "counter"), (Kind::List, "list"), (Kind::Text, "text")] {
                keys.push(Key { name: format!("{{{tag}}}:{}:{word}", self.chapters), kind, place });
            }
        }
        for client in 0..CLIENTS as usize {
            let place = client % self.places.len();
            let name = format!("{{{}}}:{}:{client}:register", self.places[place].0, self.chapters);
            keys.push(Key { name, kind: Kind::Register, place });
        }
        keys
    }

    fn broken(&self, verdict: &Verdict, harm: Harm) -> Vec<String> {
        let mut broken = Vec::new();
        let errors = verdict.refused + verdict.unknown;
        if harm < Harm::Errors && errors > 0 {
            broken.push(format!("{errors} clients' requests ended in errors"));
        }
        if harm < Harm::Cut && verdict.cut > 0 {
            broken.push(format!("{} requests were cut off", verdict.cut));
        }
        for finding in verdict.findings.iter().take(10) {
            broken.push(format!("key {}: {:?}: {}", finding.key, finding.wrong, finding.text));
        }
        broken
    }

    /// Looks that what the last chapter left is still there, and takes it away.
    fn check_left(&mut self) -> Result<Vec<String>> {
        let Some((keys, held)) = self.left.take() else { return Ok(Vec::new()) };
        let now = self.read(&keys)?;
        let changed = keys.iter().zip(held.iter().zip(&now)).filter(|(_, (was, is))| was != is);
        let changed = changed.map(|(key, _)| format!("{} was changed by nobody", key.name)).collect();
        let mut client = self.client()?;
        for key in &keys {
            client.try_call(&["UNLINK", &key.name])?;
        }
        Ok(changed)
    }

    fn client(&self) -> Result<Client> {
        let gateway = self.world.gateways()[0];
        Client::try_connect(gateway).with_context(|| format!("gateway {gateway} takes no connection"))
    }

    /// What the keys hold, read through a gateway.
    fn read(&self, keys: &[Key]) -> Result<Vec<Held>> {
        let mut held = Vec::new();
        wait_until("all keys can be read", || {
            let mut client = self.client()?;
            let read = keys.iter().map(|key| read(&mut client, key));
            held = read.collect::<Result<Vec<Held>>>()?;
            Ok(true)
        })?;
        Ok(held)
    }

    /// Writes down what helps to understand: all that was asked of the keys that are wrong, and the logs.
    fn keep(&self, history: &History, hurt: &[usize]) -> Result<PathBuf> {
        let dir = std::env::temp_dir().join(format!("slotgate-torture-{}-{}", self.seed, self.chapters));
        fs::create_dir_all(&dir)?;
        self.world.keep_logs(&dir)?;
        let mut text = format!("{:#?}\n", history.disruptions);
        for key in hurt.iter().take(8) {
            let _ = writeln!(text, "key {key}: {:?}", history.keys[*key]);
            let held = format!("{:?}", history.held[*key]);
            let _ = writeln!(text, "holds {held}");
            let mut ops: Vec<_> = history.ops.iter().filter(|op| op.key == *key).collect();
            ops.sort_by_key(|op| op.ended);
            for op in ops.iter().take(TOLD) {
                let _ = writeln!(
                    text,
                    "{:.6} {:.6} {}/{} {:?} {:?}",
                    op.sent.as_secs_f64(),
                    op.ended.as_secs_f64(),
                    op.value,
                    op.session,
                    op.deed,
                    op.outcome
                );
            }
        }
        fs::write(dir.join("history.txt"), text)?;
        Ok(dir)
    }
}

/// Waits until clients have got on.
fn breathe(writers: &Writers) -> Result<()> {
    let now = writers.replies();
    wait_until("the clients go on", || Ok(writers.replies() >= now + BREATH))
}

fn read(client: &mut Client, key: &Key) -> Result<Held> {
    let words: &[&str] = match key.kind {
        Kind::List => &["LRANGE", &key.name, "0", "-1"],
        _ => &["GET", &key.name],
    };
    let reply = client.try_call(words)?;
    let text = String::from_utf8_lossy(&reply);
    ensure!(!text.starts_with('-'), "{}: {text}", key.name);
    // Every other line is a size; values hold no line ends.
    let mut bodies = text.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with(['$', '*']));
    let held = match key.kind {
        Kind::Counter => {
            bodies.next().map_or(Ok(0), str::parse).map(Held::Number).map_err(|error| error.to_string())
        }
        Kind::List => bodies.map(str::parse).collect::<Result<_, String>>().map(Held::Values),
        Kind::Text => {
            let values = bodies.next().unwrap_or_default().split_terminator(';').map(str::parse);
            values.collect::<Result<_, String>>().map(Held::Values)
        }
        Kind::Register => bodies.next().map(str::parse).transpose().map(Held::One),
    };
    Ok(held.unwrap_or_else(Held::Strange))
}
