"""One packing worker: a process that reads lists of pictures on its standard input and answers with
checked ones. Started by records.pool; it imports Pillow and no TensorFlow."""

import os
import pickle
import signal
import sys
import warnings

from tfclip.records.check import BadPicture, check_picture


def main() -> None:
    """Answer every request (pictures, image_size) with a list of Checked or BadPicture, until the
    input ends: when the packing process is gone, so is its worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by the packing process
    warnings.simplefilter("ignore")  # about odd pictures: what matters is in the answer
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    while True:
        try:
            pictures, image_size = pickle.load(requests)
        except EOFError:
            return
        pickle.dump([_answer(picture, image_size) for picture in pictures], answers, protocol=5)
        answers.flush()


def _answer(picture, image_size):
    try:
        return check_picture(picture, image_size)
    except BadPicture as bad:
        return bad


if __name__ == "__main__":
    main()
