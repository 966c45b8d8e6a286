//! Databases of older formats.

use mongodb::Database;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use rollcall_host::log::row::first_boot;

use super::{by_hour, hours_of_day, merged, whole_times};

/// What is sealed: up to which entry, and by minute.
type Sealed<'a> = Vec<(u64, &'a [u8])>;

/// Makes a database of format 2 to 14 out of one of today's.
pub(crate) async fn as_format(database: &Database, format: i64) {
    let collection = |name: &str| database.collection::<Document>(name);
    each_row(database, |state, sealed| (state.to_vec(), sealed)).await;
    if format < 13 {
        boots_in_messages(database, i64::MAX).await;
    }
    if format < 11 {
        each_row(database, |state, sealed| (whole_times(state), sealed)).await;
    }
    if format < 9 {
        each_row(database, |state, sealed| (state.to_vec(), by_hour(sealed))).await;
        days_as_hours(database).await;
        // Hours did not have the sums of their minutes.
        collection("hours").update_many(doc! {}, doc! { "$unset": { "minutes": "" } }).await.unwrap();
    }
    if format < 7 {
        // All rows stood alone.
        collection("device_rows").drop().await.unwrap();
    }
    if format < 6 {
        collection("device_hours").drop().await.unwrap();
        collection("devices").update_many(doc! {}, doc! { "$unset": { "sealed": "" } }).await.unwrap();
    }
    let absent: &[&str] =
        if format < 5 { &["late", "undecided", "one_second", "unknown"] } else { &["late", "undecided"] };
    let with_counts = [
        ("entries", "seconds"),
        ("minutes", "counts"),
        ("minutes", "seconds"),
        ("hours", "counts"),
        ("days", "counts"),
    ];
    for (name, counts) in with_counts.into_iter().filter(|_| format < 7) {
        let mut cursor = collection(name).find(doc! {}).await.unwrap();
        while cursor.advance().await.unwrap() {
            let mut document = cursor.deserialize_current().unwrap();
            if name == "entries" {
                document.remove("version");
                document.remove("writer");
                if format >= 5 {
                    document.insert("version", 5);
                }
            }
            without(absent, document.get_document_mut(counts).unwrap());
            let id = document.get("_id").unwrap().clone();
            collection(name).replace_one(doc! { "_id": id }, document).await.unwrap();
        }
    }
    if format < 4 {
        collection("devices").drop().await.unwrap();
        let older = doc! { "$unset": { "rows": "" }, "$set": { "dedupe": "the state of a checkpoint" } };
        collection("checkpoints").update_many(doc! {}, older).await.unwrap();
        let log_time = doc! { "$unset": { "log_time": "" } };
        collection("entries").update_many(doc! {}, log_time).await.unwrap();
    }
    let version = doc! { "$set": { "version": format } };
    collection("meta").update_one(doc! { "_id": "format" }, version).await.unwrap();
}

/// Each message had its boot; of so many entries that have boots.
pub(crate) async fn boots_in_messages(database: &Database, entries_max: i64) {
    let entries = database.collection::<Document>("entries");
    let with_boots = entries.find(doc! { "boots": { "$exists": true } }).sort(doc! { "_id": 1 });
    let mut cursor = with_boots.limit(entries_max).await.unwrap();
    while cursor.advance().await.unwrap() {
        let mut entry = cursor.deserialize_current().unwrap();
        let boots = entry.remove("boots").unwrap();
        let messages = entry.get_array_mut("messages").unwrap();
        let boots = boots.as_str().unwrap().as_bytes().chunks(16);
        for (message, boot) in messages.iter_mut().zip(boots) {
            let message = message.as_document_mut().unwrap();
            if message.contains_key("seq") {
                message.insert("boot", str::from_utf8(boot).unwrap());
            }
        }
        let id = entry.get("_id").unwrap().clone();
        entries.replace_one(doc! { "_id": id }, entry).await.unwrap();
    }
}

/// Devices had no windows of a day.
async fn days_as_hours(database: &Database) {
    let windows = database.collection::<Document>("device_hours");
    let mut cursor = windows.find(doc! { "_id": { "$regex": "/8[0-9a-f]{7}$" } }).await.unwrap();
    while cursor.advance().await.unwrap() {
        let day = cursor.deserialize_current().unwrap();
        let (device, number) = day.get_str("_id").unwrap().rsplit_once('/').unwrap();
        let below = postcard::to_allocvec(&day.get_i64("below").unwrap().cast_unsigned()).unwrap();
        let bytes = [&below, day.get_binary_generic("minutes").unwrap().as_slice()].concat();
        for (hour, below, minutes) in hours_of_day(u32::from_str_radix(number, 16).unwrap(), &bytes) {
            let id = doc! { "_id": format!("{device}/{hour:08x}") };
            let held = windows.find_one(id.clone()).await.unwrap().map(|held| {
                let below = held.get_i64("below").unwrap().cast_unsigned();
                let below = postcard::to_allocvec(&below).unwrap();
                [&below, held.get_binary_generic("minutes").unwrap().as_slice()].concat()
            });
            let merged = merged(held.as_deref(), below, &minutes);
            let (below, minutes): (u64, _) = postcard::take_from_bytes(&merged).unwrap();
            let set = doc! { "below": below.cast_signed(), "minutes": binary(minutes.to_vec()) };
            windows.update_one(id, doc! { "$set": set }).upsert(true).await.unwrap();
        }
        windows.delete_one(doc! { "_id": day.get_str("_id").unwrap() }).await.unwrap();
    }
}

