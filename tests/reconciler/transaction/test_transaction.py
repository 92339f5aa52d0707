"""The machine alone: conversations, and every interleaving that hypothesis can think of."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.transaction import events as e
from reconciler.transaction.events import Command, Event, Phase
from reconciler.transaction.transaction import Transaction

DIGEST = "d" * 32
OTHER = "0" * 32


def machine(*workers: int) -> Transaction:
    return Transaction(frozenset(workers), DIGEST)


def told(transaction: Transaction, *events: Event) -> list[Command]:
    """What the machine commands on the last of these events."""
    commands: list[Command] = []
    for event in events:
        commands = transaction.handle(event)
        transaction.check_invariants()
    return commands


PREPARING: list[Event] = [e.Started()]
PREPARED: list[Event] = [*PREPARING, e.WorkerPrepared(0, DIGEST), e.WorkerPrepared(1, DIGEST)]
COMMITTING: list[Event] = [*PREPARED, e.CommitRecorded()]


def test_a_commit_from_begin_to_done() -> None:
    transaction = machine(0, 1)
    assert told(transaction, e.Started()) == [
        e.SetDeadline(Phase.PREPARING),
        e.SendPrepare(0),
        e.SendPrepare(1),
    ]
    assert told(transaction, e.WorkerPrepared(1, DIGEST)) == []
    assert transaction.waiting == {0}
    assert told(transaction, e.WorkerPrepared(0, DIGEST)) == [e.RecordCommit()]
    assert told(transaction, e.CommitRecorded()) == [
        e.SetDeadline(Phase.COMMITTING),
        e.SendCommit(0),
        e.SendCommit(1),
    ]
    assert told(transaction, e.WorkerCommitted(0, DIGEST)) == []
    assert told(transaction, e.WorkerCommitted(1, DIGEST)) == [
        e.SetDeadline(Phase.RELEASING),
        e.SendRelease(0),
        e.SendRelease(1),
    ]
    assert told(transaction, e.WorkerReleased(0)) == []
    assert told(transaction, e.WorkerReleased(1)) == [e.RecordDone()]
    assert transaction.finished
    assert transaction.failure is None


def test_one_refusal_aborts_everywhere() -> None:
    transaction = machine(0, 1)
    refusal = e.WorkerRefused(1, "listener", "public", "no")
    assert told(transaction, *PREPARING, refusal) == [
        e.SetDeadline(Phase.ABORTING),
        e.SendAbort(0),
        e.SendAbort(1),
    ]
    assert told(transaction, e.WorkerAborted(0), e.WorkerAborted(1)) == []
    assert transaction.phase is Phase.ABORTED
    assert transaction.failure == e.Failure("no", transient=False, kind="listener", name="public")


def test_a_change_that_cannot_be_sent_aborts() -> None:
    transaction = machine(0, 1)
    assert told(transaction, *PREPARING, e.StreamFailed("no memory")) == [
        e.SetDeadline(Phase.ABORTING),
        e.SendAbort(0),
        e.SendAbort(1),
    ]
    assert transaction.failure == e.Failure("no memory", transient=True)
    # Behind the commit point nothing is sent in parts.
    transaction = machine(0, 1)
    told(transaction, *COMMITTING)
    assert told(transaction, e.StreamFailed("no memory")) == []
    assert transaction.phase is Phase.COMMITTING


def test_a_death_before_the_commit_point_aborts() -> None:
    transaction = machine(0, 1)
    commands = told(transaction, *PREPARING, e.WorkerPrepared(0, DIGEST), e.WorkerLost(0))
    assert commands == [e.SetDeadline(Phase.ABORTING), e.SendAbort(1)]
    assert transaction.failure is not None
    assert transaction.failure.transient


def test_a_death_behind_the_commit_point_holds_nothing_up() -> None:
    transaction = machine(0, 1)
    told(transaction, *COMMITTING, e.WorkerCommitted(0, DIGEST))
    commands = told(transaction, e.WorkerLost(1))
    assert commands == [e.SetDeadline(Phase.RELEASING), e.SendRelease(0)]
    assert told(transaction, e.WorkerReleased(0)) == [e.RecordDone()]


def test_the_death_of_all_behind_the_commit_point_is_still_done() -> None:
    transaction = machine(0, 1)
    told(transaction, *COMMITTING, e.WorkerLost(0))
    assert told(transaction, e.WorkerLost(1))[-1] == e.RecordDone()
    assert transaction.failure is None


def test_silence_while_preparing_aborts_and_names_the_silent() -> None:
    transaction = machine(0, 1)
    told(transaction, *PREPARING, e.WorkerPrepared(0, DIGEST), e.DeadlinePassed())
    assert transaction.failure is not None
    assert transaction.failure.reason == "worker 1 did not prepare in time"
    assert told(transaction, e.WorkerAborted(0), e.DeadlinePassed()) == [
        e.ReplaceWorker(1, "it did not answer an abort")
    ]
    assert transaction.finished


def test_silence_behind_the_commit_point_replaces() -> None:
    transaction = machine(0, 1)
    told(transaction, *COMMITTING, e.WorkerCommitted(0, DIGEST))
    assert told(transaction, e.DeadlinePassed()) == [
        e.ReplaceWorker(1, "it did not commit in time"),
        e.SetDeadline(Phase.RELEASING),
        e.SendRelease(0),
    ]


def test_a_worker_that_computes_another_digest_is_replaced() -> None:
    transaction = machine(0, 1)
    commands = told(transaction, *PREPARING, e.WorkerPrepared(1, OTHER))
    assert isinstance(commands[0], e.ReplaceWorker)
    assert commands[1:] == [e.SetDeadline(Phase.ABORTING), e.SendAbort(0)]


def test_a_worker_that_commits_another_digest_is_replaced() -> None:
    transaction = machine(0, 1)
    told(transaction, *COMMITTING, e.WorkerCommitted(0, DIGEST))
    commands = told(transaction, e.WorkerCommitted(1, OTHER))
    assert isinstance(commands[0], e.ReplaceWorker)
    assert commands[-1] == e.SendRelease(0)


def test_a_state_that_cannot_be_written_aborts() -> None:
    transaction = machine(0, 1)
    told(transaction, *PREPARED, e.RecordFailed("disk full"))
    told(transaction, e.WorkerAborted(0), e.WorkerAborted(1))
    assert transaction.phase is Phase.ABORTED
    assert transaction.failure == e.Failure("disk full", transient=True, stage="journal")


def test_late_and_repeated_replies_mean_nothing() -> None:
    transaction = machine(0, 1)
    told(transaction, *COMMITTING)
    for event in (e.WorkerPrepared(0, DIGEST), e.WorkerAborted(1), e.Started()):
        assert told(transaction, event) == []
    assert transaction.phase is Phase.COMMITTING


class World:
    """Workers, journal and clock around the machine, which do what an adversary picks."""

    def __init__(self, count: int) -> None:
        self.machine = machine(*range(count))
        self.alive = dict.fromkeys(range(count), True)
        self.state = dict.fromkeys(range(count), "base")
        self.ever_committed: set[int] = set()
        self.inbox: deque[Event] = deque([e.Started()])
        self.wire: dict[int, deque[Event]] = {worker: deque() for worker in range(count)}
        self.commit_durable = False
        self.armed = False
        self.handled: list[Event] = []

    def execute(self, commands: list[Command], journal_fails: bool) -> None:
        for command in commands:
            match command:
                case e.RecordCommit():
                    assert all(self.state[w] == "staged" for w in self.alive if self.alive[w])
                    self.commit_durable = not journal_fails
                    failed = e.RecordFailed("full")
                    self.inbox.append(failed if journal_fails else e.CommitRecorded())
                case e.SetDeadline():
                    self.armed = True
                case e.ReplaceWorker(worker=worker):
                    self.kill(worker)
                case e.SendPrepare() | e.SendCommit() | e.SendAbort() | e.SendRelease():
                    self.send(command)
                case e.RecordDone():
                    assert self.commit_durable

    def send(self, command: Command) -> None:
        match command:
            case e.SendCommit():
                assert self.commit_durable, "nobody commits before the commit point"
            case e.SendAbort():
                assert not self.commit_durable, "nobody aborts behind it"
            case e.SendRelease():
                live = [worker for worker, alive in self.alive.items() if alive]
                assert all(self.state[worker] == "new" for worker in live)
        worker: int = command.worker  # type: ignore[union-attr]
        if self.alive[worker]:
            self.wire[worker].append(command)  # type: ignore[arg-type]

    def step(self, worker: int, choice: str) -> None:
        """A worker takes the next message off its wire and answers, honestly or not at all."""
        if not self.alive[worker] or not self.wire[worker]:
            return
        command = self.wire[worker].popleft()
        match command:
            case e.SendPrepare() if choice == "refuse":
                self.inbox.append(e.WorkerRefused(worker, "cluster", "c", "no"))
            case e.SendPrepare():
                self.state[worker] = "staged"
                digest = OTHER if choice == "wrong" else DIGEST
                self.inbox.append(e.WorkerPrepared(worker, digest))
            case e.SendCommit():
                assert self.state[worker] == "staged"
                self.state[worker] = "new"
                self.ever_committed.add(worker)
                self.inbox.append(e.WorkerCommitted(worker, DIGEST))
            case e.SendAbort():
                self.state[worker] = "base"
                self.inbox.append(e.WorkerAborted(worker))
            case e.SendRelease():
                self.inbox.append(e.WorkerReleased(worker))

    def deliver(self, event: Event, *, journal_fails: bool = False) -> None:
        self.handled.append(event)
        self.execute(self.machine.handle(event), journal_fails)
        self.machine.check_invariants()

    def act(self, action: str, worker: int, flag: bool) -> None:
        match action:
            case "deliver" if self.inbox:
                self.deliver(self.inbox.popleft(), journal_fails=flag and worker == 0)
            case "work" | "refuse" | "wrong":
                self.step(worker, action)
            case "kill" if flag:
                self.kill(worker)
            case "deadline" if self.armed and flag:
                self.deliver(e.DeadlinePassed())
            case "repeat" if self.handled and not isinstance(self.handled[-1], e.DeadlinePassed):
                self.deliver(self.handled[-1])

    def settle(self) -> None:
        """The adversary tires: everything is delivered, and clocks go on."""
        for _ in range(200):
            if self.machine.finished:
                return
            if self.inbox:
                self.deliver(self.inbox.popleft())
            elif any(self.wire.values()):
                for worker in self.wire:
                    self.step(worker, "work")
            else:
                self.deliver(e.DeadlinePassed())

    def kill(self, worker: int) -> None:
        if self.alive[worker]:
            self.alive[worker] = False
            self.wire[worker].clear()
            self.inbox.append(e.WorkerLost(worker))


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "work", "refuse", "wrong", "kill", "deadline", "repeat"]),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=60,
)


@settings(max_examples=600)
@given(st.integers(1, 3), ACTIONS)
def test_all_or_nothing_under_every_interleaving(
    count: int, actions: list[tuple[str, int, bool]]
) -> None:
    world = World(count)
    for action, number, flag in actions:
        world.act(action, number % count, flag)
    world.settle()
    assert world.machine.finished
    live = [world.state[worker] for worker, alive in world.alive.items() if alive]
    if world.machine.failure is None:
        assert world.commit_durable
        assert set(live) <= {"new"}
    else:
        assert not world.commit_durable
        assert not world.ever_committed
        assert set(live) <= {"base"}
