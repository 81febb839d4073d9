//! What a torrent is: digests, piece geometry, piece maps, metainfo, bitfields, wire messages. No IO.
