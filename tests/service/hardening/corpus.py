"""More than 500 hostile requests, made the same every time, each with the answers that are right.

Every entry is what goes over the wire, so that it may lie about its length, its chunks or its
headers. Families: image files, JSON, base64, multipart, the protocol's binary data, HTTP itself.
"""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tests.service.hardening.wire import PREDICT, form, request
from tests.service.http.oip.infer_requests import pack
from tests.service.pictures import huge_png, picture

INFER = "/v2/models/small/infer"
_JSON = {"Content-Type": "application/json"}
_PHOTO = picture(seed=1)
_BASE64 = base64.b64encode(_PHOTO).decode()


@dataclass(frozen=True)
class Entry:
    """One request and what may be answered: ``"415 unsupported_image_type"``, or ``"200"``.

    ``"closed"`` stands for a connection that the server ends without an answer.
    """

    name: str
    raw: bytes
    right: frozenset[str]


def corpus() -> list[Entry]:
    """All entries, with unique names."""
    return [
        *_truncated_files(),
        *_flipped_files(),
        *_odd_files(),
        *_wrong_json(),
        *_json_tricks(),
        *_base64_tricks(),
        *_form_tricks(),
        *_binary_lies(),
        *_wrong_tensors(),
        *_http_tricks(),
    ]


def _entry(name: str, raw: bytes, *right: str) -> Entry:
    return Entry(name, raw, frozenset(right))


def _as_body(data: bytes, kind: str = "png") -> bytes:
    # Patient: some of these files are a lot of work, and the machine may have other.
    headers = {"Content-Type": f"image/{kind}", "X-Request-Timeout-Ms": "60000"}
    return request(PREDICT, data, headers)


def _as_json(body: Any, path: str = PREDICT) -> bytes:
    return request(path, body if isinstance(body, bytes) else json.dumps(body).encode(), _JSON)


# -- image files ----------------------------------------------------------------------------------

_KINDS = ("PNG", "JPEG", "WEBP")
_BAD_FILE = ("422 invalid_image", "415 unsupported_image_type", "413 image_too_large")


