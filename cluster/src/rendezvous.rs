//! Which supernode serves a layer: highest random weight (rendezvous) hashing.
//!
//! All nodes with the same list agree without talking to each other, and a supernode that
//! leaves moves only its own layers.

use sha2::{Digest as _, Sha256};

/// The indices of `names`, the responsible one first, its successors after it.
pub fn ranked<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut ranked: Vec<([u8; 32], usize)> = names
        .enumerate()
        .map(|(index, name)| {
            let mut hash = Sha256::new();
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(key.as_bytes());
            (hash.finalize().into(), index)
        })
        .collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::ranked;

    const NAMES: [&str; 3] = ["http://a:8001/", "http://b:8001/", "http://c:8001/"];

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let reversed: Vec<&str> = NAMES.iter().rev().copied().collect();
        for layer in 0..100 {
            let key = format!("sha256:{layer}");
            let first = ranked(&key, NAMES.into_iter())[0];
            let other = ranked(&key, reversed.iter().copied())[0];
            assert_eq!(NAMES[first], reversed[other]);
        }
    }

    #[test]
    fn a_supernode_that_leaves_moves_only_its_own_layers() {
        for layer in 0..100 {
            let key = format!("sha256:{layer}");
            let all = ranked(&key, NAMES.into_iter());
            let without_last = ranked(&key, NAMES[..2].iter().copied());
            let expected: Vec<usize> = all.into_iter().filter(|index| *index != 2).collect();
            assert_eq!(without_last, expected);
        }
    }

    #[test]
    fn layers_spread_over_the_supernodes() {
        let mut counts = [0; 3];
        for layer in 0..3000 {
            counts[ranked(&format!("sha256:{layer}"), NAMES.into_iter())[0]] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
    }
}
