//! Responses: the numbers that make one, the facts in them, and what the rules alone say about these facts.
#![allow(unreachable_pub)]

use std::time::Duration;

use retry_machine::{
    BearerErrorCode, CodeClass, DialectField, FieldMeaning, HintSource, Idempotency, Policy, Reply, StatusMeaning,
    TimeUnit, TransportErrorKind, Verdict,
};

use super::settings::{Kind, Settings};

/// The numbers and words in a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Numbers {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub retry_after_ms: Option<u64>,
    /// The calls that remain, and seconds until the reset.
    pub limit: Option<(u64, u64)>,
    /// The wait that the driver tells, in nanoseconds (D16).
    pub told: Option<u64>,
    pub pushback: Option<PushbackField>,
    /// The verdict in a field: whether to try again (D15).
    pub should_retry: Option<bool>,
    /// The verdict of the driver (D15).
    pub verdict: Option<Verdict>,
    /// The `error` of a Bearer challenge.
    pub challenge: Option<&'static str>,
    pub code: CodeClass,
}

/// The values of a pushback field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushbackField {
    Once(u64),
    Twice(u64),
    Negative(u64),
}

/// A response, with the facts that the rules name.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Response {
    pub reply: Reply,
    pub status: u16,
    /// The effective hint of H6 or D16, in nanoseconds.
    pub hint: Option<(u64, HintSource)>,
    pub pushback: Option<Pushback>,
    pub verdict: Option<Verdict>,
    /// Whether the limit has nothing left.
    pub is_exhausted: bool,
    /// Whether it is a 401 for a young token, which the policy retries or surfaces (K10).
    pub is_retried_401: bool,
    pub is_surfaced_401: bool,
}

/// An order to come back (H11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushback {
    /// In nanoseconds.
    After(u64),
    Stop,
}

/// The place of a reply in the table of statuses and verdicts (D11, D15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    Answer,
    /// The token has expired.
    Token,
    /// Surfaced, with the kind of its status.
    Surfaced,
    /// It may have been applied, and the request is not idempotent.
    Ambiguous,
    Retried(Kind),
}

/// The health of the service, as a result shows it (D18).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    Good,
    Bad,
    Neutral,
}

impl Numbers {
    pub fn of(status: u16) -> Numbers {
        Numbers { status, ..Numbers::default() }
    }

    /// Derives the facts from the numbers alone, and not from the reply (H6, H11).
    pub fn facts(&self, settings: &Settings, policy: &Policy) -> Response {
        let own = Own::of(settings.dialect);
        let (own_millis, seconds) = match own.retry_after_is_millis {
            true => (self.retry_after, None),
            false => (None, self.retry_after),
        };
        let millis = self.retry_after_ms.max(own_millis);
        let millis = millis.map(|ms| (ms.saturating_mul(1_000_000), HintSource::RetryAfterMs));
        let seconds = seconds.map(|s| (s.saturating_mul(1_000_000_000), HintSource::RetryAfter));
        let limit = self.limit.filter(|(remaining, _)| *remaining == 0);
        let reset = limit.map(|(_, reset)| (reset.saturating_mul(1_000_000_000), HintSource::RateLimitReset));
        let told = self.told.map(|nanos| (nanos, HintSource::Told));
        let pushback = self.pushback.filter(|_| own.pushback.is_some() && told.is_none()).map(|order| match order {
            PushbackField::Once(number) if own.pushback_is_millis => Pushback::After(number.saturating_mul(1_000_000)),
            PushbackField::Once(number) => Pushback::After(number.saturating_mul(1_000_000_000)),
            PushbackField::Twice(_) | PushbackField::Negative(_) => Pushback::Stop,
        });
        let field = self.should_retry.filter(|_| own.verdict.is_some());
        let field = field.map(|again| if again { Verdict::Transient } else { Verdict::Final });
        Response {
            reply: self.reply(policy, &own),
            status: self.status,
            hint: told.or(millis).or(seconds).or(reset),
            pushback,
            verdict: self.verdict.or(field),
            is_exhausted: limit.is_some(),
            is_retried_401: false,
            is_surfaced_401: false,
        }
    }

