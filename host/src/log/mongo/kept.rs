//! What a repair of a database keeps that has removed messages: it could not be made again from those that are left.
//!
//! These are the windows of days of which messages were removed, which say themselves what they hold; the rows of devices
//! that can be read; and their windows. Where the seconds of such a day add up to what its hours or itself say, the others are
//! set right by them, and an hour that was wrong has no `minutes` any more: they are read where they stand. It may be cut
//! off and begun again.

use std::collections::BTreeMap;

use mongodb::bson::{Document, doc};
use rollcall_wire::Slot;

use super::stored_counts::Named;
use super::windows::{StoredWindow, collection};
use super::{MongoStore, in_time, rows, starts, unavailable, view};
use crate::log::plan::Upto;
use crate::log::rollup::Resolution;
use crate::log::start::Starts;
use crate::log::{StoreError, WindowRow};
use crate::model::{self, BySecond, Counts};

const DAY_S: u64 = Resolution::Day.seconds();
const HOUR_S: u64 = Resolution::Hour.seconds();

/// Which windows are kept.
pub(super) struct Kept {
    starts: Starts,
    /// Each finds some of them.
    filters: Vec<Document>,
    /// The first seconds of the days that have windows.
    days: Vec<u64>,
}

impl Kept {
    /// Looks for them, and changes nothing.
    pub(super) async fn find(store: &MongoStore) -> Result<Self, StoreError> {
        let mut session = store.session().await?;
        let starts = in_time(starts::all(store, &mut session)).await?;
        let horizon = starts.iter().map(|start| start.days().0).max().unwrap_or_default();
        let mut filters = vec![doc! { "_id": { "$lt": horizon.cast_signed() } }];
        filters.extend(starts.iter().flat_map(|start| start.days().1).map(|day| within(*day, DAY_S)));
        let fields = doc! { "_id": 1 };
        let filter = doc! { "$or": &filters };
        let days: Vec<StoredWindow> =
            view::find(store, &mut session, collection(Resolution::Day), filter, fields).await?;
        if days.is_empty() {
            let what = "the windows of days are gone, and cannot be made anew, for messages were removed";
            return Err(StoreError::Corrupt(what.to_owned()));
        }
        let days = days.iter().map(|day| day.range(Resolution::Day).start).collect();
        Ok(Self { starts, filters, days })
    }

    /// Removes what is made from the log, and of nothing else.
    pub(super) async fn keep(self, store: &MongoStore) -> Result<(), StoreError> {
        let Self { starts, filters, days } = self;
        for name in [Resolution::Minute, Resolution::Hour, Resolution::Day].map(collection) {
            let windows = store.database().collection::<Document>(name);
            windows.delete_many(doc! { "$nor": &filters }).await.map_err(unavailable)?;
        }
        for day in days {
            match set_right(store, day).await {
                // It stays as it is: doctor names it, and who asks for it hears of it.
                Ok(()) | Err(StoreError::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
        }
        rows::salvage(store).await?;
        in_time(async {
            let checkpoints = store.database().collection::<Document>("checkpoints");
            checkpoints.delete_many(doc! {}).await.map_err(unavailable)?;
            let first = |slot: Slot| starts[slot.index()].first.cast_signed();
            let begin =
                |slot: Slot| doc! { "_id": slot.index() as i32, "next": first(slot), "rows": first(slot) };
            checkpoints.insert_many(Slot::all().map(begin)).await.map_err(unavailable)?;
            super::open::prepare(&store.database()).await.map_err(unavailable)
        })
        .await
    }
}

fn within(start: u64, seconds: u64) -> Document {
    doc! { "_id": { "$gte": start.cast_signed(), "$lt": start.saturating_add(seconds).cast_signed() } }
}

/// Sets the sums of a day right by its seconds, if these are what one of the others says, and if all of them hold the same
/// entries: a chunk may have been added to some of them only.
async fn set_right(store: &MongoStore, day: u64) -> Result<(), StoreError> {
    let minutes = windows(store, Resolution::Minute, day).await?;
    let hours = windows(store, Resolution::Hour, day).await?;
    let days = windows(store, Resolution::Day, day).await?;
    let [of_day] = &days[..] else { return Ok(()) };
    let seconds = |minute: &WindowRow| model::sum(&minute.parts, 0..u64::MAX);
    let by_minute: BySecond = minutes.iter().map(|minute| (minute.start, seconds(minute))).collect();
    let mut sums = BTreeMap::<u64, (Counts, Upto)>::new();
    let mut total = (Counts::default(), [0; Slot::COUNT]);
    for minute in &minutes {
        let sum = sums.entry(minute.start - minute.start % HOUR_S).or_default();
        sum.0 += seconds(minute);
        further(&mut sum.1, &minute.upto);
        total.0 += seconds(minute);
        further(&mut total.1, &minute.upto);
    }
    let hold_the_same = total.1 == of_day.upto
        && hours.len() == sums.len()
        && hours.iter().all(|hour| sums.get(&hour.start).is_some_and(|(_, upto)| *upto == hour.upto));
    let mut by_hours = Counts::default();
    hours.iter().for_each(|hour| by_hours += hour.counts);
    if !hold_the_same || total.0 != of_day.counts && total.0 != by_hours {
        return Ok(());
    }
    let wrong = minutes.iter().filter(|minute| minute.counts != seconds(minute));
    let wrong = wrong.map(|minute| set(minute.start, &seconds(minute)));
    store.update_all(collection(Resolution::Minute), wrong.collect()).await?;
    let right = |hour: &WindowRow| sums.get(&hour.start).map(|(right, _)| *right).unwrap_or_default();
    let is_right = |hour: &WindowRow| {
        let minutes = by_minute.range(hour.start..hour.start.saturating_add(HOUR_S));
        hour.counts == right(hour) && (hour.parts.is_empty() || hour.parts.iter().eq(minutes))
    };
    let wrong = hours.iter().filter(|hour| !is_right(hour));
    let wrong = wrong.map(|hour| set(hour.start, &right(hour)));
    store.update_all(collection(Resolution::Hour), wrong.collect()).await?;
    let wrong = Some(of_day).filter(|day| day.counts != total.0);
    let wrong = wrong.map(|day| set(day.start, &total.0));
    store.update_all(collection(Resolution::Day), wrong.into_iter().collect()).await?;
    Ok(())
}

async fn windows(store: &MongoStore, resolution: Resolution, day: u64) -> Result<Vec<WindowRow>, StoreError> {
    let mut session = store.session().await?;
    let stored: Vec<StoredWindow> =
        view::find(store, &mut session, collection(resolution), within(day, DAY_S), doc! {}).await?;
    stored.iter().map(|window| window.row(resolution)).collect()
}

fn further(upto: &mut Upto, other: &Upto) {
    upto.iter_mut().zip(other).for_each(|(upto, other)| *upto = (*upto).max(*other));
}

fn set(start: u64, counts: &Counts) -> Document {
    let counts = mongodb::bson::to_bson(&Named::new(*counts)).expect("numbers by name always serialise");
    let update = doc! { "$set": { "counts": counts }, "$unset": { "minutes": "" } };
    doc! { "q": { "_id": start.cast_signed() }, "u": update }
}
