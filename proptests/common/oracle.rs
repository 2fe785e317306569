//! The oracle: it decides whether a history keeps the invariants. Property tests and the fuzz target `events` ask the same
//! one.
#![allow(unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use retry_machine::{Action, FailureKind, Idempotency, RefreshOutcome, Reply, TransportErrorKind};

use super::bounds::{Gate, Lease, Waits};
use super::history::{Ended, Entry, History, Input, Player, Response};

/// Asserts every invariant.
pub fn check(history: &History) {
    hints_bind(history);
    the_gate_binds(history);
    attempts_are_bounded(history);
    the_end_is_final(history);
    final_statuses_end(history);
    results_follow_the_table(history);
    refused_tokens_are_not_sent_again(history);
    leases_are_exclusive(history);
    waits_are_within_bounds(history);
    the_budget_is_kept(history);
    ambiguous_failures_end(history);
    the_deadline_binds(history);
    only_ticks_end_waits(history);
    steps_repeat(history);
    histories_repeat(history);
    early_ticks_change_nothing(history);
}

impl History {
    /// Passes each request's entries in turn, with the oracle's own state of the request.
    fn for_each<S: Default + Clone>(&self, mut check: impl FnMut(&mut S, &Entry)) {
        let mut states = vec![S::default(); self.setup.requests.len()];
        for entry in &self.entries {
            check(&mut states[entry.request], entry);
        }
    }

    fn is_non_idempotent(&self, request: usize) -> bool {
        self.setup.requests[request] == Idempotency::NonIdempotent
    }
}

/// I1, L1, L3: neither an attempt nor a wait's end precedes a hint that counts, and no wait is for a hint beyond the limit.
pub fn hints_bind(history: &History) {
    let settings = &history.setup.settings;
    history.for_each(|not_before: &mut u64, entry| {
        let response = entry.heard().filter(|response| settings.hint_counts(response.status) && !entry.was_over());
        let hint = response.and_then(|response| response.hint);
        *not_before = (*not_before).max(hint.map_or(0, |(nanos, _)| entry.at.saturating_add(nanos)));
        assert!(entry.sent().is_none() || entry.at >= *not_before, "I1: sent before {not_before}: {entry:?}");
        if let Some(Action::Wait { until, .. }) = entry.action {
            let until = until.as_nanos();
            assert!(until >= *not_before || entry.at >= *not_before, "L1: ends before {not_before}: {entry:?}");
            assert!(not_before.saturating_sub(entry.at) <= settings.max_server_wait, "L3: {entry:?}");
        }
    });
}

/// I1, S1: no attempt is sent while the gate is closed.
pub fn the_gate_binds(history: &History) {
    let mut gate = Gate::default();
    for entry in &history.entries {
        gate.hear(entry, &history.setup.settings);
        assert!(entry.sent().is_none() || entry.at >= gate.opens_at, "S1: sent before {}: {entry:?}", gate.opens_at);
    }
}

/// I2: attempts are numbered from 1, and are at most 1 + retries + recoveries.
pub fn attempts_are_bounded(history: &History) {
    let most = history.setup.settings.max_attempts();
    history.for_each(|attempts: &mut u64, entry| {
        if let Some(sent) = entry.sent() {
            *attempts += 1;
            assert_eq!(u64::from(sent.attempt), *attempts, "I2: {entry:?}");
            assert!(*attempts <= most, "I2: more than {most}: {entry:?}");
        }
        if let Some(action) = entry.action {
            assert_eq!(u64::from(entry.after.attempts), *attempts, "I2: {entry:?}");
            assert_eq!(action.attempt(), entry.after.attempts, "E1: {entry:?}");
        }
    });
}

/// I3: after a terminal action the same one is returned forever.
pub fn the_end_is_final(history: &History) {
    history.for_each(|end: &mut Option<Action>, entry| {
        assert!(end.is_none() || entry.action.is_none() || entry.action == *end, "I3: {entry:?}");
        *end = end.or(entry.action.filter(Action::is_terminal));
    });
}

/// I4: no attempt follows a status that is not retried.
pub fn final_statuses_end(history: &History) {
    history.for_each(|is_over: &mut bool, entry| {
        if let Some((_, Ended::Answered(response))) = entry.ended() {
            *is_over |= response.status != 401 && !history.setup.settings.retries(response.status);
        }
        assert!(!*is_over || entry.action.is_none_or(|action| action.is_terminal()), "I4: {entry:?}");
    });
}

