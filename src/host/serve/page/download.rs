//! Files, and directories as archives, as streams: what is read waits for who takes it, and ends when they go away.
//! Knows nothing of how either is written.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::poll_fn;
use tokio::sync::mpsc;

use super::browse::{At, find};
use super::place::{Place, encoded};
use super::{Access, Ending, Wrong};
use crate::base::ObjectId;
use crate::host::serve::Shared;
use crate::host::serve::answer::{Refused, blocking};
use crate::ops::{self, ArchiveError};
use crate::tree;

/// What is sent at once, and how many of these wait to be taken.
const PIECE: usize = 64 << 10;
const WAITING: usize = 4;

pub async fn file(State(shared): State<Arc<Shared>>, headers: HeaderMap, uri: Uri) -> Result<Response, Wrong> {
    let (at, place) = wanted(&shared, &headers, &uri).await?;
    let tree::Body::File(content) = &at.node.body else {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "not a file").into());
    };
    let (length, name) = (content.length(), place.names.last().cloned().unwrap_or_default());
    let body = stream(&shared, move |out, ending| {
        let tree::Body::File(content) = &at.node.body else { return Ok(()) };
        ops::write_file(&at.opened.stored, content, out, ending)
    })?;
    let mut answer = attachment("application/octet-stream", &name, body)?;
    answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    Ok(answer)
}

pub async fn archive(State(shared): State<Arc<Shared>>, headers: HeaderMap, uri: Uri) -> Result<Response, Wrong> {
    let (at, place) = wanted(&shared, &headers, &uri).await?;
    let of_whole = format!("snapshot-{}", at.listed.id.short()).into_bytes();
    let name = place.names.last().cloned().unwrap_or(of_whole);
    let top = name.clone();
    let body = stream(&shared, move |out, ending| ops::archive(&at.opened.stored, &at.node, &top, out, ending))?;
    Ok(attachment("application/x-tar", &[&name[..], b".tar"].concat(), body)?)
}

async fn wanted(shared: &Arc<Shared>, headers: &HeaderMap, uri: &Uri) -> Result<(At, Place), Refused> {
    Access::of(shared, headers).check()?;
    let place = Place::parse(uri).ok_or_else(|| Refused::missing("there is nothing at this address"))?;
    let shared = shared.clone();
    blocking(move || Ok((find(&shared, &place)?, place))).await?
}

/// What `write` writes, while it is taken. An error in the middle breaks the answer off, so that nobody takes what came
/// for all there is.
fn stream<W>(shared: &Arc<Shared>, write: W) -> Result<Body, Refused>
where
    W: FnOnce(&mut dyn Write, &Ending) -> Result<(), ArchiveError> + Send + 'static,
{
    let busy = |_| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "too many downloads are under way");
    let right = shared.downloads.clone().try_acquire_owned().map_err(busy)?;
    let ending = Ending(shared.clone());
    let (give, mut taken) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(PIECE, Pipe(give.clone()));
        let written = write(&mut out, &ending).and_then(|()| Ok(out.flush()?));
        // What is left of a download that broke off is of no use.
        let (_, _rest) = out.into_parts();
        if let Err(error) = written {
            if let ArchiveError::Read { .. } = error {
                log::warn!("a download broke off: {error}");
            }
            // Who went away is not told.
            let _gone = give.blocking_send(Err(io::Error::other(error.to_string())));
        }
        drop(right);
    });
    Ok(Body::from_stream(poll_fn(move |cx| taken.poll_recv(cx))))
}

/// Waits until there is room.
struct Pipe(mpsc::Sender<io::Result<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(bytes.to_vec()));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer that a browser keeps as a file, and never shows as one of our pages.
fn attachment(kind: &'static str, name: &[u8], body: Body) -> Result<Response, Refused> {
    let named = HeaderValue::from_str(&disposition(name)).map_err(|error| Refused::failed(error.to_string()))?;
    let mut answer =
        ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, "sandbox")], body).into_response();
    answer.headers_mut().insert(header::CONTENT_DISPOSITION, named);
    Ok(answer)
}

/// The name in ASCII for those who know no other, and whole where it is text (RFC 6266).
fn disposition(name: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_. ".contains(byte);
    let ascii: String = name.iter().map(|byte| if plain(byte) { char::from(*byte) } else { '_' }).collect();
    match str::from_utf8(name) {
        Ok(name) => format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", encoded(name.as_bytes())),
        Err(_) => format!("attachment; filename=\"{ascii}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_makes_a_sound_header() {
        assert_eq!(disposition(b"a b.txt"), "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt");
        assert_eq!(disposition(b"\"\r\n\xff"), "attachment; filename=\"____\"");
        for name in [&b"\r\nSet-Cookie: x"[..], "\u{e9};\"".as_bytes(), b"\0"] {
            assert!(HeaderValue::from_str(&disposition(name)).is_ok());
        }
    }
}
