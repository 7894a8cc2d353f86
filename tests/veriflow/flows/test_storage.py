"""What is saved comes back bit for bit; everything else is refused with a sentence, and nothing is executed."""

from __future__ import annotations

import hashlib
import math
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from veriflow.density.radial import BASES, make_base
from veriflow.errors import StorageError
from veriflow.files.sealed import VERSION, load_tensors, save_tensors
from veriflow.flows.flow import USFlow
from veriflow.flows.storage import load_flow, save_flow


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


# -- tensors and documents ----------------------------------------------------------------------------------------

TENSORS = {
    "float32": torch.tensor([[0.1, -0.0, math.nan], [math.inf, 1e-45, 3.0]]),
    "float64": torch.tensor(math.pi, dtype=torch.float64),
    "int64": torch.tensor([2**63 - 1, -(2**63)]),
    "bool": torch.tensor([[True], [False]]),
    "empty": torch.empty(0, 3),
    "naïve.名": torch.arange(6.0).reshape(2, 3).T,
}
DOCUMENT = {"text": 'ü\n"quoted" \x00', "sha256": 64 * "0", "number": 0.1, "nested": [None, True, {"a": -1e308}]}


def test_tensors_and_document_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_tensors(path, "test", DOCUMENT, TENSORS)
    document, tensors = load_tensors(str(path), "test")
    assert document == DOCUMENT
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        back = tensors[name]
        assert (back.dtype, back.shape, bits(back)) == (tensor.dtype, tensor.shape, bits(tensor))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=4), parts, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_any_json_document_comes_back(tmp_path: Path, document: dict[str, Any]) -> None:
    save_tensors(tmp_path / "file", "test", document, {})
    assert load_tensors(tmp_path / "file", "test") == (document, {})


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", "test", DOCUMENT, TENSORS)
    save_tensors(tmp_path / "b", "test", DOCUMENT, dict(reversed(TENSORS.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_that_share_memory_come_back_separate(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    save_tensors(tmp_path / "file", "test", {}, {"all": shared, "half": shared[:2]})
    _, tensors = load_tensors(tmp_path / "file", "test")
    tensors["all"].zero_()
    assert tensors["half"].tolist() == [0, 1]


@pytest.mark.parametrize("document", [{"a": math.nan}, {"a": {1, 2}}, {"a": b"bytes"}])
def test_documents_that_are_not_json_are_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="expected a document of JSON values; got one with"):
        save_tensors(tmp_path / "file", "test", document, {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="expected to be able to write"):
        save_tensors(tmp_path / "no" / "file", "test", {}, {})


# -- damage -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("storage") / "small"
    save_tensors(path, "test", {"n": 1}, {"w": torch.tensor([1.0, 2.0]), "k": torch.tensor([3])})
    return path.with_name("damaged"), path.read_bytes()


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(StorageError) as caught:
        load_tensors(path, "test")
    assert str(caught.value).startswith("expected ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("flip", [1, 0x2A, 0x80])  # 0x2A makes a line feed of a space
def test_every_flipped_byte_is_noticed(small_file: tuple[Path, bytes], flip: int) -> None:
    path, data = small_file
    for place in range(len(data)):
        refused(path, data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])


def test_every_truncation_and_extension_is_noticed(small_file: tuple[Path, bytes]) -> None:
    path, data = small_file
    for length in range(len(data)):
        refused(path, data[:length])
    assert "cut short or altered" in refused(path, data + b"\0")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    foreign = safetensors.torch.save({"w": torch.ones(2)}, {"format": "pt"})
    for data in [b"", b"\0", b"\x80\x04\x95 pickle", foreign, struct.pack("<Q", 2**63) + b"{}", b"PK\x03\x04" * 9]:
        assert "expected a file written by veriflow at" in refused(path, data)
    with pytest.raises(StorageError, match=r"expected a file at .*; got a folder"):
        load_tensors(tmp_path, "test")
    with pytest.raises(StorageError, match=r"expected a file at .*; got none"):
        load_tensors(tmp_path / "none", "test")


def resealed(path: Path, old: bytes, new: bytes) -> bytes:
    """The file with something else in it and a seal that fits: only `load_tensors`' further checks can refuse it."""
    data = path.read_bytes()
    start = data.index(b'sha256\\": \\"') + len(b'sha256\\": \\"')
    unsealed = (data[:start] + b"0" * 64 + data[start + 64 :]).replace(old, new)
    size = int.from_bytes(unsealed[:8], "little") + len(new) - len(old)
    unsealed = size.to_bytes(8, "little") + unsealed[8:]
    return unsealed[:start] + hashlib.sha256(unsealed).hexdigest().encode() + unsealed[start + 64 :]


def test_more_tensors_than_any_flow_has_are_refused(
    small_file: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veriflow.files.sealed.MOST_TENSORS", 1)
    assert "expected at most 1 tensors in " in refused(*small_file)


def test_other_kinds_later_versions_and_forgeries_are_refused(small_file: tuple[Path, bytes], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(small_file[1])
    assert load_tensors(path, "test")[0] == {"n": 1}
    with pytest.raises(StorageError, match=r"expected a veriflow file of kind 'flow' in .*; got kind 'test'"):
        load_tensors(path, "flow")
    for old, new, sentence in [
        (f'version\\": {VERSION}'.encode(), f'version\\": {VERSION + 1}'.encode(), f"of version {VERSION} at most in "),
        (b'{\\"n\\": 1}', b"[1]", "got kind 'test'"),
        (b'\\"version\\"', b'\\"virsion\\"', "got a malformed one"),
        (b'"F32"', b'"F64"', "got a malformed one"),
        (b'"shape":[2]', b'"shape":[4294967296,4294967296]', "got a malformed one"),
        (b'{\\"n\\": 1}', b"[" * 90_000 + b"]" * 90_000, "got a malformed one"),
    ]:
        path.write_bytes(small_file[1])
        assert sentence in refused(path, resealed(path, old, new))


# -- flows --------------------------------------------------------------------------------------------------------


def random_flow(dtype: torch.dtype = torch.float32, **options: Any) -> USFlow:
    torch.manual_seed(0)
    flow = USFlow(3, **{"blocks": 2, "hidden": (4,), **options}).to(dtype)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return flow


SHAPES: list[dict[str, Any]] = [
    {},
    {"blocks": 0, "hidden": (999,)},
    {"householder": 3, "permute": True, "features": ["a", "b", "ü"]},
    {"hidden": ()},
    *({"base": make_base(name, 3)} for name in BASES),
    {"base": make_base("gamma-mixture", 3, math.inf, 2)},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_a_flow_comes_back_with_the_same_densities(tmp_path: Path, dtype: torch.dtype, options: dict) -> None:
    flow = random_flow(dtype, **options)
    flow.standardise(torch.tensor([1.0, 2.0, 3.0], dtype=dtype), torch.tensor([0.5, 1.0, 2.0], dtype=dtype))
    save_flow(flow, tmp_path / "flow")
    before = torch.random.get_rng_state()
    back = load_flow(tmp_path / "flow")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert back.features == flow.features
    assert back.config() == flow.config()
    x = 0.3 * torch.randn(64, 3, dtype=dtype) + torch.tensor([1.0, 2.0, 3.0], dtype=dtype)
    assert bits(back.log_prob(x)) == bits(flow.log_prob(x))
    assert {name for name, p in back.named_parameters() if p.requires_grad} == dict(flow.named_parameters()).keys()
    torch.manual_seed(1)
    drawn = flow.sample([5])
    torch.manual_seed(1)
    assert bits(back.sample([5])) == bits(drawn)


def test_a_loaded_flow_can_be_trained_and_saved_again(tmp_path: Path) -> None:
    save_flow(random_flow(), tmp_path / "first")
    flow = load_flow(tmp_path / "first")
    save_flow(flow, tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    flow.log_prob(torch.zeros(2, 3)).sum().backward()
    assert all(p.grad is not None for p in flow.parameters())


def forged(path: Path, config: dict[str, Any] | None = None, **tensors: torch.Tensor | None) -> Path:
    flow = random_flow()
    state = {**flow.state_dict(), **{name.replace("__", "."): t for name, t in tensors.items()}}
    save_tensors(path, "flow", {**flow.config(), **(config or {})}, {n: t for n, t in state.items() if t is not None})
    return path


FACTORS = "bijection__parts__2__factors"


@pytest.mark.parametrize(
    ("config", "tensors", "sentence"),
    [
        ({}, {FACTORS: None}, "got one without the tensor 'bijection.parts.2.factors'"),
        ({}, {"extra": torch.zeros(1)}, "got one with an unknown tensor 'extra'"),
        ({}, {FACTORS: torch.zeros(3, 4)}, "of shape [3, 4] where [3, 3] belongs"),
        ({}, {FACTORS: torch.zeros(3, 3, dtype=torch.int64)}, "got a torch.int64 tensor"),
        ({}, {FACTORS: torch.zeros(3, 3, dtype=torch.float64)}, "got one of torch.float32 and torch.float64"),
        (
            {},
            {FACTORS: torch.full((3, 3), math.nan)},
            "got one whose 'bijection.parts.2.factors' holds NaN or infinity",
        ),
        ({"blocks": 3}, {}, "without the tensor"),
        ({"blocks": 10**9}, {}, "got one whose blocks is 1000000000, which is more than the file holds"),
        ({"dim": 10**12}, {}, "got one whose dim is 1000000000000, which is more than the file holds"),
        ({"dim": -1}, {}, "got a description that makes no flow"),
        ({"dim": "3"}, {}, "got a description that makes no flow"),
        ({"hidden": [10**12]}, {}, "got one whose hidden widths is 1000000000000, which is more than the file holds"),
        ({"hidden": ["4"]}, {}, "got a description that makes no flow"),
        ({"hidden": 4}, {}, "got a description that makes no flow"),
        ({"householder": 10**12}, {}, "expected a flow in"),
        ({"surprise": 1}, {}, "got a description that makes no flow"),
        ({"base": None}, {}, "got a description that makes no flow"),
        ({"base": {"p": 3, "law": {}}}, {}, "got a description that makes no flow"),
        ({"base": {"p": 1, "law": {"law": "mixture", "components": [7]}}}, {}, "got a description that makes no flow"),
        ({"features": ["a"]}, {}, "got a description that makes no flow"),
    ],
)
def test_a_flow_that_does_not_fit_is_refused(
    tmp_path: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor | None], sentence: str
) -> None:
    with pytest.raises(StorageError) as caught:
        load_flow(forged(tmp_path / "flow", config, **tensors))
    assert sentence in str(caught.value)


def test_an_order_that_is_no_permutation_is_refused(tmp_path: Path) -> None:
    flow = USFlow(3, permute=True)
    state = flow.state_dict()
    (name,) = [name for name in state if name.endswith("order")][:1]
    save_tensors(tmp_path / "flow", "flow", flow.config(), {**state, name: torch.zeros_like(state[name])})
    with pytest.raises(StorageError, match="has an order that is no permutation"):
        load_flow(tmp_path / "flow")


@given(st.sampled_from(["dim", "blocks", "hidden", "householder", "permute", "features", "base"]), json_values)
def test_any_description_gives_a_flow_or_a_storage_error(tmp_path: Path, name: str, value: object) -> None:
    try:
        assert load_flow(forged(tmp_path / "flow", {name: value})).dim == 3
    except StorageError as error:
        assert str(error).startswith("expected ")


def test_a_flow_with_nan_is_not_saved(tmp_path: Path) -> None:
    flow = random_flow()
    with torch.no_grad():
        next(flow.parameters()).fill_(math.nan)
    with pytest.raises(StorageError, match=r"expected to save a flow .* holds NaN or infinity"):
        save_flow(flow, tmp_path / "flow")
    assert list(tmp_path.iterdir()) == []
