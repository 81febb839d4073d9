//! `flotilla preheat`: asks the supernodes for images before anybody pulls them.

use flotilla_torrents::preheat_api::{PreheatEvent, PreheatRequest, PreheatShare};
use futures_util::{StreamExt as _, stream};
use url::Url;

use crate::supernode_client::{Supernode, SupernodeError, Supernodes};

/// What to preheat, and where.
#[derive(Clone, Debug)]
pub struct PreheatOptions {
    /// The images, each `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`.
    pub images: Vec<String>,
    /// `OS/ARCHITECTURE[/VARIANT]`; none: all that the images have.
    pub platforms: Vec<String>,
    /// The supernodes of the cluster, as nodes list them: each takes its own layers.
    pub supernodes: Vec<Url>,
    /// The cluster's secret, when it has one.
    pub join_token: Option<String>,
}

/// What became of the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreheatSummary {
    /// Layers and configurations that the supernodes have.
    pub layers: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Layers and images that they could not get.
    pub failed: u64,
}

/// Preheating ended without its last word.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreheatError {
    /// A supernode failed, or refuses the request.
    #[error(transparent)]
    Supernode(#[from] SupernodeError),
    /// A supernode's answer ended too early.
    #[error("supernode {0} stopped before it was done")]
    CutShort(Url),
    /// The client cannot be made.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Waits until the supernodes have every layer, and shows each event but heartbeats and last
/// lines to `told`.
///
/// # Errors
/// A supernode cannot be reached, refuses the request, or stops. Layers that it could not get are
/// no error here: they are counted.
pub async fn run(
    options: &PreheatOptions,
    mut told: impl FnMut(&PreheatEvent),
) -> Result<PreheatSummary, PreheatError> {
    let supernodes = Supernodes::new(&options.supernodes, options.join_token.as_deref())?;
    let names: Vec<String> = options.supernodes.iter().map(Url::to_string).collect();
    let mut answers = stream::SelectAll::new();
    for supernode in supernodes.all() {
        answers.push(answer_of(supernode, options, &names).await?);
    }
    let mut summary = PreheatSummary::default();
    while let Some(event) = answers.next().await {
        match event? {
            PreheatEvent::Heartbeat {} => {}
            PreheatEvent::Finished {
                layers,
                bytes,
                failed,
            } => {
                summary.layers += layers;
                summary.bytes += bytes;
                summary.failed += failed;
            }
            event => told(&event),
        }
    }
    Ok(summary)
}

/// The events of one supernode; an error in place of a last line that is missing.
async fn answer_of(
    supernode: &Supernode,
    options: &PreheatOptions,
    names: &[String],
) -> Result<stream::BoxStream<'static, Result<PreheatEvent, PreheatError>>, PreheatError> {
    let own = supernode.url();
    let share = (names.len() > 1).then(|| PreheatShare {
        supernodes: names.to_vec(),
        own: own.to_string(),
    });
    let request = PreheatRequest {
        images: options.images.clone(),
        platforms: options.platforms.clone(),
        share,
        nodes: None,
    };
    let events = supernode.preheat(&request).await?;
    let state = Some((events, own.clone()));
    let answer = stream::unfold(state, async |state| {
        let (mut events, own) = state?;
        match events.next().await {
            Some(Ok(last @ PreheatEvent::Finished { .. })) => Some((Ok(last), None)),
            Some(Ok(event)) => Some((Ok(event), Some((events, own)))),
            Some(Err(error)) => Some((Err(error.into()), None)),
            None => Some((Err(PreheatError::CutShort(own)), None)),
        }
    });
    Ok(answer.boxed())
}
