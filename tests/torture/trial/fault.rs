//! What is done to a cluster and its gateways while clients are at work.
//!
//! Data with a Display, and how each is carried out; none needs more than the rights of the one who runs it.
//! Links are cut from within: nodes end connections of clients, of replicas and of their bus when told to.

use super::history::Disruption;
use super::world::{Primary, World, wait_until};
use super::writers::Writers;
use anyhow::{Result, ensure};
use slotgate::topology::Slot;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// What clients may notice, from bad to worse; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Nothing at all: not one error.
    None,
    /// Connections end.
    Cut,
    /// Errors that say whether it was run, or that nobody knows.
    Errors,
    /// Acknowledged writes that were not replicated yet are lost.
    Loss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    FailoverAll,
    MoveSlots,
    /// One of both sides fails over, as planned by somebody else, while slots move.
    MoveDuringFailover,
    Rebalance,
    RollingRestart,
    /// SIGKILL of a replica.
    KillReplica,
    FreezeReplica,
    /// For less than anybody would take it for lost.
    FreezeBriefly,
    CutReplication,
    CutBus,
    /// A primary ends its connections, those of the gateways too.
    CutClients,
    HangUp,
    DrainGateway,
    KillGateway,
    MoveOneAddress,
    MoveAllAddresses,
    KillPrimary,
    /// After its replica has been frozen for a while.
    KillPrimaryOfLateReplica,
    FreezePrimary,
}

impl Fault {
    pub const ALL: &[Fault] = &[
        Fault::FailoverAll,
        Fault::MoveSlots,
        Fault::MoveDuringFailover,
        Fault::Rebalance,
        Fault::RollingRestart,
        Fault::KillReplica,
        Fault::FreezeReplica,
        Fault::FreezeBriefly,
        Fault::CutReplication,
        Fault::CutBus,
        Fault::CutClients,
        Fault::HangUp,
        Fault::DrainGateway,
        Fault::KillGateway,
        Fault::MoveOneAddress,
        Fault::MoveAllAddresses,
        Fault::KillPrimary,
        Fault::KillPrimaryOfLateReplica,
        Fault::FreezePrimary,
    ];

    pub fn harm(self) -> Harm {
        use Fault::*;
        match self {
            FailoverAll | MoveSlots | MoveDuringFailover | Rebalance | RollingRestart | KillReplica
            | FreezeReplica | FreezeBriefly | CutReplication | CutBus | MoveOneAddress => Harm::None,
            HangUp | DrainGateway | KillGateway => Harm::Cut,
            CutClients | MoveAllAddresses => Harm::Errors,
            KillPrimary | KillPrimaryOfLateReplica | FreezePrimary => Harm::Loss,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::FailoverAll => "planned failover of every shard",
            Fault::MoveSlots => "slots moved",
            Fault::MoveDuringFailover => "failover while slots move",
            Fault::Rebalance => "rebalance",
            Fault::RollingRestart => "rolling restart of all nodes",
            Fault::KillReplica => "kill -9 of a replica",
            Fault::FreezeReplica => "replica frozen",
            Fault::FreezeBriefly => "primary frozen for a moment",
            Fault::CutReplication => "replica links cut",
            Fault::CutBus => "cluster bus links cut",
            Fault::CutClients => "client links of a primary cut",
            Fault::HangUp => "clients hang up",
            Fault::DrainGateway => "gateway restarted",
            Fault::KillGateway => "kill -9 of a gateway",
            Fault::MoveOneAddress => "new address of one node",
            Fault::MoveAllAddresses => "new addresses of all nodes",
            Fault::KillPrimary => "kill -9 of a primary",
            Fault::KillPrimaryOfLateReplica => "kill -9 of a primary whose replica is late",
            Fault::FreezePrimary => "primary frozen until it is replaced",
        })
    }
}

/// How long what is frozen or cut for a while stays so.
const MOMENT: Duration = Duration::from_millis(1500);

/// Where faults strike, and what they leave behind.
pub struct Striker<'a> {
    pub world: &'a mut World,
    pub writers: &'a Writers,
    /// A slot for each place.
    pub places: &'a [Slot],
    pub random: &'a mut fastrand::Rng,
    pub disruptions: Vec<Disruption>,
}

