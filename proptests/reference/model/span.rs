//! Instants that are exact, or jittered between two bounds.

/// Nanoseconds. Wide enough that no sum in the model overflows.
pub type Ns = i128;

/// One millisecond.
pub const MS: Ns = 1_000_000;

/// The last instant that the machine's `u64` can hold (T2: arithmetic saturates there).
pub const END: Ns = u64::MAX as Ns;

/// Returns `t + d`, saturating as the machine does (T2).
pub fn after(t: Ns, d: Ns) -> Ns {
    (t + d).min(END)
}

/// Rounds up to whole milliseconds, as a trace does with every instant (B4).
pub fn ceil_ms(t: Ns) -> u64 {
    u64::try_from((t + MS - 1) / MS).expect("at most END")
}

/// Converts milliseconds of a trace to nanoseconds, saturating.
pub const fn from_ms(ms: u64) -> Ns {
    let ns = ms as Ns * MS;
    if ns < END { ns } else { END }
}

/// An instant between `lo` and `hi`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub lo: Ns,
    pub hi: Ns,
}

impl Span {
    pub fn new(lo: Ns, hi: Ns) -> Span {
        Span { lo, hi }
    }

    pub fn exactly(t: Ns) -> Span {
        Span { lo: t, hi: t }
    }

    /// Returns the instants `t + d` for every `d` of this span.
    pub fn after(self, t: Ns) -> Span {
        Span::new(after(t, self.lo), after(t, self.hi))
    }

    /// Returns this span, cut at `t`.
    pub fn at_most(self, t: Ns) -> Span {
        Span::new(self.lo.min(t), self.hi.min(t))
    }

    /// Returns the part of this span that rounds up to `ms`, the instant in a trace.
    pub fn seen_as(self, ms: u64) -> Span {
        let t = Ns::from(ms) * MS;
        Span::new(self.lo.max(t - MS + 1), self.hi.min(t))
    }
}
