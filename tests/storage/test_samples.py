from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.association.toy import toy_sample
from trackweave.errors import ArtifactError, ArtifactVersionError
from trackweave.storage.samples import (
    AssociationSample,
    SampleDiagnostics,
    SampleMetadata,
    encode_npz,
    encode_sample,
    read_sample,
    sample_name,
    sample_number,
)

SCHEMA = {
    "frame_idx": ("<i8", ()),
    "track_ids": ("<i8", (3,)),
    "track_features": ("<f4", (3, 10)),
    "det_features": ("<f4", (4, 8)),
    "track_embeddings": ("<f4", (3, 5)),
    "det_embeddings": ("<f4", (4, 5)),
    "cost_matrix": ("<f4", (3, 4)),
    "mask_matrix": ("<f4", (3, 4)),
    "assigned_track_ids": ("<i8", (4,)),
    "detection_count": ("<i8", (1,)),
    "gt_track_ids": ("<i8", (4,)),
}
METADATA = SampleMetadata(
    1920, 1080, 29.97, "MOT17-02 «ü»", "9-ab", 1, 1, "ground-truth", True, SampleDiagnostics(3, (4, 9))
)
COLUMNS = [name for name in SCHEMA if name not in ("frame_idx", "detection_count")]


def write(path: Path, sample: AssociationSample) -> Path:
    path.write_bytes(encode_sample(sample))
    return path


def savez(path: Path, **changes: Any) -> Path:
    """The sample as numpy writes it, with keys replaced, or left out when None."""
    content = {**toy_sample(metadata=METADATA, gt_track_ids=np.arange(4)).arrays(), **changes}
    np.savez_compressed(path, **{key: value for key, value in content.items() if value is not None})
    return path


def assert_same(a: AssociationSample, b: AssociationSample) -> None:
    assert (a.frame_idx, a.metadata) == (b.frame_idx, b.metadata)
    assert (a.gt_track_ids is None) == (b.gt_track_ids is None)
    for name in COLUMNS:
        one, other = getattr(a, name), getattr(b, name)
        if one is not None:
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


def test_the_schema_is_the_specified_one(tmp_path: Path) -> None:
    path = write(tmp_path / "s.npz", toy_sample(7, gt_track_ids=np.arange(4), metadata=METADATA))
    with np.load(path, allow_pickle=False) as loaded:
        assert {key: (loaded[key].dtype.str, loaded[key].shape) for key in loaded.files if key != "metadata"} == SCHEMA
        assert loaded["frame_idx"] == 7
        assert loaded["detection_count"].tolist() == [4]
        assert (loaded["metadata"].dtype.kind, loaded["metadata"].shape) == ("U", ())
        assert json.loads(str(loaded["metadata"])) == {
            "width": 1920,
            "height": 1080,
            "fps": 29.97,
            "sequence": "MOT17-02 «ü»",
            "run": "9-ab",
            "schema_version": 1,
            "feature_version": 1,
            "label_source": "ground-truth",
            "embedding_truncated": True,
            "diagnostics": {"est_id_switches": 3, "est_id_switches_frame": None, "suspect_tracks": [4, 9]},
        }


def test_without_ground_truth_there_is_no_key_for_it(tmp_path: Path) -> None:
    with np.load(write(tmp_path / "s.npz", toy_sample())) as loaded:
        assert set(SCHEMA) - set(loaded.files) == {"gt_track_ids"}


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def samples(draw: st.DrawFn) -> AssociationSample:
    T, D, E = (draw(st.integers(0, 4)) for _ in range(3))

    def floats(*shape: int) -> NDArray[np.float32]:
        return draw(arrays.arrays(np.float32, shape, elements=FLOATS))

    def ids(count: int) -> NDArray[np.int64]:
        return draw(arrays.arrays(np.int64, count, elements=st.integers(-1, 2**62)))

    return AssociationSample(
        draw(st.integers(0, 2**40)),
        ids(T),
        floats(T, 10),
        floats(D, 8),
        floats(T, E),
        floats(D, E),
        floats(T, D),
        draw(arrays.arrays(np.float32, (T, D), elements=st.sampled_from([0.0, 1.0]))),
        ids(D),
        SampleMetadata(
            draw(st.none() | st.integers(1, 9999)),
            draw(st.none() | st.integers(1, 9999)),
            draw(st.none() | st.floats(0.1, 240)),
            draw(st.none() | st.text()),
            draw(st.none() | st.text()),
            label_source=draw(st.text(min_size=1)),
            embedding_truncated=draw(st.booleans()),
            diagnostics=SampleDiagnostics(draw(st.integers(0, 99)), tuple(draw(st.lists(st.integers(0, 99))))),
        ),
        draw(st.none() | st.just(D).map(lambda count: np.arange(count, dtype=np.int64))),
    )


