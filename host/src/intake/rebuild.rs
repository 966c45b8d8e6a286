//! Windows and rows made anew from the log, for a store that nobody else uses.

use super::ingest::Ingest;
use crate::log::{Rebuild, RebuildError};

/// Makes them, and says in the log how far it is. It may be cut off and begun again.
///
/// # Errors
/// [`RebuildError`]
pub async fn rebuild(rebuild: Rebuild) -> Result<(), RebuildError> {
    Ingest::open(rebuild.begin().await?).await?.write_all_rows().await?;
    rebuild.end().await
}
