//! What a node's own `COMMAND` reply says, in neutral form: the way by which the table learns of modules
//! and newer releases at run time. Part of FRAME → NAME, KEYS; the bytes come from a node, so odd or
//! missing parts are tolerated and nothing panics.

use super::bits::{Access, Categories, Flags};
use super::spec::{Begin, Find, KeySpec, Spec};
use super::tips::{Group, Tips};
use super::tree::{Node, TreeError, parse};

/// One command as a node reports it.
#[derive(Clone, Default, Debug)]
pub struct LearnedCommand {
    pub name: String,
    pub arity: i64,
    pub flags: Vec<String>,
    /// First, last and step of the keys, as old clients know them.
    pub first: i64,
    pub last: i64,
    pub step: i64,
    /// ACL categories, with or without `@`.
    pub categories: Vec<String>,
    pub tips: Vec<String>,
    /// Empty when the node is too old to report any.
    pub keys: Vec<KeySpec>,
    pub subcommands: Vec<LearnedCommand>,
}

/// Why a `COMMAND` reply could not be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LearnError {
    #[error("the COMMAND reply {0}")]
    Malformed(#[from] TreeError),
    #[error("the COMMAND reply is not a list of commands")]
    NotAList,
    #[error("the node refused COMMAND: {0}")]
    Refused(String),
}

/// Reads the bytes of a whole `COMMAND` reply, RESP2 or RESP3. Entries that make no sense are left out.
pub fn parse_command_reply(bytes: &[u8]) -> Result<Vec<LearnedCommand>, LearnError> {
    match parse(bytes)? {
        Node::List(rows) => Ok(rows.iter().filter_map(command).collect()),
        Node::Error(text) => Err(LearnError::Refused(String::from_utf8_lossy(text).into_owned())),
        _ => Err(LearnError::NotAList),
    }
}

impl LearnedCommand {
    /// The spec of the command itself; `None` when its name cannot be one.
    pub(super) fn spec(&self) -> Option<Spec> {
        let name = self.name.to_ascii_lowercase();
        if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
            return None;
        }
        let known = |word: &String| Categories::from_word(word.trim_start_matches('@'));
        let categories = self.categories.iter().filter_map(known).fold(Categories::NONE, Categories::with);
        let flags = self.flags.iter().filter_map(|word| Flags::from_word(word));
        let flags = flags.fold(Flags::NONE, Flags::with);
        let mut tips = Tips::default();
        for tip in &self.tips {
            tips.add(tip);
        }
        let mut spec =
            Spec::new(&name, i16::try_from(self.arity).ok()?, flags, categories, self.key_specs(flags), tips);
        spec.group = group(flags, categories);
        Some(spec)
    }

    pub(super) fn subcommands(&self) -> Vec<Spec> {
        let is_ours = |spec: &Spec| {
            spec.container().is_some_and(|container| container.eq_ignore_ascii_case(&self.name))
        };
        self.subcommands.iter().filter_map(LearnedCommand::spec).filter(is_ours).collect()
    }

    /// The reported key specs; without any, those that first, last and step amount to.
    fn key_specs(&self, flags: Flags) -> Vec<KeySpec> {
        if !self.keys.is_empty() {
            return self.keys.clone();
        }
        let access = if flags.contains(Flags::READONLY) { Access::RO } else { Access::RW };
        let range = (i16::try_from(self.first), i16::try_from(self.last), i16::try_from(self.step));
        let mut keys = Vec::new();
        if let (Ok(first @ 1..), Ok(last), Ok(step @ 1..)) = range {
            let last = if last >= 0 { last.saturating_sub(first) } else { last };
            let find = Find::Range { last, step, limit: 0 };
            keys.push(KeySpec { access, begin: Begin::Index(first), find });
        }
        if flags.contains(Flags::MOVABLEKEYS) {
            keys.push(KeySpec { access, begin: Begin::Unknown, find: Find::Unknown });
        }
        keys
    }
}