@given(samples())
def test_any_sample_comes_back(tmp_path_factory: pytest.TempPathFactory, sample: AssociationSample) -> None:
    assert_same(read_sample(write(tmp_path_factory.getbasetemp() / "any.npz", sample)), sample)


@given(
    st.dictionaries(
        st.text("abc_/", min_size=1, max_size=4),
        arrays.arrays(
            st.sampled_from([np.dtype(name) for name in ("u1", "i8", "f4", "<U3")]),
            arrays.array_shapes(min_dims=0, min_side=0),
        ),
        max_size=3,
    ),
    st.integers(0, 6000),
)
def test_numpy_and_zip_tools_read_what_is_encoded(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, NDArray[Any]], zeros: int
) -> None:
    content = {**content, "zeros": np.zeros(zeros, np.float32), "noise": np.random.default_rng(zeros).random(zeros)}
    path = tmp_path_factory.getbasetemp() / "any.npz"
    path.write_bytes(encode_npz(content))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    with np.load(path, allow_pickle=False) as loaded:
        assert sorted(loaded.files) == sorted(content)
        for key, array in content.items():
            np.testing.assert_array_equal(loaded[key], array)
            assert (loaded[key].dtype, loaded[key].shape) == (array.dtype, array.shape)


def test_compressible_arrays_are_deflated_others_stored() -> None:
    noise = np.random.default_rng(0).standard_normal((30, 256)).astype(np.float32)
    assert len(encode_npz({"x": np.zeros((30, 256), np.float32)})) < 500
    assert len(encode_npz({"x": noise})) < noise.nbytes + 400


def test_equal_content_gives_equal_bytes() -> None:
    assert encode_sample(toy_sample(5)) == encode_sample(toy_sample(5))


def test_objects_are_not_written() -> None:
    with pytest.raises(ValueError, match="never written"):
        encode_npz({"x": np.array([{}], object)})


def test_samples_of_other_trackers_are_read(tmp_path: Path) -> None:
    sample = read_sample(savez(tmp_path / "s.npz", metadata=None, gt_track_ids=None))
    assert sample.metadata == SampleMetadata()
    assert (sample.metadata.sequence, sample.metadata.label_source) == (None, "tracker")
    assert sample.gt_track_ids is None
    np.testing.assert_array_equal(sample.cost_matrix, toy_sample().cost_matrix)


def test_unknown_keys_and_fields_are_left_out(tmp_path: Path) -> None:
    text = json.dumps({"fps": 25, "lens": "left", "diagnostics": {"mood": 3}})
    sample = read_sample(savez(tmp_path / "s.npz", metadata=np.array(text), weather=np.array(3)))
    assert sample.metadata == SampleMetadata(fps=25)


def test_arrays_of_a_sample_can_be_written_to(tmp_path: Path) -> None:
    read_sample(savez(tmp_path / "s.npz")).cost_matrix[0, 0] = 9


def test_fortran_order_is_read(tmp_path: Path) -> None:
    cost = toy_sample().cost_matrix
    np.testing.assert_array_equal(
        read_sample(savez(tmp_path / "s.npz", cost_matrix=np.asfortranarray(cost))).cost_matrix, cost
    )


def with_nan(key: str, value: float = np.nan) -> NDArray[np.float32]:
    array: NDArray[np.float32] = getattr(toy_sample(), key).copy()
    array[1, 1] = value
    return array


