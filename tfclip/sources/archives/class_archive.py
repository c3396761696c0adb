"""Pictures in class folders within a zip or tar archive, read without unpacking it."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tfclip.console import say
from tfclip.sources.archives.gzip_copy import GunzippedFile
from tfclip.sources.archives.members import Member, archive_members, is_archive
from tfclip.sources.image_folder import (
    ENDINGS,
    check_template,
    class_caption,
    list_names,
    open_image_folder,
    report_ignored,
)
from tfclip.sources.index import Index
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, split_in, stable_hash

TREE = "an archive of <class name>/<picture>.jpg, or of <split>/<class name>/<picture>.jpg"
HIDDEN = "__MACOSX"
MOST_FOLDERS = 100_000
DEEPEST = 4
"""The number of leading folders of a path that are used: up to two common ones, split and class."""


def open_class_images(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a folder as `open_image_folder` takes it, or an archive of such a folder.

    The archive is a .zip, .tar, .tar.gz or .tgz; a compressed tar is read from a temporary
    uncompressed copy. Folders that contain everything else are skipped. A member that cannot be
    used (a path out of the archive, a link, an encrypted member, a duplicate name) is rejected with
    the reason.

    Raises:
        FileNotFoundError: no such file, or no picture in class folders.
        ValueError: an unknown split, or a template without {}.
    """
    if not (data.is_file() and is_archive(data)):
        return open_image_folder(data, options)
    archive = _Archive(data, check_template(options.caption_template))
    splits = choose_splits(archive.counts, options.splits)
    counts = {split: archive.counts[split] for split in splits}
    return Source("image_folder", counts, archive.read, archive.class_names(splits))


class _Archive:
    """An archive, read once to find its folders and count the pictures."""

    def __init__(self, path: Path, template: str | None):
        # A compressed tar has no random access.
        self._file = GunzippedFile(path) if path.name.lower().endswith(("gz", ".tar")) else None
        self.name, self.path, self.template = path.name, path, template
        if self._file is not None:
            self.path = self._file.path
        self.index = Index()
        self.folders: Counter[tuple[str, ...]] = Counter()
        self.loose = rejected = respelled = 0
        ignored: Counter[str] = Counter()
        for member in self._members(ignored):
            self.index.add(stable_hash(member.name), len(self.index), 0)
            respelled += member.respelled
            if member.problem:
                rejected += 1
            elif not (folder := _folder(member)):
                self.loose += 1
            else:
                self.folders[folder] += 1
                if len(self.folders) > MOST_FOLDERS:
                    raise ValueError(f"{path} has more than {MOST_FOLDERS:,} folders of pictures")
        report_ignored(path, ignored)
        if respelled:
            say(f"{path}: backslashes in {respelled:,} names are read as separators of folders")
        if not self.folders:
            raise FileNotFoundError(f"no picture in class folders in {path}; expected: {TREE}")
        self.common = self._common_folders()
        firsts = {folder[self.common] for folder in self.folders if len(folder) > self.common}
        self.splits = {name: split for name in firsts if (split := split_in(name))}
        self.ignored = self._beside_splits(firsts)
        if self.ignored:
            say(f"{path}: splits are {', '.join(sorted(self.splits))}; ignored: "
                f"{list_names(sorted(self.ignored))}")  # fmt: skip
            firsts -= self.ignored
            self.folders = Counter(
                {f: n for f, n in self.folders.items() if f[self.common] not in self.ignored}
            )
        deep = all(len(folder) > self.common + 1 for folder in self.folders)
        self.has_splits = bool(firsts) and deep and len(self.splits) == len(firsts)
        self.counts: Counter[str] = Counter()
        for folder, count in self.folders.items():
            self.counts[self._place(folder)[0]] += count
        if self.loose + rejected:
            self.counts[self._place(())[0]] += self.loose + rejected

    def class_names(self, splits: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the class folders of these splits, sorted."""
        at = self.common + self.has_splits
        return tuple(
            sorted(
                {
                    folder[at]
                    for folder in self.folders
                    if len(folder) > at
                    and (not self.has_splits or self.splits[folder[self.common]] in splits)
                }
            )
        )

    def read(self, split: str) -> Iterator[Sample | Rejected]:
        """Yield the pictures of a split, in the order of the archive."""
        for number, member in enumerate(self._members()):
            if not member.problem and set(_folder(member)[self.common :][:1]) & self.ignored:
                continue
            own_split, class_name = self._place(() if member.problem else _folder(member))
            if own_split != split:
                continue
            key = f"image_folder/{member.name}"
            try:
                if member.problem:
                    raise ValueError(member.problem)
                if not class_name:
                    raise ValueError("not in a class folder")
                if self.index.positions(stable_hash(member.name))[0] != number:
                    raise ValueError("duplicate name: an earlier member has it too")
                image = member.read()
            except (ValueError, OSError) as reason:
                yield Rejected(key, str(reason), split)
                continue
            captions = () if self.template is None else (class_caption(self.template, class_name),)
            yield Sample(key, image, captions, labels=(class_name,), split=split)

    def _members(self, ignored: Counter[str] | None = None) -> Iterator[Member]:
        for member in archive_members(self.path):
            parts = member.name.split("/")
            ending = os.path.splitext(parts[-1])[1].lower()
            hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
            if hidden or HIDDEN in parts:
                continue
            damage = member.name == self.path.name and member.problem
            if ending in ENDINGS or damage:
                name = member.name.removeprefix("./")
                name = self.name if damage else name
                yield Member(name, member.problem, member.read, member.respelled)
            elif ignored is not None:
                ignored[ending or "without an extension"] += 1

    def _common_folders(self) -> int:
        """Return the number of leading folders that all paths share, splits and classes apart."""
        common = 0
        while common < DEEPEST - 2 and all(len(folder) > common + 1 for folder in self.folders):
            names = {folder[common] for folder in self.folders}
            if len(names) > 1 or split_in(next(iter(names))):
                break
            common += 1
        return common

    def _beside_splits(self, firsts: set[str]) -> set[str]:
        """Return the folders beside two or more splits that hold folders alone; see
        `image_folder`."""
        of_splits = [f for f in self.folders if set(f[self.common :][:1]) & set(self.splits)]
        deep = all(len(folder) > self.common + 1 for folder in of_splits)
        return firsts - set(self.splits) if len(self.splits) > 1 and deep else set()

    def _place(self, folder: tuple[str, ...]) -> tuple[str, str]:
        """Return the split and class of a folder; one without a split is counted in the first
        split, in which it is rejected."""
        inner = folder[self.common :]
        if not self.has_splits:
            return "train", inner[0] if inner else ""
        if len(inner) < 2:
            return min(self.splits.values()), ""
        return self.splits[inner[0]], inner[1]


def _folder(member: Member) -> tuple[str, ...]:
    return tuple(member.name.split("/")[:-1][:DEEPEST])
