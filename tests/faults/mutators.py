"""Seeded damage of files: bytes of any kind, and for each format its own parts with its checksums put right again.

`mutate(name, content, rng)` chooses by the suffix of the name; `mutate_folder` damages one of several files, or the
folder.
"""

from __future__ import annotations

import io
import json
import math
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

import numpy as np

from trackweave.storage.result_log import _CRC, _HEAD, _checksum, read_records

Mutator = Callable[[bytes, random.Random], bytes]

# fmt: off
INTEGERS = (
    0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 62,
)
RAW = (
    "1e400", "-1e400", "NaN", "Infinity", "1" * 400, "-0.0", "1e-400", "9223372036854775808", "1.5e39", "1E5",
    "[" * 5000,
)
# fmt: on
"""JSON tokens that Python's own writer would not write; the last nests deeper than any parser follows."""
# fmt: off
TEXTS = (
    "", " ", ".", "..", "../../outside", "/etc/passwd", "a\0b", "caf\xe9", "\ud800", "\x1b[31mred", "a/b", "a\\b",
    "nul", "~", "<script>alert(1)</script>", "é" * 300, "x" * 70_000, "-1", "1e5", "None", "true", "2023-02-30",
    "%s%n", "{0.__class__}",
)
FIELDS = (
    "", "nan", "inf", "-inf", "-1", "0", "1e400", "1e39", "-1e39", "1e-320", "2147483647", "2147483648", "1e18",
    "9" * 40, "1_000", "0x10", "1.5", "1,5", "a", "é", "\0", "+", "٣", "9" * 5000, "x" * 70_000, "../../outside",
    "\x1b[31m", "#", "<id>",
)
ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3.5, 1 << 31, (1 << 53) + 1, -(1 << 63), 1e308, -1e39, 10**6, 10**9, [], {}, [[]],
    [None], [1, 2, 3], [1e308] * 4, {"a": 1}, ["x"], [[[[[]]]]],
)
# fmt: on


def mutate(name: str, content: bytes, rng: random.Random, *, bytes_only: bool = False) -> bytes:
    """The content of a file, damaged once or a few times."""
    mutator = next((each for suffix, each in MUTATORS.items() if name.endswith(suffix)), damage_integers)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        chosen = damage_bytes if bytes_only or rng.random() < 0.2 else mutator
        try:
            content = chosen(content, rng)
        except Exception:  # noqa: BLE001 - a second step meets content that no longer is of its format
            content = damage_bytes(content, rng)
    return content


def mutate_folder(
    files: Mapping[str, bytes], rng: random.Random, *, bytes_only: bool = False
) -> dict[str, bytes | None]:
    """The files of a folder with one of them damaged, missing or misplaced; None stands for a folder of that name."""
    changed: dict[str, bytes | None] = dict(files)
    kinds = sorted({(name.rpartition("/")[0], name.rpartition(".")[2]) for name in files})
    folder, suffix = rng.choice(kinds)  # a kind first: many pictures do not outweigh the one manifest beside them
    name = rng.choice(sorted(n for n in files if (n.rpartition("/")[0], n.rpartition(".")[2]) == (folder, suffix)))
    if bytes_only or rng.random() < 0.94 or len(files) == 1:
        changed[name] = mutate(name, files[name], rng, bytes_only=bytes_only)
        return changed
    other = rng.choice(sorted(files))
    action = rng.randrange(5)
    if action == 0:
        del changed[name]
    elif action == 1:
        changed[name] = b""
    elif action == 2:
        changed[name] = None
    elif action == 3:
        changed[name], changed[other] = files[other], files[name]
    else:
        stem = rng.choice(("-1", "0", "x", "00001 copy", "1e9", "9" * 30, "é", "a.b.c", "\udce9"))
        changed[f"{folder}/{stem}.{suffix}".lstrip("/")] = files[name]
    return changed


# --- bytes ------------------------------------------------------------------------------------------------------------


