//! Moving instants from one clock to another (T7).

use super::Timestamp;

/// Moves instants from one clock to another: the same moment is `from` on the first and `to` on the second.
#[derive(Clone, Copy)]
pub(crate) struct Shift {
    from: Timestamp,
    to: Timestamp,
}

/// The instant lies before the origin of the second clock.
#[derive(Debug)]
pub(crate) struct TooEarly;

impl Shift {
    pub(crate) const fn new(from: Timestamp, to: Timestamp) -> Shift {
        Shift { from, to }
    }

    /// Moves an instant that matters even after it has passed. [`Timestamp::MAX`] stays the same.
    pub(crate) fn exact(self, time: &mut Timestamp) -> Result<(), TooEarly> {
        *time = match (*time, self) {
            (Timestamp::MAX, _) => Timestamp::MAX,
            (time, Shift { from, to }) if time >= from => to.after(time.since(from)),
            (time, Shift { from, to }) => {
                let nanos = to.as_nanos().checked_sub(from.since(time)).ok_or(TooEarly)?;
                Timestamp::from_nanos(nanos)
            }
        };
        Ok(())
    }

    /// Moves an instant that has passed. T2: if it lies ahead, the clock went back, and the instant counts as the
    /// present.
    pub(crate) fn past(self, time: &mut Timestamp) -> Result<(), TooEarly> {
        *time = (*time).min(self.from);
        self.exact(time)
    }

    /// Returns the present on the first clock.
    pub(crate) const fn from(self) -> Timestamp {
        self.from
    }

    /// Moves an instant whose age matters. It keeps its age as far as the second clock can say it, and else counts as its
    /// origin (T7).
    pub(crate) fn aged(self, time: &mut Timestamp) {
        if self.exact(time).is_err() {
            *time = Timestamp::ZERO;
        }
    }

    /// Moves an instant that matters only while it lies ahead.
    pub(crate) fn ahead(self, time: &mut Timestamp) {
        if *time < self.from {
            *time = Timestamp::ZERO;
        } else {
            // An instant ahead of `from` is not before `to`.
            let _ = self.exact(time);
        }
    }
}
