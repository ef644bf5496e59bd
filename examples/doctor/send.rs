//! One transaction through the whole library, and what was answered to it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hotspan::transport::{
    Envelope, Http, Interrupter, Response, SendError, SendErrorKind, Transport,
};
use hotspan::{Config, Delivery, start_child, start_transaction, stats};

/// What is waited for beyond the time-out of the request.
const GRACE: Duration = Duration::from_secs(1);

/// What came of it.
pub(crate) struct Sent {
    /// `None`: it was not over in time.
    pub(crate) answer: Option<Result<Answer, Failure>>,
    pub(crate) is_delivered: bool,
    /// What the books say became of it.
    pub(crate) books: String,
}

/// What the server said.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// This machine's time, then.
    pub(crate) received: SystemTime,
}

/// No answer came.
#[derive(Clone)]
pub(crate) struct Failure {
    pub(crate) kind: SendErrorKind,
    pub(crate) is_timeout: bool,
    pub(crate) text: String,
}

/// The transport of the library, and a look at what it is answered.
struct Tap {
    http: Http,
    seen: Arc<Mutex<Option<Result<Answer, Failure>>>>,
}

impl Transport for Tap {
    fn send(&mut self, envelope: &Envelope<'_>) -> Result<Response, SendError> {
        let result = self.http.send(envelope);
        let seen = match &result {
            Ok(response) => Ok(Answer { response: response.clone(), received: now() }),
            Err(error) => Err(Failure {
                kind: error.kind(),
                is_timeout: error.is_timeout(),
                text: error.to_string(),
            }),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        result
    }

    fn interrupter(&self) -> Option<Interrupter> {
        self.http.interrupter()
    }
}

/// Sends one transaction with a child. An error is what keeps the library from being started.
pub(crate) fn one(config: Config, http: Http) -> Result<Sent, hotspan::ConfigError> {
    let seen = Arc::default();
    let patience = config.request_timeout + GRACE;
    let delivery = {
        let seen = Arc::clone(&seen);
        move || -> Box<dyn Transport> {
            Box::new(Tap { http: http.clone(), seen: Arc::clone(&seen) })
        }
    };
    let config = Config { transport: Delivery::Custom(Arc::new(delivery)), ..config };
    let hotspan = hotspan::init(config)?;
    {
        let _transaction = start_transaction("doctor", "doctor");
        let _child = start_child("doctor.step", "a child");
    }
    let report = hotspan.flush(patience);
    let _ = hotspan.close(GRACE);
    let books = stats();
    let lost: Vec<_> = books.dropped.keys().map(|reason| reason.as_str()).collect();
    let is_delivered = books.delivered == books.started && report.complete;
    let books = if is_delivered {
        let sent = books.delivered;
        format!("{} transaction with {} spans delivered", sent.transactions, sent.spans)
    } else if lost.is_empty() {
        "not settled in time".to_owned()
    } else {
        format!("lost: {}", lost.join(", "))
    };
    let answer = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(Sent { answer, is_delivered, books })
}

#[expect(clippy::disallowed_methods, reason = "an application has no clock seam")]
fn now() -> SystemTime {
    SystemTime::now()
}
