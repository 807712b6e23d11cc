"""What the clients of a seed call.

Half of all calls are of the oldest kinds, of which each seed has some; the others come in themes, of which
each seed has a few: one kind of object with nearly all that can be done with it.
"""

from __future__ import annotations

import random
from typing import Final

from raftcoord.testing.simulation.scenario import ClientPlan, Settings, Step

# What is called, how often compared with the others, on which kind of name.
STEP_WEIGHTS: Final[dict[str, tuple[int, str]]] = {
    "set": (4, "variable"),
    "get": (6, "variable"),
    "compare_and_set": (3, "variable"),
    "compare_revision_and_set": (2, "variable"),
    "delete": (1, "variable"),
    "watch": (2, "variable"),
    "add": (5, "counter"),
    "put": (6, "queue"),
    "put_many": (2, "queue"),
    "take": (7, "queue"),
    "take_batch": (2, "queue"),
    "drain": (1, "queue"),
    "qsize": (1, "queue"),
    "close_queue": (1, "queue"),
    "lock": (6, "lock"),
    "locked": (1, "lock"),
    # Each seed has these for some kinds of objects only, and then nearly all of what there is for one.
    "update": (4, "counter"),
    "set_for_a_while": (4, "mortal"),
    "set_ephemeral": (3, "mortal"),
    "get_mortal": (4, "mortal"),
    "watch_mortal": (1, "mortal"),
    "replace_mortal": (1, "mortal"),
    "put_work": (4, "work"),
    "put_much_work": (3, "work"),
    "take_work": (1, "work"),
    "claim_ack": (6, "work"),
    "claim_nack": (4, "work"),
    "claim_abandon": (2, "work"),
    "take_dead": (1, "work"),
    "close_work": (1, "work"),
    "event_set": (3, "event"),
    "event_clear": (3, "event"),
    "event_wait": (4, "event"),
    "event_is_set": (2, "event"),
    "rlock": (4, "lock"),
    "lock_holder": (1, "lock"),
    "lock_waiters": (1, "lock"),
    "multilock": (8, "multilock"),
    "multilock_holders": (2, "multilock"),
    "read_lock": (6, "rwlock"),
    "write_lock": (4, "rwlock"),
    "rwlock_status": (1, "rwlock"),
    "semaphore": (9, "semaphore"),
    "semaphore_value": (2, "semaphore"),
    "close_semaphore": (1, "semaphore"),
    "publish": (5, "topic"),
    "publish_many": (2, "topic"),
    "read_topic": (6, "topic"),
    "topic_status": (1, "topic"),
    "delete_topic": (1, "topic"),
}
# Sets of kinds that a seed has or leaves out as a whole: those of one kind of object, or of one use of it.
THEMES: Final[tuple[frozenset[str], ...]] = (
    frozenset({"update"}),
    frozenset({"rlock", "lock_holder", "lock_waiters"}),
    *(
        frozenset(kind for kind, (_, group) in STEP_WEIGHTS.items() if group == theme)
        for theme in ("mortal", "work", "event", "multilock", "rwlock", "semaphore", "topic")
    ),
)
THEME_SHARE: Final = 0.35  # of all seeds have one of them
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "variable": ("v1", "v2"),
    "counter": ("n1", "n2"),
    "queue": ("q1", "bounded3"),
    "lock": ("l1", "l2"),
    "mortal": ("w1", "w2"),
    "work": ("work2", "jobs"),
    "event": ("e1", "e2"),
    "multilock": ("m1+m2+m3", "m3+m2", "m2+m4+m1"),
    "rwlock": ("r1", "r2"),
    "semaphore": ("s2", "s1", "s3"),
    "topic": ("last4", "t1", "aged400"),
}
_HELD: Final = frozenset({"lock", "rlock", "multilock", "read_lock", "write_lock", "semaphore"})
_CLAIMS: Final = frozenset({"claim_ack", "claim_nack", "claim_abandon"})
_WAITS: Final = (
    frozenset({"get", "watch", "put", "put_many", "take", "take_batch", "event_wait", "read_topic", "update"})
    | {"get_mortal", "watch_mortal", "put_work", "put_much_work", "take_work"}
    | _HELD
    | _CLAIMS
)
_CHANGES: Final = frozenset(
    {"set", "add", "drain", "set_for_a_while", "set_ephemeral", "event_set", "publish"}
)
_CANCELLED: Final = (_WAITS | _CHANGES) - {"rlock"}  # which belongs to the task that made the call
_CLOSES: Final = frozenset({"close_work", "close_semaphore", "delete_topic"})  # after which less is checked
_HOLDS_MS: Final = (0, 5, 30, 150, 800, 2000)  # of what is held or claimed
_LIVES_MS: Final = (20, 100, 300, 1000, 3000)  # of a variable


def mixed_clients(rng: random.Random, heal_ms: int, settings: Settings) -> tuple[ClientPlan, ...]:
    """Return clients that call whatever there is, as far as this seed has it."""
    # A time to live must be longer than a few commits and than a value on its way, or no session lives.
    is_far = settings.latency_ms > 10
    kinds = _kinds(rng)
    names = {group: _names(rng, group) for group in sorted({STEP_WEIGHTS[kind][1] for kind in kinds})}
    pace_ms = rng.choice((3, 20, 60, 150))
    size = rng.choice((0, 0, 0, 0, 0, 1500, 6000)) if settings.bytes_per_s >= 1_000_000 and not is_far else 0
    return tuple(
        ClientPlan(
            ttl_ms=rng.choice((3000,) if is_far else (500, 800, 1500, 3000)),
            timeout_ms=rng.choice((1000, 4000, 20_000)),
            threads=tuple(
                _thread(rng, kinds, names, pace_ms, heal_ms, size=size)
                for _ in range(rng.choice((1, 1, 2, 3)))
            ),
        )
        for _ in range(rng.choice((1, 2, 3, 3, 4, 5)))
    )


