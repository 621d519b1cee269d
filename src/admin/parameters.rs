//! What stands in a query? Every parameter is taken once and by name; what is left over is a mistake, not a silence.

use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::answer::Failure;

/// The parameters of a query, in their order.
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(pairs)| Parameters(pairs)).map_err(|error| wrong(error.to_string()))
    }
}

impl Parameters {
    /// All values of a parameter.
    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(key, _)| key == name).map(|(_, value)| value).collect()
    }

    /// The value of a parameter that may be missing.
    pub(super) fn one(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let mut values = self.all(name);
        if values.len() > 1 {
            return Err(wrong(format!("`{name}` is given {} times", values.len())));
        }
        Ok(values.pop())
    }

    /// A whole number from 1 to `most`.
    pub(super) fn limit(&mut self, usual: usize, most: usize) -> Result<usize, Failure> {
        let Some(text) = self.one("limit")? else { return Ok(usual) };
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| wrong(format!("`limit` is {text:?}; give a whole number from 1 to {most}")))
    }

    /// No other parameter is known; `known` are.
    pub(super) fn finish(self, known: &str) -> Result<(), Failure> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(wrong(format!("unknown parameter {name:?}; known are {known}"))),
        }
    }
}

/// A mistake in the query.
pub(super) fn wrong(detail: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "bad-parameter", detail)
}
