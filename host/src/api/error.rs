//! Errors as `application/problem+json` (RFC 9457).

use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::log::StoreError;
use crate::log::messages::NotAll;
use crate::model::UnixMs;

/// What is wrong with a request, or with the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// The kind of problem, the same for every occurrence.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence, and what to do about it.
    pub detail: String,
    /// The offending parameter, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// From when on all is there of what was asked for, where some of it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete_from: Option<String>,
}

impl Problem {
    /// 400: the request has to change.
    pub fn bad_parameter(parameter: &str, detail: impl Into<String>) -> Self {
        let parameter = Some(parameter.to_owned());
        Self { title: "bad request", status: 400, detail: detail.into(), parameter, complete_from: None }
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self { title: "not found", status: 404, detail: detail.into(), parameter: None, complete_from: None }
    }

    /// 503: the same request may succeed later.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            title: "not available",
            status: 503,
            detail: detail.into(),
            parameter: None,
            complete_from: None,
        }
    }
}

/// What cannot be read now.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error.to_string())
    }
}

/// What is not there, or cannot be read now.
impl From<NotAll> for Problem {
    fn from(error: NotAll) -> Self {
        match error {
            NotAll::Removed(second) => {
                let at = UnixMs(second.saturating_mul(1000)).to_rfc3339();
                let detail = format!(
                    "messages of this range were removed for their age; ask from {at} on, since when all are kept"
                );
                let (parameter, complete_from) = (Some("start".to_owned()), Some(at));
                Self { title: "gone", status: 410, detail, parameter, complete_from }
            }
            NotAll::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A struct of strings and a number always serialises.
        let body = serde_json::to_string(&self).expect("plain data always serialises");
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

/// 404, with what there is.
pub(super) fn no_resource(uri: &Uri, there_are: &str) -> Problem {
    Problem::not_found(format!("there is no {}; there are {there_are}", uri.path()))
}

/// 405: every resource is read-only.
pub(super) async fn method_not_allowed(method: Method) -> Problem {
    let detail = format!("{method} is not allowed here; use GET");
    Problem { title: "method not allowed", status: 405, detail, parameter: None, complete_from: None }
}
