//! A seed: a configured place where some node of the cluster can be asked.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;
use tokio::time::timeout;

/// `HOST:PORT`; the host is an address, or a name that may resolve to many (a headless Service).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Seed {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

/// A text that is not a seed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not HOST:PORT, such as redis-0.redis:6379, 10.0.0.1:6379 or [fd00::1]:6379")]
pub struct SeedError(String);

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Seed, SeedError> {
        let wrong = || SeedError(text.chars().take(200).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bracketed {
            Some(host) => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()),
            None => {
                !host.is_empty()
                    && host.len() <= 253
                    && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
            }
        };
        if is_host && port != 0 {
            Ok(Seed { host: bracketed.unwrap_or(host).to_ascii_lowercase(), port })
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for Seed {
    fn from(addr: SocketAddr) -> Seed {
        Seed { host: addr.ip().to_string(), port: addr.port() }
    }
}

impl Seed {
    /// Looks the addresses up, now: nothing is remembered between two looks.
    ///
    /// # Errors
    /// The name is unknown, or the name server did not answer within `limit`.
    pub async fn resolve(&self, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let found = timeout(limit, tokio::net::lookup_host((self.host.as_str(), self.port))).await;
        let mut addrs: Vec<SocketAddr> =
            found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.collect();
        addrs.sort_unstable();
        addrs.dedup();
        Ok(addrs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_and_shown_alike() {
        for text in ["127.0.0.1:6379", "redis-0.redis.default.svc:7000", "[fd00::1]:6379"] {
            assert_eq!(text.parse::<Seed>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_seed_is_refused() {
        for text in
            ["", "redis", ":6379", "redis:", "redis:0", "redis:70000", "::1:6379", "[redis]:6379", "a b:1"]
        {
            assert!(text.parse::<Seed>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn addresses_need_no_name_server_and_names_may_have_several() {
        let limit = Duration::from_secs(10);
        let one: Seed = "[::1]:6379".parse().unwrap();
        assert_eq!(one.resolve(limit).await.unwrap(), ["[::1]:6379".parse().unwrap()]);
        let named: Seed = "localhost:6379".parse().unwrap();
        assert!(named.resolve(limit).await.unwrap().iter().all(|addr| addr.ip().is_loopback()));
        let unknown: Seed = "no-such-host.invalid:6379".parse().unwrap();
        assert!(unknown.resolve(limit).await.is_err());
    }
}
