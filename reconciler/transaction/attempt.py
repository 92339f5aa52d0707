"""One attempt's traffic: sends the machine's messages and turns what comes back into events.

Replies, lost connections and the one timer all end in `inbox`, which
`reconciler.transaction.runner` feeds to the machine one by one. A reply to an earlier attempt never
gets here: each message has its own future, made by the attempt that sent it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reconciler import faults, log
from reconciler.patience import Countdown
from reconciler.storage.writing.begun import Begun
from reconciler.transaction import events
from reconciler.workers.linked.link import WorkerGoneError
from reconciler.workers.linked.streaming import Reply, Streaming
from reconciler.workers.linked.worker import Worker
from schemas.changes.ops import chunks
from schemas.messages import wire
from schemas.messages.frames import WireError

# The engine's refusals that are about what it holds, not about an entity of the commit.
_OWN_FAULT_KIND = "state"


class Attempt:
    """The workers of one transaction, as long as it lasts."""

    def __init__(
        self,
        number: int,
        begun: Begun,
        workers: dict[int, Worker],
        sockets: dict[int, dict[str, int]],
        material_dir: Path,
    ) -> None:
        self.inbox: asyncio.Queue[events.Event] = asyncio.Queue()
        self._number = number
        self._begun = begun
        self._workers = workers
        self._sockets = sockets
        self._streaming = Streaming(number, begun.generation, material_dir)
        self._addressed: list[Worker] = []
        self._sending: asyncio.Task[None] | None = None
        self._timer: Countdown | None = None
        self._timer_s = 0.0
        self._watches: list[tuple[Worker, Callable[[str], None]]] = []
        for worker in workers.values():
            watch = partial(self._on_closed, worker)
            worker.link.watch(watch)
            self._watches.append((worker, watch))
            if worker.link.closed:
                self._on_closed(worker, "")

    def end(self) -> None:
        """Stops listening to the workers and to the clock."""
        self._stop_sending()
        if self._timer is not None:
            self._timer.cancel()
        for worker, watch in self._watches:
            worker.link.unwatch(watch)

    def set_timer(self, delay_s: float) -> None:
        """(Re)arms the deadline of the phase that begins."""
        self._timer_s = delay_s
        if self._timer is not None:
            self._timer.cancel()
        self._timer = Countdown(delay_s, self._time_is_up)

    def _time_is_up(self) -> None:
        """Whoever says that he works has as long again: he says it no longer than he may."""
        if any(worker.link.is_working() for worker in self._workers.values()):
            self.set_timer(self._timer_s)
        else:
            self.inbox.put_nowait(events.DeadlinePassed())

    def prepare(self, number: int) -> None:
        """Sends the whole change, with the sockets that it needs; to all who are told in one turn
        of the loop at the same pace."""
        self._addressed.append(self._workers[number])
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_change())

    async def _send_change(self) -> None:
        links = [worker.link for worker in self._addressed]
        begun = self._begun
        try:
            sent = await self._streaming.send(
                links, chunks(begun.puts, begun.removes), self._listen_to
            )
            if isinstance(sent, int):
                for worker in self._addressed:
                    self._send_prepare(worker.id, sent)
        except WorkerGoneError:
            # As with a refusal: the machine has been told.
            return
        except (WireError, OSError) as error:
            self.inbox.put_nowait(events.StreamFailed(f"cannot send the change: {error}"))
        except Exception as error:  # noqa: BLE001  # nobody else would hear of it
            reason = log.internal_error("sending a change", error)
            self.inbox.put_nowait(events.StreamFailed(reason))
        finally:
            self._sending = None

    def _listen_to(self, index: int, reply: Reply) -> None:
        reply.add_done_callback(partial(self._on_reply, self._addressed[index]))

    def _send_prepare(self, number: int, chunk_count: int) -> None:
        sockets = self._sockets[number]
        message = wire.Prepare(
            transaction=self._number,
            generation=self._begun.generation,
            base_generation=self._begun.base_generation,
            base_digest=self._begun.base_digest,
            commit=self._begun.commit,
            chunks=chunk_count,
            sockets=list(sockets),
        )
        self._send(number, message, list(sockets.values()))
        faults.point("prepare.sent")

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def commit(self, number: int) -> None:
        """Sends the decision."""
        generation = self._begun.generation
        self._send(number, wire.Commit(transaction=self._number, generation=generation))
        faults.point("commit.sent")

    def abort(self, number: int) -> None:
        """Takes the preparation back."""
        self._stop_sending()
        generation = self._begun.generation
        self._send(number, wire.Abort(transaction=self._number, generation=generation))
        faults.point("abort.sent")

    def release(self, number: int) -> None:
        """Lets what was removed be drained."""
        generation = self._begun.generation
        self._send(number, wire.Release(transaction=self._number, generation=generation))
        faults.point("release.sent")

    def _send(
        self, number: int, message: wire.ToWorker, descriptors: list[int] | None = None
    ) -> None:
        worker = self._workers[number]
        reply = worker.link.ask(message, descriptors)
        reply.add_done_callback(partial(self._on_reply, worker))

    def _on_reply(self, worker: Worker, reply: asyncio.Future[wire.FromWorker]) -> None:
        if reply.cancelled():
            return
        error = reply.exception()
        if error is not None:
            self.inbox.put_nowait(events.WorkerLost(worker.id))
            return
        event = self._event(worker, reply.result())
        if event is not None:
            self.inbox.put_nowait(event)

    def _event(self, worker: Worker, message: wire.FromWorker) -> events.Event | None:
        match message:
            case wire.Staged(transaction=self._number):
                # It gets on: what has a deadline is the next step, however many there are.
                if self._sending is not None:
                    self.set_timer(self._timer_s)
                return None
            case wire.Prepared(transaction=self._number, digest=digest):
                return events.WorkerPrepared(worker.id, digest)
            case wire.Refused(kind=kind, reason=reason) if kind == _OWN_FAULT_KIND:
                # It holds something else than it reported. A successor will hold what it should.
                log.warning("a worker has drifted", worker=worker.id, reason=reason)
                worker.link.close(reason)
                return events.WorkerLost(worker.id)
            case wire.Refused(transaction=self._number, kind=kind, name=name, reason=reason):
                return events.WorkerRefused(worker.id, kind, name, reason)
            case wire.Committed(transaction=self._number, digest=digest):
                worker.now_holds(self._begun.generation, digest, self._begun.commit)
                return events.WorkerCommitted(worker.id, digest)
            case wire.Aborted(transaction=self._number):
                return events.WorkerAborted(worker.id)
            case wire.Released(transaction=self._number):
                return events.WorkerReleased(worker.id)
        worker.link.close(f"it answered by {message.type} out of turn")
        return events.WorkerLost(worker.id)

    def _on_closed(self, worker: Worker, _: str) -> None:
        self.inbox.put_nowait(events.WorkerLost(worker.id))
