//! Does the work of a preheat: what its images and files are, and that all of it comes here.

use std::collections::HashSet;
use std::sync::Arc;

use flotilla_cluster::content_url;
use flotilla_cluster::messages::orders::OpenOrdered;
use flotilla_cluster::messages::preheats::PreheatEvent;
use flotilla_cluster::messages::swarms::{OpenRequest, OpenResponse};
use flotilla_registry::login::RegistryLogins;
use flotilla_registry::names::image_reference::ImageReference;
use flotilla_registry::names::registry_origin::RegistryOrigin;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::mpsc;
use url::Url;

use super::fetch::{self, FetchRequest, Fetcher, StepOutcome};
use super::identity::{Identity, LentAuthorization};
use super::manifest::Blob;
use super::request::Preheat;
use super::resolution::{Image, ResolveError};
use super::target::{FileUrl, Target};
use crate::stats::Statistics;
use crate::swarms::SwarmOpener;

/// Images whose manifests are read at the same time for one request.
const IMAGES_AT_ONCE: usize = 4;

/// Brings layers in the supernode's own name. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Preheater {
    opener: Arc<SwarmOpener>,
    fetcher: Fetcher,
}

/// One thing to do.
enum Step {
    Fetch(FetchRequest),
    Report(PreheatEvent),
}

impl Preheater {
    pub(crate) fn new(opener: Arc<SwarmOpener>, statistics: Statistics) -> Self {
        Self {
            fetcher: Fetcher::new(Arc::clone(&opener), statistics),
            opener,
        }
    }

    /// The first registry, or server of a file, that the operator has not listed.
    pub(crate) async fn unlisted(&self, asked: &Preheat) -> Option<String> {
        for target in &asked.targets {
            let unlisted = match target {
                Target::Image(image) => {
                    let listed = self.identity(&asked.lent).listed(image).await;
                    listed.is_none().then(|| image.registry())
                }
                Target::File(file) => unlisted_server(&self.opener.logins, file).await,
            };
            if unlisted.is_some() {
                return unlisted;
            }
        }
        None
    }

    /// What a node is answered that is to have a layer: the caller of the preheat has been let
    /// in by the registry.
    pub(crate) async fn open_ordered(
        &self,
        ordered: OpenOrdered,
        url: String,
        filter_query: Vec<String>,
    ) -> OpenResponse {
        let mut request = OpenRequest {
            length: None,
            url,
            headers: Vec::new(),
            digest: ordered.content.digest(),
            peer_id: ordered.peer_id,
            offered: None,
            filter_query,
            node: ordered.node,
            images: Vec::new(),
        };
        let at_hand = self.opener.open_at_hand(&request, &ordered.content);
        if let Some(answer) = at_hand.await {
            return answer;
        }
        // It had to make room since.
        if request.digest.is_none() {
            return self.opener.open(&request).await;
        }
        let unswarmable = |reason: String| OpenResponse::Unswarmable { reason };
        let url = match Url::parse(&request.url) {
            Ok(url) => url,
            Err(error) => return unswarmable(error.to_string()),
        };
        match self.opener.logins.headers(&url).await {
            Ok(headers) => {
                request.headers = headers;
                self.opener.open(&request).await
            }
            Err(error) => unswarmable(error.to_string()),
        }
    }

    /// Does what is asked for, and sends what becomes of each layer.
    ///
    /// Cancel safe: layers that were opened already still arrive.
    pub(crate) async fn run(&self, asked: &Preheat, events: &mpsc::Sender<StepOutcome>) {
        let mut seen = HashSet::new();
        asked.want_nothing();
        let targets = asked.targets.iter();
        let targets: Vec<_> = targets
            .map(|target| self.steps_of(target, asked).boxed())
            .collect();
        let steps = stream::iter(targets)
            .buffer_unordered(IMAGES_AT_ONCE)
            .flat_map(stream::iter);
        // Images of one base have layers in common.
        let steps = steps.filter(|step| {
            let is_new = match step {
                Step::Fetch(wanted) => seen.insert(wanted.source_and_content()),
                Step::Report(_) => true,
            };
            if !is_new {
                asked.want_one_less();
            }
            std::future::ready(is_new)
        });
        let outcomes = steps.map(|step| self.outcome_of(step, asked).boxed());
        let mut outcomes = outcomes.buffer_unordered(fetch::LAYERS_AT_ONCE);
        while let Some(outcome) = outcomes.next().await {
            if events.send(outcome).await.is_err() {
                return;
            }
        }
    }

    /// What is to be done for an image or a file at this supernode.
    async fn steps_of(&self, target: &Target, asked: &Preheat) -> Vec<Step> {
        let steps = match target {
            Target::Image(image) => self.steps_of_image(image, asked).await,
            Target::File(file) => self.steps_of_file(file, asked).await,
        };
        match steps {
            Ok(steps) => {
                let wanted = steps.iter().filter(|step| matches!(step, Step::Fetch(_)));
                asked.want(wanted.count());
                steps
            }
            Err(error) => vec![Step::Report(PreheatEvent::Failed {
                image: target.name().to_owned(),
                digest: None,
                reason: error.to_string(),
            })],
        }
    }

    async fn steps_of_file(
        &self,
        file: &FileUrl,
        asked: &Preheat,
    ) -> Result<Vec<Step>, ResolveError> {
        if let Some(server) = unlisted_server(&self.opener.logins, file).await {
            return Err(ResolveError::NotListed(server));
        }
        let named = content_url(&file.url, asked.filter_query());
        let wanted = FetchRequest {
            name: file.redacted.clone(),
            image: None,
            digest: None,
            url: file.url.clone(),
        };
        let is_own = asked.wants(named.as_str());
        Ok(is_own.then_some(Step::Fetch(wanted)).into_iter().collect())
    }

    async fn steps_of_image(
        &self,
        name: &ImageReference,
        asked: &Preheat,
    ) -> Result<Vec<Step>, ResolveError> {
        let identity = self.identity(&asked.lent);
        let image = Image::find(&self.opener.source, identity, name).await?;
        let blobs = image.blobs(&asked.platforms).await?.into_iter();
        let own = blobs.filter(|blob| asked.wants(&blob.digest.to_string()));
        let steps = own.map(|Blob { digest, is_foreign }| {
            let (url, image) = (image.blob_url(&digest)?, name.written.clone());
            Ok(if is_foreign {
                Step::Report(PreheatEvent::Foreign { image, digest })
            } else {
                Step::Fetch(FetchRequest {
                    name: image,
                    image: name.tagged(),
                    digest: Some(digest),
                    url,
                })
            })
        });
        steps.collect()
    }

    fn identity<'a>(&'a self, lent: &'a LentAuthorization) -> Identity<'a> {
        Identity::new(&self.opener.logins, lent)
    }

    async fn outcome_of(&self, step: Step, asked: &Preheat) -> StepOutcome {
        match step {
            Step::Fetch(wanted) => self.fetcher.fetch(wanted, asked).await,
            Step::Report(event) => StepOutcome::of(event),
        }
    }
}

/// The server of a file, if the operator has not listed it.
async fn unlisted_server(logins: &RegistryLogins, file: &FileUrl) -> Option<String> {
    if logins.lists(&file.url).await {
        return None;
    }
    let server = RegistryOrigin::of_url(&file.url).map(|server| server.to_string());
    Some(server.unwrap_or_else(|| file.redacted.clone()))
}
