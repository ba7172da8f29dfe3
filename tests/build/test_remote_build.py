"""Building from and to a storage behind a URL: the same bytes, whatever dies on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hqdata.build.run import BuildOptions, build, build_part
from hqdata.errors import BusyError, HqdataError, UserError
from hqdata.places import Place
from hqdata.recipe import Recipe, RecipeSource, SampleSettings
from hqdata.resolve import ResolvedRecipe, resolve
from support.builds import (
    build_own,
    bytes_of,
    child_environment,
    command,
    hqdata,
    own_recipe,
    own_sources,
)
from support.rays import ray_of_its_own
from support.s3 import S3Server, s3_server
from support.sa1b import make_bundle

RECIPE = """
name: sa1b-small
sources:
  - {source: sa1b, sample: {images: 24}}
samples_per_shard: 4
seed: 3
"""


def recipe() -> ResolvedRecipe:
    source = RecipeSource(source="sa1b", sample=SampleSettings(images=24))
    whole = Recipe(name="sa1b-small", sources=(source,), samples_per_shard=4, seed=3)
    return resolve(whole, subset=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sa1b")
    for number, kind in enumerate(("tar", "gz", "folder", "tar")):
        ids = range(number * 12 + 1, number * 12 + 13)
        name = f"sa_{number:06d}" + ("" if kind == "folder" else ".tar")
        make_bundle(root / name, ids, kind=kind, num_masks=10, damage={ids[5]: "truncated"})  # type: ignore[arg-type]
    return root


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("reference") / "out"
    build(recipe(), data, out)
    return bytes_of(out)


@pytest.fixture
def server(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A storage that has the archives."""
    prepared = S3Server(tmp_path / "s3")
    prepared.fill(data, "sa1b")
    with s3_server(tmp_path / "s3") as running:
        for name, value in running.env().items():
            monkeypatch.setenv(name, value)
        yield running


def stored(server: S3Server, below: str = "out") -> dict[str, str]:
    """Digests of a data set's files in the storage, as `bytes_of` has them."""
    import hashlib

    return {
        key.removeprefix(f"{below}/"): hashlib.sha256(value).hexdigest()
        for key, value in server.objects().items()
        if key.startswith(f"{below}/") and ".hqdata/" not in key
    }


