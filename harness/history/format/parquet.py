# SPDX-License-Identifier: GPL-2.0-or-later
"""Histories as Parquet files, which pandas, polars and DuckDB can open.

One row per operation, sorted by call time; everything else is JSON in the file's
metadata: docs/history-format.md describes it.  VERSION changes whenever an older reader would
misunderstand a newer file.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from harness import bounded
from harness.history.format.columns import NEVER, Columns
from harness.history.format.history import History, ThreadLog, merge
from harness.history.format.record import RECORD, Op, Via
from harness.model.lock.flavours import FLAVOURS
from harness.verdict import ConfigError, LabError

VERSION = 1
KEY = b"xen-evtchn-harness"
SUMS = b"xen-evtchn-harness-sums"  # of the bytes before Parquet's footer, and of the head
ROW_GROUP = 1 << 19  # operations: the unit in which a file is read back

_LARGEST_GROUP = 4 * ROW_GROUP  # that is read; other programs write groups of 2^20

_CHUNK = 1 << 20
_NAMED = pa.dictionary(pa.int8(), pa.string())
_SCHEMA = pa.schema(
    [
        pa.field("log", pa.uint16(), nullable=False),
        pa.field("domain", _NAMED, nullable=False),
        pa.field("thread", pa.uint16(), nullable=False),
        pa.field("cpu", pa.uint16(), nullable=False),
        pa.field("op", _NAMED, nullable=False),
        pa.field("via", _NAMED, nullable=False),
        pa.field("port", pa.uint32(), nullable=False),
        pa.field("arg", pa.uint32(), nullable=False),
        pa.field("result", pa.int32(), nullable=False),
        pa.field("call_ns", pa.int64(), nullable=False),
        pa.field("ret_ns", pa.int64(), nullable=True),
        pa.field("call_ticks", pa.uint64(), nullable=False),
        pa.field("ret_ticks", pa.uint64(), nullable=False),
    ]
)
_CLOCK = ("domid", "domain", "thread", "vcpu", "tick_hz", "ticks_at_zero", "error_ns", "lost")


def write(history: History, path: Path) -> None:
    """Write ``history`` to ``path``, whole or not at all.

    Raises ConfigError when ``history`` is malformed, LabError when the file cannot be written.
    """
    history.validate()
    merged, records = merge(history.threads)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    head = json.dumps(_head(history)).encode()
    schema = _SCHEMA.with_metadata({KEY: head})
    try:
        with (
            part.open("wb") as file,
            pq.ParquetWriter(body := _Body(file), schema, compression="zstd") as writer,
        ):
            for start in range(0, len(merged), ROW_GROUP):
                piece = slice(start, start + ROW_GROUP)
                table = _table(history.threads, merged.take(piece), records[piece], schema)
                writer.write_table(table, row_group_size=ROW_GROUP)
            sums = {"bytes": body.bytes, "crc32": body.crc, "head": zlib.crc32(head)}
            writer.add_key_value_metadata({SUMS: json.dumps(sums)})
        part.replace(path)
    except OSError as error:
        what = f"cannot write the history: {error.strerror or error}"
        raise LabError(what, where=str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def read(path: Path) -> History:
    """Return the history in ``path``; raise ConfigError as ``Reader`` does."""
    return Reader(path).history()


def _head(history: History) -> dict[str, Any]:
    digest = hashlib.sha256()
    for log in history.threads:
        digest.update(np.ascontiguousarray(log.records).tobytes())
    return {
        "version": VERSION,
        "flavour": history.flavour,
        "release": list(history.release),
        "arch": history.arch,
        "host": history.host,
        "digest": digest.hexdigest(),
        "threads": [
            {name: getattr(log, name) for name in _CLOCK}
            | {"records": len(log.records), "last_ns": log.last_ns()}
            for log in history.threads
        ],
        "meta": history.meta,
    } | ({} if history.rules is None else {"rules": sorted(history.rules)})


def _table(
    threads: tuple[ThreadLog, ...],
    piece: Columns,
    records: npt.NDArray[np.void],
    schema: pa.Schema,
) -> pa.Table:
    domains = list(dict.fromkeys(log.domain for log in threads))
    domain_of = np.array([domains.index(log.domain) for log in threads], np.int8)
    thread_of = np.array([log.thread for log in threads], np.uint16)
    arrays = {
        "log": pa.array(piece.log),
        "domain": pa.DictionaryArray.from_arrays(pa.array(domain_of[piece.log]), domains),
        "thread": pa.array(thread_of[piece.log]),
        "cpu": pa.array(piece.cpu),
        "op": _named(Op, piece.op),
        "via": _named(Via, piece.via),
        "port": pa.array(piece.port),
        "arg": pa.array(piece.arg),
        "result": pa.array(piece.result),
        "call_ns": pa.array(piece.call),
        "ret_ns": pa.array(piece.ret, mask=piece.ret == NEVER),
        "call_ticks": pa.array(np.ascontiguousarray(records["call"])),
        "ret_ticks": pa.array(np.ascontiguousarray(records["ret"])),
    }
    return pa.table(arrays, schema=schema)


def _named(kind: type[Op] | type[Via], codes: npt.NDArray[np.uint8]) -> pa.Array:
    index = np.searchsorted(np.array(list(kind)), codes).astype(np.int8)
    return pa.DictionaryArray.from_arrays(pa.array(index), [member.name for member in kind])


def _clock(thread: dict[str, Any]) -> dict[str, Any]:
    """Return the values of ``_CLOCK`` in ``thread``; TypeError if one is none of its kind."""
    values = {name: thread[name] for name in _CLOCK}
    for name, value in values.items():
        if type(value) is not (str if name == "domain" else int):
            raise TypeError(f"{name} cannot be {str(value)[:40]!r}")
    return values


class _Body:
    """Hands bytes on to ``file``, and keeps their number and CRC-32: all before the footer."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = 0
        self.crc = 0

    def write(self, data: bytes) -> int:
        """Take the next bytes."""
        self.bytes += len(data)
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)

    def tell(self) -> int:
        """Return where the next byte goes."""
        return self.bytes

    def flush(self) -> None:
        """Everything is written at once."""


