//! How messages are gathered into flushes, on a clock that the test turns.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rollcall_host::intake::keep_storing;
use rollcall_host::log::{LogStore, MemoryStore};
use rollcall_host::model::{Ack, Clock, Message, Moment, Retain, Sender, Verdict, WriterId};
use rollcall_host::ops::GivenUp;
use rollcall_host::source::{self, Inbox};
use rollcall_wire::{DeviceId, Kind, Slot, Topic};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// What a device has at most unacknowledged, and what its outbox holds.
const WINDOW: usize = 8;
const OUTBOX: usize = 300;

fn device() -> DeviceId {
    DeviceId::new("porch").unwrap()
}

async fn start(interval: &str) -> (Arc<MemoryStore>, Inbox, JoinHandle<Result<(), GivenUp>>) {
    let store = Arc::new(MemoryStore::default());
    let (inbox, messages) = source::inbox();
    let (opened, is_open) = oneshot::channel();
    let storing = keep_storing(
        store.clone(),
        messages,
        interval.parse().unwrap(),
        WriterId::draw(),
        Clock::system(),
        Arc::default(),
        opened,
    );
    let running = tokio::spawn(storing);
    is_open.await.unwrap();
    (store, inbox, running)
}

async fn send(inbox: &Inbox, seq: usize) -> oneshot::Receiver<Verdict> {
    let (ack, verdict) = Ack::new();
    let payload = format!(r#"{{"status":3,"seq":{seq},"boot":"9f3c5a0be1d24c77","age_ms":0}}"#);
    let message = Message {
        topic: Topic { device: device(), kind: Kind::Status }.name().as_str().into(),
        payload: payload.into_bytes().into(),
        retain: Retain::No,
        expiry_left_s: None,
        received: Moment::now(),
        sender: Sender::HearsRefusal,
        ack,
    };
    inbox.send(message).await.unwrap();
    verdict
}

/// How many messages each entry holds.
async fn entries(store: &MemoryStore) -> Vec<usize> {
    let entries = store.read(Slot::of(&device()), 0, usize::MAX).await.unwrap();
    entries.iter().map(|entry| entry.records.len()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_comes_within_the_interval_is_one_entry() {
    let (store, inbox, _running) = start("1s").await;
    let began = Instant::now();
    let mut verdicts = Vec::new();
    for seq in 0..100 {
        verdicts.push(send(&inbox, seq).await);
        sleep(Duration::from_millis(9)).await;
    }
    for verdict in verdicts {
        assert_eq!(verdict.await, Ok(Verdict::Accepted));
    }
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert_eq!(entries(&store).await, [100]);
}

#[tokio::test(start_paused = true)]
async fn without_an_interval_each_message_that_comes_alone_is_stored_at_once() {
    let (store, inbox, _running) = start("0").await;
    for seq in 0..10 {
        let began = Instant::now();
        assert_eq!(send(&inbox, seq).await.await, Ok(Verdict::Accepted));
        assert_eq!(began.elapsed(), Duration::ZERO);
        sleep(Duration::from_millis(9)).await;
    }
    assert_eq!(entries(&store).await, [1; 10]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_inbox_is_stored_at_once() {
    let (store, inbox, running) = start("2s").await;
    let began = Instant::now();
    let verdict = send(&inbox, 0).await;
    sleep(Duration::from_millis(300)).await;
    drop(inbox);
    running.await.unwrap().unwrap();
    assert_eq!(verdict.await, Ok(Verdict::Accepted));
    assert_eq!(began.elapsed(), Duration::from_millis(300));
    assert_eq!(entries(&store).await, [1]);
}

/// The gateway lets a connection have 256 messages in flight, and a broker has a bound too: once it is reached
/// nothing more comes before they are acknowledged.
#[tokio::test(start_paused = true)]
async fn many_messages_do_not_wait_for_the_interval() {
    let (store, inbox, _running) = start("2s").await;
    let began = Instant::now();
    for round in 0..10 {
        let mut verdicts = Vec::new();
        for message in 0..256 {
            verdicts.push(send(&inbox, round * 256 + message).await);
        }
        for verdict in verdicts {
            assert_eq!(verdict.await, Ok(Verdict::Accepted));
        }
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(entries(&store).await.iter().sum::<usize>(), 2560);
}

/// A device after an outage, whose outbox is full but for two places: each second it takes a sample, and it sends the
/// oldest ones as far as its window allows. It gains 7 samples a second.
#[tokio::test(start_paused = true)]
async fn at_one_second_a_device_drops_nothing_and_gets_its_outbox_empty() {
    let (_store, inbox, _running) = start("1s").await;
    let began = Instant::now();
    // The sample of now and the next one find room: by then the first are acknowledged.
    let mut outbox: VecDeque<usize> = (0..OUTBOX - 2).collect();
    let mut in_flight = VecDeque::new();
    let (mut next, mut sample_at) = (OUTBOX - 2, began);
    while outbox.len() + in_flight.len() > 0 {
        if Instant::now() >= sample_at {
            outbox.push_back(next);
            (next, sample_at) = (next + 1, sample_at + Duration::from_secs(1));
        }
        while in_flight.len() < WINDOW
            && let Some(seq) = outbox.pop_front()
        {
            in_flight.push_back(send(&inbox, seq).await);
        }
        assert!(outbox.len() + in_flight.len() <= OUTBOX, "a sample is dropped after {:?}", began.elapsed());
        if let Ok(verdict) = timeout(sample_at - Instant::now(), &mut in_flight[0]).await {
            assert_eq!(verdict, Ok(Verdict::Accepted));
            in_flight.pop_front();
        }
    }
    let took = began.elapsed().as_secs();
    assert!((35..=50).contains(&took), "{took} s");
}
