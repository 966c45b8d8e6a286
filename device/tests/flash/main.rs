//! The outbox in flash over a flash that loses power in the middle of whatever it does.
//!
//! What is checked after every cut: what was kept and not acknowledged is there again, unchanged and under
//! its own boot id and number; nothing that was never taken is; and no number is given twice.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod life;
mod model;

use self::life::{Habits, Life};
use self::model::Model;

/// Longer than it takes to go around the small ring several times.
const SAMPLES: u64 = 120;

/// A device that is acknowledged promptly, one that lags, one whose first samples are never acknowledged
/// while others are, and one that is offline.
const HABITS: [Habits; 4] = [
    Habits { lag: 0, stuck: 0 },
    Habits { lag: 5, stuck: 0 },
    Habits { lag: 8, stuck: 3 },
    Habits { lag: u64::MAX, stuck: 0 },
];

#[test]
fn without_a_cut_a_reset_brings_back_exactly_what_was_not_acknowledged_or_just_was() {
    for habits in HABITS {
        let mut life = Life::new(Model::new(), habits);
        for samples in [0, 1, 7, SAMPLES] {
            life.boot();
            life.take(samples);
            assert!(!life.is_cut());
        }
        life.boot();
    }
}

#[test]
fn a_cut_in_every_single_word_loses_at_most_the_sample_being_written() {
    for habits in HABITS {
        let mut whole = Life::new(Model::new(), habits);
        whole.boot();
        whole.take(SAMPLES);
        let work = whole.flash().work();
        println!("{habits:?}: {work} cuts");
        for cut in 0..work {
            let mut life = Life::new(Model::new(), habits);
            life.cut_after(cut);
            life.boot();
            life.take(SAMPLES);
            assert!(life.is_cut());
            life.restore_power();
            life.boot();
            // What is found is no accident of one recovery, and goes on.
            life.take(3);
            life.boot();
        }
    }
}

#[test]
fn cuts_upon_cuts_recovery_included_lose_at_most_a_sample_each() {
    let mut random = rollcall_harness::random();
    for habits in HABITS {
        let mut life = Life::new(Model::new(), habits);
        life.boot();
        for _ in 0..500 {
            life.cut_after(random.u64(..700));
            life.boot();
            life.take(random.u64(..40));
            life.restore_power();
            life.boot();
            life.take(random.u64(..20));
        }
        println!(
            "{habits:?}: {} samples kept, {} erases of the most worn page",
            life.kept(),
            life.flash().worn()
        );
    }
}

#[test]
fn the_ring_wears_level() {
    let mut life = Life::new(Model::new(), HABITS[1]);
    life.boot();
    life.take(2_000);
    let (least, most) = (life.flash().least_worn(), life.flash().worn());
    assert!(most - least <= 1, "{least} to {most} erases");
}

#[test]
fn a_ring_that_is_too_small_or_not_on_a_page_is_refused() {
    use embassy_futures::block_on;
    use rollcall_device::BootId;
    use rollcall_device::flash::{FlashStore, OpenError};
    let open = |start, outbox| {
        block_on(FlashStore::<_, { model::PAGES }>::open(Model::new(), start, outbox, BootId(1)))
            .map(|_| ())
            .err()
    };
    assert_eq!(open(0, life::OUTBOX), None);
    assert_eq!(open(0, 1_000), Some(OpenError::Layout));
    assert_eq!(open(1, life::OUTBOX), Some(OpenError::Layout));
    let mut broken = Model::new();
    broken.cut_after(0);
    // Nothing is there, so the ring is to be emptied, and cannot be.
    let opened = block_on(FlashStore::<_, { model::PAGES }>::open(broken, 0, life::OUTBOX, BootId(1)));
    assert_eq!(opened.map(|_| ()).err(), Some(OpenError::Flash));
}
