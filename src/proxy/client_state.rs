//! What this client asked for: protocol version, name, transaction, whether it hears replies. Pure.

use super::splice::OwnCommands;
use super::tracking::Options;
use crate::resp::Version;
use crate::topology::Slot;

/// A transaction that is being queued here until EXEC.
#[derive(Debug, Default)]
pub struct Transaction {
    /// The queued requests, as they go to the node.
    pub frames: Vec<u8>,
    /// The queued requests that are carried out here, each of which has a stand-in among the others.
    pub own: OwnCommands,
    pub count: u32,
    /// Which of them concern all nodes, counted from 0.
    pub alone: Vec<u32>,
    /// The slot of each of them that has keys in one.
    pub slots: Vec<Option<Slot>>,
    /// The slot of all its keys, once there is a key; the first one's if they are in several.
    pub slot: Option<Slot>,
    pub has_many_slots: bool,
    /// One of them may change something.
    pub has_written: bool,
    /// An error while queueing: EXEC will refuse.
    pub is_tainted: bool,
    /// What a node said against one of the commands.
    pub refusal: Option<Box<[u8]>>,
}

impl Transaction {
    /// Whether it is not for one node alone.
    pub fn is_in_pieces(&self) -> bool {
        self.has_many_slots || !self.alone.is_empty()
    }
}

/// CLIENT REPLY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The next command's reply is skipped.
    SkipNext,
}

/// The state of one client connection that Redis would keep, kept here per client, as clients share
/// the connections to the nodes.
#[derive(Debug, Default)]
pub struct ClientState {
    pub version: Version,
    /// Whether it gave the password, or none is required.
    pub is_authenticated: bool,
    pub reply_mode: ReplyMode,
    pub name: Box<[u8]>,
    pub lib_name: Box<[u8]>,
    pub lib_ver: Box<[u8]>,
    pub transaction: Option<Box<Transaction>>,
    /// Channels and patterns together.
    pub subscriptions: u32,
    pub is_no_evict: bool,
    pub is_no_touch: bool,
    /// MONITOR.
    pub is_monitor: bool,
    /// CLIENT TRACKING.
    pub tracking: Option<Box<Options>>,
}

impl ClientState {
    /// The state of a new client.
    pub fn new(is_authenticated: bool) -> ClientState {
        ClientState { is_authenticated, ..ClientState::default() }
    }

    /// Whether any command may need more than being forwarded.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.is_authenticated
            && self.transaction.is_none()
            && self.subscriptions == 0
            && self.reply_mode == ReplyMode::On
    }

    /// Whether the next command's reply is not to be sent; counts as that command.
    #[inline]
    pub fn mutes_next(&mut self) -> bool {
        match self.reply_mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::SkipNext => {
                self.reply_mode = ReplyMode::On;
                true
            }
        }
    }

    /// RESP2 clients with subscriptions may say little else.
    pub fn is_subscribed_mode(&self) -> bool {
        self.subscriptions > 0 && self.version == Version::Resp2
    }
}