/// D1 to D14, B3, P2: each end of an attempt has the consequence in the guide's table.
pub fn results_follow_the_table(history: &History) {
    let settings = &history.setup.settings;
    history.for_each(|recoveries: &mut u32, entry| {
        assert!(entry.failed() != Some(FailureKind::Deadline) || settings.deadline.is_some(), "S4: {entry:?}");
        let Some((_, ended)) = entry.ended() else { return };
        let is_non_idempotent = history.is_non_idempotent(entry.request);
        let failed = entry.failed();
        match ended {
            Ended::Answered(response) => match response.status {
                status @ 200..=399 => {
                    assert!(
                        matches!(entry.action, Some(Action::Done { status: s, .. }) if s == status),
                        "D1: {entry:?}"
                    );
                }
                401 if response.refresh_is_useless() || *recoveries >= settings.max_token_recoveries.into() => {
                    assert_eq!(failed, Some(FailureKind::Unauthorized), "D3, D12: {entry:?}");
                }
                401 => {
                    assert_ne!(failed, Some(FailureKind::Unauthorized), "D3: {entry:?}");
                    let is_recovering = !matches!(entry.action, Some(Action::Done { .. } | Action::InFlight { .. }));
                    assert!(is_recovering, "D3: {entry:?}");
                    *recoveries += 1;
                }
                status if !settings.retries(status) => assert_eq!(failed, Some(kind_of(status)), "I4: {entry:?}"),
                status if is_non_idempotent && settings.ambiguous_5xx && status >= 500 && status != 503 => {
                    assert_eq!(failed, Some(FailureKind::Ambiguous), "D14: {entry:?}");
                }
                _ => assert_retried(history, entry, *recoveries),
            },
            Ended::Failed(TransportErrorKind::NotSent) => assert_retried(history, entry, *recoveries),
            Ended::Failed(TransportErrorKind::Other) if is_non_idempotent => {
                assert!(matches!(failed, Some(FailureKind::Transport | FailureKind::Ambiguous)), "D14: {entry:?}");
            }
            _ if is_non_idempotent => assert_eq!(failed, Some(FailureKind::Ambiguous), "I10: {entry:?}"),
            _ => assert_retried(history, entry, *recoveries),
        }
    });
}

/// B3, P2: a failure that can be retried is followed by a wait, unless a limit forbids it.
fn assert_retried(history: &History, entry: &Entry, recoveries: u32) {
    use FailureKind::{BreakerOpen, Budget, Deadline, Exhausted, ServerWaitTooLong};
    let settings = &history.setup.settings;
    let retry = entry.after.attempts - recoveries;
    match entry.failed() {
        None => {
            assert!(matches!(entry.action, Some(Action::Wait { .. })), "P2: {entry:?}");
            assert!(retry <= settings.max_retries, "B3: {entry:?}");
        }
        Some(Exhausted) => assert!(retry > settings.max_retries, "B3: {entry:?}"),
        Some(Budget) => assert!(settings.budget.is_some(), "S2: {entry:?}"),
        Some(BreakerOpen) => assert!(settings.breaker.is_some(), "S3: {entry:?}"),
        Some(kind) => assert!(matches!(kind, Deadline | ServerWaitTooLong), "P2: {entry:?}"),
    }
}

/// D2 to D7, D10: returns the failure for a status that is not retried.
fn kind_of(status: u16) -> FailureKind {
    match status {
        400 => FailureKind::BadRequest,
        403 => FailureKind::Forbidden,
        404 => FailureKind::NotFound,
        409 => FailureKind::Conflict,
        422 => FailureKind::Validation,
        _ => FailureKind::UnexpectedStatus,
    }
}

/// I5: after a 401 an attempt has a newer token.
pub fn refused_tokens_are_not_sent_again(history: &History) {
    history.for_each(|refused: &mut Option<u32>, entry| {
        if let Some((flight, Ended::Answered(response))) = entry.ended() {
            *refused = (*refused).max(Some(flight.generation).filter(|_| response.status == 401));
        }
        if let Some(sent) = entry.sent() {
            assert!(refused.is_none_or(|refused| sent.generation > refused), "I5: {entry:?}");
        }
    });
}

