//! Host: the name of the machine that this process runs on; in a pod it is the pod's.

use std::fs;

/// Empty where nobody tells.
pub fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string()
}
