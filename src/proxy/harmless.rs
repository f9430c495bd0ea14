//! Which requests may be sent twice. Pure.

use crate::command::{Flags, Spec};
use crate::resp::Request;

/// Whether a request that may have been executed can be executed again without a difference to
/// anybody but its sender, who has no reply yet: reads, and writes that set a fixed value whatever was
/// there before.
pub fn is_harmless_to_repeat(spec: &Spec, request: &Request) -> bool {
    const NOT_IF_OPTIONS: &[(&str, usize)] = &[("set", 3), ("expireat", 3), ("pexpireat", 3)];
    if spec.flags.contains(Flags::READONLY) {
        return true;
    }
    matches!(&*spec.name, "mset" | "hmset" | "ping" | "echo" | "time")
        || NOT_IF_OPTIONS.iter().any(|(name, len)| *name == &*spec.name && request.len() == *len)
}
