//! How many queries are worked on at a time: what they cost is taken from ingest.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::error::Problem;
use crate::ops::{Answered, Ops};

/// So many queries are worked on at a time.
const AT_A_TIME: usize = 4;

/// So long another one waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Queries {
    turns: Arc<Semaphore>,
    ops: Arc<Ops>,
}

impl Queries {
    pub(super) fn new(ops: Arc<Ops>) -> Arc<Self> {
        Arc::new(Self { turns: Arc::new(Semaphore::new(AT_A_TIME)), ops })
    }

    /// Those for a route.
    pub(super) fn of(self: &Arc<Self>, route: &'static str) -> OfRoute {
        self.ops.metrics.has_route(route);
        OfRoute { queries: self.clone(), route }
    }
}

/// Queries for a route.
#[derive(Clone, Debug)]
pub(super) struct OfRoute {
    queries: Arc<Queries>,
    route: &'static str,
}

/// Answers when it is the query's turn, or says that there are too many; and counts it.
pub(super) async fn in_turn(State(of): State<OfRoute>, request: Request, next: Next) -> Response {
    let answer = answer(&of.queries, request, next).await;
    let status = answer.status();
    let answered = if status.is_server_error() {
        Answered::Failed
    } else if status.is_client_error() {
        Answered::Refused
    } else {
        Answered::Ok
    };
    of.queries.ops.metrics.query(of.route, answered);
    answer
}

async fn answer(queries: &Queries, request: Request, next: Next) -> Response {
    let Ok(Ok(turn)) = timeout(TURN_TIMEOUT, queries.turns.clone().acquire_owned()).await else {
        let client = request.extensions().get::<ConnectInfo<SocketAddr>>();
        queries.ops.query_refused(client.map(|ConnectInfo(client)| *client));
        let problem = Problem::unavailable("too many queries at a time; ask again in a second");
        return ([(header::RETRY_AFTER, "1")], problem).into_response();
    };
    // The store goes on when nobody waits for the answer any more, and so the turn is not over.
    let answer = tokio::spawn(async move {
        let answer = next.run(request).await;
        drop(turn);
        answer
    });
    let failed = |_| Problem::unavailable("the query failed, which is a bug").into_response();
    answer.await.unwrap_or_else(failed)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_query_that_does_not_get_its_turn_is_refused_for_as_long_as_others_are_worked_on() {
        let ops = Arc::new(Ops::default());
        let work = Arc::new(Semaphore::new(0));
        let done = work.clone();
        let query = move || async move { drop(work.acquire().await) };
        let in_turn = from_fn_with_state(Queries::new(ops.clone()).of("/"), in_turn);
        let router = Router::new().route("/", get(query).layer(in_turn));
        let ask = || tokio::spawn(router.clone().oneshot(Request::new(Body::empty())));
        let mut first: Vec<_> = (0..AT_A_TIME).map(|_| ask()).collect();
        for asked in [0, 1] {
            let refused = ask().await.unwrap().unwrap();
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "{asked}");
            assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
            // Whoever asked for one of them and has left does not end the work.
            first.pop().unwrap().abort();
        }
        assert!(ops.metrics.text(true).contains("rollcall_queries_refused_total 2"));
        let next = ask();
        done.add_permits(1);
        assert_eq!(next.await.unwrap().unwrap().status(), StatusCode::OK);
        for answer in first {
            assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
        }
        let text = ops.metrics.text(true);
        for counted in [r#"answer="failed"} 2"#, r#"answer="ok"} 3"#, r#"answer="refused"} 0"#] {
            assert!(text.contains(&format!("rollcall_queries_total{{route=\"/\",{counted}")), "{text}");
        }
    }
}