def start(server: S3Server, path: Path, *words: str) -> subprocess.Popen[str]:
    path.write_text(RECIPE, encoding="utf-8")
    places = ("--data-root", server.url("sa1b"), "--out", server.url("out"))
    return subprocess.Popen(
        command("build", "--recipe", path, *places, "--subset", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=child_environment(**server.env()),
    )


class TestTheSameBytes:
    def test_from_and_to_a_storage(self, server: S3Server, reference: dict[str, str]) -> None:
        url = server.url("out")
        result = build(recipe(), server.url("sa1b"), url, BuildOptions(workers=2))
        assert stored(server) == reference
        server.forget()
        again = build(recipe(), server.url("sa1b"), url)
        assert (again.num_written, again.num_kept) == (0, len(result.info.shards))
        assert stored(server) == reference
        counts = server.counts()
        assert not [name for name in counts if name.startswith("PUT") and ".tar" in name]
        assert not [name for name in counts if name.startswith("GET") and ".tar" in name]

    def test_it_is_checked_and_shown_where_it_lies(
        self, server: S3Server, data: Path, tmp_path: Path
    ) -> None:
        url = server.url("out")
        build(recipe(), data, url)
        environment = server.env()
        done = hqdata("check", url, "--workers", "2", **environment)
        assert done.returncode == 0, done.stderr
        assert "undamaged: 24 samples in 6 shards" in done.stdout
        page = tmp_path / "page.html"
        done = hqdata("stats", url, "--html", page, **environment)
        assert done.returncode == 0, done.stderr
        assert page.read_text(encoding="utf-8").count("data:image/jpeg") > 3
        name = "sa1b/train-00003-of-00006.tar"
        shard = bytearray(server.objects()[f"out/{name}"])
        shard[700] ^= 1
        Place.of(url).write(name, bytes(shard))
        Place.of(url).write("sa1b/train-00009-of-00010.tar", b"")
        Place.of(url).remove("sa1b/train-00000-of-00006.tar")
        done = hqdata("check", url, "--quick", **environment)
        assert done.returncode == 1
        for damaged in (name, "train-00009-of-00010", "train-00000-of-00006"):
            assert damaged in done.stdout
        done = hqdata("push", url, "--repo", "me/set", "--dry-run", **environment)
        assert done.returncode == 2
        assert url in done.stderr
        assert "copy it to a folder first" in done.stderr

    def test_in_the_parts_of_an_array(self, server: S3Server, reference: dict[str, str]) -> None:
        for stage in ("choose", "write"):
            for number in (1, 2, 3):
                build_part(
                    recipe(),
                    server.url("sa1b"),
                    server.url("out"),
                    part=(number, 3),
                    stage=stage,  # type: ignore[arg-type]
                )
        build(recipe(), server.url("sa1b"), server.url("out"), only_finish=True)
        assert stored(server) == reference

    def test_an_archive_is_read_once_and_pictures_by_their_place(
        self, server: S3Server, tmp_path: Path
    ) -> None:
        """A plain archive goes by in one request; what is chosen comes in one for each file."""
        build_part(recipe(), server.url("sa1b"), tmp_path / "out", part=(1, 1), stage="choose")
        assert server.counts()["GET sa_000000.tar"] <= 3

    def test_pairs_of_files_and_archives_behind_a_url(
        self, server: S3Server, tmp_path: Path
    ) -> None:
        """Not only what is sampled: a folder, a .zip and a .tar.gz of one's own."""
        names = ["flowers", "birds", "cars"]
        plain = own_sources(tmp_path / "plain", dict.fromkeys(names, 5))
        packed = tmp_path / "packed"
        shutil.copytree(plain / "flowers", packed / "flowers")
        with zipfile.ZipFile(tmp_path / "birds.zip", "w") as archive:
            for path in sorted((plain / "birds").rglob("*.*")):
                archive.write(path, path.relative_to(plain / "birds"))
        shutil.move(tmp_path / "birds.zip", packed / "birds.zip")
        shutil.make_archive(str(packed / "cars"), "gztar", plain / "cars")
        server.kill()
        server.fill(packed, "own")
        server.start()
        build_own(packed, tmp_path / "here", names)
        build(own_recipe(names), server.url("own"), server.url("far"))
        assert stored(server, "far") == bytes_of(tmp_path / "here")


class TestDeaths:
    @pytest.mark.slow
    def test_of_the_storage(
        self, server: S3Server, reference: dict[str, str], tmp_path: Path
    ) -> None:
        """`kill -9` of the server while shards go up, twice; it comes back after a while."""
        run = start(server, tmp_path / "recipe.yaml")

        def strike() -> None:
            for _ in range(2):
                wanted = len(shards(server)) + 2
                while len(shards(server)) < wanted and run.poll() is None:
                    time.sleep(0.02)
                if run.poll() is None:
                    server.kill()
                    time.sleep(1.0)
                    server.start()

        striker = threading.Thread(target=strike)
        striker.start()
        told, _ = run.communicate(timeout=200)
        striker.join()
        if run.returncode != 1:  # it gave up: that is allowed, but not without a word
            assert "run the same command again" in told
        done = start(server, tmp_path / "recipe.yaml")
        told, _ = done.communicate(timeout=200)
        assert done.returncode == 1, told  # pictures are damaged, and their places taken
        assert stored(server) == reference

    @pytest.mark.slow
    def test_of_the_build(
        self, server: S3Server, reference: dict[str, str], tmp_path: Path
    ) -> None:
        """Whatever is there under a shard's name is the whole shard, at any moment."""
        for wanted in (1, 3):
            run = start(server, tmp_path / "recipe.yaml", "--workers", "2")
            while len(shards(server)) < wanted and run.poll() is None:
                time.sleep(0.02)
            run.send_signal(signal.SIGKILL)
            run.communicate()
            sizes = {len(value) % 10240 for value in shards(server).values()}
            assert sizes <= {0, 512 * 2 % 10240} or all(
                value.endswith(b"\0" * 1024) for value in shards(server).values()
            )
        done = start(server, tmp_path / "recipe.yaml")
        told, _ = done.communicate(timeout=200)
        assert done.returncode == 1, told
        assert stored(server) == reference

    def test_of_the_connection_now_and_then(
        self, server: S3Server, reference: dict[str, str]
    ) -> None:
        server.fail(
            {"method": "PUT", "of": "train-", "times": 3, "status": 503, "code": "SlowDown"},
            {"method": "GET", "of": ".tar", "times": 2, "cut": True},
            {"method": "PUT", "of": "train-00001", "times": 1, "lost": True},
        )
        build(recipe(), server.url("sa1b"), server.url("out"))
        assert stored(server) == reference

    def test_of_a_shard_that_somebody_replaced(
        self, server: S3Server, reference: dict[str, str]
    ) -> None:
        build(recipe(), server.url("sa1b"), server.url("out"))
        name = "sa1b/train-00002-of-00006.tar"
        size = len(server.objects()[f"out/{name}"])
        Place.of(server.url("out")).write(name, b"x" * size)
        result = build(recipe(), server.url("sa1b"), server.url("out"))
        assert result.num_written == 1
        assert stored(server) == reference

    @pytest.mark.parametrize(
        "fault",
        [
            {
                "method": "GET",
                "of": "sa_000000.tar",
                "times": 6,
                "status": 404,
                "code": "NoSuchKey",
            },
            {"method": "GET", "of": "sa_000002/", "times": 5, "status": 404, "code": "NoSuchKey"},
        ],
        ids=["archive", "folder"],
    )
    def test_of_objects_for_a_moment(
        self, server: S3Server, reference: dict[str, str], fault: dict[str, object]
    ) -> None:
        """A storage that says for a while that there is nothing is not believed for good."""
        for stage in (1, 2):
            server.fail({"method": "GET", "status": 404, "code": "NoSuchKey", **fault})
            try:
                build(recipe(), server.url("sa1b"), server.url("out"))
            except HqdataError as error:
                assert "run" in str(error), stage
        server.fail()
        build(recipe(), server.url("sa1b"), server.url("out"))
        assert stored(server) == reference

    def test_of_a_build_whose_place_was_taken(self, server: S3Server, tmp_path: Path) -> None:
        """Workers of a driver that was held for dead do not write beside its heir."""
        import pickle

        place = Place.of(server.url("out"))
        with place.claim():
            worker = pickle.loads(pickle.dumps(place))
            worker.write("a", b"1")
            other = {"id": "somebody", "host": "far", "pid": 1}
            server_lock = Place.of(server.url("out"))
            server_lock.write(".hqdata/lock.json", json.dumps(other).encode())
            with pytest.raises(BusyError, match="taken over"):
                worker.write("a", b"2")
            with pytest.raises(BusyError), worker.new_file("b") as path:
                path.write_bytes(b"2")
        assert server.objects()["out/a"] == b"1"
        assert "out/b" not in server.objects()


def shards(server: S3Server) -> dict[str, bytes]:
    return {
        key: value
        for key, value in server.objects().items()
        if key.startswith("out/sa1b/") and key.endswith(".tar")
    }


class TestMessages:
    def test_a_place_that_is_somebody_elses(self, server: S3Server, data: Path) -> None:
        """A data set that was uploaded without our state, or the data root itself."""
        theirs = Place.of(server.url("theirs"))
        theirs.write("sa1b/train-00000-of-00009.tar", b"1")
        theirs.write("dataset.json", b"{}")
        for where in ("theirs", "sa1b"):
            before = server.objects()
            with pytest.raises(UserError, match="not empty and no data set of ours"):
                build(recipe(), data, server.url(where))
            assert server.objects() == before

    def test_secrets_of_a_url_are_not_told(self, server: S3Server, tmp_path: Path) -> None:
        for url in ("http://user:hunter2@127.0.0.1:1/", "s3://KEY:hunter2@bucket/x"):
            for root, out in ((url, str(tmp_path / "out")), (server.url("sa1b"), url)):
                with pytest.raises(HqdataError) as error:
                    build(recipe(), root, out)
                assert "hunter2" not in str(error.value)

    def test_two_builds_at_once(self, server: S3Server) -> None:
        url = server.url("out")
        with Place.of(url).claim(), pytest.raises(BusyError):
            build(recipe(), server.url("sa1b"), url)

    @pytest.mark.parametrize("url", ["https://127.0.0.1/out", "hf://datasets/me/set"])
    def test_places_that_nothing_is_built_in(self, url: str, data: Path) -> None:
        with pytest.raises(UserError) as error:
            build(recipe(), data, url)
        assert "hqdata push" in str(error.value) or "nothing can be written" in str(error.value)

    def test_a_bucket_that_is_not_there(self, server: S3Server, data: Path) -> None:
        with pytest.raises(HqdataError):
            build(recipe(), data, "s3://nobody-has-this/out")

    def test_nothing_below_the_url(self, server: S3Server) -> None:
        with pytest.raises(HqdataError, match="no archive of sa1b"):
            build(recipe(), server.url("elsewhere"), server.url("out"))
        assert not [key for key in server.objects() if key.startswith("out/")]


@pytest.mark.slow
def test_the_trainer_reads_what_ray_built_in_a_storage(
    server: S3Server,
    reference: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ray_of_its_own() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        words = ("--engine", "ray", "--workers", "3", "--ray-address", "local")
        run = start(server, tmp_path / "recipe.yaml", *words)
        told, _ = run.communicate(timeout=250)
    assert run.returncode == 1, told
    assert stored(server) == reference, told
    words = (
        *("-m", "training.train", "--model", "vit_micro", "--shards", server.url("out")),
        *("--recipe", str(tmp_path / "recipe.yaml"), "--device", "cpu", "--batch-size", "2"),
        *("--max-steps", "2", "--workers", "1", "--out", str(tmp_path / "run")),
        *("--cache-dir", str(tmp_path / "cache")),
    )
    import sys

    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=250,
        env=child_environment(**server.env(), OMP_NUM_THREADS="1"),
        cwd=os.fspath(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run").is_dir()
