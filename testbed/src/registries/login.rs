//! A login at a registry.

/// A user name and its password.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// User name.
    pub user: &'static str,
    /// Password.
    pub password: &'static str,
}