impl Striker<'_> {
    /// Does it and waits until the cluster is whole again.
    pub fn strike(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::FailoverAll => self.fail_over_all()?,
            Fault::MoveSlots => {
                let (_, _, words) = self.choose_move(40)?;
                self.world.slotgate(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
            }
            Fault::MoveDuringFailover => self.move_during_failover()?,
            Fault::Rebalance => {
                self.world.slotgate(&["rebalance", "--threshold", "0", "--yes", &self.world.addr(0)])?;
            }
            Fault::RollingRestart => self.restart_all()?,
            Fault::KillReplica => {
                let replica = self.choose_replica()?;
                self.world.kill(replica);
                thread::sleep(MOMENT);
                self.world.restart(replica)?;
            }
            Fault::FreezeReplica => {
                let replica = self.choose_replica()?;
                self.freeze_for_a_moment(replica);
            }
            Fault::FreezeBriefly => {
                let primary = self.choose_primary()?;
                self.freeze_for_a_moment(primary.node);
            }
            Fault::CutReplication => {
                for primary in self.world.primaries()? {
                    self.world.ask(primary.node, &["CLIENT", "KILL", "TYPE", "replica"])?;
                }
            }
            Fault::CutBus => self.cut_bus()?,
            Fault::CutClients => {
                let primary = self.choose_primary()?;
                self.world.ask(primary.node, &["CLIENT", "KILL", "TYPE", "normal"])?;
            }
            Fault::HangUp => {
                self.writers.hang_up(true);
                thread::sleep(MOMENT);
                self.writers.hang_up(false);
            }
            Fault::DrainGateway => {
                let gateway = self.random.usize(..self.world.gateways().len());
                self.world.drain_gateway(gateway)?;
                thread::sleep(MOMENT);
                self.world.start_gateway(gateway)?;
            }
            Fault::KillGateway => {
                let gateway = self.random.usize(..self.world.gateways().len());
                self.world.kill_gateway(gateway)?;
                thread::sleep(MOMENT);
                self.world.start_gateway(gateway)?;
            }
            Fault::MoveOneAddress => {
                let replica = self.choose_replica()?;
                self.world.move_elsewhere(&[replica])?;
            }
            Fault::MoveAllAddresses => {
                let all: Vec<usize> = (0..self.world.count()).collect();
                self.world.move_elsewhere(&all)?;
            }
            Fault::KillPrimary => self.kill_primary(false)?,
            Fault::KillPrimaryOfLateReplica => self.kill_primary(true)?,
            Fault::FreezePrimary => self.freeze_primary()?,
        }
        self.world.wait_until_whole()
    }

    fn choose_place(&mut self) -> Slot {
        self.places[self.random.usize(..self.places.len())]
    }

    fn choose_primary(&mut self) -> Result<Primary> {
        let slot = self.choose_place();
        self.world.primary_of(slot)
    }

    fn choose_replica(&mut self) -> Result<usize> {
        let primary = self.choose_primary()?;
        let replicas = self.world.replicas_of(&primary.id);
        ensure!(!replicas.is_empty(), "node {} has no replica", primary.node);
        Ok(replicas[self.random.usize(..replicas.len())])
    }

    fn freeze_for_a_moment(&mut self, node: usize) {
        self.world.freeze(node);
        thread::sleep(MOMENT);
        self.world.thaw(node);
    }

    fn fail_over_all(&mut self) -> Result<()> {
        for primary in self.world.primaries()? {
            self.world.hand_over(&primary)?;
        }
        Ok(())
    }

    /// A place's slot and the next ones, to another primary: from, to, and the words that move them.
    fn choose_move(&mut self, count: usize) -> Result<(Primary, Primary, Vec<String>)> {
        let slot = self.choose_place();
        let source = self.world.primary_of(slot)?;
        let mut others = self.world.primaries()?;
        others.retain(|primary| primary.id != source.id);
        ensure!(!others.is_empty(), "there is no other primary");
        let target = others.swap_remove(self.random.usize(..others.len()));
        let with_it = |other: &Slot| other.number() >= slot.number() && source.serves(*other);
        let slots = (0..16384).filter_map(Slot::new).filter(with_it).take(count);
        let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
        let (from, to) = (self.world.addr(source.node), self.world.addr(target.node));
        let words = ["move-slots", "--from", &from, "--to", &to, "--slots", &slots.join(","), "--yes", &to];
        let words = words.map(str::to_string).to_vec();
        Ok((source, target, words))
    }

    /// The move may end early and say so; a repair then ends what it left.
    fn move_during_failover(&mut self) -> Result<()> {
        let (source, target, words) = self.choose_move(100)?;
        let mut moving = self.world.start_slotgate(&words)?;
        thread::sleep(MOMENT.mul_f64(self.random.f64() / 4.0));
        let handed_over = self.world.hand_over(if self.random.bool() { &source } else { &target });
        let moved = moving.wait()?;
        if handed_over.is_err() || !moved.success() {
            self.world.slotgate(&["fix", "--yes", &self.world.addr(0)])?;
        }
        Ok(())
    }

    /// One after the other, primaries after they have handed over.
    fn restart_all(&mut self) -> Result<()> {
        for node in 0..self.world.count() {
            let primaries = self.world.primaries()?;
            if let Some(primary) = primaries.iter().find(|primary| primary.node == node) {
                self.world.hand_over(primary)?;
            }
            self.world.restart(node)?;
            self.world.wait_until_whole()?;
        }
        Ok(())
    }

    /// Again and again, as the nodes connect again at once.
    fn cut_bus(&mut self) -> Result<()> {
        let primaries = self.world.primaries()?;
        let over = Instant::now() + MOMENT;
        while Instant::now() < over {
            for (ix, victim) in primaries.iter().enumerate() {
                let other = &primaries[(ix + 1) % primaries.len()].id;
                // Redis 7.0 crashes when told to end a link that is not there.
                let links = self.world.ask(victim.node, &["CLUSTER", "LINKS"])?;
                if links.contains(&format!("to\r\n$4\r\nnode\r\n$40\r\n{other}")) {
                    self.world.ask(victim.node, &["DEBUG", "CLUSTERLINK", "KILL", "to", other])?;
                }
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn kill_primary(&mut self, is_replica_late: bool) -> Result<()> {
        let slot = self.choose_place();
        let victim = self.world.primary_of(slot)?;
        let replicas = if is_replica_late { self.world.replicas_of(&victim.id) } else { Vec::new() };
        for replica in &replicas {
            self.world.freeze(*replica);
        }
        if is_replica_late {
            // Else what the frozen one is sent would wait for it, and be read in the end.
            self.world.ask(victim.node, &["CLIENT", "KILL", "TYPE", "replica"])?;
            thread::sleep(MOMENT);
        }
        let from = self.writers.now();
        self.world.kill(victim.node);
        for replica in &replicas {
            self.world.thaw(*replica);
        }
        self.wait_for_successor(&victim, slot)?;
        self.note(&victim, from);
        self.world.restart(victim.node)
    }

    fn freeze_primary(&mut self) -> Result<()> {
        let slot = self.choose_place();
        let victim = self.world.primary_of(slot)?;
        let from = self.writers.now();
        self.world.freeze(victim.node);
        self.wait_for_successor(&victim, slot)?;
        self.world.thaw(victim.node);
        wait_until("the old primary follows the new one", || {
            Ok(self.world.ask(victim.node, &["ROLE"])?.contains("slave"))
        })?;
        self.note(&victim, from);
        Ok(())
    }

    fn wait_for_successor(&mut self, victim: &Primary, slot: Slot) -> Result<()> {
        let mut successor = None;
        wait_until("another node owns the slots", || {
            successor = self.world.primary_of(slot).ok().filter(|primary| primary.id != victim.id);
            Ok(successor.is_some())
        })?;
        successor.iter().for_each(|primary| self.world.note_elected(primary.node));
        Ok(())
    }

    fn note(&mut self, victim: &Primary, from: Duration) {
        let places = self.places.iter().enumerate();
        let places = places.filter(|(_, slot)| victim.serves(**slot)).map(|(place, _)| place).collect();
        self.disruptions.push(Disruption { from, to: self.writers.now(), places });
    }
}