class Reader:
    """One stored history: its head at once, its operations piece by piece.

    Every method raises ConfigError when the file is damaged, or no history of format VERSION.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise self._error("a directory" if path.is_dir() else "no such file")
        if path.stat().st_size == 0:
            raise self._error("the file is empty")
        try:
            self._file = pq.ParquetFile(path)
            metadata = self._file.metadata.metadata or {}
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._error("not a whole Parquet file: truncated or damaged") from error
        if KEY not in metadata:
            raise self._error("a Parquet file, but not a history of this harness")
        try:
            sums = bounded.json_value(metadata.get(SUMS, b"{}"))  # {}: written by an older harness
            if sums and sums["head"] != zlib.crc32(metadata[KEY]):
                raise ValueError("not as it was written")
            self._body = (int(sums["bytes"]), int(sums["crc32"])) if sums else None
            self._parse(bounded.json_value(metadata[KEY]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._error(f"the head of the history is damaged ({error!r})") from error

    def _parse(self, head: dict[str, Any]) -> None:
        if head["version"] != VERSION:
            raise self._error(
                f"history format {head['version']}; this harness reads format {VERSION}",
                hint="use the version of the harness that wrote it",
            )
        if head["flavour"] not in FLAVOURS:
            raise self._error(f"unknown flavour {head['flavour']!r}")
        self.digest = str(head["digest"])
        self.ends = [int(thread["last_ns"]) for thread in head["threads"]]
        self.counts = [int(thread["records"]) for thread in head["threads"]]
        major, minor = head["release"]
        self.head = History(
            flavour=str(head["flavour"]),
            release=(int(major), int(minor)),
            arch=str(head["arch"]),
            host=str(head["host"]),
            threads=tuple(
                ThreadLog(records=np.zeros(0, RECORD), **_clock(thread))
                for thread in head["threads"]
            ),
            meta=dict(head["meta"]),
            rules=frozenset(map(str, head["rules"])) if "rules" in head else None,
        )
        self.head.validate()
        if self._file.metadata.num_rows != sum(self.counts):
            raise self._error(
                f"{self._file.metadata.num_rows} operations where the head promises "
                f"{sum(self.counts)}"
            )
        if not self._file.schema_arrow.equals(_SCHEMA):
            raise self._error("the columns are not those of a history")
        groups = (self._file.metadata.row_group(n) for n in range(self._file.num_row_groups))
        if (most := max((group.num_rows for group in groups), default=0)) > _LARGEST_GROUP:
            raise self._error(
                f"{most:,} operations in one row group: a piece that memory has no room for",
                hint=f"write it again with row groups of {ROW_GROUP}",
            )

    @property
    def operations(self) -> int:
        """How many operations the file holds."""
        return sum(self.counts)

    def pieces(self) -> Iterator[Columns]:
        """Yield the operations, row group by row group, in the order of their calls."""
        row = 0
        names = ["log", "op", "via", "port", "arg", "result", "cpu", "call_ns", "ret_ns"]
        for table in self._tables(names):
            yield Columns(
                row=np.arange(row, row + len(table), dtype=np.int64),
                log=self._logs(table),
                op=self._codes(table, "op", Op).astype(np.uint8),
                via=self._codes(table, "via", Via).astype(np.uint8),
                port=table["port"].to_numpy(),
                arg=table["arg"].to_numpy(),
                result=table["result"].to_numpy(),
                cpu=table["cpu"].to_numpy(),
                call=table["call_ns"].to_numpy(),
                ret=table["ret_ns"].fill_null(NEVER).to_numpy(),
            )
            row += len(table)

    def history(self) -> History:
        """Return the whole history, its records exactly as the agents made them."""
        parts: list[list[npt.NDArray[np.void]]] = [[] for _ in self.counts]
        names = ["log", "op", "via", "port", "arg", "result", "cpu", "call_ticks", "ret_ticks"]
        for table in self._tables(names):
            records = np.zeros(len(table), RECORD)
            for name in ("port", "arg", "result", "cpu"):
                records[name] = table[name].to_numpy()
            records["call"] = table["call_ticks"].to_numpy()
            records["ret"] = table["ret_ticks"].to_numpy()
            records["op"] = self._codes(table, "op", Op)
            records["via"] = self._codes(table, "via", Via)
            log = self._logs(table)
            for index, into in enumerate(parts):
                into.append(records[log == index])
        threads = tuple(
            replace(log, records=np.concatenate([np.zeros(0, RECORD), *part]))
            for log, part in zip(self.head.threads, parts, strict=True)
        )
        if [len(log.records) for log in threads] != self.counts:
            raise self._error("the threads do not have the operations that the head promises")
        history = replace(self.head, threads=threads)
        try:
            history.validate()
        except ConfigError as error:
            raise self._error(str(error)) from error
        return history

    def _tables(self, names: list[str]) -> Iterator[pa.Table]:
        try:
            if not self._is_whole():
                raise ValueError
            for number in range(self._file.num_row_groups):
                yield self._file.read_row_group(number, columns=names)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._error("the operations cannot be read: truncated or damaged") from error

    def _is_whole(self) -> bool:
        """Say whether the bytes of the operations are those that were written."""
        if self._body is None:
            return True
        (left, wanted), crc = self._body, 0
        with self.path.open("rb") as file:
            while left > 0 and (piece := file.read(min(_CHUNK, left))):
                left -= len(piece)
                crc = zlib.crc32(piece, crc)
        return (left, crc) == (0, wanted)

    def _logs(self, table: pa.Table) -> npt.NDArray[np.uint16]:
        log: npt.NDArray[np.uint16] = table["log"].to_numpy()
        if len(log) and int(log.max()) >= len(self.counts):
            raise self._error("an operation of a thread that the head does not name")
        return log

    def _codes(self, table: pa.Table, column: str, kind: type[Op] | type[Via]) -> Any:
        known = {member.name: int(member) for member in kind}
        column_of = table[column].unify_dictionaries()
        parts = []
        for chunk in column_of.chunks:
            names = chunk.dictionary.to_pylist()
            codes = np.array([known.get(name, 255) for name in names] or [255], np.uint8)
            parts.append(codes[chunk.indices.to_numpy()])
        codes = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
        if (codes == 255).any():
            raise self._error(f"an operation with an unknown {column}")
        return codes

    def _error(self, what: str, *, hint: str = "") -> ConfigError:
        return ConfigError(what, where=str(self.path), hint=hint)
