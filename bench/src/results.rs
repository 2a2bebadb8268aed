//! What came out, and its form as JSON: `--json` writes it, `--read` and `--compare` read it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::counts::Counts;

/// Raised when a reader of older files would misunderstand.
const FORMAT: u64 = 1;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// Item and text.
    pub machine: Vec<(String, String)>,
    /// Names, in order; ratios are against the first that is not the floor.
    pub contenders: Vec<String>,
    pub series: Vec<Series>,
    pub counts: Vec<Counts>,
    /// Contender and bytes of its file.
    pub sizes: Vec<(String, u64)>,
    /// Contender and the smallest memory limit it runs under, in KiB.
    pub memory: Vec<(String, u64)>,
    pub failures: Vec<Failure>,
}

/// One thing timed in one case: a value for each round of each contender.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub case: String,
    pub title: String,
    pub what: String,
    /// Containers per second, more is better; else microseconds.
    pub rate: bool,
    pub samples: Vec<(String, Vec<f64>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub case: String,
    pub contender: String,
    pub message: String,
}

impl Series {
    pub fn of(&self, contender: &str) -> Option<&[f64]> {
        self.samples.iter().find(|(name, _)| name == contender).map(|(_, values)| values.as_slice())
    }

    /// `lifecycle_seccomp create`, or the case alone where it times one thing of that name.
    pub fn name(&self) -> String {
        if self.case.starts_with(&self.what) || self.rate {
            self.case.clone()
        } else {
            format!("{} {}", self.case, self.what)
        }
    }
}

impl Results {
    pub fn series(&self, case: &str, what: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.case == case && series.what == what)
    }

    pub fn to_json(&self) -> Value {
        let pairs = |pairs: &[(String, String)]| json!(pairs.iter().map(|(a, b)| [a, b]).collect::<Vec<_>>());
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|one| {
                // A tenth of a microsecond is below what a clock tells.
                let round = |values: &[f64]| values.iter().map(|v| (v * 10.0).round() / 10.0).collect::<Vec<_>>();
                let samples: Vec<Value> =
                    one.samples.iter().map(|(name, values)| json!([name, round(values)])).collect();
                json!({"case": one.case, "title": one.title, "what": one.what, "rate": one.rate, "samples": samples})
            })
            .collect();
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|one| json!({"case": one.case, "contender": one.contender, "message": one.message}))
            .collect();
        json!({
            "format": FORMAT, "machine": pairs(&self.machine), "contenders": self.contenders, "series": series,
            "counts": self.counts.iter().map(Counts::to_json).collect::<Vec<_>>(),
            "sizes": self.sizes, "memory": self.memory, "failures": failures,
        })
    }

    pub fn write(&self, path: &Path) -> Result<(), String> {
        fs::write(path, format!("{}\n", self.to_json())).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub fn read(path: &Path) -> Result<Results, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        if value["format"] != FORMAT {
            return Err(format!("{}: its format is {}, not {FORMAT}", path.display(), value["format"]));
        }
        from_json(&value).ok_or_else(|| format!("{}: not what --json writes", path.display()))
    }
}

fn from_json(value: &Value) -> Option<Results> {
    let text = |value: &Value| value.as_str().map(str::to_string);
    let list = |name: &str| value[name].as_array();
    let sample = |pair: &Value| {
        let values: Option<Vec<f64>> = pair[1].as_array()?.iter().map(Value::as_f64).collect();
        Some((text(&pair[0])?, values?))
    };
    let series = |one: &Value| {
        Some(Series {
            case: text(&one["case"])?,
            title: text(&one["title"])?,
            what: text(&one["what"])?,
            rate: one["rate"].as_bool()?,
            samples: one["samples"].as_array()?.iter().map(sample).collect::<Option<_>>()?,
        })
    };
    let failure = |one: &Value| {
        Some(Failure {
            case: text(&one["case"])?,
            contender: text(&one["contender"])?,
            message: text(&one["message"])?,
        })
    };
    Some(Results {
        machine: list("machine")?.iter().map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect::<Option<_>>()?,
        contenders: list("contenders")?.iter().map(text).collect::<Option<_>>()?,
        series: list("series")?.iter().map(series).collect::<Option<_>>()?,
        counts: list("counts")?.iter().map(Counts::from_json).collect::<Option<_>>()?,
        memory: list("memory")?.iter().map(|pair| Some((text(&pair[0])?, pair[1].as_u64()?))).collect::<Option<_>>()?,
        sizes: list("sizes")?.iter().map(|pair| Some((text(&pair[0])?, pair[1].as_u64()?))).collect::<Option<_>>()?,
        failures: list("failures")?.iter().map(failure).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let samples = vec![("floor".to_string(), vec![1.5, 2.0]), ("xebec".to_string(), vec![3.0, 4.5])];
        let series = Series { case: "run".into(), title: "plain".into(), what: "run".into(), rate: false, samples };
        let failure = Failure { case: "exec".into(), contender: "crun".into(), message: "no".into() };
        let results = Results {
            machine: vec![("kernel".into(), "6".into())],
            contenders: vec!["floor".into(), "xebec".into()],
            series: vec![series],
            counts: Vec::new(),
            sizes: vec![("xebec".into(), 7)],
            memory: vec![("xebec".into(), 512)],
            failures: vec![failure],
        };
        assert_eq!(from_json(&results.to_json()), Some(results));
    }
}