WRONG: list[tuple[Mapping[str, Any], str]] = [
    *(({key: None}, f"{key} is missing") for key in SCHEMA if key != "gt_track_ids"),
    ({"track_ids": np.arange(3, dtype=np.int32)}, r"track_ids is int32, not int64"),
    ({"cost_matrix": np.zeros((3, 4))}, r"cost_matrix is float64, not float32"),
    ({"cost_matrix": np.zeros((3, 4), ">f4")}, r"cost_matrix is >f4, not float32"),
    ({"cost_matrix": np.zeros((4, 3), np.float32)}, r"cost_matrix is of shape \(4, 3\), not \(3, 4\)"),
    ({"track_features": np.zeros((3, 9), np.float32)}, r"track_features is of shape \(3, 9\), not \(3, 10\)"),
    ({"det_embeddings": np.zeros((4, 6), np.float32)}, r"det_embeddings is of shape \(4, 6\), not \(4, 5\)"),
    ({"assigned_track_ids": np.zeros((2, 2), np.int64)}, r"assigned_track_ids is of shape \(2, 2\), not \(4\)"),
    ({"frame_idx": np.array([3])}, r"frame_idx is of shape \(1,\), not \(\)"),
    ({"frame_idx": np.array(-3)}, "frame_idx is -3"),
    ({"detection_count": np.array([5])}, "detection_count is 5, but there are 4 detections"),
    ({"gt_track_ids": np.arange(5)}, r"gt_track_ids is of shape \(5,\)"),
    *(
        ({key: with_nan(key)}, f"{key} holds values that are not finite")
        for key in SCHEMA
        if "_f" in key or "_e" in key
    ),
    ({"cost_matrix": with_nan("cost_matrix", np.inf)}, "cost_matrix holds values that are not finite"),
    ({"mask_matrix": with_nan("mask_matrix", 0.5)}, "mask_matrix holds values other than 0 and 1"),
    ({"metadata": np.array("{")}, "metadata is not JSON"),
    ({"metadata": np.array("[]")}, "metadata is not a JSON object"),
    ({"metadata": np.array(["{}"])}, "metadata is not JSON: not one text"),
    ({"metadata": np.array('{"fps": "25"}')}, r"metadata\.fps is '25'"),
    ({"metadata": np.array('{"width": true}')}, r"metadata\.width is True"),
    ({"metadata": np.array('{"diagnostics": {"suspect_tracks": ["a"]}}')}, r"metadata\.suspect_tracks"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_broken_schema_is_refused_with_the_key(tmp_path: Path, changes: Mapping[str, Any], message: str) -> None:
    path = savez(tmp_path / "s.npz", **changes)
    with pytest.raises(ArtifactError, match=rf"s\.npz: .*{message}") as caught:
        read_sample(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [2, 0, "1", None])
def test_other_schema_versions_are_refused(tmp_path: Path, value: object) -> None:
    path = savez(tmp_path / "s.npz", metadata=np.array(json.dumps({"schema_version": value})), cost_matrix=None)
    with pytest.raises(ArtifactVersionError, match=rf"s\.npz: .*{value!r}"):
        read_sample(path)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    content = {**toy_sample().arrays(), "track_ids": np.array([1, "a", {}], object)}
    np.savez(path, **content)
    with pytest.raises(ArtifactError, match="track_ids is object, not int64"):
        read_sample(path)


def test_every_truncation_is_refused_in_one_line(tmp_path: Path) -> None:
    content = encode_sample(toy_sample())
    short = tmp_path / "short.npz"
    for length in range(0, len(content), 29):
        short.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=r"short\.npz") as caught:
            read_sample(short)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_damaged_byte_is_refused_in_one_line_or_harmless(tmp_path: Path, flip: int) -> None:
    content = encode_sample(toy_sample())
    path = tmp_path / "s.npz"
    refused = []
    for position in range(0, len(content), 17):
        path.write_bytes(content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :])
        try:
            assert_same(read_sample(path), toy_sample())
        except ArtifactError as error:
            refused.append(str(error))
    assert len(refused) > len(content) // 17 // 2
    assert not any("\n" in message for message in refused)


def test_headers_that_claim_too_much_allocate_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    arrays = toy_sample().arrays()
    content = encode_npz({**arrays, "track_ids": np.zeros(3, np.int64)})
    with zipfile.ZipFile(path, "w") as archive:
        (tmp_path / "source.npz").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "source.npz") as source:
            for name in source.namelist():
                entry = source.read(name)
                if name == "track_ids.npy":
                    entry = entry.replace(b"(3,), }         ", b"(99999999999,), }")[: len(entry)]
                archive.writestr(name, entry)
    with pytest.raises(ArtifactError, match=r"s\.npz: (track_ids|track_features)"):
        read_sample(path)


