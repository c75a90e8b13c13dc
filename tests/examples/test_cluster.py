"""Jobs for clusters: their commands are ones that we have, and SLURM runs the script where it is installed."""

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from leaderboard.cli.program import _parser

pytestmark = pytest.mark.unit
_FOLDER = Path(__file__).parents[2] / "examples" / "cluster"


def _words(command: str) -> list[str]:
    program, *words = shlex.split(command)
    assert program == "midlayer-leaderboard"
    return words


def test_the_kubernetes_job_has_as_many_pods_as_parts() -> None:
    job = yaml.safe_load((_FOLDER / "kubernetes_job.yaml").read_text())
    assert job["spec"]["completionMode"] == "Indexed"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    given = _parser().parse_args(_words(shlex.join(container["command"])))
    assert given.shard == f"auto/{job['spec']['completions']}"
    assert job["spec"]["parallelism"] == job["spec"]["completions"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert given.results.startswith(f"{mounts[0]}/")


def test_the_ray_job_has_resources_for_its_workers() -> None:
    spec = yaml.safe_load((_FOLDER / "ray_job.yaml").read_text())["spec"]
    given = _parser().parse_args(_words(spec["entrypoint"]))
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert (given.engine, given.workers) == ("ray", group["maxReplicas"])
    assert (float(given.gpus), str(given.cpus)) == (limits["nvidia.com/gpu"], limits["cpu"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert given.results.startswith(f"{mounts[0]}/")


def test_the_commands_in_the_comments_are_ours() -> None:
    for path in _FOLDER.iterdir():
        lines = [line.removeprefix("#     ") for line in path.read_text().splitlines() if line.startswith("#     ")]
        assert lines, path
        for line in lines:
            if line.startswith("midlayer-leaderboard"):
                _parser().parse_args(_words(line))
            else:
                assert line.split()[0] in ("kubectl", "sbatch")
                assert path.name in line or line.startswith("kubectl ")


@pytest.mark.process
def test_the_script_for_slurm_is_one_of_bash() -> None:
    subprocess.run(["bash", "-n", str(_FOLDER / "slurm_array.sh")], check=True)
