//! Announce, scrape, peer hand-out, swarm membership and statistics.
