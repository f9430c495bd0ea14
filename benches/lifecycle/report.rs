//! The table at the end.

/// One promise, and what came of it.
#[derive(Clone)]
pub struct Row {
    pub what: String,
    pub promised: String,
    pub measured: String,
    pub is_kept: bool,
}

impl Row {
    pub fn new(what: &str, promised: &str, measured: String, is_kept: bool) -> Row {
        Row { what: what.into(), promised: promised.into(), measured, is_kept }
    }
}

pub fn print(rows: &[Row]) {
    let width = |of: fn(&Row) -> &str, least: usize| {
        rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0).max(least)
    };
    let (what, promised) = (width(|row| &row.what, 4), width(|row| &row.promised, 8));
    let measured = width(|row| &row.measured, 8);
    println!("\n{:what$}  {:promised$}  {:measured$}  verdict", "what", "promised", "measured");
    for row in rows {
        let verdict = if row.is_kept { "kept" } else { "BROKEN" };
        println!("{:what$}  {:promised$}  {:measured$}  {verdict}", row.what, row.promised, row.measured);
    }
}