def damage_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flipped bits, cuts, splices, repeats, zeros: what disks, transfers and editors do."""
    data = bytearray(content)
    if not data:
        return rng.randbytes(rng.choice((1, 10, 1000)))
    action, at = rng.randrange(8), rng.randrange(len(data))
    length = min(rng.choice((1, 2, 4, 16, 256, 4096)), len(data) - at)
    if action <= 1:
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif action == 2:
        del data[at:]
    elif action == 3:
        del data[at : at + length]
    elif action == 4:
        data[at:at] = data[at : at + length] * rng.choice((1, 1, 3))
    elif action == 5:
        data[at : at + length] = bytes(length)
    elif action == 6:
        data[at : at + length] = rng.randbytes(length)
    else:
        other = rng.randrange(len(data))
        data[at : at + length] = data[other : other + length]
    return bytes(data)


def damage_integers(content: bytes, rng: random.Random) -> bytes:
    """One integer of one, two, four or eight bytes is an odd one, in either order of bytes."""
    data = bytearray(content)
    size = rng.choice((1, 2, 4, 4, 8))
    if len(data) < size:
        return damage_bytes(content, rng)
    at = rng.randrange(min(len(data), rng.choice((64, 1024, 1 << 30))) - size + 1)
    order = rng.choice(("little", "big"))
    old = int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]
    new = rng.choice((*INTEGERS, old + 1, old - 1, -old, old * 2, old << 8, old >> 1)) % (1 << 8 * size)
    data[at : at + size] = new.to_bytes(size, order)  # type: ignore[arg-type]
    return bytes(data)


# --- trees: JSON, JSON lines, what torch saves ------------------------------------------------------------------------


class _Raw:
    """A token that is written as it is."""

    def __init__(self, text: str) -> None:
        self.text = text


def damage_tree(value: Any, rng: random.Random, odd: Callable[[Any], Any]) -> Any:
    """A nested value with one part of it changed; nothing of the given one changes."""
    places: list[tuple[Any, Any]] = []

    def copied(part: Any) -> Any:
        if isinstance(part, dict):
            new: Any = {key: copied(inner) for key, inner in part.items()}
        elif isinstance(part, list):
            new = [copied(inner) for inner in part]
        else:
            return part
        places.extend((new, key) for key in (new if isinstance(new, dict) else range(len(new))))
        return new

    value = copied(value)
    if not places or rng.random() < 0.01:
        return odd(value)
    # Long lists of numbers have most of the places: half of the time one of the first few hundred is taken.
    holder, key = rng.choice(places if rng.random() < 0.5 else places[-300:])
    action = rng.randrange(10)
    if action <= 5:
        holder[key] = odd(holder[key])
    elif action == 6:
        del holder[key]
    elif action == 7 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif action == 7:
        holder[rng.choice(TEXTS)] = holder.pop(key)
    elif action == 8:
        holder[key] = [holder[key]]
    else:
        other, place = rng.choice(places)
        holder[key] = odd(holder[key]) if isinstance(other[place], dict | list) else other[place]
    return value


def _odd_json(value: Any, rng: random.Random) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        number = float(value) if abs(value) < 1e300 else 0.0
        return rng.choice((number + 1, number - 1, -number, number * 1e10, number / 3, int(number) << 20, str(value)))
    if isinstance(value, str) and value and rng.random() < 0.4:
        at = rng.randrange(len(value))
        return rng.choice(
            (value[:at], value[:at] + chr(rng.randrange(32, 127)) + value[at + 1 :], value * 2, value[::-1])
        )
    return rng.choice((rng.choice(ODD), rng.choice(TEXTS), _Raw(rng.choice(RAW)), [value] * 3))


def _dumped(value: Any) -> str:
    raw: list[str] = []

    def default(part: Any) -> Any:
        raw.append(part.text)
        return f"\u2603{len(raw) - 1}\u2603"

    text = json.dumps(value, default=default)
    return re.sub(r'"\\u2603(\d+)\\u2603"', lambda match: raw[int(match[1])], text)


def damage_json(content: bytes, rng: random.Random) -> bytes:
    """One value of a document."""
    document = damage_tree(json.loads(content), rng, lambda value: _odd_json(value, rng))
    text = _dumped(document)
    if rng.random() < 0.03:
        text = rng.choice(("\ufeff" + text, text + text, "[" * 100_000, text.replace(":", "", 1), "{" + text))
    return text.encode("utf-8", "surrogatepass")


def damage_json_lines(content: bytes, rng: random.Random) -> bytes:
    """One line of a file with an object on each."""
    lines = content.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    action = rng.randrange(6)
    if action <= 2:
        lines[at] = damage_json(lines[at], rng).replace(b"\n", b" ") + b"\n"
    elif action == 3:
        lines[at] = damage_bytes(lines[at], rng)
    elif action == 4:
        lines.insert(at, lines[at])
    else:
        del lines[at]
    return b"".join(lines)


# --- text: rows of numbers, INI, YAML ---------------------------------------------------------------------------------


def damage_rows(content: bytes, rng: random.Random) -> bytes:
    """One field, one line, or the shape of a table in text."""
    text = content.decode()
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    separator = "," if "," in lines[at] else "=" if "=" in lines[at] else " "
    fields = lines[at].split(separator)
    column = rng.randrange(len(fields))
    action = rng.randrange(16)
    if action <= 8:
        fields[column] = rng.choice(FIELDS)
    elif action == 9:
        fields.insert(column, rng.choice(FIELDS))
    elif action == 10:
        del fields[column]
    elif action == 11:
        fields = fields * rng.choice((0, 2, 50))
    lines[at] = separator.join(fields)
    if action == 12:
        lines.insert(
            at, rng.choice((lines[at], "", "# comment", "a,b,c", "\0", "frame,id,x,y,w,h,score", "[Sequence]"))
        )
    elif action == 13:
        lines[at], lines[0] = lines[0], lines[at]
    text = "\n".join(lines)
    if action == 14:
        text = rng.choice((text.replace(",", ";"), text.replace(",", "\t"), text.replace("\n", "\r"), "\ufeff" + text))
    if action == 15:
        return rng.choice(
            (text.encode("utf-16"), text.encode() * 20, text.encode().replace(b"\n", b"\n\n"), b"\n" * 1000)
        )
    return text.encode("utf-8", "surrogateescape")


def damage_yaml(content: bytes, rng: random.Random) -> bytes:
    """As `damage_rows`, and what YAML has beyond it: tags, aliases, dates, anchors, nested values."""
    lines = content.decode().split("\n")
    at = rng.randrange(len(lines))
    key, colon, _ = lines[at].partition(":")
    action = rng.randrange(8)
    if action <= 3 and colon:
        value = rng.choice((*FIELDS, *YAML_VALUES))
        lines[at] = f"{key}: {value}"
    elif action == 4:
        bomb = ["x0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
        bomb += [f"x{k}: &x{k} [{', '.join([f'*x{k - 1}'] * 9)}]" for k in range(1, rng.choice((3, 6, 8)))]
        lines = [*bomb, f"{key or 'tracker'}: *x{len(bomb) - 1}", *lines[at + 1 :]]
    elif action == 5:
        lines[at] = f"{rng.choice(('  ', '', '- ', '? ', '!!python/name:os.system '))}{lines[at]}"
    else:
        return damage_rows(content, rng)
    return "\n".join(lines).encode("utf-8", "surrogateescape")


# fmt: off
YAML_VALUES = (
    "2023-02-30", "2001-12-14t21:59:43.10-25:00", "0o17", "190:20:30", ".nan", ".inf", "~", "[a]", "{a: b}",
    "!!binary =", "&a *a", "!!python/object/apply:os.system [ls]", "!!timestamp x", "!!int x", "!!float x",
    "[" * 3000, "*a", "0x", "1__0", "!!set {a}", "!!omap [a]", "!!pairs [a]", "{? [a]: b}", "<<: 1", "yes", "'",
    '"\\ud800"', "!!bool 7", "0b2", "::", "- -",
)
# fmt: on


# --- XML --------------------------------------------------------------------------------------------------------------

# fmt: off
XML_VALUES = (
    "0,0;1,1", "0,0", ";", ",", "1,2,3;4", "0,0;8,0;8,6;0,6", "nan,nan;1,1;2,2", "1e30,0;0,1e30;3,3", "0, 48", "48",
    "-1, 49", "48, 0", "9223372036854775807, 1", "step=0", "step=1000000", "frame_000001", "frame_99999999999.png",
    "../../a.png", "a.png", "box", "2147483646", "99999999", "class_7", "class_999999999",
)
# fmt: on
"""What CVAT's attributes hold, and what looks like it."""
XML_TAGS = ("box", "polygon", "mask", "points", "polyline", "ellipse", "track", "image", "attribute", "task", "label")


