//! `GET /v1/series?start=S&end=E&step=60`: how many of each status were taken in each step of [start, end).

use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::Api;
use super::error::Problem;
use super::range::Parameters;
use crate::log::LogStore;
use crate::log::plan::{self, Plan};
use crate::model::{Counts, UnixMs};

/// The most steps of one answer.
const STEPS_MAX: u64 = 5_000;

/// The length of a step that is not given, in seconds.
const STEP_S: u64 = 60;

/// Lengths that people read easily, in seconds: one of them is proposed instead of a step that is too short.
const EASY_S: [u64; 12] = [1, 2, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400, 604_800];

#[derive(Serialize)]
struct Answer {
    start: u64,
    end: u64,
    /// The length of a step in seconds.
    step: u64,
    /// Where the first step starts: on a multiple of `step`, at `start` or before. It holds what was taken from `start`
    /// on, and the last what was taken before `end`.
    first: u64,
    #[serde(serialize_with = "by_status")]
    counts: Series,
    /// The sum of all statuses, by step.
    total: Vec<u64>,
    time_uncertain: TimeUncertain,
    /// Everything that was acknowledged before this instant is counted.
    as_of: String,
}

/// By step.
struct Series(Vec<Counts>);

/// How many of all may have been taken in another second than the one in which they are counted, by step.
#[derive(Serialize)]
struct TimeUncertain {
    /// Their time is known to a second only.
    one_second: Vec<u64>,
    /// Their time is not known.
    unknown: Vec<u64>,
}

/// For every status its counts by step, zeros included.
fn by_status<S: Serializer>(Series(steps): &Series, serializer: S) -> Result<S::Ok, S::Error> {
    let statuses = Counts::default().statuses.len();
    let mut map = serializer.serialize_map(Some(statuses))?;
    for status in 0..statuses {
        let counts: Vec<_> = steps.iter().map(|counts| counts.statuses[status]).collect();
        map.serialize_entry(&status.to_string(), &counts)?;
    }
    map.end()
}

pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref().unwrap_or_default(), &["start", "end", "step"])?;
    let range = parameters.range()?;
    let plan = Plan::stepwise(range.clone(), step(&parameters)?);
    let step = plan.step.unwrap_or(STEP_S);
    if plan.steps() > STEPS_MAX {
        return Err(too_many(&range, step));
    }
    let as_of = UnixMs::now().to_rfc3339();
    let view = api.store.view(&plan).await.map_err(|error| Problem::unavailable(error.to_string()))?;
    let steps = plan::series(&plan, &view);
    let column = |of: fn(&Counts) -> u64| steps.iter().map(of).collect::<Vec<_>>();
    let answer = Answer {
        start: range.start,
        end: range.end,
        step,
        first: plan.first(),
        total: column(Counts::total),
        time_uncertain: TimeUncertain {
            one_second: column(|counts| counts.one_second),
            unknown: column(|counts| counts.unknown),
        },
        counts: Series(steps),
        as_of,
    };
    // A struct of numbers and strings always serialises.
    let body = serde_json::to_string(&answer).expect("plain data always serialises");
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// The length of a step, in seconds.
fn step(parameters: &Parameters) -> Result<u64, Problem> {
    let Some(text) = parameters.get("step") else { return Ok(STEP_S) };
    match text.parse() {
        Ok(step) if step >= 1 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(step),
        _ => Err(Problem::bad_parameter("step", "step is not a number of whole seconds, at least 1")),
    }
}

/// 400, with a step that fits.
fn too_many(range: &std::ops::Range<u64>, step: u64) -> Problem {
    let steps = |step: u64| Plan::stepwise(range.clone(), step).steps();
    let fits = |step: &u64| steps(*step) <= STEPS_MAX;
    let enough = ((range.end - range.start).div_ceil(STEPS_MAX)..).find(fits).unwrap_or(u64::MAX);
    let mut problem =
        format!("there are {} steps of {step} s, and an answer has at most {STEPS_MAX}: ", steps(step));
    problem += &format!("the shortest step that fits is {enough} s");
    if let Some(easy) = EASY_S.into_iter().find(|easy| *easy > enough && fits(easy)) {
        problem += &format!("; {easy} s is easier to read");
    }
    Problem::bad_parameter("step", problem)
}
