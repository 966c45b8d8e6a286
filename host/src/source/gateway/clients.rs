//! Who is connected, by client id: a second client with the same one ends the first (MQTT-3.1.4-2 of 3.1.1,
//! MQTT-3.1.4-3 of 5).
//!
//! Guarantees: of the clients with one id, all but the last have heard that they are followed. Nothing of a client is
//! kept here once it is gone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<Connected>);

#[derive(Debug, Default)]
struct Connected {
    by_id: HashMap<Arc<ClientKey>, Latest>,
    /// Numbers the connections.
    entered: u64,
    /// Numbers the clients that bring no id of their own.
    unnamed: u64,
}

/// Where names are checked, a client can follow those of its own name only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientKey {
    user: Option<Box<str>>,
    client_id: Box<str>,
}

/// The client that came last with an id.
#[derive(Debug)]
struct Latest {
    number: u64,
    followed: oneshot::Sender<()>,
}

/// A client that is connected, as long as this value lives.
#[derive(Debug)]
pub(super) struct Identified {
    clients: Arc<Clients>,
    key: Arc<ClientKey>,
    number: u64,
    followed: oneshot::Receiver<()>,
}

impl Clients {
    /// A client is let in. One without an id gets one that nobody has (MQTT-3.1.3-6).
    pub(super) fn enter(self: &Arc<Self>, user: Option<&str>, client_id: &str) -> Identified {
        let mut connected = self.connected();
        let key = Arc::new(ClientKey {
            user: user.map(Box::from),
            client_id: if client_id.is_empty() { connected.new_id(user) } else { client_id.into() },
        });
        connected.entered += 1;
        let number = connected.entered;
        let (follow, followed) = oneshot::channel();
        let latest = Latest { number, followed: follow };
        if let Some(earlier) = connected.by_id.insert(key.clone(), latest) {
            // It may have left at this moment.
            let _ = earlier.followed.send(());
        }
        Identified { clients: self.clone(), key, number, followed }
    }

    fn connected(&self) -> MutexGuard<'_, Connected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    fn new_id(&mut self, user: Option<&str>) -> Box<str> {
        loop {
            let client_id = format!("unnamed-{}", self.unnamed).into_boxed_str();
            self.unnamed += 1;
            let key = ClientKey { user: user.map(Box::from), client_id };
            if !self.by_id.contains_key(&key) {
                return key.client_id;
            }
        }
    }
}

impl Identified {
    pub(super) fn client_id(&self) -> &str {
        &self.key.client_id
    }

    /// Completes when another client has come with the same id.
    pub(super) async fn followed(&mut self) {
        let _ = (&mut self.followed).await;
    }
}

impl Drop for Identified {
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = self.clients.connected().by_id.entry(self.key.clone())
            && entry.get().number == self.number
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_the_clients_with_one_id_the_last_stays_and_the_others_hear_of_it() {
        let clients = Arc::new(Clients::default());
        let mut first = clients.enter(None, "a");
        let mut other = clients.enter(Some("somebody"), "a");
        let mut second = clients.enter(None, "a");
        first.followed().await;
        drop(first);
        assert!(second.followed.try_recv().is_err() && other.followed.try_recv().is_err());
        let third = clients.enter(None, "a");
        second.followed().await;
        drop((second, other, third));
        assert!(clients.connected().by_id.is_empty());
    }

    #[test]
    fn a_client_without_an_id_gets_one_that_nobody_has() {
        let clients = Arc::new(Clients::default());
        let named = clients.enter(None, "unnamed-0");
        let unnamed = clients.enter(None, "");
        assert_ne!(unnamed.client_id(), named.client_id());
    }
}
