//! The meaning of a reply (D1 to D12, D15), its hint (H6, H10, H11, D16) and its health (D18).

use super::super::reading::{Facts, Pushback};
use super::Model;
use super::action::Reason;
use super::event::{Response, Verdict};
use super::settings::Meaning;
use super::span::{Ns, from_ms};
use super::upstream::Health;

/// The meaning of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// D1.
    Answer,
    Surface,
    Retry,
    RetryIfSafe,
    Throttle,
    /// D3: a 401, or one by verdict.
    Unauthorized,
}

#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub class: Class,
    /// The effective hint, from the receipt.
    pub hint: Option<(Ns, Reason)>,
    /// D15: the reply has a verdict.
    pub has_verdict: bool,
    pub health: Health,
    /// S2: whether a failure that is charged is a throttle. `None`: it is not charged.
    pub charge: Option<bool>,
}

impl Taken {
    /// D14, D15: returns whether the reply would be retried, were it not for a limit.
    pub fn may_be_retried(&self, idempotent: bool) -> bool {
        may_be_retried(self.class, idempotent)
    }
}

fn may_be_retried(class: Class, idempotent: bool) -> bool {
    match class {
        Class::Retry | Class::Throttle => true,
        Class::RetryIfSafe => idempotent,
        Class::Answer | Class::Surface | Class::Unauthorized => false,
    }
}

impl Model {
    pub(super) fn take(&mut self, response: &Response, facts: &Facts, idempotent: bool) -> Taken {
        let status = response.status;
        // D16: it replaces the hints of the headers.
        let told = response.told.map(|wait| (wait, Reason::Told));
        let read = facts.hint.map(|(ms, source)| (from_ms(ms), Reason::Hint(source)));
        let pushback = facts.pushback.filter(|_| told.is_none());
        let hint = told.or(read);
        let is_hinted = hint.is_some() || matches!(pushback, Some(Pushback::After(_))); // D11

        let by_status = match status {
            101 | 200..=399 => Class::Answer,
            401 => Class::Unauthorized,
            _ => match self.settings.meaning(status, is_hinted) {
                Meaning::Surface => Class::Surface,
                Meaning::Retry => Class::Retry,
                Meaning::RetryIfSafe => Class::RetryIfSafe,
                Meaning::Throttle => Class::Throttle,
            },
        };
        // D15: the driver's verdict wins over a field's.
        let field = facts.should_retry.map(|retry| if retry { Verdict::Transient } else { Verdict::Final });
        let verdict = response.verdict.or(field);
        let class = match verdict {
            Some(Verdict::Final) => Class::Surface,
            Some(Verdict::TokenExpired) => Class::Unauthorized,
            Some(Verdict::Transient) if status != 401 => Class::Retry,
            Some(Verdict::Throttled) if status != 401 => Class::Throttle,
            _ => by_status,
        };
        // D18
        let is_throttle = by_status == Class::Throttle || verdict == Some(Verdict::Throttled);
        let health = match class {
            Class::Unauthorized => Health::Neutral,
            _ if status == 401 => Health::Neutral,
            Class::Throttle => Health::Neutral,
            Class::Retry | Class::RetryIfSafe if (400..500).contains(&status) => Health::Neutral,
            Class::Retry | Class::RetryIfSafe => Health::Failure,
            Class::Surface if is_throttle => Health::Neutral,
            Class::Answer | Class::Surface => match status {
                100..500 => Health::Success,
                _ => Health::Neutral,
            },
        };
        let charge = match class {
            Class::Retry | Class::RetryIfSafe => Some(false),
            Class::Throttle => Some(true),
            Class::Answer | Class::Surface | Class::Unauthorized => None,
        };
        // H11: a pushback counts only on a reply that would be retried. The reply that it stops was taken as a retry (D18).
        let pushback = pushback.filter(|_| may_be_retried(class, idempotent));
        let (class, hint) = match pushback {
            None => (class, hint),
            Some(Pushback::After(ms)) => (class, Some((from_ms(ms), Reason::Pushback))),
            Some(Pushback::Stop) => (Class::Surface, hint),
        };
        // D15: on a 401 these two say nothing.
        let says_nothing = status == 401 && matches!(verdict, Some(Verdict::Transient | Verdict::Throttled));
        Taken { class, hint, has_verdict: verdict.is_some() && !says_nothing, health, charge }
    }
}
