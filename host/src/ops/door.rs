//! The places at a door: how many connections there may be, in all and from one address, and who goes when there is no
//! place left.
//!
//! Guarantees: no more places are taken than there are; who is busy keeps its place; of those who only wait the one that
//! has waited for the longest goes first, so that a newcomer is let in as long as anybody only waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Descriptors that are no connection's: for the store, files, a broker, and whoever is sent away. With fewer in all, a
/// process may come up and have none left for anybody.
pub const DESCRIPTORS_KEPT: u64 = 64;

/// The least number of descriptors that is shared out. Where there are fewer, the system says when there is none left.
const SHARED_MIN: u64 = 128;

/// Connections over HTTP, of a quarter of the descriptors.
const HTTP_MAX: u64 = 1_024;

/// Connections over MQTT, of all other descriptors.
const MQTT_MAX: u64 = 100_000;

/// How many connections there may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// In all.
    pub in_all: usize,
    /// From one address; of IPv6, from one network of 64 bits, which is what one customer is given.
    pub of_an_address: usize,
}

impl Places {
    /// Those over HTTP: few, so that they leave MQTT its own.
    pub fn http() -> Self {
        Self::new(shares(descriptors()).0)
    }

    /// Those over MQTT.
    pub fn mqtt() -> Self {
        Self::new(shares(descriptors()).1)
    }

    /// An address never has the last eighth of them.
    fn new(in_all: u64) -> Self {
        let in_all = usize::try_from(in_all).unwrap_or(usize::MAX);
        Self { in_all, of_an_address: in_all - in_all / 8 }
    }
}

/// How many descriptors this process may have.
fn descriptors() -> u64 {
    // A limit that cannot be read is none that is known.
    rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX)
}

/// What HTTP and MQTT get of so many descriptors.
fn shares(descriptors: u64) -> (u64, u64) {
    let shared = descriptors.saturating_sub(DESCRIPTORS_KEPT).max(SHARED_MIN);
    let http = (shared / 4).min(HTTP_MAX);
    (http, (shared - http).min(MQTT_MAX))
}

/// See the module.
#[derive(Debug)]
pub struct Door {
    places: Places,
    taken: Mutex<Taken>,
}

/// Who a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address => address,
        })
    }
}

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// There is no place left, and nobody only waits.
    NoPlace,
    /// There is none left for its address, and nobody from there only waits.
    NoPlaceForAddress,
    /// It only waited, and another came.
    ForAnother,
}

impl TurnedAway {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::NoPlace, Self::NoPlaceForAddress, Self::ForAnother];

    /// The name in metrics and lines of log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoPlace => "no_place",
            Self::NoPlaceForAddress => "no_place_for_address",
            Self::ForAnother => "for_another",
        }
    }
}

#[derive(Debug, Default)]
struct Taken {
    by_number: HashMap<u64, Holder>,
    by_peer: HashMap<Peer, OfPeer>,
    /// Those who only wait, by the time since when they do.
    waiting: BTreeMap<u64, u64>,
    /// Numbers connections, and the moments at which they begin to wait.
    next: u64,
}

#[derive(Debug)]
struct Holder {
    peer: Peer,
    waiting_since: Option<u64>,
    sent_away: Arc<Notify>,
}

#[derive(Debug, Default)]
struct OfPeer {
    count: usize,
    /// Those who only wait, as in [`Taken::waiting`].
    waiting: BTreeSet<u64>,
}

/// A place, taken as long as this value lives. At first its connection only waits.
#[derive(Debug)]
pub struct Place {
    door: Arc<Door>,
    number: u64,
    sent_away: Arc<Notify>,
}

impl Door {
    /// One with so many places.
    pub fn new(places: Places) -> Arc<Self> {
        Arc::new(Self { places, taken: Mutex::default() })
    }

    /// A connection comes from `address`. Another one that only waits is sent away if there is no other way.
    ///
    /// # Errors
    /// [`TurnedAway`].
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, TurnedAway> {
        let peer = Peer::from(address);
        let mut taken = self.taken();
        let of_peer = taken.by_peer.get(&peer);
        if of_peer.is_some_and(|of_peer| of_peer.count >= self.places.of_an_address) {
            let longest = of_peer.and_then(|of_peer| of_peer.waiting.first().copied());
            taken.send_away(longest.ok_or(TurnedAway::NoPlaceForAddress)?);
        } else if taken.by_number.len() >= self.places.in_all {
            let longest = taken.waiting.keys().next().copied();
            taken.send_away(longest.ok_or(TurnedAway::NoPlace)?);
        }
        let number = taken.number();
        let sent_away = Arc::new(Notify::new());
        taken.by_number.insert(number, Holder { peer, waiting_since: None, sent_away: sent_away.clone() });
        taken.by_peer.entry(peer).or_default().count += 1;
        taken.wait(number);
        Ok(Place { door: self.clone(), number, sent_away })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn wait(&mut self, number: u64) {
        self.go_on(number);
        let since = self.number();
        if let Some(holder) = self.by_number.get_mut(&number) {
            holder.waiting_since = Some(since);
            self.waiting.insert(since, number);
            self.by_peer.entry(holder.peer).or_default().waiting.insert(since);
        }
    }

    fn go_on(&mut self, number: u64) {
        if let Some(holder) = self.by_number.get_mut(&number)
            && let Some(since) = holder.waiting_since.take()
        {
            self.waiting.remove(&since);
            if let Some(of_peer) = self.by_peer.get_mut(&holder.peer) {
                of_peer.waiting.remove(&since);
            }
        }
    }

    /// Whoever waits since then counts no longer, and hears that it has to go.
    fn send_away(&mut self, since: u64) {
        if let Some(number) = self.waiting.get(&since).copied()
            && let Some(holder) = self.leave(number)
        {
            holder.sent_away.notify_one();
        }
    }

    fn leave(&mut self, number: u64) -> Option<Holder> {
        self.go_on(number);
        let holder = self.by_number.remove(&number)?;
        if let Some(of_peer) = self.by_peer.get_mut(&holder.peer) {
            of_peer.count -= 1;
            if of_peer.count == 0 {
                self.by_peer.remove(&holder.peer);
            }
        }
        Some(holder)
    }
}

impl Place {
    /// Its connection does what it came for.
    pub fn is_busy(&self) {
        self.door.taken().go_on(self.number);
    }

