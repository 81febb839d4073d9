//! Preheats and orders, as asked of one supernode.

use futures_util::stream::BoxStream;

use super::{CALL_TIMEOUT, MAX_REPLY_BYTES, OPEN_TIMEOUT, Supernode, SupernodeError, events_of};
use crate::messages::orders::{OpenOrdered, OrderEvent, OrderOutcome, TakeOrders};
use crate::messages::paths;
use crate::messages::preheats::{JobStatus, PreheatEvent, PreheatRequest};
use crate::messages::swarms::OpenResponse;

impl Supernode {
    /// Starts a preheat without waiting for its end.
    pub async fn submit_preheat(
        &self,
        request: &PreheatRequest,
    ) -> Result<JobStatus, SupernodeError> {
        let post = self.member(self.0.http.post(self.endpoint(paths::PREHEAT_JOBS)));
        self.job_status(post.json(request)).await
    }

    /// What becomes of each layer of a preheat, from its beginning.
    pub async fn preheat_events(
        &self,
        id: u64,
    ) -> Result<BoxStream<'static, Result<PreheatEvent, SupernodeError>>, SupernodeError> {
        let get = self.get(&paths::with(paths::PREHEAT_JOB_EVENTS, id));
        let sent = tokio::time::timeout(CALL_TIMEOUT, self.call(get)).await;
        let reply = sent.map_err(|_| self.silent())??;
        Ok(Box::pin(events_of(self.clone(), reply)))
    }

    async fn job_status(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<JobStatus, SupernodeError> {
        let reply = self.call(request.timeout(OPEN_TIMEOUT)).await?;
        let bytes = self.read_bounded(reply, MAX_REPLY_BYTES).await?;
        serde_json::from_slice(&bytes).map_err(|e| self.unexpected(e.to_string()))
    }

    /// What this node is to fetch, for as long as it listens.
    pub async fn orders(
        &self,
        node: &TakeOrders,
    ) -> Result<BoxStream<'static, Result<OrderEvent, SupernodeError>>, SupernodeError> {
        let post = self.member(self.0.http.post(self.endpoint(paths::ORDERS)));
        let sent = tokio::time::timeout(CALL_TIMEOUT, self.call(post.json(node))).await;
        let reply = sent.map_err(|_| self.silent())??;
        Ok(Box::pin(events_of(self.clone(), reply)))
    }

    /// Asks for the swarm of an ordered layer.
    pub async fn open_ordered(
        &self,
        job: u64,
        asked: &OpenOrdered,
    ) -> Result<OpenResponse, SupernodeError> {
        let url = self.endpoint(&paths::with(paths::ORDERED_SWARMS, job));
        let post = self.member(self.0.http.post(url)).timeout(OPEN_TIMEOUT);
        let reply = self.call(post.json(asked)).await?;
        let bytes = self.read_bounded(reply, MAX_REPLY_BYTES).await?;
        serde_json::from_slice(&bytes).map_err(|e| self.unexpected(e.to_string()))
    }

    /// Tells what has become of an ordered layer.
    pub async fn tell_outcome(
        &self,
        job: u64,
        outcome: &OrderOutcome,
    ) -> Result<(), SupernodeError> {
        let url = self.endpoint(&paths::with(paths::ORDER_OUTCOMES, job));
        let post = self.member(self.0.http.post(url)).timeout(CALL_TIMEOUT);
        self.call(post.json(outcome)).await.map(drop)
    }
}
