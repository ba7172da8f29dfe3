"""Every set is found in every layout and form that people have on disk, and two places for one
split are a question.
"""

from __future__ import annotations

import io
import shlex
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqdata.catalogue.manifest import SplitLayout
from hqdata.catalogue.registry import load_manifests
from hqdata.errors import AmbiguousSourceError, MissingSourceError, UserError
from hqdata.recipe import Recipe, RecipeSource, load_recipe
from hqdata.resolve import SplitRequest, resolve
from hqdata.scan import scan
from hqdata.sources.discover import Found, choose, discover, pair_found, parse_use, suggest_use
from hqdata.sources.layouts import TreeIndex, accepts
from hqdata.storage import stem_of, suffix_of
from support.pictures import write_pair
from support.spooled import scan_spooled

Files = dict[str, bytes]

STEMS = ("a", "2#Plane#3")
CLASSES = ("abacus", "abe's_fish")


def release(spec: SplitLayout, split: str) -> Files:
    """The files of one split as the release has them."""
    names = [f"{split}_{stem}" for stem in STEMS]
    files = {}
    for pattern, suffix in ((spec.images, ".jpg"), (spec.masks, ".png")):
        folder = pattern.rsplit("/", 1)[0]
        for class_name in CLASSES if "{class}" in folder else ("",):
            for name in names:
                files[f"{folder.replace('{class}', class_name)}/{name}{suffix}"] = b"x"
    if spec.list is not None:
        files[spec.list] = "".join(f"{name}.png\n" for name in names).encode()
    return files


def put(root: Path, files: Files) -> None:
    """Writes files; below a name with an archive's suffix they become its members."""
    archives: dict[Path, Files] = {}
    for name, data in files.items():
        parts = name.split("/")
        ends = [i for i, p in enumerate(parts[:-1]) if p.endswith((".zip", ".tar", ".tar.gz"))]
        if ends:
            archive = root.joinpath(*parts[: ends[0] + 1])
            archives.setdefault(archive, {})["/".join(parts[ends[0] + 1 :])] = data
            continue
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for path, members in archives.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                for member, data in members.items():
                    archive.writestr(member, data)
            continue
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def index_of(root: Path) -> TreeIndex:
    return TreeIndex(scan_spooled(root, root / ".spool"))


def request(source: str, *splits: str) -> tuple[SplitRequest, ...]:
    given = {"source": source, "splits": splits or None, "expect": "any"}
    return resolve(Recipe.model_validate({"name": "r", "sources": [given]})).splits


def look(root: Path, source: str, *splits: str, use: dict[str, str] | None = None) -> list[Found]:
    return discover(index_of(root), request(source, *splits), use)


def top(path: str) -> tuple[str, str]:
    first, _, rest = path.partition("/")
    return first, rest


def other_case(path: str) -> str:
    """Folders as a careless unpacker spells them; names of files and classes as they are."""
    *folders, name = path.split("/")
    return "/".join([f if f in CLASSES else f.swapcase() for f in folders] + [name])


FORMS: dict[str, Callable[[str], str]] = {
    "folder": lambda p: p,
    "below other folders": lambda p: f"some/where/else/{p}",
    "below a folder of its name": lambda p: f"{top(p)[0]}/{p}",
    "below two folders of its name": lambda p: f"{top(p)[0]}/{top(p)[0].lower()}/{p}",
    "in another case": other_case,
    **{
        f"a{s} of any name": (lambda p, s=s: f"download{s}/{p}")
        for s in (".zip", ".tar", ".tar.gz")
    },
    **{f"its own {s}": (lambda p, s=s: f"{top(p)[0]}{s}/{p}") for s in (".zip", ".tar", ".tar.gz")},
    **{
        f"its own {s} without a top folder": (lambda p, s=s: f"{top(p)[0]}{s}/{top(p)[1]}")
        for s in (".zip", ".tar", ".tar.gz")
    },
    "a .zip below other folders": lambda p: f"some/where/{top(p)[0]}.zip/{p}",
    "a .zip in a folder of its name": lambda p: f"{top(p)[0]}/{top(p)[0]}.zip/{p}",
    "unpacked beside its name": lambda p: f"{top(p)[0]}-unpacked/{p}",
}

