//! Replies on the wire, whole or cut off.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// The end of a call.
pub(super) enum Outcome {
    /// A reply.
    Reply(Reply),
    /// A cut of the connection before the first byte of a reply.
    Cut,
    /// None: the server does not answer.
    Hang,
}

impl Outcome {
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Reply(reply) => Some(reply.status().as_u16()),
            Self::Cut | Self::Hang => None,
        }
    }
}

pub(super) type Reply = Response<Either<Full<Bytes>, Half>>;

/// Builds a reply with a body of the given media type.
pub(super) fn text(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Either::Left(Full::new(body.into())));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

pub(super) fn json(status: StatusCode, body: &Value) -> Reply {
    text(status, "application/json", body.to_string())
}

/// Builds an error as in the Flextell guide (H8), with the challenge that RFC 6750 §3 requires.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Reply {
    let mut reply = json(status, &json!({ "error": code, "message": message }));
    let challenge = match status {
        StatusCode::UNAUTHORIZED => r#"Bearer realm="flextell", error="invalid_token""#,
        StatusCode::FORBIDDEN => r#"Bearer realm="flextell", error="insufficient_scope""#,
        _ => return reply,
    };
    let challenge = HeaderValue::from_static(challenge);
    reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    reply
}

/// Writes a Unix time in seconds as an HTTP date (RFC 9110 §5.6.7).
pub(super) fn http_date(unix_s: u64) -> HeaderValue {
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_s));
    HeaderValue::try_from(date).expect("letters and digits")
}

/// Builds a reply that announces all of `body` and ends after half of it.
pub(super) fn half(status: StatusCode, body: &Value) -> Reply {
    let mut body = body.to_string().into_bytes();
    let mut reply = text(status, "application/json", "");
    reply.headers_mut().insert(CONTENT_LENGTH, body.len().into());
    body.truncate(body.len() / 2);
    *reply.body_mut() = Either::Right(Half::Data(body.into()));
    reply
}

/// A body that fails after its data, which makes hyper cut the connection.
pub(super) enum Half {
    Data(Bytes),
    Pause,
    End,
}

impl Body for Half {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match std::mem::replace(&mut *self, Self::End) {
            Self::Data(half) => {
                *self = Self::Pause;
                Poll::Ready(Some(Ok(Frame::data(half))))
            }
            // hyper flushes its buffer only when a body makes it wait.
            Self::Pause => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::End => Poll::Ready(Some(Err(Cut))),
        }
    }
}

/// The story ends the connection here.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut off by the story")
    }
}

impl std::error::Error for Cut {}