def _truncated_files() -> Iterator[Entry]:
    for kind in _KINDS:
        whole = picture(seed=3, kind=kind, size=(64, 48))
        for share in range(1, 50):
            cut = whole[: len(whole) * share // 50]
            # The last bytes of a file may be missed by nobody; the first ones are its type.
            right = _BAD_FILE if share < 49 else (*_BAD_FILE, "200")
            yield _entry(f"{kind} cut at {share * 2} %", _as_body(cut, kind.lower()), *right)


def _flipped_files() -> Iterator[Entry]:
    for kind in _KINDS:
        whole = picture(seed=4, kind=kind, size=(64, 48))
        for seed in range(40):
            chosen, data = random.Random(seed), bytearray(whole)
            for _ in range(1 + seed % 8):
                # Every second one in the headers, where it hurts.
                end = 60 if seed % 2 else len(data)
                data[chosen.randrange(end)] ^= 1 << chosen.randrange(8)
            raw = _as_body(bytes(data), kind.lower())
            yield _entry(f"{kind} flipped, seed {seed}", raw, "200", *_BAD_FILE)


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in chunks:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        parts.append(struct.pack(">I", len(data)) + name + data + checksum)
    return b"".join(parts)


def _header(width: int, height: int, depth: int = 8, colour: int = 2, lace: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, lace)


def _odd_files() -> Iterator[Entry]:
    pixels = zlib.compress(bytes(64 * (64 * 3 + 1)))
    bomb = zlib.compress(bytes(20_000_000), 9)
    invalid, large = "422 invalid_image", "413 image_too_large"
    files: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "empty": (b"", (invalid,)),
        "signature only": (b"\x89PNG\r\n\x1a\n", (invalid,)),
        "100 MP of nothing": (huge_png(), (large,)),
        "2^31 pixels wide": (huge_png(2**31 - 1, 1), (large,)),
        "2^32 pixels": (huge_png(65536, 65536), (large,)),
        "no pixels": (huge_png(0, 0), (invalid,)),
        "25 MP, a few bytes of it": (huge_png(5000, 5000), (invalid,)),
        "25 MP, all of it": (_png(
            (b"IHDR", _header(5000, 5000, 1, 0)),
            (b"IDAT", zlib.compress(bytes(5000 * 626), 9)), (b"IEND", b""),
        ), ("200",)),
        "20 MB inflated into 64 x 64": (_png(
            (b"IHDR", _header(64, 64)), (b"IDAT", bomb), (b"IEND", b"")), ("200", invalid)),
        "text chunk bomb": (_png(
            (b"IHDR", _header(64, 64)), (b"zTXt", b"k\0\0" + bomb), (b"IDAT", pixels),
            (b"IEND", b"")), ("200", invalid)),
        "many text chunks": (_png(
            (b"IHDR", _header(64, 64)), *[(b"tEXt", b"k\0" + bytes(500_000))] * 20,
            (b"IDAT", pixels), (b"IEND", b"")), ("200", invalid)),
        "colour profile bomb": (_png(
            (b"IHDR", _header(64, 64)), (b"iCCP", b"k\0\0" + bomb), (b"IDAT", pixels),
            (b"IEND", b"")), ("200", invalid)),
        "a million chunks": (_png(
            (b"IHDR", _header(64, 64)), *[(b"tIME", b"")] * 200_000, (b"IDAT", pixels),
            (b"IEND", b"")), ("200", invalid)),
        "two headers": (_png(
            (b"IHDR", _header(64, 64)), (b"IHDR", _header(9000, 9000)), (b"IDAT", pixels),
            (b"IEND", b"")), ("200", invalid, large)),
        "a palette too short": (_png(
            (b"IHDR", _header(64, 64, 8, 3)), (b"PLTE", b"\0"), (b"IDAT", pixels),
            (b"IEND", b"")), ("200", invalid)),
        "no palette": (_png(
            (b"IHDR", _header(64, 64, 8, 3)), (b"IDAT", pixels), (b"IEND", b"")),
            ("200", invalid)),
        "a JPEG that announces 65535 x 65535": (_sized_jpeg(65535, 65535), (large,)),
        "a JPEG that announces 0 x 0": (_sized_jpeg(0, 0), (invalid,)),
        "a JPEG with thousands of scans": (_many_scans(), (invalid,)),
        "a WebP larger than its RIFF": (_riff(10), ("200", invalid)),
        "a WebP smaller than its RIFF": (_riff(2**31), (invalid, "200")),
        "GIF": (picture(kind="GIF"), ("415 unsupported_image_type",)),
        "BMP": (picture(kind="BMP"), ("415 unsupported_image_type",)),
        "TIFF": (picture(kind="TIFF"), ("415 unsupported_image_type",)),
        "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
                       ("415 unsupported_image_type",)),
        "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ("415 unsupported_image_type",)),
        "zip": (b"PK\3\4" + bytes(100), ("415 unsupported_image_type",)),
        "a name of a file": (b"/etc/passwd", ("415 unsupported_image_type",)),
        "an address": (b"http://169.254.169.254/", ("415 unsupported_image_type",)),
        "noise": (random.Random(1).randbytes(5000), ("415 unsupported_image_type",)),
    }  # fmt: skip
    for name, (data, right) in files.items():
        yield _entry(f"file: {name}", _as_body(data), *right)
    for depth, colour in ((1, 0), (2, 0), (16, 0), (8, 2), (16, 2), (4, 3), (8, 4), (16, 6)):
        for transparency in (b"", b"\0", b"\0\1", b"\0\1\0\2\0\3", bytes(300)):
            data = _png(
                (b"IHDR", _header(8, 8, depth, colour)), (b"PLTE", bytes(48)),
                (b"tRNS", transparency), (b"IDAT", zlib.compress(bytes(8 * 65))), (b"IEND", b""),
            )  # fmt: skip
            name = f"file: {depth} bits, colour {colour}, transparency of {len(transparency)} bytes"
            yield _entry(name, _as_body(data), "200", "422 invalid_image")
    for kind, other in (("jpeg", "PNG"), ("png", "WEBP"), ("webp", "JPEG")):
        yield _entry(f"file: {other} called {kind}", _as_body(picture(kind=other), kind), "200")


def _sized_jpeg(width: int, height: int) -> bytes:
    data = bytearray(picture(kind="JPEG"))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height, width)
    return bytes(data)


def _many_scans() -> bytes:
    """A progressive JPEG of 16 MP, its last scan repeated: seconds of work for every kilobyte."""
    file = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 1500 + b"\xff\xd9"


