//! The uploads that pass, and what is kept of each: OCI distribution-spec, "Pushing blobs".
//!
//! An upload is a chain of requests, each to the `Location` that the answer before named. A copy
//! is kept only as long as it is certain what the registry has taken; what is kept at the end
//! counts when it matches the digest, so a mistake here costs a copy, and nothing else.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use flotilla_torrents::Digest;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Body;
use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use crate::layers::source::LayerSource;
use crate::marks::{Mark, set_mark};
use crate::pushes::completion::{completed_upload, is_start};
use crate::pushes::tee::{Backlog, Kept, Progress, Tee};
use crate::stats::ProxyStats;

/// Uploads between two requests. Docker has five at once; a registry keeps them for days.
const MAX_WAITING: usize = 1024;
/// Clients continue at once, or not at all.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The uploads of all clients.
pub(crate) struct Uploads {
    source: Arc<dyn LayerSource>,
    waiting: Mutex<HashMap<Place, Upload>>,
    backlog: Backlog,
    stats: Arc<ProxyStats>,
}

/// Where an upload continues: a URL with its parameters in one order, as clients sort and encode
/// them anew when they add the digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    url: String,
    parameters: Vec<(String, String)>,
}

/// What is kept of an upload.
#[derive(Debug)]
struct Upload {
    kept: Kept,
    /// Bytes that the registry has taken.
    taken: u64,
    since: Instant,
}

/// One request of an upload on its way. Dropped without an answer: the client has left, and
/// nothing is kept.
pub(crate) struct Passing {
    step: Step,
    target: Url,
    upload: Option<Upload>,
    progress: Option<Progress>,
    /// Its bytes belong elsewhere than behind those that were taken.
    is_misplaced: bool,
    completes: Option<(Url, Digest)>,
    headers: HeaderMap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Start,
    Part,
    Finish,
    Look,
    Cancel,
}

/// A blob that the registry has taken.
pub(crate) struct Pushed {
    pub(crate) url: Url,
    pub(crate) digest: Digest,
    /// The request's own.
    pub(crate) headers: HeaderMap,
    /// The bytes, if they were kept.
    pub(crate) kept: Option<Kept>,
}

impl Uploads {
    pub(crate) fn new(source: Arc<dyn LayerSource>, stats: Arc<ProxyStats>) -> Self {
        Self {
            stats,
            source,
            waiting: Mutex::default(),
            backlog: Backlog::default(),
        }
    }

    /// What is to be watched of a request, with the copy of its body; none for requests that have
    /// nothing to do with an upload.
    pub(crate) fn begin<B: Body>(
        &self,
        request: &Request<B>,
        target: &Uri,
    ) -> Option<(Passing, Option<Tee>)> {
        let step = Step::of(request.method(), target)?;
        let completes = completed_upload(request.method(), target);
        if step != Step::Start && completes.is_none() && self.waiting.lock().is_empty() {
            return None;
        }
        let url = Url::parse(&target.to_string()).ok()?;
        let has_body = !request.body().is_end_stream();
        let mut upload = match step {
            // A whole blob may come with the first request.
            Step::Start => (has_body && completes.is_some())
                .then(|| self.fresh())
                .flatten(),
            _ => self.waiting.lock().remove(&Place::of(&url)),
        };
        if upload.is_none() && completes.is_none() && step != Step::Start {
            return None;
        }
        let takes_bytes = matches!(step, Step::Start | Step::Part | Step::Finish) && has_body;
        let is_misplaced = takes_bytes
            && upload.as_ref().is_some_and(|upload| {
                first_byte(request.headers()).is_some_and(|first| first != Some(upload.taken))
            });
        let mut tee = None;
        let mut progress = None;
        if takes_bytes && !is_misplaced {
            upload = upload.map(|upload| {
                let (backlog, stats) = (self.backlog.clone(), Arc::clone(&self.stats));
                let (copy, copied, kept) = Tee::new(upload.kept, backlog, stats);
                (tee, progress) = (Some(copy), Some(copied));
                Upload { kept, ..upload }
            });
        }
        let passing = Passing {
            step,
            target: url,
            upload,
            progress,
            is_misplaced,
            completes,
            headers: request.headers().clone(),
        };
        Some((passing, tee))
    }