/// The family that the ACL categories hint at, as `COMMAND` does not tell the group.
fn group(flags: Flags, categories: Categories) -> Group {
    let hints = [
        (Categories::STRING, Group::String),
        (Categories::LIST, Group::List),
        (Categories::SORTEDSET, Group::SortedSet),
        (Categories::SET, Group::Set),
        (Categories::HASH, Group::Hash),
        (Categories::ARRAY, Group::Array),
        (Categories::STREAM, Group::Stream),
        (Categories::BITMAP, Group::Bitmap),
        (Categories::HYPERLOGLOG, Group::Hyperloglog),
        (Categories::GEO, Group::Geo),
        (Categories::SCRIPTING, Group::Scripting),
        (Categories::TRANSACTION, Group::Transactions),
        (Categories::PUBSUB, Group::Pubsub),
        (Categories::CONNECTION, Group::Connection),
        (Categories::ADMIN, Group::Server),
    ];
    if flags.contains(Flags::MODULE) {
        return Group::Module;
    }
    let hint = hints.iter().find(|(category, _)| categories.contains(*category));
    hint.map_or(Group::Generic, |(_, group)| *group)
}

fn command(row: &Node) -> Option<LearnedCommand> {
    let row = items(row)?;
    Some(LearnedCommand {
        name: text(row.first()?)?.to_owned(),
        arity: integer(row.get(1)?)?,
        flags: texts(row.get(2)),
        first: integer(row.get(3)?)?,
        last: integer(row.get(4)?)?,
        step: integer(row.get(5)?)?,
        categories: texts(row.get(6)),
        tips: texts(row.get(7)),
        keys: row.get(8).and_then(items).unwrap_or_default().iter().filter_map(key_spec).collect(),
        subcommands: row.get(9).and_then(items).unwrap_or_default().iter().filter_map(command).collect(),
    })
}

/// A key spec that cannot be read stays as an unknown one: a key must not be overlooked.
fn key_spec(raw: &Node) -> Option<KeySpec> {
    let flags = texts(field(raw, "flags"));
    let access = flags.iter().filter_map(|word| Access::from_word(word)).fold(Access::NONE, Access::with);
    let part = |name| {
        let part = field(raw, name)?;
        Some((text(field(part, "type")?)?, field(part, "spec")?))
    };
    let small = |spec: &Node, name| i16::try_from(integer(field(spec, name)?)?).ok();
    let begin = part("begin_search").and_then(|(kind, spec)| match kind {
        "index" => Some(Begin::Index(small(spec, "index").filter(|index| *index > 0)?)),
        "keyword" => {
            let word = text(field(spec, "keyword")?)?.into();
            Some(Begin::Keyword { word, from: small(spec, "startfrom")? })
        }
        _ => None,
    });
    let find = part("find_keys").and_then(|(kind, spec)| match kind {
        "range" => {
            let last = small(spec, "lastkey")?;
            Some(Find::Range { last, step: small(spec, "keystep")?, limit: small(spec, "limit")? })
        }
        "keynum" => {
            let at = small(spec, "keynumidx")?;
            Some(Find::Keynum { at, first: small(spec, "firstkey")?, step: small(spec, "keystep")? })
        }
        _ => None,
    });
    let (begin, find) = (begin.unwrap_or(Begin::Unknown), find.unwrap_or(Find::Unknown));
    Some(KeySpec { access, begin, find })
}

/// The value after `name` in a list of names and values in turn.
fn field<'a>(map: &'a Node<'a>, name: &str) -> Option<&'a Node<'a>> {
    items(map)?.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1])
}

fn items<'a>(node: &'a Node<'a>) -> Option<&'a [Node<'a>]> {
    if let Node::List(items) = node { Some(items) } else { None }
}

fn integer(node: &Node) -> Option<i64> {
    if let Node::Number(number) = node { Some(*number) } else { None }
}

fn text<'a>(node: &Node<'a>) -> Option<&'a str> {
    if let Node::Text(bytes) = node { std::str::from_utf8(bytes).ok() } else { None }
}

