//! The cached view: what the bus thread knows. Other threads look services up in it without a system call.
//!
//! Invariant: while `live`, the view shows the directory as of the last change that the bus thread has seen.
//! [`View::behind`] says whether there may be a later change. Only the registry writes the view.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::filter::Filter;
use crate::record::Record;
use crate::sys::inotify::Inotify;

type Records = HashMap<String, BTreeMap<String, Arc<Record>>>;

#[derive(Default)]
pub(super) struct View {
    /// By service, then by id.
    records: RwLock<Records>,
    live: AtomicBool,
    /// True while the bus thread reads changes, or has read changes that it has not applied.
    busy: AtomicBool,
    /// True when the view may be behind though inotify shows nothing: this process itself changed the directory, a part
    /// of it could not be read, or the view has just begun.
    dirty: AtomicBool,
    inotify: RwLock<Option<Arc<Inotify>>>,
}

impl View {
    // All orderings are SeqCst. `behind` looks at two flags and a queue, and must see them in the order in which the
    // bus thread changes them (SYNC: pairs with each other).

    pub(super) fn is_live(&self) -> bool {
        self.live.load(Ordering::SeqCst)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::SeqCst)
    }

    pub(super) fn set_dirty(&self, dirty: bool) {
        self.dirty.store(dirty, Ordering::SeqCst);
    }

    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::SeqCst);
    }

    /// Starts the view. `inotify` is the source that shows changes, if there is one.
    pub(super) fn begin(&self, inotify: Option<Arc<Inotify>>) {
        *self.inotify.write().unwrap_or_else(PoisonError::into_inner) = inotify;
        // The content was read before now, and another call may have scanned since. The first use brings it up to date,
        // so that no record comes back after a caller was told that it is gone.
        self.set_dirty(true);
        self.live.store(true, Ordering::SeqCst);
    }

    /// Ends the view. The registry removes its content.
    pub(super) fn end(&self) {
        self.live.store(false, Ordering::SeqCst);
        self.inotify.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the directory may have changed since the bus thread last looked. Always true without inotify.
    pub(super) fn behind(&self) -> bool {
        let inotify = self.inotify.read().unwrap_or_else(PoisonError::into_inner);
        let Some(inotify) = inotify.as_ref() else { return true };
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        // The queue must be checked first. If the bus thread takes a change from it after this check, `busy` is already
        // set at the next check.
        poll(&mut fds, PollTimeout::ZERO) != Ok(0) || self.busy.load(Ordering::SeqCst) || self.is_dirty()
    }

    pub(super) fn insert(&self, record: Arc<Record>) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        records.entry(record.service.clone()).or_default().insert(record.id.clone(), record);
    }

    pub(super) fn remove(&self, record: &Record) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(instances) = records.get_mut(&record.service) {
            instances.remove(&record.id);
            if instances.is_empty() {
                records.remove(&record.service);
            }
        }
    }

    /// The instance of this service with the smallest id.
    pub(super) fn find(&self, service: &str) -> Option<Arc<Record>> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.get(service)?.values().next().cloned()
    }

    /// The chosen records, by service and id.
    pub(super) fn list(&self, chosen: &Filter) -> Vec<Arc<Record>> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let mut services: Vec<_> = records.iter().filter(|(service, _)| chosen.matches(service)).collect();
        services.sort_unstable_by_key(|(service, _)| *service);
        services.into_iter().flat_map(|(_, instances)| instances.values().cloned()).collect()
    }
}