def damage_xml(content: bytes, rng: random.Random) -> bytes:
    """An attribute, a text, or an element and its place; what comes out is well formed."""
    root = ElementTree.fromstring(content)
    parents = [element for element in root.iter() if len(element)]
    elements = list(root.iter())
    # The head has more elements than a short list of tracks: half of the time a shape or its track is taken.
    shown = [element for element in elements if element.tag in XML_TAGS[:8]]
    one = rng.choice(shown if shown and rng.random() < 0.5 else elements)
    action = rng.randrange(13)
    if action <= 3 and one.attrib:
        key = rng.choice(sorted(one.attrib))
        one.set(key, _odd_text(one.attrib[key], rng))
    elif action == 4 and one.attrib:
        key = rng.choice(sorted(one.attrib))
        value = one.attrib.pop(key)
        if rng.random() < 0.3:
            one.set(rng.choice(sorted({name for element in elements for name in element.attrib})), value)
    elif action == 5:
        leaf = rng.choice([element for element in elements if not len(element)] or elements)
        leaf.text = _odd_text(leaf.text or "", rng)
    elif action == 6:
        one.tag = rng.choice(XML_TAGS)
    elif action <= 11 and parents:
        parent = rng.choice(parents)
        at = rng.randrange(len(parent))
        child = parent[at]
        if action == 7:
            parent.remove(child)
        elif action == 8:
            for _ in range(rng.choice((1, 1, 2, 300))):
                parent.insert(at, child)
        elif action == 9:
            parent[:] = rng.sample(list(parent), len(parent))
        elif action == 10:
            parent.remove(child)
            inside = {id(element) for element in child.iter()}
            rng.choice([element for element in root.iter() if id(element) not in inside]).append(child)
        else:
            deepest = child
            for _ in range(rng.choice((1, 3, 200))):
                deepest = ElementTree.SubElement(deepest, rng.choice(XML_TAGS), dict(one.attrib))
    else:
        one.set(rng.choice(("frame", "id", "rotation", "outside", "keyframe", "name")), _odd_text("1", rng))
    written: bytes = ElementTree.tostring(root, encoding="utf-8")
    if rng.random() < 0.01:
        before, end, tag = written.rpartition(b"</")
        return before + b"<track>" * 50_000 + b"</track>" * 50_000 + end + tag
    return written


