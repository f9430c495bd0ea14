//! One row of `commands.txt` → one [`Spec`]. The columns are described at the head of that file. Strict:
//! a word that is not known is an error, so that a slip in the table fails a test instead of being lost.

use super::bits::{Access, Categories, Flags};
use super::spec::{Begin, Find, KeySpec, Spec};
use super::tips::{Group, Tips};

/// What is wrong with a row; the word that could not be read is in it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}: {text:?}")]
pub(super) struct RowError {
    what: &'static str,
    text: String,
}

fn wrong(what: &'static str, text: &str) -> RowError {
    RowError { what, text: text.to_owned() }
}

/// Reads one row.
pub(super) fn parse(row: &str) -> Result<Spec, RowError> {
    let mut columns = row.split(' ');
    let mut column = |what| columns.next().filter(|text| !text.is_empty()).ok_or_else(|| wrong(what, row));
    let name = column("no name")?;
    let arity = number(column("no arity")?)?;
    let group = column("no group")?;
    let since = column("no release")?;
    let flags = words(column("no flags")?, "unknown flag", Flags::NONE, Flags::from_word, Flags::with)?;
    let named = words(
        column("no acl")?,
        "unknown category",
        Categories::NONE,
        Categories::from_word,
        Categories::with,
    )?;
    let keys = list(column("no keys")?, ';').map(key_spec).collect::<Result<_, _>>()?;
    let mut tips = Tips::default();
    for tip in list(column("no tips")?, ',') {
        if !tips.add(tip) {
            return Err(wrong("unknown tip", tip));
        }
    }
    if let Some(rest) = columns.next() {
        return Err(wrong("a ninth column", rest));
    }
    let mut spec = Spec::new(name, arity, flags, named, keys, tips);
    spec.group = Group::from_word(group).ok_or_else(|| wrong("unknown group", group))?;
    spec.since = since.into();
    Ok(spec)
}

fn list(text: &str, by: char) -> impl Iterator<Item = &str> {
    text.split(by).filter(move |_| text != "-")
}

fn words<T: Copy>(
    text: &str,
    what: &'static str,
    none: T,
    read: fn(&str) -> Option<T>,
    with: fn(T, T) -> T,
) -> Result<T, RowError> {
    list(text, ',').try_fold(none, |set, word| Ok(with(set, read(word).ok_or_else(|| wrong(what, word))?)))
}

fn number(text: &str) -> Result<i16, RowError> {
    text.parse().map_err(|_| wrong("not a small number", text))
}

/// Reads `FLAGS@BEGIN` with `..LAST/STEP[/LIMIT]`, `#AT+FIRST/STEP`, `?` or nothing after it.
fn key_spec(text: &str) -> Result<KeySpec, RowError> {
    let (flags, place) = text.split_once('@').ok_or_else(|| wrong("a key spec without @", text))?;
    let access = words(flags, "unknown key flag", Access::NONE, Access::from_word, Access::with)?;
    let (begin, find) = if let Some((begin, range)) = place.split_once("..") {
        let mut numbers = range.split('/').map(number);
        let mut next = || numbers.next().unwrap_or_else(|| Err(wrong("a short range", text)));
        let (last, step) = (next()?, next()?);
        (begin, Find::Range { last, step, limit: numbers.next().unwrap_or(Ok(0))? })
    } else if let Some((begin, keynum)) = place.split_once('#') {
        let (at, rest) = keynum.split_once('+').ok_or_else(|| wrong("a count without +", text))?;
        let (first, step) = rest.split_once('/').ok_or_else(|| wrong("a count without a step", text))?;
        (begin, Find::Keynum { at: number(at)?, first: number(first)?, step: number(step)? })
    } else if let Some(begin) = place.strip_suffix('?') {
        (begin, Find::Unknown)
    } else {
        (place, Find::Range { last: 0, step: 1, limit: 0 })
    };
    let begin = match begin.split_once('>') {
        Some((word, from)) => Begin::Keyword { word: word.into(), from: number(from)? },
        None if begin == "?" => Begin::Unknown,
        None => Begin::Index(number(begin)?),
    };
    Ok(KeySpec { access, begin, find })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_all_that_is_in_it() {
        let spec = parse(
            "xread -4 stream 5.0.0 readonly,blocking stream RO,access@STREAMS>1..-1/1/2 response_policy:special",
        )
        .unwrap();
        assert_eq!(
            (&*spec.name, spec.arity, spec.group, &*spec.since),
            ("xread", -4, Group::Stream, "5.0.0")
        );
        let begin = Begin::Keyword { word: "STREAMS".into(), from: 1 };
        let find = Find::Range { last: -1, step: 1, limit: 2 };
        assert_eq!(&*spec.keys, [KeySpec { access: Access::RO.with(Access::ACCESS), begin, find }]);
        assert!(spec.categories.contains(Categories::READ.with(Categories::BLOCKING)));
    }

    #[test]
    fn a_slip_is_named() {
        for (row, what) in [
            ("get 2 string 1.0.0 readonly,fats string RO@1 -", "unknown flag: \"fats\""),
            ("get two string 1.0.0 readonly string RO@1 -", "not a small number: \"two\""),
            ("get 2 strings 1.0.0 readonly string RO@1 -", "unknown group: \"strings\""),
            ("get 2 string 1.0.0 readonly string RO@1..2 -", "a short range: \"RO@1..2\""),
            ("get 2 string 1.0.0 readonly string RO@1 - -", "a ninth column: \"-\""),
            ("get 2 string", "no release: \"get 2 string\""),
        ] {
            assert_eq!(parse(row).unwrap_err().to_string(), what);
        }
    }
}
