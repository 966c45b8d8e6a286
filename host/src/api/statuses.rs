//! `GET /v1/statuses`: what each status is called and whether it is good, if the host was told.

use axum::extract::State;
use axum::response::Response;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use utoipa::openapi::Ref;
use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Schema, Type};

use super::Api;
use super::answers::{answer, by_status};
use crate::model::Statuses;

#[derive(Serialize, ToSchema)]
struct Answer {
    /// Of every status; null when nothing was said of it.
    #[serde(serialize_with = "each")]
    #[schema(schema_with = of_each)]
    statuses: Statuses,
}

/// What a status means, for the document.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is there for its schema")]
pub(super) struct Meaning {
    /// Its name.
    #[schema(example = "idle")]
    name: String,
    /// `good`, `warning` or `bad`.
    #[schema(example = "good")]
    level: String,
}

/// A map whose values may be null cannot be derived.
fn of_each() -> Object {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    let meaning = OneOfBuilder::new().item(null).item(Ref::from_schema_name("Meaning")).build();
    ObjectBuilder::new().additional_properties(Some(Schema::OneOf(meaning))).build()
}

fn each<S: Serializer>(statuses: &Statuses, serializer: S) -> Result<S::Ok, S::Error> {
    by_status(serializer, |status| statuses.meaning(status))
}

/// What each status is called, and whether it is good.
#[utoipa::path(
    get,
    path = "/v1/statuses",
    operation_id = "statuses",
    tag = "about",
    responses((status = 200, description = "What is known of the statuses.", body = Answer)),
)]
pub(super) async fn get<S>(State(api): State<Api<S>>) -> Response {
    answer(&Answer { statuses: api.ops.statuses() })
}
