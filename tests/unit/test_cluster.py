"""Dask workers: the same bits as one process, also when one of them is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import dask
import numpy as np
import pytest
import tifffile
from distributed import Client, LocalCluster
from PIL import Image as Pillow
from small_blocks import cut_small
from small_model import make_model
from test_io_large import write_ome_zarr

import ushape
from ushape.checkpoint import save_model
from ushape.cluster import Cluster, connected_cluster, local_cluster
from ushape.config import Postprocessing
from ushape.errors import ConfigError, ImageFormatError, ShapeError
from ushape.io import read_image, read_labels
from ushape.predict import files, large, predict_files
from ushape.predict.targets import aside
from ushape.predict.whole import predict_aside

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
    cut_small(monkeypatch, 64)


def pixels_of(result):
    return {
        kind: read_labels(path).array if kind != "probabilities" else read_image(path).planes
        for kind, path in result.outputs.items()
        if kind in ("classes", "instances", "probabilities")
    } | {"objects": result.outputs["objects"].read_text()}


def test_workers_scale_an_image_as_one_process(two, model, grey, tmp_path, small_blocks, monkeypatch):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", grey, "YX", "0.5")
    words = {"scale": 0.4, "instances": True, "probabilities": True}
    (alone,) = predict_files(model, [path], tmp_path / "alone", **words, **FP32)
    with monkeypatch.context() as here:  # workers are other processes
        here.setattr(large, "compute_blocks", lambda *_: pytest.fail("computed in this process"))
        (shared,) = predict_files(model, [path], tmp_path / "shared", **words, cluster=two, **FP32)
    assert shared.report["blocks"] == alone.report["blocks"]
    found, expected = pixels_of(shared), pixels_of(alone)
    for kind, values in expected.items():
        np.testing.assert_array_equal(found[kind], values)


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


def test_a_bad_image_does_not_cost_the_others_of_a_batch(two, model, grey, tmp_path):
    """Neither on a cluster nor in this process; one that is alone ends the run."""
    for name in ("a", "b", "c"):
        Pillow.fromarray((grey // 16).astype(np.uint8)).save(tmp_path / f"{name}.png")
    damaged = tmp_path / "b.png"
    damaged.write_bytes(damaged.read_bytes()[:40_000])
    colour = np.dstack([grey // 16] * 2 + [grey // 32]).astype(np.uint8)
    Pillow.fromarray(colour).save(tmp_path / "d.png")
    (tmp_path / "e.png").write_bytes(b"")  # met before anything is computed
    for where, cluster in (("shared", two), ("alone", None)):
        failed = []
        done = predict_files(
            model, [tmp_path], tmp_path / where, cluster=cluster,
            failed=lambda path, error, failed=failed: failed.append((path.name, type(error))), **FP32
        )  # fmt: skip
        assert sorted(failed) == [
            ("b.png", ImageFormatError),
            ("d.png", ShapeError),
            ("e.png", ImageFormatError),
        ]
        assert [one.input.name for one in done] == ["a.png", "c.png"]
        there = {path.name for path in (tmp_path / where).iterdir()}
        assert there == {f"{name}{end}" for name in "ac" for end in (".json", "_classes.png")}
        with pytest.raises(ImageFormatError, match=r"b\.png is damaged"):
            predict_files(model, [damaged], tmp_path / "one", cluster=cluster, failed=failed.append, **FP32)


def test_the_memory_of_a_machine_is_shared_by_its_workers(two):
    with local_cluster(1) as one:
        alone = one.memory_per_task
    # Half and half again, but other processes take and give memory meanwhile.
    assert alone / 2 == pytest.approx(two.memory_per_task, rel=0.3)


def test_a_task_that_kills_its_workers_ends_with_one_line():
    advice = "workers died again and again .*; lower --max-memory and add --overwrite, or give them more"
    with local_cluster(1) as cluster, pytest.raises(ConfigError, match=advice):
        list(cluster.run(os._exit, [(1,)]))


def test_a_scheduler_elsewhere(grey, model, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", grey)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as elsewhere:
        with connected_cluster(elsewhere.scheduler_address) as cluster:
            assert isinstance(cluster, Cluster)
            (shared,) = predict_files(model, [tmp_path / "a.tif"], tmp_path / "out", cluster=cluster, **FP32)
        (alone,) = predict_files(model, [tmp_path / "a.tif"], tmp_path / "alone", **FP32)
        np.testing.assert_array_equal(*(read_labels(it.outputs["classes"]).array for it in (shared, alone)))
        with Client(elsewhere, set_as_default=False) as client:  # it is not ours, and goes on
            assert client.submit(os.getpid).result() > 0


def test_a_worker_with_another_version_is_refused(two, monkeypatch):
    monkeypatch.setattr(ushape, "__version__", "9.9")  # here; the workers are processes of their own
    with pytest.raises(ConfigError, match=r"has ushape .*, not 9\.9 as here; install that there"):
        list(two.run(os.getpid, [()]))


PROCESS = """
import asyncio, sys
from distributed import Scheduler, Worker

