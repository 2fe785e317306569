//! The meaning of a status as data, one lookup each (D11).

/// The meaning of a status for a request (rule D11).
///
/// Each status has one meaning for a reply without a hint and one for a reply with a hint: see
/// [`PolicyBuilder::on`](crate::PolicyBuilder::on) and [`PolicyBuilder::on_hinted`](crate::PolicyBuilder::on_hinted).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rule D11 names four")]
pub enum StatusMeaning {
    /// The request fails: a repetition gets the same answer.
    Surface,
    /// Transient: the request backs off, then is sent again.
    Retry,
    /// Like [`Retry`](StatusMeaning::Retry), but a request that is not safe to repeat fails as
    /// [ambiguous](crate::FailureKind::Ambiguous): the server may have acted on it.
    RetryIfSafe,
    /// The server limits its callers, as with 429: a hint decides the wait and closes the gate, and the back-off of
    /// throttles applies where the policy has one (rule B1).
    Throttle,
}

/// The meanings of the statuses 400–599, plain and hinted: four bits each, two statuses in a byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct StatusTable([u8; 100]);

impl StatusTable {
    /// Every status is surfaced.
    pub(crate) const SURFACE: StatusTable = StatusTable([0; 100]);

    /// Returns whether a status can have a meaning: 400–599 but 401, which is about the token.
    pub(crate) const fn accepts(status: u16) -> bool {
        matches!(status, 400..=599) && status != 401
    }

    /// Returns the status's meaning. One that cannot have a meaning is surfaced.
    pub(crate) fn meaning(&self, status: u16, hinted: bool) -> StatusMeaning {
        let Some((byte, shift)) = StatusTable::place(status) else { return StatusMeaning::Surface };
        let bits = self.0.get(byte).copied().unwrap_or(0) >> shift >> (2 * u8::from(hinted));
        match bits & 3 {
            0 => StatusMeaning::Surface,
            1 => StatusMeaning::Retry,
            2 => StatusMeaning::RetryIfSafe,
            _ => StatusMeaning::Throttle,
        }
    }

    /// Gives the statuses from `first` to `last` a meaning, those that can have one. `None` leaves the plain or the
    /// hinted meaning as it is.
    pub(crate) const fn with(
        mut self,
        first: u16,
        last: u16,
        plain: Option<StatusMeaning>,
        hinted: Option<StatusMeaning>,
    ) -> StatusTable {
        let mut status = first;
        while status <= last && status < 600 {
            if let Some((byte, shift)) = StatusTable::place(status) {
                if let Some(meaning) = plain {
                    self.set(byte, shift, meaning);
                }
                if let Some(meaning) = hinted {
                    self.set(byte, shift + 2, meaning);
                }
            }
            status += 1;
        }
        self
    }

    /// Retries these statuses, 429 as a throttle.
    pub(crate) const fn retrying(mut self, statuses: &[u16]) -> StatusTable {
        let mut rest = statuses;
        while let [status, others @ ..] = rest {
            let meaning = if *status == 429 { StatusMeaning::Throttle } else { StatusMeaning::Retry };
            self = self.with(*status, *status, Some(meaning), Some(meaning));
            rest = others;
        }
        self
    }

    #[allow(clippy::indexing_slicing, reason = "`place` gives bytes below 100")]
    const fn set(&mut self, byte: usize, shift: u8, meaning: StatusMeaning) {
        let bits = match meaning {
            StatusMeaning::Surface => 0,
            StatusMeaning::Retry => 1,
            StatusMeaning::RetryIfSafe => 2,
            StatusMeaning::Throttle => 3,
        };
        self.0[byte] = self.0[byte] & !(3 << shift) | bits << shift;
    }

    const fn place(status: u16) -> Option<(usize, u8)> {
        if !StatusTable::accepts(status) {
            return None;
        }
        let n = status - 400;
        Some(((n / 2) as usize, 4 * (n % 2) as u8))
    }
}
