//! Makes gossip travel at once: a member that contacts another one shows it its role and slots in the same
//! message, which it would otherwise learn within half the node timeout.

use super::node_client::NodeClient;
use super::problem::Problem;
use super::view::{NodeView, View};
use crate::backend::Credentials;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Contacts for one look: in a large cluster the rest is left to gossip.
const MOST: usize = 64;

/// Whom a member was already introduced to.
#[derive(Debug, Default)]
pub struct Introduced(HashSet<(SocketAddr, SocketAddr)>);

impl Introduced {
    /// Lets members whose role another member has not learned contact it, once each. Members that do not
    /// know each other are left alone: only acquaintances are sure to be of one cluster. What fails is
    /// left to gossip.
    pub async fn spread_roles(
        &mut self,
        view: &View,
        problems: &[Problem],
        credentials: &Credentials,
        limit: Duration,
    ) {
        for (member, viewer) in self.due(view, problems) {
            let Ok(mut client) = NodeClient::connect(member, credentials, limit).await else { continue };
            let (ip, port) = (viewer.asked.ip().to_string(), viewer.asked.port().to_string());
            let bus_port = viewer.myself().bus_port.to_string();
            let _ = client.call(&["CLUSTER", "MEET", &ip, &port, &bus_port]).await;
        }
    }

    fn due<'a>(&mut self, view: &'a View, problems: &[Problem]) -> Vec<(SocketAddr, &'a NodeView)> {
        let pairs = problems.iter().filter_map(|problem| match problem {
            Problem::OtherRole { viewer, member, .. } => {
                let (viewer, member) = (&view.at(*viewer)?.view, &view.at(*member)?.view);
                let are_acquainted = viewer.line(member.id()).is_some() && member.line(viewer.id()).is_some();
                are_acquainted.then_some((member.asked, viewer))
            }
            _ => None,
        });
        pairs.filter(|(member, viewer)| self.0.insert((*member, viewer.asked))).take(MOST).collect()
    }
}
