//! The bus, through which processes find each other: a directory of records. Every process looks records up, watches
//! them and cleans up.
//!
//! Invariant: when a record was looked at, it was whole and believed, and its owner lived. Only such records are
//! returned. A [`Bus`] starts its thread at the first watch, announcement or topic. The thread ends with the last value
//! made from the bus. In a forked child every call fails with `ERR_RINGBELL_CLOSED`, and the child removes nothing of
//! its parent's.

pub(crate) mod arbiter;
mod claim;
mod death;
pub(crate) mod directory;
mod event;
mod filter;
mod gc;
mod options;
mod publish;
mod registry;
pub(crate) mod scan;
#[cfg(test)]
mod tests;
mod view;
mod watch;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use claim::{Claim, ClaimHolder, ClaimState, ClaimWatch, Claiming, Claims};
pub use event::ServiceEvent;
pub use filter::Filter;
pub use gc::GcReport;
pub use options::{Announcement, BusOptions};
pub use publish::Announced;
pub use registry::Watching;
pub use watch::Watch;

pub use crate::record::{
    Access, AccessRecord, ChannelRecord, EventfdRef, Group, GroupRecord, MAX_NAME, MAX_RECORD, MemfdRef,
    Overflow, Record, Role, SCHEMA, StateKind, StateRecord, SyncRecord, TopicMemory, TopicRecord, check_name,
    parse_overflow, valid_name,
};

pub(crate) use crate::record::Granted;
use arbiter::{Arbiter, News};
pub(crate) use directory::Directory;
pub(crate) use event::Sink;
pub(crate) use options::Serve;
pub(crate) use registry::SinkGuard;

const SHORTEST_POLL: Duration = Duration::from_millis(1);
/// Longer than any useful interval, and short enough to be added to any instant.
const LONGEST_POLL: Duration = Duration::from_secs(3600);

/// 128 random bits in hex: an id or a nonce.
pub(crate) fn new_id() -> Result<String> {
    random::hex128()
}

/// Every chosen record whose owner lives now.
pub(crate) fn scan_now(directory: &Directory, chosen: &Filter) -> Result<Vec<Arc<Record>>> {
    Cache::default().scan(directory, chosen)
}

use crate::error::{Error, Result};
use crate::reactor::{Handle, Owner, Token};
use crate::record::{Rung, check_label};
use crate::sys::generation::generation;
use crate::sys::{eventfd, proc, random};
use publish::Own;
use registry::{Registry, RegistryHandle};
use scan::Cache;
use view::View;

/// A bus: the directory, and what this process knows of it. Clones share everything.
///
/// ```
/// use ringbell::bus::{Announcement, Bus, BusOptions};
/// # let folder = tempfile::tempdir().unwrap();
/// let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
/// let announced = bus.announce(Announcement::new("clock"))?;
/// assert_eq!(bus.find("clock")?, Some(announced.record()));
/// drop(announced);
/// assert_eq!(bus.find("clock")?, None);
/// # Ok::<(), ringbell::Error>(())
/// ```
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    directory: Arc<Directory>,
    options: BusOptions,
    view: Arc<View>,
    running: Mutex<Option<Running>>,
    cache: Mutex<Cache>,
    closed: AtomicBool,
    /// How many look-ups scanned the directory. The second one starts the view.
    scans: AtomicU64,
    next_sink: AtomicU64,
    generation: u32,
}

/// The bus thread, and the registry on it.
struct Running {
    registry: RegistryHandle,
    news: News,
    // Ends the thread when dropped.
    _owner: Owner,
}

impl Drop for Running {
    /// Runs before the thread ends, so that no other process finds a record of this one while the thread hands over the
    /// messages that are still due.
    fn drop(&mut self) {
        self.registry.run(|registry, thread| registry.stop(thread));
    }
}

