"""Salvage: every sound record of a damaged set, no other, in a set that verifies."""

import shutil

import pytest

from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import read_split, shard_counts
from tfclip.records.salvage import salvage
from tfclip.records.verify import verify

SHARD = "train-0000{}-of-00005.tfrecord"


@pytest.fixture
def copy(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "copy")


@pytest.fixture
def damage(copy, made):
    """Change a shard around the beginning of one of its records."""

    def change(shard, record, how):
        path = copy / SHARD.format(shard)
        content = bytearray(path.read_bytes())
        lengths = [len(one) + 16 for one in made.records_of(path, check=False)]
        how(content, sum(lengths[:record]))
        path.write_bytes(content)

    return change


def flip(distance):
    def how(content, at):
        content[at + distance] ^= 0x10

    return how


def cut(distance):
    def how(content, at):
        del content[at + distance :]

    return how


def lose(content, at):
    del content[at + 100 : at + 140]


def append(more):
    return lambda content, at: content.extend(more)


def zeros(content, at):
    content[at + 50 : at + 50 + 4096] = bytes(4096)


def keys(directory) -> list[str]:
    read = read_split(directory, "train", features=(schema.KEY,))
    return [record[schema.KEY].decode() for record in read.as_numpy_iterator()]


def but(*lost) -> list[str]:
    return [f"made/train{at}" for at in range(30) if at not in lost]


def test_a_sound_set_is_read_where_it_is(copy, tmp_path):
    assert salvage(copy, "train", tmp_path / "to") == (copy, 0)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("how", "lost"),
    [
        (flip(2), [15]),  # the length
        (flip(9), [15]),  # its checksum
        (flip(40), [15]),
        (lose, [15]),
        (append(b"12345"), []),
        (append(bytes(40)), []),
        (cut(0), [15, 16, 17]),
        (cut(5), [15, 16, 17]),
        (cut(200), [15, 16, 17]),
    ],
)
def test_what_is_damaged_is_lost_and_nothing_else(copy, damage, tmp_path, how, lost):
    damage(2, 3, how)
    directory, skipped = salvage(copy, "train", tmp_path / "to")
    assert (keys(directory), skipped) == (but(*lost), len(lost))
    assert verify(directory) == []


def test_several_shards_counts_and_words(copy, packed, damage, tmp_path, capsys):
    damage(0, 5, flip(40))
    damage(3, 1, flip(40))
    damage(3, 4, flip(3))
    damage(4, 0, cut(0))
    directory, skipped = salvage(copy, "train", tmp_path / "to")
    assert skipped == 1 + 2 + 6
    assert keys(directory) == but(5, 19, 22, *range(24, 30))
    assert shard_counts(directory, "train") == [5, 6, 6, 4, 0]
    assert verify(directory) == []
    told = capsys.readouterr().err
    assert f"{copy / SHARD.format(0)}: skipped 1 of 6 records, the first is record 5" in told
    assert f"{copy / SHARD.format(3)}: skipped 2 of 6 records, the first is record 1" in told
    assert f"{copy / SHARD.format(4)}: skipped 6 of 6 records, the first is record 0" in told
    assert f"{copy}:train: 9 of 30 records are damaged and skipped" in told
    # Only what is damaged is copied.
    assert [(directory / SHARD.format(at)).is_symlink() for at in range(5)] == [0, 1, 1, 0, 0]
    read = list(read_split(directory, "train").as_numpy_iterator())
    words = [len(t.split()) for r in read for t in (*r[schema.CAPTION], *r[schema.PHRASE])]
    manifest = load_manifest(directory)
    assert manifest.caption_words["train"] == {n: words.count(n) for n in sorted(set(words))}
    assert manifest.fingerprint() != load_manifest(packed).fingerprint()


def test_a_damaged_disk_block_costs_the_records_it_touches(copy, damage, made, tmp_path):
    path = copy / SHARD.format(2)
    lengths = [len(one) + 16 for one in made.records_of(path)]
    damage(2, 1, zeros)
    first, end = lengths[0] + 50, lengths[0] + 50 + 4096
    starts = [sum(lengths[:at]) for at in range(6)]
    lost = [at for at in range(6) if starts[at] < end and starts[at] + lengths[at] > first]
    assert 1 in lost and 0 not in lost
    directory, _ = salvage(copy, "train", tmp_path / "to")
    assert keys(directory) == but(*(12 + at for at in lost))


def test_it_is_found_again_and_made_again_where_it_is_not_whole(copy, damage, tmp_path):
    damage(2, 3, flip(40))
    directory, _ = salvage(copy, "train", tmp_path / "to")
    made_at = (directory / SHARD.format(2)).stat().st_mtime_ns
    assert salvage(copy, "train", tmp_path / "to") == (directory, 1)
    assert (directory / SHARD.format(2)).stat().st_mtime_ns == made_at
    (directory / SHARD.format(2)).write_bytes(b"")
    (directory / SHARD.format(0)).unlink()
    assert salvage(copy, "train", tmp_path / "to") == (directory, 1)
    assert keys(directory) == but(15)
    assert [path.name for path in (tmp_path / "to").iterdir()] == [directory.name]
    damage(1, 0, flip(40))
    other, skipped = salvage(copy, "train", tmp_path / "to")
    assert other != directory and (keys(other), skipped) == (but(6, 15), 2)


def test_what_is_no_damage_is_refused(copy, tmp_path):
    first, second = (copy / SHARD.format(at) for at in (0, 1))
    whole = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match="00000-of-00005.tfrecord is not damaged but differs from"):
        salvage(copy, "train", tmp_path / "to")
    first.write_bytes(whole + second.read_bytes())
    with pytest.raises(ValueError, match="12 intact records, the manifest lists 6"):
        salvage(copy, "train", tmp_path / "to")
    first.unlink()
    with pytest.raises(FileNotFoundError, match="is missing"):
        salvage(copy, "train", tmp_path / "to")
    for at in range(5):
        (copy / SHARD.format(at)).write_bytes(b"")
    with pytest.raises(ValueError, match="copy:train has no intact record"):
        salvage(copy, "train", tmp_path / "to")
