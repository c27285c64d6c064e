//! The Rust half of carboy's benchmarks.
//!
//! Three programs share this library: `load_generator` measures a server,
//! `static_server` is the ceiling that every server is measured against, and
//! `upstream` is the slow service that the fan-out views call.
//!
//! # Layout
//!
//! * [`arguments`]: the load generator's command line.
//! * [`response`]: reading one HTTP/1.1 response from a buffer.
//! * [`connection`]: one keep-alive connection and the request it repeats.
//! * [`pool`]: all connections of a run, and the poll that watches them.
//! * [`closed_loop`]: every connection sends again as soon as it has its answer.
//! * [`fixed_rate`]: requests are due at fixed times, whatever the server does.
//! * [`measurement`]: what a timed window counts, and its JSON form.
//! * [`serving`]: the hyper server that `static_server` and `upstream` share.

pub mod arguments;
pub mod closed_loop;
pub mod connection;
pub mod fixed_rate;
pub mod measurement;
pub mod pool;
pub mod response;
pub mod serving;
