//! Asks a client that sends nothing more whether it still waits for its answer.
//!
//! It is sent an interim response, which one that waits passes over. One that has closed the
//! connection answers with a reset. That is not reported by the poller, which has reported the
//! end already, so the socket's error is looked at, soon and then less and less often.
//!
//! | state     | what it means                                                      |
//! |-----------|--------------------------------------------------------------------|
//! | asking    | some of the question has yet to be written                         |
//! | listening | a reset may come                                                   |
//! | answered  | none has come: the client waits                                    |

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::{Duration, Sleep, sleep};

use crate::socket::Socket;

/// The question. RFC 9110 section 15.2: a client passes it over, whether it expects it or not.
const QUESTION: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// When the first look for a reset is.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// Each look is this much later than the one before it.
const LATER: u32 = 2;

/// A reset that has not come by then will not come. The longest way to a client is shorter.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// One question to one client.
#[derive(Debug)]
pub(crate) struct HalfCloseQuestion {
    /// What has yet to be written.
    unsent: &'static [u8],
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_answered: bool,
}

impl HalfCloseQuestion {
    pub(crate) fn new() -> Self {
        Self {
            unsent: QUESTION,
            pause: FIRST_LOOK,
            timer: None,
            is_answered: false,
        }
    }

    /// Writes what has yet to be written. Nothing else may be written before that.
    pub(crate) fn poll_ask(
        &mut self,
        socket: &mut Socket,
        task: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut *socket).poll_write(task, self.unsent))?;
            self.unsent = self.unsent.get(written..).unwrap_or_default();
        }
        Poll::Ready(Ok(()))
    }

    /// Whether a part of it was written, and the rest must be.
    pub(crate) fn is_half_written(&self) -> bool {
        !self.unsent.is_empty() && self.unsent.len() < QUESTION.len()
    }

    /// Whether the client is known to have gone; wakes the task when it is to be asked again.
    pub(crate) fn has_gone(&mut self, socket: &mut Socket, task: &mut Context<'_>) -> bool {
        match self.poll_ask(socket, task) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return true,
            // A client that takes nothing is somebody else's to judge.
            Poll::Pending => return false,
        }
        while !self.is_answered {
            if socket.take_error() {
                return true;
            }
            let pause = self.pause;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(pause)));
            if timer.as_mut().poll(task).is_pending() {
                return false;
            }
            self.timer = None;
            self.pause *= LATER;
            self.is_answered = self.pause > LAST_LOOK;
        }
        false
    }
}
