//! The paths of the cluster API, as the supernode routes them. What is in braces is a parameter.

/// `GET`: who the supernode is.
pub const HELLO: &str = "/v1/hello";
/// `GET`: whether the supernode runs.
pub const HEALTH: &str = "/v1/health";
/// `POST`: opens a swarm.
pub const SWARMS: &str = "/v1/swarms";
/// `GET`: the events of a swarm.
pub const SWARM_EVENTS: &str = "/v1/swarms/{swarm}/events";
/// `GET`: small content; `PUT`: content that was offered.
pub const SWARM_CONTENT: &str = "/v1/swarms/{swarm}/content";
/// `GET`: the torrent of a swarm.
pub const SWARM_TORRENT: &str = "/v1/swarms/{swarm}/torrent";
/// `POST`: registers a torrent.
pub const TORRENTS: &str = "/v1/torrents";
/// `DELETE`: ends the registration of a torrent.
pub const TORRENT: &str = "/v1/torrents/{info_hash}";
/// `GET`: the latest preheat jobs; `POST`: a new one.
pub const PREHEAT_JOBS: &str = "/v1/preheat-jobs";
/// `GET` and `DELETE`: one preheat job.
pub const PREHEAT_JOB: &str = "/v1/preheat-jobs/{id}";
/// `GET`: what becomes of each layer of a job.
pub const PREHEAT_JOB_EVENTS: &str = "/v1/preheat-jobs/{id}/events";
/// `POST`: takes the orders of a node.
pub const ORDERS: &str = "/v1/orders";
/// `POST`: opens the swarm of an ordered layer.
pub const ORDERED_SWARMS: &str = "/v1/orders/{job}/swarms";
/// `POST`: what has become of an ordered layer.
pub const ORDER_OUTCOMES: &str = "/v1/orders/{job}/outcomes";

/// `path` with its one parameter filled in.
#[cfg(feature = "client")]
pub(crate) fn with(path: &str, parameter: impl std::fmt::Display) -> String {
    match path.split_once('{') {
        Some((front, rest)) => {
            let rest = rest.split_once('}').map_or("", |(_, rest)| rest);
            format!("{front}{parameter}{rest}")
        }
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_takes_the_place_of_its_name() {
        assert_eq!(with(SWARM_EVENTS, "ab"), "/v1/swarms/ab/events");
        assert_eq!(with(PREHEAT_JOB, 7), "/v1/preheat-jobs/7");
        assert_eq!(with(HELLO, 7), HELLO);
    }
}
