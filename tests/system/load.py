"""Concurrent clients of a system that is killed again and again, and what each of them was promised.

A client whose answer never came knows nothing: what it asked for was done or not. Where asking again is safe it
does so until it is answered, as the command line and the Python client do. Only what was answered is a promise.

A system may have several places that answer. A client asks any of them, each time another one; what each of them
shows is watched by itself, since one may be ahead of the other.
"""

import asyncio
import contextlib
import functools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from coordinator.model.messages import Tally
from tests.system.rows import Row, at, ids_of, lines, row

KEPT = ("Kept0", "Kept1", "Kept2", "Cart", "Pay", "Timed")
BRIEF = "Brief"
"""The one service of which anything is purged."""
STATUSES = ("scheduled", "pending", "ready", "backing-off", "suspended", "paused")
PARTITION_COUNTERS = ("matched", "ended", "applied", "propagated")
"""Counters that never fall on a partition."""
OVER = ("completed", "completed-with-failures", "aborted", "refused")
Answer = httpx.Response | None


@dataclass
class Promises:
    """What was acknowledged, and what may or may not have been done."""

    started: dict[str, str] = field(default_factory=dict)
    """Id → target."""
    by_key: dict[str, str] = field(default_factory=dict)
    """Idempotency key → id."""
    imported: set[str] = field(default_factory=set)
    families: list[tuple[Row, list[Row], Row]] = field(default_factory=list)
    """Of acknowledged imports: a parent, its attached children, a detached one."""
    killed: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    purged: set[str] = field(default_factory=set)
    maybe_purged: int = 0
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Id → what was asked for."""
    aborted: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Id → the batch as the answer to the abort showed it."""
    revisions: dict[str, int] = field(default_factory=dict)
    """Id of a batch → the newest revision that an answer to a control showed."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    """How many promises were made, by what was asked for."""
    unanswered: int = 0


class Load:
    """The clients. `run` ends when `over` is set."""

    def __init__(self, urls: Sequence[str], rng: random.Random, *, served: str = "", slowness: float = 0.0) -> None:
        """`urls` are the places that answer. `served` is a service whose handlers a participant runs. `slowness` says
        how long a client pauses between two things that it does: so many seconds after a send, more after what is
        larger.
        """
        self.promises = Promises()
        self.over = asyncio.Event()
        self._rng = rng
        self._urls = urls
        self._https = {url: httpx.AsyncClient(base_url=url, timeout=60) for url in urls}
        self._seen: dict[str, dict[str, dict[str, Any]]] = {url: {} for url in urls}
        self._kept = (*KEPT, served) if served else KEPT
        self._served = served
        self._slowness = slowness
        self._number = 0
        self._services: list[str] = []

    @property
    def seen(self) -> dict[str, dict[str, Any]]:
        """Each batch as it was last seen, in the place where that was looked at last."""
        return self._seen[self._urls[0]]

    async def run(self) -> None:
        """All clients at once, until it is over."""
        clients = {self._send: (4, 1), self._act: (2, 2), self._batch: (2, 8), self._import: (1, 40)}
        async with asyncio.TaskGroup() as group:
            for client, (number, slower) in clients.items():
                for _ in range(number):
                    group.create_task(self._again_and_again(client, slower * self._slowness))
            for url in self._urls:
                watch = functools.partial(self._watch, url)
                group.create_task(self._again_and_again(watch, max(0.1, 20 * self._slowness)))
        for http in self._https.values():
            await http.aclose()

    async def _again_and_again(self, client: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while not self.over.is_set():
            await client()
            if pause_s:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self.over.wait()

    def _next(self) -> int:
        self._number += 1
        return self._number

    # -- asking ----------------------------------------------------------------------------------------------

    async def ask(self, method: str, path: str, *, at: str | None = None, **request: Any) -> Answer:
        """An answer; None when there was none, or one that leaves open what was done. `at` is where to ask."""
        while True:
            try:
                response = await self._https[at or self._rng.choice(self._urls)].request(method, path, **request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                await asyncio.sleep(0.05)  # it is being started: nothing was asked yet
                if self.over.is_set():
                    return None
                continue
            except httpx.TransportError:
                break
            if response.status_code == 503:
                await asyncio.sleep(0.05)
                break
            assert response.status_code < 500, response.text
            return response
        self.promises.unanswered += 1
        return None

    async def insist(self, method: str, path: str, **request: Any) -> Answer:
        """Ask until there is an answer, for what may be done twice; None once it is over."""
        while (answer := await self.ask(method, path, **request)) is None:
            if self.over.is_set():
                return None
        return answer

    # -- the clients -----------------------------------------------------------------------------------------

    async def _send(self) -> None:
        chosen = self._rng.random()
        if chosen < 0.15:
            await self._send_with_key()
            return
        query = ""
        if self._served and self._rng.random() < 0.3:
            target = f"{self._served}/{self._rng.choice(('quick', 'sleeps', 'calls'))}"
        elif chosen < 0.35:
            target = f"Cart/key{self._rng.randrange(6)}/add"
        elif chosen < 0.5:
            target = f"{BRIEF}/run"
        elif chosen < 0.6:
            target, query = "Timed/run", self._rng.choice(("?delay=200ms", "?delay=1s", "?delay=1h"))
        else:
            target = f"Kept{self._rng.randrange(3)}/run"
        answer = await self.ask("POST", f"/services/{target}/send{query}", content=b'{"n":1}')
        if answer is not None:
            assert answer.status_code == 202, answer.text
            self._promised("sends", self.promises.started, answer.json()["id"], target)

    async def _send_with_key(self) -> None:
        key = f"key{self._rng.randrange(400)}"
        answer = await self.insist("POST", "/services/Pay/charge/send", headers={"Idempotency-Key": key})
        if answer is not None:
            assert answer.status_code in (200, 202), answer.text
            id = answer.json()["id"]
            assert self.promises.by_key.setdefault(key, id) == id, f"{key} was answered with two invocations"
            self._promised("sends with a key", self.promises.started, id, "Pay/charge")

    async def _import(self) -> None:
        service = f"Imported{self._next()}"
        family, rows = _rows(service, self._rng)
        answer = await self.insist("POST", "/import", content=lines(rows))
        if answer is None:
            return
        report = answer.json()
        assert report["imported"] + report["existing"] == len(rows), report
        self.promises.imported |= ids_of(rows)
        self.promises.acknowledged["imports"] += 1
        self.promises.families.append(family)
        self._services.append(service)
        await asyncio.sleep(0.1)

    async def _act(self) -> None:
        """An operator's action on one invocation that was acknowledged before."""
        if not self.promises.started:
            await asyncio.sleep(0.02)
            return
        # Mostly one of the newest, so that it still lives.
        id = self._rng.choice(list(self.promises.started)[self._rng.choice((0, -50)) :])
        brief = self.promises.started[id].startswith(BRIEF)
        action = self._rng.choice(
            ("kill", "purge", "purge") if brief else ("kill", "kill", "cancel", "pause", "resume")
        )
        if action == "purge" and id in self.promises.purged:
            return
        answer = await self.ask("PATCH", f"/invocations/{id}/{action}")
        if answer is None:
            self.promises.maybe_purged += action == "purge"
        elif answer.status_code == 200:
            done = {"kill": self.promises.killed, "cancel": self.promises.cancelled, "purge": self.promises.purged}
            done.get(action, set()).add(id)
            self.promises.acknowledged["single actions"] += 1
        else:
            # Done at another time or by a batch; or asked to cancel; or purged.
            assert answer.status_code in (202, 409) or (answer.status_code == 404 and brief), answer.text

    async def _batch(self) -> None:
        """A batch of some kind; often something is changed about it, and now and then it is aborted."""
        asked = self._asked()
        answer = await self.insist("POST", "/batches", json=asked)
        if answer is None:
            return
        if answer.status_code == 429:
            await self._make_room()
            return
        assert answer.status_code in (200, 202), answer.text
        id = asked["request_id"]
        self._promised("batches", self.promises.batches, id, asked)
        if asked.get("rate") or self._rng.random() < 0.3:
            await self._control(id)
        await asyncio.sleep(0.05)

    def _asked(self) -> dict[str, Any]:
        rng = self._rng
        asked: dict[str, Any] = {
            "request_id": f"batch{self._next()}",
            "action": rng.choices(("kill", "cancel", "pause", "resume", "purge", "count"), (6, 4, 2, 2, 3, 1))[0],
            "reason": "under load",
        }
        services = [*self._kept, *self._services[-6:], *(f"{service}Child" for service in self._services[-2:])]
        if asked["action"] == "purge":
            filter: dict[str, Any] = {"service": BRIEF}
        elif rng.random() < 0.1 and self.promises.started:
            ids = list(self.promises.started)
            filter = {"ids": [rng.choice(ids) for _ in range(rng.randint(1, 30))]}
        elif rng.random() < 0.1:
            filter = {"target": f"Cart/key{rng.randrange(6)}"}
        else:
            filter = {"service": rng.choice(services)}
        if asked["action"] not in ("purge", "count") and rng.random() < 0.4:
            filter["status"] = rng.sample(STATUSES, 2)
        if rng.random() < 0.2:
            filter["created_before"] = "500ms"
        asked["filter"] = filter
        chosen = rng.random()
        if chosen < 0.15:
            asked["guard"] = {"max": rng.choice((0, 5, 1_000_000))}
        elif chosen < 0.2:
            asked["guard"] = {"expect": rng.randrange(3)}
        elif chosen < 0.4:
            asked["rate"] = rng.choice((10, 50, 400))
        elif chosen < 0.45:
            asked["dry_run"] = True
        return asked

    async def _control(self, id: str) -> None:
        for _ in range(self._rng.randint(1, 3)):
            chosen = self._rng.random()
            if chosen < 0.4:
                answer = await self.ask("POST", f"/batches/{id}/abort")
                if answer is not None and answer.status_code == 200:
                    self._promised("aborts", self.promises.aborted, id, answer.json())
                return
            if chosen < 0.7:
                answer = await self.ask("POST", f"/batches/{id}/{self._rng.choice(('pause', 'resume'))}")
            else:
                answer = await self.ask("PATCH", f"/batches/{id}", json={"rate": self._rng.choice((0, 20, 500))})
            if answer is not None and answer.status_code == 200:
                self._promised("controls", self.promises.revisions, id, answer.json()["revision"])

    async def _make_room(self) -> None:
        """Too many batches are under way: let some go on that are held or slow."""
        slow = [id for id, batch in self.seen.items() if batch["finished_at"] is None]
        for id in self._rng.sample(slow, min(20, len(slow))):
            await self.ask("POST", f"/batches/{id}/resume")
            await self.ask("PATCH", f"/batches/{id}", json={"rate": 0})

    def _promised(self, what: str, promises: dict[str, Any], id: str, promise: Any) -> None:
        promises[id] = promise
        self.promises.acknowledged[what] += 1

    # -- what is shown meanwhile -----------------------------------------------------------------------------

    async def _watch(self, url: str) -> None:
        answer = await self.ask("GET", "/batches", at=url)
        if answer is not None:
            self._look(url, answer.json())

    def _look(self, url: str, batches: list[dict[str, Any]]) -> None:
        """Hold what a place shows of all batches against what it showed before: nothing ever goes back."""
        seen = self._seen[url]
        now = {batch["id"]: batch for batch in batches}
        assert seen.keys() <= now.keys(), f"forgotten: {seen.keys() - now.keys()}"
        for id, batch in now.items():
            adds_up(batch)
            if id in seen:
                goes_on(seen[id], batch)
        self._seen[url] = now

    async def finish(self, *, within_s: float = 60) -> None:
        """Once nothing else goes on: let go of all that is held or slowed, and wait for the end of every batch."""
        async with asyncio.timeout(within_s):
            for url in self._urls:
                async with httpx.AsyncClient(base_url=url, timeout=60) as http:
                    for batch in (await http.get("/batches")).json():
                        if batch["finished_at"] is None:
                            with contextlib.suppress(httpx.HTTPStatusError):  # it has ended by itself
                                (await http.post(f"/batches/{batch['id']}/resume")).raise_for_status()
                                (await http.patch(f"/batches/{batch['id']}", json={"rate": 0})).raise_for_status()
                    while not await self._all_over(url, http):  # noqa: ASYNC110 - another process does it
                        await asyncio.sleep(0.1)

    async def _all_over(self, url: str, http: httpx.AsyncClient) -> bool:
        shown = (await http.get("/batches")).json()
        self._look(url, shown)
        return all(batch["finished_at"] is not None and batch["settled"] for batch in shown)


