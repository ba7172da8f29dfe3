"""The card: what a researcher must know is there, and whatever a data set holds stays text."""

from __future__ import annotations

import datetime
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hqdata.hub.card import CardFacts, render_card
from hqdata.hub.card_head import MIXED_LICENCE, head_of
from hqdata.hub.certificate import faults_of
from hqdata.hub.configs import configs_of
from hqdata.hub.licences import NO_ADVICE, Decision, Terms, terms_of
from hqdata.hub.markdown import block, code, link, table, text
from hqdata.hub.permission import Permission
from hqdata.overlap.report import OverlapReport, Recall, Unread
from hqdata.shards.dataset import Dataset, Dropped, Removed, SplitCounts
from support.hub import fake_hub
from support.hub.cards import check_card
from support.published import certificate, facts, own, stand_in, terms
from support.reports import pair

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")

PERMISSION = Permission(
    source="a",
    holder="The holder",
    granted_to="A lab",
    date=datetime.date(2024, 5, 17),
    allows="private",
    name="Letter | of *May*",
    evidence="mail from someone@example.org",
    sha256="e" * 64,
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return stand_in(tmp_path_factory.mktemp("card"), ["ecssd", "duts"])


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    settings = {"must_not_overlap": ["coift/all"], "samples_per_shard": 2}
    return own(tmp_path_factory.mktemp("mine"), {"a": 3, "b": 2}, **settings)


def head(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n", 2)[1])
    return found


def body(card: str) -> str:
    return card.split("---\n", 2)[2]


def section(card: str, heading: str) -> str:
    """The text below a heading, up to the next of its level."""
    return re.split(r"^## ", body(card).split(f"\n## {heading}\n")[1], flags=re.MULTILINE)[0]


def real(made: CardFacts, *found: Terms) -> CardFacts:
    """The same with terms made by hand."""
    return replace(made, decision=replace(made.decision, terms=found))


class TestHead:
    def test_the_hub_finds_nothing_wrong_with_it(self, drawn: Dataset, mine: Dataset) -> None:
        for dataset in (drawn, mine):
            for what in ("all", "manifest"):
                for public in (True, False):
                    card = render_card(facts(dataset, what=what, public=public))  # type: ignore[arg-type]
                    assert check_card(card) == ([], [])

    def test_the_hubs_library_reads_it(self, mine: Dataset) -> None:
        from huggingface_hub import DatasetCard, DatasetCardData

        text = render_card(facts(mine))
        card = DatasetCard(text)
        assert isinstance(card.data, DatasetCardData)
        assert card.data.license == "other" and card.data.size_categories == ["n<1K"]
        assert card.text.strip().startswith("# own")
        assert card.data.to_dict() == head(text)

    def test_the_hubs_library_has_it_validated(
        self, mine: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from huggingface_hub import DatasetCard, constants

        with fake_hub(tmp_path) as hub:
            monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
            DatasetCard(render_card(facts(mine))).validate()
            with pytest.raises(ValueError):
                DatasetCard("---\nlicense: nonsense\n---\n").validate()

    def test_a_mixture_has_the_terms_of_each_source(self, mine: Dataset) -> None:
        mixed = real(facts(mine), terms("a"), replace(terms("b"), licence=terms("b").licence))
        assert head_of(mixed)["license_name"] == "x"
        other = terms("b").licence.model_copy(update={"id": "Y 1.0"})
        mixed = real(facts(mine), terms("a"), replace(terms("b"), licence=other))
        found = head_of(mixed)
        assert (found["license"], found["license_name"]) == ("other", MIXED_LICENCE)
        assert found["license_link"] == "https://huggingface.co/datasets/me/a-set#licences"

    @pytest.mark.parametrize("name", ["CC BY 4.0 (ours)", "Ünïcode", "-.-", "A/B"])
    def test_the_name_of_a_licence_is_one_that_the_hub_takes(
        self, mine: Dataset, name: str
    ) -> None:
        licence = terms().licence.model_copy(update={"id": name})
        made = real(facts(mine), replace(terms(), licence=licence))
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", head_of(made)["license_name"])

    def test_its_anchor_is_a_heading_of_the_card(self, mine: Dataset) -> None:
        card = render_card(facts(mine))
        assert head(card)["license_link"].endswith("#licences") and "\n## Licences\n" in card

    @pytest.mark.parametrize(
        ("number", "size"),
        [
            (1, "n<1K"),
            (999, "n<1K"),
            (1000, "1K<n<10K"),
            (44_320, "10K<n<100K"),
            (10**6, "1M<n<10M"),
        ],
    )
    def test_size(self, mine: Dataset, number: int, size: str) -> None:
        made = facts(mine)
        info = made.info.model_copy(update={"num_samples": number})
        made = replace(made, manifest=replace(made.manifest, info=info))
        assert head_of(made)["size_categories"] == [size]

    def test_a_gate_asks_for_the_terms(self, mine: Dataset) -> None:
        gated = head_of(facts(mine))
        assert "a: Creative Commons Zero" in gated["extra_gated_prompt"]
        assert NO_ADVICE in gated["extra_gated_prompt"]
        assert set(gated["extra_gated_fields"].values()) == {"text", "checkbox"}
        assert not [key for key in head_of(facts(mine, public=True)) if "gated" in key]

    def test_configurations_are_those_of_the_data_set(self, mine: Dataset) -> None:
        found = head(render_card(facts(mine)))["configs"]
        for one, config in zip(found, configs_of(mine.info), strict=True):
            assert one["config_name"] == config.name
            assert [(f["split"], tuple(f["path"])) for f in one["data_files"]] == list(
                config.splits
            )

    def test_a_manifest_has_one_configuration(self, mine: Dataset) -> None:
        assert head(render_card(facts(mine, what="manifest")))["configs"] == [
            {
                "config_name": "samples",
                "data_files": [{"split": "train", "path": "samples.parquet"}],
            }
        ]


class TestBody:
    def test_the_same_facts_give_the_same_text(self, drawn: Dataset) -> None:
        made = facts(drawn, certificate=certificate(drawn))
        assert render_card(made) == render_card(made)

    def test_there_is_no_number_of_a_day_or_of_this_machine_in_it(self, mine: Dataset) -> None:
        card = render_card(facts(mine))
        assert not re.search(r"\b20\d\d-\d\d-\d\d\b", card)
        assert str(mine.root) not in card

    def test_drawn_pictures_say_so_first(self, drawn: Dataset) -> None:
        card = render_card(facts(drawn))
        assert body(card).index("Drawn pictures, no research data") < body(card).index("\n## ")
        assert head(card)["annotations_creators"] == ["machine-generated"]
        assert "shi2016hierarchical" not in card and "ke2023segment" in card
        assert "nothing of the real sets is in them" in section(card, "Licences")

    def test_drawn_sources_among_real_ones_are_named(self, mine: Dataset) -> None:
        made = real(facts(mine), terms("a", stand_in=True), terms("b"))
        assert "`hqdata mini` drew all of `a`" in render_card(made)

    def test_composition_stands_beside_table_5(self, drawn: Dataset) -> None:
        found = section(render_card(facts(drawn)), "Composition")
        assert "| `duts` | `train` | 32 | 32 | 10,553 | 0 | 0 |" in found
        assert "| `dis` | `train` | – |  | 3,000 |" in found
        assert re.search(r"\*\*total\*\* \|  \| \*\*64\*\* \| \*\*64\*\* \| \*\*44,320\*\*", found)

    def test_a_part_says_what_is_missing(self, drawn: Dataset) -> None:
        card = render_card(facts(drawn, exclude=["duts"]))
        title = "# Stand-in for HQSeg-44K without DIS5K, ThinObject-5K, FSS-1000, DUTS and MSRA10K"
        assert title in card

    def test_terms_evidence_and_permission_are_told(self, mine: Dataset) -> None:
        made = real(facts(mine), terms("a", "refuse", permission=PERMISSION), terms("b"))
        found = section(render_card(made), "Licences")
        assert "[terms of a](https://example.org/x)" in found and NO_ADVICE in found
        assert "- `a`, `b`: seen" in found
        assert "no copies, private ones included (see the permission)" in found
        for told in ("The holder", "A lab", "2024-05-17", r"Letter \| of \*May\*"):
            assert told in found
        assert "someone@example.org" not in render_card(made)

    def test_how_to_load_it(self, mine: Dataset) -> None:
        found = section(render_card(facts(mine)), "Load it")
        for told in (
            'load_dataset("me/a-set", split="train", streaming=True)',
            'load_dataset("me/a-set", "no-a", split="train", streaming=True)',
            "| `no-a` | `train` 2 |",
            "hqdata pull me/a-set --out shards/",
            "hqdata pull me/a-set --exclude a --out shards-no-a/",
            "python -m training.train --shards shards/",
            "wds.WebDataset(",
        ):
            assert told in found

    def test_a_manifest_says_how_to_rebuild(self, drawn: Dataset) -> None:
        card = render_card(facts(drawn, what="manifest"))
        assert "**No pictures here.**" in card and "\n## Load it\n" not in card
        found = section(card, "Rebuild it")
        assert "hqdata build --recipe ./recipe.yaml --data-root data/ --out shards/" in found
        assert drawn.info.digest in found and "_info.json" not in card and ".tar`" not in card

    def test_a_manifest_of_ones_own_folders_cannot_promise_that(self, mine: Dataset) -> None:
        found = section(render_card(facts(mine, what="manifest")), "Rebuild it")
        assert "`a`, `b` are folders of the publisher's own" in found

    def test_what_a_search_kept_out_stays_out_of_a_rebuild(self, drawn: Dataset) -> None:
        def rebuild(report: OverlapReport | None) -> str:
            made = facts(drawn, what="manifest", certificate=report)
            gone = {"report_sha256": "a" * 64, "dataset_digest": "b" * 64}
            removed = Removed(**gone, num_keys=1, keys=("duts-x",))
            info = made.info.model_copy(update={"removed": removed})
            card = render_card(replace(made, manifest=replace(made.manifest, info=info)))
            assert "`removed.keys` in `dataset.json` names it" in section(
                card, "How it was built and checked"
            )
            return section(card, "Rebuild it")

        clean = certificate(drawn, removed=("duts-x",))
        assert "--out shards/ --remove overlap.json\n" in rebuild(clean)
        # Without the report, or by one that names more, the build would be of another data set.
        more = clean.model_copy(update={"verdict": "overlap", "pairs": (pair("duts-y"),)})
        for report in (None, more):
            found = rebuild(report)
            assert "--remove" not in found and "This builds 1 image more" in found
            assert "`removed.keys` in `dataset.json` names" in found

    def test_folders_called_like_a_set_are_folders_all_the_same(self, tmp_path: Path) -> None:
        found = section(
            render_card(facts(own(tmp_path, {"ecssd": 1}), what="manifest")), "Rebuild it"
        )
        assert "`ecssd` are folders of the publisher's own" in found

    def test_a_data_set_without_a_sample_has_a_card(self, mine: Dataset) -> None:
        made = facts(mine)
        info = made.info.model_copy(update={"shards": (), "num_samples": 0})
        manifest = replace(made.manifest, info=info)
        card = render_card(replace(made, manifest=manifest, rows=made.rows.slice(0, 0)))
        assert "0 images" in card and "configs" not in head(card)
        assert check_card(card) == ([], [])

    def test_what_was_compared_after_the_upload(self, mine: Dataset) -> None:
        for what in ("all", "manifest"):
            card = render_card(facts(mine, what=what))  # type: ignore[arg-type]
            found = section(card, "How it was built and checked")
            assert "large ones by size and SHA-256, small ones, which git keeps, by size" in found
            assert "SHA-256 of every file" not in card and "compared with its SHA-256;" not in card

    def test_how_it_was_built(self, mine: Dataset) -> None:
        found = section(render_card(facts(mine)), "How it was built and checked")
        assert f"Digest `{mine.info.digest}`" in found and "seed 0, up to 2 samples" in found
        assert f"hqdata {mine.info.tool['hqdata']}" in found and "the publisher's own" in found

    def test_examples_are_shown_with_words(self, mine: Dataset) -> None:
        card = render_card(facts(mine, examples=(("examples/a.jpg", "a"),)))
        assert "![a: three samples with their masks](examples/a.jpg)" in card
        assert "\n## Examples\n" not in render_card(facts(mine))

    def test_what_is_known_to_be_wrong(self, mine: Dataset) -> None:
        made = facts(mine)
        gone = [Dropped(source="a", split="all", name=f"n{n}", reason="torn") for n in range(15)]
        short = {"a": {"all": SplitCounts(expected=9, built=3, rejected=1, dropped=0)}}
        info = made.info.model_copy(
            update={
                "dropped": tuple(gone),
                "complete": False,
                "sources": {**made.info.sources, **short},
            }
        )
        row = {"source": "a", "kind": "empty_mask", "image": "\u2028", "message": ""}
        problems = (json.dumps(row, ensure_ascii=False) + "\n").encode() * 2
        made = replace(made, manifest=replace(made.manifest, info=info, problems=problems))
        card = render_card(made)
        found = section(card, "Known defects")
        assert "left out of `a`: `n0`, " in found and "`n11` and 3 more. torn" in found
        assert "problems of `a`: 2 `empty_mask`" in found
        assert "**Not as many images as expected:** `a` `all` 3 of 9." in card

    def test_defects_of_the_releases_are_told_of_real_pictures(self, drawn: Dataset) -> None:
        made = facts(drawn)
        found = section(render_card(made), "Known defects")
        assert found.strip() == "None."
        undrawn = [replace(item, stand_in=False) for item in made.decision.terms]
        found = section(render_card(real(made, *undrawn)), "Known defects")
        assert "`n01532829_13482`" in found and "PoolNet/issues/34" in found


class TestProof:
    def test_without_a_certificate_it_warns_first(self, mine: Dataset) -> None:
        card = body(render_card(facts(mine)))
        assert card.index("**No overlap certificate.**") < card.index("\n## ")

    def shown(self, dataset: Dataset, report: OverlapReport, **changes: Any) -> str:
        faults = faults_of(report, dataset.info)
        return body(
            render_card(facts(dataset, certificate=report, certificate_faults=faults, **changes))
        )

    def test_a_clean_one_is_told_in_full(self, mine: Dataset) -> None:
        card = self.shown(mine, certificate(mine))
        assert "WARNING" not in card
        for told in (
            "Verdict **clean**",
            "all 5 images of exactly this data set",
            "| `coift/all` | 280 | pictures | – |",
            "of 8 altered copies planted in 1 kinds",
            "could not be read: none",
            "`overlap.json`",
        ):
            assert told in card

    def test_a_clean_one_is_one_even_where_none_was_asked_for(self, mine: Dataset) -> None:
        assert "WARNING" not in self.shown(mine, certificate(mine), without_certificate=True)

    def test_what_is_wrong_with_one_is_named(self, mine: Dataset) -> None:
        searched = certificate(mine).evaluation[0].model_copy(update={"set": "folder:x|*y*"})
        card = self.shown(mine, certificate(mine, evaluation=(searched,)))
        assert "no certificate for this data set: it did not search coift/all." in card
        card = self.shown(mine, certificate(mine, dataset_digest="0" * 64))
        assert "**Not proven clean.**" in card and "it is of another data set, 000000" in card

    def test_one_that_looked_for_duplicates_proves_nothing_else(self, mine: Dataset) -> None:
        twice = pair("a-one", set="within", name="a-two")
        for report in (
            certificate(mine, within=True),
            certificate(mine, within=True, verdict="overlap", pairs=(twice,)),
        ):
            card = self.shown(mine, report)
            assert "**Not proven clean.**" in card and "in an evaluation set" not in card
            assert "it looks for duplicates inside the data set" in card
            assert "no evaluation set was searched" in card

    def test_one_of_a_larger_data_set_says_so(self, mine: Dataset) -> None:
        card = self.shown(mine, certificate(mine), exclude=["a"])
        assert f"a larger data set (5 images, digest `{mine.info.digest}`)" in card

    def test_overlap_and_doubt_stand_on_top(self, mine: Dataset) -> None:
        bad = certificate(mine, verdict="overlap", pairs=(pair("a-one"), pair("a-one", name="y")))
        card = self.shown(mine, bad)
        assert "**Overlap.** The search found 1 image in an evaluation set" in card
        assert "It is no certificate: it found overlap" in card
        doubt = certificate(
            mine,
            verdict="incomplete",
            missing=("hrsod/all",),
            unread=(Unread(set="coift/all", name="x|y.jpg", reason="cut"),),
            self_test={"crop": Recall(planted=100, found=5, asked=0.95)},
        )
        card = self.shown(mine, doubt)
        assert "**Not proven clean.**" in card and "missed too many of `crop`" in card
        assert "not there: `hrsod/all`" in card and "coift/all/x|y.jpg" in card

    def test_an_evaluation_set_needs_none(self, tmp_path: Path) -> None:
        dataset = stand_in(tmp_path, ["coift", "hrsod"], "mini-evaluation")
        card = render_card(facts(dataset))
        assert "No overlap certificate" not in card and "never train" not in card
        undrawn = [replace(t, stand_in=False) for t in terms_of(dataset, ["coift", "hrsod"], [])]
        card = render_card(real(facts(dataset), *undrawn))
        assert "For evaluation; never train on it." in card
        assert "--eval-shards shards/" in card and 'split="test"' in card


HOSTILE = "x`|<b>*_[y](http://e.org)\n# z & | ![i](j) $a$ \\| ---\u2028{{ 1 }}"


class TestHostileWords:
    @given(st.text(max_size=40).filter(lambda words: text_of(words)))
    def test_text_renders_as_itself(self, words: str) -> None:
        shown = MARKDOWN.parseInline(f"a {text(words)} b")[0].children or []
        plain = "".join(token.content for token in shown)
        assert all(token.type in ("text", "text_special") for token in shown)
        assert plain == f"a {text_of(words)} b"

    @given(st.text(max_size=40))
    def test_code_renders_as_itself(self, words: str) -> None:
        shown = MARKDOWN.parseInline(f"a {code(words)} b")[0].children or []
        assert [token.type for token in shown] == ["text", "code_inline", "text"]
        assert shown[1].content == (text_of(words) or '""')

    @given(st.lists(st.text(max_size=20), min_size=2, max_size=2))
    def test_a_table_keeps_its_columns(self, words: list[str]) -> None:
        made = table("lr", ["a", "b"], [[code(words[0]), text(words[1])]])
        cells = [token for token in MARKDOWN.parse(made) if token.type == "td_open"]
        assert len(cells) == 2

    @given(st.text(max_size=60))
    def test_a_block_ends_where_it_should(self, words: str) -> None:
        tokens = MARKDOWN.parse(block(words))
        assert [token.type for token in tokens] == ["fence"]

    @pytest.mark.parametrize("url", ["javascript:alert(1)", "https://a b", "", None, "ftp://x"])
    def test_only_web_addresses_are_linked(self, url: str | None) -> None:
        assert link("words", url) == "words"

    def test_an_address_with_brackets_stays_whole(self) -> None:
        (token,) = MARKDOWN.parseInline(link("w", "https://e.org/a_(b)?c=<d>"))
        opened = (token.children or [])[0]
        assert opened.attrs["href"] == "https://e.org/a_%28b%29?c=%3Cd%3E"

    def test_a_card_of_hostile_names_has_the_same_outline(self, mine: Dataset) -> None:
        def outline(made: CardFacts) -> list[str]:
            return [
                token.type
                for token in MARKDOWN.parse(body(render_card(made)))
                if token.type
                in ("heading_open", "fence", "table_open", "html_block", "hr", "th_open")
            ]

        def with_words(words: str) -> CardFacts:
            made = facts(mine)
            gone = (Dropped(source="a", split="all", name=words, reason=words),)
            recipe = {**made.info.recipe, "description": words}
            info = made.info.model_copy(update={"dropped": gone, "recipe": recipe})
            licence = terms().licence.model_copy(update={"name": words, "evidence": words})
            given = PERMISSION.model_copy(update={"name": words, "holder": words})
            made = real(made, replace(terms("a", permission=given), licence=licence), terms("b"))
            return replace(made, manifest=replace(made.manifest, info=info))

        assert outline(with_words(HOSTILE)) == outline(with_words("plain"))
        assert check_card(render_card(with_words(HOSTILE))) == ([], [])

    def test_names_that_are_no_unicode_can_be_written(self, mine: Dataset) -> None:
        made = facts(mine)
        gone = (Dropped(source="a", split="all", name="x\udcff", reason="torn"),)
        info = made.info.model_copy(update={"dropped": gone})
        made = replace(made, manifest=replace(made.manifest, info=info))
        assert b"x\\udcff" in render_card(made).encode()


def text_of(words: str) -> str:
    """Words as one line, as the card shows them."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", words).split())


@pytest.mark.slow
class TestTheProgramsInIt:
    """The Python in the card runs as it stands, beside a folder `shards`."""

    def blocks(self, card: str) -> list[str]:
        return re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)

    @pytest.mark.parametrize("image_field", ["jpg", "png"])
    def test_webdataset(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_field: str
    ) -> None:
        dataset = own(tmp_path, {"a": 2}, image_field=image_field)
        monkeypatch.chdir(tmp_path)
        (program,) = [b for b in self.blocks(render_card(facts(dataset))) if "webdataset" in b]
        found: dict[str, Any] = {}
        exec(program, found)
        assert found["record"]["key"] == dataset.row(0)["key"]
        mask = found["mask"]
        assert getattr(mask, "ndim", 2) == 2 and getattr(mask, "mode", "L") == "L"

    def test_datasets(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        dataset = own(tmp_path, {"a": 2, "b": 1})
        card = render_card(facts(dataset))
        shutil.copy(dataset.root / "dataset.json", tmp_path)  # a stray file does no harm
        (dataset.root / "README.md").write_text(card, encoding="utf-8")
        load = datasets.load_dataset
        monkeypatch.setattr(
            datasets, "load_dataset", lambda repo, *names, **o: load(str(dataset.root), *names, **o)
        )
        (program,) = [b for b in self.blocks(card) if "load_dataset" in b]
        found: dict[str, Any] = {}
        exec(program, found)
        assert found["record"]["source"] == "b" and found["mask"].mode == "L"


def test_a_decision_is_all_that_says_who_may_see_it(mine: Dataset) -> None:
    made = facts(mine)
    closed = Decision("all", made.decision.terms, "private", True, True, ())
    card = render_card(replace(made, decision=closed))
    assert "So this repository is private and gated." in card
    assert "hf auth login" in card and "hf auth login" not in render_card(facts(mine, public=True))


def test_the_rows_are_those_of_the_part(drawn: Dataset) -> None:
    made = facts(drawn, exclude=["duts"])
    assert isinstance(made.rows, pa.Table) and made.rows.num_rows == 16
    assert made.rows.equals(pa.parquet.read_table(io.BytesIO(made.manifest.samples)))
