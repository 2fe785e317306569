//! What the server saw of its callers, and whether they kept the first promise (L1).

/// One call, as the server saw it. Instants are virtual milliseconds since the clock's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When its head had been read.
    pub at_ms: u64,
    /// The status that was sent, also where the body was cut off after it. `None` where the
    /// connection was cut before, or nothing was ever sent.
    pub status: Option<u16>,
    /// The instant before which the answer asked not to be called again, to the millisecond. For a
    /// `Retry-After` date that date's own instant, a whole second of the calendar.
    pub not_before_ms: Option<u64>,
    /// Whether the call took effect, whatever its caller heard of it.
    pub applied: bool,
}

/// Checks by the server's own clock that nobody came back before the time it was given (L1).
///
/// The arrivals are those of one story and key, in order, with one call at a time: a call that was
/// already on its way when another was told to wait did nothing wrong, but would be blamed here.
///
/// # Errors
///
/// A sentence about the first call that came too soon.
pub fn never_sooner(arrivals: &[Arrival]) -> Result<(), String> {
    let mut not_before_ms = 0;
    for (call, arrival) in (1..).zip(arrivals) {
        if arrival.at_ms < not_before_ms {
            let (at_ms, early_ms) = (arrival.at_ms, not_before_ms - arrival.at_ms);
            return Err(format!("call {call} came at {at_ms} ms, {early_ms} ms sooner than allowed"));
        }
        not_before_ms = not_before_ms.max(arrival.not_before_ms.unwrap_or(0));
    }
    Ok(())
}
