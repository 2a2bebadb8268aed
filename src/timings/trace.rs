//! A recording in Chrome's trace event format, which Perfetto and chrome://tracing show.

use serde_json::{Value, json};

use super::{Span, Who};

/// Times in microseconds of CLOCK_MONOTONIC: recordings of one boot can be laid over each other.
pub fn write(spans: &[Span]) -> String {
    let pid = rustix::process::getpid().as_raw_nonzero();
    let mut events: Vec<Value> = [(Who::Parent, "xebec"), (Who::Child, "container's first process")]
        .into_iter()
        .map(|(who, name)| {
            json!({"name": "thread_name", "ph": "M", "pid": pid, "tid": row(who), "args": {"name": name}})
        })
        .collect();
    let us = |ns: u64| ns as f64 / 1e3;
    events.extend(spans.iter().map(|span| {
        json!({
            "name": span.item, "cat": "xebec", "ph": "X", "pid": pid, "tid": row(span.who),
            "ts": us(span.begin), "dur": us(span.end.saturating_sub(span.begin)), "args": {"act": span.act},
        })
    }));
    let mut document = json!({"displayTimeUnit": "ns", "traceEvents": events});
    if let Some(parent) = crate::spawn::trace_parent() {
        document["otherData"] = json!({"traceparent": parent});
    }
    format!("{document}\n")
}

fn row(who: Who) -> u32 {
    match who {
        Who::Parent => 1,
        Who::Child => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_a_complete_event() {
        let span =
            Span { who: Who::Child, item: "mounts[0] /proc".into(), act: "new proc".into(), begin: 1500, end: 4000 };
        let text: Value = serde_json::from_str(&write(&[span])).expect("JSON");
        let event = &text["traceEvents"][2];
        assert_eq!((&event["ph"], &event["ts"], &event["dur"]), (&json!("X"), &json!(1.5), &json!(2.5)));
        assert_eq!(event["name"], "mounts[0] /proc");
    }
}
