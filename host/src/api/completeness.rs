//! `completeness=true`: what of the samples of a range, or of each of its steps, is not there.

use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::error::Problem;
use super::range::Parameters;
use crate::fleet::{self, Absent, Steps};
use crate::log::LogStore;
use crate::log::devices::AsOf;
use crate::model::{Counts, UnixMs};

/// The parameter.
pub(super) const NAME: &str = "completeness";

/// A number, or one a step. `missing` and `unknown` are exact as of the answer's `as_of`.
#[derive(Serialize, ToSchema)]
pub(super) struct Completeness<T> {
    /// Samples that are counted.
    seen: T,
    /// Samples that were taken and are not there: those between two of the same boot that are, evenly in time. One that
    /// comes late is seen and not missing any more.
    missing: T,
    /// `seen` and `missing`.
    expected: T,
    /// Besides, so many would have been taken before the first sample of each boot and after the last, at its period:
    /// whether they were is not known.
    unknown: T,
    /// Besides, so many are stored that may or may not be counted already.
    undecided: T,
    /// How many of those seen came more than a minute after they were taken.
    late: T,
    /// How many of those seen may have been taken in another second.
    time_uncertain: T,
    /// What was missing before this instant is not all known any more; null when it is.
    known_from: Option<String>,
    /// For so many devices that is after the range's start.
    partly_known: u64,
}

/// Is it asked for?
///
/// # Errors
/// The [`Problem`] says what it can be.
pub(super) fn is_wanted(parameters: &Parameters) -> Result<bool, Problem> {
    Ok(parameters.word(NAME, &[("true", true), ("false", false)])?.unwrap_or(false))
}

/// What is not there of all devices' samples, if steps are asked for.
///
/// # Errors
/// 503 when the store does not answer.
pub(super) async fn of_fleet<S: LogStore>(
    api: &Api<S>,
    steps: Option<Steps>,
) -> Result<Option<AsOf<Absent>>, Problem> {
    match steps {
        Some(steps) => Ok(Some(fleet::absent(&*api.store, &steps, UnixMs::now()).await?)),
        None => Ok(None),
    }
}

impl Completeness<Vec<u64>> {
    /// Of each step.
    pub(super) fn steps(counts: &[Counts], absent: Absent) -> Self {
        let Absent { missing, unknown, known_from, partly_known } = absent;
        let column = |of: fn(&Counts) -> u64| counts.iter().map(of).collect::<Vec<_>>();
        let seen = column(Counts::total);
        // Of forged sequences more may be missing than can be counted.
        let expected =
            seen.iter().zip(&missing).map(|(seen, missing)| seen.saturating_add(*missing)).collect();
        Self {
            expected,
            seen,
            missing,
            unknown,
            undecided: column(|counts| counts.undecided),
            late: column(|counts| counts.late),
            time_uncertain: column(|counts| counts.one_second + counts.unknown),
            known_from: known_from.map(|at| at.to_rfc3339()),
            partly_known,
        }
    }
}

impl Completeness<u64> {
    /// Of all of a range.
    pub(super) fn total(counts: &Counts, absent: Absent) -> Self {
        let of = Completeness::steps(std::slice::from_ref(counts), absent);
        let only = |numbers: Vec<u64>| numbers.into_iter().sum();
        Self {
            seen: only(of.seen),
            missing: only(of.missing),
            expected: only(of.expected),
            unknown: only(of.unknown),
            undecided: only(of.undecided),
            late: only(of.late),
            time_uncertain: only(of.time_uncertain),
            known_from: of.known_from,
            partly_known: of.partly_known,
        }
    }
}
