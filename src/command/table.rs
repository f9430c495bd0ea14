//! All commands, found by name: FRAME → NAME. One row per command, data and not code, in
//! `commands.txt`; what the nodes report on top of it is added at run time. The hot path allocates
//! nothing and takes no lock: each worker reads a table that nobody changes under it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::learn::LearnedCommand;
use super::row;
use super::spec::Spec;
use crate::resp::Request;

const BUILTIN: &str = include_str!("commands.txt");
/// Longer names are not looked up at all; the longest known one has 29 letters.
const NAME_MAX: usize = 64;

/// A command's place in the table: small and stable, for counters and caches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CommandIx(pub u16);

/// What a request's name stands for.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    Found(CommandIx, &'a Spec),
    /// No such command here; the nodes may still have it.
    Unknown,
    /// The container is known (its spec is given), the subcommand is not.
    UnknownSubcommand(&'a Spec),
}

/// Every command the gateway knows. Indices never change while the program runs.
#[derive(Clone, Default, Debug)]
pub struct Table {
    specs: Vec<Spec>,
    names: Names,
    /// By the index of the container.
    subcommands: FxHashMap<u16, Names>,
    /// What nodes have, as far as they were asked.
    reported: FxHashSet<u16>,
}

impl Table {
    /// The commands of `commands.txt`. Costs about a millisecond.
    pub fn builtin() -> Table {
        let mut table = Table::default();
        for row in BUILTIN.lines().filter(|row| !row.starts_with('#')) {
            match row::parse(row) {
                Ok(spec) => table.insert(spec),
                Err(error) => panic!("commands.txt is part of this program and wrong: {error} in {row:?}"),
            }
        }
        table
    }

    /// The command that `request` names, in any letter case. The second argument decides where the
    /// first names a container; a container alone is found itself, so that its arity refuses it.
    #[inline]
    pub fn lookup(&self, request: &Request) -> Lookup<'_> {
        let Some(ix) = request.get(0).and_then(|name| self.find(&self.names, name)) else {
            return Lookup::Unknown;
        };
        let spec = &self.specs[ix as usize];
        match request.get(1) {
            Some(name) if spec.is_container => self.lookup_subcommand(ix, name),
            _ => Lookup::Found(CommandIx(ix), spec),
        }
    }

    fn lookup_subcommand(&self, container: u16, name: &[u8]) -> Lookup<'_> {
        match self.subcommands.get(&container).and_then(|names| self.find(names, name)) {
            Some(ix) => Lookup::Found(CommandIx(ix), &self.specs[ix as usize]),
            None => Lookup::UnknownSubcommand(&self.specs[container as usize]),
        }
    }

    /// The command of this name; `container|subcommand` for a subcommand.
    pub fn by_name(&self, name: &[u8]) -> Option<(CommandIx, &Spec)> {
        let (first, second) = match name.iter().position(|&byte| byte == b'|') {
            Some(bar) => (&name[..bar], Some(&name[bar + 1..])),
            None => (name, None),
        };
        let container = self.find(&self.names, first)?;
        let ix = match second {
            Some(second) => self.find(self.subcommands.get(&container)?, second)?,
            None => container,
        };
        Some((CommandIx(ix), &self.specs[ix as usize]))
    }

    #[inline]
    fn find(&self, names: &Names, name: &[u8]) -> Option<u16> {
        // The packed form cannot tell "get" from "get\0"; the length can.
        names.get(name).filter(|&ix| self.specs[ix as usize].last_name().len() == name.len())
    }

    /// The spec of a command. Panics when `ix` is of another table.
    #[inline]
    pub fn get(&self, ix: CommandIx) -> &Spec {
        &self.specs[ix.0 as usize]
    }

    /// How many commands there are, subcommands included.
    pub fn len(&self) -> usize {
        self.specs.len()
    }

    /// Whether there are no commands.
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }

    /// All commands in the order of their indices, subcommands included.
    pub fn iter(&self) -> impl Iterator<Item = (CommandIx, &Spec)> {
        self.specs.iter().enumerate().map(|(ix, spec)| (CommandIx(ix as u16), spec))
    }

    /// Whether clients are told of a command: as long as no node reported its commands, of all; then
    /// only of those that a node has.
    pub fn is_visible(&self, ix: CommandIx) -> bool {
        self.reported.is_empty() || self.reported.contains(&ix.0)
    }

    /// Takes in what a node reports, its whole list: adds the commands that this table lacks (modules,
    /// newer releases). What is known already stays as it is. Returns how many are new.
    pub fn extend(&mut self, commands: impl IntoIterator<Item = LearnedCommand>) -> usize {
        let before = self.len();
        for command in commands {
            for spec in command.spec().into_iter().chain(command.subcommands()) {
                if let Some((ix, _)) = self.by_name(spec.name.as_bytes()) {
                    self.reported.insert(ix.0);
                } else if self.has_room_for(&spec) {
                    self.reported.insert(self.len() as u16);
                    self.insert(spec);
                }
            }
        }
        self.len() - before
    }

    fn has_room_for(&self, spec: &Spec) -> bool {
        let is_orphan = spec.container().is_some_and(|name| self.by_name(name.as_bytes()).is_none());
        !is_orphan && spec.name.len() <= NAME_MAX && self.len() < u16::MAX as usize
    }

    /// Appends a spec whose name is new; its container, if it has one, must be there.
    fn insert(&mut self, spec: Spec) {
        let ix = self.specs.len() as u16;
        let names = match spec.container() {
            None => &mut self.names,
            Some(container) => {
                let (container, _) = self.by_name(container.as_bytes()).expect("a container comes first");
                self.specs[container.0 as usize].is_container = true;
                self.subcommands.entry(container.0).or_default()
            }
        };
        names.insert(spec.last_name().as_bytes(), ix);
        self.specs.push(spec);
    }
}

