//! Glob patterns as servers match them (redis.io: KEYS): `*`, `?`, `[a-c]`, `[^a]`, and `\` before a
//! letter that stands for itself. Pure; takes time in proportion to pattern times text, never more.

/// Whether `text` as a whole matches `pattern`, in any letter case.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on when the last star has to take one byte more.
    let mut retry: Option<(usize, usize)> = None;
    while from < text.len() {
        match one(&pattern[at..], text[from]) {
            Step::Star => {
                at += 1;
                retry = Some((at, from + 1));
            }
            Step::Matches(len) => {
                at += len;
                from += 1;
            }
            Step::Differs => match retry {
                Some((after, next)) => {
                    (at, from) = (after, next);
                    retry = Some((after, next + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

enum Step {
    Star,
    /// So many bytes of the pattern stand for the byte.
    Matches(usize),
    Differs,
}

/// Matches one byte with the beginning of the pattern.
fn one(pattern: &[u8], byte: u8) -> Step {
    let same = |a: u8| a.eq_ignore_ascii_case(&byte);
    let (matches, len) = match *pattern {
        [b'*', ..] => return Step::Star,
        [] => (false, 0),
        [b'?', ..] => (true, 1),
        [b'[', ..] => class(pattern, byte),
        [b'\\', escaped, ..] => (same(escaped), 2),
        [plain, ..] => (same(plain), 1),
    };
    if matches { Step::Matches(len) } else { Step::Differs }
}

/// Whether the class that the pattern begins with holds `byte`, and the length of the class. One that is
/// never closed reaches to the pattern's end.
fn class(pattern: &[u8], byte: u8) -> (bool, usize) {
    let is_negated = pattern.get(1) == Some(&b'^');
    let mut at = 1 + usize::from(is_negated);
    let mut is_in = false;
    let fold = |byte: u8| byte.to_ascii_lowercase();
    loop {
        match pattern[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                is_in |= fold(escaped) == fold(byte);
                at += 2;
            }
            [low, b'-', high, ..] => {
                let (low, high) = (fold(low).min(fold(high)), fold(low).max(fold(high)));
                is_in |= (low..=high).contains(&fold(byte));
                at += 3;
            }
            [plain, ..] => {
                is_in |= fold(plain) == fold(byte);
                at += 1;
            }
        }
    }
    (is_in != is_negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_on_a_server() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("config*", "CONFIG|get", true),
            ("*get", "config|get", true),
            ("*|*t", "config|get", true),
            ("g?t", "get", true),
            ("g?t", "gt", false),
            ("g[a-f]t", "get", true),
            ("g[^a-f]t", "get", false),
            ("g\\*t", "g*t", true),
            ("g\\*t", "get", false),
            ("[", "[", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_pattern_times_text() {
        let pattern = "*a".repeat(500);
        assert!(!matches(pattern.as_bytes(), "a".repeat(499).as_bytes()));
    }
}
