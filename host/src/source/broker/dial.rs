//! From a broker's name to a connected socket: its addresses in the order of RFC 8305, none of which can hold up the
//! others. It knows nothing of what is said over the socket.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};

/// A resolver that takes longer is not asked any more.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

/// When an address has not answered for so long, the next one is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// An address that has not answered then is given up.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// Of a name with more addresses, so many are tried.
const ADDRESSES_MAX: usize = 16;

/// The addresses of a name, in the order in which they are to be tried.
///
/// # Errors
/// A name that has none, or that nobody resolves.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses = timeout(RESOLVE_LIMIT, lookup_host((host, port))).await.map_err(|_| no_answer())??;
    let mut addresses = interleaved(addresses.collect());
    addresses.truncate(ADDRESSES_MAX);
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

/// The families alternate, each in the resolver's order, which begins with the one that it would use (RFC 8305,
/// section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut all: Vec<_> =
        first.into_iter().flat_map(|address| [Some(address), second.next()]).flatten().collect();
    all.extend(second);
    all
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer")
}

type Attempt = BoxFuture<'static, (SocketAddr, io::Result<TcpStream>)>;

/// The addresses of a broker, while they are tried.
pub(super) struct Dial {
    waiting: VecDeque<SocketAddr>,
    /// Those that `attempts` are under way to.
    tried: Vec<SocketAddr>,
    attempts: FuturesUnordered<Attempt>,
}

impl Dial {
    /// Tries these, in this order.
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { waiting: addresses.into(), tried: Vec::new(), attempts: FuturesUnordered::new() }
    }

    /// The next address, and how it answered: with a connection, or not at all. After a connection that was of no use,
    /// the others have their turn. `None` when there is no further one.
    pub(super) async fn next(&mut self) -> Option<(SocketAddr, io::Result<TcpStream>)> {
        if self.attempts.is_empty() {
            self.attempt();
        }
        loop {
            tokio::select! {
                attempt = self.attempts.next() => {
                    let (address, outcome) = attempt?;
                    self.tried.retain(|tried| *tried != address);
                    if outcome.is_ok() {
                        // What is under way would only be another connection that nobody uses.
                        self.attempts.clear();
                        self.tried.drain(..).rev().for_each(|tried| self.waiting.push_front(tried));
                    }
                    return Some((address, outcome));
                }
                () = sleep(ATTEMPT_DELAY), if !self.waiting.is_empty() => self.attempt(),
            }
        }
    }

    fn attempt(&mut self) {
        let Some(address) = self.waiting.pop_front() else { return };
        self.tried.push(address);
        self.attempts.push(Box::pin(async move {
            let attempt = timeout(ATTEMPT_LIMIT, TcpStream::connect(address)).await;
            (address, attempt.unwrap_or_else(|_| Err(no_answer())))
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// An address where nobody answers, as long as the sockets live: a backlog of one that is full.
    async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut taken = Vec::new();
        while let Ok(stream) = timeout(ATTEMPT_DELAY, TcpStream::connect(address)).await {
            taken.push(stream.unwrap());
        }
        (address, listener, taken)
    }

    /// One where nobody listens: no other test takes a port there.
    fn refusing() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn families_alternate_and_the_first_is_the_resolvers() {
        let sorted = |texts: &[&str]| interleaved(addresses(texts));
        let six_first = ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"];
        let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"];
        assert_eq!(sorted(&six_first), addresses(&expected));
        let four_first = ["1.0.0.1:1", "[::1]:1", "[::2]:1", "[::3]:1"];
        let expected = ["1.0.0.1:1", "[::1]:1", "[::2]:1", "[::3]:1"];
        assert_eq!(sorted(&four_first), addresses(&expected));
        assert_eq!(sorted(&[]), []);
    }

    proptest::proptest! {
        #[test]
        fn no_address_is_lost_and_each_family_keeps_its_order(families in proptest::collection::vec(proptest::bool::ANY, 0..20)) {
            let given: Vec<SocketAddr> = families.iter().zip(1..).map(|(six, port)| {
                SocketAddr::new(if *six { "::1".parse().unwrap() } else { "127.0.0.1".parse().unwrap() }, port)
            }).collect();
            let sorted = interleaved(given.clone());
            proptest::prop_assert_eq!(sorted.len(), given.len());
            proptest::prop_assert_eq!(sorted.first(), given.first());
            for six in [false, true] {
                let family = |all: &[SocketAddr]| all.iter().filter(|one| one.is_ipv6() == six).copied().collect::<Vec<_>>();
                proptest::prop_assert_eq!(family(&sorted), family(&given));
            }
        }
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_holds_up_no_other() {
        let (dead, _listener, _taken) = silent().await;
        let alive = TcpListener::bind("[::1]:0").await.unwrap();
        let begin = Instant::now();
        let mut dial = Dial::new(vec![dead, alive.local_addr().unwrap()]);
        let (address, connection) = dial.next().await.unwrap();
        assert_eq!(address, alive.local_addr().unwrap());
        connection.unwrap();
        assert!(begin.elapsed() < ATTEMPT_LIMIT, "{:?}", begin.elapsed());
        // The connection was of no use: what was under way has its turn again, and then its limit.
        let (address, connection) = dial.next().await.unwrap();
        assert_eq!((address, connection.unwrap_err().kind()), (dead, io::ErrorKind::TimedOut));
        assert!(dial.next().await.is_none());
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_named_and_the_next_one_follows_at_once() {
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = refusing();
        let mut dial = Dial::new(vec![dead, alive.local_addr().unwrap()]);
        let (address, connection) = dial.next().await.unwrap();
        assert_eq!((address, connection.unwrap_err().kind()), (dead, io::ErrorKind::ConnectionRefused));
        assert!(dial.next().await.unwrap().1.is_ok());
        assert!(dial.next().await.is_none());
    }

    #[tokio::test]
    async fn an_address_stands_for_itself_and_a_name_without_one_is_an_error() {
        assert_eq!(resolve("::1", 9).await.unwrap(), addresses(&["[::1]:9"]));
        assert_eq!(resolve("127.0.0.1", 9).await.unwrap(), addresses(&["127.0.0.1:9"]));
        assert!(resolve("no-such-host.invalid", 9).await.is_err());
    }
}
