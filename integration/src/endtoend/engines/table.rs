//! The record of what each engine did with each runtime, and the table made of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::case::{Outcome, Stop};
use crate::runner::Verdict;

/// One operation of one engine with one runtime.
#[derive(Clone, Debug)]
pub struct Row {
    pub engine: String,
    pub operation: String,
    pub runtime: String,
    pub verdict: Verdict,
    /// Why it failed or was skipped.
    pub message: String,
}

impl Row {
    pub fn new(engine: &str, operation: &str, runtime: &str, outcome: Outcome) -> Row {
        let (verdict, message) = match outcome {
            Ok(()) => (Verdict::Pass, String::new()),
            Err(Stop::Skip(reason)) => (Verdict::Skip, reason),
            Err(Stop::Fail(message)) => (Verdict::Fail, message),
        };
        // An engine's call is longer than what went wrong, and it stands in the transcript.
        let message = message.split_once("` ended with ").map_or(message.clone(), |(_, ending)| ending.into());
        Row { engine: engine.into(), operation: operation.into(), runtime: runtime.into(), verdict, message }
    }

    pub fn line(&self) -> String {
        let text = format!("{:8} {:14} {}", word(self.verdict), self.engine, self.operation);
        let message = self.message.replace('\n', " ");
        if message.is_empty() { text } else { format!("{text}: {message}") }
    }

    pub fn to_json(&self) -> Value {
        json!([self.engine, self.operation, self.runtime, word(self.verdict), self.message])
    }

    pub fn from_json(text: &str) -> Option<Row> {
        let [engine, operation, runtime, verdict, message] = serde_json::from_str::<[String; 5]>(text).ok()?;
        let verdict = match verdict.as_str() {
            "works" => Verdict::Pass,
            "skipped" => Verdict::Skip,
            _ => Verdict::Fail,
        };
        Some(Row { engine, operation, runtime, verdict, message })
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "works",
        Verdict::Skip => "skipped",
        Verdict::Fail => "FAILS",
    }
}

/// One Markdown table an engine, operations by runtimes, with the reasons as notes below it.
pub fn markdown(rows: &[Row], runtimes: &[String]) -> String {
    let mut text = String::new();
    let mut engines: Vec<&str> = Vec::new();
    for row in rows {
        if !engines.contains(&row.engine.as_str()) {
            engines.push(&row.engine);
        }
    }
    for engine in engines {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.engine == engine).collect();
        one_table(&mut text, engine, &rows, runtimes);
    }
    text
}

fn one_table(text: &mut String, engine: &str, rows: &[&Row], runtimes: &[String]) {
    let mut operations: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<(&str, &str), &Row> = BTreeMap::new();
    for row in rows {
        if !operations.contains(&row.operation.as_str()) {
            operations.push(&row.operation);
        }
        cells.insert((&row.operation, &row.runtime), row);
    }
    let mut notes: Vec<String> = Vec::new();
    put(
        text,
        format_args!(
            "### {engine}\n| operation | {} |\n|---|{}\n",
            runtimes.join(" | "),
            "---|".repeat(runtimes.len())
        ),
    );
    for operation in operations {
        let words = runtimes.iter().map(|runtime| match cells.get(&(operation, runtime.as_str())) {
            Some(row) => cell(row, &mut notes),
            None => "not tried".into(),
        });
        let words: Vec<String> = words.collect();
        put(text, format_args!("| {operation} | {} |\n", words.join(" | ")));
    }
    put(text, format_args!("\n"));
    for (index, note) in notes.iter().enumerate() {
        put(text, format_args!("{}. {note}\n", index + 1));
    }
    if !notes.is_empty() {
        put(text, format_args!("\n"));
    }
}

/// `works`, or the word with the number of its reason; equal reasons share one note.
fn cell(row: &Row, notes: &mut Vec<String>) -> String {
    if row.verdict == Verdict::Pass {
        return word(row.verdict).into();
    }
    let reason = shorten(&row.message);
    let number = notes.iter().position(|note| *note == reason).unwrap_or_else(|| {
        notes.push(reason);
        notes.len() - 1
    });
    format!("{} ({})", word(row.verdict), number + 1)
}

/// One line for a reader: an engine's message repeats itself and names temporary files.
fn shorten(message: &str) -> String {
    const MOST: usize = 240;
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn put(text: &mut String, words: std::fmt::Arguments<'_>) {
    *text += &words.to_string();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_way_through_the_file() {
        let row = Row::new("docker", "run", "runc", Err(Stop::Fail("no\nway".into())));
        let read = Row::from_json(&row.to_json().to_string()).expect("a row");
        assert_eq!((read.verdict, read.message.as_str()), (Verdict::Fail, "no\nway"));
    }

    #[test]
    fn equal_reasons_share_a_note() {
        let skipped = |operation: &str| Row::new("docker", operation, "runc", Err(Stop::Skip("why".into())));
        let text = markdown(&[skipped("run"), skipped("exec")], &["runc".into(), "crun".into()]);
        assert!(text.contains("| run | skipped (1) | not tried |"), "{text}");
        assert_eq!(text.matches("why").count(), 1, "{text}");
    }
}