def _riff(size: int) -> bytes:
    data = bytearray(picture(kind="WEBP"))
    struct.pack_into("<I", data, 4, size)
    return bytes(data)


# -- JSON -----------------------------------------------------------------------------------------

_WRONG: tuple[Any, ...] = (
    None, True, -1, 0.5, 10**30, "", "\u0000", "no such", [], [[]], {}, [None], {"a": 1},
)  # fmt: skip


def _replaced(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(document))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return copy


def _wrong_json() -> Iterator[Entry]:
    """Every place of a right request with every value of another kind."""
    asked = {"images": [{"id": "a", "content": _BASE64}], "tasks": ["t0"]}
    harmless = {f"images.0.id = {value!r}" for value in (None, "\0", "no such")}
    harmless |= {"tasks = None"}
    refused: tuple[str, ...] = (
        "422 invalid_field", "422 no_images", "422 no_tasks", "422 unknown_task",
        "422 invalid_image",
    )  # fmt: skip
    places: tuple[tuple[str | int, ...], ...] = (
        ("images",), ("images", 0), ("images", 0, "id"), ("images", 0, "content"),
        ("tasks",), ("tasks", 0),
    )  # fmt: skip
    for path in places:
        for value in _WRONG:
            place = f"{'.'.join(map(str, path))} = {value!r}"
            raw = _as_json(_replaced(asked, path, value))
            right = ("200",) if place in harmless else refused
            yield _entry(f"json: {place}", raw, *right)
    for name, body in {"a field more": asked | {"more": 1}, "a list": [asked], "a number": 1,
                       "null": None, "a string": "x"}.items():  # fmt: skip
        yield _entry(f"json: {name}", _as_json(body), "422 invalid_field")
    for selector in ("group:none", "group:", "*,*", "t0,t0", "sho", "\u202e", "t0\n", "a" * 10_000):
        body = asked | {"tasks": [selector]}
        raw = _as_json(body)
        yield _entry(f"json: task {selector[:20]!r}", raw, *refused, "422 duplicate_task")


def _json_tricks() -> Iterator[Entry]:
    bad = ("400 malformed_request", "422 invalid_field")
    deep = 50_000
    documents: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "empty": (b"", bad),
        "white space": (b" " * 100_000, bad),
        "cut": (b'{"images": [{"content": "', bad),
        "nested lists": (b"[" * deep + b"]" * deep, bad),
        "nested lists, open": (b"[" * 1_000_000, bad),
        "nested objects": (b'{"a":' * deep + b"1" + b"}" * deep, bad),
        "nested images": (b'{"images":' + b"[" * deep + b"]" * deep + b"}", bad),
        "invalid UTF-8": (b'{"images": [{"content": "\xff\xfe"}]}', bad),
        "lone surrogate": (b'{"images": [{"content": "\\ud800"}]}', bad),
        "lone surrogate as a name": (b'{"images": [{"content": ""}], "tasks": ["\\udfff"]}', bad),
        "UTF-16": ('{"images": []}'.encode("utf-16"), bad),
        "byte order mark": (b"\xef\xbb\xbf{}", bad),
        "NaN": (b'{"images": NaN}', bad),
        "a number of 100,000 digits": (b'{"images": ' + b"9" * 100_000 + b"}", bad),
        "an exponent": (b'{"images": 1e999999999}', bad),
        "two documents": (b'{"images": []}{"images": []}', bad),
        "a comment": (b'{"images": [] /* none */}', bad),
        "single quotes": (b"{'images': []}", bad),
        "form encoding": (b"images=1&tasks=2", bad),
        "10 MB of one string": (b'{"images": "' + b"a" * 10_000_000 + b'"}', bad),
        "a million images": (b'{"images": [' + b"1," * 1_000_000 + b"1]}", bad),
        "100,000 fields": (
            ("{" + ",".join(f'"f{i}": 1' for i in range(100_000)) + "}").encode(), bad),
        "100,000 tasks": (json.dumps(
            {"images": [{"content": _BASE64}], "tasks": ["t0"] * 100_000}).encode(),
            ("422 duplicate_task",)),
        "33 images": (json.dumps({"images": [{"content": _BASE64}] * 33}).encode(),
                      ("413 too_many_images",)),
        "one id twice": (json.dumps({"images": [{"id": "a", "content": _BASE64}] * 2}).encode(),
                         ("422 invalid_field",)),
    }  # fmt: skip
    for name, (body, right) in documents.items():
        yield _entry(f"json: {name}", _as_json(body), *right)
    for name, (body, _) in documents.items():
        raw = _as_json(body, INFER)
        yield _entry(f"infer json: {name}", raw, "400 malformed_request", "400 invalid_field")


