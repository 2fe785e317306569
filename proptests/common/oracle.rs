//! The oracle: it decides whether a history keeps the invariants. Property tests and the fuzz target `events` ask the same
//! one.
#![allow(unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::hash::{DefaultHasher, Hash, Hasher};

use retry_machine::{
    Action, Cause, FailureKind, Idempotency, RefreshOutcome, TransportErrorKind, WaitReason, YoungToken,
};

use super::bounds::{Breaker, Budget, Gate, Login, Results, Retries, Waits};
use super::history::{Ended, Entry, History, Input, Player};
use super::response::{Health, Numbers, Response, Taken};
use super::settings::{Kind, nanos};

/// Asserts every invariant.
pub fn check(history: &History) {
    hints_bind(history);
    the_gate_binds(history);
    attempts_are_bounded(history);
    the_end_is_final(history);
    final_replies_end(history);
    results_follow_the_table(history);
    refused_tokens_are_not_sent_again(history);
    logins_keep_the_rules(history);
    waits_are_within_bounds(history);
    the_budget_is_kept(history);
    the_breaker_hears_the_health(history);
    failures_tell_what_is_known(history);
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
        self.setup.requests[request].idempotency == Idempotency::NonIdempotent
    }
}

/// I1, L1, L3: neither an attempt nor a wait's end precedes a hint that counts, and no wait is for a hint beyond the limit.
pub fn hints_bind(history: &History) {
    let settings = &history.setup.settings;
    history.for_each(|not_before: &mut u64, entry| {
        let idempotency = history.setup.requests[entry.request].idempotency;
        let response = entry.heard().filter(|_| !entry.was_over());
        let hint = response.and_then(|response| response.binding_hint(settings, idempotency));
        *not_before = (*not_before).max(hint.map_or(0, |(nanos, _)| entry.at.saturating_add(nanos)));
        assert!(entry.sent().is_none() || entry.at >= *not_before, "I1: sent before {not_before}: {entry:?}");
        if let Some(Action::Wait { until, .. }) = entry.action {
            let until = until.as_nanos();
            assert!(until >= *not_before || entry.at >= *not_before, "L1: ends before {not_before}: {entry:?}");
            assert!(not_before.saturating_sub(entry.at) <= settings.max_server_wait, "L3: {entry:?}");
        }
    });
}

/// I1, S1, C6, C11, C12: no attempt is sent while the gate is closed, and it is closed just as long as replies and operators
/// asked for, within its limit.
pub fn the_gate_binds(history: &History) {
    for_each_with_gate(history, |gate, _, entry| {
        assert!(entry.sent().is_none() || !gate.is_closed(entry.at), "S1: sent through {gate:?}: {entry:?}");
        gate.check(entry, &history.setup.settings);
    });
}

/// Passes each entry with the gate after it, and whether it was closed before.
fn for_each_with_gate(history: &History, mut check: impl FnMut(&Gate, bool, &Entry)) {
    let mut gates = vec![Gate::new(&history.setup.settings); history.end.1.gates.len()];
    let mut retries = vec![Retries::default(); history.setup.requests.len()];
    for entry in &history.entries {
        let gate = &mut gates[history.setup.requests[entry.request].gate];
        let was_closed = gate.is_closed(entry.at);
        gate.hear(entry, &history.setup, retries[entry.request]);
        let _ = retries[entry.request].count(entry, &history.setup);
        check(gate, was_closed, entry);
    }
}

