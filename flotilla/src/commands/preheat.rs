//! `flotilla preheat`.

use std::io::Write as _;

use anyhow::bail;
use flotilla_client::preheat::{self, PreheatJob, PreheatOptions};
use flotilla_torrents::preheat_api::{JobState, PreheatEvent};
use tokio_util::sync::CancellationToken;

use crate::cli::PreheatArgs;
use crate::config::join_token;
use crate::config::{self, ConfigErrors};
use crate::sanitize::Shown;

/// Hands images and files to the supernodes, and waits for them if that is wanted.
pub(crate) async fn run(args: PreheatArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    let supernodes = config::supernode_urls(&args.supernode, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors(errors).into());
    }
    let options = PreheatOptions {
        images: args.images,
        platforms: args.platform,
        nodes: args.nodes,
        filter_query: args.filter_query,
        supernodes,
        join_token: join_token::given(args.join_token_file.as_deref())?,
    };
    if args.wait && options.nodes.is_none() {
        return bring(&options, args.quiet, shutdown).await;
    }
    let jobs = preheat::submit(&options).await?;
    if !args.quiet {
        for job in &jobs {
            say(&format!(
                "preheat job {} at {}",
                job.status.id,
                job.supernode()
            ));
        }
    }
    if !args.wait {
        return Ok(());
    }
    let Some(ended) = shutdown.run_until_cancelled(wait_for(jobs)).await else {
        bail!("interrupted; the jobs go on at the supernodes");
    };
    ended
}

/// Waits for the end of all jobs.
async fn wait_for(jobs: Vec<PreheatJob>) -> anyhow::Result<()> {
    let mut causes = Vec::new();
    for mut job in jobs {
        job.finished().await?;
        if job.status.state != JobState::Success {
            let cause = job.status.cause.as_deref().unwrap_or("it has failed");
            causes.push(format!("job {}: {}", job.status.id, Shown(cause)));
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    bail!("{}", causes.join("; "))
}

/// Stays until the supernodes have every layer, and tells of each.
async fn bring(
    options: &PreheatOptions,
    quiet: bool,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut reason = None;
    let preheating = preheat::run(options, |event| {
        if let PreheatEvent::Failed { reason: first, .. } = event {
            reason.get_or_insert_with(|| first.clone());
        }
        if !quiet {
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
            "{} of {} layers, images and files cannot be had: {}",
            summary.failed,
            summary.failed + summary.layers,
            Shown(&reason)
        ),
    }
}

/// One line a layer.
fn show(event: &PreheatEvent) {
    let line = match event {
        PreheatEvent::Layer {
            image,
            digest,
            bytes,
        } => format!("{} {digest} {bytes} bytes, seeding", Shown(image)),
        PreheatEvent::File { url, bytes } => format!("{} {bytes} bytes, seeding", Shown(url)),
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
    say(&line);
}

/// Output that nobody reads is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
