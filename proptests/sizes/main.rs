//! The sizes and the traits of the types that the documentation promises. Most are checked at compile time.

use std::collections::HashSet;
use std::hash::Hash;

use retry_machine::{
    Action, Advice, BearerErrorCode, BodyError, BudgetPolicy, Cause, CodeClass, ErrorBody, Event, Explanation, Failure,
    FailureKind, HeaderField, Hint, Idempotency, Jitter, Policy, PolicyError, Reader, RefreshOutcome, RejectReason,
    RejectedFields, Reply, RetryMachine, Timestamp, TransportErrorKind, Upstream, WaitDetails, WaitReason,
};

const fn shared<T: Send + Sync + Unpin + 'static>() {}
const fn value<T: Clone + Eq + Hash + std::fmt::Debug>() {}
const fn copied<T: Copy + Eq + Hash + std::fmt::Debug + Send + Sync>() {}
const fn error<T: std::error::Error + Send + Sync + 'static>() {}

// T6.
const _: () = {
    shared::<RetryMachine>();
    shared::<Upstream>();
    shared::<Policy>();
    shared::<Reader>();
    value::<RetryMachine>();
    value::<Upstream>();
    value::<Policy>();
    value::<ErrorBody>();
    copied::<Action>();
    copied::<Explanation>();
    copied::<WaitReason>();
    copied::<WaitDetails>();
    copied::<Event>();
    copied::<Reply>();
    copied::<Hint>();
    copied::<Failure>();
    copied::<FailureKind>();
    copied::<Cause>();
    copied::<Advice>();
    copied::<TransportErrorKind>();
    copied::<RefreshOutcome>();
    copied::<Idempotency>();
    copied::<Timestamp>();
    copied::<Jitter>();
    copied::<CodeClass>();
    copied::<BearerErrorCode>();
    copied::<RejectedFields>();
    copied::<HeaderField>();
    copied::<RejectReason>();
    copied::<BudgetPolicy>();
    error::<Failure>();
    error::<PolicyError>();
    error::<BodyError>();
};

#[test]
fn s5_a_request_takes_96_bytes_and_an_upstream_at_most_576() {
    assert!(size_of::<RetryMachine>() <= 96, "{}", size_of::<RetryMachine>());
    assert!(size_of::<Upstream>() <= 576, "{}", size_of::<Upstream>());
}

#[test]
fn t6_copied_types_are_small() {
    assert!(size_of::<Action>() <= 72, "{}", size_of::<Action>());
    assert!(size_of::<Event>() <= 64, "{}", size_of::<Event>());
    assert!(size_of::<Reply>() <= 56, "{}", size_of::<Reply>());
    assert!(size_of::<Failure>() <= 56, "{}", size_of::<Failure>());
    assert!(size_of::<Reader>() <= 248, "{}", size_of::<Reader>());
}

#[test]
fn s5_nothing_is_behind_a_pointer() {
    assert!(!std::mem::needs_drop::<RetryMachine>());
    assert!(!std::mem::needs_drop::<Upstream>());
    assert!(!std::mem::needs_drop::<Reader>());
}

#[test]
fn t6_equal_machines_hash_alike_and_different_ones_differ() {
    let machines = [
        RetryMachine::new(Idempotency::Idempotent, 1),
        RetryMachine::new(Idempotency::Idempotent, 1),
        RetryMachine::new(Idempotency::NonIdempotent, 1),
        RetryMachine::new(Idempotency::Idempotent, 2),
    ];
    assert_eq!(machines.into_iter().collect::<HashSet<_>>().len(), 3);
}