def test_files_that_are_no_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "one.npy", np.ones(3))
    for path, message in (
        (tmp_path / "none.npz", "there is no sample here"),
        (tmp_path / "text.npz", "not a readable sample"),
        (tmp_path / "one.npy", "not a readable sample"),
        (tmp_path, "not a readable sample"),
    ):
        with pytest.raises(ArtifactError, match=message):
            read_sample(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost_matrix": np.zeros((3, 3), np.float32)}, "cost_matrix is of shape"),
        ({"track_features": with_nan("track_features")}, "track_features holds values"),
        ({"track_ids": np.arange(3, dtype=np.int32)}, "track_ids is int32"),
    ],
)
def test_a_broken_schema_is_not_written(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_sample(replace(toy_sample(), **changes))


def test_huge_but_finite_values_are_allowed(tmp_path: Path) -> None:
    sample = toy_sample(cost_matrix=np.full((3, 4), 3e38, np.float32))
    assert_same(read_sample(write(tmp_path / "s.npz", sample)), sample)


def test_matched_detections_are_those_of_active_tracks() -> None:
    sample = toy_sample(assigned_track_ids=np.array([11, -1, 99, 10]))
    assert sample.matched.tolist() == [True, False, False, True]
    assert toy_sample(tracks=0, assigned_track_ids=np.full(4, -1)).matched.tolist() == [False] * 4


def test_names() -> None:
    assert sample_name(3) == "sample_0000003.npz"
    assert sample_number(sample_name(12_345_678)) == 12_345_678
    for name in ("sample_3.npz", "sample_0000003.npz.partial", "sample_00000003.npz", "x_sample_0000003.npz"):
        assert sample_number(name) is None


def with_entry(path: Path, name: str, content: bytes) -> Path:
    """A sample with the content of one entry changed, whole as an archive."""
    write(path, toy_sample())
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    entries[name] = content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    return path


@pytest.mark.parametrize(
    "header", ["{'descr': ('<i8', ", "(" * 5000, "{'descr': '|S0', 'fortran_order': False, 'shape': (-1,)}"]
)
def test_a_damaged_header_names_file_and_key(tmp_path: Path, header: str) -> None:
    content = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n"
    with pytest.raises(ArtifactError, match=r"s\.npz: track_ids is not an array: "):
        read_sample(with_entry(tmp_path / "s.npz", "track_ids.npy", content))


@pytest.mark.parametrize("text", ["[" * 5000, '{"width": 1e999}', '{"fps": NaN}', '{"width": ' + "9" * 400 + "}"])
def test_metadata_that_python_cannot_hold_is_named(tmp_path: Path, text: str) -> None:
    file = io.BytesIO()
    np.save(file, np.array(text))
    with pytest.raises(ArtifactError, match=r"s\.npz: metadata is not JSON: ") as caught:
        read_sample(with_entry(tmp_path / "s.npz", "metadata.npy", file.getvalue()))
    assert len(str(caught.value)) < 200 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["track_features.npy", "unknown.npy"])
def test_a_sample_that_inflates_a_thousandfold_is_refused(tmp_path: Path, name: str) -> None:
    path = with_entry(tmp_path / "s.npz", name, bytes(96 << 20))
    tracemalloc.start()
    with pytest.raises(ArtifactError, match=r"is damaged: it would take 100663296 bytes, more than"):
        read_sample(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("height", -4), ("width", 1 << 40), ("fps", 0), ("fps", -25.0), ("height", "x" * 9999)],
)
def test_a_size_or_a_rate_that_no_video_has(tmp_path: Path, name: str, value: object) -> None:
    content = toy_sample(metadata=METADATA).arrays()
    metadata = {**json.loads(str(content["metadata"])), name: value}
    path = tmp_path / "sample.npz"
    path.write_bytes(encode_npz({**content, "metadata": np.array(json.dumps(metadata))}))
    with pytest.raises(ArtifactError, match=rf"metadata\.{name} is ") as caught:
        read_sample(path)
    assert len(str(caught.value)) < 400
