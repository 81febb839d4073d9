//! `flotilla status`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use flotilla_cluster::statistics_client::{self, List, Swarm, Totals, Traffic};
use indicatif::{BinaryBytes, HumanDuration};
use url::Url;

use crate::config::ConfigErrors;
use crate::config::join_token;
use crate::config::of_host;
use crate::config::secrets::SecretFile;
use crate::sanitize::Sanitized;

const STATUS_EXAMPLES: &str = "\
Examples:
  flotilla status
  flotilla status --supernode http://10.0.0.1:8001 --stats-token-file stats-token

`flotilla top` shows the same live, with each swarm and node. So does the supernode's page: open its \
address in a browser.";

#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArgs {
    /// Supernodes, separated by commas [default: the configuration's]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) supernode: Vec<String>,
    /// File with the statistics token [default: none]
    ///
    /// The environment variable FLOTILLA_STATS_TOKEN can hold the token itself. Without a statistics
    /// token the join token is sent.
    #[arg(long, value_name = "FILE")]
    pub(crate) stats_token_file: Option<PathBuf>,
}

/// Swarms that are listed: those that move most.
const SWARMS: u32 = 20;

/// Prints what each supernode is doing.
pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<()> {
    let (supernodes, token) = asked(&args.supernode, args.stats_token_file.as_deref())?;
    for (number, supernode) in supernodes.iter().enumerate() {
        let asked = statistics_client::statistics(supernode, token.as_deref(), SWARMS);
        let (totals, swarms) = asked.await?;
        let mut out = io::stdout().lock();
        if number > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{supernode}")?;
        write(&mut out, &totals, &swarms)?;
    }
    Ok(())
}

/// Which supernodes to ask, and the token to send.
pub(crate) fn asked(
    supernodes: &[String],
    stats_token_file: Option<&Path>,
) -> anyhow::Result<(Vec<Url>, Option<String>)> {
    let mut errors = Vec::new();
    let known = of_host::supernodes(supernodes, &mut errors);
    if known.urls.is_empty() && errors.is_empty() {
        errors.push("no supernode: give --supernode http://ADDR:8001".to_owned());
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors).into());
    }
    let token = match join_token::for_stats(&SecretFile::of_flag(stats_token_file))? {
        Some(token) => Some(token),
        None => {
            let secret = SecretFile {
                flag: None,
                configured: known.join_token_file,
            };
            join_token::given(&secret)?
        }
    };
    Ok((known.urls, token))
}

fn write(out: &mut dyn Write, totals: &Totals, swarms: &List<Swarm>) -> io::Result<()> {
    let Totals {
        nodes,
        silent_nodes,
        leechers,
        layers,
        ..
    } = totals;
    let uptime = HumanDuration(Duration::from_secs(totals.uptime_seconds));
    writeln!(
        out,
        "version {}, running for {uptime}",
        Sanitized(&totals.version)
    )?;
    writeln!(
        out,
        "nodes: {nodes} ({silent_nodes} silent), downloads under way: {leechers}, layers: {layers}"
    )?;
    for (name, traffic) in [
        ("last hour", totals.last_hour),
        ("last day", totals.last_day),
        ("since start", totals.since_start),
    ] {
        writeln!(out, "{name}: {}", traffic_line(traffic))?;
    }
    if swarms.items.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "swarms ({} of {}, by rate):",
        swarms.items.len(),
        swarms.total
    )?;
    for swarm in &swarms.items {
        writeln!(out, "  {}", line(swarm))?;
    }
    Ok(())
}

fn traffic_line(traffic: Traffic) -> String {
    format!(
        "{} from registries, {} from supernodes, {} from nodes; {} saved",
        BinaryBytes(traffic.from_registry_bytes),
        BinaryBytes(traffic.from_supernode_bytes),
        BinaryBytes(traffic.from_peers_bytes),
        BinaryBytes(traffic.saved_bytes)
    )
}

fn line(swarm: &Swarm) -> String {
    let digits = swarm.content.rfind(':').map_or(0, |colon| colon + 1);
    let digest: String = swarm.content.chars().skip(digits).take(12).collect();
    let left = swarm.time_left_seconds.map(Duration::from_secs);
    let left = left.map_or(String::new(), |left| {
        format!(", {} left", HumanDuration(left))
    });
    format!(
        "{} {}  {}, {:.1} %, {}/s, {} complete, {} downloading{left}",
        Sanitized(&swarm.name),
        Sanitized(&digest),
        BinaryBytes(swarm.size_bytes),
        swarm.progress * 100.0,
        BinaryBytes(swarm.download_bytes_per_second),
        swarm.seeders,
        swarm.leechers,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_control_the_terminal_and_units_are_readable() {
        let swarm = Swarm {
            name: "reg.test/a\u{1b}[31m".to_owned(),
            content: format!("sha256:{}", "ab".repeat(32)),
            size_bytes: 3 << 20,
            seeders: 2,
            leechers: 1,
            progress: 0.5,
            download_bytes_per_second: 1 << 20,
            time_left_seconds: Some(90),
            ..Swarm::default()
        };
        assert_eq!(
            line(&swarm),
            "reg.test/a\\u{1b}[31m abababababab  3.00 MiB, 50.0 %, 1.00 MiB/s, 2 complete, 1 downloading, 2 minutes left"
        );
    }
}
