//! Named: the node that a person means by an address or by the beginning of its id. Pure.

use super::view::View;
use crate::topology::NodeId;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The fewest digits of an id that are taken for one.
const MIN_DIGITS: usize = 4;

/// How a person names a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Name {
    /// By an address, or by a name that resolved to these.
    At(Vec<SocketAddr>),
    /// By the beginning of its id.
    Id(String),
}

/// A name that means no single node.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NamedError {
    #[error("{0} is no node of this cluster; 'slotgate status HOST:PORT' lists them")]
    Nobody(String),
    #[error("{name} means several nodes ({ids}); give more digits of the id")]
    Several { name: String, ids: String },
    #[error(
        "{0:?} is neither HOST:PORT nor the beginning of a node id (at least {MIN_DIGITS} of its 40 digits)"
    )]
    NoName(String),
}

/// Finds the one node that `text`, read as `name`, means: among those that answered and those that they
/// tell of.
///
/// # Errors
/// None, or several.
pub fn find(view: &View, text: &str, name: &Name) -> Result<NodeId, NamedError> {
    let lines = || {
        view.nodes
            .iter()
            .flat_map(|node| node.view.members().map(|line| (line.id, line.addr(node.view.asked))))
    };
    let ids: BTreeSet<NodeId> = match name {
        Name::At(addrs) => {
            let answered = view.nodes.iter().filter(|node| addrs.contains(&node.view.asked));
            let answered: BTreeSet<NodeId> = answered.map(|node| node.view.id()).collect();
            // Who answers at an address is surer than what others remember of it.
            match answered.is_empty() {
                false => answered,
                true => lines()
                    .filter(|(_, addr)| addr.is_some_and(|addr| addrs.contains(&addr)))
                    .map(|(id, _)| id)
                    .collect(),
            }
        }
        Name::Id(digits) => {
            if digits.len() < MIN_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(NamedError::NoName(text.into()));
            }
            let digits = digits.to_ascii_lowercase();
            lines().map(|(id, _)| id).filter(|id| id.as_str().starts_with(&digits)).collect()
        }
    };
    match ids.iter().collect::<Vec<_>>().as_slice() {
        [] => Err(NamedError::Nobody(text.into())),
        [id] => Ok(**id),
        several => {
            let ids: Vec<&str> = several.iter().map(|id| id.short()).collect();
            Err(NamedError::Several { name: text.into(), ids: ids.join(" ") })
        }
    }
}
