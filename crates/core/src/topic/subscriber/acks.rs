//! Acknowledging what was received: message by message, or what `Pending` has collected.
//!
//! Invariant: an acknowledgement that is due is sent before the subscriber sleeps or leaves, because its publisher may
//! wait for it. Programs call [`Subscriber::ack`]; the waits and the drop of the subscriber call the rest.

use super::Subscriber;
use crate::error::{Error, Result};
use crate::topic::acks::AckMode;

impl Subscriber {
    /// Acknowledges all messages of a source up to and including the one with this sequence. `false` means that they
    /// were acknowledged before, or that the source has ended. It is for [`AckMode::Deferred`]. Under
    /// [`AckMode::Batch`] it acknowledges at once and does not wait for a batch to fill.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::{AckMode, PublisherOptions, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut publisher = bus.publisher("jobs", PublisherOptions::default())?;
    /// let mut options = SubscriberOptions::default();
    /// options.ack = AckMode::Deferred;
    /// let mut subscriber = bus.subscriber("jobs", options)?;
    /// # subscriber.wait_attached(1, Some(Duration::from_secs(30)))?;
    /// publisher.send(b"job 1")?;
    /// publisher.send(b"job 2")?;
    ///
    /// subscriber.recv()?;
    /// let message = subscriber.recv()?;
    /// let (source, sequence) = (message.source, message.sequence);
    /// // The work is done. The publisher keeps both messages until now.
    /// assert!(subscriber.ack(source, sequence)?);
    /// assert!(!subscriber.ack(source, sequence)?); // acknowledged before
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION` under [`AckMode::Immediate`], and for a message that was not delivered yet.
    /// `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn ack(&mut self, source: u32, sequence: u64) -> Result<bool> {
        if self.home.is_foreign() {
            return Err(Error::Closed { what: "subscriber" });
        }
        if self.pending.mode() == AckMode::Immediate {
            return Err(Error::InvalidOption {
                option: "ack",
                value: "immediate".into(),
                rule: "ack() needs a subscriber with ack: 'deferred' or 'batch'".into(),
            });
        }
        let Some(index) = self.index_of(source) else { return Ok(false) };
        self.sources[index].acknowledge_through(sequence, &self.inbox).map_err(|last| Error::InvalidOption {
            option: "upTo",
            value: sequence.to_string(),
            rule: match last {
                Some(last) => {
                    format!("it must be a message that was delivered; the last one has sequence {last}")
                }
                None => "it must be a message that was delivered; none was".to_owned(),
            },
        })
    }

    /// Messages of a source before this sequence may have been delivered to an earlier holder of the durable name.
    pub(super) fn redelivered_below(&self, source: u32) -> u64 {
        self.index_of(source).map_or(0, |index| self.sources[index].reader().redelivered_below())
    }

    /// Acknowledges the messages that `Pending` found due.
    pub(super) fn acknowledge_due(&mut self, due: Option<(u32, u64)>) {
        if let Some((source, sequence)) = due {
            // If the source has ended, its publisher no longer needs the acknowledgement.
            let _ = self.ack(source, sequence);
        }
    }
}
