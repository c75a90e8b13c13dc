import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.forks import run, run_code

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder

# What stands where the kernels would: transformers' own way, and a note that it was gone.
_CONVOLUTION = """
def causal_conv1d_fn(x, weight, bias=None, seq_idx=None, activation=None):
    import torch.nn.functional as F
    print("kernel: convolution")
    y = F.conv1d(x, weight.unsqueeze(1), bias, padding=weight.shape[-1] - 1, groups=x.shape[1])[:, :, : x.shape[-1]]
    return F.silu(y) if activation else y
"""
_SCAN = """
def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    print("kernel: scan")
    return u
"""


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """A function that gives the environment of a process in which these packages can be imported."""

    def environment(*packages: str) -> dict[str, str]:
        sources = {"causal_conv1d": {"__init__": _CONVOLUTION}, "mamba_ssm": {"ops/selective_scan_interface": _SCAN}}
        for package in packages:
            for module, source in sources[package].items():
                path = tmp_path / "packages" / package / f"{module}.py"
                path.parent.mkdir(parents=True, exist_ok=True)
                for parent in {path.parent, tmp_path / "packages" / package}:
                    (parent / "__init__.py").touch()
                path.write_text(source)
        return {**os.environ, "PYTHONPATH": f"{tmp_path / 'packages'}{os.pathsep}{Path.cwd()}"}

    return environment


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
@pytest.mark.parametrize("load", [LayerwiseEncoder, lambda folder: MidLayerEncoder(folder, 2)])
def test_one_line_says_that_transformers_own_implementation_runs(
    tiny_model: Callable[[str], Path],
    name: str,
    load: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="midlayer_embed"):
        load(tiny_model(name))
    (record,) = (record for record in caplog.records if record.name == "midlayer_embed.models.kernels")
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith(f"{name} runs in transformers' own implementation")


def test_other_models_have_nothing_to_say(llama_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="midlayer_embed"):
        LayerwiseEncoder(llama_folder)
    assert not caplog.records


@pytest.mark.process
@pytest.mark.parametrize(
    ("packages", "message"),
    [
        (["causal_conv1d", "mamba_ssm"], "mamba runs in the CUDA kernels of mamba-ssm and causal-conv1d"),
        (["causal_conv1d"], "mamba runs partly in the CUDA kernels of causal-conv1d, partly in transformers' own"),
        ([], "mamba runs in transformers' own implementation"),
    ],
)
def test_what_is_said_is_what_transformers_runs(
    tiny_model: Callable[[str], Path], installed: Callable[..., dict[str, str]], packages: list[str], message: str
) -> None:
    code = """
import logging, sys
import torch
from transformers import AutoModel
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.models.kernels import log_kernels
model = AutoModel.from_pretrained(sys.argv[1])
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="said: %(message)s")
log_kernels("mamba", torch.device("cuda"))
model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=False)
assert not model.use_kernels and "kernels" not in sys.modules
for load in (LayerwiseEncoder, lambda folder, **given: MidLayerEncoder(folder, 1, **given)):
    try:
        load(sys.argv[1], device="cpu")
    except ValueError as error:
        print(f"refused: {error}")
"""
    out = run_code(code, tiny_model("mamba"), env=installed(*packages))
    assert f"said: {message}" in out
    assert out.count(f"said: {message}") == (1 if packages else 3)
    # What needs CUDA is not run without it.
    assert out.count("refused: device: expected cuda for this mamba model, got cpu: ") == (2 if packages else 0)
    assert ("kernel: convolution" in out) == ("causal_conv1d" in packages)
    assert ("kernel: scan" in out) == ("mamba_ssm" in packages)


@pytest.mark.process
def test_nothing_is_fetched_for_a_folder(tiny_model: Callable[[str], Path]) -> None:
    code = """
import socket, sys
def connect(*_):
    raise AssertionError("somebody is called")
from huggingface_hub import constants
assert not constants.HF_HUB_OFFLINE
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = connect
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
LayerwiseEncoder(sys.argv[1]).encode(["a text"])
MidLayerEncoder(sys.argv[1], 1).encode(["a text"])
"""
    online = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    run_code(code, tiny_model("mamba"), env=online)


@pytest.mark.process
def test_the_command_line_says_it_once_and_not_when_quiet(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    arguments = ["encode", str(tiny_model("mamba")), "--layer", "1", "--input", str(tmp_path / "a.txt"), "--overwrite"]
    code = f"""
import sys
from midlayer_embed.cli.program import main
for more in [[], ["--quiet"]]:
    assert main([*{[*arguments, "--output", str(tmp_path / "v.npy")]!r}, *more]) == 0
    print("END OF A RUN", file=sys.stderr)
"""
    done = run([sys.executable, "-c", code], check=True)
    loud, quiet, _ = done.stderr.split("END OF A RUN\n")
    assert loud.count("transformers' own implementation") == 1
    assert "falling back" not in loud
    assert quiet == ""
