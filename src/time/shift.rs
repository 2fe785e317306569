//! From one clock to another (rule T7).

use super::Timestamp;

/// Moves instants from one clock to another.
#[derive(Clone, Copy)]
pub(crate) struct Shift {
    from: Timestamp,
    to: Timestamp,
}

/// The instant lies before time begins.
#[derive(Debug)]
pub(crate) struct TooEarly;

impl Shift {
    pub(crate) const fn new(from: Timestamp, to: Timestamp) -> Shift {
        Shift { from, to }
    }

    /// An instant that matters also when it has passed. [`Timestamp::MAX`] stays what it is.
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

    /// An instant that has passed. T2: one that lies ahead is of a clock that went back, and counts as the present.
    pub(crate) fn past(self, time: &mut Timestamp) -> Result<(), TooEarly> {
        *time = (*time).min(self.from);
        self.exact(time)
    }

    /// An instant that matters only while it lies ahead.
    pub(crate) fn ahead(self, time: &mut Timestamp) {
        if *time < self.from {
            *time = Timestamp::ZERO;
        } else {
            // What lies ahead is never too early.
            let _ = self.exact(time);
        }
    }
}