def _rows(service: str, rng: random.Random) -> tuple[tuple[Row, list[Row], Row], list[Row]]:
    """A file in any order: invocations that stand alone, a queue of a key, a parent with children everywhere."""
    parent = row(f"{service}/parent")
    children = [row(f"{service}Child/run", rng.choice(("suspended", "scheduled")), partition=n % 4) for n in range(6)]
    for child in children:
        # A scheduled start would make it detached; this one waits for a retry instead.
        if child["status"] == "scheduled":
            child |= {"status": "backing-off", "next_retry_at": child.pop("scheduled_start_at")}
        child["invoked_by_id"] = parent["id"]
    detached = row(f"{service}Detached/run", "scheduled", invoked_by_id=parent["id"])
    key = f"{service}-key"
    holder = row(f"{service}Object/{key}/add")
    queue = [row(f"{service}Object/{key}/add", "pending", inboxed_at=at(50 - n)) for n in range(5)]
    alone = [row(f"{service}/run", rng.choice(("suspended", "scheduled", "paused"))) for _ in range(100)]
    rows = [parent, *children, detached, holder, *queue, *alone]
    rng.shuffle(rows)
    return (parent, children, detached), rows


def adds_up(batch: dict[str, Any]) -> None:
    """The law, over all partitions and on each of them."""
    for counted in (batch, *batch["partitions"]):
        assert counted["matched"] == sum(counted[name] for name in Tally.COUNTED), batch
    for name in (*PARTITION_COUNTERS, "signalled"):
        assert batch[name] == sum(one[name] for one in batch["partitions"]), batch


def goes_on(before: dict[str, Any], after: dict[str, Any]) -> None:
    """What is shown of a batch later is never less, and its end never changes."""
    both = f"\nbefore {before}\nafter {after}"
    assert before["submitted_at"] == after["submitted_at"], both
    assert before["revision"] <= after["revision"], both
    if before["state"] in OVER:
        assert (before["state"], before["matched"]) == (after["state"], after["matched"]), both
        assert before["finished_at"] in (None, after["finished_at"]), both
    for earlier, later in zip(before["partitions"], after["partitions"], strict=True):
        for name in PARTITION_COUNTERS:
            assert earlier[name] <= later[name], both
        if earlier["position"] is not None:
            assert earlier["position"] == later["position"], both
        if before["guard"] is None:
            assert earlier["cursor_fraction"] <= later["cursor_fraction"], both
