"""Buffers: planned, allocated, and refused where they are not what was planned."""

from __future__ import annotations

import numpy as np
import pytest

from cllm import Buffer, CllmError, Config, Model, Operation, Role
from cllm.check import check_disjoint
from cllm.plan import format_bytes
from cllm.registry import find_model

CONFIG = Config(11, 6, 2, 3, 5)
each_model = pytest.mark.parametrize(
    "model", [find_model("reference"), find_model("optimized")], ids=["reference", "optimized"]
)


@each_model
def test_allocated_buffers_are_planned_ones(model: type[Model]) -> None:
    plan = model.plan(CONFIG, 2, 3, operations=["training", "generation"], threads=2)
    buffers = plan.allocate()
    plan.check(buffers)
    assert plan.nbytes == sum(array.nbytes for array in buffers.values())
    for name, array in buffers.items():
        assert not array.any()
        assert array.ctypes.data % 64 == 0, name
    check_disjoint(buffers)


@each_model
def test_operations_need_only_their_own_buffers(model: type[Model]) -> None:
    roles = {
        operation: {
            b.role for b in model.plan(CONFIG, 1, 4, operations=[operation]).buffers.values()
        }
        for operation in Operation
    }
    assert Role.GRADIENT not in roles[Operation.EVALUATION] | roles[Operation.GENERATION]
    assert Role.OPTIMIZER_STATE not in roles[Operation.EVALUATION] | roles[Operation.GENERATION]
    assert {Role.GRADIENT, Role.OPTIMIZER_STATE} <= roles[Operation.TRAINING]


@each_model
@pytest.mark.parametrize("fault", ["missing", "small", "dtype", "strided", "frozen", "list", "odd"])
def test_every_faulty_buffer_is_refused_by_name(model: type[Model], fault: str) -> None:
    plan = model.plan(CONFIG, 2, 3, operations=["training", "generation"])
    for name, wanted in plan.buffers.items():
        buffers = plan.allocate()
        array = buffers[name]
        match fault:
            case "missing":
                del buffers[name]
            case "small":
                buffers[name] = array[:-1]
            case "dtype":
                buffers[name] = array.view(np.uint32 if array.dtype == np.int32 else np.int32)
                if array.itemsize == 8:
                    buffers[name] = array.view(np.int64)
            case "strided":
                wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
                buffers[name] = wide[..., ::2]
            case "frozen":
                array.flags.writeable = False
            case "list":
                buffers[name] = array.tolist()
            case "odd":
                raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
                buffers[name] = raw.view(array.dtype).reshape(array.shape)
        if fault == "strided" and buffers[name].flags.c_contiguous:
            continue  # a single element has no stride
        with pytest.raises(CllmError, match=f"buffer {name} "):
            model(plan, buffers)
        assert wanted.nbytes == array.nbytes


@each_model
def test_overlapping_and_unknown_buffers_are_refused(model: type[Model]) -> None:
    plan = model.plan(CONFIG, 2, 3)
    buffers = plan.allocate()
    buffers["second_moment"] = buffers["first_moment"]
    with pytest.raises(CllmError, match=r"first_moment and second_moment overlap by \d+ bytes"):
        model(plan, buffers)
    buffers = plan.allocate()
    arena = np.zeros(buffers["gradients"].size + 1, np.float32)
    buffers["gradients"], buffers["parameters"] = arena[:-1], arena[1:]
    with pytest.raises(CllmError, match="overlap"):
        model(plan, buffers)
    with pytest.raises(CllmError, match=r"\['extra'\] are not in the plan"):
        model(plan, {**plan.allocate(), "extra": np.zeros(3)})


@each_model
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer in 1"),
        ({"seq_len": -1}, "seq_len must be an integer in 1"),
        ({"threads": -1}, "threads must be an integer in 1"),
        ({"threads": 5000}, r"threads must be in 0\.\.1024: got 5000"),
        ({"dtype": "float16"}, "dtype must be one of .*: got float16"),
        ({"operations": ["singing"]}, r"operations must be some of .*: got \['singing'\]"),
        ({"operations": []}, "operations must be some of"),
        ({"batch_size": 2**31 - 1, "seq_len": 2**31 - 1}, "at most .* can be indexed"),
    ],
)
def test_plans_out_of_range_are_refused(
    model: type[Model], change: dict[str, object], message: str
) -> None:
    arguments: dict[str, object] = {"config": CONFIG, "batch_size": 2, "seq_len": 3, **change}
    with pytest.raises(CllmError, match=message):
        model.plan(**arguments)  # type: ignore[arg-type]


def test_more_memory_than_the_machine_has_is_refused_before_it_is_spent() -> None:
    plan = find_model("reference").plan(CONFIG, 2**20, 2**20)
    assert plan.nbytes > 2**45
    with pytest.raises(CllmError, match=r"the plan needs .*, the machine has "):
        plan.allocate()


def test_zero_threads_means_every_core() -> None:
    assert find_model("optimized").plan(CONFIG, 1, 1, threads=0).threads >= 1


def test_complex_is_for_evaluation_alone() -> None:
    with pytest.raises(CllmError, match="complex128 is for evaluation alone"):
        find_model("reference").plan(CONFIG, 1, 1, dtype=np.complex128)


def test_a_buffer_too_large_to_index_is_refused() -> None:
    with pytest.raises(CllmError, match="buffer x "):
        Buffer("x", (2**31, 2**31), np.dtype(np.float32), Role.SCRATCH)


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**60, "1.02e+03 PiB")]
)
def test_sizes_for_people(nbytes: int, text: str) -> None:
    assert format_bytes(nbytes) == text


@pytest.mark.parametrize("shape", [(), (0, 5), (3, -1)])
def test_a_buffer_has_elements(shape: tuple[int, ...]) -> None:
    with pytest.raises(CllmError, match="buffer some must have axes of 1 or more"):
        Buffer("some", shape, np.dtype(np.float32), Role.SCRATCH)


def test_a_buffer_holds_numbers() -> None:
    with pytest.raises(CllmError, match="buffer some must hold numbers: got object"):
        Buffer("some", (1,), np.dtype(object), Role.SCRATCH)
