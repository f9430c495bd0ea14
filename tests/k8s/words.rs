//! Lines of progress, with the time since the program began.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Tells on the standard error what happens now.
pub fn say(text: &str) {
    eprintln!("[{:4} s] {text}", BEGAN.elapsed().as_secs());
}

/// A duration as the table shows it.
pub fn time(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{:.2} s", took.as_secs_f64())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}
