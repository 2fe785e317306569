//! The meaning of a 401 for a young token.

/// The answer to a 401 for a token that came less than its margin ago (rule K10). Such a 401 is not about the token's
/// expiry, and an endpoint that always answers 401 would cost a refresh for each request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "a closed choice of the policy")]
pub enum YoungToken {
    /// The token is refreshed, like any other.
    Refresh,
    /// The request fails as [`Unauthorized`](crate::FailureKind::Unauthorized).
    Surface,
    /// The request is sent again with the same token after a back-off, like a status of the meaning
    /// [`Retry`](crate::StatusMeaning::Retry), whether it is idempotent or not: a new token is not known everywhere at once.
    Retry,
}