def _base64_tricks() -> Iterator[Entry]:
    contents: dict[str, tuple[str, str]] = {
        "no padding": (base64.b64encode(_PHOTO + b"x" * (3 - len(_PHOTO) % 3 - 1 or 2)).decode()
                       .rstrip("="), "422 invalid_image"),
        "padding in the middle": (_BASE64[:40] + "==" + _BASE64[40:], "422 invalid_image"),
        "line breaks": ("\n".join(_BASE64[i : i + 76] for i in range(0, len(_BASE64), 76)), "200"),
        "URL alphabet": ("-_-_" + _BASE64, "422 invalid_image"),
        "a data URL": (f"data:image/png;base64,{_BASE64}", "422 invalid_image"),
        "not ASCII": ("é" * 40, "422 invalid_image"),
        "nothing": ("", "422 invalid_image"),
        "only padding": ("====", "422 invalid_image"),
        "an address": ("http://127.0.0.1:1/x.png", "422 invalid_image"),
        "twice": (base64.b64encode(_BASE64.encode()).decode(), "415 unsupported_image_type"),
    }  # fmt: skip
    for name, (content, right) in contents.items():
        raw = _as_json({"images": [{"content": content}]})
        yield _entry(f"base64: {name}", raw, right)
        oip = "400 " + right.split()[1] if " " in right else right
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [content]}
        yield _entry(f"infer base64: {name}", _as_json({"inputs": [tensor]}, INFER), oip)
    both = {"images": [{"content": _BASE64}, {"content": "@"}]}
    yield _entry("base64: the second of two is bad", _as_json(both), "200")


# -- multipart ------------------------------------------------------------------------------------


def _form_tricks() -> Iterator[Entry]:
    bad, unusable = ("400 malformed_request",), ("422 invalid_field", "422 no_images")
    either = bad + unusable
    image = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + _PHOTO
    field = b'Content-Disposition: form-data; name="%s"\r\n\r\nx'
    bodies: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "whole": (form(image), ("200",)),
        "empty": (b"", either),
        "only the end": (b"--x--\r\n", unusable),
        "no end": (form(image)[:-6], (*either, "422 invalid_image", "200")),
        "cut in the image": (form(image)[:200], (*either, "422 invalid_image")),
        "cut in a header": (b"--x\r\nContent-Disp", either),
        "no header": (form(b"\r\n" + _PHOTO), either),
        "a header of 1 MB": (form(b"A: " + b"b" * 1_000_000 + b"\r\n" + image), either),
        "10,000 headers": (form(b"A: b\r\n" * 10_000 + image), (*either, "200")),
        "a header that is none": (form(b"\0\0\r\n" + image), either),
        "another boundary": (form(image, boundary=b"y"), either),
        "a preamble": (b"hello\r\n" + form(image), (*either, "200")),
        "a field without a name": (form(b"Content-Disposition: form-data\r\n\r\nx"), either),
        "an unknown field": (form(image, field=field % b"more"), ("422 invalid_field",)),
        "the image as text": (form(field % b"image"), ("422 invalid_field",)),
        "tasks as a file": (form(image, field=field.replace(b'"%s"', b'"tasks"; filename="t"')),
                            ("422 invalid_field",)),
        "tasks in bad UTF-8": (form(image, field=field % b"tasks" + b"\xff\xfe"),
                               ("422 unknown_task",)),
        "a name in bad UTF-8": (form(image, field=field % b"\xff"), ("422 invalid_field",)),
        "a field of 2 MB": (form(image, field=field % b"tasks" + b"a" * 2_000_000), bad),
        "1,001 fields": (form(*[field % b"tasks"] * 1_001), bad),
        "1,001 files": (form(*[image[:70]] * 1_001), ("413 too_many_images", *bad)),
        "33 files": (form(*[image] * 33), ("413 too_many_images",)),
        "a path as a file's name": (form(image.replace(b"a.png", b"../../a.png")), ("200",)),
        "a name of 10,000 bytes": (form(image.replace(b"a.png", b"a" * 10_000)),
                                   (*either, "200")),
        "a transfer encoding": (
            form(b"Content-Transfer-Encoding: base64\r\n" + image), ("200",)),
    }  # fmt: skip
    for name, (body, right) in bodies.items():
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        yield _entry(f"form: {name}", request(PREDICT, body, headers), *right)
    for kind, right in {
        "multipart/form-data": bad,
        "multipart/form-data; boundary=": bad,
        "multipart/form-data; boundary=" + "x" * 5000: bad,
        "multipart/form-data; boundary=x; boundary=y": (*either, "200"),
        "multipart/form-data; boundary=x; charset=no-such": (*either, "200"),
        "multipart/form-data; boundary=x; charset=utf-7": (*either, "200"),
        'multipart/form-data; boundary="x': (*either, "200"),
        "multipart/form-data; boundary*=utf-8''x": (*either, "200"),
        "multipart/mixed; boundary=x": ("415 unsupported_media_type",),
        "application/x-www-form-urlencoded": ("415 unsupported_media_type",),
        "text/plain": ("415 unsupported_media_type",),
        "": ("415 unsupported_media_type",),
        ";": ("415 unsupported_media_type",),
        "image/*": ("415 unsupported_media_type",),
        "image/svg+xml": ("415 unsupported_media_type",),
    }.items():
        raw = request(PREDICT, form(image), {"Content-Type": kind})
        yield _entry(f"type: {kind[:60]!r}", raw, *right)