/// Each row, in a page or alone, with another state and other counts that are sealed, and pages by rows.
async fn each_row(
    database: &Database,
    change: impl for<'a> Fn(&'a [u8], Sealed<'a>) -> (Vec<u8>, Sealed<'a>),
) {
    let pages = database.collection::<Document>("device_rows");
    let mut cursor = pages.find(doc! {}).await.unwrap();
    while cursor.advance().await.unwrap() {
        let page = cursor.deserialize_current().unwrap();
        let rows = page.get_binary_generic("rows").unwrap();
        let rows = if page.contains_key("ids") {
            by_rows(page.get_binary_generic("ids").unwrap(), rows)
        } else {
            postcard::from_bytes(rows).unwrap()
        };
        let rows = rows.iter().map(|(device, upto, state, sealed)| {
            let (state, sealed) = change(state, sealed.clone());
            (device, upto, state, sealed)
        });
        let rows: Vec<_> = rows.collect();
        let set = doc! { "rows": binary(postcard::to_allocvec(&rows).unwrap()) };
        let id = doc! { "_id": page.get_str("_id").unwrap() };
        pages.update_one(id, doc! { "$set": set, "$unset": { "ids": "" } }).await.unwrap();
    }
    let alone = database.collection::<Document>("devices");
    let mut cursor = alone.find(doc! {}).await.unwrap();
    while cursor.advance().await.unwrap() {
        let row = cursor.deserialize_current().unwrap();
        let sealed = row.get_binary_generic("sealed").map_or(&[0][..], Vec::as_slice);
        let sealed: Sealed<'_> = postcard::from_bytes(sealed).unwrap();
        let (state, sealed) = change(row.get_binary_generic("state").unwrap(), sealed);
        let mut set = doc! { "state": binary(state) };
        if row.contains_key("sealed") {
            set.insert("sealed", binary(postcard::to_allocvec(&sealed).unwrap()));
        }
        let id = doc! { "_id": row.get_str("_id").unwrap() };
        alone.update_one(id, doc! { "$set": set }).await.unwrap();
    }
}

/// Each row's device, how far it is, its state, and what is sealed.
type Rows<'a> = Vec<(Vec<u8>, u64, Vec<u8>, Sealed<'a>)>;

/// The rows of a page that has their ids apart, and the rest by columns.
fn by_rows<'a>(ids: &[u8], rows: &'a [u8]) -> Rows<'a> {
    let ids: Vec<(usize, &[u8], &[u8])> = postcard::from_bytes(ids).unwrap();
    let ((states, sealed), _): ((Columns<'_>, Vec<Sealed<'_>>), _) = postcard::take_from_bytes(rows).unwrap();
    let mut device = Vec::new();
    let mut found = Vec::new();
    for (((shared, rest, boot), packed), sealed) in ids.into_iter().zip(strings(states)).zip(sealed) {
        device.truncate(shared);
        device.extend(rest);
        let (upto, head) = postcard::take_from_bytes(&packed).unwrap();
        let mut state = head.to_vec();
        if !boot.is_empty() {
            let at = first_boot(head).unwrap();
            state.splice(at..at, boot.iter().copied());
        }
        found.push((device.clone(), upto, state, sealed));
    }
    found
}

/// The lengths of strings, and their bytes.
type Columns<'a> = (Vec<usize>, &'a [u8]);

fn strings((lengths, mut bytes): Columns<'_>) -> Vec<Vec<u8>> {
    let mut strings = vec![Vec::new(); lengths.len()];
    for column in 0..32 {
        for (string, length) in strings.iter_mut().zip(&lengths) {
            if column < *length {
                string.push(*bytes.split_off_first().unwrap());
            }
        }
    }
    for (string, length) in strings.iter_mut().zip(&lengths) {
        string.extend(bytes.split_off(..length - string.len()).unwrap());
    }
    assert!(bytes.is_empty());
    strings
}

fn binary(bytes: Vec<u8>) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes }
}

/// Counts, by second or not, that do not tell these.
fn without(absent: &[&str], counts: &mut Document) {
    for name in absent {
        counts.remove(name);
    }
    for (_, second) in counts.iter_mut() {
        if let Some(second) = second.as_document_mut() {
            without(absent, second);
        }
    }
}
