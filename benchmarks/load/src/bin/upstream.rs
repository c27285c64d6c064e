//! The slow service that the fan-out views call: `/a` answers `{"name": "a"}`
//! after 10 ms, `/a?20` after 20 ms.
//!
//! It is written in Rust so that it takes little of the core that it shares with
//! the load generator.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use carboy_benchmark_load::serving;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DELAY_MS: u64 = 10;

fn main() -> io::Result<()> {
    serving::serve(answer)
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let asked = request.uri().query().and_then(|query| query.parse().ok());
    tokio::time::sleep(Duration::from_millis(asked.unwrap_or(DELAY_MS))).await;
    let name = request.uri().path().trim_start_matches('/');
    let body = json!({ "name": name }).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let content_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