    fn reply(&self, policy: &Policy, own: &Own) -> Reply {
        let mut headers: Vec<(&str, String)> = Vec::new();
        let mut add = |name, value: Option<String>| headers.extend(value.map(|value| (name, value)));
        add("Retry-After", self.retry_after.map(|number| number.to_string()));
        add("retry-after-ms", self.retry_after_ms.map(|number| number.to_string()));
        let usage = self.limit.filter(|(remaining, _)| own.usage.is_some() && *remaining < 2);
        // 2 calls are allowed: all are used, or one.
        add(own.usage.unwrap_or(UNKNOWN), usage.map(|(remaining, _)| format!("calls={}/2", 2 - remaining)));
        let plain = self.limit.filter(|_| usage.is_none());
        add(own.remaining.unwrap_or("X-RateLimit-Remaining"), plain.map(|(remaining, _)| remaining.to_string()));
        add(own.reset.unwrap_or("X-RateLimit-Reset"), self.limit.map(|(_, reset)| reset.to_string()));
        let pushback = own.pushback.unwrap_or(UNKNOWN);
        match self.pushback {
            None => {}
            Some(PushbackField::Once(number)) => add(pushback, Some(number.to_string())),
            Some(PushbackField::Twice(number)) => (0..2).for_each(|_| add(pushback, Some(number.to_string()))),
            Some(PushbackField::Negative(number)) => add(pushback, Some(format!("-{number}"))),
        }
        add(own.verdict.unwrap_or(UNKNOWN), self.should_retry.map(|again| again.to_string()));
        add("WWW-Authenticate", self.challenge.map(|error| format!("Bearer error=\"{error}\"")));
        let reply = policy.read(self.status, headers).with_code(self.code);
        let reply = self.told.map_or(reply, |nanos| reply.with_hint(Duration::from_nanos(nanos)));
        self.verdict.map_or(reply, |verdict| reply.with_verdict(verdict))
    }
}

/// A name that no dialect has.
const UNKNOWN: &str = "x-unknown";

/// The names of a dialect by their meaning.
#[derive(Default)]
struct Own {
    pushback: Option<&'static str>,
    pushback_is_millis: bool,
    verdict: Option<&'static str>,
    remaining: Option<&'static str>,
    reset: Option<&'static str>,
    usage: Option<&'static str>,
    retry_after_is_millis: bool,
}

impl Own {
    fn of(dialect: &'static [DialectField]) -> Own {
        let mut own = Own::default();
        for DialectField { name, meaning } in dialect.iter().copied() {
            match meaning {
                FieldMeaning::Pushback(unit) => {
                    (own.pushback, own.pushback_is_millis) = (Some(name), unit == TimeUnit::Milliseconds);
                }
                FieldMeaning::Verdict => own.verdict = Some(name),
                FieldMeaning::Remaining => own.remaining = Some(name),
                FieldMeaning::Reset(_) => own.reset = Some(name),
                FieldMeaning::UsedOfLimit => own.usage = Some(name),
                FieldMeaning::Wait(_) => own.retry_after_is_millis = true,
                other => panic!("no dialect has {other:?}"),
            }
        }
        own
    }
}

impl Response {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// H11: a pushback goes before every hint.
    pub fn effective_hint(&self) -> Option<(u64, HintSource)> {
        match self.pushback {
            Some(Pushback::After(nanos)) => Some((nanos, HintSource::Pushback)),
            Some(Pushback::Stop) | None => self.hint,
        }
    }

    /// Returns the place in the table of statuses and verdicts (D1, D11, D15, H11).
    pub fn taken(&self, settings: &Settings, idempotency: Idempotency) -> Taken {
        let meaning = match (self.verdict, self.status) {
            (Some(Verdict::Final), _) => return Taken::Surfaced,
            // K10, H11: a stop counts where the reply would be retried.
            _ if self.is_retried_401 && self.pushback == Some(Pushback::Stop) => return Taken::Token,
            _ if self.is_retried_401 => StatusMeaning::Retry,
            (Some(Verdict::TokenExpired), _) | (_, 401) => return Taken::Token,
            (Some(Verdict::Transient), _) => StatusMeaning::Retry,
            (Some(Verdict::Throttled), _) => StatusMeaning::Throttle,
            (_, 101 | 200..=399) => return Taken::Answer,
            (_, status) => settings.meaning(status, self.effective_hint().is_some()),
        };
        match meaning {
            StatusMeaning::Surface => Taken::Surfaced,
            StatusMeaning::RetryIfSafe if idempotency == Idempotency::NonIdempotent => Taken::Ambiguous,
            _ if self.pushback == Some(Pushback::Stop) => Taken::Surfaced,
            StatusMeaning::Retry | StatusMeaning::RetryIfSafe => Taken::Retried(Kind::Other),
            StatusMeaning::Throttle => Taken::Retried(Kind::Throttle),
        }
    }

