"""Eight processes write results into one folder, and a ninth reads them all the time."""

import json
import sys
from pathlib import Path

import pytest
from support.forks import run_code

pytestmark = pytest.mark.process

_HAMMER = """
import io, json, os, sys, time, traceback
import polars as pl
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from leaderboard.results.files.folder import MeasuredOn, ResultsFolder
from leaderboard.results.schemas import METRICS_SCHEMA

url, n_writers, n_results = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
of = MeasuredOn("1", 0, 10)

def meta(model, layer):
    experiment = {"layer": layer, "template": "of=a b__c"}
    return ModelMeta.create_empty({"name": f"org/{model}", "revision": "main", "experiment_kwargs": experiment})

def result(task, score):
    entry = {"main_score": score, "hf_subset": "default", "languages": ["eng-Latn"], "padding": "x" * 20000}
    return TaskResult(
        task_name=task, dataset_revision="1", mteb_version="2", evaluation_time=1.0, scores={"test": [entry]}
    )

def write(writer):
    folder = ResultsFolder(url)
    with folder.storage.scratch() as scratch:
        for number in range(n_results):
            # every second one into a folder of its own, the others into folders that all writers share
            model = f"own{writer}" if number % 2 else "shared"
            done = result(f"Task{writer}x{number}", (writer * n_results + number) / (n_writers * n_results))
            folder.save_result(done, meta(model, number % 3), scratch)
            if number % 50 == 0:
                rows = [(f"org/{model}", "main", f"Task{writer}", "dime", "raw", number, float(number))]
                frame = pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row")
                folder.save_metrics(frame, f"Task{writer}", meta("shared", 0), of, {"n_texts": 10})

def files(storage):
    # all there is, and not only what the storage lists
    if "://" in url:
        yield from storage.read_many(storage.paths())
        return
    for place, folders, names in os.walk(url):
        for name in names:
            if not name.startswith(".") and "/." not in place:
                yield os.path.join(place, name), open(os.path.join(place, name), "rb").read()

def read(storage):
    n = 0
    for path, content in files(storage):
        n += 1
        try:
            if path.endswith(".parquet"):
                assert pl.read_parquet(io.BytesIO(content)).height
            elif path.endswith(".json"):
                json.loads(content)
        except Exception as error:
            print(json.dumps([path, len(content), repr(error)]), file=sys.stderr)
            os._exit(1)
    return n

def forked(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid

folder = ResultsFolder(url)
folder.storage.check_writable()  # a store is connected to before the forks

def read_all_the_time():
    while True:
        read(folder.storage)

started = time.time()
reader = forked(read_all_the_time)
writers = [forked(lambda writer=writer: write(writer)) for writer in range(n_writers)]
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in writers]
seconds = time.time() - started
is_reading = os.waitpid(reader, os.WNOHANG)[0] == 0
if is_reading:
    os.kill(reader, 9)
found = {}
for of_layer, one in folder.results():
    found[f"{of_layer.name} {of_layer.experiment_kwargs['layer']} {one.task_name}"] = one.get_score()
print(json.dumps({
    "codes": codes, "is_reading": is_reading, "found": found, "seconds": seconds, "n_files": read(folder.storage),
    "metrics": sorted(folder.metrics().select("task", "layer", "value").rows()),
}))
"""


def _hammer(url: str, n_writers: int, n_results: int) -> None:
    done = json.loads(run_code(_HAMMER, url, n_writers, n_results).splitlines()[-1])
    print(f"{n_writers * n_results} results in {done['seconds']:.1f} s", file=sys.stderr)
    assert done["codes"] == [0] * n_writers
    assert done["is_reading"], "the reader found a file that is not whole"
    everyone = [(writer, number) for writer in range(n_writers) for number in range(n_results)]
    assert done["found"] == {
        f"org/{f'own{writer}' if number % 2 else 'shared'} {number % 3} Task{writer}x{number}": pytest.approx(
            (writer * n_results + number) / (n_writers * n_results), abs=1e-6
        )
        for writer, number in everyone
    }
    measured = [[f"Task{writer}", number, float(number)] for writer, number in everyone if number % 50 == 0]
    assert done["metrics"] == sorted(measured)


@pytest.mark.parametrize("n_results", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_many_writers_of_one_folder_lose_nothing_and_no_file_is_ever_half(tmp_path: Path, n_results: int) -> None:
    _hammer(str(tmp_path / "results"), 8, n_results)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".json", ".parquet")]
    assert left == []


@pytest.mark.slow
def test_the_same_on_an_object_store(s3_bucket: str) -> None:
    _hammer(f"{s3_bucket}/results of=all", 8, 200)


def test_a_few_results_each_on_an_object_store(s3_bucket: str) -> None:
    _hammer(f"{s3_bucket}/results", 8, 6)