# -- the protocol's binary data -------------------------------------------------------------------


def _binary(header: dict[str, Any], data: bytes, length: str | None = None) -> bytes:
    text = json.dumps({"inputs": [{"name": "image"} | header]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)) if length is None else length}
    return request(INFER, text + data, headers)


def _binary_lies() -> Iterator[Entry]:
    bad = ("400 malformed_request", "400 invalid_field", "400 no_images", "413 too_many_images")
    data = pack(_PHOTO)
    sizes: tuple[Any, ...] = (
        0, 1, -1, len(data) - 1, len(data) + 1, 2**31, 2**63, 2**64, 10**40, "10", None,
        True, 1.5, [], {},
    )  # fmt: skip
    for size in sizes:
        header = {"datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}
        yield _entry(f"binary: size {size!r}", _binary(header, data), *bad)
    right = {"binary_data_size": len(data)}
    shapes: tuple[Any, ...] = (
        [0], [2], [-1], [2**31], [2**63], [2**64], [10**40], [1, 0], [2**32, 2**32],
        [1] * 1000, [1.5], ["1"], [None], [[1]], "1", 1, None, {},
    )  # fmt: skip
    for shape in shapes:
        for datatype in ("BYTES", "UINT8"):
            header = {"datatype": datatype, "shape": shape, "parameters": right}
            allowed = (*bad, "200") if shape == [1] * 1000 else bad
            name = f"binary: {datatype} shape {repr(shape)[:40]}"
            yield _entry(name, _binary(header, data), *allowed)
    for name, elements in {
        "element longer than the rest": struct.pack("<I", len(_PHOTO) + 1) + _PHOTO,
        "element of 4 GB": struct.pack("<I", 2**32 - 1) + _PHOTO,
        "element shorter": struct.pack("<I", len(_PHOTO) - 1) + _PHOTO,
        "big-endian": struct.pack(">I", len(_PHOTO)) + _PHOTO,
        "no length": b"\1\0",
        "nothing": b"",
    }.items():
        header = {"datatype": "BYTES", "shape": [1],
                  "parameters": {"binary_data_size": len(elements)}}  # fmt: skip
        yield _entry(f"binary: {name}", _binary(header, elements), *bad)
    header = {"datatype": "BYTES", "shape": [1], "parameters": right}
    for length in ("0x10", "-1", "1e3", "", " ", "9" * 30, "1", "100000", "\uff11", "1,2"):
        allowed = (*bad, "400 unsupported_image_type")
        yield _entry(f"binary: header length {length!r}", _binary(header, data, length), *allowed)
    zero = request(INFER, b"no image", {"Inference-Header-Content-Length": "0"})
    yield _entry("binary: a bare file that is none", zero, "400 unsupported_image_type")


def _wrong_tensors() -> Iterator[Entry]:
    """Every place of a right inference request with every value of another kind."""
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [_BASE64],
              "parameters": {"content_type": "base64"}}  # fmt: skip
    output = {"name": "t0", "parameters": {"classification": 1, "binary_data": False}}
    asked = {"id": "1", "inputs": [tensor], "outputs": [output],
             "parameters": {"timeout": 10_000_000, "binary_data_output": False}}  # fmt: skip
    places: tuple[tuple[str | int, ...], ...] = (
        ("inputs",), ("inputs", 0), ("inputs", 0, "name"), ("inputs", 0, "datatype"),
        ("inputs", 0, "shape"), ("inputs", 0, "shape", 0), ("inputs", 0, "data"),
        ("inputs", 0, "data", 0), ("inputs", 0, "parameters"), ("outputs",), ("outputs", 0),
        ("outputs", 0, "name"), ("outputs", 0, "parameters", "classification"),
        ("outputs", 0, "parameters", "binary_data"), ("parameters",), ("parameters", "timeout"),
        ("parameters", "binary_data_output"), ("id",),
    )  # fmt: skip
    codes = ("malformed_request", "invalid_field", "no_images", "no_tasks", "unknown_task",
             "invalid_image", "unsupported_image_type")  # fmt: skip
    bad = (*(f"400 {code}" for code in codes), "413 too_many_images")
    for path in places:
        for value in _WRONG:
            # Parameters that are not known are allowed, and null is the same as left out.
            # A shape without dimensions is that of one element.
            lenient = "parameters" in path or path in (("id",), ("outputs",), places[4])
            name = f"infer: {'.'.join(map(str, path))} = {value!r}"
            raw = _as_json(_replaced(asked, path, value), INFER)
            yield _entry(name, raw, *bad, *(("200",) if lenient else ()))
    pixels = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3]}
    for name, data in {
        "256": [256] * 12,
        "-1": [-1] * 12,
        "floats": [0.5] * 12,
        "booleans": [True] * 12,
        "strings": ["1"] * 12,
        "nulls": [None] * 12,
        "objects": [{}] * 12,
        "large": [10**30] * 12,
        "uneven": [[1, 2], [3]],
        "deep": json.loads("[" * 100 + "1" + "]" * 100),
        "eleven": [1] * 11,
        "one long string among many": ["a" * 1_000_000] + [""] * 10_000,
        "a string": "a" * 12,
    }.items():
        raw = _as_json({"inputs": [pixels | {"data": data}]}, INFER)
        yield _entry(f"infer pixels: {name}", raw, *bad)
    noise = np.random.default_rng(1).integers(0, 256, 12).tolist()
    right = _as_json({"inputs": [pixels | {"data": noise}]}, INFER)
    yield _entry("infer pixels: right ones", right, "200")