def _kinds(rng: random.Random) -> list[str]:
    """Choose what is called: of the oldest kinds some, and of the others a few themes."""
    chosen = {theme for theme in THEMES if rng.random() < THEME_SHARE}
    in_a_theme = frozenset[str]().union(*THEMES)
    kinds = [
        kind
        for kind in STEP_WEIGHTS
        if (rng.random() < 0.6 if kind not in in_a_theme else any(kind in theme for theme in chosen))
        and (kind not in in_a_theme or rng.random() < (0.4 if kind in _CLOSES else 0.9))
    ]
    return kinds or ["set", "get"]


def _names(rng: random.Random, group: str) -> tuple[str, ...]:
    names = NAMES[group]
    chosen = names[: rng.choice((1, 1, 2))] if rng.random() < 0.5 else (rng.choice(names),)
    return chosen if group != "multilock" else names[: rng.choice((1, 2, 3))]


def _thread(
    rng: random.Random,
    kinds: list[str],
    names: dict[str, tuple[str, ...]],
    pace_ms: int,
    heal_ms: int,
    steps_max: int = 60,
    size: int = 0,
) -> tuple[Step, ...]:
    weights = [STEP_WEIGHTS[kind][0] for kind in kinds]
    steps: list[Step] = []
    at_ms = 0
    while at_ms < heal_ms and len(steps) < steps_max:
        kind = rng.choices(kinds, weights)[0]
        think_ms = round(rng.expovariate(1 / pace_ms))
        at_ms += think_ms + 5
        steps.append(_step(rng, kind, rng.choice(names[STEP_WEIGHTS[kind][1]]), think_ms, size))
    return tuple(steps)


def _step(rng: random.Random, kind: str, name: str, think_ms: int, size: int) -> Step:
    timeout_ms: int | None = None
    cancel_ms: int | None = None
    if kind in _WAITS:
        timeout_ms = rng.choice((0, 20, 100, 300, 1000, 3000))
        if kind in _CANCELLED and rng.random() < 0.05:
            timeout_ms, cancel_ms = None, rng.choice((5, 50, 500, 2000))
    if kind in _CANCELLED and cancel_ms is None and rng.random() < 0.04:
        cancel_ms = rng.choice((1, 3, 10, 100))
    return Step(
        kind=kind,
        name=name,
        think_ms=think_ms,
        timeout_ms=timeout_ms,
        cancel_ms=cancel_ms,
        cancel_at_answer=kind in _CANCELLED and rng.random() < 0.04,
        count=rng.choice((1, 2, 3)),
        size=rng.randrange(size) if size else 0,
        hold_ms=_hold_ms(rng, kind),
    )


def _hold_ms(rng: random.Random, kind: str) -> int:
    if kind == "set_for_a_while":
        return rng.choice(_LIVES_MS)
    return rng.choice(_HOLDS_MS) if kind in _HELD or kind in _CLAIMS else 0


# What changes something, and what sees it; the first half are the oldest kinds.
_BUSY: Final[tuple[tuple[list[str], list[str]], ...]] = (
    *(2 * ((["set"], ["get"]), (["add"], ["get"]), (["put", "take"], ["qsize"]), (["lock"], ["locked"]))),
    (["event_set", "event_clear"], ["event_is_set", "event_wait"]),
    (["semaphore"], ["semaphore_value"]),
    (["multilock"], ["multilock_holders"]),
    (["read_lock", "write_lock"], ["rwlock_status"]),
    (["publish"], ["read_topic", "topic_status"]),
    (["rlock"], ["lock_holder", "lock_waiters"]),
    (["update"], ["get"]),
    (["put_work", "claim_ack", "claim_nack"], ["take_dead"]),
    (["set_for_a_while", "set_ephemeral"], ["get_mortal", "watch_mortal"]),
)


def busy_readers(rng: random.Random, heal_ms: int) -> tuple[ClientPlan, ...]:
    """Clients that change and read few objects without a pause, some of which stay long where they are."""
    changes, reads = rng.choice(_BUSY)
    names = {group: NAMES[group][:1] for group in NAMES}
    if changes in (["add"], ["update"]):
        names["variable"] = names["counter"]

    def thread(kinds: list[str]) -> tuple[Step, ...]:
        return _thread(rng, kinds, names, rng.choice((2, 10, 30)), heal_ms, steps_max=80)

    # Who changes something waits for a deposed leader for ever, so reads are made beside that.
    return tuple(
        ClientPlan(
            ttl_ms=rng.choice((500, 3000, 3000)), timeout_ms=4000, threads=(thread(changes), thread(reads))
        )
        for _ in range(rng.choice((2, 3, 4)))
    )


def watching_client(rng: random.Random, heal_ms: int) -> ClientPlan:
    """Return a client that waits for a variable to change while it deletes that variable again and again.

    A deletion that nobody waits for shows nothing, and elsewhere hardly anybody waits for just that one.
    """
    name = rng.choice(NAMES["variable"])
    at_ms = 0
    changes: list[Step] = []
    while at_ms < heal_ms and len(changes) < 60:
        think_ms = rng.choice((20, 60, 150))
        at_ms += think_ms + 5
        changes.append(_step(rng, ("set", "delete")[len(changes) % 2], name, think_ms, 0))
    watches = [_step(rng, ("get", "watch")[number % 2], name, 0, 0) for number in range(60)]
    return ClientPlan(ttl_ms=3000, timeout_ms=4000, threads=(tuple(changes), tuple(watches)))