impl Spec {
    /// The container's name if this is a subcommand.
    pub fn container(&self) -> Option<&str> {
        self.name.split_once('|').map(|(container, _)| container)
    }

    /// The part of the name after the bar, or all of it.
    #[inline]
    pub fn last_name(&self) -> &str {
        self.name.split_once('|').map_or(&self.name, |(_, name)| name)
    }
}

/// Names → indices. Names of up to 16 bytes, nearly all, are numbers: one compare, no pointer to follow.
#[derive(Clone, Default, Debug)]
struct Names {
    short: FxHashMap<u128, u16>,
    long: FxHashMap<Box<[u8]>, u16>,
}

impl Names {
    #[inline]
    fn get(&self, name: &[u8]) -> Option<u16> {
        if name.len() <= 16 { self.short.get(&pack(name)).copied() } else { self.get_long(name) }
    }

    #[cold]
    fn get_long(&self, name: &[u8]) -> Option<u16> {
        let mut folded = [0; NAME_MAX];
        let folded = folded.get_mut(..name.len())?;
        folded.copy_from_slice(name);
        folded.make_ascii_lowercase();
        self.long.get(&*folded).copied()
    }

    fn insert(&mut self, name: &[u8], ix: u16) {
        if name.len() <= 16 {
            self.short.insert(pack(name), ix);
        } else {
            self.long.insert(name.into(), ix);
        }
    }
}

/// At most 16 bytes as one number, upper-case letters folded to lower case, zeros after the end.
#[inline]
fn pack(name: &[u8]) -> u128 {
    const EACH: u128 = u128::MAX / 0xff;
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name);
    let bytes = u128::from_le_bytes(bytes);
    // In the low seven bits of each byte: is it at least 'A', is it past 'Z'? The answers land in the
    // eighth bit, which no addition carries out of.
    let low = bytes & (EACH * 0x7f);
    let from_a = low + EACH * (0x80 - b'A' as u128);
    let past_z = low + EACH * (0x7f - b'Z' as u128);
    let is_upper = from_a & !past_z & !bytes & (EACH * 0x80);
    bytes | (is_upper >> 2)
}

#[cfg(test)]
mod tests {
    use super::super::bits::Flags;
    use super::super::testing::{with_request, words};
    use super::*;

    fn found<'a>(table: &'a Table, line: &str) -> Option<&'a str> {
        with_request(&words(line), |request| match table.lookup(request) {
            Lookup::Found(ix, spec) => {
                assert_eq!(table.get(ix).name, spec.name);
                Some(&*spec.name)
            }
            Lookup::Unknown | Lookup::UnknownSubcommand(_) => None,
        })
    }

    #[test]
    fn every_row_is_found_by_its_name_in_any_letter_case() {
        let table = Table::builtin();
        assert!(table.len() > 400, "{}", table.len());
        for (ix, spec) in table.iter() {
            let line = spec.name.to_uppercase().replace('|', " ");
            assert_eq!(found(&table, &line), Some(&*spec.name));
            assert_eq!(table.by_name(line.replace(' ', "|").as_bytes()).unwrap().0, ix);
        }
    }

    #[test]
    fn a_name_that_only_looks_alike_is_unknown() {
        let table = Table::builtin();
        for line in ["", "ge", "gett", "get\0", "g\x05t", "GET|", "config|get", "georadiusbymemberr"] {
            assert_eq!(found(&table, line), None, "{line:?}");
        }
        assert_eq!(found(&table, &"x".repeat(5000)), None);
        with_request(&[], |request| assert!(matches!(table.lookup(request), Lookup::Unknown)));
    }

    #[test]
    fn a_container_alone_is_found_and_a_wrong_subcommand_names_it() {
        let table = Table::builtin();
        assert_eq!(found(&table, "CONFIG"), Some("config"));
        assert!(!table.by_name(b"config").unwrap().1.takes(1));
        with_request(&words("Config nonsense"), |request| match table.lookup(request) {
            Lookup::UnknownSubcommand(spec) => assert_eq!(&*spec.name, "config"),
            other => panic!("{other:?}"),
        });
    }

    #[test]
    fn learned_commands_join_and_nothing_known_changes() {
        let mut table = Table::builtin();
        let (get, len) = (table.by_name(b"get").unwrap().0, table.len());
        let learned = |name: &str| LearnedCommand { name: name.into(), arity: -2, ..Default::default() };
        let commands = vec![
            LearnedCommand { flags: vec!["write".into()], ..learned("get") },
            LearnedCommand {
                flags: vec!["readonly".into(), "module".into()],
                first: 1,
                last: -1,
                step: 1,
                ..learned("Some.New-Command.With.Long.Name")
            },
            LearnedCommand {
                subcommands: vec![learned("config|novel"), learned("other|x")],
                ..learned("config")
            },
        ];
        assert_eq!(table.extend(commands), 2);
        assert_eq!(table.len(), len + 2);
        assert!(table.get(get).flags.contains(Flags::READONLY));
        assert_eq!(
            found(&table, "SOME.NEW-COMMAND.WITH.LONG.NAME a"),
            Some("some.new-command.with.long.name")
        );
        assert_eq!(found(&table, "config NOVEL"), Some("config|novel"));
        assert_eq!(table.extend(vec![learned("config"), learned("get")]), 0);
    }
}
