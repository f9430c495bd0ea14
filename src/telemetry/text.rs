//! Writes the Prometheus text format for what the exporter does not keep: histograms by bucket, and
//! numbers read off at the moment of the scrape. Pure.

use super::histogram::SharedHistogram;
use super::table::Metric;
use std::fmt::Write;

/// The `# HELP` and `# TYPE` lines of a metric.
pub(super) fn header(out: &mut String, metric: &Metric) {
    let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
    put(
        out,
        format_args!("# HELP {} {help}\n# TYPE {} {}\n", metric.name, metric.name, metric.kind.as_str()),
    );
}

/// One line: `name{label="value"} number`.
pub(super) fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    out.push_str(name);
    for (ix, (label, text)) in labels.iter().enumerate() {
        put(out, format_args!("{}{label}=\"{}\"", if ix == 0 { '{' } else { ',' }, escape(text)));
    }
    put(out, format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
}

/// The lines of one histogram: its buckets, sum and count.
pub(super) fn histogram(out: &mut String, name: &str, labels: &[(&str, &str)], histogram: &SharedHistogram) {
    let mut count = 0;
    for (bound, below) in histogram.cumulative() {
        let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_string() };
        let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", &*bound)]).collect();
        sample(out, &format!("{name}_bucket"), &labels, below as f64);
        count = below;
    }
    sample(out, &format!("{name}_sum"), labels, histogram.sum());
    sample(out, &format!("{name}_count"), labels, count as f64);
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn put(out: &mut String, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args).expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut out = String::new();
        sample(&mut out, "x", &[("a", "1"), ("b", "say \"\\\n\"")], 0.5);
        sample(&mut out, "y", &[], 3.0);
        assert_eq!(out, "x{a=\"1\",b=\"say \\\"\\\\\\n\\\"\"} 0.5\ny 3\n");
    }
}
