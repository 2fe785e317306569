//! The steps of a call, for people and for a trace.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use retry_machine::{Action, ErrorBody, Event, RefreshOutcome, Timestamp, TransportErrorKind};

use crate::client::Response;

/// One step of the machine.
pub struct Step {
    pub at: Timestamp,
    pub event: Event,
    /// The whole response, if the event is a reply.
    pub response: Option<Response>,
    pub action: Action,
}

/// The steps of one call so far.
#[derive(Default)]
pub struct Log(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    response: Option<Response>,
    steps: Vec<Step>,
}

impl Log {
    /// Keeps a response for the step that follows.
    pub fn keep(&self, response: &Response) {
        self.with(|notes| notes.response = Some(response.clone()));
    }

    /// Adds a step of the machine.
    pub fn observe(&self, at: Timestamp, event: &Event, action: &Action) {
        self.with(|notes| {
            let response = notes.response.take().filter(|_| matches!(event, Event::Reply { .. }));
            notes.steps.push(Step { at, event: *event, response, action: *action });
        });
    }

    pub fn into_steps(self) -> Vec<Step> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).steps
    }

    fn with(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A line of the timeline, and a second one for the error in the body.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { at, event, response, action } = self;
        let at_ms = at.as_millis_ceil();
        let (event, name) = (event_name(event), action_name(action));
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

/// Names an event.
fn event_name(event: &Event) -> String {
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
        Event::Refreshed(RefreshOutcome::Refreshed { .. }) => "token refreshed",
        Event::Refreshed(RefreshOutcome::Rejected) => "token rejected",
        Event::Refreshed(RefreshOutcome::Unavailable { .. }) => "token unavailable",
        Event::Cancel => "cancel",
    }
    .to_owned()
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
