//! The swarm engine: sans-IO core, piece store, peer connections, supernode client, get.