def _odd_text(value: str, rng: random.Random) -> str:
    """A value changed a little, or another one; without the characters that XML cannot hold."""
    try:
        number = float(value)
    except ValueError:
        number = rng.choice((0.0, 1.0, 7.0))
    if value.isdecimal() and rng.random() < 0.3:
        return str(rng.choice((*INTEGERS, 10**5, 10**6, 10**7, -1)))
    choices = (
        repr(number + rng.choice((1, -1, 0.5, 1e3, 1e6, 1e9))), str(int(number) + rng.choice((1, -1, 3, 10**6))),
        repr(-number), value + value, value[: len(value) // 2], value.replace(",", ";"),
        str(rng.choice(INTEGERS)), rng.choice(FIELDS), rng.choice(TEXTS), rng.choice(XML_VALUES), rng.choice(RAW),
    )  # fmt: skip
    return re.sub("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", rng.choice(choices))


# --- arrays and archives ----------------------------------------------------------------------------------------------

# fmt: off
NPY_HEADERS = (
    "{'descr': '|S0', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (", "(",
    "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
    "{'descr': ('<i8',) * 9, 'fortran_order': 0, 'shape': ()}", "[" * 3000,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 40, 9), }", "1" * 3000, "{}", "'\\ud800'", "\0",
    "{'descr': [('a', '<i8'), ('b', '<f4')], 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<M8[s]', 'shape': ()}", "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (1,), }",
)
DTYPES = ("<i8", "<f4", "<f8", "|u1", "|b1", "<i2", "<u8", ">i8", "<f2", "<c16", "<U4", "|S3", "|O", "<M8[s]", "|V8")
SHAPES: tuple[tuple[int, ...], ...] = (
    (), (0,), (1,), (2, 3), (0, 4), (10**6, 10**6), (1 << 40,), (1 << 62, 4), (-1,), (3, 0, 5), (1,) * 33,
    (10**5, 10**4),
)
# fmt: on