    /// Its connection only waits, from now on.
    pub fn waits(&self) {
        self.door.taken().wait(self.number);
    }

    /// Completes when its connection has to go, for another one.
    pub async fn sent_away(&self) {
        self.sent_away.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.taken().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn is_sent_away(place: &Place) -> bool {
        let mut sent_away = Box::pin(place.sent_away());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        sent_away.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn who_has_waited_for_the_longest_goes_for_a_newcomer() {
        let door = Door::new(Places { in_all: 3, of_an_address: 3 });
        let places: Vec<_> = (0..3).map(|last| door.enter(address(last)).unwrap()).collect();
        places[0].is_busy();
        places[1].is_busy();
        places[1].waits();
        let newcomer = door.enter(address(9)).unwrap();
        assert_eq!(places.iter().map(is_sent_away).collect::<Vec<_>>(), [false, false, true]);
        assert!(!is_sent_away(&newcomer));
    }

    #[test]
    fn who_is_busy_keeps_its_place() {
        let door = Door::new(Places { in_all: 2, of_an_address: 2 });
        let places = [door.enter(address(1)).unwrap(), door.enter(address(2)).unwrap()];
        places.iter().for_each(Place::is_busy);
        assert_eq!(door.enter(address(3)).unwrap_err(), TurnedAway::NoPlace);
        assert!(!places.iter().any(is_sent_away));
        drop(places);
        assert!(door.enter(address(3)).is_ok());
    }

    #[test]
    fn an_address_that_has_its_share_takes_no_place_of_another() {
        let door = Door::new(Places { in_all: 10, of_an_address: 2 });
        let other = door.enter(address(1)).unwrap();
        let first = door.enter(address(2)).unwrap();
        let second = door.enter(address(2)).unwrap();
        second.is_busy();
        let third = door.enter(address(2)).unwrap();
        assert!(is_sent_away(&first) && !is_sent_away(&other));
        third.is_busy();
        assert_eq!(door.enter(address(2)).unwrap_err(), TurnedAway::NoPlaceForAddress);
        assert!(door.enter(address(3)).is_ok());
    }

    #[test]
    fn http_leaves_descriptors_to_mqtt_and_both_leave_some_to_the_rest() {
        assert_eq!(shares(1_024), (240, 720));
        assert_eq!(shares(1_048_576), (HTTP_MAX, MQTT_MAX));
        assert_eq!(shares(20), shares(0));
        let Places { in_all, of_an_address } = Places::new(720);
        assert_eq!((in_all, of_an_address), (720, 630));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_an_ipv4_address_is_one_however_it_is_written() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer("2001:db8:1:2::3"), peer("2001:db8:1:2:ffff::"));
        assert_ne!(peer("2001:db8:1:2::3"), peer("2001:db8:1:3::3"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_left() {
        let door = Door::new(Places { in_all: 4, of_an_address: 2 });
        let mut random = fastrand::Rng::with_seed(1);
        let mut places = Vec::new();
        for _ in 0..2_000 {
            match random.u8(..4) {
                0 => places.extend(door.enter(address(random.u8(..4)))),
                1 if !places.is_empty() => drop(places.swap_remove(random.usize(..places.len()))),
                2 if !places.is_empty() => places[random.usize(..places.len())].is_busy(),
                3 if !places.is_empty() => places[random.usize(..places.len())].waits(),
                _ => {}
            }
            let taken = door.taken();
            assert!(taken.by_number.len() <= 4 && taken.by_peer.values().all(|of_peer| of_peer.count <= 2));
            let waiting = taken.by_number.values().filter(|holder| holder.waiting_since.is_some()).count();
            assert_eq!(taken.waiting.len(), waiting);
            assert_eq!(taken.by_peer.values().map(|of_peer| of_peer.waiting.len()).sum::<usize>(), waiting);
        }
        drop(places);
        let taken = door.taken();
        assert!(taken.by_number.is_empty() && taken.by_peer.is_empty() && taken.waiting.is_empty());
    }
}
