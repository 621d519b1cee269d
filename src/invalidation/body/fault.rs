//! What can be wrong with the body of `POST /invalidate`? Names that stay, for programs, and sentences for people.

/// Why a body is refused: the answer's `error` and `detail`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}: {detail}")]
pub struct BodyError {
    /// A name that stays the same, such as `not-a-list`: [`Fault::as_str`].
    pub error: &'static str,
    /// Where it is and what would be right, for people.
    pub detail: String,
}

/// What can be wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Cannot be parsed; the detail has line and column.
    NotJson,
    /// Neither an object nor an array.
    NotARequest,
    /// A key that means nothing, or misspelt.
    UnknownKey,
    /// The same key twice in one object.
    DuplicateKey,
    /// More keys than any form has.
    TooManyKeys,
    /// Something else where a list belongs.
    NotAList,
    /// Something else where a string belongs.
    NotAString,
    /// Something else where true or false belongs.
    NotABoolean,
    /// No key that could name a page.
    NoSelector,
    /// More than [`MAX_SELECTORS`](super::MAX_SELECTORS).
    TooManySelectors,
    /// Keys of two forms in one body.
    MixedForms,
    /// A `type` that the draft does not know.
    UnknownType,
    /// No path, or one that no request could have.
    BadPath,
    /// No host, or one that no request could have.
    BadHost,
    /// Empty or too long.
    BadTag,
    /// Empty, too long, or with control characters.
    BadId,
    /// Too long.
    BadReason,
}

impl Fault {
    /// The answer's `error`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::NotJson => "not-json",
            Fault::NotARequest => "not-a-request",
            Fault::UnknownKey => "unknown-key",
            Fault::DuplicateKey => "duplicate-key",
            Fault::TooManyKeys => "too-many-keys",
            Fault::NotAList => "not-a-list",
            Fault::NotAString => "not-a-string",
            Fault::NotABoolean => "not-a-boolean",
            Fault::NoSelector => "no-selector",
            Fault::TooManySelectors => "too-many-selectors",
            Fault::MixedForms => "mixed-forms",
            Fault::UnknownType => "unknown-type",
            Fault::BadPath => "bad-path",
            Fault::BadHost => "bad-host",
            Fault::BadTag => "bad-tag",
            Fault::BadId => "bad-id",
            Fault::BadReason => "bad-reason",
        }
    }

    pub(super) fn because(self, detail: String) -> BodyError {
        BodyError { error: self.as_str(), detail }
    }
}
