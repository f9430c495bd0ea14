//! CONFIG GET and SET: a node's settings, as those of one server. Pure.
//!
//! What tells where a node is, that it is one of many, or how to get in there, is replaced by what the
//! gateway has instead, or by what a server without it says.

use super::fanout::{array, element, text_of};
use crate::resp::ReplyWriter;
use std::net::SocketAddr;

/// What the gateway has itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    pub listen: SocketAddr,
    pub max_clients: usize,
}

/// What is said of a setting instead of a node's value; `None`: the node's value.
pub fn substitute(name: &str, own: &Own) -> Option<String> {
    let text = match name {
        "port" => own.listen.port().to_string(),
        "bind" => own.listen.ip().to_string(),
        "maxclients" => own.max_clients.to_string(),
        "cluster-enabled" => "no".to_string(),
        "tls-port" | "cluster-port" => "0".to_string(),
        "dir" => "/".to_string(),
        "logfile" | "pidfile" | "aclfile" => String::new(),
        "bind-source-addr" | "unixsocket" | "replicaof" | "slaveof" => String::new(),
        "requirepass"
        | "masterauth"
        | "masteruser"
        | "primaryauth"
        | "primaryuser"
        | "tls-key-file-pass"
        | "tls-client-key-file-pass" => String::new(),
        _ if !name.contains("-announce-") => return None,
        _ if name.ends_with("-port") => "0".to_string(),
        _ => String::new(),
    };
    Some(text)
}

/// Whether a setting is about where nodes are and how to get in there: all nodes would get one client's value,
/// and neither each other nor the gateway would find them any more.
pub fn is_of_nodes(name: &str) -> bool {
    match name {
        "port" | "tls-port" | "cluster-port" | "bind" | "bind-source-addr" | "unixsocket" => true,
        "requirepass" | "masterauth" | "masteruser" | "primaryauth" | "primaryuser" => true,
        name => name.contains("-announce-"),
    }
}

/// Writes the reply of a node, whether array or map, with what may be told of it.
pub fn rewrite(reply: &[u8], own: &Own, out: &mut ReplyWriter) {
    let (count, mut rest) = array(reply);
    let pairs = if reply.first() == Some(&b'%') { count } else { count / 2 };
    out.map(pairs);
    for _ in 0..pairs {
        let Some((name, after)) = element(rest) else { break };
        let Some((value, after)) = element(after) else { break };
        rest = after;
        out.out.extend_from_slice(name);
        let name = String::from_utf8_lossy(text_of(name)).to_ascii_lowercase();
        match substitute(&name, own) {
            Some(text) => out.bulk(&text),
            None => out.out.extend_from_slice(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Version;

    fn rewritten(version: Version, fields: &[(&str, &str)]) -> String {
        let mut reply = Vec::new();
        let mut writer = ReplyWriter { out: &mut reply, version };
        writer.map(fields.len());
        fields.iter().flat_map(|(name, value)| [name, value]).for_each(|text| writer.bulk(text));
        let own = Own { listen: "0.0.0.0:6379".parse().unwrap(), max_clients: 9 };
        let mut out = Vec::new();
        rewrite(&reply, &own, &mut ReplyWriter { out: &mut out, version });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_nodes_place_and_password_are_not_told() {
        for (name, value, told) in [
            ("port", "7001", "6379"),
            ("bind", "10.0.0.7 ::1", "0.0.0.0"),
            ("cluster-announce-ip", "10.0.0.7", ""),
            ("cluster-announce-bus-port", "17001", "0"),
            ("replica-announce-ip", "10.0.0.7", ""),
            ("replicaof", "10.0.0.8 7002", ""),
            ("cluster-enabled", "yes", "no"),
            ("requirepass", "secret", ""),
            ("maxmemory", "0", "0"),
            ("dir", "/data/7001", "/"),
        ] {
            let (n, t) = (name.len(), told.len());
            let body = format!("${n}\r\n{name}\r\n${t}\r\n{told}\r\n");
            assert_eq!(rewritten(Version::Resp2, &[(name, value)]), format!("*2\r\n{body}"));
            assert_eq!(rewritten(Version::Resp3, &[(name, value)]), format!("%1\r\n{body}"));
        }
    }
}