impl Bus {
    /// Opens the bus, and makes its directory if there is none and `create` permits it.
    ///
    /// Fails with `ERR_RINGBELL_BUS_DIRECTORY` when the directory cannot be trusted, and with
    /// `ERR_RINGBELL_INVALID_OPTION` for a wrong option or a wrong `IPC_BUS_…` variable.
    pub fn open(mut options: BusOptions) -> Result<Bus> {
        match std::env::var("IPC_BUS_WATCH").as_deref() {
            Ok("poll") => options.inotify = false,
            Ok("" | "inotify") | Err(_) => {}
            Ok(other) => {
                let rule = "it must be 'poll' or 'inotify', or unset".to_owned();
                return Err(Error::InvalidOption { option: "IPC_BUS_WATCH", value: other.to_owned(), rule });
            }
        }
        match std::env::var("IPC_BUS_SAFE_DOORBELLS").as_deref() {
            Ok("1") => options.safe_doorbells = true,
            Ok("" | "0") | Err(_) => {}
            Ok(other) => {
                let (option, value) = ("IPC_BUS_SAFE_DOORBELLS", other.to_owned());
                return Err(Error::InvalidOption {
                    option,
                    value,
                    rule: "it must be 1 or 0, or unset".to_owned(),
                });
            }
        }
        if options.acquire.is_none() {
            options.acquire = Rung::from_env()?;
        }
        if !(SHORTEST_POLL..=LONGEST_POLL).contains(&options.poll_interval) {
            let value = format!("{:?}", options.poll_interval);
            return Err(Error::InvalidOption {
                option: "pollInterval",
                value,
                rule: "it must be from 1 ms to 1 h".to_owned(),
            });
        }
        let inner = Inner {
            directory: Arc::new(Directory::open(&options)?),
            options,
            view: Arc::default(),
            running: Mutex::new(None),
            cache: Mutex::default(),
            closed: AtomicBool::new(false),
            scans: AtomicU64::new(0),
            next_sink: AtomicU64::new(0),
            generation: generation(),
        };
        if inner.options.safe_doorbells {
            eventfd::use_aio();
        }
        Ok(Bus { inner: Arc::new(inner) })
    }

    /// The path of the bus directory, with the domain.
    pub fn path(&self) -> &Path {
        self.inner.directory.path()
    }

