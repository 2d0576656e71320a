"""Files that people edit, looked at four times a second: which functions changed, once their files are at rest.

Looking costs one `stat` for each file, a hundredth of a core for a thousand of them, and sees changes on every file
system, where notifications of the kernel miss network and shared folders, and editors that replace files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from builder.ignore import always_ignored, rules_of

LOOK_EVERY_S = 0.25
AT_REST_S = 0.2
RESTLESS_S = 3.0
"""Files that never come to rest (a log in the folder) hold up a deploy no longer than this."""

Stamp = tuple[int, int, int]
Snapshot = dict[str, Stamp]


class Watch:
    """Watches groups of files and folders by a name for each, such as a function's. `changes` tells which groups changed."""

    def __init__(
        self,
        groups: Mapping[str, Sequence[Path]],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._groups = groups
        self._sleep = sleep
        self._clock = clock
        self._seen = self._look()

    def changes(self) -> Iterator[dict[str, list[Path]]]:
        """Wait for changes; yield for each group that changed which files did. It never ends by itself.

        What changes while the caller works is seen at the next step.
        """
        while True:
            now = self._look()
            if now == self._seen:
                self._sleep(LOOK_EVERY_S)
                continue
            now = self._at_rest(now)
            changed = {name: _difference(self._seen[name], now[name]) for name in now if now[name] != self._seen[name]}
            self._seen = now
            if changed:
                yield changed

    def _at_rest(self, now: dict[str, Snapshot]) -> dict[str, Snapshot]:
        """Return what the files are once nothing has changed for a moment: a save is often several writes."""
        give_up_at = self._clock() + RESTLESS_S
        while self._clock() < give_up_at:
            self._sleep(AT_REST_S)
            before, now = now, self._look()
            if now == before:
                break
        return now

    def _look(self) -> dict[str, Snapshot]:
        return {name: _snapshot(paths) for name, paths in self._groups.items()}


def _snapshot(paths: Sequence[Path]) -> Snapshot:
    found: Snapshot = {}
    for path in paths:
        if path.is_dir():
            _walk(path, found)
        else:
            _stamp(os.fspath(path), found)
    return found


def _walk(root: Path, found: Snapshot) -> None:
    rules = rules_of(root)
    pending = [""]
    while pending:
        parent = pending.pop()
        try:
            entries = list(os.scandir(root / parent))
        except OSError:
            continue  # gone since it was listed
        for entry in entries:
            relative = f"{parent}/{entry.name}" if parent else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if _by_an_editor(entry.name) or (always_ignored(entry.name) and not entry.name.endswith("ignore")):
                continue
            if rules.ignores(relative, is_folder=is_folder):
                continue
            if is_folder:
                pending.append(relative)
            else:
                _stamp(entry.path, found)


def _stamp(path: str, found: Snapshot) -> None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return
    found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)


def _by_an_editor(name: str) -> bool:
    """Whether the file is one that editors make while they save."""
    return name == "4913" or name.endswith(("~", ".swp", ".swx", ".swo", ".tmp"))


def _difference(before: Snapshot, after: Snapshot) -> list[Path]:
    return [Path(path) for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