def damage_npy(content: bytes, rng: random.Random) -> bytes:
    """The header's claims, the header's text, or the values."""
    stream = io.BytesIO(content)
    np.lib.format.read_magic(stream)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    body = content[stream.tell() :]
    action = rng.randrange(9)
    if action == 0:
        return _npy(rng.choice(NPY_HEADERS), body, rng)
    if action <= 3:
        array = np.frombuffer(content, dtype, offset=stream.tell()).copy()
        if dtype.kind in "fiu" and array.size:
            limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
            odd: list[Any] = [
                0,
                1,
                limits.max,
                limits.min,
                *([np.nan, np.inf, -1.0, 1e-3] if dtype.kind == "f" else []),
            ]
            array[rng.randrange(array.size)] = rng.choice(odd)
            if rng.random() < 0.2:
                array[:] = rng.choice(odd)
        body = array.tobytes()
    elif action == 4:
        dtype = np.dtype(rng.choice(DTYPES[:12]))
    elif action == 5 and shape:
        at = rng.randrange(len(shape))
        length = rng.choice((0, 1, shape[at] - 1, shape[at] + 1, shape[at] * 2, 10**9, -1))
        shape = (*shape[:at], length, *shape[at + 1 :])
    elif action == 6:
        shape = rng.choice((*SHAPES, shape[::-1], (*shape, 1), (1, *shape), (math.prod(shape),)))
    elif action == 7:
        fortran = not fortran
    else:
        body = rng.choice((body[: len(body) // 2], body + body, b"", body * 3))
    descr = repr(np.lib.format.dtype_to_descr(dtype)) if rng.random() < 0.9 else repr(rng.choice(DTYPES))
    return _npy(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}", body, rng)


def _npy(header: str, body: bytes, rng: random.Random) -> bytes:
    text = header.encode("latin-1", "replace") + b" " * (-(len(header) + 11) % 64) + b"\n"
    version = (1, 0) if rng.random() < 0.95 and len(text) < 65536 else rng.choice(((2, 0), (3, 0), (9, 9)))
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + body


def damage_zip(content: bytes, rng: random.Random) -> bytes:
    """A member, the list of members, or the records of the archive."""
    action = rng.randrange(12)
    if action == 0:
        tail = min(len(content), 22 + 60 * rng.randrange(1, 8))
        return content[:-tail] + damage_integers(content[-tail:], rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = rng.randrange(len(members))
    name, body = members[at]
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED))
    if action <= 7:
        members[at] = name, mutate(name, body, rng)
    elif action == 8:
        del members[at]
    elif action == 9:
        odd = rng.choice(
            ("../../outside.npy", "/abs.npy", "x.npy", name.upper(), name + "\0x", "part_000001/frame.npy", "é.npy")
        )
        members[at] = odd, body
    elif action == 10:
        other = rng.randrange(len(members))
        members[at], members[other] = (name, members[other][1]), (members[other][0], body)
    elif rng.random() < 0.2:
        count = rng.choice((1 << 20, 1 << 24, 1 << 26))  # of zeros: a thousandth of it in the file
        members[at] = (
            name,
            _npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count},), }}", bytes(count), rng),
        )
        method = zipfile.ZIP_DEFLATED
    else:
        method = rng.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, body in members:
            archive.writestr(zipfile.ZipInfo(name), body, method)
    return stream.getvalue()


