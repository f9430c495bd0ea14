//! What a node's own `COMMAND` reply says, in neutral form: the way by which the table learns of modules
//! and newer releases at run time. Part of FRAME → NAME, KEYS; the bytes come from a node, so odd or
//! missing parts are tolerated and nothing panics.

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

use super::bits::{Access, Categories, Flags};
use super::spec::{Begin, Find, KeySpec, Spec};
use super::tips::{Group, Tips};

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
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    #[error("the COMMAND reply is not valid RESP2: {0}")]
    Malformed(String),
    #[error("the COMMAND reply ends before it is complete")]
    Cut,
    #[error("the COMMAND reply is not a list of commands")]
    NotAList,
    #[error("the node refused COMMAND: {0}")]
    Refused(String),
}

/// Reads the bytes of a whole RESP2 `COMMAND` reply. Entries that make no sense are left out.
pub fn parse_command_reply(bytes: &[u8]) -> Result<Vec<LearnedCommand>, LearnError> {
    match decode(bytes) {
        Ok(Some((OwnedFrame::Array(rows), _))) => Ok(rows.iter().filter_map(command).collect()),
        Ok(Some((OwnedFrame::Error(text), _))) => Err(LearnError::Refused(text)),
        Ok(Some(_)) => Err(LearnError::NotAList),
        Ok(None) => Err(LearnError::Cut),
        Err(error) => Err(LearnError::Malformed(error.to_string())),
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
        spec.group = if flags.contains(Flags::MODULE) { Group::Module } else { Group::Generic };
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

fn command(row: &OwnedFrame) -> Option<LearnedCommand> {
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
fn key_spec(raw: &OwnedFrame) -> Option<KeySpec> {
    let flags = texts(field(raw, "flags"));
    let access = flags.iter().filter_map(|word| Access::from_word(word)).fold(Access::NONE, Access::with);
    let part = |name| {
        let part = field(raw, name)?;
        Some((text(field(part, "type")?)?, field(part, "spec")?))
    };
    let small = |spec: &OwnedFrame, name| i16::try_from(integer(field(spec, name)?)?).ok();
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

/// The value after `name` in a flat list of names and values, which is RESP2's map.
fn field<'a>(map: &'a OwnedFrame, name: &str) -> Option<&'a OwnedFrame> {
    items(map)?.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1])
}

fn items(frame: &OwnedFrame) -> Option<&[OwnedFrame]> {
    if let OwnedFrame::Array(items) = frame { Some(items) } else { None }
}

fn integer(frame: &OwnedFrame) -> Option<i64> {
    if let OwnedFrame::Integer(number) = frame { Some(*number) } else { None }
}

fn text(frame: &OwnedFrame) -> Option<&str> {
    match frame {
        OwnedFrame::BulkString(bytes) | OwnedFrame::SimpleString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn texts(frame: Option<&OwnedFrame>) -> Vec<String> {
    frame.and_then(items).unwrap_or_default().iter().filter_map(text).map(str::to_owned).collect()
}