/// I6, K4, K5, K8: at most one lease is open, only a refresh or a replacement gives a new generation, and each attempt has
/// the newest one.
pub fn leases_are_exclusive(history: &History) {
    let mut lease = Lease::default();
    let mut generation = 0;
    for entry in &history.entries {
        lease.hear(entry);
        let most = match entry.input {
            Input::TokenReplaced(_) => {
                assert_eq!(entry.after.generation, generation + 1, "K4: {entry:?}");
                generation + 1
            }
            Input::Refreshed(RefreshOutcome::Refreshed { .. }) => generation + 1,
            _ => generation,
        };
        assert!((generation..=most).contains(&entry.after.generation), "K4: {entry:?}");
        generation = entry.after.generation;
        match entry.action {
            Some(Action::RefreshToken { until, .. }) => {
                assert!(!lease.is_open(entry.at), "I6: a second lease beside {lease:?}: {entry:?}");
                assert!(entry.at >= lease.throttled_until, "K6: {entry:?}");
                let end = entry.at.saturating_add(history.setup.settings.refresh_timeout);
                assert_eq!(until.as_nanos(), end, "K5: {entry:?}");
                lease.give(entry.request, until.as_nanos());
            }
            Some(Action::AwaitRefresh { .. }) if entry.input == Input::Tick => {
                assert!(lease.is_open(entry.at) && !lease.is_held_by(entry.request), "K8: {lease:?}: {entry:?}");
            }
            Some(Action::Send { generation: sent, .. }) => {
                assert_eq!((sent, sent), (lease.generation, generation), "K4: {entry:?}");
            }
            _ => {}
        }
    }
}

/// I8, B1, L2, S1: each wait is within the policy's bounds.
pub fn waits_are_within_bounds(history: &History) {
    let settings = &history.setup.settings;
    let mut gate = Gate::default();
    let mut waits = vec![Waits::default(); history.setup.requests.len()];
    for entry in &history.entries {
        gate.hear(entry, settings);
        waits[entry.request].check(entry, settings, &gate);
    }
}

/// I9, S2: each retry is granted or refused as the balance demands, which stays between 0 and the capacity.
pub fn the_budget_is_kept(history: &History) {
    let Some(budget) = history.setup.settings.budget else { return };
    let (mut balance, mut refunds, mut charged) = (budget.capacity, 0_u64, 0_u64);
    let mut succeeded = BTreeSet::new();
    for entry in &history.entries {
        // F6: a late success counts too, once for each attempt. An ended request remembers its last eight attempts.
        let is_remembered = |attempt: &u32| !entry.was_over() || entry.before.sends - attempt < 8;
        let success = entry.success().filter(is_remembered);
        if success.is_some_and(|attempt| succeeded.insert((entry.request, attempt))) {
            balance = balance.saturating_add(budget.success_refund).min(budget.capacity);
            refunds += u64::from(budget.success_refund);
        }
        let Some(failure) = entry.failure() else { continue };
        let throttled = matches!(failure, Ended::Answered(response) if response.status == 429);
        let cost = if throttled { budget.throttle_cost } else { budget.retry_cost };
        if let Some(Action::Wait { .. }) = entry.action {
            assert!(cost <= balance, "I9: granted with {balance}: {entry:?}");
            balance -= cost;
            charged += u64::from(cost);
        }
        if entry.failed() == Some(FailureKind::Budget) {
            assert!(cost > balance, "S2: refused with {balance}: {entry:?}");
        }
    }
    assert!(charged <= u64::from(budget.capacity) + refunds, "I9: {charged} charged");
}

/// I10, D14: a request that is not idempotent is never sent again after an ambiguous failure.
pub fn ambiguous_failures_end(history: &History) {
    let settings = &history.setup.settings;
    history.for_each(|is_ambiguous: &mut bool, entry| {
        let has_ambiguous_end = match entry.ended() {
            Some((_, Ended::GivenUp)) => true,
            Some((_, Ended::Failed(error))) => error != TransportErrorKind::NotSent,
            Some((_, Ended::Answered(response))) => {
                settings.ambiguous_5xx && (500..600).contains(&response.status) && response.status != 503
            }
            None => false,
        };
        *is_ambiguous |= has_ambiguous_end && history.is_non_idempotent(entry.request);
        assert!(!*is_ambiguous || entry.action.is_none_or(|action| action.is_terminal()), "I10: {entry:?}");
    });
}

/// L3, P1, S4, F1: no wait ends at or after the deadline, no attempt starts then, and each attempt has its limit.
pub fn the_deadline_binds(history: &History) {
    let settings = &history.setup.settings;
    for entry in &history.entries {
        let started = entry.before.started.unwrap_or(entry.at);
        let deadline = settings.deadline.map(|limit| started.saturating_add(limit));
        let is_in_time = |time: u64| deadline.is_none_or(|deadline| time < deadline);
        if let Some(Action::Wait { until, .. }) = entry.action {
            assert!(is_in_time(until.as_nanos()), "L3: {entry:?}");
        }
        if let Some(sent) = entry.sent() {
            assert!(is_in_time(entry.at), "P1: {entry:?}");
            let limit = settings.attempt_timeout.map(|limit| entry.at.saturating_add(limit));
            assert_eq!(sent.limit, limit.into_iter().chain(deadline).min(), "S4, F1: {entry:?}");
        }
    }
}

