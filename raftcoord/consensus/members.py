"""Who the members are: names from the configuration, identities from their data folders.

A replica's identity is random and lives in its data folder, so a replica whose folder was wiped or swapped
comes back as a stranger. Before it takes part, every replica must know the identity of every member; it
writes them down once ("formed") and from then on refuses anyone who bears a member's name without its
identity. So nobody can vote who has forgotten what it acknowledged.

Invariants:
  1. Identities are learned by meeting their owner, or from a formed member that knows this replica's own.
  2. They are durable before this replica counts as formed, and never change after.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from raftcoord.consensus.identity import DataFolder
from raftcoord.consensus.interface import FatalError

logger = logging.getLogger(__name__)


class Members:
    """The identities of all members, as far as this replica knows them.

    Raises:
        FatalError: the folder belongs to a cluster of other members.
    """

    def __init__(self, folder: DataFolder, name: str, names: list[str]) -> None:
        self._folder = folder
        self._names = sorted(names)
        if folder.members and sorted(folder.members) != self._names:
            raise FatalError(
                f"the configured members {self._names} are not those of the data folder "
                f"{sorted(folder.members)}: members are fixed when the cluster forms"
            )
        self._known: dict[str, str] = dict(folder.members or {name: folder.identity})
        self._form_when_complete()

    def __repr__(self) -> str:
        return f"<Members known={len(self._known)} of={len(self._names)} formed={self.is_formed}>"

    @property
    def is_formed(self) -> bool:
        """Whether this replica may take part."""
        return self._folder.members is not None

    @property
    def missing(self) -> list[str]:
        """Names of the members whose identity is not known yet."""
        return [name for name in self._names if name not in self._known]

    @property
    def recorded(self) -> Mapping[str, str]:
        """What a formed replica tells others; empty before."""
        return self._folder.members or {}

    def objection(self, name: str, identity: str, recorded: Mapping[str, str]) -> str | None:
        """Return why a replica must not take part under this name, or None."""
        known = self._known.get(name)
        if known is not None and known != identity:
            return (
                f"replica {name!r} is known by another identity ({known}, not {identity}): its data folder "
                "was wiped or replaced; restore that folder, or remove the member and add a new one"
            )
        for other, their_identity in recorded.items():
            ours = self._known.get(other)
            if ours is not None and ours != their_identity:
                return (
                    f"replica {name!r} knows {other!r} by another identity ({their_identity}, not {ours}): "
                    "a data folder was wiped or replaced, or the replicas belong to different clusters"
                )
        return None

    def learn(self, name: str, identity: str, recorded: Mapping[str, str]) -> None:
        """Take note of a member to whom there is no objection."""
        if self.is_formed:
            return
        self._known.update(recorded)
        self._known[name] = identity
        self._form_when_complete()

    def _form_when_complete(self) -> None:
        if not self.is_formed and not self.missing:
            self._folder.record_members({name: self._known[name] for name in self._names})
            logger.info("formed members=%s", ",".join(self._names))
