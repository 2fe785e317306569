//! What happened to a call, step by step: for people, and for a trace.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use retry_machine::{Action, ErrorBody, Event, RefreshOutcome, Timestamp, TransportErrorKind};

use crate::client::Response;

/// One step of the machine.
pub struct Step {
    pub at: Timestamp,
    pub event: Event,
    /// The whole response, where the event is a reply.
    pub response: Option<Response>,
    pub action: Action,
}

/// The steps of one call so far.
#[derive(Default)]
pub struct Log(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    heard: Option<Response>,
    steps: Vec<Step>,
}

impl Log {
    /// A response came. The step that it leads to follows.
    pub fn heard(&self, response: &Response) {
        self.with(|notes| notes.heard = Some(response.clone()));
    }

    /// The machine took a step.
    pub fn observe(&self, at: Timestamp, event: &Event, action: &Action) {
        self.with(|notes| {
            let response = notes.heard.take().filter(|_| matches!(event, Event::Reply { .. }));
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

/// A line of a timeline, and a second one for what the body of an error says.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { at, event, response, action } = self;
        let at_ms = at.as_millis_ceil();
        let (news, doing) = (news(event), doing(action));
        let attempt = action.attempt();
        write!(f, "{:>4}.{:03} s  #{attempt}  {news:<17}  {doing:<13}  {action}", at_ms / 1000, at_ms % 1000)?;
        let Some(response) = response.as_ref().filter(|response| !response.status().is_success()) else {
            return Ok(());
        };
        write!(f, "\n{:>50}", "")?;
        match ErrorBody::parse(response.body()) {
            Ok(body) => write!(f, "{}: {}", body.code().unwrap_or("(no code)"), body.message().unwrap_or_default()),
            Err(error) => write!(f, "(no error can be read: {error})"),
        }
    }
}

/// What the machine was told.
fn news(event: &Event) -> String {
    match event {
        Event::Reply { reply, .. } => return reply.status().to_string(),
        Event::Start => "start",
        Event::Tick => "tick",
        Event::TransportError { kind: TransportErrorKind::NotSent, .. } => "not sent",
        Event::TransportError { kind: TransportErrorKind::TimedOut, .. } => "timed out",
        Event::TransportError { kind: TransportErrorKind::Broken, .. } => "broken off",
        Event::TransportError { kind: TransportErrorKind::Other, .. } => "failed",
        Event::Refreshed(RefreshOutcome::Refreshed { .. }) => "token refreshed",
        Event::Refreshed(RefreshOutcome::Rejected) => "token rejected",
        Event::Refreshed(RefreshOutcome::Unavailable { .. }) => "token unavailable",
        Event::Cancel => "cancel",
    }
    .to_owned()
}

/// What it asks for.
fn doing(action: &Action) -> &'static str {
    match action {
        Action::Send { .. } => "send",
        Action::Wait { .. } => "wait",
        Action::RefreshToken { .. } => "refresh token",
        Action::AwaitRefresh { .. } => "await token",
        Action::InFlight { .. } => "in flight",
        Action::Done { .. } => "done",
        Action::Fail(_) => "surface",
    }
}