fn texts(node: Option<&Node>) -> Vec<String> {
    node.and_then(items).unwrap_or_default().iter().filter_map(text).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_module_of_an_old_node_is_learned_by_its_range() {
        let reply = b"*2\r\n*6\r\n$7\r\nMOD.GET\r\n:-2\r\n*2\r\n+readonly\r\n+module\r\n:1\r\n:-1\r\n:2\r\n\
            *2\r\n$3\r\nbad\r\n+row\r\n";
        let learned = parse_command_reply(reply).unwrap();
        assert_eq!(learned.len(), 1);
        let spec = learned[0].spec().unwrap();
        assert_eq!((&*spec.name, spec.arity, spec.group), ("mod.get", -2, Group::Module));
        assert_eq!((spec.range.first, spec.range.last, spec.range.step), (1, -1, 2));
    }

    #[test]
    fn movable_keys_without_specs_are_not_taken_for_none() {
        let movable = LearnedCommand {
            name: "x".into(),
            arity: -1,
            flags: vec!["movablekeys".into()],
            ..Default::default()
        };
        assert_eq!(movable.spec().unwrap().shape, crate::command::KeyShape::Special);
    }

    #[test]
    fn a_new_command_joins_the_family_of_its_category() {
        let learned = |flags: &str, category: &str| {
            let list = |word: &str| vec![word.to_owned()];
            let name = "x".to_owned();
            let (flags, categories) = (list(flags), list(category));
            LearnedCommand { name, arity: 1, flags, categories, ..Default::default() }.spec().unwrap().group
        };
        assert_eq!(learned("write", "@stream"), Group::Stream);
        assert_eq!(learned("write", "@keyspace"), Group::Generic);
        assert_eq!(learned("module", "@stream"), Group::Module);
    }

    #[test]
    fn a_refusal_is_told() {
        let refused = parse_command_reply(b"-NOPERM no\r\n").unwrap_err();
        assert_eq!(refused.to_string(), "the node refused COMMAND: NOPERM no");
        assert_eq!(parse_command_reply(b"+OK\r\n").unwrap_err(), LearnError::NotAList);
    }

    proptest! {
        #[test]
        fn any_numbers_in_a_reply_make_a_usable_spec(
            numbers in prop::collection::vec(prop_oneof![4 => -3i64..4, 2 => -33000i64..33000, 1 => any::<i64>()], 12),
            argc in 1usize..6,
        ) {
            let n = |ix: usize| numbers[ix];
            let reply = format!(
                "*1\r\n*10\r\n$1\r\nx\r\n:{}\r\n*0\r\n:{}\r\n:{}\r\n:{}\r\n*0\r\n*0\r\n*2\r\n\
                 *6\r\n+flags\r\n*0\r\n+begin_search\r\n*4\r\n+type\r\n+index\r\n+spec\r\n*2\r\n+index\r\n:{}\r\n\
                 +find_keys\r\n*4\r\n+type\r\n+range\r\n+spec\r\n*6\r\n+lastkey\r\n:{}\r\n+keystep\r\n:{}\r\n+limit\r\n:{}\r\n\
                 *6\r\n+flags\r\n*0\r\n+begin_search\r\n*4\r\n+type\r\n+keyword\r\n+spec\r\n*4\r\n+keyword\r\n+y\r\n+startfrom\r\n:{}\r\n\
                 +find_keys\r\n*4\r\n+type\r\n+keynum\r\n+spec\r\n*6\r\n+keynumidx\r\n:{}\r\n+firstkey\r\n:{}\r\n+keystep\r\n:{}\r\n\
                 *0\r\n",
                n(0), n(1), n(2), n(3), n(4), n(5), n(6), n(7), n(8), n(9), n(10), n(11),
            );
            for learned in parse_command_reply(reply.as_bytes()).unwrap() {
                let Some(spec) = learned.spec() else { continue };
                let args: Vec<&[u8]> = [&b"x"[..], b"y", b"2", b"y", b"1"][..argc].to_vec();
                let mut keys = Vec::new();
                crate::command::testing::with_request(&args, |request| {
                    let _ = crate::command::extract(&spec, request, &mut keys);
                });
                prop_assert!(keys.iter().all(|key| key.index > 0 && (key.index as usize) < argc), "{keys:?}");
                prop_assert!(keys.len() < 2 * argc);
            }
        }

        #[test]
        fn no_bytes_of_a_node_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_command_reply(&bytes);
        }
    }
}
