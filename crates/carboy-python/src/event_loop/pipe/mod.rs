//! Pipes, fifos, terminals and whatever else is read or written as a file: asyncio's
//! transports of them, one for each direction.
//!
//! The behaviour is that of `asyncio.unix_events._UnixReadPipeTransport` and
//! `_UnixWritePipeTransport`.

mod file;
mod reading;
mod reading_interface;
mod writing;
mod writing_interface;

pub(crate) use reading::ReadPipeTransport;
pub(crate) use writing::WritePipeTransport;
