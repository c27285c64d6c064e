//! Names that are looked up for ever: their calls end in time, and no others wait for them.

mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use carboy_client::{Client, ClientSettings, ErrorKind, PoolLimits, Request, Resolver, Timeouts};
use http::Method;
use support::{Upstream, fetch, ok, run, untimed, wait_for};
use tokio::task::JoinSet;
use url::Url;

/// More than there are threads in the pool of tokio, which used to look names up.
const SILENT_NAMES: usize = 600;

/// Looks up `silent…` until it is dropped, and everything else at once.
#[derive(Default)]
struct Names {
    silent: AtomicUsize,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Names {
    fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        if host.starts_with("silent") {
            self.silent.fetch_add(1, Ordering::SeqCst);
            let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.opened.wait_while(is_open, |is_open| !*is_open));
            return Err(io::Error::other("nobody has answered"));
        }
        Ok(vec![([127, 0, 0, 1], 0).into()])
    }

    fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }
}

fn client(most_at_once: usize) -> (Client, Arc<Names>) {
    let names = Arc::new(Names::default());
    let shared = Arc::clone(&names);
    let client = Client::new(Arc::new(ClientSettings {
        resolver: Resolver::new(move |host| shared.look_up(host), most_at_once),
        pool: PoolLimits {
            connections: 2 * SILENT_NAMES,
            ..PoolLimits::default()
        },
        ..ClientSettings::default()
    }));
    (client, names)
}

fn call(host: &str, upstream: &Upstream, connect: Option<Duration>) -> Request {
    let url = format!("http://{host}:{}/", upstream.address.port());
    Request {
        timeouts: Timeouts {
            connect,
            ..untimed()
        },
        ..Request::new(Method::GET, Url::parse(&url).expect("a URL"))
    }
}

#[test]
fn a_name_that_is_looked_up_for_ever_is_a_connect_timeout_and_takes_one_thread() {
    run(async {
        let upstream = Upstream::always(ok("fine")).await;
        let (client, names) = client(2);
        let short = Some(Duration::from_millis(100));
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let (client, request) = (client.clone(), call("silent.test", &upstream, short));
            calls.spawn_local(async move { fetch(&client, request).await.map(drop) });
        }
        // There is a thread for others meanwhile.
        let request = call("fine.test", &upstream, None);
        assert_eq!(fetch(&client, request).await.unwrap().1, "fine");
        while let Some(outcome) = calls.join_next().await {
            let error = outcome.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectTimeout);
            for part in ["silent.test", "0.1 s", "looked up"] {
                assert!(error.message().contains(part), "{part}: {error}");
            }
        }
        // The thread may have come so late that nobody waited any more.
        while names.silent.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(names.silent.load(Ordering::SeqCst), 1);
        wait_for(&client, |pool| pool.connections == pool.idle).await;
        names.open();
    });
}

#[test]
fn many_names_that_are_looked_up_for_ever_stop_nothing_else() {
    run(async {
        let upstream = Upstream::always(ok("fine")).await;
        let (client, names) = client(3);
        let mut calls = JoinSet::new();
        for number in 0..SILENT_NAMES {
            let host = format!("silent{number}.test");
            let (client, request) = (client.clone(), call(&host, &upstream, None));
            calls.spawn_local(async move { fetch(&client, request).await.map(drop) });
        }
        wait_for(&client, |pool| pool.connections == SILENT_NAMES).await;
        while names.silent.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        // Tokio's own threads are free, and calls that need no look-up go on.
        let threads = tokio::net::lookup_host("localhost:80").await;
        assert!(threads.unwrap().next().is_some());
        for host in ["127.0.0.1", "localhost"] {
            let request = call(host, &upstream, None);
            assert_eq!(fetch(&client, request).await.unwrap().1, "fine");
        }
        // Who waits for a thread waits no longer than for a connection, or until it is cancelled.
        let short = Some(Duration::from_millis(50));
        let waiting = fetch(&client, call("fine.test", &upstream, short)).await;
        let error = waiting.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectTimeout);
        calls.abort_all();
        while calls.join_next().await.is_some() {}
        wait_for(&client, |pool| pool.connections == pool.idle).await;
        names.open();
        let request = call("fine.test", &upstream, None);
        assert_eq!(fetch(&client, request).await.unwrap().1, "fine");
        assert_eq!(
            names.silent.load(Ordering::SeqCst),
            3,
            "the others were cancelled"
        );
    });
}
