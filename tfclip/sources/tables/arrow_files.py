"""The rows of parquet and Arrow files, a few at a time. Needs pyarrow, the extra `[parquet]`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROWS = 32
"""Rows in memory at a time, with their pictures."""


def pyarrow() -> Any:
    """Import pyarrow; ValueError that says how to install it when it is not there."""
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
    """Return the schema of a file; ValueError when it is damaged."""
    with _opened(path) as (_, schema):
        return schema


def rows_of(path: Path, columns: list[str], most: int = ROWS) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file as Python values, a few at a time; ValueError for damage."""
    arrow = pyarrow()
    with _opened(path) as (batches, _):
        try:
            for batch in batches(columns, most):
                batch.validate(full=True)  # damaged offsets would be read beyond the memory
                yield from batch.to_pylist()
        except (arrow.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} is damaged: {_told(error)}") from None


def text_rows(path: Path) -> Any:
    """Return a temporary file with an object on each line, of all columns that are not bytes.

    Raises:
        ValueError: damage, or pictures in the table.
    """
    schema = schema_of(path)
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    if pictures := [name for name, kind in kinds.items() if "binary" in kind]:
        raise ValueError(
            f"{path} holds pictures in the column {pictures[0]!r}; the source parquet reads them"
        )
    lines = tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8")
    for row in rows_of(path, schema.names, 1024):
        lines.write(json.dumps(row, default=str) + "\n")
    lines.flush()
    return lines


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class _opened:
    """The batches and the schema of a file, for the time of a `with` block."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self):
        arrow = pyarrow()
        try:
            if self.path.suffix.lower() == ".parquet":
                file = arrow.parquet.ParquetFile(self.path, pre_buffer=False)
                self.close = file.close
                read = partial(_parquet_batches, file)
                return read, file.schema_arrow
            source = arrow.OSFile(str(self.path))
            self.close = source.close
            try:
                reader = arrow.ipc.open_stream(source)
                return partial(_stream_batches, reader), reader.schema
            except arrow.ArrowInvalid:
                source.seek(0)
                reader = arrow.ipc.open_file(source)
                return partial(_file_batches, reader), reader.schema
        except (arrow.ArrowException, OSError, OverflowError) as error:
            raise ValueError(
                f"{self.path} is damaged or of another format: {_told(error)}"
            ) from None

    def __exit__(self, *error):
        self.close()


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
