//! Polls the supernode that is shown, one request at a time.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use flotilla_cluster::SupernodeError;
use flotilla_cluster::statistics_client::{StatisticsClient, Totals};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::event::{Answer, Event, Rows};
use super::listing::{Query, View};

/// Keys that follow each other make one question.
const KEY_PAUSE: Duration = Duration::from_millis(100);

/// Asks what `asked` says, at once when that changes and every `interval`, until the receiver is gone.
pub(super) async fn ask(
    clients: Vec<StatisticsClient>,
    mut asked: watch::Receiver<Query>,
    interval: Duration,
    answers: SyncSender<Event>,
) {
    loop {
        let query = asked.borrow_and_update().clone();
        let began = Instant::now();
        let answering = async {
            if let Some(client) = clients.get(query.supernode) {
                let result = question(client, &query).await;
                let result = result.map_err(|error| error.to_string());
                // When the drawing does not keep up, the next answer will do.
                let _ = answers.try_send(Event::Answer(Box::new(Answer { query, result })));
            }
            sleep_until(began + interval).await;
        };
        tokio::select! {
            () = answering => {}
            changed = asked.changed() => {
                if changed.is_err() {
                    return;
                }
                sleep(KEY_PAUSE).await;
            }
        }
    }
}

async fn question(
    client: &StatisticsClient,
    query: &Query,
) -> Result<(Totals, Rows), SupernodeError> {
    let totals = client.totals().await?;
    let rows = match query.view {
        View::Swarms => Rows::Swarms(client.swarms(&query.parameters()).await?),
        View::Nodes => Rows::Nodes(client.nodes(&query.parameters()).await?),
    };
    Ok((totals, rows))
}
