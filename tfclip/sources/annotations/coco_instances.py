"""COCO's instances_*.json: the classes of each picture; crowds alone are difficult."""

from pathlib import Path

from tfclip.sources.index import Index
from tfclip.sources.json_arrays import id_of, walk_arrays


class Instances:
    """The objects in one file, by image: 20 bytes for each object, whatever it holds.

    Attributes:
        images: the ids, places and lengths of the file's own image entries.
        class_names: the names of the categories, by their ids.
        unusable: objects without a usable image or category, which are not counted.
    """

    def __init__(self, path: Path):
        self.path = path
        self.images, self._objects = Index(), Index()
        names: dict[int, str] = {}
        self.unusable = 0
        for array, offset, length, value in walk_arrays(path):
            if array == "images":
                self.images.add(id_of(value, "id"), offset, length)
            elif array == "categories" and isinstance(value, dict):
                name = value.get("name")
                if isinstance(name, str) and name.strip() and name.isprintable():
                    names[id_of(value, "id")] = name
            elif array == "annotations":
                image, category = id_of(value, "image_id"), id_of(value, "category_id")
                if image < 0 or category < 0:
                    self.unusable += 1
                    continue
                self._objects.add(image, category, id_of(value, "iscrowd") == 1)
        names.pop(-1, None)
        if len(set(names.values())) < len(names) or not names:
            raise ValueError(f"{path} names no category, or two alike")
        self._names = dict(sorted(names.items()))
        self.class_names = tuple(self._names.values())

    def of(self, image: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the classes of a picture, and those of which there are crowds alone.

        Raises:
            ValueError: an object of a category that the file does not name.
        """
        present, crowds = set(), set()
        for position in self._objects.positions(image):
            _, category, is_crowd = self._objects[position]
            if category not in self._names:
                raise ValueError(f"an object of the unnamed category {category}")
            (crowds if is_crowd else present).add(category)
        return (
            tuple(name for number, name in self._names.items() if number in present),
            tuple(name for number, name in self._names.items() if number in crowds - present),
        )
