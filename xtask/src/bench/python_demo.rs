//! The Python demo that Rollcall replaces, as it was described, for comparison: `host/benches/peer/demo.py`.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_harness::services::Mongod;
use rollcall_harness::{tools, workspace};
use serde_json::Value;

/// The demo's programs, in a Python of their own, over a database.
pub(super) struct PythonDemo {
    python: tools::Tool,
    mongodb: String,
}

/// How it consumed.
pub(super) struct Consumed {
    pub(super) took: Duration,
    pub(super) cpu: Duration,
}

impl PythonDemo {
    pub(super) fn new(mongod: &Mongod) -> Result<Self> {
        Ok(Self { python: tools::python_with_demo()?, mongodb: mongod.url("demo") })
    }

    /// Makes the consumer's queue.
    pub(super) fn subscribe(&self, port: &str) -> Result<()> {
        self.run(&["subscribe", port]).map(drop)
    }

    /// Consumes `count` messages.
    pub(super) fn consume(&self, port: &str, count: u64) -> Result<Consumed> {
        let printed = self.run(&["consume", port, &self.mongodb, &count.to_string()])?;
        let [took, cpu] = *numbers(&printed)? else {
            anyhow::bail!("demo.py consume printed {printed}");
        };
        Ok(Consumed { took: Duration::from_secs_f64(took), cpu: Duration::from_secs_f64(cpu) })
    }

    /// Inserts `count` messages in bulk, spread evenly over `seconds` of Unix time.
    pub(super) fn fill(&self, seconds: Range<u64>, count: u64) -> Result<()> {
        let numbers = [seconds.start, seconds.end - seconds.start, count].map(|number| number.to_string());
        self.run(&["fill", &self.mongodb, &numbers[0], &numbers[1], &numbers[2]]).map(drop)
    }

    /// Asks for everything so often; the median, in milliseconds.
    pub(super) fn ask(&self, times: u32) -> Result<f64> {
        let mut answers = numbers(&self.run(&["ask", &self.mongodb, &times.to_string()])?)?;
        answers.sort_by(f64::total_cmp);
        answers.get(answers.len() / 2).copied().context("the demo gave no answer")
    }

    /// What it printed.
    fn run(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = self.python.command();
        command.arg(workspace::root().join("host/benches/peer/demo.py")).args(arguments);
        let output = command.output()?;
        ensure!(output.status.success(), "demo.py: {}", String::from_utf8_lossy(&output.stderr));
        if output.stdout.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

fn numbers(printed: &Value) -> Result<Vec<f64>> {
    let numbers = printed.as_array().and_then(|array| array.iter().map(Value::as_f64).collect());
    numbers.with_context(|| format!("demo.py printed {printed}"))
}
