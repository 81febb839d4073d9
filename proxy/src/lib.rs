//! The container engines' proxy: pass-through, mirror mode, layers from the swarm, fallback to the registry.
