//! Tables in plain text, aligned, and the line of a single sample.

use std::fmt::Write as _;

use super::summary::{Row, Summary};
use super::{Report, Sample, Unit};
use crate::measure::Spread;

/// All tables of a report, with what could not be compared and the warnings.
pub fn tables(report: &Report) -> String {
    let mut text = String::new();
    for summary in super::summary::summaries(&report.samples) {
        // A String takes whatever is written to it.
        let _ = writeln!(text, "{}", table(&summary));
    }
    for subject in &report.subjects {
        if let Some(missing) = &subject.missing {
            let _ = writeln!(text, "{}: {missing}", subject.name);
        }
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    if !report.complete {
        let _ = writeln!(text, "warning: not all rounds were run; these are the figures so far");
    }
    text
}

/// The table of a scenario.
pub fn table(summary: &Summary) -> String {
    let compared = summary.rows.len() > 1;
    let mut header: Vec<String> = vec![String::new()];
    for (at, (name, unit)) in summary.columns.iter().enumerate() {
        header.push(match unit_name(*unit) {
            // `CPU s/GB` says its unit itself.
            unit if unit.is_empty() || name.contains('/') => (*name).to_owned(),
            unit => format!("{name} {unit}"),
        });
        if at == 0 && compared {
            header.extend(["(min-max)".to_owned(), "x DIRECT".to_owned()]);
        }
    }
    header.push("errors".into());
    let mut lines = vec![header];
    lines.extend(summary.rows.iter().map(|row| cells(row, summary, compared)));
    let mut text = aligned(&summary.scenario, &lines);
    for row in &summary.rows {
        for remark in &row.remarks {
            let _ = writeln!(text, "  {}: {remark}", row.subject);
        }
    }
    text
}

/// A title, and lines of cells below it: the first column flush left, the others flush right.
pub fn aligned(title: &str, lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = format!("{title}\n");
    for line in lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if at == 0 { write!(text, "  {cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn cells(row: &Row, summary: &Summary, compared: bool) -> Vec<String> {
    let mut cells = vec![row.subject.clone()];
    for (at, ((_, unit), spread)) in summary.columns.iter().zip(&row.cells).enumerate() {
        cells.push(spread.map_or("-".into(), |spread| number(*unit, spread.median)));
        if at == 0 && compared {
            cells.push(spread.map_or("-".into(), |spread| range(*unit, spread)));
            cells.push(row.of_direct.map_or("-".into(), |ratio| format!("{ratio:.2}")));
        }
    }
    cells.push(if row.rounds == 0 { "failed".into() } else { row.errors.to_string() });
    cells
}

fn range(unit: Unit, spread: Spread) -> String {
    format!("{}-{}", number(unit, spread.min), number(unit, spread.max))
}

/// The line of a sample while others are still to come.
pub fn line(sample: &Sample) -> String {
    let mut text = format!("{}, {}:", sample.scenario, sample.subject);
    if let Some(failure) = &sample.failure {
        let _ = write!(text, " {failure}");
        return text;
    }
    let shown = super::summary::columns(sample).into_iter().take(4);
    let shown: Vec<String> = shown
        .map(|(name, unit, value)| format!("{name} {} {}", number(unit, value), unit_name(unit)))
        .map(|text| text.trim_end().to_owned())
        .collect();
    let _ = write!(text, " {}", shown.join(", "));
    for (kind, what) in &sample.errors.first {
        let _ = write!(text, "; {} x {kind}: {what}", sample.errors.count.get(kind).unwrap_or(&0));
    }
    if sample.interrupted {
        text.push_str(" (interrupted)");
    }
    text
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::BytesPerSecond => "MB/s",
        Unit::PerSecond => "/s",
        Unit::Microseconds => "us",
        Unit::Seconds => "s",
        Unit::Bytes => "KiB",
        Unit::Count | Unit::Ratio => "",
    }
}

fn number(unit: Unit, value: f64) -> String {
    match unit {
        Unit::BytesPerSecond => format!("{:.0}", value / 1e6),
        Unit::Bytes => digits(value / 1024.0),
        Unit::Microseconds | Unit::PerSecond | Unit::Count => digits(value),
        Unit::Seconds | Unit::Ratio => format!("{value:.2}"),
    }
}

/// Three digits at least, and no decimals that say nothing.
fn digits(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
