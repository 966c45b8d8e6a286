//! `GET /v1/series?start=S&end=E&step=60`: how many of each status were taken in each step of [start, end); with
//! `device=ID`, by this device, in whole minutes; with `completeness=true` what of them is not there, so that a step in which
//! nothing was expected is told from one in which what was expected is missing.

use std::ops::Range;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use rollcall_wire::DeviceId;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::Api;
use super::answers::{TimeUncertain, answer, by_status, reckoned, sums};
use super::completeness::{self, Completeness};
use super::counts::HOURS_MAX;
use super::error::Problem;
use super::openapi::{CompletenessAsked, RangeAsked};
use super::range::{MINUTE_S, Parameters, SECOND_MAX, seconds};
use crate::fleet::{self, Absent, Steps};
use crate::log::LogStore;
use crate::log::devices::{self, AsOf};
use crate::log::plan::{self, Plan};
use crate::log::rollup::Resolution;
use crate::model::{Counts, UnixMs};

/// The most steps of one answer.
const STEPS_MAX: u64 = 5_000;

/// The most windows of minutes or hours that are read for one answer: 69 days of minutes, 11 years of hours. Days are few
/// however long a range is.
const WINDOWS_MAX: u64 = 100_000;

/// The length of a step that is not given, in seconds.
const STEP_S: u64 = 60;

/// Lengths that people read easily, in seconds: one of them is proposed instead of a step that is too short.
const EASY_S: [u64; 12] = [1, 2, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400, 604_800];

/// How many samples of each status were taken in each step.
#[derive(Serialize, ToSchema)]
#[schema(as = Series)]
struct Answer {
    /// Whose, if not of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    start: u64,
    end: u64,
    /// The length of a step in seconds.
    step: u64,
    /// Where the first step starts: on a multiple of `step`, at `start` or before. It holds what was taken from `start`
    /// on, and the last what was taken before `end`.
    first: u64,
    /// For every status by step, zeros included.
    #[serde(serialize_with = "each")]
    #[schema(value_type = BTreeMap<String, Vec<u64>>)]
    counts: Vec<Counts>,
    /// The sum of all statuses, by step.
    total: Vec<u64>,
    time_uncertain: TimeUncertain<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completeness: Option<Completeness<Vec<u64>>>,
    /// Everything that was acknowledged before this instant is counted.
    #[schema(format = DateTime)]
    as_of: String,
}

impl Answer {
    fn new(
        device: Option<DeviceId>,
        range: Range<u64>,
        step: u64,
        first: u64,
        counts: Vec<Counts>,
        absent: Option<Absent>,
        as_of: UnixMs,
    ) -> Self {
        let time_uncertain = TimeUncertain {
            one_second: column(&counts, |counts| counts.one_second),
            unknown: column(&counts, |counts| counts.unknown),
        };
        let total = column(&counts, Counts::total);
        let completeness = absent.map(|absent| Completeness::steps(&counts, absent));
        let (device, as_of) = (device.map(|device| device.to_string()), as_of.to_rfc3339());
        let Range { start, end } = range;
        Self { device, start, end, step, first, counts, total, time_uncertain, completeness, as_of }
    }
}

fn each<S: Serializer>(steps: &[Counts], serializer: S) -> Result<S::Ok, S::Error> {
    by_status(serializer, |status| column(steps, |counts| counts.statuses[status]))
}

/// One number of each step.
fn column(steps: &[Counts], of: impl Fn(&Counts) -> u64) -> Vec<u64> {
    steps.iter().map(of).collect()
}

/// How many of each status were taken in each step of [start, end): of all, or of one device.
#[utoipa::path(
    get,
    path = "/v1/series",
    operation_id = "series",
    tag = "queries",
    params(
        RangeAsked,
        ("step" = Option<u64>, Query, description = "The length of a step in seconds, of a device in whole minutes; 60 if it is not given. An answer has at most 5,000 steps.", minimum = 1, example = 60),
        ("device" = Option<String>, Query, description = "Whose. The range is in whole minutes then.", example = "porch"),
        CompletenessAsked,
    ),
    responses((status = 200, description = "The counts of each step.", body = Answer)),
)]
pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = query.as_deref().unwrap_or_default();
    let parameters = Parameters::parse(query, &["start", "end", "step", "device", completeness::NAME])?;
    let asked = parameters.devices()?;
    let with_completeness = completeness::is_wanted(&parameters)?;
    match asked[..] {
        [] => all(&api, parameters.range()?, step(&parameters)?, with_completeness).await,
        [device] => {
            of_device(&api, device, parameters.minutes()?, step(&parameters)?, with_completeness).await
        }
        _ => Err(Problem::bad_parameter(
            "device",
            "device is given more than once; a series is of one, or of all",
        )),
    }
}

async fn all<S: LogStore>(
    api: &Api<S>,
    range: Range<u64>,
    step: u64,
    with_completeness: bool,
) -> Result<Response, Problem> {
    let plan = Plan::stepwise(range.clone(), step);
    if !fits(&plan) {
        return Err(does_not_fit(&plan, step));
    }
    let first = plan.first();
    // First, so that whatever is not missing any more is counted.
    let absent = completeness::of_fleet(api, with_completeness.then(|| Steps::every(&range, step))).await?;
    let (counts, as_of) = sums(api, plan, plan::series).await?;
    let as_of = absent.as_ref().map_or(as_of, |absent| as_of.min(absent.as_of));
    let absent = absent.map(|absent| absent.value);
    Ok(answer(&Answer::new(None, range, step, first, counts, absent, as_of)))
}

