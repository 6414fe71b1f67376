"""A repository on an object store, which has no rename, no lock and no folders of its own.

URL/NAME/LATEST                 written last
URL/NAME/VERSION/.claim         created before anything else, by one publisher only
URL/NAME/VERSION/...            the bundle's files; without the manifest there is no such version
URL/NAME/VERSION/manifest.json  written when all others have been read back

What is read is kept in a local cache (:mod:`model.bundle_cache`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from model.bundle import CONTENT, MANIFEST, Bundle, FileEntry, parse_manifest, read_bundle
from model.bundle_cache import BundleCache
from model.errors import BundleError, RepositoryError, UnknownVersionError
from model.remote_files import RemoteFiles
from model.remote_options import RemoteOptions, default_state_dir
from model.store import LATEST, check_latest
from model.version_names import is_version, version_numbers

logger = logging.getLogger(__name__)

CLAIM = ".claim"


class RemoteStore:
    """Any number of readers and publishers, on any machines.

    Publishers need a store that can create an object only if it is not there (S3 and what follows
    it, GCS): that is how one of them gets a version's number.
    """

    def __init__(self, url: str, options: RemoteOptions) -> None:
        self._files = RemoteFiles(url, options.timeout_s)
        self._cache = BundleCache(options.cache_dir, options.cache_bytes)

    @property
    def location(self) -> str:
        return self._files.url

    def place(self, name: str, version: int | None = None) -> str:
        return f"{self._files.url}/{_path(name, version)}"

    def names(self) -> list[str]:
        names = self._files.folders("")
        if not names:
            raise RepositoryError(
                f"{self.location} cannot be read: nothing is there; check the address, or train or "
                "init a model into it",
                repository=self.location,
            )
        return names

    def versions(self, name: str) -> list[int]:
        found = self._files.below(name)
        return version_numbers(
            path.removesuffix(f"/{MANIFEST}") for path in found if path.endswith(f"/{MANIFEST}")
        )

    def latest(self, name: str) -> str | None:
        data = self._files.read(f"{name}/{LATEST}")
        return None if data is None else data.decode(errors="replace").strip()

    def name_latest(self, name: str, version: int) -> None:
        before = self.latest(name)
        self._write_latest(name, str(version))
        # After it was written: remove() looks at LATEST after it has taken the manifest away, so
        # that of the two at least one sees the other.
        if version not in self.versions(name):
            if before is not None:
                self._write_latest(name, before)
            raise UnknownVersionError(
                f"model {name!r} has no version {version} any more: it was just pruned",
                model=name,
                version=version,
            )

    def manifest(self, name: str, version: int) -> bytes | None:
        return self._files.read(_path(name, version, MANIFEST))

    def stamp(self, name: str, version: int) -> str:
        found = self._files.below(name)
        wanted = {path for path in found if path.startswith(f"{version}/")} | {LATEST}
        stamps = " ".join(f"{path}:{found[path].stamp}" for path in sorted(wanted & found.keys()))
        return hashlib.sha256(stamps.encode()).hexdigest()

    def read(self, name: str, version: int) -> Bundle:
        raw = self.manifest(name, version)
        if raw is None:
            raise UnknownVersionError(
                f"model {name!r} has no version {version} any more: it was just pruned",
                model=name,
                version=version,
            )
        manifest = parse_manifest(f"{self.place(name, version)}/{MANIFEST}", raw)
        files = {file: manifest.files[file] for file in CONTENT}
        try:
            return self._read_cached(name, version, raw, files)
        except BundleError:
            damaged = self._cache.discard_damaged(raw, files)
            if not damaged:
                raise
        logger.warning(
            "cached files of %s were damaged and are fetched anew: %s",
            self.place(name, version),
            ", ".join(damaged),
        )
        return self._read_cached(name, version, raw, files)

    def add(self, name: str, build: Callable[[Path], None], replaces: int | None = None) -> int:
        """Built and verified locally, uploaded under a claimed number and read back.

        ``replaces`` is looked at when all but the manifest is there: two publishers that come to it
        within the time of a request both see the same LATEST.

        A publisher that dies before the manifest is there leaves what no reader takes, and
        :meth:`remove_abandoned` finds.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="taskroute-") as folder:
                staging = Path(folder)
                build(staging)
                version = self._upload(name, staging, replaces)
        except BundleError as error:
            raise BundleError(f"not published: {error}", **error.details) from error
        except OSError as error:
            raise RepositoryError(
                f"cannot publish to {self.place(name)}: {error.strerror or error}",
                path=self.place(name),
            ) from error
        try:
            self._advance_latest(name)
        except RepositoryError as error:
            raise RepositoryError(
                f"{error.message} (version {version} is whole, {LATEST} may not name it)",
                **error.details,
            ) from error
        return version

    def remove(self, name: str, version: int) -> bool:
        """First the manifest: from then on there is no such version; killed later, the rest is
        found by :meth:`remove_abandoned`."""
        raw = self.manifest(name, version)
        if raw is None or self.latest(name) == str(version):
            return False
        self._files.remove(_path(name, version, MANIFEST))
        if self.latest(name) == str(version):  # named meanwhile, see name_latest()
            self._files.write(_path(name, version, MANIFEST), raw)
            return False
        self._remove_files(name, version)
        self._files.remove(_path(name, version, CLAIM))
        return True

    def remove_abandoned(self, name: str, min_age_s: float) -> None:
        """The claim stays, as nobody's: its number is not taken again, and a publisher that was
        only very slow finds it gone."""
        found = self._files.below(name)
        for version in _numbers(found):
            if f"{version}/{MANIFEST}" in found:
                continue
            claim = self._files.read(_path(name, version, CLAIM))
            if claim is not None and time.time() - _claimed_at(claim) >= min_age_s:
                self._files.write(_path(name, version, CLAIM), _claim(at=0.0))
                self._remove_files(name, version)

    def check_writable(self, name: str) -> None:
        probe = f"{name}/.writable-{uuid.uuid4().hex}"
        self._files.write(probe, b"")
        self._files.remove(probe)

    def workspace(self, name: str) -> Path:
        words = re.sub(r"[^A-Za-z0-9.-]+", "-", self.location)
        unique = hashlib.sha256(self.location.encode()).hexdigest()[:8]
        return default_state_dir() / f"{words}-{unique}" / name

    def _read_cached(
        self, name: str, version: int, raw: bytes, files: Mapping[str, FileEntry]
    ) -> Bundle:
        def download(file: str, entry: FileEntry) -> Iterator[bytes]:
            return self._pieces(name, version, file, entry)

        try:
            with self._cache.bundle(raw, files, download) as directory:
                return read_bundle(directory)
        except BundleError as error:
            where = self.place(name, version)
            # The cause says whether the same files would be refused again.
            raise BundleError(f"{where}: {error.message}", **error.details) from (
                error.__cause__ or error
            )

    def _pieces(self, name: str, version: int, file: str, entry: FileEntry) -> Iterator[bytes]:
        found = self._files.below(_path(name, version)).get(file)
        if found is None:
            raise BundleError(f"{file} is missing", file=file)
        if found.size != entry.bytes:
            raise BundleError(
                f"{file} has {found.size} bytes, the manifest says {entry.bytes}: truncated or "
                "altered",
                file=file,
            )
        return self._files.pieces(_path(name, version, file), entry.bytes)

    def _upload(self, name: str, staging: Path, replaces: int | None) -> int:
        manifest = (staging / MANIFEST).read_bytes()
        files = parse_manifest(staging / MANIFEST, manifest).files
        claim = _claim(at=time.time())
        version = self._take_number(name, claim)
        try:
            for file, entry in files.items():
                self._files.upload(_path(name, version, file), staging / file)
                self._read_back(name, version, file, entry)
            if self._files.read(_path(name, version, CLAIM)) != claim:
                raise RepositoryError(
                    f"{self.place(name, version)} was given up as abandoned, or the store does not "
                    "keep two publishers apart: publish again"
                )
            check_latest(name, self.latest(name), replaces)
        except BaseException:
            self._give_up(name, version, claim)
            raise
        # Should the answer get lost the version may be there or not, but it is never half there.
        if not self._files.create(_path(name, version, MANIFEST), manifest):
            raise RepositoryError(
                f"{self.place(name, version)}: somebody else wrote a manifest there: publish again"
            )
        return version

    def _take_number(self, name: str, claim: bytes) -> int:
        """The next version's number, which no other publisher gets."""
        version = max(_numbers(self._files.below(name)), default=0)
        while True:
            version += 1
            if not self._files.create(_path(name, version, CLAIM), claim):
                continue
            if self._files.below(_path(name, version)).keys() == {CLAIM}:
                return version
            self._files.remove(_path(name, version, CLAIM))  # copied there by other means

    def _read_back(self, name: str, version: int, file: str, entry: FileEntry) -> None:
        digest = hashlib.sha256()
        for piece in self._pieces(name, version, file, entry):
            digest.update(piece)
        if digest.hexdigest() != entry.sha256:
            raise RepositoryError(
                f"{self.place(name, version)}/{file} is not what was uploaded: publish again"
            )

    def _give_up(self, name: str, version: int, claim: bytes) -> None:
        """Remove what was uploaded; what cannot be removed now is abandoned."""
        with suppress(RepositoryError):
            if self._files.read(_path(name, version, CLAIM)) == claim:
                self._remove_files(name, version)
                self._files.remove(_path(name, version, CLAIM))

    def _advance_latest(self, name: str) -> None:
        """Let LATEST name the highest version, whichever of several publishers is the last here.

        Looks again after each write, so that an older version's late write does not last.
        """
        written = 0
        while (newest := max(self.versions(name), default=0)) > written:
            text = self.latest(name)
            if text is None or not is_version(text) or int(text) < newest:
                self._write_latest(name, str(newest))
            written = newest

    def _write_latest(self, name: str, text: str) -> None:
        self._files.write(f"{name}/{LATEST}", f"{text}\n".encode())

    def _remove_files(self, name: str, version: int) -> None:
        for file in self._files.below(_path(name, version)):
            if file != CLAIM:
                self._files.remove(_path(name, version, file))


def _numbers(paths: Iterable[str]) -> list[int]:
    """Every number below which there is anything, ascending, each once."""
    return version_numbers({path.partition("/")[0] for path in paths})


def _path(name: str, version: int | None, file: str | None = None) -> str:
    return "/".join(str(part) for part in (name, version, file) if part is not None)


def _claim(at: float) -> bytes:
    """A claim like no other's; ``at`` is seconds since the epoch, 0 in one that is nobody's."""
    about = {"publisher": uuid.uuid4().hex, "host": platform.node(), "at": at}
    return json.dumps(about).encode()


def _claimed_at(claim: bytes) -> float:
    try:
        return float(json.loads(claim)["at"])
    except (ValueError, KeyError, TypeError):
        return 0.0
