//! `flotilla`: delivers container images and large files to many machines at once.
fn main() {}
