//! Settings that the builder refuses.

/// An invalid setting, and the reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A status without a meaning of its own: statuses lie within 400–599, and 401 is about the token (rule D11).
    #[error("{status} cannot be retried: use 400–599, except 401")]
    StatusHasNoMeaning {
        /// The status.
        status: u16,
    },
    /// A range of statuses that ends before it begins.
    #[error("{first}–{last} contains no status: a range goes from the smaller to the larger one")]
    EmptyStatusRange {
        /// The start of the range.
        first: u16,
        /// The end of the range.
        last: u16,
    },
    /// [`backoff_factor`](super::PolicyBuilder::backoff_factor) is below 1, or its denominator is zero (rule F2).
    #[error("backoff_factor: a factor below 1 makes waits shorter: use at least 1")]
    FactorBelowOne,
    /// The factor of [`throttle_backoff`](super::PolicyBuilder::throttle_backoff) is below 1, or its denominator is zero.
    #[error("throttle_backoff: a factor below 1 makes waits shorter: use at least 1")]
    ThrottleFactorBelowOne,
    /// A band reaches at most as far down as the wait is long (rule B2).
    #[error("jitter: a band of {down} thousandths below the wait is more than the wait: use at most 1000")]
    BandBelowZero {
        /// Thousandths below the wait.
        down: u16,
    },
    /// [`BreakerPolicy::failure_threshold`](super::BreakerPolicy) is 0: such a breaker lets no attempt through (rule S3).
    #[error("breaker.failure_threshold: 0 would open the breaker before any failure: use at least 1")]
    BreakerNeedsFailures,
    /// A dialect's entry without a name (rule H11).
    #[error("dialect: entry {entry} has an empty name")]
    DialectNameEmpty {
        /// The entry's place in the table, counted from 0.
        entry: usize,
    },
    /// A dialect's entry whose name is not a token of RFC 9110 §5.6.2: no field can have it (rule H11).
    #[error("dialect: the name of entry {entry} is not a field name")]
    DialectNameInvalid {
        /// The entry's place in the table, counted from 0.
        entry: usize,
    },
    /// A dialect's entry with the name of an earlier one, in any case: a name has one meaning (rule H11).
    #[error("dialect: entry {entry} has the name of an earlier entry")]
    DialectNameTwice {
        /// The entry's place in the table, counted from 0.
        entry: usize,
    },
}