LAYOUTS = [
    (source, layout.name)
    for source, manifest in load_manifests().items()
    for layout in manifest.layouts
]


@pytest.mark.parametrize(
    ("source", "layout", "form"),
    [
        (*layout, form)
        for layout in LAYOUTS
        for form in FORMS
        # Nothing then says that the two archives of ECSSD belong together.
        if (layout[1], form) != ("official, two archives", "unpacked beside its name")
    ],
)
def test_every_layout_is_found_in_every_form(
    tmp_path: Path, source: str, layout: str, form: str
) -> None:
    """Once, by name, with all its pairs; what goes into keys and records is always the same."""
    (found,) = [lay for lay in load_manifests()[source].layouts if lay.name == layout]
    files: Files = {}
    for split, spec in found.splits.items():
        files.update(release(spec, split))
    put(tmp_path, {FORMS[form](path): data for path, data in files.items()})
    index = index_of(tmp_path)
    assert index.tree.unreadable == {}
    for asked in request(source, *found.splits):
        ((chosen, match),) = choose(discover(index, [asked]), index.tree)
        assert match.layout == layout
        pairing = pair_found(index, chosen, match)
        assert pairing.problems == ()
        spec = found.splits[asked.split]
        below = f"{spec.within}/" if spec.within else ""
        upstream = {below + path for path in release(spec, asked.split) if path != spec.list}
        assert {f.path for p in pairing.pairs for f in (p.image, p.mask)} == upstream
        assert len(pairing.pairs) == len(upstream) / 2
        assert all(p.name.split("/")[-1].startswith(asked.split) for p in pairing.pairs)


@pytest.mark.parametrize("layout", ["official", "repack"])
def test_real_pictures_laid_out_like_the_sources_are_all_found(
    arranged: dict[str, Path], layout: str
) -> None:
    index = index_of(arranged[layout])
    chosen = choose(
        discover(index, resolve(load_recipe("hqseg-44k"), subset=True).splits), index.tree
    )
    for asked, match in chosen:
        assert pair_found(index, asked, match).pairs, asked.source


def copies(source: str, layout: str, *prefixes: str) -> Files:
    """The whole layout once under each prefix; `T` in a prefix is the release's top folder."""
    (found,) = [lay for lay in load_manifests()[source].layouts if lay.name == layout]
    files: Files = {}
    for split, spec in found.splits.items():
        for path, data in release(spec, split).items():
            for prefix in prefixes:
                files[prefix.replace("T", top(path)[0]) + path] = data
    return files


TWICE = [
    ("dis", copies("dis", "official", "", "DIS5K.zip/")),  # the archive and what came of it
    ("dis", copies("dis", "official", "a/", "b/")),  # two downloads
    ("dis", copies("dis", "official", "DIS5K/", "DIS5K.zip/DIS5K/")),
    ("thinobject", copies("thinobject", "official", "", "old/")),  # one below a sibling
    ("fss", copies("fss", "official", "a/", "b/")),  # many folders a split
    ("fss", copies("fss", "official", "", "fewshot_data.zip/")),
    ("fss", {**copies("fss", "official", ""), **copies("fss", "sam-hq repack", "cascade_psp/")}),
    ("duts", copies("duts", "official", "T/", "T.zip/")),  # two archives, unpacked and kept
    ("duts", {**copies("duts", "official", ""), **copies("duts", "sam-hq repack", "c.zip/")}),
    ("msra", copies("msra", "official", "s.zip/a/", "s.zip/b/")),  # twice in one archive
    ("msra", copies("msra", "official", "my data/", "it's/")),  # names that a shell would cut
    ("coift", copies("coift", "official", "", "thin_object_detection/")),
    ("hrsod", copies("hrsod", "sam-hq repack", "", "thin_object_detection.tar.gz/")),
    (
        "ecssd",
        {**copies("ecssd", "official", ""), **copies("ecssd", "official, two archives", "T.zip/")},
    ),
]


