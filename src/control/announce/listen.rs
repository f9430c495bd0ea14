//! Hears announcements, over one subscribed connection to any node, and applies them to the shared topology.

use super::Announcement;
use crate::backend::{Backoff, Credentials};
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::topology::{ANNOUNCEMENTS, Health, NodeId, SharedTopology};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A connection that is silent for so long is asked for a sign of life, and left when there is none within
/// as long again: meanwhile changes are only less smooth.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two tries to subscribe.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Applies what is announced until `cancelled` completes.
pub async fn listen(
    credentials: Credentials,
    limit: Duration,
    shared: Arc<SharedTopology>,
    cancelled: impl Future<Output = ()>,
) {
    let listening = async {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let began = Instant::now();
            if let Err(error) = hear(&credentials, limit, &shared).await {
                tracing::debug!(%error, "announcements of planned changes are not heard");
            }
            if began.elapsed() > BACKOFF.1 {
                backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
            }
            sleep(backoff.next_wait()).await;
        }
    };
    tokio::select! {
        () = cancelled => {}
        () = listening => {}
    }
}

/// Subscribes at some node and hears until the connection is lost.
async fn hear(credentials: &Credentials, limit: Duration, shared: &SharedTopology) -> Result<(), NodeError> {
    let snapshot = shared.load();
    let nodes = snapshot.nodes().iter().filter(|node| node.health == Health::Ok).collect::<Vec<_>>();
    let Some(node) = fastrand::choice(nodes) else { return Ok(()) };
    let mut client = NodeClient::connect(node.addr, credentials, limit).await?;
    client.call(&[b"SUBSCRIBE", ANNOUNCEMENTS]).await?;
    // Hand-overs that were announced, until nobody may wait for them any more.
    let mut open: VecDeque<(Instant, NodeId)> = VecDeque::new();
    let mut is_asked = false;
    loop {
        let due = open.front().map(|(until, _)| *until);
        tokio::select! {
            message = timeout(SILENCE, client.next_message()) => match message {
                Ok(message) => {
                    is_asked = false;
                    if let Some(announcement) = read(message?) {
                        tracing::debug!(?announcement, "a planned change");
                        if let Announcement::Begins { primary, lasts, .. } = announcement {
                            open.retain(|(_, other)| *other != primary);
                            open.push_back((Instant::now() + lasts, primary));
                        }
                        announcement.apply(shared);
                    }
                }
                Err(_) if is_asked => return Ok(()),
                Err(_) => {
                    is_asked = true;
                    client.send(&["PING"]).await?;
                }
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some((_, primary)) = open.pop_front() {
                    shared.end_hand_over(primary);
                }
            }
        }
    }
}

/// `message`, the channel, the text.
fn read(message: Reply) -> Option<Announcement> {
    let Reply::Array(parts) = message else { return None };
    match parts.as_slice() {
        [Reply::BulkString(word), Reply::BulkString(channel), Reply::BulkString(text)]
            if word.as_ref() == b"message" && channel.as_ref() == ANNOUNCEMENTS =>
        {
            Announcement::parse(text)
        }
        _ => None,
    }
}
