//! Connections: a bounded number of them at a time, each for one request, whose head has to come, and whose answer has
//! to be taken, within a time. Knows nothing of what is asked.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// So many connections are served at a time; others wait in the system's queue.
const MOST_CONNECTIONS: usize = 64;
/// How long a request's head may take to come.
const HEAD: Duration = Duration::from_secs(10);
/// No longer head is read.
const LONGEST_HEAD: usize = 16 << 10;
/// How long who asked may take nothing of the answer.
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
    let service = TowerToHyperService::new(routes);
    let stuck = Stuck::default();
    let stream = Watchful { stream, stuck: stuck.clone() };
    let mut how = http1::Builder::new();
    // One request a connection: nobody keeps a place by asking slowly.
    how.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LONGEST_HEAD).keep_alive(false);
    let late = async {
        while !stuck.is_for(TAKEN) {
            sleep(TAKEN / 10).await;
        }
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

/// Since when nothing more is taken.
#[derive(Clone, Default)]
struct Stuck(Arc<Mutex<Option<Instant>>>);

impl Stuck {
    fn is_for(&self, time: Duration) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() > time)
    }

    fn tell(&self, is_stuck: bool) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = if is_stuck { since.or_else(|| Some(Instant::now())) } else { None };
    }
}

/// A connection that knows since when nothing can be written to it.
struct Watchful {
    stream: TcpStream,
    stuck: Stuck,
}

impl AsyncRead for Watchful {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watchful {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.stuck.tell(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_takes_nothing_at_all_is_stuck() {
        let stuck = Stuck::default();
        assert!(!stuck.is_for(Duration::ZERO));
        stuck.tell(true);
        std::thread::sleep(Duration::from_millis(2));
        stuck.tell(true);
        assert!(stuck.is_for(Duration::from_millis(1)), "it counts from the first time");
        stuck.tell(false);
        assert!(!stuck.is_for(Duration::ZERO));
    }
}
