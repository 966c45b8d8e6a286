//! What the seven statuses mean to whoever runs the fleet: a name for each, and whether it is good.

use std::collections::BTreeMap;

use rollcall_wire::Status;
use serde::{Deserialize, Serialize};

/// The longest name, in characters.
const NAME_MAX: usize = 32;

/// Is a status as it should be?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is.
    Good,
    /// Somebody should look at it.
    Warning,
    /// It is not.
    Bad,
}

impl Level {
    /// In one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// What a status means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meaning {
    /// Its name.
    pub name: String,
    /// Whether it is good.
    pub level: Level,
}

/// What every status means, if that was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(Option<[Meaning; Status::COUNT]>);

impl Statuses {
    /// Reads `{"0": {"name": "idle", "level": "good"}, …}`: all of them, each with a name of its own.
    ///
    /// # Errors
    /// What is wrong, and with which status.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut named: BTreeMap<String, Meaning> = serde_json::from_str(text).map_err(|error| {
            format!(r#"{error}; each status is written as "0": {{"name": "idle", "level": "good"}}"#)
        })?;
        let mut meanings = Vec::<Meaning>::new();
        for status in 0..Status::COUNT {
            let Some(meaning) = named.remove(&status.to_string()) else {
                let last = Status::COUNT - 1;
                return Err(format!("status {status} is missing; name all of them, 0 to {last}"));
            };
            let name = &meaning.name;
            if name.trim() != name || name.is_empty() || name.contains(char::is_control) {
                return Err(format!(
                    "the name of status {status} is empty, or has spaces around it or signs that cannot be shown"
                ));
            }
            if name.chars().count() > NAME_MAX {
                return Err(format!("the name of status {status} has more than {NAME_MAX} characters"));
            }
            if let Some(other) = meanings.iter().position(|other| other.name == *name) {
                return Err(format!("statuses {other} and {status} are both called {name:?}"));
            }
            meanings.push(meaning);
        }
        if let Some(unknown) = named.keys().next() {
            return Err(format!("there is no status {unknown:?}"));
        }
        Ok(Self(meanings.try_into().ok()))
    }

    /// What a status means, if that was said.
    pub fn meaning(&self, status: usize) -> Option<&Meaning> {
        self.0.as_ref()?.get(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(change: impl Fn(&mut serde_json::Value)) -> String {
        let mut all = serde_json::json!({});
        for status in 0..Status::COUNT {
            all[status.to_string()] = serde_json::json!({"name": format!("s{status}"), "level": "good"});
        }
        change(&mut all);
        all.to_string()
    }

    #[test]
    fn a_file_names_every_status_and_says_whether_it_is_good() {
        let named = Statuses::parse(&text(|all| all["6"]["level"] = "bad".into())).unwrap();
        assert_eq!(named.meaning(0).unwrap().name, "s0");
        assert_eq!(named.meaning(6).unwrap().level, Level::Bad);
        assert_eq!((named.meaning(7), Statuses::default().meaning(0)), (None, None));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_the_status() {
        let take = |status: &'static str| {
            text(move |all| drop(all.as_object_mut().and_then(|all| all.remove(status))))
        };
        for (text, said) in [
            (String::new(), "each status is written as"),
            ("[]".to_owned(), "each status is written as"),
            (take("3"), "status 3 is missing"),
            (text(|all| all["7"] = all["0"].clone()), "no status \"7\""),
            (text(|all| all["2"]["level"] = "fine".into()), "`good`, `warning`, `bad`"),
            (text(|all| all["2"]["colour"] = "red".into()), "unknown field"),
            (text(|all| all["2"]["name"] = "".into()), "status 2 is empty"),
            (text(|all| all["2"]["name"] = "a\nb".into()), "status 2 is empty"),
            (text(|all| all["2"]["name"] = "x".repeat(33).into()), "status 2 has more than 32"),
            (text(|all| all["2"]["name"] = "s1".into()), "1 and 2 are both called \"s1\""),
        ] {
            let error = Statuses::parse(&text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