    /// What the registry's answer makes of it.
    pub(crate) fn answered<B>(&self, passing: Passing, response: &Response<B>) -> Option<Pushed> {
        let (status, headers) = (response.status(), response.headers());
        let continues_at = place_of_answer(&passing.target, headers);
        let here = Place::of(&passing.target);
        match (passing.step, status) {
            (Step::Start | Step::Finish, StatusCode::CREATED) => return passing.pushed(),
            // A registry that takes no whole blob at once has ignored it.
            (Step::Start, StatusCode::ACCEPTED) => {
                if let (Some(place), Some(fresh)) = (continues_at, self.fresh()) {
                    self.wait(place, fresh);
                }
            }
            (Step::Part, status) if status.is_success() => {
                if passing.is_out_of_step(headers) {
                    self.note_out_of_step(&here);
                }
                if let Some(upload) = passing.advanced(headers) {
                    self.wait(continues_at.unwrap_or(here), upload);
                }
            }
            (Step::Look, status) if status.is_success() => match passing.upload {
                Some(upload) if agrees(headers, upload.taken) => {
                    self.wait(continues_at.unwrap_or(here), upload);
                }
                Some(_) => self.note_out_of_step(&here),
                None => {}
            },
            (Step::Part | Step::Finish, status) if took_nothing(status) => {
                if let Some(upload) = passing.taken_back() {
                    self.wait(here, upload);
                }
            }
            (Step::Look | Step::Cancel, status)
                if !status.is_success() && status != StatusCode::NOT_FOUND =>
            {
                if let Some(upload) = passing.upload {
                    self.wait(here, upload);
                }
            }
            _ => {}
        }
        None
    }

    fn note_out_of_step(&self, place: &Place) {
        set_mark!(self.stats, Mark::UploadOutOfStep, upload = place.url);
    }

    /// Forgets the uploads that their clients do not continue.
    pub(crate) fn forget_abandoned(&self, now: Instant) {
        let is_awaited = |upload: &Upload| now.duration_since(upload.since) < ABANDON_TIMEOUT;
        self.waiting.lock().retain(|place, upload| {
            let is_kept = is_awaited(upload);
            if !is_kept {
                set_mark!(self.stats, Mark::UploadAbandoned, upload = place.url);
            }
            is_kept
        });
    }

    fn fresh(&self) -> Option<Upload> {
        let Some(spool) = self.source.spool() else {
            set_mark!(
                self.stats,
                Mark::UploadNotKept,
                reason = "this source keeps nothing"
            );
            return None;
        };
        Some(Upload {
            kept: Kept::Here(spool),
            taken: 0,
            since: Instant::now(),
        })
    }

    fn wait(&self, place: Place, upload: Upload) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MAX_WAITING {
            let since = Instant::now();
            waiting.insert(place, Upload { since, ..upload });
        } else {
            set_mark!(self.stats, Mark::UploadsFull, upload = place.url);
        }
    }
}

impl Step {
    fn of(method: &Method, target: &Uri) -> Option<Self> {
        match *method {
            Method::POST if is_start(target) => Some(Self::Start),
            Method::PATCH => Some(Self::Part),
            Method::PUT => Some(Self::Finish),
            Method::GET => Some(Self::Look),
            Method::DELETE => Some(Self::Cancel),
            _ => None,
        }
    }
}

impl Place {
    fn of(url: &Url) -> Self {
        let parameters = url.query_pairs().filter(|(name, _)| name != "digest");
        let mut parameters: Vec<_> = parameters
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        parameters.sort_unstable();
        let mut url = url.clone();
        url.set_query(None);
        url.set_fragment(None);
        Self {
            url: url.into(),
            parameters,
        }
    }
}

impl Passing {
    /// Bytes that the registry has if it took all of the request; none if they are not kept.
    fn length(&self) -> Option<u64> {
        let taken = self.upload.as_ref()?.taken;
        let copied = match &self.progress {
            Some(progress) => progress.copied()?,
            None => 0,
        };
        (!self.is_misplaced).then(|| taken.saturating_add(copied))
    }

    /// Whether the registry has other bytes than the copy.
    fn is_out_of_step(&self, answer: &HeaderMap) -> bool {
        let is_copied = self.upload.is_some();
        let differs = self.length().is_some_and(|length| !agrees(answer, length));
        is_copied && (self.is_misplaced || differs)
    }

    fn pushed(mut self) -> Option<Pushed> {
        let (url, digest) = mem::take(&mut self.completes)?;
        let is_kept = self.length().is_some();
        let upload = self.upload.filter(|_| is_kept);
        Some(Pushed {
            url,
            digest,
            headers: self.headers,
            kept: upload.map(|upload| upload.kept),
        })
    }

    /// The upload with the bytes of this request.
    fn advanced(self, answer: &HeaderMap) -> Option<Upload> {
        let taken = self.length().filter(|length| agrees(answer, *length))?;
        Some(Upload {
            taken,
            ..self.upload?
        })
    }

    /// The upload without them.
    fn taken_back(self) -> Option<Upload> {
        let upload = self.upload?;
        if self.progress.is_none() {
            return Some(upload);
        }
        Some(Upload {
            kept: upload.kept.cut_to(upload.taken),
            ..upload
        })
    }
}