# -- HTTP itself ----------------------------------------------------------------------------------

_UNPARSED = ("400 malformed_request",)


def _http_tricks() -> Iterator[Entry]:
    yield from _heads()
    yield from _lengths()
    yield from _chunks()
    yield from _paths()


def _heads() -> Iterator[Entry]:
    large = "431 head_too_large"
    line = b"GET /v1/limits HTTP/1.1\r\nHost: x\r\n"
    for name, raw, right in (
        ("noise", random.Random(2).randbytes(300), _UNPARSED),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), _UNPARSED),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50), (*_UNPARSED, "closed")),
        ("HTTP/0.9", b"GET /v1/limits\r\n\r\n", (*_UNPARSED, "200")),
        ("HTTP/9.9", b"GET /v1/limits HTTP/9.9\r\n\r\n", _UNPARSED),
        ("no version", b"GET\r\n\r\n", _UNPARSED),
        ("a method that is none", b"get /v1/limits HTTP/1.1\r\n\r\n", _UNPARSED),
        ("a proxy's request", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
         (*_UNPARSED, "404 not_found", "405 method_not_allowed")),
        ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
         (*_UNPARSED, "404 not_found", "405 method_not_allowed")),
        ("TRACE", b"TRACE /v1/limits HTTP/1.1\r\nHost: x\r\n\r\n", ("405 method_not_allowed",)),
        ("a space in a name", line + b"A b: c\r\n\r\n", _UNPARSED),
        ("a NUL in a value", line + b"A: b\0c\r\n\r\n", _UNPARSED),
        ("a bare line feed", line + b"A: b\nB: c\r\n\r\n", (*_UNPARSED, "200")),
        ("a bare return", line + b"A: b\rB: c\r\n\r\n", _UNPARSED),
        ("a folded header", line + b"A: b\r\n c\r\n\r\n", (*_UNPARSED, "200")),
        ("a colon alone", line + b": c\r\n\r\n", _UNPARSED),
        ("not ASCII", line + b"A: \xff\xfe\r\n\r\n", (*_UNPARSED, "200")),
        ("100 KB of one header", line + b"A: " + b"a" * 100_000 + b"\r\n\r\n", (large,)),
        ("10 MB of headers", line + b"A: b\r\n" * 1_600_000 + b"\r\n", (large,)),
        ("a path of 100 KB", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", (large,)),
        ("1,000 headers", line + b"A: b\r\n" * 1_000 + b"\r\n", ("200",)),
    ):  # fmt: skip
        yield _entry(f"head: {name}", raw, *right)
    for header, value, right in (
        ("X-Request-ID", "a\tb", ("200",)),
        ("X-Request-ID", "é", ("200",)),
        ("X-Request-ID", "a" * 5000, ("200",)),
        ("X-Request-Timeout-Ms", "nan", ("422 invalid_field",)),
        ("X-Request-Timeout-Ms", "-inf", ("422 invalid_field",)),
        ("X-Request-Timeout-Ms", "0", ("422 invalid_field",)),
        ("X-Request-Timeout-Ms", "1;2", ("422 invalid_field",)),
        ("X-Request-Timeout-Ms", "9" * 400, ("200",)),
        ("X-Request-Timeout-Ms", "inf", ("200",)),
        ("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", ("200",)),
        ("traceparent", "é" * 55, ("200",)),
        ("Content-Encoding", "gzip", ("415 unsupported_media_type",)),
        ("Content-Encoding", "é", ("415 unsupported_media_type",)),
        ("Expect", "100-continue", ("200",)),
        ("Expect", "a miracle", ("200",)),
        ("Range", "bytes=0-1", ("200",)),
        ("If-None-Match", "*", ("200",)),
        ("Accept", "text/html;q=none", ("200",)),
        ("Upgrade", "h2c", ("200",)),
        ("Authorization", "Bearer é", ("200",)),
        ("Content-Type", "text/plain", ("200", "415 unsupported_media_type")),  # a second one
        ("Host", "y", ("200",)),
    ):
        headers = f"Content-Type: image/png\r\n{header}: {value}\r\n"
        raw = request(PREDICT, _PHOTO, {}, more=headers.encode())
        yield _entry(f"header: {header}: {value[:30]!r}", raw, *right)


