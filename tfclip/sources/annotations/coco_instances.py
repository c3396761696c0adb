"""Labels from COCO's instances_*.json; a class with crowd annotations only is difficult."""

from pathlib import Path

from tfclip.sources.index import Index
from tfclip.sources.json_arrays import id_of, walk_arrays
from tfclip.sources.safe_paths import is_class_name


class Instances:
    """The objects of one file, indexed by image: 20 bytes per object.

    Attributes:
        path: the file.
        images: id, offset and length of the image entries in the file.
        class_names: the names of the categories, in the order of their ids.
        unusable: the number of objects without a valid image or category id; they are ignored.

    Raises ValueError when two categories have the same name, or none has one.
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
                if isinstance(name, str) and is_class_name(name):
                    names[id_of(value, "id")] = name
            elif array == "annotations":
                image, category = id_of(value, "image_id"), id_of(value, "category_id")
                if image < 0 or category < 0:
                    self.unusable += 1
                    continue
                self._objects.add(image, category, id_of(value, "iscrowd") == 1)
        names.pop(-1, None)
        if len(set(names.values())) < len(names) or not names:
            raise ValueError(f"{path} has no named category, or two categories of the same name")
        self._names = dict(sorted(names.items()))
        self.class_names = tuple(self._names.values())

    def of(self, image: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the classes of a picture, and the classes of which it shows only crowds.

        Raises:
            ValueError: an object whose category has no entry in the file.
        """
        present: set = set()
        crowds: set = set()
        for position in self._objects.positions(image):
            _, category, is_crowd = self._objects[position]
            if category not in self._names:
                raise ValueError(f"an object of the undefined category {category}")
            (crowds if is_crowd else present).add(category)
        return (
            tuple(name for number, name in self._names.items() if number in present),
            tuple(name for number, name in self._names.items() if number in crowds - present),
        )
