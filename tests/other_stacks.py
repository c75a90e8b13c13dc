"""Exports read by older sentence-transformers: `python tests/other_stacks.py [STACK...]`.

Every stack is an environment in .venv-stacks, built once: an older sentence-transformers and the transformers of its
time, on the torch that is here. Each reads exports of every known architecture, and has to give the same vectors and
token ids as this package, or to fail: never to go on with others.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]  # this package, and support

from support.other_stacks.environments import STACKS, python_of  # noqa: E402
from support.other_stacks.exports import TEXTS, Export, exports, write_exports  # noqa: E402

_STRANGER = Path(__file__).parent / "support" / "other_stacks" / "stranger.py"
_HARMLESS = ("Default prompt name is set", "This model was loaded in torch.")
_NEW_NAMES = "No module named 'sentence_transformers.base'"
_UNKNOWN_MODEL = "does not recognize this architecture"
# What older versions cannot give, and how they fail. The rest has to be right.
_NEW_FORM = (
    *("albert-groups", "gemma2-odd", "gemma3-odd", "llama-yarn", "modernbert-odd", "opt-projected", "qwen2"),
    *("llama, mean+cls", "llama, truncated dimensions", "llama, raw", "gpt_neox, raw", "falcon, raw"),
    *("llama, bidirectional", "gemma3, bidirectional", "llama, prompts left out"),
)
# What the requirements of an export forbid: transformers 5.2 would go on with other vectors.
_TOO_NEW = {
    **dict.fromkeys(("gemma3, bidirectional", "llama, bidirectional"), "transformers>=5.4"),
    **dict.fromkeys(("gpt_neox, raw", "llama, raw", "opt-projected"), "transformers>=5.18"),
}


def _refused(stack: str, names: list[str]) -> dict[str, str]:
    """The exports that a stack has to refuse: part of its message, by name."""
    if stack == "st6":
        return {}
    if stack == "st6.0":
        return _TOO_NEW
    refused = dict.fromkeys(_NEW_FORM, "query_length" if stack == "st5.7" else _NEW_NAMES)
    if stack != "st5.7":
        refused["umt5"] = "decoder_input_ids"  # no encoder of its own before
    if stack == "st3.4":
        unknown = dict.fromkeys((name for name in names if name.startswith(("gemma3", "qwen3"))), _UNKNOWN_MODEL)
        refused = {**unknown, **refused, "phi3-rope": "size of tensor"}  # no partial rotation there
    return refused


def check(
    stack: str, python: str, folder: Path, wanted: dict[str, Export], ids: dict[str, list[list[int]]]
) -> list[str]:
    """What is wrong with a stack's reading of the exports in a folder; nothing, if all is right."""
    command = [python, str(_STRANGER), str(folder), json.dumps(TEXTS)]
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        return [f"{stack}: {done.stderr.strip()[-2000:]}"]
    answers = json.loads(done.stdout.splitlines()[-1])
    refused, wrong = _refused(stack, list(answers)), []
    for name, answer in answers.items():
        error = answer.get("error")
        if name in refused:
            if error is None or refused[name] not in error:
                got = error or f"vectors that differ by {answer['difference']:.2g}"
                wrong.append(f"{name}: expected to be refused with {refused[name]!r}, got {got}")
        elif error is not None:
            wrong.append(f"{name}: {error}")
        elif not answer["difference"] <= wanted[name].tolerance:
            wrong.append(f"{name}: vectors differ by {answer['difference']:.2g}")
        elif answer["ids"] != ids[name]:
            wrong.append(f"{name}: other token ids")
        elif warnings := [line for line in answer["warnings"] if not line.startswith(_HARMLESS)]:
            wrong.append(f"{name}: warns: {warnings[0]}")
    differences = [answer["difference"] for name, answer in answers.items() if "difference" in answer]
    read, refusing, n_wrong = len(differences), len(answers) - len(differences), len(wrong)
    print(f"{stack}: {read} read, {refusing} refused, {n_wrong} wrong; median {median(differences):.1g}", flush=True)
    return [f"{stack}: {line}" for line in wrong]


def main(stacks: list[str]) -> int:
    """Returns the exit code: 0, or 1 if a stack reads an export as something else."""
    wrong = []
    with tempfile.TemporaryDirectory() as scratch:
        wanted = exports()
        ids = write_exports(Path(scratch), wanted)
        for stack in ["st6", *(stacks or STACKS)]:
            python = sys.executable if stack == "st6" else python_of(stack)
            wrong += check(stack, python, Path(scratch) / "exports", wanted, ids)
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
