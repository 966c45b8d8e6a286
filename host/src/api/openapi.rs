//! `GET /openapi.json`: what can be asked and what is answered, as OpenAPI 3.1. It is made from the types of the answers; what
//! any request may meet, before anybody looks at what it asks for, is added to each.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use utoipa::openapi::schema::{AnyOfBuilder, Object, Schema};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{self, ContentBuilder, HeaderBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoParams, Modify, OpenApi};

use super::error::Problem;
use super::{
    counts, device, devices, differs, health, live, messages, metrics, series, status_count, statuses,
};

/// What is open to all, with tokens or without.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rollcall",
        description = "How many devices had which status when, exactly, and how each of them is. Times are whole Unix seconds or RFC 3339 with an offset. Everything is read-only: other methods than GET and HEAD are answered with 405.",
    ),
    paths(
        status_count::get, counts::get, series::get, devices::get, device::get, differs::get, messages::get,
        statuses::get, live::get, health::live, health::ready, metrics::get, get,
    ),
    components(schemas(Problem, statuses::Meaning)),
    security((), ("token" = [])),
    modifiers(&Everywhere),
)]
struct Document;

/// The document as it is served, and as `docs/openapi.json` has it.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let text = Document::openapi().to_pretty_json();
        text.expect("plain data always serialises") + "\n"
    });
    &TEXT
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "about",
    responses((status = 200, description = "This document.", content_type = "application/json", body = serde_json::Value)),
)]
pub(super) async fn get() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document()).into_response()
}

/// `start=S&end=E`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is there for its description")]
pub(super) struct RangeAsked {
    /// The first second: whole Unix seconds, or RFC 3339 with an offset. A fraction is rounded down.
    #[param(example = "2026-11-23T00:00:00Z")]
    start: String,
    /// The second behind the last, in either form. The `as_of` of an answer may be the `end` of a question, and the `start` of
    /// the next.
    #[param(example = "1795478400")]
    end: String,
}

/// `completeness=true`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is there for its description")]
pub(super) struct CompletenessAsked {
    /// Is it to be told what of the samples is not there?
    #[param(example = true)]
    completeness: Option<bool>,
}

/// What any request may meet.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A token that rollcall token create has shown; needed where the host has a tokens file.",
            ))
            .build();
        components.security_schemes.insert("token".to_owned(), RefOr::T(SecurityScheme::Http(token)));
        for (name, status, description, problem) in problems() {
            let schema = Ref::from_schema_name("Problem");
            let content = ContentBuilder::new().schema(Some(schema)).example(Some(problem)).build();
            let mut response =
                ResponseBuilder::new().description(description).content("application/problem+json", content);
            if status == "503" {
                let seconds = HeaderBuilder::new()
                    .description(Some(
                        "Where there are too many queries at a time: when to ask again, in seconds.",
                    ))
                    .build();
                response = response.header("Retry-After", seconds);
            }
            components.responses.insert(name.to_owned(), RefOr::T(response.build()));
        }
        // One that was never seen has nothing of what is said of others.
        if let Some(RefOr::T(Schema::AllOf(device))) = components.schemas.get_mut("Device")
            && let Some(seen) = device.items.first_mut()
        {
            let any = AnyOfBuilder::new().item(Ref::from_schema_name("SeenDevice")).item(Object::new());
            *seen = RefOr::T(Schema::AnyOf(any.build()));
        }
        for (path, item) in &mut document.paths.paths {
            let Some(operation) = &mut item.get else { continue };
            let is_open = OPEN.contains(&path.as_str());
            if is_open {
                operation.security = Some(Vec::new());
            }
            for (name, status, ..) in problems() {
                let may_be = match status {
                    "400" => true,
                    "404" => path.contains('{'),
                    "503" => path == "/readyz" || operation.tags.iter().flatten().any(|tag| tag == "queries"),
                    _ => !is_open,
                };
                if may_be {
                    let of = Ref::from_response_name(name);
                    operation.responses.responses.insert(status.to_owned(), RefOr::Ref(of));
                }
            }
        }
    }
}

/// Each by its name, with its status and an example.
fn problems() -> [(&'static str, &'static str, &'static str, serde_json::Value); 5] {
    let problem = |title: &str, status: u16, detail: &str| json!({ "title": title, "status": status, "detail": detail });
    let mut bad = problem("bad request", 400, "start is after end");
    bad["parameter"] = json!("start");
    [
        ("BadRequest", "400", "The request has to change. A parameter that is wrong is named.", bad),
        (
            "Unauthorized",
            "401",
            "A token is needed that this host knows.",
            problem("unauthorized", 401, "show a token: Authorization: Bearer TOKEN"),
        ),
        (
            "NotFound",
            "404",
            "There is no such thing.",
            problem("not found", 404, "no device \"porch\" was ever seen, and none was issued"),
        ),
        (
            "Misdirected",
            "421",
            "The Host header names another server.",
            problem(
                "misdirected request",
                421,
                "this server does not go by the name in the Host header; if it should, start it with --http-name NAME",
            ),
        ),
        (
            "Unavailable",
            "503",
            "The same request may succeed later.",
            problem("not available", 503, "too many queries at a time; ask again in a second"),
        ),
    ]
}
