//! The steps of a call, for people and for a trace.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use retry_machine::drive::{Step, StepTrigger};
use retry_machine::{Action, ErrorBody, Event, RefreshOutcome, TransportErrorKind};

use crate::client::Response;

/// One step of a call.
pub struct Entry {
    pub step: Step,
    /// The whole response, if a reply led to the step.
    pub response: Option<Response>,
}

/// The steps of one call so far.
#[derive(Default)]
pub struct Log(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    response: Option<Response>,
    entries: Vec<Entry>,
}

impl Log {
    /// Keeps a response for the step that follows.
    pub fn keep(&self, response: &Response) {
        self.with(|log| log.response = Some(response.clone()));
    }

    /// Adds a step.
    pub fn observe(&self, step: &Step) {
        self.with(|log| {
            let is_reply = matches!(step.trigger, StepTrigger::Event(Event::Reply { .. }));
            let response = log.response.take().filter(|_| is_reply);
            log.entries.push(Entry { step: *step, response });
        });
    }

    pub fn into_entries(self) -> Vec<Entry> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).entries
    }

    fn with(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A line of the timeline, and a second one for the error in the body.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { step, response } = self;
        let (at_ms, action) = (step.at.as_millis_ceil(), step.action);
        let (event, name) = (trigger_name(&step.trigger), action_name(&action));
        let attempt = action.attempt();
        write!(f, "{:>4}.{:03} s  #{attempt}  {event:<17}  {name:<13}  {action}", at_ms / 1000, at_ms % 1000)?;
        let Some(response) = response.as_ref().filter(|response| !response.status().is_success()) else {
            return Ok(());
        };
        write!(f, "\n{:>50}", "")?;
        match ErrorBody::parse(response.body()) {
            Ok(body) => write!(f, "{}: {}", body.code().unwrap_or("(no code)"), body.message().unwrap_or_default()),
            Err(error) => write!(f, "(not an error of the guide: {error})"),
        }
    }
}

/// Names what led to a step.
fn trigger_name(trigger: &StepTrigger) -> String {
    let event = match trigger {
        StepTrigger::Event(event) => event,
        StepTrigger::Refreshed { outcome, .. } => return outcome_name(outcome).to_owned(),
    };
    match event {
        Event::Reply { reply, .. } => return reply.status().to_string(),
        Event::Start => "start",
        Event::Tick => "tick",
        Event::TransportError { kind: TransportErrorKind::NotSent, .. } => "not sent",
        Event::TransportError { kind: TransportErrorKind::TimedOut, .. } => "timed out",
        Event::TransportError { kind: TransportErrorKind::Broken, .. } => "cut off",
        Event::TransportError { kind: TransportErrorKind::Unprocessed, .. } => "unprocessed",
        Event::TransportError { kind: TransportErrorKind::Permanent, .. } => "permanent",
        Event::TransportError { kind: TransportErrorKind::Other, .. } => "failed",
        Event::Cancel => "cancel",
    }
    .to_owned()
}

/// Names the outcome of a refresh.
fn outcome_name(outcome: &RefreshOutcome) -> &'static str {
    match outcome {
        RefreshOutcome::Refreshed { .. } => "token refreshed",
        RefreshOutcome::Rejected => "token rejected",
        RefreshOutcome::Unavailable { .. } => "token unavailable",
        RefreshOutcome::Abandoned => "token abandoned",
    }
}

/// Names an action.
fn action_name(action: &Action) -> &'static str {
    match action {
        Action::Send { .. } => "send",
        Action::Wait { .. } => "wait",
        Action::RefreshToken { .. } => "refresh token",
        Action::AwaitRefresh { .. } => "await refresh",
        Action::InFlight { .. } => "in flight",
        Action::Done { .. } => "done",
        Action::Fail(_) => "fail",
    }
}
