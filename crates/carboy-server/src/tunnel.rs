//! Pumps the bytes of a taken-over connection both ways.
//!
//! Each direction holds at most one buffer, so a slow side slows the other down.
//! An end of one direction is passed on as such; the other may go on.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::connection_context::ConnectionContext;

/// How long a client may take to close after the application has closed.
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// Runs until both directions have ended. The context keeps the connection counted.
pub(crate) async fn run(
    upgrade: OnUpgrade,
    mut application: UnixStream,
    first: Bytes,
    _context: Rc<ConnectionContext>,
) {
    // The upgrade fails when the connection broke before the 101 was sent.
    let Ok(upgraded) = upgrade.await else { return };
    let (mut client_reader, mut client_writer) = tokio::io::split(TokioIo::new(upgraded));
    let (mut application_reader, mut application_writer) = application.split();

    let mut to_client = pin!(async {
        client_writer.write_all(&first).await?;
        pass_on(&mut application_reader, &mut client_writer).await?;
        io::Result::Ok(is_hung_up(application_reader.as_ref()))
    });
    let mut to_application = pin!(pass_on(&mut client_reader, &mut application_writer));

    let hung_up = tokio::select! {
        outcome = &mut to_client => outcome,
        outcome = &mut to_application => {
            if outcome.is_ok() {
                drop(to_client.await);
            }
            return;
        }
    };
    match hung_up {
        // Nobody reads what the client sends now. Waiting a little for its end
        // keeps the last bytes from being lost to a reset.
        Ok(true) => drop(tokio::time::timeout(CLOSING_TIME, to_application).await),
        Ok(false) => drop(to_application.await),
        Err(_) => {}
    }
}

/// Copies until the reader ends, then says so to the writer.
async fn pass_on(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    tokio::io::copy(reader, writer).await?;
    writer.shutdown().await
}

/// Whether the other end is closed for both directions, not for one.
fn is_hung_up(stream: &UnixStream) -> bool {
    let mut descriptors = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut descriptors, Some(&now)) {
        Ok(_) => descriptors.iter().any(|descriptor| {
            descriptor
                .revents()
                .intersects(PollFlags::HUP | PollFlags::ERR)
        }),
        Err(_) => true,
    }
}
