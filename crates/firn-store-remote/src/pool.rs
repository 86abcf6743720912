//! The connections of a store.

use crate::connect::Connector;
use crate::connection::{Connection, Handshake};
use crate::error::{Failure, Outcome};
use firn_core::{StoreDir, StorePath};
use firn_store::StoreResult;
use firn_store::activity::{Logger, SilentLogger};
use firn_wire::Message;
use firn_wire::worker::{ClientOptions, Op};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) struct Pool {
    connector: Arc<dyn Connector>,
    uri: String,
    dir: StoreDir,
    /// Settings to tell each connection first.
    options: Option<ClientOptions>,
    max_age: Duration,
    limit: Arc<Semaphore>,
    /// Whether a connection was told the settings, and what the daemon thinks of them was shown.
    told: Arc<AtomicBool>,
    first: Arc<First>,
    state: Mutex<State>,
}

/// The first connection is made alone: on a store that was never used, each of Nix's daemon's processes makes its folders, and
/// fails where another one does so at the same time.
#[derive(Default)]
struct First {
    was_made: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    handshake: Option<Handshake>,
    /// Connections that hold temporary roots, alive or lost.
    temp_roots: BTreeSet<StorePath>,
    /// Whether a connection was lost since, and the roots with it.
    lost: bool,
}

impl Pool {
    pub fn new(
        connector: Box<dyn Connector>,
        uri: String,
        dir: StoreDir,
        options: Option<ClientOptions>,
        max_connections: usize,
        max_age: Duration,
    ) -> Pool {
        let limit = Arc::new(Semaphore::new(max_connections.max(1)));
        let connector = Arc::from(connector);
        let (told, first) = (Arc::default(), Arc::default());
        Pool { connector, uri, dir, options, max_age, limit, told, first, state: Mutex::default() }
    }

    /// Another pool of connections to the same store.
    pub fn separate(&self) -> Pool {
        Pool {
            connector: Arc::clone(&self.connector),
            uri: self.uri.clone(),
            dir: self.dir.clone(),
            options: self.options.clone(),
            max_age: self.max_age,
            limit: Arc::new(Semaphore::new(1)),
            told: Arc::clone(&self.told),
            first: Arc::clone(&self.first),
            state: Mutex::default(),
        }
    }

    /// What was learnt at the first connection, made now if there was none.
    pub async fn handshake(self: &Arc<Self>, logger: &dyn Logger) -> StoreResult<Handshake> {
        if let Some(handshake) = self.state.lock().handshake.clone() {
            return Ok(handshake);
        }
        let lease = self.lease(logger).await?;
        let handshake = lease.handshake.clone();
        lease.done();
        Ok(handshake)
    }

    /// A connection for one exchange.
    pub async fn lease(self: &Arc<Self>, logger: &dyn Logger) -> StoreResult<Lease> {
        let permit = Arc::clone(&self.limit).acquire_owned().await.ok();
        let found = loop {
            // Taken out of the lock before it is looked at.
            let Some(mut connection) = self.state.lock().idle.pop() else { break None };
            if connection.since.elapsed() < self.max_age && connection.is_idle().await {
                break Some(connection);
            }
            self.state.lock().lost = true;
        };
        let connection = match found {
            Some(connection) => connection,
            None => self.connect(logger).await?,
        };
        Ok(Lease { connection: Some(connection), pool: Arc::clone(self), _permit: permit })
    }

    async fn connect(&self, logger: &dyn Logger) -> StoreResult<Connection> {
        let alone = match self.first.was_made.load(Ordering::Acquire) {
            true => None,
            false => Some(self.first.turn.lock().await),
        };
        let transport = self.connector.connect().await?;
        let mut connection = Connection::open(transport, &self.uri, logger).await?;
        self.first.was_made.store(true, Ordering::Release);
        drop(alone);
        if let Some(options) = &self.options {
            let mut message = Message::new();
            message.num(Op::SetOptions);
            options.write(&mut message);
            // It warns of the same settings on each connection; once is enough.
            let listens: &dyn Logger =
                if self.told.swap(true, Ordering::Relaxed) { &SilentLogger } else { logger };
            connection.exchange(&message, listens).await?;
        }
        let roots = {
            let mut state = self.state.lock();
            state.handshake = Some(connection.handshake.clone());
            match std::mem::take(&mut state.lost) {
                true => state.temp_roots.clone(),
                false => BTreeSet::new(),
            }
        };
        for path in roots {
            let mut message = Message::new();
            message.num(Op::AddTempRoot).path(&self.dir, &path);
            connection.exchange(&message, logger).await?;
            connection.input.u64().await.map_err(Failure::Wire)?;
        }
        Ok(connection)
    }

    /// Notes a temporary root that was told.
    pub fn note_temp_root(&self, path: &StorePath) {
        self.state.lock().temp_roots.insert(path.clone());
    }

    pub fn has_temp_root(&self, path: &StorePath) -> bool {
        let state = self.state.lock();
        !state.lost && state.temp_roots.contains(path)
    }
}

/// A connection in use. It goes back with [`Lease::done`]; dropped otherwise, it is closed.
pub(crate) struct Lease {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// The exchange is complete.
    pub fn done(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.state.lock().idle.push(connection);
        }
    }

    /// Keeps the connection if what failed was refused in order.
    pub fn settle<T>(self, result: Outcome<T>) -> Outcome<T> {
        if matches!(result, Ok(_) | Err(Failure::Remote(_))) {
            self.done();
        }
        result
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.connection.is_some() {
            self.pool.state.lock().lost = true;
        }
    }
}

impl Deref for Lease {
    type Target = Connection;
    #[expect(clippy::expect_used, reason = "only done() takes it, which ends the lease")]
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("a lease has its connection")
    }
}

impl DerefMut for Lease {
    #[expect(clippy::expect_used, reason = "only done() takes it, which ends the lease")]
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a lease has its connection")
    }
}
