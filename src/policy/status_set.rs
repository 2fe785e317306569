//! A set of HTTP statuses that can be retried.

/// A set of statuses from 400 to 599 without 401, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct StatusSet([u32; 7]);

impl StatusSet {
    pub(super) const EMPTY: StatusSet = StatusSet([0; 7]);

    /// Returns whether the set can have this status: a 401 is answered with a new token, not with a retry (D11).
    pub(super) const fn accepts(status: u16) -> bool {
        matches!(status, 400..=599) && status != 401
    }

    /// Returns the set with `status`, which must be accepted.
    #[allow(clippy::indexing_slicing, reason = "an accepted status is at most 199 beyond 400, and 199 / 32 is 6")]
    pub(super) const fn with(mut self, status: u16) -> StatusSet {
        let bit = status - 400;
        self.0[(bit / 32) as usize] |= 1 << (bit % 32);
        self
    }

    #[allow(clippy::indexing_slicing, reason = "an accepted status is at most 199 beyond 400, and 199 / 32 is 6")]
    pub(super) const fn contains(self, status: u16) -> bool {
        if !StatusSet::accepts(status) {
            return false;
        }
        let bit = status - 400;
        self.0[(bit / 32) as usize] & (1 << (bit % 32)) != 0
    }
}