kind, lacking, *address = sys.argv[1:]
if kind == lacking:
    sys.modules["ushape"] = None  # its import fails, as where it is not installed

async def serve():
    server = Worker(*address) if kind == "worker" else Scheduler(host="127.0.0.1", port=0, dashboard=False)
    async with server:
        print(server.address, flush=True)
        await server.finished()

asyncio.run(serve())
"""


@contextmanager
def process_of(*words):
    command = [sys.executable, "-c", PROCESS, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("lacking", ["worker", "scheduler"])
def test_who_lacks_this_package_is_named_at_once(lacking):
    with process_of("scheduler", lacking) as scheduler, process_of("worker", lacking, scheduler) as worker:
        name = f"worker {worker}" if lacking == "worker" else "the scheduler"
        with (
            pytest.raises(
                ConfigError,
                match=rf"^{name} cannot import ushape \(.+\); install ushape {ushape.__version__} there$",
            ),
            connected_cluster(scheduler),
        ):
            pass


def test_another_version_elsewhere_is_refused_at_once(monkeypatch):
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as elsewhere:
        monkeypatch.setattr(ushape, "__version__", "9.9")  # here; the worker is a process of its own
        with (
            pytest.raises(ConfigError, match=r"^worker tcp://.+ has ushape .+, not 9\.9 as here; install"),
            connected_cluster(elsewhere.scheduler_address),
        ):
            pass


def test_a_scheduler_that_goes_ends_the_run_with_one_line():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as elsewhere,
        connected_cluster(elsewhere.scheduler_address) as cluster,
    ):
        tasks = cluster.run(time.sleep, [(0,), (600,)])
        next(tasks)
        elsewhere.close()
        with pytest.raises(ConfigError, match="the scheduler is gone; give the same command again"):
            next(tasks)


def test_workers_that_are_gone_are_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr("ushape.cluster._SECONDS_FOR_WORKERS", 2)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as elsewhere,
        connected_cluster(elsewhere.scheduler_address) as cluster,
    ):
        assert [*cluster.run(abs, [(-1,)])] == [(0, 1)]
        elsewhere.scale(0)
        with pytest.raises(ConfigError, match=r"no worker is left; start some, .*waited 2 s"):
            [*cluster.run(abs, [(-1,)])]


def test_no_worker_joins(monkeypatch):
    monkeypatch.setattr("ushape.cluster._SECONDS_FOR_WORKERS", 1)
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as elsewhere,
        pytest.raises(ConfigError, match=r"no worker joined; start some with dask worker tcp://.*waited 1 s"),
        connected_cluster(elsewhere.scheduler_address),
    ):
        pass


THREADS_IN_A_SCRIPT = """
import torch
from ushape.cluster import local_cluster

if __name__ == "__main__":
    with local_cluster(1) as cluster:
        print(next(cluster.run(torch.get_num_threads, [()]))[1])
