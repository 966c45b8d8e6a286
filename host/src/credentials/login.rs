//! A user name and a password that is known as it is: the fleet's, or ours at a broker. The password shows nowhere.

use subtle::ConstantTimeEq;

/// Who a client says it is: what ours must show, or what we show to a broker.
#[derive(Clone)]
pub struct Credentials {
    /// MQTT user name.
    pub user: String,
    /// MQTT password; never logged.
    pub password: String,
}

impl Credentials {
    /// Are these the same? It takes as long whatever is wrong.
    pub(crate) fn admit(&self, user: Option<&[u8]>, password: Option<&[u8]>) -> bool {
        let same = |ours: &str, theirs: Option<&[u8]>| ours.as_bytes().ct_eq(theirs.unwrap_or_default());
        (same(&self.user, user) & same(&self.password, password)).into()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}
