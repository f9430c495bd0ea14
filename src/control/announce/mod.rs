//! Announcements: what is about to happen to the cluster, told to every gateway that serves it, so that a
//! planned change is a pause of milliseconds. They travel over the cluster itself, as messages of one
//! channel ([`ANNOUNCEMENTS`]), so nobody needs to know where the gateways are.
//!
//! Only a kindness: a gateway that did not hear, or heard something false, still follows every redirect.
//! How long writes may be held is bounded, whatever an announcement says.

mod listen;

pub use listen::listen;

use super::node_client::NodeClient;
use crate::topology::{ANNOUNCEMENTS, HandingOver, NodeId, SharedTopology, SlotRange};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The longest time for which new writes are held for one announcement. A planned failover takes tens of
/// milliseconds; one that fails is given up by the nodes after 5 s, during which they hold the writes.
pub const LONGEST: Duration = Duration::from_secs(2);
/// More ranges than this are not told; the redirects of the rest are followed as ever.
const MOST_RANGES: usize = 1024;

/// What is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Announcement {
    /// A primary is about to hand all its slots over; it takes at most so long.
    Begins { primary: NodeId, to: NodeId, lasts: Duration },
    /// It does not, after all.
    Ends { primary: NodeId },
    /// A node owns these slots from now on.
    Owner { node: NodeId, slots: Vec<SlotRange> },
}

/// The shape on the wire. Unknown fields are of later versions, and fine.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
enum Message {
    Begins { primary: String, to: String, lasts_ms: u64 },
    Ends { primary: String },
    Owner { node: String, slots: Vec<(u16, u16)> },
}

impl Announcement {
    fn to_message(&self) -> Option<Vec<u8>> {
        let message = match self {
            Announcement::Begins { primary, to, lasts } => Message::Begins {
                primary: primary.to_string(),
                to: to.to_string(),
                lasts_ms: lasts.as_millis().try_into().unwrap_or(u64::MAX),
            },
            Announcement::Ends { primary } => Message::Ends { primary: primary.to_string() },
            Announcement::Owner { node, slots } => Message::Owner {
                node: node.to_string(),
                slots: slots.iter().map(|range| (range.start.number(), range.end.number())).collect(),
            },
        };
        serde_json::to_vec(&message).ok()
    }

    /// What a message says, if it is one of these.
    fn parse(message: &[u8]) -> Option<Announcement> {
        Some(match serde_json::from_slice(message).ok()? {
            Message::Begins { primary, to, lasts_ms } => Announcement::Begins {
                primary: primary.parse().ok()?,
                to: to.parse().ok()?,
                lasts: Duration::from_millis(lasts_ms).min(LONGEST),
            },
            Message::Ends { primary } => Announcement::Ends { primary: primary.parse().ok()? },
            Message::Owner { node, slots } if slots.len() <= MOST_RANGES => Announcement::Owner {
                node: node.parse().ok()?,
                slots: slots.into_iter().map(|(a, b)| SlotRange::new(a, b)).collect::<Option<_>>()?,
            },
            Message::Owner { .. } => return None,
        })
    }

    /// Has a gateway act on it.
    fn apply(&self, shared: &SharedTopology) {
        match self {
            Announcement::Begins { primary, to, lasts } => {
                let until = Instant::now() + *lasts;
                shared.begin_hand_over(HandingOver { primary: *primary, to: *to, until });
            }
            Announcement::Ends { primary } => shared.end_hand_over(*primary),
            Announcement::Owner { node, slots } => shared.give(slots, *node),
        }
    }
}

/// Tells all gateways of the cluster, through one of its nodes. They hear it within milliseconds. What
/// fails here, such as a user that may not publish, makes the change less smooth and nothing else.
pub async fn announce(client: &mut NodeClient, announcement: &Announcement) {
    let Some(message) = announcement.to_message() else { return };
    if let Err(error) = client.call(&[&b"PUBLISH"[..], ANNOUNCEMENTS, &message]).await {
        tracing::debug!(%error, "the gateways were not told of a planned change");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u8) -> NodeId {
        format!("{n:040x}").parse().unwrap()
    }

    #[test]
    fn what_is_announced_is_understood() {
        let slots = vec![SlotRange::new(0, 5460).unwrap(), SlotRange::new(7000, 7000).unwrap()];
        for announcement in [
            Announcement::Begins { primary: id(1), to: id(2), lasts: Duration::from_millis(700) },
            Announcement::Ends { primary: id(1) },
            Announcement::Owner { node: id(2), slots },
        ] {
            let message = announcement.to_message().unwrap();
            assert_eq!(Announcement::parse(&message), Some(announcement));
        }
    }

    #[test]
    fn no_announcement_holds_writes_for_long() {
        let announcement = Announcement::Begins { primary: id(1), to: id(2), lasts: Duration::MAX };
        let message = announcement.to_message().unwrap();
        assert_eq!(
            Announcement::parse(&message),
            Some(Announcement::Begins { primary: id(1), to: id(2), lasts: LONGEST })
        );
    }

    #[test]
    fn what_is_none_is_ignored() {
        let ranges = vec![(0, 0); MOST_RANGES + 1];
        let many = serde_json::to_vec(&Message::Owner { node: id(1).to_string(), slots: ranges }).unwrap();
        let wrong = [
            &b""[..],
            b"{}",
            b"{\"what\":\"ends\",\"primary\":\"x\"}",
            b"{\"what\":\"owner\",\"node\":\"0000000000000000000000000000000000000001\",\"slots\":[[9,7]]}",
            &many,
        ];
        for message in wrong {
            assert_eq!(Announcement::parse(message), None, "{}", String::from_utf8_lossy(message));
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(message: Vec<u8>) {
            let _ = Announcement::parse(&message);
        }
    }
}
