//! What the command line and the environment give.

use std::ffi::OsString;
use std::marker::PhantomData;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches, Id};

use super::section::Section;

/// The options of a section that flags or the environment give. Defaults are not among them: the
/// file comes in between.
#[derive(Clone)]
pub(crate) struct Given<S> {
    options: Vec<GivenOption>,
    section: PhantomData<fn() -> S>,
}

/// One option.
#[derive(Clone)]
pub(crate) struct GivenOption {
    pub(crate) key: String,
    /// Otherwise the environment gives it.
    pub(crate) by_flag: bool,
    pub(crate) values: Vec<OsString>,
}

impl<S> Default for Given<S> {
    fn default() -> Self {
        Self {
            options: Vec::new(),
            section: PhantomData,
        }
    }
}

/// Without the values, which may hold passwords.
impl<S> std::fmt::Debug for Given<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = self.options.iter().map(|option| &option.key);
        f.debug_set().entries(keys).finish()
    }
}

impl<S> Given<S> {
    /// What is given for `key`.
    pub(crate) fn option(&self, key: &str) -> Option<&GivenOption> {
        self.options.iter().find(|option| option.key == key)
    }
}

impl<S: Section> FromArgMatches for Given<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let section = S::augment_args(Command::new("flotilla"));
        let options = section.get_arguments().filter_map(|arg| {
            let id = arg.get_id().as_str();
            let by_flag = match matches.value_source(id)? {
                ValueSource::CommandLine => true,
                ValueSource::EnvVariable => false,
                _ => return None,
            };
            let values = matches.get_raw(id)?.map(ToOwned::to_owned).collect();
            Some(GivenOption {
                key: id.to_owned(),
                by_flag,
                values,
            })
        });
        Ok(Self {
            options: options.collect(),
            section: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<S: Section> Args for Given<S> {
    fn group_id() -> Option<Id> {
        S::group_id()
    }

    fn augment_args(command: Command) -> Command {
        S::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        S::augment_args_for_update(command)
    }
}
