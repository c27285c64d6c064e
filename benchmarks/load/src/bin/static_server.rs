//! The ceiling: the same answer to every request, from hyper, without Python.

use std::future::ready;
use std::io;

use bytes::Bytes;
use carboy_benchmark_load::serving;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> io::Result<()> {
    serving::serve(|_request| {
        let mut response = Response::new(Full::new(Bytes::from_static(b"Hello, World!")));
        let content_type = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        ready(response)
    })
}
