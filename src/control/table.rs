//! A table for people: columns as wide as their longest cell.

/// Lines of cells; the first names the columns.
pub struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    pub fn new(names: &[&str]) -> Table {
        Table { lines: vec![names.iter().map(ToString::to_string).collect()] }
    }

    pub fn push(&mut self, cells: Vec<String>) {
        self.lines.push(cells);
    }

    /// The table as text; columns that are empty but for their name are left out.
    pub fn text(&self) -> String {
        let columns = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|ix| {
                let width = |line: &Vec<String>| line.get(ix).map_or(0, |cell| cell.chars().count());
                let is_used = self.lines.iter().skip(1).any(|line| width(line) > 0);
                if is_used { self.lines.iter().map(width).max().unwrap_or(0) } else { 0 }
            })
            .collect();
        let mut out = String::new();
        for line in &self.lines {
            let cells = line.iter().zip(&widths).filter(|(_, width)| **width > 0);
            let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
            out += cells.join("  ").trim_end();
            out.push('\n');
        }
        out
    }
}

/// A number of things: `1 error`, `2 errors`.
pub fn things(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A number of bytes in at most five characters: `512`, `1.5K`, `20M`.
pub fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["", "K", "M", "G", "T"] {
        if value < 1024.0 || unit == "T" {
            let digits = usize::from(value < 10.0 && !unit.is_empty());
            return format!("{value:.digits$}{unit}");
        }
        value /= 1024.0;
    }
    number.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        let mut table = Table::new(&["A", "B", "C"]);
        table.push(vec!["long".into(), String::new(), "x".into()]);
        table.push(vec!["s".into(), String::new(), "yy".into()]);
        assert_eq!(table.text(), "A     C\nlong  x\ns     yy\n");
    }

    #[test]
    fn bytes_are_short() {
        let shown: Vec<String> = [0, 1023, 1024, 1536, 20 << 20, 3 << 40].map(bytes).to_vec();
        assert_eq!(shown, ["0", "1023", "1.0K", "1.5K", "20M", "3.0T"]);
    }
}
