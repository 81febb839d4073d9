//! `flotilla cache`: the layers that a node or supernode keeps.

mod cache_access;
mod selection;
mod table;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use flotilla_client::control::cache::{CacheReport, Outcome};
use flotilla_client::store::LayerAudit;
use flotilla_torrents::ContentId;
use indicatif::BinaryBytes;
use tokio_util::sync::CancellationToken;

use self::cache_access::CacheAccess;
use crate::config::of_host;
use crate::config::units::Time;
use crate::role::Role;

macro_rules! examples {
    () => {
        "\
Examples:
  flotilla cache ls
  flotilla cache rm --older-than 30d --role supernode
  flotilla cache verify --data-dir /srv/flotilla
  flotilla cache pin 4f53cda18c2b"
    };
}

const DETAILS: &str = concat!(
    examples!(),
    "

A layer is named by the beginning of its digest, at least 4 digits, or by its URL; ls shows both. A \
running proxy or supernode is asked through DATA-DIR/control.sock, which its own user and root may use. \
When none runs, the command works on the files directly.

Exit codes:
  0  done, and every layer that was verified is intact
  1  a layer was not removed or pinned, or was damaged, or the command failed; stderr says which
  2  the command line or the configuration is wrong"
);

#[derive(Debug, Args)]
#[command(after_help = examples!(), after_long_help = DETAILS)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// List the layers, the last used one first
    Ls {
        #[command(flatten)]
        common: CacheCommon,
    },
    /// Remove layers that are neither pinned nor in use
    Rm {
        #[command(flatten)]
        which: Unwanted,
        #[command(flatten)]
        common: CacheCommon,
    },
    /// Compare layers with their hashes, and remove damaged ones
    ///
    /// Damaged layers are removed even when they are pinned or in use.
    Verify {
        /// Layers to verify [default: all]
        #[arg(value_name = "LAYER")]
        content: Vec<String>,
        #[command(flatten)]
        common: CacheCommon,
    },
    /// Pin layers: nothing evicts or removes them, even after a restart
    Pin {
        /// Layers to pin
        #[arg(required = true, value_name = "LAYER")]
        content: Vec<String>,
        #[command(flatten)]
        common: CacheCommon,
    },
    /// Unpin layers
    Unpin {
        /// Layers to unpin
        #[arg(required = true, value_name = "LAYER")]
        content: Vec<String>,
        #[command(flatten)]
        common: CacheCommon,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Unwanted {
    /// Layers to remove
    #[arg(value_name = "LAYER")]
    content: Vec<String>,
    /// Remove all that are neither pinned nor in use
    #[arg(long)]
    all: bool,
    /// Remove those not used for this time, e.g. 12h or 30d
    #[arg(long, value_name = "TIME")]
    older_than: Option<Time>,
}

#[derive(Debug, Args)]
struct CacheCommon {
    /// Directory of the layers [default: the role's]
    ///
    /// That is data_dir of the role in /etc/flotilla/flotilla.toml, else /var/lib/flotilla/proxy or
    /// /var/lib/flotilla/supernode.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Whose layers: proxy or supernode
    #[arg(
        long,
        value_name = "ROLE",
        default_value = "proxy",
        hide_possible_values = true
    )]
    role: Role,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
pub(crate) async fn run(args: CacheArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    match args.command {
        CacheCommand::Ls { common } => {
            let held = access(&common).await?.layers().await?;
            print(&common, &held, |out| table::write(out, &held))
        }
        CacheCommand::Rm { which, common } => remove(which, &common).await,
        CacheCommand::Verify { content, common } => {
            let verified = shutdown.run_until_cancelled(verify(&content, &common, &shutdown));
            match verified.await {
                Some(verified) => verified,
                None => bail!("interrupted"),
            }
        }
        CacheCommand::Pin { content, common } => pin(&content, true, &common).await,
        CacheCommand::Unpin { content, common } => pin(&content, false, &common).await,
    }
}

async fn access(common: &CacheCommon) -> anyhow::Result<CacheAccess> {
    let data_dir = match &common.data_dir {
        Some(given) => given.clone(),
        None => of_host::data_dir_of(common.role)?,
    };
    CacheAccess::of(&data_dir).await
}