/// Refusals before the body is looked at: its bytes have another place, or its sender has to log
/// in first.
fn took_nothing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::UNAUTHORIZED
    )
}

/// `Location`, relative or not (RFC 9110 section 10.2.2).
fn place_of_answer(target: &Url, headers: &HeaderMap) -> Option<Place> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    Some(Place::of(&target.join(location).ok()?))
}

/// Whether a registry that says how much it has (`Range: 0-LAST`) has `length` bytes. Those that
/// have none say `0-0` as well.
fn agrees(headers: &HeaderMap, length: u64) -> bool {
    let Some(range) = headers.get(RANGE) else {
        return true;
    };
    let last = range.to_str().ok().and_then(|range| {
        let range = range.strip_prefix("bytes=").unwrap_or(range);
        range.strip_prefix("0-")?.parse::<u64>().ok()
    });
    last == Some(length.saturating_sub(1))
}

/// The place that a request gives its bytes: `Content-Range: FIRST-LAST`. None without one,
/// `Some(None)` for one that is not understood.
fn first_byte(headers: &HeaderMap) -> Option<Option<u64>> {
    let range = headers.get(CONTENT_RANGE)?.to_str();
    let first = range.ok().and_then(|range| {
        let range = range.strip_prefix("bytes").unwrap_or(range).trim_start();
        range.split_once('-')?.0.parse().ok()
    });
    Some(first)
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use http::HeaderValue;

    use super::*;
    use crate::layers::source::{LayerRequest, NotDelivered, SwarmLayer};

    struct NoLayers;

    impl LayerSource for NoLayers {
        fn local(&self, _: &Digest, _: &Url) -> BoxFuture<'_, Option<Box<dyn SwarmLayer>>> {
            Box::pin(async { None })
        }

        fn open(
            &self,
            _: LayerRequest,
        ) -> BoxFuture<'_, Result<Box<dyn SwarmLayer>, NotDelivered>> {
            Box::pin(async { Err(NotDelivered::new(Mark::LayerUnswarmable, "no layers")) })
        }
    }

    fn place(url: &str) -> Place {
        Place::of(&url.parse().unwrap())
    }

    #[test]
    fn an_upload_is_found_however_the_client_writes_its_place() {
        let given = place("http://reg.test:80/v2/a/blobs/uploads/1?_state=a%3D%3D&x=1");
        for same in [
            "http://reg.test/v2/a/blobs/uploads/1?_state=a%3D%3D&x=1&digest=sha256%3Aab",
            "http://reg.test/v2/a/blobs/uploads/1?digest=sha256:ab&x=1&_state=a==",
        ] {
            assert_eq!(place(same), given);
        }
        for other in [
            "https://reg.test/v2/a/blobs/uploads/1?_state=a%3D%3D&x=1",
            "http://reg.test/v2/b/blobs/uploads/1?_state=a%3D%3D&x=1",
            "http://reg.test/v2/a/blobs/uploads/1?_state=b&x=1",
        ] {
            assert_ne!(place(other), given);
        }
    }

    #[test]
    fn the_registry_says_how_much_it_has() {
        for (range, length, expected) in [
            ("0-499", 500, true),
            ("bytes=0-499", 500, true),
            ("0-0", 0, true),
            ("0-0", 1, true),
            ("0-498", 500, false),
            ("nonsense", 500, false),
        ] {
            let value = HeaderValue::from_static(range);
            let headers = HeaderMap::from_iter([(RANGE, value)]);
            assert_eq!(agrees(&headers, length), expected, "{range}");
        }
        assert!(agrees(&HeaderMap::new(), 500));
    }

    #[test]
    fn a_part_says_where_it_belongs() {
        for (range, expected) in [
            ("7-9", Some(7)),
            ("bytes 7-9/*", Some(7)),
            ("seven-9", None),
        ] {
            let value = HeaderValue::from_static(range);
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, value)]);
            assert_eq!(first_byte(&headers), Some(expected), "{range}");
        }
        assert_eq!(first_byte(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn an_abandoned_upload_is_forgotten() {
        let uploads = Uploads::new(Arc::new(NoLayers), Arc::default());
        let upload = Upload {
            kept: Kept::Soon(tokio::spawn(async { None })),
            taken: 0,
            since: Instant::now(),
        };
        uploads.wait(place("http://reg.test/v2/a/blobs/uploads/1"), upload);
        uploads.forget_abandoned(Instant::now());
        assert_eq!(uploads.waiting.lock().len(), 1);
        uploads.forget_abandoned(Instant::now() + ABANDON_TIMEOUT);
        assert!(uploads.waiting.lock().is_empty());
    }
}
