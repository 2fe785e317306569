//! The calls that the server saw, and the check that none came too soon (L1).

/// One call, as the server saw it. Instants are virtual milliseconds since the clock's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The instant at which its head was complete.
    pub at_ms: u64,
    /// The status that was sent, even if the body was cut off after it. `None` if the connection was
    /// cut before, or nothing was sent.
    pub status: Option<u16>,
    /// The earliest instant at which the answer allows the next call, to the millisecond. For a
    /// `Retry-After` date it is the instant of that date, a whole second of the calendar.
    pub not_before_ms: Option<u64>,
    /// Whether the call took effect, even if its caller got no response.
    pub applied: bool,
}

/// Checks by the server's own clock that no call came before the allowed instant (L1).
///
/// The arrivals must be those of one story and key, in order, one call at a time. Of two calls at
/// once, one may be on its way when the other gets the 429: it breaks no rule, but fails this check.
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
