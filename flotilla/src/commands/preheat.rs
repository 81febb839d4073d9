//! `flotilla preheat`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use flotilla_client::preheat::{self, PreheatJob, PreheatOptions};
use flotilla_torrents::preheat_api::{JobState, PreheatEvent};
use tokio_util::sync::CancellationToken;

use crate::config::ConfigErrors;
use crate::config::join_token;
use crate::config::secrets::SecretFile;
use crate::config::supernode_urls;
use crate::sanitize::Shown;

const PREHEAT_EXAMPLES: &str = "\
Examples:
  flotilla preheat registry.example:5000/team/app:1.0 --supernode http://10.0.0.1:8001 --wait
  flotilla preheat registry.example/team/app:1.0 --supernode http://10.0.0.1:8001 --nodes 'web-*'
  flotilla preheat registry.example/team/app:1.0 registry.example/team/db:7 \\
      --supernode http://a:8001,http://b:8001 --platform linux/amd64
  flotilla preheat https://files.example/model.bin --supernode http://10.0.0.1:8001 --nodes '*' --wait

The supernodes log in with the file that they were given with --registry-auth, and know the
registry by it or by --preheat-registry. Name all of a cluster's supernodes, as the proxies do.

A URL that is no manifest's names a file, as in flotilla get URL. Its server has to be listed like a
registry (--preheat-registry http://files.example:8080), and to give it without a login, with its
length and an ETag or Last-Modified.";

#[derive(Debug, Args)]
#[command(after_help = PREHEAT_EXAMPLES)]
pub(crate) struct PreheatArgs {
    /// Images, HOST[:PORT]/REPOSITORY[:TAG][@DIGEST] or the URLs of their manifests, and URLs of files
    #[arg(required = true, value_name = "IMAGE|URL")]
    pub(crate) images: Vec<String>,
    /// The supernodes, separated by commas
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    pub(crate) supernode: Vec<String>,
    /// Only for this platform; repeatable [default: all that the images have]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Vec<String>,
    /// File with the cluster's secret (or set FLOTILLA_JOIN_TOKEN)
    #[arg(long, value_name = "FILE")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// Have these nodes fetch the layers as well, a glob of their names [default: supernodes only]
    #[arg(long, value_name = "GLOB")]
    pub(crate) nodes: Option<String>,
    /// Query parameters that do not name a file, such as signatures, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) filter_query: Vec<String>,
    /// Wait until every layer is where it should be, and fail if it is not
    #[arg(long)]
    pub(crate) wait: bool,
    /// No lines of what becomes of it
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Hands images and files to the supernodes, and waits for them if that is wanted.
pub(crate) async fn run(args: PreheatArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    let supernodes = supernode_urls::of_flag(&args.supernode, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors(errors).into());
    }
    let options = PreheatOptions {
        images: args.images,
        platforms: args.platform,
        nodes: args.nodes,
        filter_query: args.filter_query,
        supernodes,
        join_token: join_token::given(&SecretFile::of_flag(args.join_token_file.as_deref()))?,
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
