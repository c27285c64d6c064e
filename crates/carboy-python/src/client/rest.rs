//! The rest of a response's content, for code that blocks: what did not come with the head.

use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::{Bytes, BytesMut};
use carboy_client::{Error, ResponseBody};
use pyo3::prelude::*;

use super::blocking_thread;
use super::error::exception;
use super::reading_orders::{End, Order, OrderSender, closed_meanwhile, orders};
use super::transport::read_ready;

type Piece = Result<Option<Bytes>, Error>;

/// Pieces in their order, and why nothing follows them.
type Everything = (Vec<Bytes>, Option<Error>);

/// What is to be read, and who waits for it.
enum Wanted {
    Next(SyncSender<Piece>),
    All(SyncSender<Everything>),
}

/// Content on the thread for blocking calls, to be read from any thread.
pub(super) struct BlockingRest {
    orders: OrderSender<Wanted>,
}

impl BlockingRest {
    /// The handle, and the task that reads, which belongs to this thread.
    pub(super) fn new(mut body: ResponseBody) -> (Self, impl Future<Output = ()> + 'static) {
        let (sender, mut orders) = orders();
        let reader = async move {
            let mut failure = None;
            let end = loop {
                let end = match orders.next().await {
                    Err(End::Closed) => return body.discard().await,
                    Err(End::Dropped) => End::Dropped,
                    Ok(Wanted::Next(reply)) => {
                        let next = async {
                            match failure.take() {
                                Some(failure) => Err(failure),
                                None => next_piece(&mut body, &mut failure).await,
                            }
                        };
                        tokio::select! {
                            biased;
                            piece = next => {
                                reply.send(piece).ok();
                                continue;
                            }
                            end = orders.end() => {
                                reply.send(Err(closed_meanwhile())).ok();
                                end
                            }
                        }
                    }
                    Ok(Wanted::All(reply)) => {
                        let all = async {
                            match failure.take() {
                                Some(failure) => (Vec::new(), Some(failure)),
                                None => all_pieces(&mut body).await,
                            }
                        };
                        tokio::select! {
                            biased;
                            everything = all => {
                                reply.send(everything).ok();
                                continue;
                            }
                            end = orders.end() => {
                                reply.send((Vec::new(), Some(closed_meanwhile()))).ok();
                                end
                            }
                        }
                    }
                };
                break end;
            };
            // What nobody has closed is dropped, and that closes the connection.
            if matches!(end, End::Closed) {
                body.abandon().await;
            }
        };
        (Self { orders: sender }, reader)
    }

    /// Waits for the next piece; `None` at the end.
    pub(super) fn next(&self, py: Python<'_>) -> PyResult<Option<Bytes>> {
        let (reply, piece) = sync_channel(1);
        if self.orders.send(Order::Read(Wanted::Next(reply))).is_err() {
            return Ok(None);
        }
        blocking_thread::wait(py, piece)?.map_err(|error| exception(py, &error, &py.None()))
    }

    /// Waits for everything, and says why nothing follows it.
    pub(super) fn all(&self, py: Python<'_>) -> PyResult<(Vec<Bytes>, Option<PyErr>)> {
        let (reply, everything) = sync_channel(1);
        if self.orders.send(Order::Read(Wanted::All(reply))).is_err() {
            return Ok((Vec::new(), None));
        }
        let (pieces, failure) = blocking_thread::wait(py, everything)?;
        Ok((
            pieces,
            failure.map(|error| exception(py, &error, &py.None())),
        ))
    }

    /// Gives the connection back, or closes it if there is much to read still.
    pub(super) fn close(&self) {
        self.orders.send(Order::Close).ok();
    }
}

/// Waits for content, and takes along what has come with it.
async fn next_piece(body: &mut ResponseBody, failure: &mut Option<Error>) -> Piece {
    let Some(first) = body.chunk().await? else {
        return Ok(None);
    };
    let (more, error) = read_ready(body).await;
    *failure = error;
    if more.is_empty() {
        return Ok(Some(first));
    }
    let mut piece = BytesMut::from(&first[..]);
    for next in more {
        piece.extend_from_slice(&next);
    }
    Ok(Some(piece.freeze()))
}

/// Reads to the end.
pub(super) async fn all_pieces(body: &mut ResponseBody) -> Everything {
    let mut pieces = Vec::new();
    loop {
        match body.chunk().await {
            Ok(Some(piece)) => pieces.push(piece),
            Ok(None) => return (pieces, None),
            Err(error) => return (pieces, Some(error)),
        }
    }
}
