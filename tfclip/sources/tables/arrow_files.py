"""Rows of parquet and Arrow files, a few at a time. Needs pyarrow, the extra `[parquet]`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ROWS = 32
"""The number of rows in memory at a time, with their pictures."""

_ReadBatches = Callable[[list[str], int], Iterator[Any]]


def pyarrow() -> Any:
    """Import and return pyarrow; ValueError with the command that installs it when it is
    missing."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            "parquet and arrow files need pyarrow; run pip install 'tfclip[parquet]'"
        ) from None
    return pyarrow


def schema_of(path: Path) -> Any:
    """Return the schema of a file; ValueError when the file is damaged."""
    with _open_batches(path) as (_, schema):
        return schema


def rows_of(path: Path, columns: list[str], most: int = ROWS) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file as Python values, reading at most `most` rows at a time.

    Raises ValueError when the file is damaged.
    """
    arrow = pyarrow()
    with _open_batches(path) as (batches, _):
        try:
            for batch in batches(columns, most):
                batch.validate(full=True)  # invalid offsets would read out of bounds
                yield from batch.to_pylist()
        except (arrow.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} is damaged: {_one_line(error)}") from None


def text_rows(path: Path) -> Any:
    """Return a temporary JSON-lines file of all rows of a table without pictures.

    Raises:
        ValueError: a damaged file, or a column of bytes.
    """
    schema = schema_of(path)
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    if pictures := [name for name, kind in kinds.items() if "binary" in kind]:
        raise ValueError(
            f"{path} holds pictures in the column {pictures[0]!r}; read it with the source parquet"
        )
    lines = tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8")
    for row in rows_of(path, schema.names, 1024):
        lines.write(json.dumps(row, default=str) + "\n")
    lines.flush()
    return lines


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def _open_batches(path: Path) -> Iterator[tuple[_ReadBatches, Any]]:
    """Give a function that reads record batches (columns, most rows), and the schema of a file."""
    arrow = pyarrow()
    with ExitStack() as stack:
        try:
            if path.suffix.lower() == ".parquet":
                file = arrow.parquet.ParquetFile(path, pre_buffer=False)
                stack.callback(file.close)
                schema = file.schema_arrow
                read: _ReadBatches = partial(_parquet_batches, file)
            else:
                source = arrow.OSFile(str(path))
                stack.callback(source.close)
                read, schema = _ipc_batches(arrow, source)
        except (arrow.ArrowException, OSError, OverflowError) as error:
            raise ValueError(
                f"{path} is damaged or of another format: {_one_line(error)}"
            ) from None
        yield read, schema


def _ipc_batches(arrow: Any, source: Any) -> tuple[_ReadBatches, Any]:
    """Open an Arrow stream (what `datasets` caches are) or else an Arrow file."""
    try:
        reader = arrow.ipc.open_stream(source)
        return partial(_stream_batches, reader), reader.schema
    except arrow.ArrowInvalid:
        source.seek(0)
        reader = arrow.ipc.open_file(source)
        return partial(_file_batches, reader), reader.schema


def _parquet_batches(file: Any, columns: list[str], most: int) -> Iterator[Any]:
    yield from file.iter_batches(batch_size=most, columns=columns)


def _stream_batches(reader: Any, columns: list[str], most: int) -> Iterator[Any]:
    for batch in reader:
        yield from _cut(batch.select(columns), most)


def _file_batches(reader: Any, columns: list[str], most: int) -> Iterator[Any]:
    for number in range(reader.num_record_batches):
        yield from _cut(reader.get_batch(number).select(columns), most)


def _cut(batch: Any, most: int) -> Iterator[Any]:
    for start in range(0, batch.num_rows, most):
        yield batch.slice(start, most)
