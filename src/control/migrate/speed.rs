//! How fast keys may move: so many a second, and only while both nodes answer quickly.
//!
//! One speed for all moves of a run. Between two requests that move keys it is asked for leave; when the
//! run is asked to end it lets everything pass, so that no slot is left open.

use super::{Event, Stop};
use crate::control::node_client::{NodeClient, NodeError};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// How long nodes that answer slowly are left alone before they are asked again.
const REST: Duration = Duration::from_millis(50);
/// How often a request to end is looked for while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Requests in a second, when the rate has a limit: each moves its share of the keys.
const PORTIONS: u32 = 10;

/// What limits a run; shared by all its moves.
#[derive(Clone, Debug, Default)]
pub struct Speed {
    /// Keys in a second.
    rate: Option<u32>,
    /// How long each node may take to answer `PING`.
    latency: Option<Duration>,
    stop: Stop,
    /// When the next keys may leave.
    next: Arc<Mutex<Option<Instant>>>,
}

impl Speed {
    /// Keys in a second, and how long the nodes' answers may take; `None` is no limit.
    pub fn new(rate: Option<u32>, latency: Option<Duration>, stop: Stop) -> Speed {
        Speed { rate, latency, stop, next: Arc::default() }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.rate.is_some() || self.latency.is_some()
    }

    /// How many keys one request may move, of the `usual` number.
    pub(super) fn keys_at_once(&self, usual: usize) -> usize {
        self.rate.map_or(usual, |rate| usual.min((rate / PORTIONS).max(1) as usize))
    }

    /// Waits until `keys` more may leave the source for the target.
    ///
    /// # Errors
    /// A node does not answer at all.
    pub(super) async fn wait(
        &self,
        keys: usize,
        source: &mut NodeClient,
        target: &mut NodeClient,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), NodeError> {
        if let Some(rate) = self.rate {
            let turn = self.turn(keys, rate);
            while !self.stop.is_requested() && Instant::now() < turn {
                sleep_until(turn.min(Instant::now() + LOOK_EVERY)).await;
            }
        }
        let Some(limit) = self.latency else { return Ok(()) };
        let mut is_told = false;
        while !self.stop.is_requested() {
            let answers = [answer(source).await?, answer(target).await?];
            let Some((slow, took)) = answers.into_iter().find(|(_, took)| *took > limit) else { break };
            if !is_told {
                let text = format!("{slow} takes {took:?} to answer, longer than {limit:?}: waiting");
                // Whoever listens may have gone.
                let _ = events.send(Event::Note(text)).await;
                is_told = true;
            }
            sleep(REST).await;
        }
        Ok(())
    }

    /// When these keys may leave: those before them first, at the rate.
    fn turn(&self, keys: usize, rate: u32) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(Instant::now(), |next| next.max(Instant::now()));
        let takes = Duration::from_secs(1) * u32::try_from(keys).unwrap_or(u32::MAX) / rate.max(1);
        *next = Some(turn + takes);
        turn
    }
}

/// How long a node takes to answer.
async fn answer(client: &mut NodeClient) -> Result<(SocketAddr, Duration), NodeError> {
    let began = Instant::now();
    client.call(&["PING"]).await?;
    Ok((client.addr(), began.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_leave_one_portion_after_the_other_at_the_rate() {
        let speed = Speed::new(Some(100), None, Stop::default());
        assert_eq!((speed.keys_at_once(512), Speed::default().keys_at_once(512)), (10, 512));
        assert_eq!(Speed::new(Some(3), None, Stop::default()).keys_at_once(512), 1);
        let began = Instant::now();
        assert_eq!(speed.turn(10, 100) - began, Duration::ZERO);
        // Another move of the same run stands in the same line.
        assert_eq!(speed.clone().turn(10, 100) - began, Duration::from_millis(100));
        assert_eq!(speed.turn(10, 100) - began, Duration::from_millis(200));
        // What was not used is not saved up.
        sleep(Duration::from_secs(60)).await;
        assert_eq!(speed.turn(10, 100), Instant::now());
    }
}
