//! What may happen between clients and nodes, and how often.

use proptest::prelude::*;

pub const CLIENTS: usize = 3;

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
pub enum Step {
    Send {
        client: usize,
        what: What,
        tag: usize,
        other: usize,
    },
    Arrive {
        client: usize,
        count: usize,
    },
    /// A client's socket takes so many more bytes.
    Take {
        client: usize,
        room: usize,
    },
    Leave {
        client: usize,
    },
    Run {
        wire: usize,
        count: usize,
    },
    Deliver {
        wire: usize,
        count: usize,
    },
    Clog {
        wire: usize,
        room: usize,
    },
    Cut {
        wire: usize,
    },
    BeginMove {
        tag: usize,
    },
    MoveKey {
        tag: usize,
    },
    FinishMove {
        tag: usize,
    },
    Refuse {
        node: usize,
        why: usize,
    },
    Accept {
        node: usize,
    },
    FailOver {
        shard: usize,
    },
    /// The gateway is told that a shard's primary is about to hand over.
    AnnounceHandOver {
        shard: usize,
        milliseconds: u64,
    },
    /// That it does not.
    AnnounceEnd {
        shard: usize,
    },
    /// A shard's replica takes over from its primary, which lives; the gateway may be told.
    HandOver {
        shard: usize,
        is_told: bool,
    },
    Publish,
    Load,
    Advance {
        milliseconds: u64,
    },
    Settle,
}

#[derive(Debug, Clone, Copy)]
pub enum What {
    Read,
    Set,
    Append,
    LargeSet,
    LargeAppend,
    /// Two keys of one slot.
    Pair,
    SetMany,
    GetMany,
    Transaction,
    Watched,
    Ping,
    Size,
    /// Of two slots: read, one written, both written.
    Join,
    Combine,
    Rename,
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        6 => Just(What::Read),
        4 => Just(What::Set),
        6 => Just(What::Append),
        1 => Just(What::LargeSet),
        1 => Just(What::LargeAppend),
        2 => Just(What::Pair),
        2 => Just(What::SetMany),
        2 => Just(What::GetMany),
        2 => Just(What::Transaction),
        1 => Just(What::Watched),
        1 => Just(What::Ping),
        1 => Just(What::Size),
        1 => Just(What::Join),
        1 => Just(What::Combine),
        1 => Just(What::Rename),
    ]
}

/// A few bytes, or all.
fn count() -> impl Strategy<Value = usize> {
    prop_oneof![1 => 1..200usize, 3 => Just(usize::MAX)]
}

fn send() -> impl Strategy<Value = Step> {
    // Two tags are enough to meet often, and are of two shards.
    (0..CLIENTS, what(), 1..3usize, 0..2usize).prop_map(|(client, what, tag, other)| Step::Send {
        client,
        what,
        tag,
        other,
    })
}

pub fn traffic() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => send(),
        6 => (0..CLIENTS, count()).prop_map(|(client, count)| Step::Arrive { client, count }),
        8 => (0..9usize, 1..5usize).prop_map(|(wire, count)| Step::Run { wire, count }),
        8 => (0..9usize, count()).prop_map(|(wire, count)| Step::Deliver { wire, count }),
        1 => (0..CLIENTS, count()).prop_map(|(client, room)| Step::Take { client, room }),
        1 => (0..9usize, count()).prop_map(|(wire, room)| Step::Clog { wire, room }),
        2 => (0..400u64).prop_map(|milliseconds| Step::Advance { milliseconds }),
        1 => Just(Step::Settle),
        1 => Just(Step::Publish),
        1 => Just(Step::Load),
        2 => (1..3usize).prop_map(|tag| Step::MoveKey { tag }),
    ]
}

pub fn trouble() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..9usize).prop_map(|wire| Step::Cut { wire }),
        4 => (1..3usize).prop_map(|tag| Step::BeginMove { tag }),
        3 => (1..3usize).prop_map(|tag| Step::FinishMove { tag }),
        2 => (0..4usize, 0..3usize).prop_map(|(node, why)| Step::Refuse { node, why }),
        3 => (0..4usize).prop_map(|node| Step::Accept { node }),
        1 => (0..2usize).prop_map(|shard| Step::FailOver { shard }),
        3 => (0..2usize, 1..3000u64)
            .prop_map(|(shard, milliseconds)| Step::AnnounceHandOver { shard, milliseconds }),
        1 => (0..2usize).prop_map(|shard| Step::AnnounceEnd { shard }),
        2 => (0..2usize, any::<bool>()).prop_map(|(shard, is_told)| Step::HandOver { shard, is_told }),
        1 => (0..CLIENTS).prop_map(|client| Step::Leave { client }),
        1 => Just(Step::Advance { milliseconds: 11_000 }),
    ]
}
