"""A packing worker: a process that receives lists of pictures and returns the checked ones.

Started by `records.packing.pool`. It imports Pillow, but not TensorFlow.
"""

import signal
import sys
import warnings
from dataclasses import fields
from multiprocessing.connection import Connection
from operator import attrgetter
from pathlib import Path

from tfclip.records.check import BadPicture, Checked, check_picture

_content = attrgetter(*(field.name for field in fields(Checked)))


def main(connection: Connection) -> None:
    """Answer every request (pictures, image_size) with a list: for each picture the fields of
    Checked, or the reason why it is bad. Ends when the packing process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the packing process handles Ctrl-C
    warnings.simplefilter("ignore")  # Pillow's warnings; problems are part of the answer
    while True:
        try:
            pictures, image_size = connection.recv()
            connection.send([_answer(picture, image_size) for picture in pictures])
        except (EOFError, ConnectionError):
            return


def _answer(picture: Path | bytes, image_size: int | None) -> tuple | str:
    try:
        return _content(check_picture(picture, image_size))
    except BadPicture as bad:
        return str(bad)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
