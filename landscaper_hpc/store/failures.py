"""Shards that fail: each attempt is kept with its error, and after three a shard is quarantined, a hung one at once."""

from __future__ import annotations

from pathlib import Path

from landscaper_hpc.files import publish

ATTEMPTS = 3


class Failures:
    """Failed attempts in `folder`: `<key>.1`, `<key>.2`, … each holding one error as text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def record(self, key: str, error: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        attempt = 1 + sum(1 for _ in self._folder.glob(f"{key}.[0-9]*"))
        publish(self._folder / f"{key}.{attempt}", error.encode(errors="backslashreplace"))

    def quarantine(self, key: str, error: str) -> None:
        """Record what needs no second attempt: it would end the same, and cost as much."""
        self._folder.mkdir(parents=True, exist_ok=True)
        publish(self.last(key), error.encode(errors="backslashreplace"))

    def last(self, key: str) -> Path:
        """The file whose presence quarantines it."""
        return self._folder / f"{key}.{ATTEMPTS}"

    def is_quarantined(self, key: str) -> bool:
        return self.last(key).exists()

    def quarantined(self) -> dict[str, str]:
        """Key and last error of everything that failed as often as it may."""
        return {
            last.name.removesuffix(f".{ATTEMPTS}"): last.read_text(encoding="utf-8", errors="replace")
            for last in sorted(self._folder.glob(f"[!.]*.{ATTEMPTS}"))
        }

    def clear(self) -> None:
        """Give everything that failed new attempts."""
        for attempt in self._folder.glob("*"):
            attempt.unlink()