class TestSeveralPlaces:
    @pytest.mark.parametrize(("source", "files"), TWICE, ids=[s for s, _ in TWICE])
    def test_two_places_are_a_question_whose_answer_works(
        self, tmp_path: Path, source: str, files: Files
    ) -> None:
        """The message shows every place with its layout, and `--use` options that settle it."""
        put(tmp_path, files)
        index = index_of(tmp_path)
        splits = sorted({f.request.split for f in look(tmp_path, source) if f.candidates})
        found = discover(index, request(source, *splits))
        assert all(len(item.candidates) == 2 for item in found)
        with pytest.raises(AmbiguousSourceError) as caught:
            choose(found, index.tree)
        message = str(caught.value)
        for item in found:
            for match in item.candidates:
                assert f"{match.where} (layout: {match.layout})" in message
        assert suggest_use(found) in message
        words = shlex.split(suggest_use(found))
        assert words[::2] == ["--use"] * (len(words) // 2) and words
        use = parse_use(words[1::2], [source], tmp_path)
        chosen = choose(discover(index, request(source, *splits), use), index.tree)
        assert [asked.split for asked, _ in chosen] == splits

    def test_one_option_a_split_where_no_place_has_them_all_once(self, tmp_path: Path) -> None:
        """Two archives beside the two folders that came of them."""
        put(tmp_path, copies("duts", "official", "T/", "T.zip/"))
        assert suggest_use(look(tmp_path, "duts")) == (
            "--use duts/train=DUTS-TR --use duts/test=DUTS-TE"
        )

    def test_each_place_can_be_chosen(self, tmp_path: Path) -> None:
        put(tmp_path, copies("dis", "official", "DIS5K/", "DIS5K.zip/DIS5K/"))
        for place in ("DIS5K", "DIS5K.zip", "DIS5K.zip/DIS5K", "DIS5K/DIS-TR/im"):
            (item,) = look(tmp_path, "dis", "train", use={"dis": place})
            (match,) = item.candidates
            assert match.images.folders[0][1].path.startswith(f"{place}/") or (
                match.images.folders[0][1].path == place
            )

    def test_a_copy_inside_the_other_cannot_be_told_by_the_outer_folder(
        self, tmp_path: Path
    ) -> None:
        put(tmp_path, copies("msra", "sam-hq repack", "", "MSRA_10K/old/"))
        found = look(tmp_path, "msra")
        assert suggest_use(found) == "--use msra=MSRA_10K/old"

    def test_links_to_one_folder_are_one_place(self, tmp_path: Path) -> None:
        put(tmp_path, copies("dis", "official", "DIS5K/"))
        (tmp_path / "dis-link").symlink_to("DIS5K")
        assert all(len(item.candidates) == 1 for item in look(tmp_path, "dis"))


class TestHrsod:
    def test_of_two_mask_folders_the_one_of_0_and_255_is_taken(self, tmp_path: Path) -> None:
        put(tmp_path, copies("hrsod", "official", ""))
        put(tmp_path, copies("hrsod", "sam-hq repack", ""))
        (item,) = look(tmp_path, "hrsod")
        (match,) = item.candidates
        assert match.layout == "sam-hq repack"
        assert match.where == "HRSOD/{images,masks_max255}"

    def test_the_official_masks_do_alone(self, tmp_path: Path) -> None:
        put(tmp_path, copies("hrsod", "official", ""))
        (item,) = look(tmp_path, "hrsod")
        assert [match.layout for match in item.candidates] == ["official"]


class TestEcssd:
    def test_two_archives_are_one_set(self, tmp_path: Path) -> None:
        put(tmp_path, {"images.zip/0001.jpg": b"x", "ground_truth_mask.zip/0001.png": b"x"})
        (item,) = look(tmp_path, "ecssd")
        (match,) = item.candidates
        assert match.layout == "official, two archives"
        assert match.where == "images.zip + ground_truth_mask.zip"

    def test_archives_in_different_folders_are_none(self, tmp_path: Path) -> None:
        """`images.zip` could be anyone's."""
        put(tmp_path, {"a/images.zip/1.jpg": b"x", "b/ground_truth_mask.zip/1.png": b"x"})
        (item,) = look(tmp_path, "ecssd")
        assert (item.candidates, item.partial) == ((), ())

    def test_images_alone_in_a_folder_of_any_name_are_no_sign_of_it(self, tmp_path: Path) -> None:
        put(tmp_path, {"images/0001.jpg": b"x"})
        (item,) = look(tmp_path, "ecssd")
        assert (item.candidates, item.partial) == ((), ())


class TestMissing:
    @pytest.mark.parametrize(
        ("source", "files", "where", "masks"),
        [
            ("ecssd", ["ecssd/0001.jpg"], "ecssd", "ecssd/*.png"),  # CascadePSP's script
            ("dis", ["DIS-TR/im/1.jpg"], "DIS-TR/im", "DIS-TR/gt/*"),
            ("fss", ["fewshot_data/a/1.jpg"], "fewshot_data/a", "fewshot_data/{class}/*.png"),
            ("coift", ["C/COIFT/images/1.jpg"], "C/COIFT/images", "COIFT/masks/*"),
        ],
    )
    def test_images_without_masks_are_said_to_be_there(
        self, tmp_path: Path, source: str, files: list[str], where: str, masks: str
    ) -> None:
        put(tmp_path, dict.fromkeys(files, b"x"))
        found = look(tmp_path, source)
        with pytest.raises(MissingSourceError) as caught:
            choose(found, index_of(tmp_path).tree)
        expected = f"images are at {where}, but no masks beside them (expected {masks})"
        assert expected in str(caught.value)

    def test_every_missing_set_is_listed_with_where_to_get_it_and_how_to_do_without(
        self, tmp_path: Path
    ) -> None:
        put(tmp_path, copies("dis", "official", ""))
        put(tmp_path, {"broken.zip": b"no zip"})
        index = index_of(tmp_path)
        with pytest.raises(MissingSourceError) as caught:
            choose(discover(index, resolve(load_recipe("hqseg-44k")).splits), index.tree)
        message = str(caught.value)
        assert "6 of 7 splits are not below the data root" in message
        assert "duts (train, test): DUTS" in message
        assert "https://mmcheng.net/msra10k/" in message
        assert "cascade_psp.zip, 1,365,490,019 bytes" in message
        assert "--exclude thinobject,fss,duts,ecssd,msra)" in message
        assert "broken.zip: it is no zip file" in message

    @pytest.mark.parametrize(
        "name",
        [
            "DIS-TRAIN/{}/1",  # another name
            "xDIS-TR/{}/1",  # a longer one
            "DIS-TR/x/{}/1",  # a folder between
            "DIS-TR/{}/x/1",  # a folder below
            "DIS-VD/{}/1",  # another split
        ],
    )
    def test_what_only_resembles_a_layout_is_not_taken(self, tmp_path: Path, name: str) -> None:
        put(tmp_path, {name.format("im") + ".jpg": b"x", name.format("gt") + ".png": b"x"})
        (item,) = look(tmp_path, "dis", "train")
        assert (item.candidates, item.partial) == ((), ())

    def test_images_and_masks_of_different_copies_are_not_put_together(
        self, tmp_path: Path
    ) -> None:
        put(tmp_path, {"a/DIS-TR/im/1.jpg": b"x", "b/DIS-TR/gt/1.png": b"x"})
        (item,) = look(tmp_path, "dis", "train")
        assert item.candidates == ()
        assert [match.where for match in item.partial] == ["a/DIS-TR/im"]

    def test_a_list_that_is_missing_makes_another_layout(self, tmp_path: Path) -> None:
        """Nobody can tell the splits of the official ThinObject-5K apart without it."""
        files = copies("thinobject", "official", "")
        del files["ThinObject5K/list/train.txt"]
        put(tmp_path, files)
        found = look(tmp_path, "thinobject", "train", "test")
        assert [len(item.candidates) for item in found] == [0, 1]


class TestOwnFolders:
    @staticmethod
    def find(root: Path, **source: Any) -> Found:
        given = {"name": "r", "sources": [{"source": "mine", **source}]}
        index = index_of(root)
        (found,) = discover(index, resolve(Recipe.model_validate(given)).splits)
        for match in found.candidates:
            pairing = pair_found(index, found.request, match)
            assert [p.name for p in pairing.pairs] == ["1"]
            assert pairing.problems == ()
        return found

    @pytest.mark.parametrize(
        ("images", "masks"),
        [
            ("mine/i", "mine/m"),  # two folders
            ("i", "other/m"),  # at different depths
            ("mine/mine/i", "mine/mine/m"),  # a name twice
            ("mine.zip/i", "mine.zip/m"),  # an archive
            ("i.zip/i", "m.zip/m"),  # archives named after what is in them
            ("i.tar", "m.tar"),  # archives without folders
            ("mine/*.jpg", "mine/*.png"),  # one folder of both
        ],
    )
    def test_are_found_at_their_path(self, tmp_path: Path, images: str, masks: str) -> None:
        places = [path.removesuffix("/*.jpg").removesuffix("/*.png") for path in (images, masks)]
        put(tmp_path, {f"{places[0]}/1.jpg": b"x", f"{places[1]}/1.png": b"x"})
        assert len(self.find(tmp_path, images=images, masks=masks).candidates) == 1

    def test_are_not_looked_for_elsewhere(self, tmp_path: Path) -> None:
        put(tmp_path, {"deep/mine/i/1.jpg": b"x", "deep/mine/m/1.png": b"x"})
        assert self.find(tmp_path, images="mine/i", masks="mine/m").candidates == ()

    @pytest.mark.parametrize("place", ["train.txt", "mine/train.txt", "mine/lists/train.txt"])
    def test_can_have_a_list(self, tmp_path: Path, place: str) -> None:
        """In the data root, or anywhere below it."""
        files = {f"mine/{f}/{n}.{s}": b"x" for n in "12" for f, s in (("i", "jpg"), ("m", "png"))}
        put(tmp_path, {**files, place: b"1\n", "mine/rest.txt": b"2\n"})
        index = index_of(tmp_path)
        source = {"source": "mine", "images": "mine/i", "masks": "mine/m", "list": place}
        given = Recipe.model_validate({"name": "r", "sources": [source]})
        ((asked, match),) = choose(discover(index, resolve(given).splits), index.tree)
        assert [p.name for p in pair_found(index, asked, match).pairs] == ["1"]


class TestUseOption:
    @pytest.mark.parametrize(
        ("value", "use"),
        [
            ("dis=DIS5K.zip", {"dis": "DIS5K.zip"}),
            ("dis5k=DIS5K.zip", {"dis": "DIS5K.zip"}),  # a full name
            ("dis=./a//b/", {"dis": "a/b"}),  # slashes to spare
            ("dis=a=b", {"dis": "a=b"}),  # an equals sign in the path
            ("dis/train=a", {"dis/train": "a"}),  # one split
            ("DIS5K/train=a", {"dis/train": "a"}),
        ],
    )
    def test_names_a_source_and_a_path(
        self, tmp_path: Path, value: str, use: dict[str, str]
    ) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a=b").mkdir()
        (tmp_path / "DIS5K.zip").touch()
        assert parse_use([value], ["dis", "fss"], tmp_path) == use

    def test_takes_a_path_as_the_shell_completes_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "DIS5K.zip").touch()
        monkeypatch.chdir(tmp_path)
        assert parse_use(["dis=data/DIS5K.zip"], ["dis"], Path("data")) == {"dis": "DIS5K.zip"}
        assert parse_use(["dis=DIS5K.zip/DIS5K"], ["dis"], Path("data")) == {
            "dis": "DIS5K.zip/DIS5K"
        }

    def test_takes_an_absolute_path_below_the_data_root(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        assert parse_use([f"dis={tmp_path}/a"], ["dis"], tmp_path) == {"dis": "a"}

    def test_takes_an_absolute_path_through_a_link(self, tmp_path: Path) -> None:
        """Data roots on clusters are made of links; the tree goes by the link's name."""
        root = tmp_path / "root"
        root.mkdir()
        (tmp_path / "other").mkdir()
        (root / "a").symlink_to(tmp_path / "other")
        assert parse_use([f"dis={root}/a"], ["dis"], root) == {"dis": "a"}

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("dis", "expected SOURCE=PATH"),
            ("dis=", "expected SOURCE=PATH"),
            ("=a", "no source ''"),
            ("dsi=a", "did you mean 'dis'"),
            ("coift=a", "no source 'coift' in this recipe"),
            ("dis/trian=a", "did you mean 'train'"),
            ("dis=/elsewhere", "not below the data root"),
            ("dis=DIS5K.zpi", "there is no 'DIS5K.zpi' below the data root"),
        ],
    )
    def test_a_slip_is_answered(self, tmp_path: Path, value: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            parse_use([value], ["dis", "fss"], tmp_path)


def test_other_masks_for_the_same_images_are_a_question_too(tmp_path: Path) -> None:
    """ECSSD's images once, its masks both unpacked and as the archive."""
    write_pair(tmp_path / "images", tmp_path / "ground_truth_mask", "0001")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(tmp_path / "images" / "0001.jpg", "images/0001.jpg")
    shutil.rmtree(tmp_path / "images")
    with zipfile.ZipFile(tmp_path / "ground_truth_mask.zip", "w") as archive:
        archive.write(tmp_path / "ground_truth_mask" / "0001.png", "ground_truth_mask/0001.png")
    index = TreeIndex(scan(tmp_path))
    request = resolve(Recipe(name="x", sources=(RecipeSource(source="ecssd"),))).splits
    (found,) = discover(index, request)
    assert len(found.candidates) == 2
    answer = {"ecssd": "ground_truth_mask.zip"}
    (settled,) = discover(index, request, answer)
    assert [m.masks.archive for m in settled.candidates if m.masks] == ["ground_truth_mask.zip"]


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("a.jpg", "a", ".jpg"),
        ("a.JPG", "a", ".jpg"),  # any case
        ("a.jpg.png", "a.jpg", ".png"),  # a suffix inside of the stem
        (".jpg", ".jpg", ""),  # a hidden file
        ("a", "a", ""),
        ("a.", "a", "."),
    ],
)
def test_stem_and_suffix(name: str, stem: str, suffix: str) -> None:
    assert (stem_of(name), suffix_of(name)) == (stem, suffix)


@pytest.mark.parametrize(
    ("wanted", "accepted"),
    [
        ("*.jpg", {"a.jpg", "a.JPEG", "a.jpe"}),
        ("*.png", {"a.png", "a.PnG"}),
        ("*.txt", {"a.txt"}),
        ("*", {"a.jpg", "a.JPEG", "a.jpe", "a.png", "a.PnG", "a.webp", "a.tif", "a.bmp", "a.gif"}),
    ],
)
def test_patterns_take_files_by_suffix(wanted: str, accepted: set[str]) -> None:
    names = ["a.jpg", "a.JPEG", "a.jpe", "a.png", "a.PnG", "a.webp", "a.tif", "a.bmp", "a.gif"]
    names += ["a.txt", "a.json", "a", ".png"]
    assert {name for name in names if accepts(wanted, name)} == accepted
