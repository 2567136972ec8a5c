"""Data parallel training: two processes on gloo do what one does, and one of them writes."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stseg.checkpoint import load_checkpoint
from stseg.datasets import read_training_flows
from stseg.device import Device
from stseg.distributed import ALONE, Team, launched, team
from stseg.errors import InputError
from stseg.flow import write_flow_file
from stseg.network import NetworkSettings
from stseg.train_settings import Stage, TrainSettings
from stseg.training import Trainer

ROOT = Path(__file__).resolve().parents[1]

WORKER = """
import sys
from pathlib import Path
import torch
from stseg import run_folder, training
from stseg.datasets import read_training_flows
from stseg.device import Device
from stseg.distributed import Team, team
from stseg.network import NetworkSettings
from stseg.train_settings import Stage, TrainSettings
from stseg.training import Trainer

torch.set_num_threads(1)
folder, flows, stop, leads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
settings = TrainSettings(
    network=NetworkSettings(levels=2, features=4, ks=(4, 2, 3)), motion_model="affine",
    stages=(Stage((8, 14), 4, 1e-3), Stage((16, 28), 2, 5e-4)), batch=4, validate_every=3,
    first_leads=leads == "True",
)
device = Device(torch.device("cpu"), bfloat16=False, name="CPU, float32")

def train(processes: Team) -> None:
    run = Trainer(settings, read_training_flows([flows]), folder, device, team=processes)
    seen, written = [], []
    features = run.network.features
    run.network.features = lambda volume: seen.append(len(volume)) or features(volume)
    for module, name in ((training, "save_checkpoint"), (run_folder.RunFolder, "write")):
        write = getattr(module, name)
        setattr(module, name, lambda *a, write=write: written.append(1) or write(*a))
    steps = run.run()
    while run.step < stop:
        next(steps)
    steps.close()
    processes.wait()
    weights = torch.cat([p.detach().flatten() for p in run.network.parameters()])
    assert torch.allclose(processes.mean(weights), weights, atol=1e-7)
    # A step is of 4 volumes, and a validation of 2, of which each process takes its share.
    print(processes.rank, processes.size, run.step, sorted(set(seen)), bool(written))

def threads_of_gloo() -> int:
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return sum("gloo" in name for name in names)

with team("cpu") as processes:
    train(processes)
    assert (threads_of_gloo() > 0) == (processes.size > 1), "the threads have other names"
# One that is left may wake while Python ends, which aborts the process now and then.
assert threads_of_gloo() == 0
"""


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flows")
    rng = np.random.default_rng(0)
    for name, n in (("a", 12), ("b", 9)):
        flow = rng.normal(0, 0.1, (n, 2, 16, 28)).astype(np.float32)
        flow[:, :, 3:12, 5:20] += 3
        write_flow_file(folder / f"{name}.npz", flow, (128, 224))
    return folder


def train(
    processes: int, folder: Path, flows: Path, stop: int = 6, leads: bool = False
) -> list[str]:
    """Run the worker in so many processes, as torchrun starts them; what they said, sorted."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = []
    for rank in range(processes):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        if processes > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            environment |= {"WORLD_SIZE": str(processes)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-c", WORKER, str(folder), str(flows), str(stop), str(leads)]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
    try:
        said = [process.communicate(timeout=240)[0].decode().strip() for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0] * processes
    return sorted(said)


def alone(folder: Path, flows: Path, device: Device, leads: bool = False) -> None:
    """The same run in this process."""
    settings = TrainSettings(
        network=NetworkSettings(levels=2, features=4, ks=(4, 2, 3)),
        motion_model="affine",
        stages=(Stage((8, 14), 4, 1e-3), Stage((16, 28), 2, 5e-4)),
        batch=4,
        validate_every=3,
        first_leads=leads,
    )
    for _ in Trainer(settings, read_training_flows([flows]), folder, device).run():
        pass


def curve(folder: Path) -> np.ndarray:
    with (folder / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("step", "loss", "reconstruction", "consistency", "validation")
    return np.array([[float(row[name] or "nan") for name in names] for row in rows])


@torch.no_grad()
def masks(folder: Path) -> torch.Tensor:
    """What the network says of some flow: weights that norms cancel may differ by rounding."""
    network = load_checkpoint(folder / "best.safetensors").network
    return network(torch.randn(2, 2, 3, 8, 12, generator=torch.Generator().manual_seed(0)), 4)


@pytest.mark.parametrize("leads", [False, True])
def test_two_processes_do_what_one_does(
    leads: bool, flows: Path, tmp_path: Path, cpu: Device
) -> None:
    alone(tmp_path / "one", flows, cpu, leads)
    assert train(2, tmp_path / "two", flows, leads=leads) == [
        "0 2 6 [1, 2] True",
        "1 2 6 [1, 2] False",
    ]
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert one.shape == (6, 5)
    np.testing.assert_allclose(two, one, rtol=1e-4)
    assert np.isfinite(one[[2, 3, 5], 4]).all()
    torch.testing.assert_close(masks(tmp_path / "two"), masks(tmp_path / "one"), atol=1e-3, rtol=0)
    names = {path.name for path in (tmp_path / "two").iterdir()}
    assert names == {"best.safetensors", "state.safetensors", "losses.csv", "losses.png"}


def test_a_run_that_was_cut_goes_on_with_another_team(
    flows: Path, tmp_path: Path, cpu: Device
) -> None:
    alone(tmp_path / "one", flows, cpu)
    train(2, tmp_path / "cut", flows, stop=3)
    assert len(curve(tmp_path / "cut")) == 3
    alone(tmp_path / "cut", flows, cpu)
    np.testing.assert_allclose(curve(tmp_path / "cut"), curve(tmp_path / "one"), rtol=1e-4)


def test_a_batch_that_cannot_be_shared_gets_a_sentence(tmp_path: Path, cpu: Device) -> None:
    settings = replace(TrainSettings(), batch=4)
    with pytest.raises(InputError, match="batch of 4 volumes cannot be shared evenly by 3"):
        Trainer(settings, [], tmp_path, cpu, team=Team(0, 3))


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not launched()
    with team("cpu") as processes:
        assert processes == ALONE
        values = torch.arange(3.0)
        assert torch.equal(processes.mean(values), values)
        assert list(range(5))[processes.share(5)] == [0, 1, 2, 3, 4]
        processes.wait()


def test_shares_cover_the_batch_once() -> None:
    shares = [list(range(8))[Team(rank, 4).share(8)] for rank in range(4)]
    assert sorted(number for share in shares for number in share) == list(range(8))
    assert {len(share) for share in shares} == {2}
