//! What is asked of every request before any resource sees it: that it is meant for this server, and that who sent it
//! may do it. `/healthz` and `/readyz` are open to all, and so are the files of the page.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::error::Problem;
use super::host_name::{self, HostName};
use super::page;
use crate::credentials::{Live, Role, Tokens};
use crate::ops::{HttpRefused, Ops};

/// What somebody asks who only wants to know whether the process is well.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Who may ask, and by which name.
#[derive(Debug, Default)]
pub struct Guard {
    /// The names of this server, besides those that lead to this machine alone.
    pub names: Vec<HostName>,
    /// Who has to show one of these; without, everybody may ask.
    pub tokens: Option<Live<Tokens>>,
    /// How the process is.
    pub ops: Arc<Ops>,
}

/// `router`, behind the guard.
pub fn guarded(router: Router, guard: Guard) -> Router {
    router.layer(from_fn_with_state(Arc::new(guard), pass))
}

async fn pass(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.refuses(&request) {
        None => next.run(request).await,
        Some((refused, detail)) => {
            let client = request.extensions().get::<ConnectInfo<SocketAddr>>();
            guard.ops.http_refused(refused, client.map(|ConnectInfo(client)| *client));
            answer(refused, detail)
        }
    }
}

impl Guard {
    /// Why a request goes no further, and what to do about it; `None` when it may pass.
    fn refuses(&self, request: &Request) -> Option<(HttpRefused, &'static str)> {
        let host = match host_name::named(request.version(), request.uri(), request.headers()) {
            Ok(host) => host,
            Err(detail) => return Some((HttpRefused::BadHost, detail)),
        };
        let path = request.uri().path();
        if OPEN.contains(&path.strip_suffix('/').unwrap_or(path)) {
            return None;
        }
        if host.is_some_and(|host| !host.is_loopback() && !self.names.contains(&host)) {
            let detail = "this server does not go by the name in the Host header; if it should, start it with --http-name NAME";
            return Some((HttpRefused::OtherHost, detail));
        }
        // The page asks for a token itself, and is nothing without one.
        if page::is_part(path) {
            return None;
        }
        let tokens = self.tokens.as_ref()?;
        let Some(token) = bearer(request.headers()) else {
            return Some((HttpRefused::NoToken, "show a token: Authorization: Bearer TOKEN"));
        };
        match tokens.get().admit(token) {
            None => Some((HttpRefused::BadToken, "the token is not known; rollcall token create makes one")),
            Some(role) if role < needed(request.method()) => Some((
                HttpRefused::RoleTooLow,
                "the token is good for reading only; this takes one with the role admin",
            )),
            Some(_) => None,
        }
    }
}

/// Who changes something needs more than who asks.
fn needed(method: &Method) -> Role {
    if method.is_safe() { Role::Read } else { Role::Admin }
}

/// RFC 6750, section 2.1. More than one such header is none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

fn answer(refused: HttpRefused, detail: &str) -> Response {
    let problem = |status, title| Problem {
        title,
        status,
        detail: detail.to_owned(),
        parameter: None,
        complete_from: None,
    };
    // RFC 6750, section 3
    let challenge = |challenge: &'static str, problem: Problem| {
        ([(header::WWW_AUTHENTICATE, challenge)], problem).into_response()
    };
    match refused {
        // Of the others there is no request to be answered.
        HttpRefused::BadHost
        | HttpRefused::TlsFailed
        | HttpRefused::HeadTimeout
        | HttpRefused::HeadTooLarge
        | HttpRefused::MalformedRequest => problem(400, "bad request").into_response(),
        // RFC 9110, section 7.4
        HttpRefused::OtherHost => problem(421, "misdirected request").into_response(),
        HttpRefused::NoToken => challenge("Bearer realm=\"rollcall\"", problem(401, "unauthorized")),
        HttpRefused::BadToken => {
            challenge("Bearer realm=\"rollcall\", error=\"invalid_token\"", problem(401, "unauthorized"))
        }
        HttpRefused::RoleTooLow => {
            challenge("Bearer realm=\"rollcall\", error=\"insufficient_scope\"", problem(403, "forbidden"))
        }
    }
}