def damage_safetensors(content: bytes, rng: random.Random) -> bytes:
    """The table of tensors, or its length."""
    (length,) = struct.unpack_from("<Q", content)
    table, body = content[8 : 8 + length], content[8 + length :]
    if rng.random() < 0.2:
        return (
            struct.pack("<Q", rng.choice((0, 1, length - 1, length + 1, len(content), 1 << 40, 1 << 63))) + table + body
        )
    table = damage_json(table, rng)
    return struct.pack("<Q", len(table)) + table + body[: rng.choice((len(body), len(body) // 2))]


def damage_torch(content: bytes, rng: random.Random) -> bytes:
    """One value of what was saved, saved again; or the archive."""
    if rng.random() < 0.2:
        return damage_zip(content, rng)
    import torch

    def odd(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and rng.random() < 0.7:
            return rng.choice(
                (value * math.nan, value.double(), value[..., :0], value.flatten(), torch.zeros(3), value.bool())
            )
        found = _odd_json(value, rng)
        return rng.choice((math.nan, math.inf, 10**400)) if isinstance(found, _Raw) else found

    saved = damage_tree(torch.load(io.BytesIO(content), weights_only=True), rng, odd)
    stream = io.BytesIO()
    torch.save(saved, stream)
    return stream.getvalue()


# --- results while a run goes on --------------------------------------------------------------------------------------


def damage_journal(content: bytes, rng: random.Random) -> bytes:
    """Records that are whole by their checksum and odd by what they say."""
    records: list[list[Any]] = [[r.kind, r.rows, r.frame, r.body] for r in read_records(io.BytesIO(content))]
    at = rng.randrange(len(records))
    kind, rows, frame, body = records[at]
    action = rng.randrange(8)
    if action <= 2:
        records[at][3] = damage_json(body, rng) if kind in b"HC" else damage_bytes(body, rng)
    elif action == 3:
        records[at][1] = rng.choice((0, rows + 1, 1 << 20, (1 << 32) - 1))
    elif action == 4:
        records[at][2] = rng.choice((-1, frame + 1, 1 << 40, (1 << 63) - 1))
    elif action == 5:
        del records[at]
    elif action == 6:
        records.insert(at, records[rng.randrange(len(records))])
    else:
        rng.shuffle(records)
    parts = []
    for kind, rows, frame, body in records:
        head = _HEAD.pack(kind, rows, frame, len(body))
        parts += [head, _CRC.pack(_checksum(head, body)), body]
    return b"".join(parts)


# --- pictures and videos ----------------------------------------------------------------------------------------------


def damage_png(content: bytes, rng: random.Random) -> bytes:
    """A chunk, with its checksum."""
    if rng.random() < 0.25:
        return damage_picture(content, rng)
    chunks, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + length]])
        at += 12 + length
    at = rng.randrange(len(chunks))
    action = rng.randrange(6)
    if action <= 2:
        at = 0 if rng.random() < 0.5 else at
        chunks[at][1] = damage_integers(chunks[at][1], rng)
    elif action == 3:
        del chunks[at]
    elif action == 4:
        chunks.insert(at, chunks[rng.randrange(len(chunks))])
    else:
        names = (
            b"acTL",
            b"fcTL",
            b"tRNS",
            b"PLTE",
            b"iTXt",
            b"zTXt",
            b"iCCP",
            b"eXIf",
            b"gAMA",
            b"cHRM",
            b"sBIT",
            b"pHYs",
        )
        chunks.insert(
            at,
            [rng.choice(names), rng.choice((b"", b"\0" * 8, rng.randbytes(40), b"x\0\0" + zlib.compress(bytes(9999))))],
        )
    parts = [content[:8]]
    parts += [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"".join(parts)


def damage_picture(content: bytes, rng: random.Random) -> bytes:
    """Another picture: of another mode, size, kind or orientation; or the same with an odd integer."""
    if rng.random() < 0.5:
        return damage_integers(content, rng)
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(content))
    action, kind = rng.randrange(4), image.format
    image.load()
    if action == 0:
        image = image.convert(rng.choice(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16")))
    elif action == 1:
        image = image.resize(rng.choice(((1, 1), (image.width + 1, image.height), (1, 2000), (3000, 3000))))
    elif action == 2:
        kind = rng.choice(("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "EPS", "PPM", "PDF", "ICO", "SGI", "TGA"))
    exif = Image.Exif()
    exif[0x0112] = rng.choice((0, 1, 3, 6, 8, 9, 65535))
    stream = io.BytesIO()
    try:
        image.save(stream, kind, exif=exif)
    except (OSError, ValueError, TypeError):
        image.convert("RGB").save(stream, kind)
    return stream.getvalue()


_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"mvex", b"moof", b"traf")


def damage_mp4(content: bytes, rng: random.Random) -> bytes:
    """A box of a movie: its type, its size, its numbers, or whether and where it is."""
    if rng.random() < 0.2:
        return damage_integers(content, rng)
    boxes: list[tuple[int, int, bytes]] = []

    def walk(start: int, end: int) -> None:
        while start + 8 <= end:
            size, kind = struct.unpack_from(">I4s", content, start)
            if size < 8 or start + size > end:
                return
            boxes.append((start, size, kind))
            if kind in _CONTAINERS:
                walk(start + 8, start + size)
            start += size

    walk(0, len(content))
    start, size, _ = rng.choice([box for box in boxes if box[2] != b"mdat"] or boxes)
    box = content[start : start + size]
    action = rng.randrange(8)
    if action <= 3 and size > 12:
        box = box[:8] + damage_integers(box[8:], rng)
    elif action == 4:
        box = struct.pack(">I", rng.choice((0, 1, 7, size - 1, size + 1, 1 << 31))) + box[4:]
    elif action == 5:
        box = box[:4] + rng.choice((b"free", b"zzzz", b"stss", b"ctts", b"elst", rng.randbytes(4))) + box[8:]
    elif action == 6:
        box = b""
    else:
        box = box + box
    return content[:start] + box + content[start + size :]


def damage_onnx(content: bytes, rng: random.Random) -> bytes:
    """A model's sizes, names, types, attributes, metadata or constants; also data that lies elsewhere."""
    if rng.random() < 0.15:
        return damage_integers(content, rng)
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    action = rng.randrange(9)
    values = [*graph.input, *graph.output, *graph.value_info]
    if action <= 1:
        shape = rng.choice([*graph.input, *graph.output]).type.tensor_type.shape
        if not shape.dim or rng.random() < 0.2:
            shape.dim.add().dim_value = 1
        else:
            dim = rng.choice(shape.dim)
            dim.dim_value = rng.choice((0, 1, 2, 3, 100, -1, 10**5, 10**9, (1 << 62)))
    elif action == 2:
        rng.choice(values).name = rng.choice(TEXTS[:16])
    elif action == 3:
        rng.choice(values).type.tensor_type.elem_type = rng.choice((0, 1, 2, 6, 7, 8, 9, 10, 11, 99))
    elif action == 4:
        entry = rng.choice(model.metadata_props) if model.metadata_props else model.metadata_props.add()
        entry.key = rng.choice((entry.key, "names", "task", "args", "stride", "trackweave", "end2end", "imgsz"))
        odd = (
            "{0: 'a', 'x': 1}",
            "{" * 3000,
            "[1, 2",
            "{0: 'a' * 10**9}",
            "{-1: None}",
            "[[64, 96]]",
            "1e999",
            "{'nms': True}",
        )
        entry.value = rng.choice((*odd, *TEXTS, entry.value[: len(entry.value) // 2]))
        if entry.value.startswith("{") and rng.random() < 0.5 and entry.key not in ("names", "args"):
            entry.value = damage_json(entry.value.encode(), rng).decode("utf-8", "replace")
    elif action == 5:
        node = rng.choice(graph.node)
        node.op_type = rng.choice(("Identity", "Nope", "Reshape", "Resize", "Tile", "Loop", "Sqrt", "Neg", "Range"))
    elif action == 6 and graph.initializer:
        tensor = rng.choice(graph.initializer)
        if rng.random() < 0.5:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", rng.choice(("../x.bin", "/etc/passwd", "/dev/zero", "x.bin"))
        elif tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, 1, -1, 7, 10**9))
    elif action == 7:
        del graph.node[rng.randrange(len(graph.node))]
    else:
        array = graph.initializer[rng.randrange(len(graph.initializer))] if graph.initializer else None
        if array is not None and array.raw_data:
            data = np.frombuffer(array.raw_data, np.uint8).copy()
            data[:] = rng.choice((0, 255, 127, 1))
            array.raw_data = data.tobytes()
    return bytes(model.SerializeToString())


MUTATORS: Mapping[str, Mutator] = {
    ".jsonl": damage_json_lines,
    ".json": damage_json,
    ".npy": damage_npy,
    ".npz": damage_zip,
    ".safetensors": damage_safetensors,
    ".pt": damage_torch,
    ".cohorts": damage_journal,
    ".png": damage_png,
    ".jpg": damage_picture,
    ".tif": damage_picture,
    ".webp": damage_picture,
    ".bmp": damage_picture,
    ".gif": damage_picture,
    ".mp4": damage_mp4,
    ".mov": damage_mp4,
    ".onnx": damage_onnx,
    ".yaml": damage_yaml,
    ".xml": damage_xml,
    ".txt": damage_rows,
    ".csv": damage_rows,
    ".ini": damage_rows,
}
"""By the end of a file's name; any other file gets odd integers."""
