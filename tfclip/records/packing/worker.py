"""One packing worker: a process that receives lists of pictures and answers with checked ones.
Started by records.pool; it imports Pillow and no TensorFlow."""

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
    """Answer every request (pictures, image_size) with a list: the fields of Checked, or the reason
    why a picture is bad. Ends when the other side does: no worker outlives its packing process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by the packing process
    warnings.simplefilter("ignore")  # about odd pictures: what matters is in the answer
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
