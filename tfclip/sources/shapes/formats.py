"""Writers of drawn pictures in the file formats of the four real data sets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfclip.sources.shapes.scene import Item, Scene

VOC_DEVKIT = "voc/VOCdevkit/VOC2007"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawn picture: its path below the root, its scene, captions and regions."""

    path: str
    scene: Scene
    captions: tuple[str, ...] = ()
    regions: tuple[tuple[str, tuple[int, int, int, int]], ...] = ()

    @property
    def stem(self) -> str:
        """The file name without its extension."""
        return Path(self.path).stem


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_visual_genome(root: Path, pictures: Sequence[Drawn]) -> None:
    """Write `region_descriptions.json` and `image_data.json` (Visual Genome 1.2)."""
    descriptions, images, region_id = [], [], 0
    for picture in pictures:
        number, size, regions = int(picture.stem), picture.scene.size, []
        for phrase, (left, top, right, bottom) in picture.regions:
            region_id += 1
            regions.append(
                {
                    "region_id": region_id,
                    "width": right - left,
                    "height": bottom - top,
                    "image_id": number,
                    "phrase": phrase,
                    "y": top,
                    "x": left,
                }
            )
        descriptions.append({"regions": regions, "id": number})
        images.append(
            {
                "width": size,
                "height": size,
                "url": f"VG_100K/{number}.jpg",
                "image_id": number,
                "coco_id": None,
                "flickr_id": None,
            }
        )
    _write_json(root / "visual_genome/region_descriptions.json", descriptions)
    _write_json(root / "visual_genome/image_data.json", images)


def write_flickr8k(root: Path, splits: Mapping[str, Sequence[Drawn]]) -> None:
    """Write the token file of all captions, and the lists of the splits train, dev and test."""
    folder, tokens = root / "flickr8k", []
    for split, pictures in splits.items():
        names = [f"{picture.stem}.jpg" for picture in pictures]
        _write_lines(folder / f"Flickr_8k.{split}Images.txt", names)
        for name, picture in zip(names, pictures, strict=True):
            tokens += [f"{name}#{k}\t{text}" for k, text in enumerate(picture.captions)]
    _write_lines(folder / "Flickr8k.token.txt", sorted(tokens))


def write_coco(root: Path, splits: Mapping[str, Sequence[Drawn]]) -> None:
    """Write `captions_<split>.json` for the splits train2017 and val2017."""
    annotation_id = 0
    for split, pictures in splits.items():
        images, annotations = [], []
        for picture in pictures:
            number, size = int(picture.stem), picture.scene.size
            name = f"{picture.stem}.jpg"
            images.append(
                {"license": 1, "file_name": name, "height": size, "width": size, "id": number}
            )
            for caption in picture.captions:
                annotation_id += 1
                annotations.append({"image_id": number, "id": annotation_id, "caption": caption})
        content = {
            "info": {"description": "Drawn shapes in the layout of COCO 2017", "version": "1.0"},
            "licenses": [{"id": 1, "name": "Drawn by tfclip", "url": ""}],
            "type": "captions",
            "images": images,
            "annotations": annotations,
        }
        _write_json(root / f"coco/annotations/captions_{split}.json", content)


def write_voc(
    root: Path, splits: Mapping[str, Sequence[Drawn]], class_names: Sequence[str], database: str
) -> None:
    """Write annotations and image sets of train, val, their union trainval, and test.

    Items outside `class_names` are drawn but not annotated, like the objects outside the 20 classes
    of the real data set. In the files per class, 1 means present, -1 absent, 0 only difficult.
    """
    devkit = root / VOC_DEVKIT
    (devkit / "Annotations").mkdir(parents=True)
    for picture in (picture for pictures in splits.values() for picture in pictures):
        items = [item for item in picture.scene.items if item.name in class_names]
        text = _annotation(picture, items, database)
        (devkit / f"Annotations/{picture.stem}.xml").write_text(text, encoding="utf-8")
    lists = {**splits, "trainval": [*splits["train"], *splits["val"]]}
    for split, pictures in lists.items():
        main = devkit / "ImageSets/Main"
        _write_lines(main / f"{split}.txt", [picture.stem for picture in pictures])
        for name in class_names:
            lines = [f"{picture.stem} {_presence(picture.scene, name):2d}" for picture in pictures]
            _write_lines(main / f"{name}_{split}.txt", lines)


def _presence(scene: Scene, name: str) -> int:
    difficult = [item.difficult for item in scene.items if item.name == name]
    if not difficult:
        return -1
    return 0 if all(difficult) else 1


def _annotation(picture: Drawn, items: Sequence[Item], database: str) -> str:
    size = picture.scene.size
    lines = [
        "<annotation>",
        "\t<folder>VOC2007</folder>",
        f"\t<filename>{picture.stem}.jpg</filename>",
        f"\t<source>\n\t\t<database>{database}</database>\n\t</source>",
        f"\t<size>\n\t\t<width>{size}</width>\n\t\t<height>{size}</height>",
        "\t\t<depth>3</depth>\n\t</size>",
        "\t<segmented>0</segmented>",
    ]
    for item in items:
        # VOC counts pixels from 1, and the box includes both ends.
        left, top, right, bottom = item.box
        lines += [
            f"\t<object>\n\t\t<name>{item.name}</name>",
            "\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>",
            f"\t\t<difficult>{int(item.difficult)}</difficult>",
            f"\t\t<bndbox>\n\t\t\t<xmin>{left + 1}</xmin>\n\t\t\t<ymin>{top + 1}</ymin>",
            f"\t\t\t<xmax>{right}</xmax>\n\t\t\t<ymax>{bottom}</ymax>\n\t\t</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
