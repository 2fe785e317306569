//! The result of a story, compared with the expected one.

use std::error::Error;
use std::{fmt, iter};

use retry_machine::{Action, ErrorBody};

use crate::client::{self, error_body};
use crate::server::{Arrival, never_sooner};
use crate::stories::{Ending, Outcome, Story};
use crate::timeline::{Entry, Log};

/// The result that the caller got, and the steps to it.
pub struct Ended {
    outcome: Outcome,
    /// The code in the body of the last error.
    code: Option<String>,
    /// The client's own error, in its own words.
    error: Option<String>,
    pub entries: Vec<Entry>,
}

impl Ended {
    pub fn new<E: Error + 'static>(result: client::Result<E>, log: Log) -> Ended {
        let entries = log.into_entries();
        match result {
            Ok(answer) => {
                let outcome = Outcome::Done(answer.response.status().as_u16());
                Ended { outcome, code: None, error: None, entries }
            }
            Err(failed) => {
                let failure = failed.failure;
                let body = failed.response.as_ref().and_then(error_body);
                Ended {
                    outcome: Outcome::Fails(failure.kind(), failure.status()),
                    code: body.as_ref().and_then(ErrorBody::code).map(String::from),
                    error: failed.error.as_ref().map(|error| chain(error)),
                    entries,
                }
            }
        }
    }
}

/// Joins an error with its sources: the first one alone seldom says enough.
fn chain(error: &(dyn Error + 'static)) -> String {
    iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The verdict on one story with one client.
pub struct Verdict {
    pub ended: Ended,
    pub got: Ending,
    pub complaints: Vec<String>,
}

impl Verdict {
    /// Judges a call. `arrivals` and `refreshes` are the server's own records of it.
    pub fn new(story: &Story, ended: Ended, arrivals: &[Arrival], refreshes: usize) -> Verdict {
        let attempts = ended.entries.iter().filter(|entry| matches!(entry.step.action, Action::Send { .. })).count();
        let effects = arrivals.iter().filter(|arrival| arrival.applied).count();
        let got = Ending { outcome: ended.outcome, counts: [attempts, refreshes, effects] };
        let mut complaints = Vec::new();
        if got != story.ending {
            complaints.push("it did not end as expected".to_owned());
        }
        let code = ended.code.as_deref().unwrap_or_default();
        if code != story.code {
            complaints.push(format!("the error's code is {code:?}, not {:?}", story.code));
        }
        // This finds an HTTP client that repeats requests on its own.
        let seen = arrivals.len();
        if seen != story.arrivals() {
            complaints.push(format!("the server saw {seen} of {attempts} attempts"));
        }
        // L1, by the server's clock.
        complaints.extend(never_sooner(arrivals).err());
        Verdict { ended, got, complaints }
    }

    pub fn is_good(&self) -> bool {
        self.complaints.is_empty()
    }
}

/// The timeline.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.ended.entries {
            writeln!(f, "{entry}")?;
        }
        if let Some(error) = &self.ended.error {
            writeln!(f, "the client's own error: {error}")?;
        }
        for complaint in &self.complaints {
            writeln!(f, "WRONG: {complaint}")?;
        }
        Ok(())
    }
}

/// A cell of the table.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ending { outcome, counts: [attempts, refreshes, effects] } = self;
        write!(f, "{:<21} {attempts:>2} {refreshes} {effects}", outcome.to_string())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done(status) => write!(f, "{status}"),
            Outcome::Fails(kind, Some(status)) => write!(f, "{kind:?} {status}"),
            Outcome::Fails(kind, None) => write!(f, "{kind:?}"),
        }
    }
}