"""


def test_a_worker_computes_with_the_threads_that_are_said(tmp_path):
    (tmp_path / "script.py").write_text(THREADS_IN_A_SCRIPT)
    ours = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        env=ours | {"OMP_NUM_THREADS": "2"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_a_worker_that_is_killed_leaves_nothing_in_the_way(model, grey, tmp_path, monkeypatch):
    """Every attempt dies while it writes; nothing is left, and the same call works."""
    tifffile.imwrite(tmp_path / "a.tif", grey)
    out = tmp_path / "out"
    with local_cluster(1) as cluster:
        monkeypatch.setattr("ushape.predict.batch.predict_aside", write_half_and_die)
        with pytest.raises(ConfigError, match="workers died again and again"):
            predict_files(model, [tmp_path / "a.tif"], out, cluster=cluster, **FP32)
        monkeypatch.undo()
        assert not out.exists() or not list(out.iterdir())
        (result,) = predict_files(model, [tmp_path / "a.tif"], out, cluster=cluster, **FP32)
    assert sorted(it.name for it in out.iterdir()) == ["a.json", "a_classes.tif"]
    assert all(path.exists() for path in result.outputs.values())


def write_half_and_die(settings, path, targets):
    hidden = aside(targets, settings.command)
    hidden["classes"].parent.mkdir(parents=True, exist_ok=True)
    hidden["classes"].write_bytes(b"half")
    os._exit(1)


def test_what_a_killed_command_left_in_hand_is_taken_away(model, grey, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", grey)
    left = tmp_path / "out" / ".a.in-hand-0123abcd" / "a_instances.tif"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    with local_cluster(1) as cluster:
        predict_files(model, [tmp_path / "a.tif"], tmp_path / "out", cluster=cluster, **FP32)
    assert sorted(it.name for it in (tmp_path / "out").iterdir()) == ["a.json", "a_classes.tif"]


def test_a_task_that_outlives_its_command_does_not_meet_the_next(model, grey, tmp_path, monkeypatch):
    """Its results are another command's business, whenever they come."""
    tifffile.imwrite(tmp_path / "a.tif", grey)

    def late(settings, path, targets, *more):
        record = predict_aside(settings, path, targets, *more)
        outlived = replace(settings, command="earlier")
        hidden = aside({**targets, "instances": tmp_path / "out" / "a_instances.tif"}, outlived.command)
        hidden["instances"].parent.mkdir()
        hidden["instances"].write_bytes(b"of an earlier command")
        return record

    monkeypatch.setattr("ushape.predict.whole.predict_aside", late)
    predict_files(model, [tmp_path / "a.tif"], tmp_path / "out", **FP32)
    assert sorted(it.name for it in (tmp_path / "out").iterdir()) == [
        ".a.in-hand-earlier",
        "a.json",
        "a_classes.tif",
    ]
    monkeypatch.undo()
    predict_files(model, [tmp_path / "a.tif"], tmp_path / "out", overwrite=True, **FP32)
    assert sorted(it.name for it in (tmp_path / "out").iterdir()) == ["a.json", "a_classes.tif"]


def test_results_that_are_not_to_be_seen_here_are_missed(two, model, grey, tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", grey)
    monkeypatch.setattr("ushape.predict.batch.predict_aside", write_elsewhere)
    with pytest.raises(ConfigError, match=r"results of .*a\.tif that a worker wrote are not to be seen here"):
        predict_files(model, [tmp_path / "a.tif"], tmp_path / "out", cluster=two, **FP32)


def write_elsewhere(settings, path, targets):
    return {}


def test_a_killed_command_goes_on_with_workers(two, model, grey, tmp_path, small_blocks, monkeypatch):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", grey, "YX", "0.5")

    def stop_at_three(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [path], tmp_path / "out", cluster=two, progress=stop_at_three, **FP32)
    with pytest.raises(ConfigError, match=r"planned for \d+ MB, more than --max-memory 1MB"):
        predict_files(model, [path], tmp_path / "out", cluster=two, max_memory="1MB", **FP32)
    monkeypatch.setattr(Cluster, "memory_per_task", 10**6)  # there is less by now, but nobody stated a limit
    (result,) = predict_files(model, [path], tmp_path / "out", cluster=two, **FP32)
    (alone,) = predict_files(model, [path], tmp_path / "alone", **FP32)
    assert result.report["blocks"]["kept_of_an_interrupted_run"] >= 3
    assert [it.name for it in (tmp_path / "out").iterdir() if it.name.startswith(".")] == []
    np.testing.assert_array_equal(*(read_labels(it.outputs["classes"]).array for it in (result, alone)))


def test_whether_an_image_fits_in_memory_is_decided_by_that_of_a_worker(
    two, model, grey, tmp_path, monkeypatch
):
    tifffile.imwrite(tmp_path / "a.tif", grey)
    takes_blocks, memory = files._takes_blocks, []

    def noted(*words):
        memory.append(words[-1])
        return takes_blocks(*words)

    monkeypatch.setattr(files, "_takes_blocks", noted)
    monkeypatch.setattr(Cluster, "memory_per_task", 6 * 10**9)
    for stated in (None, "5GB"):
        out = tmp_path / f"out {stated}"
        predict_files(model, [tmp_path / "a.tif"], out, cluster=two, max_memory=stated, **FP32)
    assert memory == [6 * 10**9, 5 * 10**9]


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_that_cannot_be(workers):
    with pytest.raises(ConfigError, match=f"--workers {workers}: at least 1"), local_cluster(workers):
        pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "tcp://127.0.0.1", "", "smoke://x:1"])
def test_an_address_where_nothing_answers(address, monkeypatch):
    monkeypatch.setattr("ushape.cluster._SECONDS_FOR_SCHEDULER", 1)
    before = threading.active_count()
    with (
        pytest.raises(ConfigError, match=f"--scheduler {address}: no Dask scheduler"),
        connected_cluster(address),
    ):
        pass
    # No client is left behind, to close itself while the next one starts: both would wait for ever.
    assert threading.active_count() == before
