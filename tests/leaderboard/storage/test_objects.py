"""Results on an object store: fsspec's memory, a real S3 server, and a store that is a file system to fsspec."""

import logging
import os
import pickle
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from leaderboard.storage.objects import ObjectStorage
from midlayer_embed.errors import InputError

# Names of models, variants and tasks may have any of these.
ODD = "results/org__a b/rev=1/experiments/layer_1[x] *?+&%40é#;'/Task (v2).json"


class Shelf(LocalFileSystem):
    """A protocol of which we know nothing: neither that a put is whole nor that it can be conditional."""

    protocol = "shelf"


fsspec.register_implementation("shelf", Shelf, clobber=True)


@pytest.fixture(params=["memory", "shelf", pytest.param("s3", marks=pytest.mark.process)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder of every kind of store."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/a/results"
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"shelf://{tmp_path}/results"


def test_what_is_written_is_read(url: str) -> None:
    storage = ObjectStorage(url)
    assert storage.read("a.json") is None
    storage.write("a.json", b"one")
    storage.write("a.json", b"two")
    storage.write("empty", b"")
    assert storage.read("a.json") == b"two"
    assert storage.read("empty") == b""
    assert storage.name == url


def test_only_the_first_creates_an_object(url: str) -> None:
    storage = ObjectStorage(url)
    assert [storage.create("1.claim", content) for content in (b"mine", b"yours", b"mine")] == [True, False, False]
    assert storage.read("1.claim") == b"mine"


def test_of_threads_that_create_one_object_one_does(url: str) -> None:
    if url.startswith("shelf"):
        pytest.skip("has no conditional puts, and says so")
    storage = ObjectStorage(url)
    with ThreadPoolExecutor(8) as threads:
        for number in range(20):
            created = threads.map(lambda _, number=number: storage.create(f"{number}.claim", b"same"), range(8))
            assert sum(created) == 1


def test_a_name_may_have_any_letters(url: str) -> None:
    storage = ObjectStorage(url)
    storage.write(ODD, b"here")
    assert storage.create(ODD, b"again") is False
    assert storage.paths() == [ODD]
    assert storage.paths(str(Path(ODD).parent)) == [ODD]
    assert storage.read(ODD) == b"here"
    assert list(storage.read_many([ODD])) == [(ODD, b"here")]
    assert storage.modified(ODD) is not None


def test_a_folder_may_have_any_letters(url: str) -> None:
    storage = ObjectStorage(f"{url}/of=me & [you] é")
    storage.write("a", b"here")
    assert storage.exists()
    assert storage.paths() == ["a"]


def test_paths_are_those_below_a_folder_and_no_other(url: str) -> None:
    storage = ObjectStorage(url)
    for path in ("b/2.json", "b/1.json", "b/c/d/3.json", "bb/4.json", "a.json"):
        storage.write(path, b"{}")
    ObjectStorage(f"{url}-beside").write("b/5.json", b"{}")
    assert storage.paths() == ["a.json", "b/1.json", "b/2.json", "b/c/d/3.json", "bb/4.json"]
    assert storage.paths("b") == ["b/1.json", "b/2.json", "b/c/d/3.json"]
    assert storage.paths("none") == []


def test_many_are_read_in_order_without_those_that_are_gone(url: str) -> None:
    storage = ObjectStorage(url)
    for number in range(0, 300, 2):
        storage.write(f"{number}", str(number).encode())
    found = list(storage.read_many([str(number) for number in range(299, -1, -1)]))
    assert found == [(str(number), str(number).encode()) for number in range(298, -1, -2)]


def test_what_another_one_wrote_is_seen_at_once(url: str) -> None:
    one, other = ObjectStorage(url), ObjectStorage(url)
    assert one.paths() == [] and not one.exists()
    other.write("a/b", b"")
    assert one.paths() == ["a/b"] and one.exists()
    other.write("a/c", b"")
    assert one.paths("a") == ["a/b", "a/c"]


def test_the_time_of_an_object_is_that_of_its_last_put_or_touch(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = ObjectStorage(url)
    assert storage.modified("heart") is None
    storage.write("heart", b"beats")
    before = storage.modified("heart")
    storage.touch("heart")
    after = storage.modified("heart")
    assert before is not None and after is not None and after >= before > 1.7e9
    assert storage.read("heart") == b"beats"


def test_checking_leaves_nothing_behind(url: str) -> None:
    storage = ObjectStorage(url)
    storage.check_writable()
    assert storage.paths() == []
    assert url.startswith("shelf") or not storage.exists()  # a file system has folders without files


def test_it_can_be_pickled(url: str) -> None:
    storage = ObjectStorage(url)
    storage.write("a", b"1")
    assert pickle.loads(pickle.dumps(storage)).read("a") == b"1"


def test_scratch_is_a_folder_of_this_machine_and_is_deleted(url: str) -> None:
    with ObjectStorage(url).scratch() as folder:
        (folder / "vectors").write_bytes(b"")
    assert not folder.exists()


def test_a_store_without_conditional_puts_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ObjectStorage(f"shelf://{tmp_path}/results").check_writable()
    assert "has no conditional puts: several workers may do the same shard" in caplog.text


def test_a_store_with_conditional_puts_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ObjectStorage(f"memory://{uuid.uuid4().hex}").check_writable()
    assert caplog.text == ""


@pytest.mark.process
def test_an_s3_that_forgets_conditions_is_found_out(s3_bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    storage = ObjectStorage(s3_bucket.replace("s3://", "s3://forgetful-") + "/results")
    fsspec.filesystem("s3").mkdir(storage.name.split("/")[2])
    storage.check_writable()
    assert "has no conditional puts" in caplog.text
    assert [storage.create("1.claim", b"mine"), storage.create("1.claim", b"yours")] == [True, False]
    assert storage.read("1.claim") == b"mine"


@pytest.mark.process
def test_who_did_not_hear_that_it_created_an_object_still_has_it(s3_bucket: str) -> None:
    storage = ObjectStorage(s3_bucket.replace("s3://", "s3://lossy-") + "/results")
    fsspec.filesystem("s3").mkdir(storage.name.split("/")[2])
    assert storage.create("1.claim", b"mine") is True
    assert storage.create("1.claim", b"mine") is False


@pytest.mark.process
def test_a_fork_has_a_connection_of_its_own(s3_bucket: str) -> None:
    storage = ObjectStorage(f"{s3_bucket}/results")
    storage.write("parent", b"1")
    child = os.fork()
    if child == 0:
        try:
            storage.write("child", storage.read("parent") or b"")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert storage.read("child") == b"1"
    assert storage.paths() == ["child", "parent"]


@pytest.mark.process
def test_a_marker_of_a_folder_is_no_file(s3_bucket: str) -> None:
    store = fsspec.filesystem("s3")
    for marker in ("/results/", "/results/metrics/"):
        store.pipe_file(s3_bucket + marker, b"")
    storage = ObjectStorage(f"{s3_bucket}/results")
    storage.write("a", b"1")
    assert storage.paths() == ["a"]


@pytest.mark.process
def test_more_objects_than_a_page_are_listed(s3_bucket: str) -> None:
    storage = ObjectStorage(f"{s3_bucket}/results")
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: storage.write(f"{number:04}", b""), range(1010)))
    assert storage.paths() == [f"{number:04}" for number in range(1010)]


@pytest.mark.process
@pytest.mark.parametrize("what", ["check_writable", "write", "create"])
def test_a_bucket_that_is_not_there_is_one_line(s3_bucket: str, what: str) -> None:
    storage = ObjectStorage("s3://no-such-bucket/results")
    arguments = () if what == "check_writable" else ("a", b"")
    with pytest.raises(InputError) as failed:
        getattr(storage, what)(*arguments)
    message = "results: s3://no-such-bucket/results cannot be written to: The specified bucket does not exist"
    assert str(failed.value) == message
    assert not storage.exists()


@pytest.mark.process
def test_wrong_names_and_unknown_users_are_one_line(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    with pytest.raises(InputError, match=r"cannot be written to: .*Invalid bucket name"):
        ObjectStorage("s3://No_Bucket!/results").check_writable()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match=r"cannot be written to: Unable to locate credentials$"):
        ObjectStorage(f"{s3_bucket}/results").check_writable()
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("url", ["s3://", "memory:///", "s3:/bucket/x", "simplecache::s3://bucket/x", "results"])
def test_what_is_no_url_of_a_folder_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"^results: expected a URL such as s3://bucket/results, got '"):
        ObjectStorage(url)


def test_a_protocol_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InputError, match=r"^results: s4://bucket/x is not the URL of a store: Protocol not known: s4$"):
        ObjectStorage("s4://bucket/x")