    /// What decided the path, as words to put after the path: `from IPC_BUS_DIR`.
    pub fn path_source(&self) -> &'static str {
        self.inner.directory.source()
    }

    /// The options that the bus was opened with.
    pub fn options(&self) -> &BusOptions {
        &self.inner.options
    }

    /// Every instance of every service, sorted by name and id.
    pub fn list(&self) -> Result<Vec<Arc<Record>>> {
        self.select(&Filter::All)
    }

    /// An instance of this service, if there is one. From the second call on this needs no system call if there is an
    /// instance.
    pub fn find(&self, service: &str) -> Result<Option<Arc<Record>>> {
        self.check_open()?;
        let view = &self.inner.view;
        if view.is_live()
            && !view.is_dirty()
            && let Some(found) = view.find(service)
        {
            return Ok(Some(found));
        }
        check_name("service name", service)?;
        let exact = Filter::Exact(service.to_owned());
        match self.catch_up(&exact) {
            Ok(true) => return Ok(view.find(service)),
            Ok(false) => {}
            // What could not be read now may still be known.
            Err(error) => return view.find(service).map(Some).ok_or(error),
        }
        Ok(self.scan(&exact)?.into_iter().next())
    }

    /// Every instance of the group: of the service of this name, and of every service whose name begins with it and a
    /// dot.
    pub fn find_all(&self, group: &str) -> Result<Vec<Arc<Record>>> {
        self.select(&Filter::group(group)?)
    }

    /// Waits until there is an instance of this service. Fails with `ERR_RINGBELL_TIMEOUT` when the time is over, and with
    /// the reason when the directory or a record of this service cannot be read for some time.
    pub fn wait_for(&self, service: &str, timeout: Option<Duration>) -> Result<Arc<Record>> {
        check_name("service name", service)?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut watch = self.watch(Filter::Exact(service.to_owned()))?;
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match watch.next(left)? {
                Some(ServiceEvent::Added(record) | ServiceEvent::Updated(record)) => return Ok(record),
                Some(ServiceEvent::Removed(_)) => {}
                None => {
                    let milliseconds = timeout.map_or(0, |timeout| timeout.as_millis() as u64);
                    return Err(Error::Timeout { what: format!("service '{service}'"), milliseconds });
                }
            }
        }
    }

    /// Follows the chosen services. Every present instance comes first, as `Added`; then the changes follow.
    pub fn watch(&self, filter: Filter) -> Result<Watch> {
        Watch::open(self, |sink| self.subscribe(filter, sink))
    }

    /// Announces an instance of a service, until the result is dropped.
    pub fn announce(&self, announcement: Announcement) -> Result<Announced> {
        check_name("service name", &announcement.service)?;
        check_name("kind", &announcement.kind)?;
        check_label("codec", announcement.codec.as_deref())?;
        check_label("schema", announcement.payload_schema.as_deref())?;
        for name in announcement.endpoints.keys() {
            check_label("endpoints", Some(name))?;
        }
        let granted =
            announcement.access.as_ref().map(|access| access.grant(self.dir().group())).transpose()?;
        let registry = self.registry()?;
        let myself = proc::myself()?;
        let record = Record {
            schema: SCHEMA,
            service: announcement.service,
            id: random::hex128()?,
            kind: announcement.kind,
            pid: myself.pid,
            start_time: myself.start_time,
            boot_id: myself.boot_id.clone(),
            pid_namespace: myself.pid_namespace,
            uid: nix::unistd::geteuid().as_raw(),
            protocol: ringbell_ring::layout::VERSION,
            offers: announcement.offers,
            topic: announcement.topic,
            channel: announcement.channel,
            state: announcement.state,
            sync: announcement.sync,
            group: announcement.group,
            metadata: announcement.metadata,
            endpoints: announcement.endpoints,
            codec: announcement.codec,
            payload_schema: announcement.payload_schema,
            access: granted.as_ref().map(Granted::to_record),
        };
        let (own, served) = Own::publish(&self.inner.directory, record, granted, announcement.server)?;
        let own = Arc::new(own);
        let announced = Announced::new(Arc::clone(&own), self.clone());
        if let Some(served) = served {
            let token = registry.thread().add(served, None);
            if !own.serving(token) {
                registry.thread().remove(token);
            }
        }
        let taken = registry.run(move |registry, thread| registry.add_own(own, thread));
        self.own_changed();
        // `close` marks the bus as closed before it stops the thread. So there are two cases: the mark is seen here, or
        // the thread has taken up the record before and withdraws it when it stops.
        if !taken || self.check_open().is_err() {
            return Err(Error::Closed { what: "bus" });
        }
        Ok(announced)
    }

    /// Removes what dead processes left. Any number of processes may call it at any time. It never touches a live
    /// instance.
    pub fn gc(&self) -> Result<GcReport> {
        self.check_open()?;
        let report = gc::sweep(&self.inner.directory);
        self.own_changed();
        report
    }

    /// How this bus learns of changes at the moment.
    pub fn watching(&self) -> Watching {
        let asked = self.running().and_then(|registry| registry.ask(|registry, _| registry.watching()));
        asked.unwrap_or(Watching { mode: "off", ..Watching::default() })
    }

    /// Ends the thread, withdraws what was announced, and ends every watch. Later calls on values made from the bus
    /// fail with `ERR_RINGBELL_CLOSED`.
    pub fn close(&self) {
        if self.inner.generation != generation() {
            return;
        }
        self.inner.closed.store(true, Ordering::SeqCst);
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Outside of the lock, because the drop waits for the thread.
        drop(running);
    }

    // For the rest of the crate.

    /// Gives registry events to `sink` on the bus thread until the guard is dropped. Returns before the present records
    /// are delivered.
    pub(crate) fn subscribe(&self, filter: Filter, sink: Box<dyn Sink>) -> Result<SinkGuard> {
        let registry = self.registry()?;
        let id = self.inner.next_sink.fetch_add(1, Ordering::Relaxed);
        if !registry.run(move |registry, thread| registry.add_sink(id, filter, sink, thread)) {
            return Err(Error::Closed { what: "bus" });
        }
        Ok(registry.guard(id))
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Arc<Directory> {
        &self.inner.directory
    }

    /// The bus thread. Starts it if it does not run.
    pub(crate) fn handle(&self) -> Result<Handle> {
        Ok(self.registry()?.thread().clone())
    }

    /// The file of this name in the bus directory, which arbitrates between processes.
    pub(crate) fn arbiter(&self, file: String) -> Result<Arbiter> {
        self.start(|running| {
            let handle = running.registry.thread().clone();
            Arbiter::new(Arc::clone(self.dir()), file, running.news.clone(), handle)
        })
    }

    /// The registry on the bus thread. Starts the thread if it does not run.
    fn registry(&self) -> Result<RegistryHandle> {
        self.start(|running| running.registry.clone())
    }

    /// Uses what runs. Starts the thread if it does not run.
    fn start<T>(&self, call: impl FnOnce(&Running) -> T) -> Result<T> {
        self.check_open()?;
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.closed.load(Ordering::SeqCst) {
            return Err(Error::Closed { what: "bus" });
        }
        if let Some(running) = running.as_ref() {
            return Ok(call(running));
        }
        let Inner { directory, view, options, .. } = &*self.inner;
        let registry =
            Registry::new(Arc::clone(directory), Arc::clone(view), options.inotify, options.poll_interval)?;
        let owner = Owner::start()?;
        let registry = RegistryHandle::add(owner.handle(), registry);
        let news = News::new(owner.handle().clone(), options.inotify, options.poll_interval);
        Ok(call(running.insert(Running { registry, news, _owner: owner })))
    }

    /// Reports that this process changed the directory. The view must catch up before its next use.
    fn own_changed(&self) {
        self.inner.view.set_dirty(true);
    }

    fn forget(&self, own: &Arc<Own>, server: Option<Token>) {
        self.own_changed();
        let Some(registry) = self.running() else { return };
        if let Some(token) = server {
            registry.thread().remove(token);
        }
        let own = Arc::clone(own);
        registry.run(move |registry, thread| registry.remove_own(&own, thread));
    }

    fn running(&self) -> Option<RegistryHandle> {
        if self.inner.generation != generation() {
            return None;
        }
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map(|running| running.registry.clone())
    }

    fn check_open(&self) -> Result<()> {
        if self.inner.closed.load(Ordering::SeqCst) || self.inner.generation != generation() {
            return Err(Error::Closed { what: "bus" });
        }
        Ok(())
    }

    fn select(&self, chosen: &Filter) -> Result<Vec<Arc<Record>>> {
        self.check_open()?;
        if self.catch_up(chosen)? {
            return Ok(self.inner.view.list(chosen));
        }
        self.scan(chosen)
    }

    /// Brings the view up to date. False when there is no view.
    ///
    /// # Errors
    /// When the directory, or the record of a chosen service, cannot be read now.
    fn catch_up(&self, chosen: &Filter) -> Result<bool> {
        let view = &self.inner.view;
        if !view.is_live() {
            return Ok(false);
        }
        if view.behind()
            && let Some(registry) = self.running()
            && let Some(caught_up) = {
                let chosen = chosen.clone();
                registry.ask(move |registry, thread| registry.catch_up(&chosen, thread))
            }
        {
            caught_up?;
        }
        Ok(view.is_live())
    }

    /// Every chosen record whose owner lives now, by a look at the directory. For decisions that the view, which may be
    /// a moment behind, must not make.
    pub(crate) fn look_up(&self, chosen: &Filter) -> Result<Vec<Arc<Record>>> {
        self.check_open()?;
        scan_now(&self.inner.directory, chosen)
    }

    fn scan(&self, chosen: &Filter) -> Result<Vec<Arc<Record>>> {
        let directory = &self.inner.directory;
        if directory.is_gone() {
            directory.restore()?;
        }
        if self.inner.scans.fetch_add(1, Ordering::Relaxed) > 0 {
            // The view only makes look-ups faster. Where no thread can be started, every look-up scans.
            if let Ok(registry) = self.registry() {
                registry.run(|registry, thread| registry.keep_view(thread));
            }
        }
        self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner).scan(directory, chosen)
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bus").field("path", &self.path()).finish_non_exhaustive()
    }
}
