//! What nodes in memory know of commands with several keys, and of values on their way between nodes.

use super::cluster::{Cluster, bulk, text};
use sha1::{Digest, Sha1};

/// The keys of such a command; `None` if it is none.
pub fn keys_of(name: &str, args: &[Vec<u8>]) -> Option<Vec<String>> {
    let texts = |args: &[Vec<u8>]| args.iter().map(|arg| text(arg)).collect();
    Some(match name {
        "LCS" | "RENAME" | "UNLINK" => texts(&args[1..]),
        "BITOP" => texts(&args[2..]),
        "EVAL" => texts(&args[3..4]),
        _ => return None,
    })
}

fn digest(value: Option<&String>) -> String {
    let hex = |value: &String| Sha1::digest(value).iter().map(|byte| format!("{byte:02x}")).collect();
    value.map_or(String::new(), hex)
}

impl Cluster {
    /// Runs such a command; `None` if it is none.
    pub fn execute_on_values(&mut self, node: usize, name: &str, args: &[Vec<u8>]) -> Option<Vec<u8>> {
        let data = &mut self.data[node % 2];
        let arg = |n: usize| text(&args[n]);
        let ok = || b"+OK\r\n".to_vec();
        let number = |number: usize| format!(":{number}\r\n").into_bytes();
        let of = |key: String| data.get(&key).cloned().unwrap_or_default();
        Some(match name {
            "SET" if args.get(3).is_some_and(|option| option == b"NX") => {
                if data.contains_key(&arg(1)) {
                    return Some(b"$-1\r\n".to_vec());
                }
                data.insert(arg(1), arg(2));
                ok()
            }
            "DUMP" => data.get(&arg(1)).map_or(b"$-1\r\n".to_vec(), |value| bulk(value)),
            "PTTL" => if data.contains_key(&arg(1)) { ":-1\r\n" } else { ":-2\r\n" }.into(),
            "PERSIST" | "PEXPIRE" => number(usize::from(data.contains_key(&arg(1)))),
            "RESTORE" => {
                data.insert(arg(1), arg(3));
                ok()
            }
            "UNLINK" => number(args[1..].iter().filter(|key| data.remove(&text(key)).is_some()).count()),
            // Stand for any command that reads several keys, or writes one of several.
            "LCS" => bulk(&format!("{}|{}", of(arg(1)), of(arg(2)))),
            "BITOP" => {
                let value = format!("{}+{}", of(arg(3)), of(arg(4)));
                let len = value.len();
                data.insert(arg(2), value);
                number(len)
            }
            "RENAME" => match data.remove(&arg(1)) {
                Some(value) => {
                    data.insert(arg(2), value);
                    ok()
                }
                None => b"-ERR no such key\r\n".to_vec(),
            },
            "EVAL" => self.execute_script(node, args),
            _ => return None,
        })
    }

    /// The scripts of commands over several slots: to change a key if it is what it was, and to unlock one.
    fn execute_script(&mut self, node: usize, args: &[Vec<u8>]) -> Vec<u8> {
        let data = &mut self.data[node % 2];
        let (key, arg) = (text(&args[3]), |n: usize| text(&args[3 + n]));
        if !text(&args[1]).contains("'RESTORE'") {
            if data.get(&key) == Some(&arg(1)) {
                data.remove(&key);
            }
            return bulk(&arg(1));
        }
        if digest(data.get(&key)) != arg(1) {
            return b":0\r\n".to_vec();
        }
        if arg(3).is_empty() {
            data.remove(&key);
        } else {
            data.insert(key.clone(), arg(3));
        }
        bulk(&digest(data.get(&key)))
    }
}