/// I2, D13, D17: attempts are numbered from 1, and are at most 1 + retries + recoveries, and 1 more where one was
/// unprocessed.
pub fn attempts_are_bounded(history: &History) {
    let settings = &history.setup.settings;
    history.for_each(|(attempts, unprocessed): &mut (u64, u64), entry| {
        if matches!(entry.ended(), Some((_, Ended::Failed(TransportErrorKind::Unprocessed)))) {
            *unprocessed = 1;
        }
        if let Some(sent) = entry.sent() {
            *attempts += 1;
            let most = settings.max_attempts(history.setup.requests[entry.request].limits) + *unprocessed;
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

/// I4, D11, D15: no attempt follows a reply to the attempt in flight that is not retried.
pub fn final_replies_end(history: &History) {
    history.for_each(|is_over: &mut bool, entry| {
        if let Some((_, Ended::Answered(response))) = entry.ended() {
            let taken = history.setup.taken(entry.request, &response);
            *is_over |= !matches!(taken, Taken::Token | Taken::Retried(_));
        }
        assert!(!*is_over || entry.action.is_none_or(|action| action.is_terminal()), "I4: {entry:?}");
    });
}

/// The oracle's own counts of a request.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    recoveries: u32,
    retries: Retries,
}

/// D1 to D15, B3, P2: each end of an attempt has the consequence in the table of statuses and verdicts.
pub fn results_follow_the_table(history: &History) {
    let settings = &history.setup.settings;
    history.for_each(|counts: &mut Counts, entry| {
        let deadline = settings.deadline_of(history.setup.requests[entry.request].limits);
        assert!(entry.failed() != Some(FailureKind::Deadline) || deadline.is_some(), "S4: {entry:?}");
        only_answers_are_done(history, entry);
        let Some((_, ended)) = entry.ended() else { return };
        let is_non_idempotent = history.is_non_idempotent(entry.request);
        let failed = entry.failed();
        match ended {
            Ended::Answered(response) => match history.setup.taken(entry.request, &response) {
                Taken::Answer => {
                    let is_done =
                        matches!(entry.action, Some(Action::Done { status, .. }) if status == response.status);
                    assert!(is_done, "D1: {entry:?}");
                }
                Taken::Token
                    if entry.after.login.generation.is_none()
                        || response.is_surfaced_401
                        || response.is_retried_401
                        || response.refresh_is_useless(settings)
                        || counts.recoveries >= settings.max_token_recoveries.into() =>
                {
                    assert_eq!(failed, Some(FailureKind::Unauthorized), "D3, D12, K9, K10: {entry:?}");
                }
                Taken::Token => {
                    assert_ne!(failed, Some(FailureKind::Unauthorized), "D3: {entry:?}");
                    let is_recovering = !matches!(entry.action, Some(Action::Done { .. } | Action::InFlight { .. }));
                    assert!(is_recovering, "D3: {entry:?}");
                    counts.recoveries += 1;
                }
                Taken::Surfaced => assert_eq!(failed, Some(kind_of(response.status)), "I4, D15: {entry:?}"),
                Taken::Ambiguous => assert_eq!(failed, Some(FailureKind::Ambiguous), "D11, D14: {entry:?}"),
                Taken::Retried(kind) => assert_retried(history, entry, counts, kind),
            },
            Ended::Failed(TransportErrorKind::Unprocessed) if entry.is_repetition() => assert_repeated(entry),
            Ended::Failed(TransportErrorKind::NotSent | TransportErrorKind::Unprocessed) => {
                assert_retried(history, entry, counts, Kind::Other);
            }
            Ended::Failed(TransportErrorKind::Permanent) if !is_non_idempotent => {
                assert_eq!(failed, Some(FailureKind::Transport), "D13: {entry:?}");
            }
            Ended::Failed(TransportErrorKind::Other | TransportErrorKind::Permanent) if is_non_idempotent => {
                let is_past_limit =
                    entry.before.in_flight.and_then(|flight| flight.limit).is_some_and(|at| entry.at >= at);
                let kind = if is_past_limit { FailureKind::Ambiguous } else { FailureKind::Transport };
                assert_eq!(failed, Some(kind), "D14, P2: {entry:?}");
            }
            _ if is_non_idempotent => assert_eq!(failed, Some(FailureKind::Ambiguous), "I10: {entry:?}"),
            _ => assert_retried(history, entry, counts, Kind::Other),
        }
    });
}

/// D1, D15, T3: only an answer ends a request well; a late one is a 2xx without a verdict.
fn only_answers_are_done(history: &History, entry: &Entry) {
    let late_answer = match (entry.heard(), entry.ended()) {
        (Some(response), None) => {
            response.is_success() && history.setup.taken(entry.request, &response) == Taken::Answer
        }
        _ => false,
    };
    if late_answer && !entry.was_over() {
        assert!(matches!(entry.action, Some(Action::Done { .. })), "T3: {entry:?}");
    } else if let (Some(Action::Done { .. }), None, false) = (entry.action, entry.ended(), entry.was_over()) {
        panic!("D15, T3: {entry:?}");
    }
}

/// D13: the first unprocessed attempt goes to P1 at once, without a back-off and without a price.
fn assert_repeated(entry: &Entry) {
    use FailureKind::{BreakerOpen, Deadline, ServerWaitTooLong, TokenRejected, TokenUnavailable};
    match entry.action {
        Some(Action::Send { .. } | Action::RefreshToken { .. } | Action::AwaitRefresh { .. }) => {}
        Some(Action::Wait { reason, .. }) => assert_ne!(reason, WaitReason::Backoff, "D13: {entry:?}"),
        _ => assert!(
            matches!(
                entry.failed(),
                Some(BreakerOpen | Deadline | ServerWaitTooLong | TokenRejected | TokenUnavailable)
            ),
            "D13: {entry:?}"
        ),
    }
}

/// B3, B5, D17, P2: a failure that can be retried is followed by a wait, unless a limit forbids it.
fn assert_retried(history: &History, entry: &Entry, counts: &mut Counts, kind: Kind) {
    use FailureKind::{BreakerOpen, Budget, Deadline, Exhausted, ServerWaitTooLong};
    let settings = &history.setup.settings;
    let own_limit = history.setup.requests[entry.request].limits.max_retries;
    let limit = match (settings.throttle_retries, kind) {
        (Some(throttles), Kind::Throttle) => throttles,
        _ => settings.max_retries,
    };
    let is_left = counts.retries.of(kind, settings) < u32::from(limit)
        && own_limit.is_none_or(|own| counts.retries.all < u32::from(own));
    match entry.failed() {
        None => {
            assert!(matches!(entry.action, Some(Action::Wait { .. })), "P2: {entry:?}");
            assert!(is_left, "B3, B5, D17: {entry:?}");
            assert_eq!(counts.retries.count(entry, &history.setup), Some(kind), "B5: {entry:?}");
        }
        Some(Exhausted) => assert!(!is_left, "B3, B5, D17: {entry:?}"),
        Some(Deadline) => {}
        Some(failed) => {
            assert!(is_left, "P2: {entry:?}");
            match failed {
                Budget => assert!(settings.budget.is_some(), "S2: {entry:?}"),
                BreakerOpen => assert!(settings.breaker.is_some(), "S3: {entry:?}"),
                _ => assert_eq!(failed, ServerWaitTooLong, "P2: {entry:?}"),
            }
        }
    }
}

/// D2 to D7, D10: returns the failure for a status that is not retried.
fn kind_of(status: u16) -> FailureKind {
    match status {
        400 => FailureKind::BadRequest,
        401 => FailureKind::Unauthorized,
        403 => FailureKind::Forbidden,
        404 => FailureKind::NotFound,
        409 => FailureKind::Conflict,
        422 => FailureKind::Validation,
        _ => FailureKind::UnexpectedStatus,
    }
}

/// I5: after a 401 an attempt has a newer token, unless K10 sends it again with a young one.
pub fn refused_tokens_are_not_sent_again(history: &History) {
    history.for_each(|refused: &mut Option<u32>, entry| {
        if let Some((flight, Ended::Answered(response))) = entry.ended() {
            let is_refused = history.setup.taken(entry.request, &response) == Taken::Token;
            *refused = (*refused).max(flight.generation.filter(|_| is_refused));
        }
        if let Some(sent) = entry.sent() {
            // K9: the token can be removed while the request waits.
            let is_newer = sent.generation.is_none() || sent.generation > *refused;
            assert!(refused.is_none() || is_newer, "I5: {entry:?}");
        }
    });
}

/// I6, K3 to K9: each login keeps the rules: its leases, their outcomes, and who sends with which token.
pub fn logins_keep_the_rules(history: &History) {
    let mut logins = vec![Login::new(history.setup.first_token); history.end.1.logins.len()];
    for entry in &history.entries {
        logins[history.setup.requests[entry.request].login].check(entry, &history.setup);
    }
}

/// I8, B1, L2, H11, S1, C9, C10, C13: each wait is within the policy's bounds.
pub fn waits_are_within_bounds(history: &History) {
    let mut waits = vec![Waits::default(); history.setup.requests.len()];
    for_each_with_gate(history, |gate, _, entry| waits[entry.request].check(entry, &history.setup, gate));
}

/// I9, S2, D18, C1 to C4: each retry is granted or refused as the balance demands, which stays between 0 and the capacity.
pub fn the_budget_is_kept(history: &History) {
    let settings = &history.setup.settings;
    let Some(policy) = settings.budget else { return };
    let mut results = Results::default();
    let mut budget = Budget::new(policy, history.setup.requests.len());
    for_each_with_gate(history, |_, was_closed, entry| {
        budget.pass_time(entry.at);
        let (result, _) = results.hear(entry, &history.setup);
        if matches!(result, Some((_, Health::Good))) {
            budget.refund(entry.request);
        }
        // The kind of the failure that a result shows, also a late one, whether it may be retried or not.
        let kind = result.and_then(|_| match entry.input {
            Input::Reply(_, response) => response.charged_as(settings),
            Input::Error(_, TransportErrorKind::Permanent) => None,
            // D13: the first one goes out again at once, without a price.
            Input::Error(_, TransportErrorKind::Unprocessed) if !entry.before.repeated => None,
            _ => Some(Kind::Other),
        });
        if let Some(kind) = kind {
            // C2: the queue bounds it, or its own count.
            let is_hinted = matches!(entry.input, Input::Reply(_, response) if response.effective_hint().is_some_and(|hint| hint.0 > 0));
            let is_free = kind == Kind::Throttle && (was_closed || settings.throttle_retries.is_some() && is_hinted);
            let price = (!is_free).then(|| budget.cost(kind));
            budget.fail(entry.request, price);
            if entry.failure().is_some() {
                if let Some(Action::Wait { .. }) = entry.action {
                    assert!(budget.is_enough(price), "I9: granted with {budget:?}: {entry:?}");
                    budget.grant(entry.request, price);
                }
                if entry.failed() == Some(FailureKind::Budget) {
                    assert!(!budget.is_enough(price), "S2: refused with {budget:?}: {entry:?}");
                }
            }
        }
        assert_eq!(entry.after.balance, Some(budget.balance), "S2: {budget:?}: {entry:?}");
        assert!(budget.balance <= policy.capacity, "I9: {budget:?}: {entry:?}");
    });
    let most = u64::from(policy.capacity) + budget.returned;
    assert!(budget.charged <= most, "I9: {budget:?}");
    let cheapest = policy.retry_cost.min(policy.throttle_cost);
    if policy.charge == retry_machine::Charge::Retry && cheapest > 0 {
        assert!(budget.granted <= most / u64::from(cheapest), "I9: {budget:?}");
    }
}

/// D18, S3, F6: the breaker opens, closes and lets a probe through by the health that results show.
pub fn the_breaker_hears_the_health(history: &History) {
    let setup = &history.setup;
    let mut results = Results::default();
    let mut breaker = Breaker::default();
    for entry in &history.entries {
        let (result, abandoned) = results.hear(entry, setup);
        let abandoned = abandoned.map(|attempt| (attempt, Health::Neutral));
        for (attempt, health) in result.into_iter().chain(abandoned) {
            breaker.hear(entry.at, (entry.request, attempt), health, &setup.settings);
        }
        if let Some(sent) = entry.sent() {
            breaker.send(entry, sent.attempt, &setup.settings);
        }
        if entry.failed() == Some(FailureKind::BreakerOpen) && !entry.was_over() {
            breaker.refuse(entry);
        }
        breaker.check(entry);
    }
}

/// E1, F8: a failure tells the attempts, the time, the status of the last reply in time, the failure of the last attempt
/// that failed, and an instant no sooner than the last reply's hint.
pub fn failures_tell_what_is_known(history: &History) {
    #[derive(Clone, Default)]
    struct Known {
        status: Option<u16>,
        cause: Option<Cause>,
    }
    for_each_with_gate(history, |gate, _, entry| {
        let Some(Action::Fail(failure)) = entry.action.filter(|_| !entry.was_over()) else { return };
        let told = failure.not_before().map_or(0, |instant| instant.as_nanos());
        assert!(!gate.is_closed(entry.at) || told >= gate.asked_until, "F8: {told} is before {gate:?}: {entry:?}");
        assert!(entry.after.next_probe.is_none_or(|probe| told >= probe), "F8: {told}: {entry:?}");
    });
    history.for_each(|known: &mut Known, entry| {
        let ended = entry.ended().map(|(_, ended)| ended);
        if let Some(Ended::Answered(response)) = ended {
            known.status = Some(response.status);
        }
        known.cause = ended.map(|ended| cause_of(&ended)).or(known.cause);
        let Some(Action::Fail(failure)) = entry.action.filter(|_| !entry.was_over()) else { return };
        let elapsed = entry.at - entry.before.started.unwrap_or(entry.at);
        assert_eq!((failure.status(), failure.cause()), (known.status, known.cause), "E1, F8: {entry:?}");
        assert_eq!(nanos(failure.elapsed()), elapsed, "E1: {entry:?}");
        if let Some(Ended::Answered(response)) = ended {
            // H11: a pushback replaces the hint only where the reply would be retried.
            let is_retried = matches!(history.setup.taken(entry.request, &response), Taken::Retried(_));
            let hint = if is_retried { response.effective_hint() } else { response.hint };
            let end = hint.map_or(0, |(nanos, _)| entry.at.saturating_add(nanos));
            let told = failure.not_before().map_or(0, |instant| instant.as_nanos());
            assert!(end <= entry.at || told >= end, "E1: {told} is before the hint's end {end}: {entry:?}");
        }
    });
}

fn cause_of(ended: &Ended) -> Cause {
    match ended {
        Ended::Answered(_) => Cause::Status,
        Ended::GivenUp | Ended::Failed(TransportErrorKind::TimedOut) => Cause::TimedOut,
        Ended::Failed(TransportErrorKind::Broken) => Cause::Broken,
        Ended::Failed(TransportErrorKind::NotSent) => Cause::NotSent,
        Ended::Failed(TransportErrorKind::Unprocessed) => Cause::Unprocessed,
        Ended::Failed(TransportErrorKind::Permanent) => Cause::Permanent,
        Ended::Failed(TransportErrorKind::Other) => Cause::Other,
    }
}

/// I10, D11, D14: a request that is not idempotent is never sent again after an ambiguous failure.
pub fn ambiguous_failures_end(history: &History) {
    history.for_each(|is_ambiguous: &mut bool, entry| {
        let has_ambiguous_end = match entry.ended() {
            Some((_, Ended::GivenUp)) => true,
            Some((_, Ended::Failed(error))) => {
                !matches!(error, TransportErrorKind::NotSent | TransportErrorKind::Unprocessed)
            }
            // D15: a verdict is the server's own word that it may be repeated.
            Some((_, Ended::Answered(response))) => history.setup.taken(entry.request, &response) == Taken::Ambiguous,
            None => false,
        };
        *is_ambiguous |= has_ambiguous_end && history.is_non_idempotent(entry.request);
        assert!(!*is_ambiguous || entry.action.is_none_or(|action| action.is_terminal()), "I10: {entry:?}");
    });
}

/// L3, P1, S4, F1, D17: no wait ends at or after the deadline, no attempt starts then, and each attempt has its limit. The
/// tighter one of the policy's limit and the request's own counts.
pub fn the_deadline_binds(history: &History) {
    let settings = &history.setup.settings;
    for entry in &history.entries {
        let limits = history.setup.requests[entry.request].limits;
        let started = entry.before.started.unwrap_or(entry.at);
        let deadline = settings.deadline_of(limits).map(|limit| started.saturating_add(limit));
        let is_in_time = |time: u64| deadline.is_none_or(|deadline| time < deadline);
        if let Some(Action::Wait { until, .. }) = entry.action {
            assert!(is_in_time(until.as_nanos()), "L3: {entry:?}");
        }
        if let Some(sent) = entry.sent() {
            assert!(is_in_time(entry.at), "P1: {entry:?}");
            let limit = settings.attempt_timeout_of(limits).map(|limit| entry.at.saturating_add(limit));
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
        let is_over = entry.input == Input::Tick && entry.at >= before;
        match action {
            Action::Send { .. } => assert!(is_over, "F7: {entry:?}"),
            Action::Wait { until, .. } => {
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
/// these results in turn. With more than eight retries of a kind, failures become successes.
pub fn every_request_ends(
    mut player: Player,
    order: Order,
    results: &[(Result<Numbers, TransportErrorKind>, RefreshOutcome)],
) -> History {
    let settings = player.settings().clone();
    let throttles = settings.throttle_retries.unwrap_or(0);
    let retries = u32::from(settings.max_retries.min(8)) + u32::from(throttles.min(8));
    // D13: one more, which is not a retry.
    let attempts = 2 + retries + u32::from(settings.max_token_recoveries);
    let attempts = usize::try_from(attempts).expect("it is small");
    let has_few_retries = settings.max_retries <= 8 && throttles <= 8;
    let count = player.requests();
    // Each attempt takes its answer, the end of its wait, and a refresh led or three followed, both before its time and after
    // a 401. There is a wait at the gate for each time that an attempt closed it.
    let most = match order {
        Order::OneByOne => count * 8 * (1 + attempts),
        Order::ByTime => count * attempts * (2 + 2 * 4 + count * attempts),
    };
    let is_accepted = |response: &Response| match response.taken(&settings, Idempotency::Idempotent) {
        Taken::Answer => true,
        // K10: it may be a retry.
        Taken::Token => settings.young_token != YoungToken::Retry,
        _ => false,
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
        let result = result.map(|numbers| player.response(numbers));
        let is_kept = has_few_retries || result.as_ref().is_ok_and(is_accepted);
        let result = if is_kept { result } else { Ok(player.response(Numbers::of(200))) };
        player.obey(next, player.due(next), result, *outcome);
    }
    unreachable!("the events do not run out")
}
