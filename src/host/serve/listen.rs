//! Connections: a bounded number of them at a time, each for one request, whose head has to come, and whose answer has
//! to be taken, within a time. Knows nothing of what is asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// So many connections are served at a time; others wait in the system's queue.
const MOST_CONNECTIONS: usize = 64;
/// How long a request's head may take to come.
const HEAD: Duration = Duration::from_secs(10);
/// No longer head is read.
const LONGEST_HEAD: usize = 16 << 10;
/// How long an answer may take to be taken, once it is there.
const TAKEN: Duration = Duration::from_secs(30);
/// How often the wish to end is looked at.
const TICK: Duration = Duration::from_millis(100);
/// After a connection could not be accepted, as when there are too many files.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until `stop` says so.
pub async fn until(listener: &TcpListener, routes: &Router, stop: &(dyn Fn() -> bool + Send + Sync)) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut tick = tokio::time::interval(TICK);
    loop {
        let accepted = tokio::select! {
            _ = tick.tick() => match stop() {
                true => return,
                false => continue,
            },
            accepted = accept(listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    one(stream, routes).await;
                    drop(place);
                });
            }
            Err(error) => {
                log::warn!("a connection: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn one(stream: TcpStream, routes: Router) {
    let routes = TowerToHyperService::new(routes);
    let answered = Notify::new();
    let service = service_fn(|request| {
        let answer = routes.call(request);
        async {
            let answer = answer.await;
            answered.notify_one();
            answer
        }
    });
    let mut how = http1::Builder::new();
    // One request a connection: nobody keeps a place by asking slowly.
    how.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LONGEST_HEAD).keep_alive(false);
    let late = async {
        answered.notified().await;
        sleep(TAKEN).await;
    };
    tokio::select! {
        ended = how.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = ended {
                log::debug!("a connection: {error}");
            }
        }
        () = late => log::debug!("a connection: the answer was not taken in time"),
    }
}