def _lengths() -> Iterator[Entry]:
    line = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    for value, right in (
        ("-1", _UNPARSED), ("+1", _UNPARSED), ("1e3", _UNPARSED), ("0x10", _UNPARSED),
        ("1 1", _UNPARSED), ("1, 1", _UNPARSED), ("", _UNPARSED), ("9" * 30, _UNPARSED),
        ("99999999999", ("413 body_too_large",)), ("32000001", ("413 body_too_large",)),
        ("0", ("422 invalid_image",)),
    ):  # fmt: skip
        head = line + f"Content-Length: {value}\r\n\r\n".encode()
        yield _entry(f"length: {value!r}", head + (b"" if value == "0" else _PHOTO), *right)
    size = str(len(_PHOTO)).encode()
    for name, head, right in (
        ("none", line, ("422 invalid_image",)),
        ("twice", line + (b"Content-Length: " + size + b"\r\n") * 2, _UNPARSED),
        ("two of them", line + b"Content-Length: 1\r\nContent-Length: 2\r\n", _UNPARSED),
        ("and chunks", line + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", _UNPARSED),
    ):
        body = b"" if name == "none" else _PHOTO
        yield _entry(f"length: {name}", head + b"\r\n" + body, *right)
    shorter = line + b"Content-Length: 100\r\n\r\n" + _PHOTO
    yield _entry("length: shorter than the body", shorter, "422 invalid_image", *_UNPARSED)
    longer = line + b"Content-Length: 9000\r\nX-Request-Timeout-Ms: 300\r\n\r\n" + _PHOTO
    yield _entry("length: longer than the body", longer, "504 deadline_exceeded")


def _chunks() -> Iterator[Entry]:
    line = (
        b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Transfer-Encoding: chunked\r\nX-Request-Timeout-Ms: 2000\r\n\r\n"
    )
    whole = b"%x\r\n%s\r\n" % (len(_PHOTO), _PHOTO)
    late = "504 deadline_exceeded"
    for name, body, right in (
        ("right", whole + b"0\r\n\r\n", ("200",)),
        ("of one byte", b"".join(b"1\r\n%c\r\n" % byte for byte in _PHOTO) + b"0\r\n\r\n",
         ("200",)),
        ("with an extension", whole.replace(b"\r\n", b";a=b\r\n", 1) + b"0\r\n\r\n", ("200",)),
        ("with an extension of 50 KB", whole.replace(b"\r\n", b";a=" + b"b" * 50_000 + b"\r\n", 1)
         + b"0\r\n\r\n", ("200", *_UNPARSED)),
        ("with a trailer", whole + b"0\r\nA: b\r\n\r\n", ("200",)),
        ("with a lying trailer", whole + b"0\r\nContent-Length: 9\r\n\r\n", ("200", *_UNPARSED)),
        ("without an end", whole, (late,)),
        ("without anything", b"", (late,)),
        ("of size zz", b"zz\r\n", _UNPARSED),
        ("of size -1", b"-1\r\n", _UNPARSED),
        ("of size 0x10", b"0x10\r\n", _UNPARSED),
        ("of size 2^64", b"10000000000000000\r\n", _UNPARSED),
        ("of size 2^63", b"8000000000000000\r\n" + _PHOTO, (late, *_UNPARSED)),
        ("longer than said", b"5\r\n%s\r\n" % _PHOTO, _UNPARSED),
        ("shorter than said", b"fff\r\n%s\r\n0\r\n\r\n" % _PHOTO[:100], (late, *_UNPARSED)),
        ("without line ends", b"5\nabcde\n0\n\n", (*_UNPARSED, "415 unsupported_image_type")),
    ):  # fmt: skip
        yield _entry(f"chunks: {name}", line + body, *right)
    patient = line.replace(b"Ms: 2000", b"Ms: 60000")
    large = b"100000\r\n%s\r\n" % bytes(2**20) * 32 + b"0\r\n\r\n"
    yield _entry("chunks: of 33 MB", patient + large, "413 body_too_large")
    for coding in (b"gzip", b"chunked, gzip", b"identity", b"xchunked", b"chunked\0"):
        head = line.replace(b"chunked", coding)
        allowed = (*_UNPARSED, "422 invalid_image", "415 unsupported_image_type", late)
        yield _entry(f"chunks: coding {coding!r}", head + whole + b"0\r\n\r\n", *allowed)


def _paths() -> Iterator[Entry]:
    missing = "404 not_found"
    for path, right in {
        "/static/../app.py": (missing,),
        "/static/..%2f..%2fapp.py": (missing,),
        "/static/%00": (missing,),
        "/../../etc/passwd": (missing,),
        "//v1/limits": (missing, *_UNPARSED),
        "/v1/limits/": (missing,),
        "/%ff%fe": (missing,),
        "/%zz": (missing, *_UNPARSED),
        "/v2/models/%2e%2e": ("404 unknown_model",),
        "/v2/models/%ff": ("404 unknown_model",),
        "/v2/models/" + "a" * 5000: ("404 unknown_model",),
        "/v2/models/small/versions/%00": ("404 unknown_version",),
        "/v2/models/small/versions/" + "9" * 400: ("404 unknown_version",),
        "/v2/models/small/versions/1/stats?a=%ff": ("200",),
        "http://other/v1/limits": ("200", *_UNPARSED),
    }.items():
        raw = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        yield _entry(f"path: {path[:50]}", raw, *right)
    for query, right in {
        "tasks=%ff%fe": ("422 unknown_task",),
        "tasks=": ("422 no_tasks",),
        "tasks=t0&tasks=t1": ("200",),
        "tasks=t0&tasks=t0": ("422 duplicate_task",),
        "tasks=" + "t0," * 5000: ("422 duplicate_task",),
        "&" * 5000: ("200",),
        "more=1": ("422 invalid_field",),
        "tasks": ("422 no_tasks", "200", "422 invalid_field"),
        "%": ("200", "422 invalid_field"),
    }.items():
        raw = request(f"{PREDICT}?{query}", _PHOTO, {"Content-Type": "image/png"})
        yield _entry(f"query: {query[:40]}", raw, *right)
