//! What `rollcall doctor` finds: one line a check, and the remedy for what is not as it should be. A long look says
//! on its way what it has found and how far it is, and ends when nobody listens.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// One thing that was looked at. Another process may have done so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: Cow<'static, str>,
    /// How it stands.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do, when something is to be done.
    pub remedy: Option<String>,
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// It was not looked at.
    Skip,
    /// It works, but not as well or as safely as it could.
    Warn,
    /// Rollcall cannot keep its promises like this.
    Fail,
}

impl Check {
    /// As it should be.
    pub fn pass(name: &'static str, found: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Pass, found: found.into(), remedy: None }
    }

    /// Not looked at, and why.
    pub fn skip(name: &'static str, why: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Skip, found: why.into(), remedy: None }
    }

    /// Works, but.
    pub fn warn(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Warn, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// Does not do.
    pub fn fail(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Fail, found: found.into(), remedy: Some(remedy.into()) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Pass => "pass",
            Outcome::Skip => "skip",
            Outcome::Warn => "warn",
            Outcome::Fail => "FAIL",
        };
        write!(f, "{outcome}  {:<24} {}", self.name, self.found)?;
        match &self.remedy {
            Some(remedy) => write!(f, " → {remedy}"),
            None => Ok(()),
        }
    }
}

/// How often a long look says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// What is said of a long look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// How far it is.
    Progress(String),
    /// What was found.
    Check(Check),
}

/// Where a long look reports, from a thread that may wait.
#[derive(Debug)]
pub struct Reporter {
    reports: mpsc::Sender<Report>,
    said: Instant,
}

/// Nobody listens any more: the look is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unheard;

impl Reporter {
    /// Reports to whoever has the other end.
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { reports, said: Instant::now() }
    }

    /// Something was found.
    ///
    /// # Errors
    /// [`Unheard`].
    pub fn check(&mut self, check: Check) -> Result<(), Unheard> {
        self.reports.blocking_send(Report::Check(check)).map_err(|_| Unheard)
    }

    /// To be called often: the look goes on, and now and then it is said how far it is.
    ///
    /// # Errors
    /// [`Unheard`].
    pub fn progress(&mut self, text: impl FnOnce() -> String) -> Result<(), Unheard> {
        if self.reports.is_closed() {
            return Err(Unheard);
        }
        if self.said.elapsed() >= PROGRESS_EVERY {
            self.said = Instant::now();
            // Where it cannot be taken, there is a backlog of what is worth more.
            let _ = self.reports.try_send(Report::Progress(text()));
        }
        Ok(())
    }
}

/// Does what takes long on a thread that may wait.
pub async fn look(
    reports: mpsc::Sender<Report>,
    work: impl FnOnce(&mut Reporter) -> Result<(), Unheard> + Send + 'static,
) {
    let last = reports.clone();
    let done = tokio::task::spawn_blocking(move || work(&mut Reporter::new(reports)));
    if let Err(error) = done.await {
        let check = Check::fail("doctor", error.to_string(), "this is a bug: please report it");
        // Who does not listen any more needs no answer.
        let _ = last.send(Report::Check(check)).await;
    }
}
