//! How an embedded store stands, for `rollcall doctor`. It makes none.

use std::path::Path;

use super::RedbStore;
use crate::ops::check::Check;

/// Looks at the store in `directory`.
pub fn checks(directory: &Path) -> Vec<Check> {
    const NAME: &str = "redb";
    let shown = directory.display();
    // Opening would make one.
    if !RedbStore::is_in(directory) {
        return vec![Check::pass(NAME, format!("no store in {shown} yet; it is made at the first start"))];
    }
    vec![match RedbStore::open(directory) {
        Ok(_) => Check::pass(NAME, format!("{shown} is readable, and nobody uses it")),
        Err(error) => Check::fail(NAME, error.to_string(), "see README.md"),
    }]
}