async fn remove(which: Unwanted, common: &CacheCommon) -> anyhow::Result<()> {
    let access = access(common).await?;
    let held = access.layers().await?;
    let unwanted = if let Some(Time(age)) = which.older_than {
        unused_for(&held, age)
    } else if which.all {
        held.layers.iter().map(|l| l.content.clone()).collect()
    } else {
        selection::select(&held, &which.content)?
    };
    let outcomes = access.remove(&unwanted).await?;
    report(common, &held, &unwanted, &outcomes, "removed")
}

fn unused_for(held: &CacheReport, age: Duration) -> Vec<ContentId> {
    let unused = held
        .layers
        .iter()
        .filter(|layer| !layer.in_use && table::unused_for(layer) >= age);
    unused.map(|layer| layer.content.clone()).collect()
}

async fn pin(names: &[String], pinned: bool, common: &CacheCommon) -> anyhow::Result<()> {
    let access = access(common).await?;
    let held = access.layers().await?;
    let contents = selection::select(&held, names)?;
    let outcomes = access.set_pinned(&contents, pinned).await?;
    let what = if pinned { "pinned" } else { "unpinned" };
    report(common, &held, &contents, &outcomes, what)
}

/// Prints the outcome for each layer; an error unless all are `done`.
fn report(
    common: &CacheCommon,
    held: &CacheReport,
    contents: &[ContentId],
    outcomes: &[Outcome],
    done: &str,
) -> anyhow::Result<()> {
    let each = || contents.iter().zip(outcomes);
    let json: Vec<_> = each()
        .map(|(content, outcome)| serde_json::json!({ "content": content, "outcome": outcome }))
        .collect();
    print(common, &json, |out| {
        for (content, _) in each().filter(|(_, outcome)| **outcome == Outcome::Done) {
            writeln!(out, "{done} {content}{}", size_of(held, content))?;
        }
        Ok(())
    })?;
    let mut failed = 0;
    for (content, outcome) in each() {
        let reason = match outcome {
            Outcome::Done => continue,
            Outcome::Pinned => "it is pinned",
            Outcome::InUse => "it is in use",
            Outcome::Absent => "it is gone",
            Outcome::Failed(reason) => reason,
            _ => "unknown reason; the daemon is of a newer version",
        };
        failed += 1;
        eprintln!("flotilla: {content} not {done}: {reason}");
    }
    if failed > 0 {
        bail!("{failed} of {} layers not {done}", contents.len());
    }
    Ok(())
}

async fn verify(
    names: &[String],
    common: &CacheCommon,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let access = access(common).await?;
    let held = access.layers().await?;
    let contents = if names.is_empty() {
        held.layers.iter().map(|l| l.content.clone()).collect()
    } else {
        selection::select(&held, names)?
    };
    let mut audits: Vec<LayerAudit> = Vec::new();
    let mut failed = Vec::new();
    let audited = access.verify(&contents, stop, |audited| match audited {
        Ok(audit) => {
            if !common.json && audit.is_intact() {
                println!("intact {}{}", audit.content, size_of(&held, &audit.content));
            }
            if !audit.is_intact() {
                eprintln!("flotilla: {}", damage(&audit));
            }
            audits.push(audit);
        }
        Err((content, reason)) => {
            eprintln!("flotilla: {content} is damaged and could not be removed: {reason}");
            failed.push(content);
        }
    });
    audited.await?;
    if common.json {
        print(common, &audits, |_| Ok(()))?;
    }
    let damaged = audits.iter().filter(|audit| !audit.is_intact()).count() + failed.len();
    if damaged > 0 {
        bail!(
            "{damaged} of {} layers damaged; they are not served any more",
            contents.len()
        );
    }
    Ok(())
}

fn damage(audit: &LayerAudit) -> String {
    let mut faults = Vec::new();
    if !audit.damaged.is_empty() {
        faults.push(format!("pieces {}", audit.damaged));
    }
    faults.extend(audit.fault.clone());
    let faults = faults.join("; ");
    format!(
        "{} damaged and removed from the cache: {faults}",
        audit.content
    )
}

fn size_of(held: &CacheReport, content: &ContentId) -> String {
    let layer = held.layers.iter().find(|layer| layer.content == *content);
    layer.map_or_else(String::new, |layer| {
        format!(" ({})", BinaryBytes(layer.length))
    })
}

/// As JSON, or as `text` says it.
fn print(
    common: &CacheCommon,
    json: &impl serde::Serialize,
    text: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if common.json {
        serde_json::to_writer_pretty(&mut out, json)?;
        writeln!(out)?;
    } else {
        text(&mut out)?;
    }
    Ok(out.flush()?)
}
