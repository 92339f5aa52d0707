//! Frames on their way to a backend: those of all streams of a connection leave in one write.
//!
//! Rule: they are collected until the end of the turn. What fails here shows when the connection is read, as there
//! may be answers in it yet. Called by the loop (`front::multiplex`), and when the socket has room.

use std::io;

use crate::runtime::driver::Driver;
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::ids::UpstreamId;
use crate::telemetry::names::Counter;

/// Bytes of answers to PING, SETTINGS and the like that may wait for a backend which takes nothing: who
/// asks for more without reading any is broken.
const UNREAD_ANSWERS_MAX: usize = 64 * 1024;

impl<D: Driver> Engine<D> {
    pub(super) fn queue_shared(&mut self, id: UpstreamId) {
        if let Some(shared) = self.upstreams[id].shared.as_mut() {
            if !std::mem::replace(&mut shared.queued, true) {
                self.unflushed.push(id.token());
            }
        }
    }

    /// Sends the frames of this turn.
    pub(in crate::session) fn flush_shared_frames(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let Some(shared) = upstream.shared.as_mut() else {
            return;
        };
        shared.queued = false;
        shared.wakes = false;
        if matches!(upstream.link, Link::Connecting | Link::Securing) {
            return;
        }
        shared.out(&mut self.pool);
        if upstream.output.is_empty() && !upstream.stream.has_unsent() {
            shared.h2.flush(&mut shared.out);
        } else if shared.h2.waiting_bytes() > UNREAD_ANSWERS_MAX {
            self.metrics.add(Counter::Http2ErrorsTotal, 1);
            return self.shared_lost(id);
        }
        let out = std::mem::take(&mut shared.out);
        let mut sent = 0;
        if upstream.is_flushed() && !out.is_empty() {
            match upstream
                .stream
                .send(&mut self.tls, &mut self.pool, &out, &[])
            {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    sent = out.len();
                    self.shared_is_deaf(id);
                }
            }
        }
        let upstream = &mut self.upstreams[id];
        upstream.output.push(&mut self.pool, &out[sent..]);
        self.pool.give(out);
        if let Some(shared) = upstream.shared.as_mut() {
            shared.sent += sent as u64;
        }
        if self.upstreams[id].is_flushed() {
            self.unblock_back_streams(id);
        }
    }

    /// The socket has room.
    pub(super) fn flush_shared(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        if upstream.is_flushed() {
            return;
        }
        let waiting = upstream.output.as_slice();
        match upstream
            .stream
            .send(&mut self.tls, &mut self.pool, waiting, &[])
        {
            Ok(sent) => {
                upstream.output.consume(&mut self.pool, sent);
                if let Some(shared) = upstream.shared.as_mut() {
                    shared.sent += sent as u64;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return self.shared_is_deaf(id),
        }
        if self.upstreams[id].is_flushed() {
            self.queue_shared(id);
            self.unblock_back_streams(id);
        }
    }

    fn shared_is_deaf(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.output.clear(&mut self.pool);
        upstream.readable = true;
        upstream.hangup = true;
        upstream.backend.forget_shared(id.token());
        if let Some(shared) = upstream.shared.as_mut() {
            shared.leaving = true;
        }
        self.wake_upstream(id);
    }

    fn unblock_back_streams(&mut self, id: UpstreamId) {
        let Some(shared) = self.upstreams[id].shared.as_mut() else {
            return;
        };
        if !std::mem::take(&mut shared.has_blocked) {
            return;
        }
        for stream in shared.streams.clone() {
            let Some(at) = self.back_streams.get_mut(stream) else {
                continue;
            };
            if std::mem::take(&mut at.blocked) && at.is_flushed() {
                self.back_stream_has_room(stream);
            }
        }
    }
}
