//! `GET /v1/messages?start=S&end=E`: every message that was sampled in [start, end), as the log has it, by line; with
//! `device=ID`, of one device. It is read while it is sent, and no faster; the last line says that it is complete.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::Api;
use super::error::Problem;
use super::live::Ending;
use super::openapi::RangeAsked;
use super::range::Parameters;
use crate::log::LogStore;
use crate::log::messages::Messages;
use crate::model::{End, HEAD, Line, Record, UnixMs};

/// So many readers there are at a time: each reads the log, with the disk that messages are stored on.
const READERS_MAX: usize = 4;

/// When one that found no place may ask again, in seconds.
const RETRY_S: &str = "10";

/// Who takes nothing for so long has left, or will not finish.
const PATIENCE: Duration = Duration::from_secs(60);

/// The places of those who read.
#[derive(Clone, Debug)]
pub(super) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS_MAX)))
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// A JSON object each.
    Ndjson,
    /// RFC 4180, with a head; what is no message begins with `#`.
    Csv,
}

/// Either of the two, for the document.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = MessageOrEnd)]
#[expect(dead_code, reason = "it is there for its schema")]
enum AnyLine {
    Message(Line),
    End(End),
}

/// Every message of [start, end), a line each: of all, or of one device. They are in the order in which the log has them, a
/// slot after the other.
#[utoipa::path(
    get,
    path = "/v1/messages",
    operation_id = "messages",
    tag = "queries",
    params(
        RangeAsked,
        ("device" = Option<String>, Query, description = "Whose.", example = "porch"),
        ("format" = Option<String>, Query, description = "`ndjson`, which it is without, or `csv`, whose last line begins with `#`.", example = "ndjson"),
    ),
    responses(
        (status = 200, description = "A line each, and one that says whether these are all.", content((AnyLine = "application/x-ndjson"), (String = "text/csv"))),
        (status = 410, description = "Some messages of the range were removed for their age. `complete_from` is the first instant from which on all are kept.", content_type = "application/problem+json", body = Problem, example = json!({"title": "gone", "status": 410, "detail": "messages of this range were removed for their age; ask from 2026-09-01T00:00:00Z on, since when all are kept", "parameter": "start", "complete_from": "2026-09-01T00:00:00Z"})),
    ),
)]
pub(super) async fn get<S: LogStore>(
    State(api): State<Api<S>>,
    readers: Readers,
    ending: Option<Extension<Ending>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = query.as_deref().unwrap_or_default();
    let parameters = Parameters::parse(query, &["start", "end", "device", "format"])?;
    let range = parameters.range()?;
    let formats = [("ndjson", Format::Ndjson), ("csv", Format::Csv)];
    let format = parameters.word("format", &formats)?.unwrap_or(Format::Ndjson);
    let device = match parameters.devices()?[..] {
        [] => None,
        [device] => Some(device),
        _ => {
            let problem = "device is given more than once; messages are of one, or of all";
            return Err(Problem::bad_parameter("device", problem));
        }
    };
    let Ok(place) = readers.0.try_acquire_owned() else {
        let problem = format!("{READERS_MAX} others read messages already; ask again in {RETRY_S} s");
        return Ok(([(header::RETRY_AFTER, RETRY_S)], Problem::unavailable(problem)).into_response());
    };
    let as_of = UnixMs::now();
    let messages = Messages::open(&*api.store, range, device).await?;
    let (sender, receiver) = mpsc::channel(1);
    let told = Told { format, messages: 0, as_of };
    tokio::spawn(tell(api.store, messages, told, ending, sender, place));
    let parts = stream::unfold(receiver, |mut receiver| async move {
        let part: String = receiver.recv().await?;
        Some((Ok::<_, Infallible>(part), receiver))
    });
    let content_type = match format {
        Format::Ndjson => "application/x-ndjson",
        Format::Csv => "text/csv; charset=utf-8",
    };
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// What was told so far.
struct Told {
    format: Format,
    messages: u64,
    as_of: UnixMs,
}

/// Reads and tells, a part when the one before was taken; ends when there are no more, or nobody takes them.
async fn tell<S: LogStore>(
    store: Arc<S>,
    mut messages: Messages,
    mut told: Told,
    ending: Option<Extension<Ending>>,
    sender: mpsc::Sender<String>,
    _place: OwnedSemaphorePermit,
) {
    let ending = async {
        match ending {
            Some(Extension(ending)) => ending.has_come().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(ending);
    let mut part = if told.format == Format::Csv { format!("{HEAD}\n") } else { String::new() };
    loop {
        let next = tokio::select! {
            next = messages.next(&*store) => next.map_err(|error| error.to_string()),
            () = &mut ending => Err("the host ends".to_owned()),
            // All of a log may be read without a message that is to be told.
            () = sender.closed() => return,
        };
        let end = match next {
            Ok(Some(records)) => {
                told.add(&records, &mut part);
                None
            }
            Ok(None) => Some(told.end(None)),
            Err(detail) => Some(told.end(Some(detail))),
        };
        let is_last = end.is_some();
        part += end.as_deref().unwrap_or_default();
        let taken = timeout(PATIENCE, sender.send(std::mem::take(&mut part))).await;
        if is_last || !matches!(taken, Ok(Ok(()))) {
            return;
        }
    }
}

impl Told {
    fn add(&mut self, records: &[Record], part: &mut String) {
        for line in records.iter().map(Line::from) {
            // Neither a struct of strings and numbers nor a String fails.
            let _ = match self.format {
                Format::Ndjson => writeln!(part, "{}", json(&line)),
                Format::Csv => writeln!(part, "{line}"),
            };
        }
        self.messages += records.len() as u64;
    }

    fn end(&self, detail: Option<String>) -> String {
        let as_of = self.as_of.to_rfc3339();
        let end = End { complete: detail.is_none(), messages: self.messages, as_of, detail };
        match (self.format, &end.detail) {
            (Format::Ndjson, _) => json(&end) + "\n",
            (Format::Csv, None) => format!("# complete: {} messages, as of {}\n", end.messages, end.as_of),
            (Format::Csv, Some(detail)) => format!("# not complete: {detail}\n"),
        }
    }
}

fn json(line: &impl Serialize) -> String {
    serde_json::to_string(line).expect("plain data always serialises")
}
