//! Which web pages elsewhere may ask, in their readers' browsers (CORS).

use std::str::FromStr;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser need not ask again.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The origin of web pages as browsers send it, `https://HOST[:PORT]`, or `*` for all pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// It is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is written as browsers send it, https://HOST[:PORT] in small letters and without a path, or *"
)]
pub struct OriginError;

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let is_origin = || {
            let uri: Uri = text.parse().ok()?;
            (text == format!("{}://{}", uri.scheme_str()?, uri.authority()?)).then_some(())
        };
        if text.contains(|sign: char| sign.is_ascii_uppercase() || sign == '@') {
            return Err(OriginError);
        }
        if text != "*" {
            is_origin().ok_or(OriginError)?;
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| OriginError)
    }
}

/// Lets pages from `origins` read the answers; without one, browsers keep them from all pages elsewhere.
pub fn allow_origins(router: Router, origins: &[Origin]) -> Router {
    if origins.is_empty() {
        return router;
    }
    let allowed = if origins.iter().any(|origin| origin.0 == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().map(|origin| origin.0.clone()))
    };
    let layer = CorsLayer::new().allow_origin(allowed).allow_methods([Method::GET]).max_age(MAX_AGE);
    router.layer(layer.allow_headers([header::AUTHORIZATION]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_perhaps_a_port() {
        for text in ["https://dashboard.example", "http://127.0.0.1:8000", "http://[::1]:8000", "*"] {
            assert!(text.parse::<Origin>().is_ok(), "{text}");
        }
        for text in [
            "",
            "dashboard.example",
            "https://",
            "https://a/",
            "https://a/b",
            "https://A",
            "https://u@a",
            "null",
            "a b",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(OriginError), "{text}");
        }
    }
}
