//! `flotilla cache`: what a node or supernode holds.

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

use self::cache_access::Holder;
use crate::config::of_host;
use crate::config::units::Time;
use crate::role::Role;

const HELP: &str = "\
Examples:
  flotilla cache ls
  flotilla cache rm --older-than 30d --role supernode
  flotilla cache verify --data-dir /srv/flotilla
  flotilla cache pin 4f53cda18c2b

A layer is named by the beginning of its digest, as ls shows it, or by its URL. A running proxy or
supernode is asked over DATA-DIR/control.sock, which is for its own user and root; when none runs,
the files are worked on directly.

Exit codes:
  0  done, everything is intact
  1  a layer was not removed or pinned, or was damaged, or the command failed; stderr says which";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
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
    /// Remove layers, but neither pinned ones nor those in use
    Rm {
        #[command(flatten)]
        which: Unwanted,
        #[command(flatten)]
        common: CacheCommon,
    },
    /// Compare layers with their hashes; damaged ones are removed from the cache, also pinned
    /// ones and those in use
    Verify {
        /// Which [default: all]
        content: Vec<String>,
        #[command(flatten)]
        common: CacheCommon,
    },
    /// Keep layers from being evicted and removed, also after a restart
    Pin {
        /// Which
        #[arg(required = true)]
        content: Vec<String>,
        #[command(flatten)]
        common: CacheCommon,
    },
    /// Give pinned layers free
    Unpin {
        /// Which
        #[arg(required = true)]
        content: Vec<String>,
        #[command(flatten)]
        common: CacheCommon,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Unwanted {
    /// These
    content: Vec<String>,
    /// All that are neither pinned nor in use
    #[arg(long)]
    all: bool,
    /// Those that nobody has used for so long, e.g. 12h or 30d
    #[arg(long, value_name = "TIME")]
    older_than: Option<Time>,
}

#[derive(Debug, Args)]
struct CacheCommon {
    /// Where the layers are [default: as for the role, /var/lib/flotilla/proxy or
    /// /var/lib/flotilla/supernode]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Whose layers
    #[arg(long, value_name = "ROLE", default_value = "proxy")]
    role: Role,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
pub(crate) async fn run(args: CacheArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    match args.command {
        CacheCommand::Ls { common } => {
            let held = holder(&common).await?.layers().await?;
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

async fn holder(common: &CacheCommon) -> anyhow::Result<Holder> {
    let data_dir = match &common.data_dir {
        Some(given) => given.clone(),
        None => of_host::data_dir_of(common.role)?,
    };
    Holder::of(&data_dir).await
}

async fn remove(which: Unwanted, common: &CacheCommon) -> anyhow::Result<()> {
    let holder = holder(common).await?;
    let held = holder.layers().await?;
    let unwanted = if let Some(Time(age)) = which.older_than {
        unused_for(&held, age)
    } else if which.all {
        held.layers.iter().map(|l| l.content.clone()).collect()
    } else {
        selection::select(&held, &which.content)?
    };
    let outcomes = holder.remove(&unwanted).await?;
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
    let holder = holder(common).await?;
    let held = holder.layers().await?;
    let contents = selection::select(&held, names)?;
    let outcomes = holder.set_pinned(&contents, pinned).await?;
    let what = if pinned { "pinned" } else { "given free" };
    report(common, &held, &contents, &outcomes, what)
}

/// Says what became of the layers; an error unless all are `done`.
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
            Outcome::Absent => "it is not here any more",
            Outcome::Failed(reason) => reason,
            _ => "for a reason that this version does not know",
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
    let holder = holder(common).await?;
    let held = holder.layers().await?;
    let contents = if names.is_empty() {
        held.layers.iter().map(|l| l.content.clone()).collect()
    } else {
        selection::select(&held, names)?
    };
    let mut audits: Vec<LayerAudit> = Vec::new();
    let mut failed = Vec::new();
    let audited = holder.verify(&contents, stop, |audited| match audited {
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
            "{damaged} of {} layers damaged, and not given to anybody any more",
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
        "{} is damaged, removed from the cache: {faults}",
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
