//! Every order in which the messages of three connections can come, once and again, with a restart of the host anywhere.

use rollcall_wire::{BootId, ConnectionId, RunId};

use super::*;

/// What a host hears of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Heard {
    Online(usize),
    Status,
    /// Its last will, or its own word.
    Offline(usize),
    /// The host has started anew, and knows nothing but rows.
    Restart,
}

use Heard::{Offline, Online, Restart, Status};

/// The connections of a device, in the order in which it made them.
#[derive(Debug)]
struct Life {
    connections: [ConnectionId; 3],
    /// One that died at once may not have said so.
    said_online: [bool; 3],
    /// Is its end told? Then it has one.
    ended: [bool; 3],
}

const LAST: usize = 2;

/// Each pair is a run and a number.
const RUNS: [[(u64, u32); 3]; 4] =
    [[(0, 1), (0, 2), (0, 3)], [(0, 1), (0, 2), (1, 1)], [(0, 7), (1, 1), (1, 2)], [(0, 1), (1, 1), (2, 1)]];

fn lives() -> Vec<Life> {
    let mut lives = Vec::new();
    for runs in RUNS {
        // The second run goes on with the boot id of the first.
        let connections = runs.map(|(run, number)| ConnectionId {
            boot: BootId(90 + run / 2),
            run: Some(RunId(0x100 + run)).filter(|_| run < 2),
            number,
        });
        for silent in [None, Some(0), Some(1), Some(LAST)] {
            for ended in [[true; 3], [true, true, false], [false, true, true], [false, false, true]] {
                let said_online = [0, 1, LAST].map(|at| silent != Some(at));
                // Whose coming and whose predecessor's end nobody tells, of that nothing is known.
                if said_online[LAST] || ended == [true; 3] {
                    lives.push(Life { connections, said_online, ended });
                }
            }
        }
    }
    lives
}

impl Life {
    /// What each connection says, in its order; the last one sends a sample too.
    fn words(&self) -> Vec<Vec<Heard>> {
        let of = |at: usize| {
            let online = self.said_online[at].then_some(Online(at));
            let status = (at == LAST).then_some(Status);
            online.into_iter().chain(status).chain(self.ended[at].then_some(Offline(at))).collect()
        };
        [0, 1, LAST].map(of).into()
    }

    fn run(&self, at: usize) -> Option<usize> {
        let key = |at: usize| (self.connections[at].boot, self.connections[at].run);
        (0..3).position(|first| key(first) == key(at))
    }

    /// Runs have no order but that in which they come: nothing is heard of one before another that it followed has come.
    fn can_be_told(&self, order: &[Heard]) -> bool {
        let came = |at| order.iter().position(|heard| *heard == Online(at));
        let heard = |at| order.iter().position(|heard| [Online(at), Offline(at)].contains(heard));
        let pairs = [(0, 1), (1, LAST), (0, LAST)];
        pairs.iter().all(|(before, after)| {
            self.run(*before) == self.run(*after)
                || came(*before).zip(heard(*after)).is_none_or(|(before, after)| before < after)
        })
    }

    /// Is it of one of the last two runs, as far as was heard?
    fn is_recent(&self, heard: Heard, so_far: &[Heard]) -> bool {
        let run = |heard: &Heard| match heard {
            Online(at) | Offline(at) => self.run(*at),
            Status | Restart => None,
        };
        let mut runs: Vec<_> = so_far.iter().filter_map(run).collect();
        runs.sort_unstable();
        runs.dedup();
        runs.iter().rev().take(2).any(|recent| Some(*recent) == run(&heard))
    }

    /// Hears all of it, and checks what is shown of the device.
    fn hear(&self, order: &[Heard]) {
        let device = DeviceId::new("sim-0").unwrap();
        let mut presence = Presence::default();
        let (mut last_seen, mut came, mut has_ended, mut ended_at) = (UnixMs(0), false, false, None);
        let is_offline = |presence: &Presence, last_seen: UnixMs| {
            presence.left_at(&device).is_some_and(|left_at| left_at >= last_seen)
        };
        for (at, heard) in (1..).map(UnixMs).zip(order) {
            match *heard {
                Online(connection) | Offline(connection) => {
                    let is_online = *heard == Online(connection);
                    let announcement =
                        Announcement { is_online, connection: Some(self.connections[connection]) };
                    presence.heard(device, &announcement, at);
                    came |= is_online && connection == LAST;
                    if *heard == Offline(LAST) {
                        has_ended = true;
                        ended_at.get_or_insert(at);
                    }
                }
                Status => last_seen = at,
                Restart => (presence, came, ended_at) = (Presence::default(), false, None),
            }
            let is_live = came && !has_ended;
            assert!(!(is_live && is_offline(&presence, last_seen)), "{self:?} is there: {order:?} at {at:?}");
        }
        if ended_at.is_some_and(|ended_at| ended_at > last_seen) {
            assert!(is_offline(&presence, last_seen), "{self:?} has left: {order:?}");
        }
    }
}

/// Shows `each` every order that keeps that of each of `words`.
fn orders(words: &[Vec<Heard>], so_far: &mut Vec<Heard>, each: &mut impl FnMut(&[Heard])) {
    if words.iter().all(Vec::is_empty) {
        return each(so_far);
    }
    for at in (0..words.len()).filter(|at| !words[*at].is_empty()) {
        let mut rest = words.to_vec();
        so_far.push(rest[at].remove(0));
        orders(&rest, so_far, each);
        so_far.pop();
    }
}

#[test]
fn in_whatever_order_they_come_a_late_will_marks_no_live_device_offline_and_one_that_left_is_offline() {
    let mut heard = 0;
    for life in lives() {
        orders(&life.words(), &mut Vec::new(), &mut |order| {
            if !life.can_be_told(order) {
                return;
            }
            life.hear(order);
            heard += 1;
            for at in 1..=order.len() {
                let (before, after) = order.split_at(at);
                life.hear(&[before, &[Restart], after].concat());
                // As of a broker that delivers it again, or retains it.
                life.hear(&[before, &[Restart, order[at - 1]], after].concat());
                for again in before.iter().filter(|again| life.is_recent(**again, before)) {
                    life.hear(&[before, &[*again], after].concat());
                }
            }
        });
    }
    assert!(heard > 1_000, "{heard} orders");
}

#[test]
fn who_left_is_known_until_it_comes_back_and_of_so_many_only() {
    let presence = Presence::default();
    let device = |number: usize| DeviceId::new(&format!("d{number}")).unwrap();
    // Of older devices nobody knows which connection it is.
    let heard = |number, is_online, at: u64| {
        presence.heard(device(number), &Announcement { is_online, connection: None }, UnixMs(at));
    };
    (0..=LEFT_MAX).for_each(|number| heard(number, false, number as u64));
    assert_eq!(presence.left_at(&device(LEFT_MAX)), None);
    heard(7, false, 8);
    assert_eq!(presence.left_at(&device(7)), Some(UnixMs(8)));
    heard(7, true, 9);
    assert_eq!(presence.left_at(&device(7)), None);
    heard(LEFT_MAX, false, 9);
    assert_eq!(presence.left_at(&device(LEFT_MAX)), Some(UnixMs(9)));
}
