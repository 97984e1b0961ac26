"""The doctor: facts against other sources, warnings where they are due, figures as they are shown."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ushape import doctor
from ushape.backends import available_memory
from ushape.backends.cache import cache_folder
from ushape.backends.memory import installed_memory
from ushape.doctor import (
    Machine,
    Speed,
    _cache_of_its_own,
    _core_limit,
    _network_of,
    _speed,
    _whole_network_of,
    examine,
    render_speeds,
    warnings_of,
)
from ushape.training import FAST

SOUND = Machine(
    versions={"torch": "2.13.0", "openvino": None},
    processor="Some Processor",
    instructions={"AVX2": True, "AVX-512": False, "bf16": False, "AMX": False},
    cores_allowed=4,
    cores_present=8,
    core_limit=None,
    threads=4,
    load=0.3,
    memory=16_000_000_000,
    memory_free=12_000_000_000,
    memory_limit=None,
    gpus=(),
    has_idle_gpu=False,
)


def test_this_machine_is_what_others_say_it_is() -> None:
    found = examine()
    assert found.versions["torch"] == torch.__version__
    assert found.threads == torch.get_num_threads()
    assert 1 <= found.cores_allowed <= found.cores_present == os.cpu_count()
    assert found.memory == installed_memory() > available_memory() > 0
    capability = torch.backends.cpu.get_cpu_capability()
    if found.instructions is not None and "AVX" in capability:
        assert found.instructions["AVX2"]
        assert found.instructions["AVX-512"] == capability.startswith("AVX512")


def test_an_apple_gpu_is_listed_with_how_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("Apple GPU" in " ".join(examine().gpus)) == torch.backends.mps.is_available()
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert examine().gpus[-1] == "Apple GPU, by --device mps only"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_cores_are_those_the_process_may_run_on() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from ushape.doctor import examine; print(examine().cores_allowed)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_the_limit_of_a_container(tmp_path: Path, files: dict[str, str], limit: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _core_limit(tmp_path) == limit


def test_a_sound_machine_has_no_warnings() -> None:
    assert warnings_of(SOUND) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"threads": 8}, "8 threads share 4 cores and wait for each other; set OMP_NUM_THREADS=4"),
        ({"core_limit": 1.5}, "4 threads share 1 core and wait for each other; set OMP_NUM_THREADS=1"),
        ({"threads": 1}, "1 of 4 cores are used; unset OMP_NUM_THREADS, or set it to 4"),
        ({"load": 6.2}, "6.2 threads of other work share 8 cores: "),
        ({"instructions": {**(SOUND.instructions or {}), "AVX2": False}}, "the processor has no AVX2"),
        ({"memory_free": 900_000_000}, "0.9 GB of memory are free, so tiles will be small"),
        ({"has_idle_gpu": True}, "there is an NVIDIA GPU, but torch 2.13.0 cannot use it; install"),
    ],
)
def test_what_a_user_can_mend_is_warned_of(changes: dict[str, object], line: str) -> None:
    (found,) = warnings_of(replace(SOUND, **changes))  # type: ignore[arg-type]
    assert found.startswith(line)


def test_a_machine_in_words() -> None:
    text = replace(SOUND, core_limit=2.5, memory_limit=4_000_000_000).render()
    assert "computes with: torch 2.13.0, openvino not installed\n" in text
    assert "processor:     Some Processor: AVX2 yes, AVX-512 no, bf16 no, AMX no\n" in text
    assert "4 of 8 allowed, PyTorch takes 4 threads, at most 2.5 in this container; load 0.3\n" in text
    assert "16.0 GB, 12.0 GB free, at most 4.0 GB in this container\n" in text
    assert "instruction sets not known" in replace(SOUND, instructions=None).render()


def test_probing_leaves_the_cache_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USHAPE_CACHE", str(tmp_path))
    with _cache_of_its_own():
        assert cache_folder() != tmp_path
    assert cache_folder() == tmp_path
    monkeypatch.delenv("USHAPE_CACHE")
    with _cache_of_its_own():
        pass
    assert "USHAPE_CACHE" not in os.environ


@pytest.mark.skipif(torch.cuda.is_available(), reason="int8 is computed on a CPU")
def test_int8_is_timed_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = FAST.model_copy(update={"width": 2})
    networks = _network_of(narrow), _whole_network_of(narrow)
    timed = _speed(*networks, "narrow", "int8")
    assert timed.reason == ""
    assert timed.seconds_per_megapixel is not None
    assert timed.seconds_per_megapixel > 0
    found = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "nncf" else found(name))
    reason = "not possible: needs nncf; pip install -c constraints.txt 'ushape[fast]'"
    assert _speed(*networks, "narrow", "int8") == Speed("narrow", "int8", None, reason)


def test_speeds_in_words() -> None:
    reason = "not possible: no instructions for it; use fp32"
    speeds = [
        Speed("paper", "fp32", 334.0),
        Speed("paper", "bf16", None, reason),
        Speed("fast", "fp32", 0.0384),
        Speed("fast", "bf16", None, reason),
    ]
    assert render_speeds(speeds, "fp32, on cpu").splitlines() == [
        "seconds per megapixel to expect:",
        "         paper    fast",
        "  fp32     330   0.038",
        f"  bf16   {reason}",
        "--precision auto takes fp32, on cpu",
    ]