    /// Returns the hint that counts for the request (H10).
    pub fn binding_hint(&self, settings: &Settings, idempotency: Idempotency) -> Option<(u64, HintSource)> {
        let is_retried = matches!(self.taken(settings, idempotency), Taken::Retried(_));
        self.effective_hint().filter(|_| is_retried)
    }

    /// Returns the nanoseconds for which the reply closes the gate (H6, H10).
    pub fn closes_gate_for(&self, settings: &Settings, idempotency: Idempotency) -> Option<u64> {
        let closing = match self.taken(settings, idempotency) {
            Taken::Retried(Kind::Throttle) => self.effective_hint(),
            Taken::Retried(Kind::Other) => self.effective_hint().filter(|_| self.is_exhausted && self.may_close()),
            Taken::Surfaced | Taken::Ambiguous => self.hint.filter(|_| self.is_exhausted && self.may_close()),
            Taken::Answer => self.hint.filter(|_| self.is_exhausted && self.is_success()),
            Taken::Token => None,
        };
        closing.map(|(nanos, _)| nanos).filter(|nanos| *nanos > 0)
    }

    /// Returns the kind of failure that a budget charges for, where it charges for failures (S2).
    pub fn charged_as(&self, settings: &Settings) -> Option<Kind> {
        let retried = Response { pushback: self.pushback.filter(|order| *order != Pushback::Stop), ..*self };
        match retried.taken(settings, Idempotency::Idempotent) {
            Taken::Retried(kind) => Some(kind),
            _ => None,
        }
    }

    /// Returns what the reply says about the service (D18).
    pub fn health(&self, settings: &Settings) -> Health {
        let is_client_error = (400..500).contains(&self.status);
        let failure = if is_client_error { Health::Neutral } else { Health::Bad };
        let other = if (100..500).contains(&self.status) { Health::Good } else { Health::Neutral };
        let has_meaning = (400..600).contains(&self.status);
        let meaning = settings.meaning(self.status, self.effective_hint().is_some());
        let meaning = if has_meaning { meaning } else { StatusMeaning::Surface };
        match (self.verdict, meaning) {
            _ if self.status == 401 => Health::Neutral,
            (Some(Verdict::TokenExpired | Verdict::Throttled), _) => Health::Neutral,
            (Some(Verdict::Transient), _) => failure,
            (Some(Verdict::Final) | None, StatusMeaning::Throttle) => Health::Neutral,
            (None, StatusMeaning::Retry | StatusMeaning::RetryIfSafe) => failure,
            (Some(Verdict::Final), _) | (None, StatusMeaning::Surface) => other,
        }
    }

    /// S1: a 401 and a *token expired* say nothing about a limit.
    fn may_close(&self) -> bool {
        self.status != 401 && self.verdict != Some(Verdict::TokenExpired)
    }

    /// Returns whether the reply is about the token (D3, D15).
    pub fn is_about_token(&self) -> bool {
        self.verdict == Some(Verdict::TokenExpired) || self.status == 401 && self.verdict != Some(Verdict::Final)
    }

    /// Returns whether the server says that a fresh token would not help (D12, D15).
    pub fn refresh_is_useless(&self, settings: &Settings) -> bool {
        let (is_revoked, is_insufficient) = self.challenges();
        is_revoked || is_insufficient && !settings.refresh_on_insufficient
    }

    /// Returns whether the server names a scope, claims or a revocation, which the age of a token does not change (K10).
    pub fn names_scope_or_revocation(&self) -> bool {
        let (is_revoked, is_insufficient) = self.challenges();
        is_revoked || is_insufficient
    }

    /// D12, D15: returns whether the token is revoked, and whether a scope or claims are missing.
    fn challenges(&self) -> (bool, bool) {
        use BearerErrorCode::{InsufficientClaims, InsufficientScope, TokenRevoked};
        if self.verdict == Some(Verdict::TokenExpired) {
            return (false, false);
        }
        let (challenge, code) = (self.reply.challenge(), self.reply.code());
        let is_insufficient =
            matches!(challenge, Some(InsufficientScope | InsufficientClaims)) || code == CodeClass::InsufficientScope;
        (challenge == Some(TokenRevoked) || code == CodeClass::TokenRevoked, is_insufficient)
    }
}

/// Returns what a transport error says about the service (D18).
pub fn health_of(error: TransportErrorKind) -> Health {
    use TransportErrorKind::{Broken, NotSent, Other, Permanent, TimedOut, Unprocessed};
    match error {
        Unprocessed | Permanent => Health::Neutral,
        NotSent | TimedOut | Broken | Other => Health::Bad,
    }
}
