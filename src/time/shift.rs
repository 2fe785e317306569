//! Moving instants from one clock to another (T7).

use super::Timestamp;

/// Moves instants from one clock to another: the same moment is `from` on the first and `to` on the second.
#[derive(Clone, Copy)]
pub(crate) struct Shift {
    from: Timestamp,
    to: Timestamp,
}

impl Shift {
    pub(crate) const fn new(from: Timestamp, to: Timestamp) -> Shift {
        Shift { from, to }
    }

    /// Moves an instant. One that has passed keeps its age as far as the second clock can express it, and else counts as
    /// the origin (T7). [`Timestamp::MAX`] stays the same.
    pub(crate) fn exact(self, time: &mut Timestamp) {
        let Shift { from, to } = self;
        *time = match *time {
            Timestamp::MAX => Timestamp::MAX,
            time if time >= from => to.after(time.since(from)),
            time => Timestamp::from_nanos(to.as_nanos().saturating_sub(from.since(time))),
        };
    }

    /// Returns whether the second clock can express the age of this instant.
    pub(crate) const fn keeps_age(self, time: Timestamp) -> bool {
        self.from.since(time) <= self.to.as_nanos()
    }

    /// Moves an instant that has passed. T2: if it lies ahead, the clock went back, and the instant counts as the
    /// present.
    pub(crate) fn past(self, time: &mut Timestamp) {
        *time = (*time).min(self.from);
        self.exact(time);
    }

    /// Returns the present on the first clock.
    pub(crate) const fn from(self) -> Timestamp {
        self.from
    }

    /// Moves an instant that matters only while it lies ahead.
    pub(crate) fn ahead(self, time: &mut Timestamp) {
        if *time < self.from {
            *time = Timestamp::ZERO;
        } else {
            self.exact(time);
        }
    }
}
