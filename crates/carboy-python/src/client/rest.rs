//! The rest of a response's content, for code that blocks: what did not come with the head.

use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use carboy_client::{Content, ContentCollector, Error, ResponseBody};
use pyo3::prelude::*;

use super::blocking_thread;
use super::error::exception;
use super::reading_orders::{End, Order, OrderSender, closed_meanwhile, orders};
use super::transport::read_ready;

type Piece = Result<Option<Bytes>, Error>;

/// All of the content, and why nothing follows it.
type Everything = (Content, Option<Error>);

/// What is to be read, and who waits for it.
enum Wanted {
    Next(SyncSender<Piece>),
    /// Behind what is there already.
    All(Vec<Bytes>, SyncSender<Everything>),
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
                    Ok(Wanted::All(ready, reply)) => {
                        let all = async {
                            let (whole, error) = everything(ready, &mut body).await;
                            (whole, failure.take().or(error))
                        };
                        tokio::select! {
                            biased;
                            everything = all => {
                                reply.send(everything).ok();
                                continue;
                            }
                            end = orders.end() => {
                                reply.send((Content::default(), Some(closed_meanwhile()))).ok();
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

    /// Waits for everything, puts it behind what is there already, and says why nothing follows.
    pub(super) fn all(
        &self,
        py: Python<'_>,
        ready: Vec<Bytes>,
    ) -> PyResult<(Content, Option<PyErr>)> {
        let (reply, everything) = sync_channel(1);
        let order = Order::Read(Wanted::All(ready, reply));
        if let Err(Order::Read(Wanted::All(ready, _))) = self.orders.send(order) {
            let mut content = ContentCollector::default();
            content.extend(ready);
            return Ok((content.finish(), None));
        }
        let (content, failure) = blocking_thread::wait(py, everything)?;
        Ok((
            content,
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
    let mut piece = ContentCollector::default();
    piece.push(first);
    piece.extend(more);
    Ok(Some(piece.finish().into_bytes()))
}

/// Reads to the end, and puts everything together behind what is there already.
pub(super) async fn everything(ready: Vec<Bytes>, body: &mut ResponseBody) -> Everything {
    let mut content = ContentCollector::default();
    content.extend(ready);
    let failure = loop {
        match body.chunk().await {
            Ok(Some(piece)) => content.push(piece),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    (content.finish(), failure)
}
