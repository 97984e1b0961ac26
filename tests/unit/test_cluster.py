"""Dask workers: the same bits as one process, also when one of them is killed."""

import os
import signal
import time

import dask
import numpy as np
import pytest
import tifffile
from distributed import Client, LocalCluster
from small_model import make_model
from test_io_large import write_ome_zarr

from ushape.backends.openvino import OpenVINOBackend
from ushape.backends.pytorch import PyTorchBackend
from ushape.checkpoint import save_model
from ushape.cluster import Cluster, connected_cluster, local_cluster
from ushape.config import Postprocessing
from ushape.errors import ConfigError, ImageFormatError
from ushape.io import read_labels
from ushape.predict import blocks, predict_files

FP32 = {"precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def two():
    with local_cluster(2) as cluster:
        yield cluster


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, *make_model(classes=3, postprocessing=Postprocessing(min_area=3)))
    return path


@pytest.fixture
def grey():
    return np.random.default_rng(1).integers(0, 4000, (300, 410), dtype=np.uint16)


@pytest.fixture
def small_blocks(monkeypatch):
    """Tiles that keep 64 px, one in each block; workers are told so by the plan."""
    monkeypatch.setattr(PyTorchBackend, "largest_tile", 104)
    monkeypatch.setattr(OpenVINOBackend, "largest_tile", 104)
    monkeypatch.setattr(blocks, "LARGEST_BLOCK", 64)
    monkeypatch.setattr(blocks, "_LEAST_CHUNK", 20)


def pixels_of(result):
    return {
        kind: read_labels(path).array if kind != "probabilities" else tifffile.imread(path)
        for kind, path in result.outputs.items()
        if kind in ("classes", "instances", "probabilities")
    } | {"objects": result.outputs["objects"].read_text()}


def test_workers_make_the_same_bits_and_the_death_of_one_costs_a_block(
    two, model, grey, tmp_path, small_blocks
):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", grey, "YX", "0.5")
    (alone,) = predict_files(model, [path], tmp_path / "alone", instances=True, **FP32)
    process = dict(two.run(os.getpid, [()]))[0]
    done = []

    def kill_one(tiles, total, what):
        if not done:
            os.kill(process, signal.SIGKILL)
        done.append((tiles, total, what))

    (shared,) = predict_files(
        model, [path], tmp_path / "out", instances=True, cluster=two, progress=kill_one, **FP32
    )
    number = alone.report["blocks"]["number"]
    assert number >= 20
    assert done == [(tiles, number, "tiles of a.ome.zarr") for tiles in range(1, number + 1)]
    np.testing.assert_equal(pixels_of(shared), pixels_of(alone))
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    while process in (processes := {pid for _, pid in two.run(os.getpid, [()] * 20)}) or not processes:
        time.sleep(0.1)  # the one in its place is starting


def test_other_code_that_uses_dask_does_not_find_its_tasks_here(two):
    process = dask.delayed(os.getpid)().compute(scheduler=None)
    assert process == os.getpid()


def test_images_in_memory_are_shared_out_one_by_one(two, model, grey, tmp_path):
    for number in range(5):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.roll(grey, 40 * number))
    options = {"instances": True, "probabilities": True, **FP32}
    alone = predict_files(model, [tmp_path], tmp_path / "alone", **options)
    shown, finished = [], []
    shared = predict_files(
        model, [tmp_path], tmp_path / "out", cluster=two,
        progress=lambda *it: shown.append(it), finished=finished.append, **options
    )  # fmt: skip
    assert shown == [(done, 5, "images") for done in range(1, 6)]
    assert sorted(finished, key=lambda one: one.input) == shared
    assert [one.input.name for one in shared] == [one.input.name for one in alone]
    for one, other in zip(shared, alone, strict=True):
        np.testing.assert_equal(pixels_of(one), pixels_of(other))


def test_an_error_of_a_task_is_the_users_error(two, model, grey, tmp_path):
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", grey, compression="zlib")
    whole = (tmp_path / "b.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageFormatError, match=r"b\.tif"):
        predict_files(model, [tmp_path], tmp_path / "out", cluster=two, **FP32)
    assert not list((tmp_path / "out").glob("b*"))


def test_the_memory_of_a_machine_is_shared_by_its_workers(two, model, tmp_path):
    with local_cluster(1) as one:
        alone = one.memory_per_task
    # Half and half again, but other processes take and give memory meanwhile.
    assert alone / 2 == pytest.approx(two.memory_per_task, rel=0.3)


def test_a_task_that_kills_its_workers_ends_with_one_line():
    with local_cluster(1) as cluster, pytest.raises(ConfigError, match="workers died again and again"):
        list(cluster.run(os._exit, [(1,)]))


def test_a_scheduler_elsewhere(grey, model, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", grey)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as elsewhere:
        with connected_cluster(elsewhere.scheduler_address) as cluster:
            assert isinstance(cluster, Cluster)
            (shared,) = predict_files(model, [tmp_path / "a.tif"], tmp_path / "out", cluster=cluster, **FP32)
        assert shared.outputs["classes"].exists()
        with Client(elsewhere, set_as_default=False) as client:  # it is not ours, and goes on
            assert client.submit(os.getpid).result() > 0


def test_workers_that_run_several_tasks_at_once_are_refused():
    with (
        LocalCluster(n_workers=1, threads_per_worker=3, dashboard_address="127.0.0.1:0") as elsewhere,
        pytest.raises(ConfigError, match=r"runs 3 tasks at once.*--nthreads 1"),
        connected_cluster(elsewhere.scheduler_address),
    ):
        pass


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_that_cannot_be(workers):
    with pytest.raises(ConfigError, match=f"--workers {workers}: at least 1"), local_cluster(workers):
        pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "tcp://127.0.0.1", "", "smoke://x:1"])
def test_an_address_where_nothing_answers(address, monkeypatch):
    monkeypatch.setattr("ushape.cluster._SECONDS_FOR_SCHEDULER", 1)
    with (
        pytest.raises(ConfigError, match=f"--scheduler {address}: no Dask scheduler"),
        connected_cluster(address),
    ):
        pass
