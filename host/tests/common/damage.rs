//! What may happen to that which is made from a log.

use std::path::Path;

use redb::{Key, ReadableTable, TableDefinition, WriteTransaction};

use super::older;

/// One of the ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Something else stands there.
    Changed,
    /// One row or document is gone.
    OneGone,
    /// All of them are.
    AllGone,
    /// The table or collection is.
    TableGone,
}

/// Damages a table of a store that nobody has open.
pub(crate) fn redb(random: &mut fastrand::Rng, directory: &Path, name: &str, damage: Damage) {
    older::change(directory, |transaction| match name {
        "progress" | "starts" => table(random, transaction, TableDefinition::<u8, &[u8]>::new(name), damage),
        "devices" | "closed_boots" => {
            table(random, transaction, TableDefinition::<(u8, &str), &[u8]>::new(name), damage);
        }
        "device_hours" => {
            table(random, transaction, TableDefinition::<(u8, &str, u32), &[u8]>::new(name), damage);
        }
        _ => table(random, transaction, TableDefinition::<u64, &[u8]>::new(name), damage),
    });
}

/// The same with any table.
pub(crate) fn table<K: Key + 'static>(
    random: &mut fastrand::Rng,
    transaction: &WriteTransaction,
    definition: TableDefinition<'_, K, &'static [u8]>,
    damage: Damage,
) {
    if damage == Damage::TableGone {
        assert!(transaction.delete_table(definition).unwrap());
        return;
    }
    let mut table = transaction.open_table(definition).unwrap();
    let rows = table.iter().unwrap().map(|row| {
        let (key, value) = row.unwrap();
        (K::as_bytes(&key.value()).as_ref().to_vec(), value.value().to_vec())
    });
    let (key, mut value) = random.choice(rows.collect::<Vec<_>>()).expect("the table has no row");
    match damage {
        Damage::Changed => {
            let place = random.usize(..value.len());
            value[place] ^= random.u8(1..);
            table.insert(K::from_bytes(&key), value.as_slice()).unwrap();
        }
        Damage::OneGone => drop(table.remove(K::from_bytes(&key)).unwrap()),
        Damage::AllGone => table.retain(|_, _| false).unwrap(),
        Damage::TableGone => {}
    }
}

/// Damages a collection of a database that nobody has open.
#[cfg(feature = "mongodb")]
pub(crate) async fn mongo(
    random: &mut fastrand::Rng,
    database: &mongodb::Database,
    name: &str,
    damage: Damage,
) {
    use mongodb::bson::{Document, doc};
    let collection = database.collection::<Document>(name);
    let all = collection.count_documents(doc! {}).await.unwrap();
    assert!(all > 0, "{name} has no document");
    let one = collection.find_one(doc! {}).skip(random.u64(..all)).await.unwrap().unwrap();
    let one = doc! { "_id": one.get("_id").unwrap() };
    let changed = match name {
        "checkpoints" => doc! { "$set": { "next": 1_i64 << 30, "rows": 1_i64 << 30 } },
        "device_hours" => doc! { "$set": { "below": 1_i64 << 30 } },
        "devices" => doc! { "$set": { "state": "damaged" } },
        "starts" => doc! { "$set": { "first": "damaged" } },
        "device_rows" => doc! { "$set": { "rows": "damaged" } },
        _ => doc! { "$inc": { "counts.3": 5_i64, "counts.unknown": 1_i64 } },
    };
    match damage {
        Damage::Changed => drop(collection.update_one(one, changed).await.unwrap()),
        Damage::OneGone => drop(collection.delete_one(one).await.unwrap()),
        Damage::AllGone => drop(collection.delete_many(doc! {}).await.unwrap()),
        Damage::TableGone => collection.drop().await.unwrap(),
    }
}
