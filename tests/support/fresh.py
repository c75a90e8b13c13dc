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

# Name: code that sets `answer`. `folder` is that of a tiny model.
_QUESTIONS = {
    "midlayer-embed --help": _HELP.format(package="midlayer_embed", command="encode"),
    "midlayer-leaderboard --help": _HELP.format(package="leaderboard", command="run"),
    "computations on tables": """
from leaderboard.analysis import association, layer_means, schemes
answer = loaded("polars", "torch", "mteb", "transformers")
""",
    "metrics": "import midlayer_embed.metrics; answer = loaded('transformers', 'mteb', 'scipy')",
    "encode a folder": """
from midlayer_embed import LayerwiseEncoder
LayerwiseEncoder(folder).encode("a text")
answer = loaded("sentence_transformers")
""",
    "leaderboard": "import leaderboard; answer = loaded('mteb')",
    "starter tasks": """
import mteb
from leaderboard.tasks import starter, starter_content
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