/// The series of one device. A day of hours is read as fast as a day of windows.
async fn of_device<S: LogStore>(
    api: &Api<S>,
    device: DeviceId,
    minutes: Range<u32>,
    step: u64,
    with_completeness: bool,
) -> Result<Response, Problem> {
    let range = seconds(&minutes);
    let step_minutes = u32::try_from(step / MINUTE_S).ok().filter(|_| step.is_multiple_of(MINUTE_S));
    let Some(step_minutes) = step_minutes else {
        let easy = step.next_multiple_of(MINUTE_S);
        let problem = format!("devices are counted by minute: step can be {easy}, and not {step}");
        return Err(Problem::bad_parameter("step", problem));
    };
    let first = range.start - range.start % step;
    let hours = devices::hours_of(&minutes).len();
    let steps = if minutes.is_empty() { 0 } else { (range.end - first).div_ceil(step) };
    if hours > HOURS_MAX {
        let problem = format!(
            "there are {hours} hours, and an answer has at most {HOURS_MAX} of a device: ask for a shorter range"
        );
        return Err(Problem::bad_parameter("end", problem));
    }
    if steps > STEPS_MAX {
        let least = (range.end - range.start).div_ceil(STEPS_MAX - 1).next_multiple_of(MINUTE_S);
        let problem = format!(
            "there are {steps} steps of {step} s, and an answer has at most {STEPS_MAX}: a step that fits is {least} s"
        );
        return Err(Problem::bad_parameter("step", problem));
    }
    let AsOf { value: views, as_of } = devices::read(&*api.store, &[device], &minutes, UnixMs::now()).await?;
    let view = views.into_iter().next().unwrap_or_default();
    let counts = view.series(&minutes, step_minutes)?;
    let absent = if with_completeness {
        let steps = Steps::every(&range, step);
        Some(reckoned(move || fleet::absent_of(&view, &steps, as_of)).await??)
    } else {
        None
    };
    Ok(answer(&Answer::new(Some(device), range, step, first, counts, absent, as_of)))
}

/// How many windows of minutes or hours a plan reads at most.
fn windows(plan: &Plan) -> u64 {
    let whole = plan.whole.iter().filter(|(resolution, _)| *resolution != Resolution::Day);
    let whole = whole.map(|(resolution, range)| (range.end - range.start) / resolution.seconds());
    let edges =
        plan.edges.iter().map(|range| (range.end - range.start).div_ceil(Resolution::Minute.seconds()));
    whole.chain(edges).sum()
}

/// The length of a step, in seconds.
fn step(parameters: &Parameters) -> Result<u64, Problem> {
    let Some(text) = parameters.get("step") else { return Ok(STEP_S) };
    match text.parse() {
        Ok(step) if (1..=SECOND_MAX).contains(&step) && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(step)
        }
        _ => Err(Problem::bad_parameter("step", "step is not a number of whole seconds, from 1 on")),
    }
}

/// May an answer be put together so?
fn fits(plan: &Plan) -> bool {
    plan.steps() <= STEPS_MAX && windows(plan) <= WINDOWS_MAX
}

/// 400, with a step that fits: one that is no longer than it has to be, and one that is easy to read.
fn does_not_fit(plan: &Plan, step: u64) -> Problem {
    let fits = |step: &u64| fits(&Plan::stepwise(plan.range.clone(), *step));
    let least = step.max((plan.range.end - plan.range.start).div_ceil(STEPS_MAX));
    // The second of two may fit where the first begins a step earlier than the range.
    let of_unit = |unit: u64| [1, 2].map(|nth| least.next_multiple_of(unit) + unit * (nth - 1));
    let units = [1, Resolution::Hour.seconds(), Resolution::Day.seconds()];
    let shortest = units.into_iter().flat_map(of_unit).find(fits).unwrap_or(SECOND_MAX);
    let mut problem = if plan.steps() > STEPS_MAX {
        format!("there are {} steps of {step} s, and an answer has at most {STEPS_MAX}", plan.steps())
    } else {
        format!("steps of {step} s have to be put together from too many minutes or hours")
    };
    problem += &format!(": the shortest step that fits is {shortest} s");
    if let Some(easy) = EASY_S.into_iter().find(|easy| *easy > shortest && fits(easy)) {
        problem += &format!("; {easy} s is easier to read");
    }
    Problem::bad_parameter("step", problem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_step_that_is_proposed_fits(
            start in 0..SECOND_MAX,
            length in prop_oneof![0..1_000_000_u64, 0..SECOND_MAX],
            step in prop_oneof![1..10_000_u64, 1..1_000_000_000_u64],
        ) {
            let range = start..(start + length).min(SECOND_MAX);
            let plan = Plan::stepwise(range.clone(), step);
            if !fits(&plan) {
                let problem = does_not_fit(&plan, step).detail;
                let proposed: Vec<u64> = problem.split(':').nth(1).unwrap().split(' ').filter_map(|word| word.parse().ok()).collect();
                prop_assert!(!proposed.is_empty(), "{problem}");
                for step in proposed {
                    prop_assert!(fits(&Plan::stepwise(range.clone(), step)), "{problem}");
                }
            }
        }
    }
}
