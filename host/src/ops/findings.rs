//! What is wrong, of one kind: the first few in words, and how many more.

use super::check::{Check, Reporter, Unheard};

/// How many are written out.
const SHOWN: usize = 10;

/// See the module.
#[derive(Debug, Default)]
pub struct Findings {
    shown: Vec<String>,
    more: u64,
    rest: Option<String>,
}

impl Findings {
    /// One more.
    pub fn add(&mut self, text: impl FnOnce() -> String) {
        if self.shown.len() < SHOWN {
            self.shown.push(text());
        } else {
            self.more += 1;
        }
    }

    /// What was not looked at one by one, and is wrong too.
    pub fn rest(&mut self, text: String) {
        self.rest = Some(text);
    }

    /// A check for each that is written out and one for the others; if nothing is wrong, what is `right`.
    ///
    /// # Errors
    /// [`Unheard`].
    pub fn report(
        self,
        reporter: &mut Reporter,
        name: &'static str,
        right: String,
        remedy: &'static str,
    ) -> Result<(), Unheard> {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        let mut wrong = self.shown.into_iter().chain(more).chain(self.rest).peekable();
        if wrong.peek().is_none() {
            return reporter.check(Check::pass(name, right));
        }
        wrong.try_for_each(|found| reporter.check(Check::fail(name, found, remedy)))
    }
}
