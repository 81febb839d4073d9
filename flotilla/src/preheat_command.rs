//! `flotilla preheat`.

use std::io::Write as _;

use anyhow::bail;
use flotilla_cluster::messages::preheats::{JobState, PreheatEvent};
use flotilla_cluster::preheat_client as preheat;
use flotilla_cluster::preheat_client::{PreheatJob, PreheatOptions};
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::cli::PreheatArgs;
use crate::config::{self, ConfigErrors};
use crate::join_token;
use crate::shown::Shown;

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
    let jobs = preheat::submit(&options).await?;
    let names = jobs.iter().map(|job| {
        let (id, supernode) = (job.status.id, job.supernode());
        format!("preheat job {id} at {supernode}")
    });
    let names: Vec<String> = names.collect();
    if args.wait {
        let waiting = wait_for(jobs, args.quiet);
        return match shutdown.run_until_cancelled(waiting).await {
            Some(ended) => ended,
            None => bail!("interrupted; still at work: {}", names.join(", ")),
        };
    }
    if !args.quiet {
        names.iter().for_each(|name| say(name));
    }
    Ok(())
}

/// Stays until all jobs have ended, and tells of each layer.
async fn wait_for(jobs: Vec<PreheatJob>, quiet: bool) -> anyhow::Result<()> {
    let mut events = stream::select_all(jobs.into_iter().map(PreheatJob::events));
    let (mut shown, mut here, mut causes) = (0, 0, Vec::new());
    while let Some(event) = events.next().await {
        let event = event?;
        if let PreheatEvent::Finished(status) = &event {
            here += status.layers;
            if status.state != JobState::Success {
                let cause = status.cause.as_deref().unwrap_or("it has failed");
                causes.push(format!("job {}: {}", status.id, Shown(cause)));
            }
        }
        let is_here = matches!(
            event,
            PreheatEvent::Layer { .. } | PreheatEvent::File { .. }
        );
        shown += u64::from(is_here);
        if !quiet {
            show(&event);
        }
    }
    if !quiet && here > shown {
        say(&format!("{} more layers, seeding", here - shown));
    }
    if causes.is_empty() {
        return Ok(());
    }
    bail!("{}", causes.join("; "))
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
        PreheatEvent::Heartbeat {} | PreheatEvent::Finished(_) => return,
    };
    say(&line);
}

/// Output that nobody reads is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
