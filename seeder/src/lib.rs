//! Registry and HTTP sources, cut-through ingest into a growing piece map, the supernode.
