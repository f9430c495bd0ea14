//! The same conversation with the gateway and with one plain server, which shows what is expected.

use super::client::Client;
use super::gateway::Gateway;
use super::real_cluster::RealCluster;

/// One client of each.
pub struct Both {
    pub ours: Client,
    pub model: Client,
}

impl Both {
    #[track_caller]
    pub fn connect(gateway: &Gateway, server: &RealCluster) -> Both {
        Both { ours: gateway.client(), model: server.client(0) }
    }

    /// Sends the words of `line` to both, and checks that the replies are the same bytes; gives them.
    #[track_caller]
    pub fn same(&mut self, line: &str) -> String {
        let (ours, model) = (self.ours.call_text(&words(line)), self.model.call_text(&words(line)));
        assert_eq!(ours, model, "the reply to {line}, and what a plain server says");
        ours
    }

    /// Sends bytes to both, ends our side, and checks that both say the same until they close.
    #[track_caller]
    pub fn same_end(mut self, bytes: &[u8]) -> String {
        let [ours, model] = [&mut self.ours, &mut self.model].map(|client| {
            client.send_raw(bytes);
            client.shutdown_write();
            String::from_utf8_lossy(&client.read_to_end()).into_owned()
        });
        let start = bytes[..bytes.len().min(60)].escape_ascii();
        assert_eq!(ours, model, "what is said to {start}, and what a plain server says");
        ours
    }
}

/// The words of a line; `~` is a space inside a word.
pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| word.replace('~', " ")).collect()
}