/// T4, F7: the next tick is the end that the action tells, only a tick ends a wait, and only a late hint extends it.
pub fn only_ticks_end_waits(history: &History) {
    for entry in &history.entries {
        let Some(action) = entry.action else { continue };
        let wakes_at = match action {
            Action::Send { until, .. } | Action::InFlight { until, .. } => Some(until),
            Action::Wait { until, .. } | Action::AwaitRefresh { until, .. } => Some(Some(until)),
            Action::Done { .. } | Action::Fail(_) => Some(None),
            // K5: the deadline of the request can precede the end of the lease.
            Action::RefreshToken { .. } => None,
        };
        if let Some(end) = wakes_at {
            assert_eq!(entry.after.next_tick, end.map(|end| end.as_nanos()), "T4: {entry:?}");
        }
        let Some(Action::Wait { until: before, .. }) = entry.before.last else { continue };
        let before = before.as_nanos();
        // F5: an outcome that does not count acts as a tick.
        let is_tick = matches!(entry.input, Input::Tick | Input::Refreshed(_));
        match action {
            Action::Send { .. } => assert!(is_tick && entry.at >= before, "F7: {entry:?}"),
            Action::Wait { until, .. } => {
                let is_over = match entry.input {
                    Input::Tick => entry.at >= before,
                    Input::Refreshed(_) => entry.at >= before && until.as_nanos() != before,
                    _ => false,
                };
                let is_extended = matches!(entry.input, Input::Reply(..)) && until.as_nanos() > before;
                assert!(is_over || is_extended || until.as_nanos() == before, "T4: {entry:?}");
            }
            _ => {}
        }
    }
}

/// I12, I13, T7, E2: each step gives the same action and state from a copy of the state, the same action from a restored
/// one, and each action has a sentence.
pub fn steps_repeat(history: &History) {
    assert!(history.broken.is_empty(), "{:#?}", history.broken);
}

/// I12: the same input gives the same output.
pub fn histories_repeat(history: &History) {
    let again = history.replay(false);
    assert_eq!(history.entries, again.entries, "I12");
    assert_eq!(history.end, again.end, "I12");
    let hash = |history: &History| {
        let mut hasher = DefaultHasher::new();
        history.end.hash(&mut hasher);
        hasher.finish()
    };
    assert_eq!(hash(history), hash(&again), "I12");
}

/// T4: early ticks change nothing.
pub fn early_ticks_change_nothing(history: &History) {
    let nervous = history.replay(true);
    for (calm, nervous) in history.entries.iter().zip(&nervous.entries) {
        assert_eq!(calm, nervous, "T4");
    }
    assert_eq!(history.end, nervous.end, "T4");
}

/// The order in which requests come to their ends.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    OneByOne,
    ByTime,
}

/// I7: asserts that every request ends if its driver does on time what the actions ask for. Sends and refreshes end with
/// these results in turn. With more than eight retries, failures become successes.
pub fn every_request_ends(
    mut player: Player,
    order: Order,
    results: &[(Result<Response, TransportErrorKind>, RefreshOutcome)],
) -> History {
    let settings = player.settings();
    let attempts = 1 + settings.max_retries.min(8) + u32::from(settings.max_token_recoveries);
    let attempts = usize::try_from(attempts).expect("it is small");
    let has_few_retries = settings.max_retries <= 8;
    let count = player.requests();
    // Each attempt takes its answer, the end of its wait, and a refresh led or three followed, both before its time and after
    // a 401. There is a wait at the gate for each time that an attempt closed it.
    let most = match order {
        Order::OneByOne => count * 8 * (1 + attempts),
        Order::ByTime => count * attempts * (2 + 2 * 4 + count * attempts),
    };
    let mut results = results.iter().cycle();
    for events in 0.. {
        let mut open = (0..count).filter(|n| !player.is_over(*n));
        let next = match order {
            Order::OneByOne => open.next(),
            Order::ByTime => open.min_by_key(|n| player.due(*n)),
        };
        let Some(next) = next else { return player.into_history() };
        assert!(events < most, "I7: request {next} does not end: {:?}", player.seen(next));
        let (result, outcome) = results.next().expect("it cycles");
        let is_accepted = matches!(result, Ok(response) if response.is_success() || response.status == 401);
        let success = Response::of(Reply::new(200));
        let result = if has_few_retries || is_accepted { *result } else { Ok(success) };
        player.obey(next, player.due(next), result, *outcome);
    }
    unreachable!("the events do not run out")
}
