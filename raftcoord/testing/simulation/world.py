"""A whole simulated world: hosts, network, clients, checks; built from a scenario, run to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from raftcoord.consensus.messages import Envelope
from raftcoord.machine import Machine
from raftcoord.server.replica import ReplicaServer
from raftcoord.testing.simulation.clients import ClientHost
from raftcoord.testing.simulation.confirmed import Confirmations
from raftcoord.testing.simulation.disk_checks import check_ends
from raftcoord.testing.simulation.history_checks import check_histories
from raftcoord.testing.simulation.holders import check_beliefs
from raftcoord.testing.simulation.hosts import CLIENT_PORT, ReplicaHost, replica_names
from raftcoord.testing.simulation.link_rules import LinkRules, Pace
from raftcoord.testing.simulation.nemesis import Nemesis
from raftcoord.testing.simulation.network import SimNetwork
from raftcoord.testing.simulation.oracle import Oracle
from raftcoord.testing.simulation.probe import (
    EngineView,
    WatchedMachine,
    watch_clients,
    watch_engine,
    watch_machine,
)
from raftcoord.testing.simulation.raft_checks import RaftChecks
from raftcoord.testing.simulation.records import Record
from raftcoord.testing.simulation.scenario import Scenario
from raftcoord.testing.simulation.scheduler import Scheduler, stream
from raftcoord.testing.simulation.state_checks import StateChecks
from raftcoord.testing.simulation.violation import Violation

ANSWERED_S: Final = 10.0  # after everything healed, no call that need not wait is given up any more
CLIENTS_DONE_S: Final = 60.0  # after everything healed, every call of every client has ended
SETTLED_S: Final = 30.0  # and after that, all sessions have ended and all replicas are at one point
_GONE_AT_THE_END: Final = ("sessions", "waiters", "locks", "multilocks", "rwlocks", "answers")


class World:
    """One run.

    Args:
        tell: takes (time, who, what) of everything worth reading; None when nobody reads.
    """

    def __init__(self, scenario: Scenario, tell: Callable[[float, str, Any], None] | None = None) -> None:
        self.scenario = scenario
        self.scheduler = scheduler = Scheduler()
        self._tell = tell
        seed, settings = scenario.seed, scenario.settings
        self._pace_rng = stream(seed, "links")
        rules = LinkRules(stream(seed, "delays"), self._pace_of)
        self.network = SimNetwork(scheduler, rules, stream(seed, "network"))
        self.oracle = Oracle(self._on_holders, self._on_expired)
        self.raft_checks = RaftChecks(settings.replicas, in_parts="journal_batch_bytes" in settings.tuning)
        self.state_checks = StateChecks(self.oracle)
        self._expired: set[int | None] = set()  # sessions in which no client may believe any more
        self._watched: dict[str, WatchedMachine] = {}
        self._confirmations: dict[str, Confirmations] = {}
        self.replicas = {
            name: ReplicaHost(
                name,
                number=number,
                seed=seed,
                scheduler=scheduler,
                network=self.network,
                settings=settings,
                on_server=self._on_server,
                on_started=self._on_started,
                after_iteration=self._after_iteration,
                tell=self.trace,
            )
            for number, name in enumerate(replica_names(settings), start=1)
        }
        addresses = ",".join(f"{name}:{CLIENT_PORT}" for name in self.replicas)
        self.clients = {
            f"c{number}": ClientHost(
                f"c{number}",
                plan,
                number=100 + number,
                seed=seed,
                addresses=addresses,
                scheduler=scheduler,
                network=self.network,
                oracle=self.oracle,
                on_return=self._on_return,
                on_given_up=self._on_given_up,
            )
            for number, plan in enumerate(scenario.clients, start=1)
        }
        self.nemesis = Nemesis(self, stream(seed, "nemesis"))

    def __repr__(self) -> str:
        return f"<World {self.scenario.summary()} {self.scheduler!r}>"

    def _pace_of(self, _source: str, _target: str) -> Pace:
        settings = self.scenario.settings
        latency_s = settings.latency_ms / 1000 * (0.5 + self._pace_rng.random())
        return Pace(latency_s, settings.bytes_per_s)

    def trace(self, who: str, what: Any) -> None:
        """Tell the reader, if there is one."""
        if self._tell is not None:
            self._tell(self.scheduler.now, who, what)

    @property
    def records(self) -> list[Record]:
        """All calls of all clients."""
        return [record for client in self.clients.values() for record in client.records]

    # What hosts and probes report.

    def _on_server(self, host: ReplicaHost, server: ReplicaServer) -> None:
        self.state_checks.started(host.name)
        self._watched[host.name] = watch_machine(server, self)
        confirmations = Confirmations(host.name, len(self.replicas))
        self._confirmations[host.name] = confirmations
        watch_clients(server, confirmations, self.scheduler.check)

    def _on_started(self, host: ReplicaHost, server: ReplicaServer) -> EngineView:
        if host.rotten is not None and host.rotten.is_there(host.disk.store):
            self.scheduler.fail(Violation("damage is refused", f"{host.name} serves from {host.rotten}"))
        elif host.disk.store.capacity_bytes is None:
            host.excuse = None
        view = watch_engine(
            server,
            self._watched[host.name],
            host.incarnation,
            self.raft_checks,
            self._confirmations[host.name],
            self.scheduler.check,
            self._on_message,
        )
        if not view.has_failed:
            self.scheduler.check(check_ends, host.name, host.disk.store, view.journal_ends())
        return view

    def _on_message(self, sender: str, receiver: str, envelope: Envelope) -> None:
        if self._tell is not None:
            self._tell(self.scheduler.now, f"{sender} > {receiver}", envelope)
        self.nemesis.on_message(sender, receiver, envelope)

    def _after_iteration(self, host: ReplicaHost) -> None:
        # What a replica that has failed believes is of no interest: it will tell nobody.
        view = host.view
        if view is not None and view.has_changed() and not view.has_failed:
            self.scheduler.check(self.raft_checks.look_at, view)

    def on_applied(self, name: str, index: int, payload: bytes, applied: Any, machine: Machine) -> None:
        """See `Observer`."""
        view = self.replicas[name].view
        if view is not None:
            self.scheduler.check(self.raft_checks.applying, view, index)
        self.scheduler.check(self.state_checks.on_applied, name, index, payload, applied, machine)

    def on_restored(self, name: str, index: int, machine: Machine) -> None:
        """See `Observer`."""
        self.trace(name, f"restored at {index}")
        self.scheduler.check(self.state_checks.on_restored, name, index, machine)

    def on_snapshot(self, name: str, index: int, machine: Machine) -> None:
        """See `Observer`."""
        self.scheduler.check(self.state_checks.on_snapshot, name, index, machine)

    def _on_return(self, record: Record) -> None:
        session = self.clients[record.client].live_session
        if session in self._expired:
            self.scheduler.fail(
                Violation(
                    "known when it ends", f"{record.client} believes in session {session}, which expired"
                )
            )
        self.scheduler.mix(1, record.call_at, list(type(record.outcome)).index(record.outcome))
        self.trace(record.client, record)

    def _on_holders(self, held: set[int], why: str) -> None:
        if self.scenario.settings.fair_clocks:
            check_beliefs(self.clients.values(), held, why)

    def _on_expired(self, session: int) -> None:
        if not self.scenario.settings.fair_clocks:
            return
        self._expired.add(session)
        for client in self.clients.values():
            if client.live_session == session:
                raise Violation(
                    "known when it ends", f"{client.name} believes in session {session}, which expired"
                )

    def _on_given_up(self, client: ClientHost, call: str) -> None:
        late_s = self.scheduler.now - self.scenario.heal_ms / 1000
        if late_s > ANSWERED_S:
            raise Violation(
                "liveness", f"{client.name} gives {call} up {late_s:.1f} s after everything healed"
            )

    # The run.

    def run(self) -> None:
        """Run the scenario to its end. Raises Violation."""
        scheduler, heal_s = self.scheduler, self.scenario.heal_ms / 1000
        for host in self.replicas.values():
            host.start()
        for client in self.clients.values():
            scheduler.after(0.01, client.start)
        for fault in self.scenario.faults:
            scheduler.at(min(fault.at_ms / 1000, heal_s), self.nemesis.begin, fault)
        scheduler.run(heal_s)
        self.trace("nemesis", "heal")
        self.nemesis.heal()
        for client in self.clients.values():
            client.is_hurrying = True
        self._require(self._clients_are_done, CLIENTS_DONE_S, self._open_calls)
        self._require(self._is_settled, SETTLED_S, self._why_not_settled)
        self._final_checks()

    def _require(self, is_done: Callable[[], bool], within_s: float, describe: Callable[[], str]) -> None:
        scheduler = self.scheduler
        deadline = scheduler.now + within_s
        while not is_done():
            if scheduler.now >= deadline:
                raise Violation("liveness", f"after {within_s:g} s without faults: {describe()}")
            scheduler.run(min(scheduler.now + 0.05, deadline))

    def _clients_are_done(self) -> bool:
        return all(client.is_done for client in self.clients.values())

    def _open_calls(self) -> str:
        open_records = [record for record in self.records if record.return_at == float("inf")]
        late = [client for client in self.clients.values() if not client.is_done]
        return f"clients {late} are not done; open calls {open_records[-5:]}; {self._why_not_settled()}"

    def _views(self) -> dict[str, EngineView]:
        return {name: host.view for name, host in self.replicas.items() if host.view is not None}

    def _is_settled(self) -> bool:
        views = self._views()
        if len(views) < len(self.replicas):
            return False
        points = {(view.commit_index, view.applied_index, view.last_index) for view in views.values()}
        (commit, applied, last) = next(iter(points))
        return (
            len(points) == 1
            and commit == applied == last
            and sum(view.is_ready_leader for view in views.values()) == 1
            and not self.oracle.model.sessions
        )

    def _why_not_settled(self) -> str:
        hosts = [f"{host!r} {host.view!r}" for host in self.replicas.values()]
        return f"sessions {sorted(self.oracle.model.sessions)}, {'; '.join(hosts)}"

    def _final_checks(self) -> None:
        machines = {
            name: host.server._machine for name, host in self.replicas.items() if host.server is not None
        }
        self.state_checks.compare_snapshots(machines)
        for name, machine in machines.items():
            counts = machine.counts()
            left = {what: counts[what] for what in _GONE_AT_THE_END if counts[what]}
            if left:
                raise Violation("the dead hold nothing", f"{name} still has {left}")
        self.state_checks.compare_with_model(machines)
        check_histories(self.records, self.oracle.model, self.scenario.settings.fair_clocks)

    def close(self) -> None:
        """End all processes, so that nothing runs any more when they are freed."""
        processes = [host.process for host in self.replicas.values()]
        processes += [client.process for client in self.clients.values()]
        for process in processes:
            if process is not None:
                process.on_death.clear()
                process.kill()
        self.scheduler.forget()
