//! The way back of a stream: heads, bodies and ends of its answer become frames of its connection.
//!
//! Rule: what the windows do not allow waits in the stream; what they do is a frame at once, behind those of the
//! other streams. Called by `answer`, and by who has made room (`h2`, `backlog`).

use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::answer::Head;
use crate::session::front::asker::Asker;
use crate::session::front::stall::WriteWait;
use crate::session::ids::StreamId;

impl<D: Driver> Engine<D> {
    /// Sends a head; `ends` says that nothing follows.
    pub(super) fn stream_head(&mut self, id: StreamId, head: Head<'_>, ends: bool) {
        let stream = &mut self.streams[id];
        let (connection, number) = (stream.connection, stream.number);
        stream.finished |= ends;
        if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
            multiplex.out(&mut self.pool);
            let (h2, out) = (&mut multiplex.h2, &mut multiplex.out);
            match head {
                Head::Passed {
                    text,
                    head,
                    forward,
                } => h2.send_response(out, number, text, head, forward, ends),
                Head::Own(head) => h2.send_own(out, number, head, ends),
            }
        }
        self.queue_multiplexed(connection);
    }

    /// Sends body bytes, or queues what the windows do not allow. With `ends` they are the last ones,
    /// and no trailers follow.
    pub(super) fn stream_send(&mut self, id: StreamId, first: &[u8], second: &[u8], ends: bool) {
        let stream = &mut self.streams[id];
        let (connection, number) = (stream.connection, stream.number);
        let mut left = (first, second);
        if stream.output.is_empty() {
            if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
                multiplex.out(&mut self.pool);
                let (h2, out) = (&mut multiplex.h2, &mut multiplex.out);
                let is_last = ends && second.is_empty();
                left.0 = &first[h2.send_data(out, number, first, is_last)..];
                if left.0.is_empty() && !second.is_empty() {
                    left.1 = &second[h2.send_data(out, number, second, ends)..];
                }
                stream.finished |= ends && left.0.is_empty() && left.1.is_empty();
            }
        }
        let progressed = left.0.len() + left.1.len() < first.len() + second.len();
        stream.output.push(&mut self.pool, left.0);
        stream.output.push(&mut self.pool, left.1);
        self.note_backlog(id, connection);
        if !self.streams[id].is_flushed() {
            self.await_write(Asker::Stream(id), progressed);
        }
        self.queue_multiplexed(connection);
    }

    /// The response is complete: ends the stream as soon as everything is sent.
    pub(super) fn end_stream(&mut self, id: StreamId) {
        let stream = &mut self.streams[id];
        stream.close_when_sent = true;
        // What still comes is not wanted.
        stream.input.clear(&mut self.pool);
        if !stream.output.is_empty() {
            return self.await_write(Asker::Stream(id), false);
        }
        self.end_stream_response(id);
        self.close_stream(id);
    }

    /// Ends our side of a stream.
    pub(super) fn end_stream_response(&mut self, id: StreamId) {
        let stream = &mut self.streams[id];
        let (connection, number) = (stream.connection, stream.number);
        let trailers = std::mem::take(&mut stream.trailers_out);
        if std::mem::replace(&mut stream.finished, true) {
            return;
        }
        if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
            multiplex.out(&mut self.pool);
            multiplex
                .h2
                .send_trailers(&mut multiplex.out, number, trailers.lines());
        }
        self.queue_multiplexed(connection);
    }

    /// Sends what a stream has queued, as far as the windows allow; returns how many bytes went.
    pub(super) fn flush_stream(&mut self, id: StreamId) -> usize {
        let stream = &mut self.streams[id];
        let (connection, number) = (stream.connection, stream.number);
        let mut sent = 0;
        if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
            multiplex.out(&mut self.pool);
            let (h2, out) = (&mut multiplex.h2, &mut multiplex.out);
            sent = h2.send_data(out, number, stream.output.as_slice(), false);
        }
        stream.output.consume(&mut self.pool, sent);
        self.note_backlog(id, connection);
        self.queue_multiplexed(connection);
        self.stream_flushed(id, sent > 0);
        sent
    }

    /// Its connection may have taken everything: the answer goes on, or is over.
    pub(super) fn stream_flushed(&mut self, id: StreamId, progressed: bool) {
        let stream = &mut self.streams[id];
        if !stream.is_flushed() {
            return self.await_write(Asker::Stream(id), progressed);
        }
        stream.write = WriteWait::default();
        if stream.close_when_sent {
            return self.end_stream(id);
        }
        if let Some(exchange) = stream.exchange {
            self.clear_asker_deadline(Asker::Stream(id));
            self.asker_made_room(exchange);
        }
        self.wake_stream(id);
    }
}
