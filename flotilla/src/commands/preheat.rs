//! `flotilla preheat`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use flotilla_cluster::messages::preheats::{JobState, PreheatEvent};
use flotilla_cluster::preheat_client as preheat;
use flotilla_cluster::preheat_client::{PreheatJob, PreheatOptions};
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::config::ConfigErrors;
use crate::config::join_token;
use crate::config::secrets::SecretFile;
use crate::config::supernode_urls;
use crate::sanitize::Sanitized;

macro_rules! examples {
    () => {
        "\
Examples:
  flotilla preheat registry.example/team/app:1.0 --supernode http://10.0.0.1:8001 --wait
  flotilla preheat registry.example/team/app:1.0 --supernode http://10.0.0.1:8001 \\
      --nodes 'web-*'
  flotilla preheat registry.example/team/app:1.0 registry.example/team/db:7 \\
      --supernode http://a:8001,http://b:8001 --platform linux/amd64
  flotilla preheat https://files.example/model.bin --supernode http://10.0.0.1:8001 \\
      --nodes '*' --wait"
    };
}

const DETAILS: &str = concat!(
    examples!(),
    "

The supernodes use their own logins, from the file of their --registry-auth. A registry has to be in \
that file, or in their --preheat-registry. Name all supernodes of the cluster, as the proxies do: each \
fetches its own layers.

Every other URL is a file's, as for flotilla get. List its server at the supernodes \
like a registry (--preheat-registry http://files.example:8080). The server has to answer without a \
login, and with the length and an ETag or Last-Modified.

Exit codes:
  0  the supernodes have accepted it; with --wait: every layer and file is there
  1  failed; stderr says what happened and what to do
  2  the command line is wrong"
);

#[derive(Debug, Args)]
#[command(after_help = examples!(), after_long_help = DETAILS)]
pub(crate) struct PreheatArgs {
    /// Images or URLs of their manifests, and URLs of files
    ///
    /// An image is HOST[:PORT]/REPOSITORY[:TAG][@DIGEST].
    #[arg(required = true, value_name = "IMAGE|URL")]
    pub(crate) images: Vec<String>,
    /// Supernodes, separated by commas
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        required = true,
        help_heading = "Cluster"
    )]
    pub(crate) supernode: Vec<String>,
    /// Nodes that fetch the layers too [default: none]
    ///
    /// A pattern of node names.
    #[arg(long, value_name = "GLOB", help_heading = "Cluster")]
    pub(crate) nodes: Option<String>,
    /// File with the cluster's secret [default: none]
    ///
    /// The environment variable FLOTILLA_JOIN_TOKEN can hold the secret itself.
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// Platform of the images; repeatable [default: all]
    #[arg(long, value_name = "OS/ARCH", help_heading = "What")]
    pub(crate) platform: Vec<String>,
    /// Query parameters that do not name a file
    ///
    /// Such as signatures; separated by commas.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "What"
    )]
    pub(crate) filter_query: Vec<String>,
    /// Wait until every layer and file is there
    ///
    /// The command fails if one cannot be fetched.
    #[arg(long, help_heading = "Output")]
    pub(crate) wait: bool,
    /// Print errors only
    #[arg(short, long, help_heading = "Output")]
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
            None => bail!("interrupted; these jobs continue: {}", names.join(", ")),
        };
    }
    if !args.quiet {
        names.iter().for_each(|name| say(name));
    }
    Ok(())
}

/// Waits for the end of all jobs, and prints a line for each layer.
async fn wait_for(jobs: Vec<PreheatJob>, quiet: bool) -> anyhow::Result<()> {
    let mut events = stream::select_all(jobs.into_iter().map(PreheatJob::events));
    let (mut shown, mut here, mut causes) = (0, 0, Vec::new());
    while let Some(event) = events.next().await {
        let event = event?;
        if let PreheatEvent::Finished(status) = &event {
            here += status.layers;
            if status.state != JobState::Success {
                let cause = status.cause.as_deref().unwrap_or("no reason given");
                causes.push(format!("job {}: {}", status.id, Sanitized(cause)));
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
        } => format!("{} {digest} {bytes} bytes, seeding", Sanitized(image)),
        PreheatEvent::File { url, bytes } => format!("{} {bytes} bytes, seeding", Sanitized(url)),
        PreheatEvent::Foreign { image, digest } => {
            format!(
                "{} {digest} skipped: the registry does not have it",
                Sanitized(image)
            )
        }
        PreheatEvent::Failed {
            image,
            digest,
            reason,
        } => {
            let digest = digest.as_ref().map(|digest| format!(" {digest}"));
            let (image, reason) = (Sanitized(image), Sanitized(reason));
            format!("{image}{} failed: {reason}", digest.unwrap_or_default())
        }
        PreheatEvent::Heartbeat {} | PreheatEvent::Finished(_) => return,
    };
    say(&line);
}

/// A closed output is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
