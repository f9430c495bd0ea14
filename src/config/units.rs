//! How users write values: durations (`10s`), sizes (`64mb`), counts, addresses. Pure.
//!
//! Each type reads and prints one text form, the same on the command line, in the environment and in
//! a file.

use crate::control::discover::Seed;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

/// A duration as users write it: a number with a unit (`ms`, `s`, `m`, `h`, `d`), or several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(pub Duration);

/// A number of bytes as users write it: plain, or with a unit of `redis.conf` (`k` is 1000, `kb` is
/// 1024, and so on; case does not matter).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub usize);

/// How many of something, at least one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Count(pub NonZeroUsize);

/// An address and port to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address(pub SocketAddr);

/// Something that is on or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switch(pub bool);

/// A text that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    #[error("not a duration: {0:?} (write a number and a unit, such as 500ms, 10s or 5m)")]
    NotDuration(String),
    #[error("not a size: {0:?} (write bytes, or a number and a unit, such as 64kb or 32mb)")]
    NotSize(String),
    #[error("not a count: {0:?} (write a whole number from 1 on)")]
    NotCount(String),
    #[error("not an address with a port: {0:?} (write it such as 0.0.0.0:6379 or [::]:6379)")]
    NotAddress(String),
    #[error("neither yes nor no: {0:?}")]
    NotSwitch(String),
}

impl FromStr for Switch {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Switch, UnitError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "1" => Ok(Switch(true)),
            "no" | "false" | "off" | "0" | "" => Ok(Switch(false)),
            _ => Err(UnitError::NotSwitch(text.to_string())),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "yes" } else { "no" })
    }
}

impl FromStr for Count {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Count, UnitError> {
        text.trim().parse().map(Count).map_err(|_| UnitError::NotCount(text.to_string()))
    }
}

impl FromStr for Address {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Address, UnitError> {
        text.trim().parse().map(Address).map_err(|_| UnitError::NotAddress(text.to_string()))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Span, UnitError> {
        if text.trim() == "0" {
            return Ok(Span(Duration::ZERO));
        }
        let parsed = humantime::parse_duration(text);
        parsed.map(Span).map_err(|_| UnitError::NotDuration(text.to_string()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// The units of `redis.conf`, the larger ones first and of each pair the binary one, so that printing
/// finds the shortest exact form.
const UNITS: [(&str, usize); 7] = [
    ("gb", 1 << 30),
    ("mb", 1 << 20),
    ("kb", 1 << 10),
    ("g", 1_000_000_000),
    ("m", 1_000_000),
    ("k", 1000),
    ("b", 1),
];

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Size, UnitError> {
        let lower = text.trim().to_ascii_lowercase();
        let (digits, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, *factor)))
            .unwrap_or((&lower, 1));
        let count: Option<usize> = digits.trim_end().parse().ok();
        let bytes = count.and_then(|count| count.checked_mul(factor));
        bytes.map(Size).ok_or_else(|| UnitError::NotSize(text.to_string()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = UNITS[..3].iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match binary {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => self.0.fmt(f),
        }
    }
}

macro_rules! written {
    ($($type:ty)+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                deserializer.deserialize_any(Written)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}

written!(Span Size Address Switch Seed);

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
        deserializer.deserialize_any(Written)?.parse().map_err(D::Error::custom)
    }
}

/// Takes a text, or a bare number as if it had been quoted.
struct Written;

impl Visitor<'_> for Written {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one text or number")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_string())
    }

    fn visit_bool<E>(self, is_so: bool) -> Result<String, E> {
        Ok(is_so.to_string())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_in_the_words_of_redis_conf_and_of_toml() {
        assert_eq!("yes".parse::<Switch>().unwrap(), Switch(true));
        assert_eq!(serde_json::from_str::<Switch>("true").unwrap(), Switch(true));
        assert_eq!(Switch(false).to_string().parse::<Switch>().unwrap(), Switch(false));
        assert!("perhaps".parse::<Switch>().is_err());
    }

    #[test]
    fn durations_need_a_unit_and_zero_does_not() {
        for (text, millis) in
            [("10s", 10_000), ("500ms", 500), ("1m 30s", 90_000), ("1.5s", 1500), ("0", 0), ("0s", 0)]
        {
            assert_eq!(text.parse::<Span>().unwrap().0, Duration::from_millis(millis), "{text}");
        }
        for text in ["10", "", "ten seconds", "-1s"] {
            assert!(text.parse::<Span>().unwrap_err().to_string().contains("such as 500ms"), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_as_in_redis_conf() {
        for (text, bytes) in
            [("1k", 1000), ("1kb", 1024), ("32MB", 32 << 20), ("1 gb", 1 << 30), ("7", 7), ("7b", 7)]
        {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes, "{text}");
        }
        for text in ["", "mb", "-1", "1.5mb", "99999999999gb"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_count_is_at_least_one() {
        assert_eq!("12".parse::<Count>().unwrap().0.get(), 12);
        for text in ["0", "-1", "x", "1.5"] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for size in [0, 1, 1000, 1024, 1536, 256 << 10, 64 << 20, 3 << 30] {
            assert_eq!(Size(size).to_string().parse::<Size>().unwrap(), Size(size));
        }
        for millis in [0, 1, 500, 1500, 60_000, 3_600_000] {
            let span = Span(Duration::from_millis(millis));
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
    }
}
