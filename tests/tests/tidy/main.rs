//! The rules of the house, as a test: what a reader relies on and no compiler checks.
//!
//! Each finding says where it is, what is wrong and how to mend it. The rules look at the files that git
//! tracks and at new ones that it does not ignore.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod arrows;
mod documents;
mod finding;
mod modules;
mod rings;
mod sizes;
mod source_text;
mod timeouts;
mod tokens;
mod tree;
mod words;

use std::sync::LazyLock;

use self::finding::assert_none;
use self::tree::Tree;

static TREE: LazyLock<Tree> = LazyLock::new(Tree::of_this_repository);

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    assert_none(&sizes::long_files(&TREE));
}

#[test]
fn no_crate_is_a_heap_of_flat_files() {
    assert_none(&sizes::flat_folders(&TREE));
}

#[test]
fn no_files_use_each_other_in_a_ring() {
    assert_none(&rings::rings(&TREE, rings::ALLOWED));
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    assert_none(&arrows::arrows(&TREE));
}

#[test]
fn prose_and_names_use_the_plain_words() {
    assert_none(&words::words(&TREE));
}

#[test]
fn constants_are_named_as_everywhere() {
    assert_none(&words::constants(&TREE));
}

#[test]
fn nothing_names_a_machine_of_its_authors() {
    assert_none(&words::machines(&TREE));
}

#[test]
fn each_source_file_is_part_of_a_program() {
    assert_none(&modules::dead_files(&TREE));
}

#[test]
fn each_document_is_found_from_the_readme() {
    assert_none(&documents::lost(&TREE));
}

#[test]
fn the_timeouts_are_as_they_are_written_and_in_order() {
    assert_none(&timeouts::timeouts(&TREE));
}

#[test]
fn the_readme_is_short() {
    assert_none(&documents::long_readme(&TREE));
}

#[test]
fn git_tracks_nothing_that_it_should_ignore() {
    assert_none(&tree::tracked_although_ignored());
}