@pytest.mark.parametrize(
    ("url", "expected"), [("s3://bucket/x", r"pip install midlayer-embed\[s3\]"), ("gs://bucket/x", "gcsfs")]
)
def test_a_package_that_is_missing_is_named(url: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    for protocol in ("s3", "gs"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
    message = rf"^results: {url} needs a package that is not installed: .*{expected}"
    with pytest.raises(InputError, match=message):
        ObjectStorage(url)


def test_errors_of_a_store_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = ObjectStorage(f"memory://{uuid.uuid4().hex}")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Access Denied")

    for name in ("cat_file", "find", "info", "modified", "pipe_file"):
        monkeypatch.setattr(f"fsspec.implementations.memory.MemoryFileSystem.{name}", refuse)
    for call in (
        lambda: storage.read("a"),
        lambda: list(storage.read_many(["a"])),
        storage.paths,
        storage.exists,
        lambda: storage.modified("a"),
        lambda: storage.write("a", b""),
        lambda: storage.create("a", b""),
        storage.check_writable,
    ):
        with pytest.raises(InputError, match=rf"^results: {storage.name} cannot be (read|written to): Access Denied$"):
            call()


def test_a_whole_file_is_moved_into_place_where_a_put_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = ObjectStorage(f"shelf://{tmp_path}/results")
    storage.write("a.json", b"old")

    def killed(*_: object) -> None:
        raise OSError("killed before the move")

    monkeypatch.setattr(Shelf, "mv", killed)
    with pytest.raises(InputError, match="killed before the move"):
        storage.write("a.json", b"new")
    assert storage.read("a.json") == b"old"
    assert storage.paths() == ["a.json"]
    assert logging.WARNING not in [record.levelno for record in caplog.records]
