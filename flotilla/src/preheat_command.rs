//! `flotilla preheat`.

use std::io::Write as _;

use anyhow::bail;
use flotilla_client::preheat::{self, PreheatOptions};
use flotilla_torrents::preheat_api::PreheatEvent;
use tokio_util::sync::CancellationToken;

use crate::cli::PreheatArgs;
use crate::config::{self, ConfigErrors};
use crate::join_token;
use crate::shown::Shown;

/// Waits until the supernodes have every layer.
pub(crate) async fn run(args: PreheatArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    let supernodes = config::supernode_urls(&args.supernode, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors(errors).into());
    }
    let options = PreheatOptions {
        images: args.images,
        platforms: args.platform,
        supernodes,
        join_token: join_token::given(args.join_token_file.as_deref())?,
    };
    let mut reason = None;
    let preheating = preheat::run(&options, |event| {
        if let PreheatEvent::Failed { reason: first, .. } = event {
            reason.get_or_insert_with(|| first.clone());
        }
        if !args.quiet {
            show(event);
        }
    });
    let Some(summary) = shutdown.run_until_cancelled(preheating).await else {
        bail!("interrupted; layers that have begun still arrive at the supernodes");
    };
    let summary = summary?;
    match reason {
        None => Ok(()),
        Some(reason) => bail!(
            "{} of {} layers and images cannot be had: {}",
            summary.failed,
            summary.failed + summary.layers,
            Shown(&reason)
        ),
    }
}

/// One line a layer. Output that nobody reads is no reason to stop.
fn show(event: &PreheatEvent) {
    let line = match event {
        PreheatEvent::Layer {
            image,
            digest,
            bytes,
        } => format!("{} {digest} {bytes} bytes, seeding", Shown(image)),
        PreheatEvent::Foreign { image, digest } => {
            format!("{} {digest} is not at the registry, skipped", Shown(image))
        }
        PreheatEvent::Failed {
            image,
            digest,
            reason,
        } => {
            let digest = digest.as_ref().map(|digest| format!(" {digest}"));
            let (image, reason) = (Shown(image), Shown(reason));
            format!("{image}{} failed: {reason}", digest.unwrap_or_default())
        }
        PreheatEvent::Heartbeat {} | PreheatEvent::Finished { .. } => return,
    };
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
