"""Sees to it that certificates with `acme:` are ordered, and renewed in time.

What was issued is a file in the state directory, key and chain in one, which
`reconciler.loop.reconcile` takes over as it does any file outside of the repository: by a
transaction of one entity. So nothing here touches what is served. Called by `reconciler.daemon`;
`wake` after each change of the state.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler import log
from reconciler.acme.accounts import Accounts
from reconciler.acme.order import Order, OrderError
from reconciler.durable import make_own_directory, replace_durably
from reconciler.materials.external import Signature, signature_of
from reconciler.own_threads import OwnThreads
from reconciler.parts import heard_again_within
from reconciler.patience import within
from reconciler.presence import is_there
from reconciler.stalling import HurriedError, hurried, looked_at
from reconciler.storage.kept.memory import Memory
from reconciler.workers.telling.challenges import ChallengeKeeper
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.certificate import Certificate
from schemas.messages.challenges import ChallengeAnswers
from schemas.messages.files import read_regular

if TYPE_CHECKING:
    from cryptography import x509

DIRECTORY = "acme"
ACCOUNTS = "accounts"
ISSUED = "issued"

ORDERS_AT_ONCE = 4
ORDER_WITHIN_S = 900.0
"""An authority has three minutes, and each request has a time: what takes longer hangs."""
_FIRST_RETRY = timedelta(minutes=1)
_LAST_RETRY = timedelta(hours=12)
# Without a word of the authority, what is left of a certificate when it is renewed.
_LEFT_AT_RENEWAL = 1 / 3
_DOUBLINGS_MAX = 16
# One that was just issued is not ordered again before this, whatever the authority suggests.
_REORDER_PAUSE = timedelta(hours=1)
# The first line of what was issued, which is none of PEM: readers of that pass it by (RFC 7468 §2).
_ORDERED_FROM = "Ordered from: "
# How often an authority is asked when to renew: as it says, within these; else the last one.
_ADVICE_PAUSE_MIN = timedelta(minutes=1)
_ADVICE_PAUSE_MAX = timedelta(days=3650)
_ADVICE_PAUSE = timedelta(hours=6)
# A clock that jumps, and a file that somebody took away, are noticed after this.
_LOOK_S = 60.0
_LOOK_PAUSE_MIN_S = 0.05
# Of a file of ours, or its disk hangs.
_FILES_WITHIN_S = 10.0
# While an order has failed, the file with the authorities to trust is looked at so often.
_LOOK_AT_FILE_S = 1.0


def issued_directory(state_dir: Path) -> Path:
    """Where certificates lie that were issued."""
    return state_dir / DIRECTORY / ISSUED


@dataclass(slots=True)
class _Watched:
    """What is known of one certificate's orders."""

    order: Order
    due: datetime
    failures: int = 0
    problem: str | None = None
    ask_again: datetime | None = None
    """When the authority is asked for its advice the next time."""
    renewal: datetime | None = None
    issued_at: datetime | None = None
    trusted: Signature | None = None
    """What the file with the authorities to trust looked like when it was tried last."""
    task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether something is being done about it."""
        return self.task is not None and not self.task.done()

    @property
    def waits_for_file(self) -> bool:
        """Whether another content of the file with the authorities to trust may mend it."""
        return self.problem is not None and self.order.ca is not None and not self.running

    def is_of_use(self, wanted: Order) -> bool:
        """Whether what runs is wanted: hostnames that come one by one must not end each other."""
        fewer = self.order._replace(hostnames=wanted.hostnames)
        return fewer == wanted and set(self.order.hostnames) <= set(wanted.hostnames)

    def leave(self) -> None:
        """Stop what is being done about it: nobody wants it any more."""
        if self.task is not None:
            self.task.cancel()


class Certifying:
    """All certificates that are ordered, of one daemon."""

    def __init__(
        self,
        state_dir: Path,
        challenges: ChallengeKeeper,
        ordered: Callable[[], list[Entity]],
        claims: Callable[[str], bool],
        served: Callable[[EntityKey], Callable[[], bytes | None]],
        memory: Memory,
        tell: Callable[[str], None],
        issued: Callable[[], None],
    ) -> None:
        """`served` gives who reads what a certificate is served from, if it is one for both parts;
        `issued` is called when a file is there that was not; `tell` has a sentence for `status`.
        """
        self._accounts = Accounts(state_dir / DIRECTORY / ACCOUNTS, memory, tell)
        self._issued = issued_directory(state_dir)
        self._challenges = challenges
        self._ordered = ordered
        self._claims = claims
        self._served = served
        self._watched: dict[str, _Watched] = {}
        self._wake = asyncio.Event()
        self._at_once = asyncio.Semaphore(ORDERS_AT_ONCE)
        self._answering: dict[str, _Watched] = {}
        self._threads = OwnThreads("certificate order", OrderError)
        self._on_issued = issued

    def wake(self) -> None:
        """The configuration may have changed."""
        self._wake.set()

    def retry(self) -> list[str]:
        """Order now what could not be ordered; return the names of these certificates."""
        failed = [name for name, each in self._watched.items() if each.problem is not None]
        for name in failed:
            self._watched[name].due = _now()
        self._wake.set()
        return sorted(failed)

    def warnings(self) -> list[str]:
        """A sentence for each certificate that could not be ordered."""
        found = []
        for name, each in sorted(self._watched.items()):
            if each.problem is not None:
                again = f"{each.due:%Y-%m-%d %H:%M} UTC"
                found.append(f"certificate {name}: {each.problem} (tried again at {again})")
        return found

    def failures(self) -> dict[str, int]:
        """By certificate, how often in a row it could not be ordered. May be called in a thread."""
        return {name: each.failures for name, each in list(self._watched.items())}

    async def run(self) -> None:
        """Order and renew what is due, until cancelled."""
        try:
            while True:
                heard_again_within(2 * _LOOK_S)
                self._wake.clear()
                await self._look(_now())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s(_now())):
                        await self._wake.wait()
        finally:
            for each in self._watched.values():
                each.leave()

    async def _look(self, now: datetime) -> None:
        entities = self._ordered()
        orders = {order.name: order for each in entities if (order := self._order_of(each))}
        for name in self._watched.keys() - orders.keys():
            self._watched.pop(name).leave()
        for name in await self._gone(self._watched.keys() & orders.keys()):
            # Somebody took it away: what is served is written anew.
            with contextlib.suppress(OrderError, TimeoutError):
                async with within(_FILES_WITHIN_S):
                    await self._chain(orders[name])
        for name, order in orders.items():
            known = self._watched.get(name)
            if known is None or (known.order != order and not self._goes_on(known, order)):
                known = self._watched[name] = _Watched(order, due=now)
            if known.waits_for_file and _looks_otherwise(order.ca or "", known.trusted):
                known.due = now
            if known.due <= now and not known.running:
                known.task = asyncio.get_running_loop().create_task(self._attend(known))

    async def _gone(self, names: Iterable[str]) -> list[str]:
        """Those whose files are not there; of a directory that does not answer nobody knows."""
        paths = {str(self._path(name)): name for name in names}
        there = await asyncio.to_thread(looked_at, paths, is_there) if paths else {}
        return sorted(paths[path] for path, is_so in there.items() if not is_so)

    def _goes_on(self, known: _Watched, order: Order) -> bool:
        """Whether what runs shall end before what is wanted now; it is left otherwise."""
        if known.running and not known.is_of_use(order):
            known.leave()
            return False
        return known.running

    def _order_of(self, certificate: Entity) -> Order | None:
        """What to order: the hostnames that frontends claim; None when there are none."""
        wanted = certificate.typed(Certificate)
        acme, claimed = wanted.acme, tuple(filter(self._claims, wanted.hostnames or ()))
        if acme is None or not claimed:
            return None
        contact = tuple(acme.contact)
        name = certificate.key.name
        return Order(name, claimed, acme.directory, contact, acme.challenge, acme.ca)

    def _pause_s(self, now: datetime) -> float:
        dues = [each.due for each in self._watched.values() if not each.running]
        left = min((due - now for due in dues), default=timedelta(seconds=_LOOK_S))
        waits = any(each.waits_for_file for each in self._watched.values())
        return min(
            max(left.total_seconds(), _LOOK_PAUSE_MIN_S), _LOOK_AT_FILE_S if waits else _LOOK_S
        )

    async def _chain(self, order: Order) -> list[x509.Certificate] | None:
        """What was issued last; written anew from what is served, when somebody took it away.

        None for what another authority has issued, such as one to practise with. Raises
        `OrderError` when too many threads hang.
        """
        served = self._served(EntityKey("certificate", order.name))
        chain, is_anew = await self._threads.run(partial(self._read_chain, order, served))
        if is_anew:
            self._on_issued()
        return chain

    def _read_chain(
        self, order: Order, served: Callable[[], bytes | None]
    ) -> tuple[list[x509.Certificate] | None, bool]:
        """In a thread: the chain, and whether its file was written anew."""
        from reconciler.materials import pem  # noqa: PLC0415  # 50 ms, and most have no certificates

        path = self._path(order.name)
        try:
            is_gone = not is_there(path)
            content = served() if is_gone else read_regular(path)
            if content is None or _authority(content) not in (None, order.directory):
                return None, False
            chain = pem.read_chain(content)
            if pem.check_key(chain, content):
                return None, False
            if is_gone:
                self._keep(order.name, content)
        except (OSError, ValueError):
            return None, False
        return chain, is_gone

    def _path(self, name: str) -> Path:
        return self._issued / f"{name}.pem"

    def _keep(self, name: str, content: bytes) -> None:
        """Write what was issued. Raises `OSError`."""
        make_own_directory(self._issued)
        replace_durably(self._path(name), content)

    # One certificate.

    async def _attend(self, watched: _Watched) -> None:
        try:
            async with self._at_once:
                if watched.order.ca is not None:
                    watched.trusted = await asyncio.to_thread(signature_of, watched.order.ca)
                async with within(ORDER_WITHIN_S):
                    await self._renew_if_due(watched)
        except TimeoutError:
            self._failed(watched, f"it did not come to an end in {ORDER_WITHIN_S:g} s")
        except OrderError as error:
            self._failed(watched, str(error))
        except Exception as error:  # noqa: BLE001  # one certificate must not end the others
            self._failed(watched, log.internal_error("ordering a certificate", error))
        finally:
            self._wake.set()

    async def _renew_if_due(self, watched: _Watched) -> None:
        from reconciler.acme.client import obtain  # noqa: PLC0415  # 0.25 s, and most order nothing
        from reconciler.materials import pem  # noqa: PLC0415  # 50 ms, and most have no certificates

        order = watched.order
        chain = await self._chain(order)
        if chain is not None and set(order.hostnames) <= set(pem.dns_names(chain[0])):
            await self._ask_when(watched, chain)
            assert watched.renewal is not None, "it was asked for"
            if _now() < watched.renewal:
                watched.failures, watched.problem = 0, None
                watched.due = min(watched.renewal, watched.ask_again or watched.renewal)
                return
        if watched.issued_at is not None and _now() < watched.issued_at + _REORDER_PAUSE:
            watched.due = watched.issued_at + _REORDER_PAUSE
            return
        log.info("ordering a certificate", name=order.name, hostnames=",".join(order.hostnames))
        has_key = partial(self._accounts.has_key, order)
        self._accounts.expect(order, has_key=await self._threads.run(has_key))
        obtaining = partial(obtain, order, self._accounts.directory, self._publisher(watched))
        try:
            content = await self._threads.run(obtaining)
        finally:
            with contextlib.suppress(OrderError, TimeoutError):
                async with within(_FILES_WITHIN_S):
                    self._accounts.note(order, has_key=await self._threads.run(has_key))
        try:
            content = f"{_ORDERED_FROM}{order.directory}\n".encode() + content
            await self._threads.run(partial(self._keep, order.name, content))
        except OSError as error:
            raise OrderError(f"it cannot be kept: {error.strerror or error}") from None
        watched.failures, watched.problem = 0, None
        watched.renewal = watched.ask_again = None
        watched.due = watched.issued_at = _now()
        log.info("a certificate was issued", name=order.name)
        self._on_issued()

    async def _ask_when(self, watched: _Watched, chain: list[x509.Certificate]) -> None:
        """Find out when to renew: the authority's advice, or at two thirds of the lifetime."""
        if watched.renewal is not None and watched.ask_again and _now() < watched.ask_again:
            return
        from reconciler.acme.client import suggested_renewal  # noqa: PLC0415  # 0.25 s, likewise

        leaf = chain[0]
        lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        watched.renewal = leaf.not_valid_after_utc - lifetime * _LEFT_AT_RENEWAL
        watched.ask_again = _now() + _ADVICE_PAUSE
        try:
            read = partial(read_regular, self._path(watched.order.name))
            content = await self._threads.run(read)
            at, again = await self._threads.run(partial(suggested_renewal, watched.order, content))
        except (OrderError, OSError) as error:
            # There is time: what the lifetime says stands.
            log.warning("no advice on a renewal", name=watched.order.name, reason=error)
            return
        watched.ask_again = min(max(again, _now() + _ADVICE_PAUSE_MIN), _now() + _ADVICE_PAUSE_MAX)
        if at is not None:
            watched.renewal = at

    def _publisher(self, watched: _Watched) -> Callable[[ChallengeAnswers], None]:
        loop = asyncio.get_running_loop()

        def publish(answers: ChallengeAnswers) -> None:
            giving = self._give(watched, answers)
            problems = asyncio.run_coroutine_threadsafe(giving, loop).result()
            if problems and (answers.http or answers.tls):
                raise OrderError(f"the challenge is not answered: {problems[0]}")

        return publish

    async def _give(self, watched: _Watched, answers: ChallengeAnswers) -> list[str]:
        """What an order that was left still says must not take the next one's answers away."""
        name = watched.order.name
        if answers.http or answers.tls:
            if not watched.running:
                return ["nobody waits for the order any more"]
            self._answering[name] = watched
        elif self._answering.get(name) is not watched:
            return []
        else:
            del self._answering[name]
        return await self._challenges.give(name, answers)

    def _failed(self, watched: _Watched, problem: str) -> None:
        watched.failures += 1
        pause = min(_FIRST_RETRY * 2 ** min(watched.failures - 1, _DOUBLINGS_MAX), _LAST_RETRY)
        watched.due = _now() + pause * random.uniform(0.9, 1.1)  # noqa: S311  # spreads them
        watched.problem = f"no certificate was issued: {problem}"
        log.warning(
            "no certificate was issued",
            name=watched.order.name,
            reason=problem,
            again=watched.due.isoformat(timespec="seconds"),
        )


def _looks_otherwise(path: str, before: Signature | None) -> bool:
    with contextlib.suppress(HurriedError), hurried():
        return signature_of(path) != before
    return False


def _authority(content: bytes) -> str | None:
    """Return whose certificate it is, by its first line; None if that does not say."""
    first, _, _ = content.partition(b"\n")
    said = first.decode(errors="replace")
    return said.removeprefix(_ORDERED_FROM) if said.startswith(_ORDERED_FROM) else None


def _now() -> datetime:
    return datetime.now(UTC)
