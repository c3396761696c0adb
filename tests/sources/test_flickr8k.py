import csv
from collections import defaultdict

import pytest

from tfclip.sources.flickr8k import open_flickr8k
from tfclip.sources.sample import Rejected, Sample, SourceOptions

CAPTIONS = {
    "1000268201_693b08cb0e": ["A child in a pink dress , climbing .", "A girl ."],
    "1001773457_577c3a7d70": ["A black dog .", 'Two dogs , one "big" .', '"Quoted"'],
    "1002674143_1b742ab4b8": ["Ein Mädchen malt .\u2028"],
}
FIRST, SECOND, THIRD = CAPTIONS


def tokens(captions):
    return [f"{name}.jpg#{n}\t{text}" for name in captions for n, text in enumerate(captions[name])]


@pytest.fixture
def official(tmp_path, draw):
    for name in CAPTIONS:
        draw(tmp_path / f"Flicker8k_Dataset/{name}.jpg")
    lines = "\n".join(tokens(CAPTIONS))
    (tmp_path / "Flickr8k.token.txt").write_text(lines, encoding="utf-8", newline="\n")
    (tmp_path / "Flickr_8k.trainImages.txt").write_text(f"{SECOND}.jpg\n{FIRST}.jpg\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text(f"{THIRD}.jpg\n")
    return tmp_path


def read(data, split, **options):
    source = open_flickr8k(data, SourceOptions(**options))
    items = list(source.read(split))
    assert len(items) == source.counts[split]
    return items


def test_the_official_files(official):
    assert open_flickr8k(official, SourceOptions()).counts == {"train": 2, "dev": 1}
    pictures = official / "Flicker8k_Dataset"
    assert read(official, "train") == [
        Sample(f"flickr8k/{name}", pictures / f"{name}.jpg", tuple(CAPTIONS[name]), split="train")
        for name in (SECOND, FIRST)
    ]
    assert [sample.captions for sample in read(official, "dev")] == [tuple(CAPTIONS[THIRD])]


def test_captions_of_a_picture_need_not_stand_together(official):
    lines = tokens(CAPTIONS)
    path = official / "Flickr8k.token.txt"
    path.write_text("\ufeff" + "\r\n".join(lines[::2] + lines[1::2]), encoding="utf-8", newline="")
    found = {sample.key: sorted(sample.captions) for sample in read(official, "train")}
    assert found == {f"flickr8k/{name}": sorted(CAPTIONS[name]) for name in (FIRST, SECOND)}


@pytest.mark.parametrize("quoted", [True, False])
def test_the_comma_separated_variant(tmp_path, draw, quoted):
    rows = [(f"{name}.jpg", text) for name in CAPTIONS for text in CAPTIONS[name]]
    with open(tmp_path / "captions.txt", "w", encoding="utf-8", newline="") as file:
        if quoted:
            csv.writer(file).writerows([("image", "caption"), *rows])
        else:
            # A sentence that is in quotes itself cannot be told apart without quoting.
            rows = [row for row in rows if row[1] != '"Quoted"']
            file.write("image,caption\n" + "".join(f"{name},{text}\n" for name, text in rows))
    for name in CAPTIONS:
        draw(tmp_path / f"Images/{name}.jpg")
    expected = defaultdict(list)
    for name, text in rows:
        expected[name].append(text)
    found = {sample.image.name: list(sample.captions) for sample in read(tmp_path, "train")}
    assert found == expected


def test_without_lists_pictures_are_drawn_by_seed(tmp_path, draw):
    names = [f"{number}.jpg" for number in range(40)]
    for name in names:
        draw(tmp_path / f"Images/{name}")
    lines = [f"{name},picture {k} of {name}" for name in names for k in range(2)]
    (tmp_path / "captions.txt").write_text("\n".join(["image,caption", *lines]))

    def drawn(seed):
        source = open_flickr8k(tmp_path, SourceOptions(seed=seed))
        assert source.counts == {"train": 30, "dev": 5, "test": 5}
        return {split: [s.image.name for s in source.read(split)] for split in source.counts}

    one = drawn(1)
    assert sorted(sum(one.values(), [])) == sorted(names)
    assert drawn(1) == one != drawn(2)
    assert len(read(tmp_path, "dev", seed=1, splits=("dev",))) == 5


def test_what_is_wrong_with_a_picture_is_told(official, draw, tmp_path):
    draw(official / "Flicker8k_Dataset/silent.jpg")
    draw(official / "Flicker8k_Dataset/half.jpg")
    draw(official / "Flicker8k_Dataset/empty.jpg")
    draw(tmp_path.parent / "escape.jpg")
    with (official / "Flickr8k.token.txt").open("ab") as file:
        file.write(
            b"\nhalf.jpg#0\tcaf\xe9\nhalf.jpg#1\tA cafe .\nempty.jpg#0\t \nlost.jpg#0\tLost ."
        )
        file.write(b"\n../../escape.jpg#0\tEscaped .")
    lines = [f"{FIRST}.jpg", "half.jpg", "silent.jpg", "empty.jpg", "lost.jpg", "../../escape.jpg"]
    (official / "Flickr_8k.trainImages.txt").write_text("\n".join([*lines, f"{FIRST}.jpg"]))
    (official / "Flickr_8k.devImages.txt").write_text(f"{THIRD}.jpg\nhalf.jpg")
    first, half, *rejected = read(official, "train")
    assert first.captions == tuple(CAPTIONS[FIRST])
    assert half.captions == ("A cafe .",)
    assert half.dropped == (
        "caption 1: invalid Unicode: bytes that are not UTF-8, or half of a surrogate pair",
    )
    train, dev = "Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt"
    assert rejected == [
        Rejected("flickr8k/silent", "no caption", "train"),
        Rejected("flickr8k/empty", "no caption; caption 1: empty", "train"),
        Rejected("flickr8k/lost", "no such file: 'lost.jpg'", "train"),
        Rejected("flickr8k/../../escape", "not a plain file name: '../../escape.jpg'", "train"),
        Rejected(f"flickr8k/{FIRST}", f"listed twice: {train} line 1 and {train} line 7", "train"),
    ]
    # The same picture in two splits would leak from one into the other.
    reason = f"listed twice: {train} line 2 and {dev} line 2"
    assert read(official, "dev", splits=("dev",))[1:] == [Rejected("flickr8k/half", reason, "dev")]


@pytest.mark.parametrize(
    "name, content, message",
    [
        (
            "Flickr8k.token.txt",
            "a.jpg#0\tA dog .\nb.jpg#0 no tab",
            "byte 16: not picture.jpg#0<tab>",
        ),
        ("Flickr8k.token.txt", "a.jpg#x\tA dog .", "byte 0: not picture.jpg#0<tab>"),
        ("Flickr8k.token.txt", "\n", "holds no caption"),
        (
            "captions.txt",
            "image,caption\na.jpg",
            "byte 14: not picture.jpg,caption: 'a.jpg'",
        ),
        ("captions.txt", "a.jpg,A dog .", "does not begin with the line image,caption"),
    ],
)
def test_captions_in_another_format_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        open_flickr8k(tmp_path, SourceOptions())


def test_an_empty_split_and_captions_without_pictures_are_refused(official):
    (official / "Flickr_8k.testImages.txt").write_text("")
    with pytest.raises(ValueError, match=r"testImages\.txt lists no picture"):
        open_flickr8k(official, SourceOptions())
    (official / "Flickr_8k.testImages.txt").write_text("elsewhere.jpg\n")
    with pytest.raises(FileNotFoundError, match=r"testImages\.txt lists is in"):
        open_flickr8k(official, SourceOptions())
    (official / "Flicker8k_Dataset").rename(official / "elsewhere")
    with pytest.raises(FileNotFoundError, match="none of the pictures.*expected: DIR/Flicker8k"):
        open_flickr8k(official, SourceOptions(splits=("train",)))


def test_missing_captions_are_told_with_the_expected_tree(tmp_path):
    for data in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match=f"missing: {data}.*expected: DIR/Flicker8k"):
            open_flickr8k(data, SourceOptions())


def test_the_real_set_is_read_completely(real_data):
    expected = defaultdict(list)
    with open(real_data / "flickr8k/Flickr8k.token.txt", encoding="utf-8", newline="\n") as file:
        for line in file:
            name, caption = line.rstrip("\n").split("\t")
            expected[name.split("#")[0]].append(caption)
    source = open_flickr8k(real_data / "flickr8k", SourceOptions())
    assert source.counts == {"train": 6000, "dev": 1000}
    samples = [sample for split in source.counts for sample in source.read(split)]
    assert {sample.image.name: list(sample.captions) for sample in samples} == expected
    assert sum(len(sample.captions) for sample in samples) == 35_000
    listed = (real_data / "flickr8k/Flickr_8k.trainImages.txt").read_text().split()
    assert [sample.image.name for sample in samples[:6000]] == listed
